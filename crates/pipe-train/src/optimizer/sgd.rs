//! Stochastic gradient descent with momentum, as `torch.optim.SGD`: weight decay is part of the gradient.

use pipe_core::Result;
use pipe_core::config::OptimizerArgs;
use tch::Tensor;

use super::{Group, Moment, Rule, Slots};
use crate::shim::{self, SgdStep};

#[derive(Debug, Clone, Copy)]
pub(super) struct Sgd {
    momentum: f64,
    dampening: f64,
    nesterov: bool,
}

impl Sgd {
    pub(super) fn new(args: &OptimizerArgs) -> Sgd {
        Sgd { momentum: args.momentum.unwrap_or(0.0), dampening: args.dampening.unwrap_or(0.0), nesterov: args.nesterov.unwrap_or(false) }
    }
}

impl Rule for Sgd {
    fn fresh(&self, _: &str, param: &Tensor) -> Slots {
        if self.momentum == 0.0 { Vec::new() } else { vec![("momentum_buffer", param.zeros_like())] }
    }

    fn update(&self, group: &mut Group, grads: &[Tensor], at: Moment) -> Result<()> {
        shim::scale(grads, at.factor)?;
        let buffers = if self.momentum == 0.0 { Vec::new() } else { group.slot(0) };
        let settings = SgdStep {
            first: at.step == 1,
            lr: at.lr,
            momentum: self.momentum,
            dampening: self.dampening,
            nesterov: self.nesterov,
            weight_decay: group.weight_decay,
        };
        shim::sgd(&group.params, grads, &buffers, settings)
    }
}
