//! AdamW (Loshchilov and Hutter 2019), with libtorch's fused kernel.

use pipe_core::Result;
use pipe_core::config::TrainConfig;
use tch::Tensor;

use super::{Group, Moment, Rule, Slots};
use crate::shim::{self, AdamWStep};

#[derive(Debug, Clone, Copy)]
pub(super) struct AdamW {
    beta1: f64,
    beta2: f64,
    eps: f64,
}

impl AdamW {
    pub(super) fn new(config: &TrainConfig) -> AdamW {
        AdamW { beta1: config.adam_beta1, beta2: config.adam_beta2, eps: config.adam_epsilon }
    }

    /// Over lists that run in parallel.
    pub(super) fn apply(
        self,
        params: &[Tensor],
        grads: &[Tensor],
        exp_avgs: &[Tensor],
        exp_avg_sqs: &[Tensor],
        at: Moment,
        weight_decay: f64,
    ) -> Result<()> {
        let settings = AdamWStep { step: at.step, lr: at.lr, beta1: self.beta1, beta2: self.beta2, weight_decay, eps: self.eps };
        shim::fused_adamw(params, grads, exp_avgs, exp_avg_sqs, settings)
    }
}

impl Rule for AdamW {
    fn fresh(&self, _: &str, param: &Tensor) -> Slots {
        vec![("exp_avg", param.zeros_like()), ("exp_avg_sq", param.zeros_like())]
    }

    fn update(&self, group: &mut Group, grads: &[Tensor], at: Moment) -> Result<()> {
        self.apply(&group.params, grads, &group.slot(0), &group.slot(1), at, group.weight_decay)
    }
}
