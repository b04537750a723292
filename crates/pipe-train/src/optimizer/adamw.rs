//! AdamW (Loshchilov and Hutter 2019): on a CPU in one pass of our own, elsewhere with libtorch's fused kernel.

use pipe_core::Result;
use pipe_core::config::TrainConfig;
use tch::Tensor;

use super::{Group, Moment, Rule, Slots};
use crate::shim::{self, AdamWStep};
use crate::step;

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

    /// Over lists that run in parallel: parameters, gradients, first and second moments.
    pub(super) fn apply(self, lists: [&[Tensor]; 4], marks: &[Option<Tensor>], at: Moment, weight_decay: f64) -> Result<()> {
        let settings = AdamWStep { step: at.step, lr: at.lr, beta1: self.beta1, beta2: self.beta2, weight_decay, eps: self.eps };
        if step::fits(&lists) {
            return step::adamw(lists, marks, at.factor, settings);
        }
        let [params, grads, exp_avgs, exp_avg_sqs] = lists;
        shim::scale(grads, at.factor)?;
        shim::adamw(params, grads, exp_avgs, exp_avg_sqs, settings)
    }
}

impl Rule for AdamW {
    fn fresh(&self, _: &str, param: &Tensor) -> Slots {
        vec![("exp_avg", param.zeros_like()), ("exp_avg_sq", param.zeros_like())]
    }

    fn update(&self, group: &mut Group, grads: &[Tensor], at: Moment) -> Result<()> {
        self.apply([&group.params, grads, &group.slot(0), &group.slot(1)], &group.marks, at, group.weight_decay)
    }
}
