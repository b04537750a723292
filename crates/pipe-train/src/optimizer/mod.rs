//! Optimizers over groups of parameters: clipping, groups that differ in rate and decay, and state that is saved by name.
//!
//! What an optimizer does with a group is a [`Rule`], one file each.

mod adafactor;
mod adamw;
mod adamw8bit;
mod groups;
mod lion;
mod sgd;

use std::collections::BTreeMap;

use pipe_core::config::{OptimizerName, TrainConfig};
use pipe_core::{Error, Result};
use tch::Tensor;

use crate::backend::{Parameters, torch_error};
use crate::step::Marks;
use crate::{shim, step};

pub(crate) use groups::{Rates, freeze, is_embedding};

/// How one step moves a group of parameters.
trait Rule {
    /// The state that a parameter begins with, by the names that it is saved under.
    fn fresh(&self, name: &str, param: &Tensor) -> Slots;

    /// Moves the parameters of `group`, which have the gradients `grads`, `at.factor` times.
    fn update(&self, group: &mut Group, grads: &[Tensor], at: Moment) -> Result<()>;
}

/// What an optimizer remembers of one parameter.
type Slots = Vec<(&'static str, Tensor)>;

/// The step that is being made.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// From 1.
    step: u64,
    /// Of the group.
    lr: f64,
    /// What gradients are multiplied by: their loss was scaled, their norm is clipped.
    factor: f64,
}

/// Parameters that share a learning rate and a weight decay.
struct Group {
    names: Vec<String>,
    params: Vec<Tensor>,
    /// In the order of `params`, as the next one.
    states: Vec<Slots>,
    /// Which rows a step concerns, for tables that learn row by row.
    marks: Vec<Option<Tensor>>,
    weight_decay: f64,
    /// The group's learning rate over that of the schedule.
    rate: f64,
}

impl Group {
    /// One slot of all parameters.
    fn slot(&self, at: usize) -> Vec<Tensor> {
        self.states.iter().map(|slots| slots[at].1.shallow_clone()).collect()
    }

    fn marks(&self) -> impl Iterator<Item = Option<Tensor>> {
        self.marks.iter().map(|marks| marks.as_ref().map(Tensor::shallow_clone))
    }
}

/// The optimizer of one training.
pub(crate) struct Optimizer {
    groups: Vec<Group>,
    rule: Box<dyn Rule>,
    max_grad_norm: f64,
}

impl Optimizer {
    /// Over the parameters that require gradients; `marks` of the table of words.
    pub(crate) fn new(parameters: &Parameters, marks: &Marks, config: &TrainConfig, rates: &Rates) -> Optimizer {
        let rule: Box<dyn Rule> = match config.optim {
            OptimizerName::AdamwTorch | OptimizerName::AdamwTorchFused => Box::new(adamw::AdamW::new(config)),
            OptimizerName::Adamw8bit | OptimizerName::AdamwBnb8bit => Box::new(adamw8bit::AdamW8bit::new(config)),
            OptimizerName::Adafactor => Box::new(adafactor::Adafactor::new(&config.optim_args)),
            OptimizerName::Sgd => Box::new(sgd::Sgd::new(&config.optim_args)),
            OptimizerName::Lion | OptimizerName::Lion32bit => Box::new(lion::Lion::new(config)),
        };
        Optimizer { groups: groups::split(parameters, marks, config, rates, rule.as_ref()), rule, max_grad_norm: config.max_grad_norm }
    }

    /// Clips, updates and forgets the gradients. `done` updates came before; gradients are `loss_scale` times too large.
    /// Gives the norm before clipping; on a norm that is not finite nothing is updated.
    pub(crate) fn step(&mut self, done: u64, lr: f64, loss_scale: f64) -> Result<f64> {
        let mut grads: Vec<Vec<Tensor>> = Vec::new();
        for group in &self.groups {
            let mut of_group = Vec::with_capacity(group.params.len());
            for (name, param) in group.names.iter().zip(&group.params) {
                let grad = param.grad();
                if !grad.defined() {
                    return Err(Error::internal(format!("`{name}` took no part in the loss")));
                }
                of_group.push(grad);
            }
            grads.push(of_group);
        }
        let all: Vec<Tensor> = grads.iter().flatten().map(Tensor::shallow_clone).collect();
        let norm = if step::fits(&[&all]) {
            let marks: Vec<Option<Tensor>> = self.groups.iter().flat_map(Group::marks).collect();
            step::grad_norm(&all, &marks)?
        } else {
            shim::grad_norm(&all)?
        } / loss_scale;
        if norm.is_finite() {
            // The same formula as torch.nn.utils.clip_grad_norm_.
            let clip = if self.max_grad_norm > 0.0 { (self.max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
            for (group, grads) in self.groups.iter_mut().zip(&grads) {
                let at = Moment { step: done + 1, lr: lr * group.rate, factor: clip / loss_scale };
                tch::no_grad(|| self.rule.update(group, grads, at))?;
            }
        }
        self.forget_gradients()?;
        Ok(norm)
    }

    /// The next gradients begin from nothing. Those of embeddings stay where they are, zeroed: they are added to row by row.
    pub(crate) fn forget_gradients(&mut self) -> Result<()> {
        for group in &mut self.groups {
            for ((name, param), marks) in group.names.iter().zip(&mut group.params).zip(&group.marks) {
                match marks {
                    Some(marks) if param.grad().defined() => step::forget_rows(&param.grad(), marks)?,
                    None if is_embedding(name, param) => param.zero_grad(),
                    _ => shim::forget_gradient(param),
                }
            }
        }
        Ok(())
    }

    /// How many numbers are trained.
    pub(crate) fn size(&self) -> usize {
        self.groups.iter().flat_map(|group| &group.params).map(Tensor::numel).sum()
    }

    /// The state by slot and parameter, for a checkpoint.
    pub(crate) fn state(&self) -> BTreeMap<String, Tensor> {
        let slots = self.groups.iter().flat_map(|group| group.names.iter().zip(&group.states));
        slots.flat_map(|(name, slots)| slots.iter().map(move |(slot, tensor)| (format!("{slot}.{name}"), tensor.shallow_clone()))).collect()
    }

    /// Takes over what [`state`](Optimizer::state) gave.
    pub(crate) fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, slots) in self.groups.iter_mut().flat_map(|group| group.names.iter().zip(&mut group.states)) {
            for (slot, tensor) in slots {
                let name = format!("{slot}.{name}");
                let saved = state.get(&name).ok_or_else(|| Error::stage(format!("the checkpoint lacks `{name}`")))?;
                tensor.f_copy_(saved).map_err(torch_error)?;
            }
        }
        for (slots, marks) in self.groups.iter().flat_map(|group| group.states.iter().zip(&group.marks)) {
            if let Some(marks) = marks {
                step::mark_moments(marks, slots.iter().map(|(_, tensor)| tensor).filter(|moment| moment.dim() == 2));
            }
        }
        Ok(())
    }
}
