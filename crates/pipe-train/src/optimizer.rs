//! AdamW over parameter groups: weights decay, biases and norms do not.

use std::collections::BTreeMap;

use pipe_core::config::TrainConfig;
use pipe_core::{Error, Result};
use tch::Tensor;

use crate::backend::Parameters;
use crate::shim::{self, AdamWStep};

/// State and settings of AdamW.
pub(crate) struct AdamW {
    groups: Vec<Group>,
    beta1: f64,
    beta2: f64,
    eps: f64,
    max_grad_norm: f64,
}

struct Group {
    names: Vec<String>,
    params: Vec<Tensor>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    weight_decay: f64,
}

/// The names that transformers' Trainer excludes from weight decay.
fn decays(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !(name.ends_with("bias") || name.contains("layernorm") || name.contains("layer_norm") || name.contains("rmsnorm"))
}

impl AdamW {
    pub(crate) fn new(parameters: &Parameters, config: &TrainConfig) -> AdamW {
        let group = |decayed: bool| {
            let picked: Vec<(&String, &Tensor)> = parameters.iter().filter(|(name, _)| decays(name) == decayed).collect();
            Group {
                names: picked.iter().map(|(name, _)| (*name).clone()).collect(),
                params: picked.iter().map(|(_, tensor)| tensor.shallow_clone()).collect(),
                exp_avgs: picked.iter().map(|(_, tensor)| tensor.zeros_like()).collect(),
                exp_avg_sqs: picked.iter().map(|(_, tensor)| tensor.zeros_like()).collect(),
                weight_decay: if decayed { config.weight_decay } else { 0.0 },
            }
        };
        AdamW {
            groups: vec![group(true), group(false)],
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            eps: config.adam_epsilon,
            max_grad_norm: config.max_grad_norm,
        }
    }

    /// Clips, updates and forgets the gradients. `done` steps came before. Gives the norm before clipping; on a
    /// norm that is not finite nothing is updated.
    pub(crate) fn step(&mut self, done: u64, lr: f64) -> Result<f64> {
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
        let norm = shim::clip_grad_norm(&all, self.max_grad_norm)?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        for (group, grads) in self.groups.iter().zip(&grads) {
            let settings = AdamWStep { step: done + 1, lr, beta1: self.beta1, beta2: self.beta2, weight_decay: group.weight_decay, eps: self.eps };
            shim::fused_adamw(&group.params, grads, &group.exp_avgs, &group.exp_avg_sqs, settings)?;
        }
        for group in &mut self.groups {
            for param in &mut group.params {
                param.zero_grad();
            }
        }
        Ok(norm)
    }

    /// Both moments by parameter, for a checkpoint.
    pub(crate) fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for group in &self.groups {
            for (at, name) in group.names.iter().enumerate() {
                state.insert(format!("exp_avg.{name}"), group.exp_avgs[at].shallow_clone());
                state.insert(format!("exp_avg_sq.{name}"), group.exp_avg_sqs[at].shallow_clone());
            }
        }
        state
    }

    /// Takes over what [`state`](AdamW::state) gave.
    pub(crate) fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let find = |name: String| state.get(&name).ok_or_else(|| Error::stage(format!("the checkpoint lacks `{name}`")));
        for group in &mut self.groups {
            for (at, name) in group.names.iter().enumerate() {
                group.exp_avgs[at].copy_(find(format!("exp_avg.{name}"))?);
                group.exp_avg_sqs[at].copy_(find(format!("exp_avg_sq.{name}"))?);
            }
        }
        Ok(())
    }
}
