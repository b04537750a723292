//! Lion (Chen et al. 2023): the sign of an interpolated momentum.

use pipe_core::Result;
use pipe_core::config::TrainConfig;
use tch::Tensor;

use super::{Group, Moment, Rule, Slots};
use crate::shim::{self, LionStep};

#[derive(Debug, Clone, Copy)]
pub(super) struct Lion {
    beta1: f64,
    beta2: f64,
}

impl Lion {
    pub(super) fn new(config: &TrainConfig) -> Lion {
        Lion { beta1: config.adam_beta1, beta2: config.adam_beta2 }
    }
}

impl Rule for Lion {
    fn fresh(&self, param: &Tensor) -> Slots {
        vec![("exp_avg", param.zeros_like())]
    }

    fn update(&self, group: &mut Group, grads: &[Tensor], at: Moment) -> Result<()> {
        let settings = LionStep { lr: at.lr, beta1: self.beta1, beta2: self.beta2, weight_decay: group.weight_decay };
        shim::lion(&group.params, grads, &group.slot(0), settings)
    }
}
