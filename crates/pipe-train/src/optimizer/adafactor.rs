//! Adafactor (Shazeer and Stern 2018) with the learning rate of the schedule: of a matrix, the squares of gradients are
//! remembered as means over rows and columns.

use pipe_core::Result;
use pipe_core::config::OptimizerArgs;
use tch::{Kind, TchError, Tensor};

use super::{Group, Moment, Rule, Slots};
use crate::backend::torch_error;
use crate::shim;

/// Added to the squares of gradients, and the least size of weights that a step is relative to.
const EPS: (f64, f64) = (1e-30, 1e-3);

#[derive(Debug, Clone, Copy)]
pub(super) struct Adafactor {
    scale_parameter: bool,
    clip_threshold: f64,
    decay_rate: f64,
    beta1: Option<f64>,
}

impl Adafactor {
    /// Defaults are those that transformers' Trainer gives it.
    pub(super) fn new(args: &OptimizerArgs) -> Adafactor {
        Adafactor {
            scale_parameter: args.scale_parameter.unwrap_or(false),
            clip_threshold: args.clip_threshold.unwrap_or(1.0),
            decay_rate: args.decay_rate.unwrap_or(-0.8),
            beta1: args.beta1,
        }
    }

    fn move_one(&self, param: &Tensor, slots: &mut Slots, grad: &Tensor, at: Moment, weight_decay: f64) -> Result<(), TchError> {
        let beta2 = 1.0 - (at.step as f64).powf(self.decay_rate);
        let lr = if self.scale_parameter { at.lr * root_mean_square(param)?.max(EPS.1) } else { at.lr };
        let squares = grad.f_square()?.f_add_scalar(EPS.0)?;
        // [R, C] as [R] and [C], whose product over the mean stands for it.
        let update = if param.dim() >= 2 {
            let mean = |dim: i64| squares.f_mean_dim(dim, false, Kind::Float);
            blend(&mut slots[0].1, &mean(-1)?, beta2)?;
            blend(&mut slots[1].1, &mean(-2)?, beta2)?;
            let (rows, columns) = (&slots[0].1, &slots[1].1);
            let rows = rows.f_div(&rows.f_mean_dim(-1, true, Kind::Float)?)?.f_rsqrt()?.f_unsqueeze(-1)?;
            rows.f_mul(&columns.f_unsqueeze(-2)?.f_rsqrt()?)?.f_mul(grad)?
        } else {
            blend(&mut slots[0].1, &squares, beta2)?;
            slots[0].1.f_rsqrt()?.f_mul(grad)?
        };
        let too_large = (root_mean_square(&update)? / self.clip_threshold).max(1.0);
        let update = update.f_mul_scalar(lr / too_large)?;
        let update = match (self.beta1, slots.last_mut()) {
            (Some(beta1), Some((_, first_moment))) => {
                blend(first_moment, &update, beta1)?;
                first_moment.shallow_clone()
            }
            _ => update,
        };
        let mut param = param.shallow_clone();
        if weight_decay != 0.0 {
            let _ = param.f_mul_scalar_(1.0 - weight_decay * lr)?;
        }
        let _ = param.f_sub_(&update)?;
        Ok(())
    }
}

/// `beta · old + (1 − beta) · new`, in place.
fn blend(old: &mut Tensor, new: &Tensor, beta: f64) -> Result<(), TchError> {
    old.f_mul_scalar_(beta)?.f_add_(&new.f_mul_scalar(1.0 - beta)?).map(|_| ())
}

fn root_mean_square(tensor: &Tensor) -> Result<f64, TchError> {
    Ok(f64::try_from(tensor.f_norm()?)? / (tensor.numel() as f64).sqrt())
}

impl Rule for Adafactor {
    fn fresh(&self, _: &str, param: &Tensor) -> Slots {
        let size = param.size();
        let zeros = |size: &[i64]| Tensor::zeros(size, (param.kind(), param.device()));
        let mut slots: Slots = match size.as_slice() {
            [outer @ .., rows, columns] => {
                vec![("exp_avg_sq_row", zeros(&[outer, &[*rows]].concat())), ("exp_avg_sq_col", zeros(&[outer, &[*columns]].concat()))]
            }
            _ => vec![("exp_avg_sq", param.zeros_like())],
        };
        if self.beta1.is_some() {
            slots.push(("exp_avg", param.zeros_like()));
        }
        slots
    }

    fn update(&self, group: &mut Group, grads: &[Tensor], at: Moment) -> Result<()> {
        shim::scale(grads, at.factor)?;
        for ((param, slots), grad) in group.params.iter().zip(&mut group.states).zip(grads) {
            self.move_one(param, slots, grad, at, group.weight_decay).map_err(torch_error)?;
        }
        Ok(())
    }
}
