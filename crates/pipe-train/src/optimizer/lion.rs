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
    fn fresh(&self, _: &str, param: &Tensor) -> Slots {
        vec![("exp_avg", param.zeros_like())]
    }

    fn update(&self, group: &mut Group, grads: &[Tensor], at: Moment) -> Result<()> {
        shim::scale(grads, at.factor)?;
        let settings = LionStep { lr: at.lr, beta1: self.beta1, beta2: self.beta2, weight_decay: group.weight_decay };
        shim::lion(&group.params, grads, &group.slot(0), settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Algorithm 2 of the paper on single numbers.
    #[test]
    fn three_steps_are_those_of_the_paper() {
        let (lr, beta1, beta2, decay) = (0.01, 0.9, 0.99, 0.1);
        let start = [1.0, -2.0, 0.5];
        let gradients = [[0.3, -0.2, 0.0], [-0.1, -0.4, 1.0], [-5.0, 0.1, -0.1]];
        let (mut weights, mut momentum) = (start, [0.0; 3]);
        for gradient in gradients {
            for at in 0..3 {
                let blend: f64 = beta1 * momentum[at] + (1.0 - beta1) * gradient[at];
                let sign = if blend == 0.0 { 0.0 } else { blend.signum() };
                weights[at] -= lr * (sign + decay * weights[at]);
                momentum[at] = beta2 * momentum[at] + (1.0 - beta2) * gradient[at];
            }
        }
        let tensor = |values: &[f64]| Tensor::from_slice(values).to_kind(tch::Kind::Float);
        let (param, exp_avg) = (tensor(&start), tensor(&[0.0; 3]));
        for gradient in gradients {
            let settings = LionStep { lr, beta1, beta2, weight_decay: decay };
            shim::lion(&[param.shallow_clone()], &[tensor(&gradient)], &[exp_avg.shallow_clone()], settings).unwrap();
        }
        for (found, expected) in [(param, weights), (exp_avg, momentum)] {
            assert!(f64::try_from((found - tensor(&expected)).abs().max()).unwrap() < 1e-6);
        }
    }
}
