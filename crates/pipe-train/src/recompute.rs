//! Gradient checkpointing (Chen et al. 2016): of each layer only its input is kept, and its inner values are computed again
//! when the backward pass comes to it.
//!
//! The architectures know nothing of it. [`Segmented`] is a backend that counts the operations of a pass; where one names the
//! next layer, a new segment begins. A first pass computes nothing and finds which values cross from one segment to another;
//! later ones run the same function and compute one segment of it, with placeholders for the rest. The random generator is
//! put back to what it was, so that dropout falls as it did: gradients are those of a pass that keeps everything, bit for bit.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use pipe_core::{Batch, Error, Result};
use pipe_model::{Activation, Angles, AttentionSpec, Backend, ModelInputs, Rotary};
use tch::{Kind, TchError, Tensor};

use crate::backend::{TorchBackend, torch_error};
use crate::model::Model;
use crate::shim;

/// A value of a pass: what it is called, and what it is where it is known.
#[derive(Debug)]
struct Value {
    id: usize,
    /// Follows from parameters, so that it may have a gradient.
    tracked: bool,
    tensor: Option<Rc<Tensor>>,
}

/// Which operations make up which segment, and what crosses between them.
#[derive(Debug, Default)]
struct Plan {
    /// The segment of each operation.
    segments: Vec<usize>,
    /// For each segment the values that it reads from earlier ones.
    reads: Vec<BTreeSet<usize>>,
    /// All of those together, and whether they may have a gradient.
    crossing: BTreeMap<usize, bool>,
}

/// What a pass does with an operation.
enum Mode<'m> {
    /// Computes nothing and takes notes.
    Plan,
    /// Computes all segments but the last, and keeps what crosses.
    Forward(&'m Plan),
    /// Computes one segment, from what earlier ones gave it.
    Segment(&'m Plan, usize),
}

/// What a pass finds out.
#[derive(Default)]
struct Found {
    operations: usize,
    /// The layer that the last operation with a layer belongs to.
    layer: Option<usize>,
    plan: Plan,
    /// The segment of each value.
    producers: BTreeMap<usize, usize>,
    kept: Values,
    /// The random generator at the beginning of each segment.
    generators: Vec<Tensor>,
}

struct Segmented<'s> {
    inner: TorchBackend<'s>,
    model: &'s Model,
    mode: Mode<'s>,
    found: RefCell<Found>,
}

/// Values of a pass by their ids.
type Values = BTreeMap<usize, Rc<Tensor>>;

/// The gradients of `loss` over one micro-batch, and its value. `loss` gets logits `[B, C]` in f32; its gradient is taken
/// `loss_scale` times, and not at all where its value is not a number.
pub(crate) fn backward(model: &Model, batch: &Batch, loss: &dyn Fn(&Tensor) -> Result<Tensor>, loss_scale: f64) -> Result<f64> {
    let inputs = model.inputs(batch)?;
    let plan = Segmented::new(model, Mode::Plan, Values::new()).pass(&inputs)?.1.plan;
    let last = plan.reads.len().saturating_sub(1);
    let (_, forward) = tch::no_grad(|| Segmented::new(model, Mode::Forward(&plan), Values::new()).pass(&inputs))?;
    let mut gradients: BTreeMap<usize, Tensor> = BTreeMap::new();
    let mut value = 0.0;
    for (segment, generator) in forward.generators.iter().enumerate().rev() {
        let reads = forward.kept.iter().filter(|(id, _)| plan.reads[segment].contains(id));
        let leaves: Values = reads.map(|(&id, tensor)| (id, leaf(tensor, plan.crossing[&id]))).collect();
        shim::set_random_state(model.device, generator)?;
        let (logits, found) = Segmented::new(model, Mode::Segment(&plan, segment), leaves.clone()).pass(&inputs)?;
        if segment == last {
            value = begin(&logits, loss, loss_scale)?;
            if !value.is_finite() {
                break;
            }
        } else {
            let outputs = found.kept.into_iter().filter(|(id, tensor)| !leaves.contains_key(id) && tensor.requires_grad());
            go_on(outputs.filter_map(|(id, tensor)| Some((tensor, gradients.get(&id)?)))).map_err(torch_error)?;
        }
        for (id, leaf) in leaves {
            let gradient = leaf.grad();
            if gradient.defined() {
                let sum = gradients.remove(&id).map_or_else(|| Ok(gradient.shallow_clone()), |other| other.f_add(&gradient)).map_err(torch_error)?;
                gradients.insert(id, sum);
            }
        }
    }
    Ok(value)
}

/// The backward pass through the last segment; the value of the loss.
fn begin(logits: &Value, loss: &dyn Fn(&Tensor) -> Result<Tensor>, loss_scale: f64) -> Result<f64> {
    let logits = logits.tensor.as_ref().ok_or_else(|| Error::internal("a pass without a result"))?;
    let sum = loss(&logits.f_to_kind(Kind::Float).map_err(torch_error)?)?;
    let value = f64::try_from(&sum).map_err(torch_error)?;
    if value.is_finite() {
        sum.f_mul_scalar(loss_scale).and_then(|scaled| scaled.f_backward()).map_err(torch_error)?;
    }
    Ok(value)
}

/// The backward pass through another one, from its outputs and their gradients: the derivative of Σ y · g by y is g.
fn go_on<'g>(outputs: impl Iterator<Item = (Rc<Tensor>, &'g Tensor)>) -> Result<(), TchError> {
    let products = outputs.map(|(output, gradient)| output.f_mul(gradient)?.f_sum(Kind::Float));
    match products.collect::<Result<Vec<Tensor>, _>>()?.into_iter().reduce(|a, b| a + b) {
        Some(sum) => sum.f_backward(),
        None => Ok(()),
    }
}

/// A value as the beginning of a graph of its own.
fn leaf(tensor: &Tensor, tracked: bool) -> Rc<Tensor> {
    let leaf = tensor.detach();
    Rc::new(if tracked { leaf.set_requires_grad(true) } else { leaf })
}

impl<'s> Segmented<'s> {
    fn new(model: &'s Model, mode: Mode<'s>, kept: Values) -> Segmented<'s> {
        Segmented { inner: model.backend(true), model, mode, found: RefCell::new(Found { kept, ..Found::default() }) }
    }

    /// Runs the model; its result where it was computed, and what was found.
    fn pass(self, inputs: &ModelInputs<Rc<Tensor>>) -> Result<(Rc<Value>, Found)> {
        // Inputs are called by numbers that no operation has.
        let input = |at: usize, tensor: &Rc<Tensor>| Rc::new(Value { id: usize::MAX - at, tracked: false, tensor: Some(Rc::clone(tensor)) });
        let inputs = ModelInputs {
            input_ids: input(0, &inputs.input_ids),
            attention_mask: input(1, &inputs.attention_mask),
            token_type_ids: inputs.token_type_ids.as_ref().map(|types| input(2, types)),
            slots: inputs.slots.as_ref().map(|slots| input(3, slots)),
            position_ids: inputs.position_ids.as_ref().map(|ids| input(4, ids)),
        };
        let result = self.model.head.forward(&self, &self.model.config, &inputs)?;
        Ok((result, self.found.into_inner()))
    }

    /// One operation: its inputs in the order in which `compute` gets them. `module` is absent for one without weights.
    fn operation(
        &self,
        module: Option<&str>,
        inputs: &[&Rc<Value>],
        compute: impl FnOnce(&[&Rc<Tensor>]) -> Result<Rc<Tensor>>,
    ) -> Result<Rc<Value>> {
        let id = {
            let mut found = self.found.borrow_mut();
            found.operations += 1;
            found.operations - 1
        };
        let tracked = module.is_some() || inputs.iter().any(|input| input.tracked);
        let is_computed = match &self.mode {
            Mode::Plan => {
                self.found.borrow_mut().note(id, module, inputs);
                false
            }
            Mode::Forward(plan) => {
                let segment = plan.segments[id];
                if (id == 0 || plan.segments[id - 1] != segment) && self.found.borrow().generators.len() == segment {
                    let state = shim::random_state(self.model.device)?;
                    self.found.borrow_mut().generators.push(state);
                }
                segment + 1 < plan.reads.len()
            }
            Mode::Segment(plan, segment) => plan.segments[id] == *segment,
        };
        if !is_computed {
            let tensor = self.found.borrow().kept.get(&id).map(Rc::clone);
            return Ok(Rc::new(Value { id, tracked, tensor }));
        }
        let tensors = inputs.iter().map(|input| input.tensor.as_ref().ok_or_else(|| Error::internal("a value crosses segments unseen")));
        let tensor = compute(&tensors.collect::<Result<Vec<_>>>()?)?;
        if let Mode::Forward(plan) | Mode::Segment(plan, _) = &self.mode
            && plan.crossing.contains_key(&id)
        {
            self.found.borrow_mut().kept.insert(id, Rc::clone(&tensor));
        }
        Ok(Rc::new(Value { id, tracked, tensor: Some(tensor) }))
    }
}

impl Found {
    fn note(&mut self, id: usize, module: Option<&str>, inputs: &[&Rc<Value>]) {
        let layer = module.and_then(layer_of);
        if self.plan.reads.is_empty() || (layer.is_some() && layer != self.layer) {
            self.plan.reads.push(BTreeSet::new());
        }
        self.layer = layer.or(self.layer);
        let segment = self.plan.reads.len() - 1;
        self.plan.segments.push(segment);
        self.producers.insert(id, segment);
        for input in inputs {
            if self.producers.get(&input.id).is_some_and(|&producer| producer < segment) {
                self.plan.reads[segment].insert(input.id);
                self.plan.crossing.insert(input.id, input.tracked);
            }
        }
    }
}

/// The number of the layer that a module is in: the first number among its names.
fn layer_of(module: &str) -> Option<usize> {
    module.split('.').find_map(|part| part.parse().ok())
}

impl Backend for Segmented<'_> {
    type Tensor = Rc<Value>;

    fn embedding(&self, module: &str, ids: &Rc<Value>, padding: Option<i64>) -> Result<Rc<Value>> {
        self.operation(Some(module), &[ids], |x| self.inner.embedding(module, x[0], padding))
    }

    fn embedding_row(&self, module: &str, row: i64) -> Result<Rc<Value>> {
        self.operation(Some(module), &[], |_| self.inner.embedding_row(module, row))
    }

    fn position_embedding(&self, module: &str, ids: &Rc<Value>) -> Result<Rc<Value>> {
        self.operation(Some(module), &[ids], |x| self.inner.position_embedding(module, x[0]))
    }

    fn positions_from_padding(&self, ids: &Rc<Value>, pad: i64) -> Result<Rc<Value>> {
        self.operation(None, &[ids], |x| self.inner.positions_from_padding(x[0], pad))
    }

    fn linear(&self, module: &str, x: &Rc<Value>) -> Result<Rc<Value>> {
        self.operation(Some(module), &[x], |x| self.inner.linear(module, x[0]))
    }

    fn conv1d(&self, module: &str, x: &Rc<Value>) -> Result<Rc<Value>> {
        self.operation(Some(module), &[x], |x| self.inner.conv1d(module, x[0]))
    }

    fn rms_norm(&self, module: &str, x: &Rc<Value>, eps: f64) -> Result<Rc<Value>> {
        self.operation(Some(module), &[x], |x| self.inner.rms_norm(module, x[0], eps))
    }

    fn layer_norm(&self, module: &str, x: &Rc<Value>, eps: f64) -> Result<Rc<Value>> {
        self.operation(Some(module), &[x], |x| self.inner.layer_norm(module, x[0], eps))
    }

    fn residual_dropout_norm(&self, module: &str, x: &Rc<Value>, residual: &Rc<Value>, p: f64, eps: f64) -> Result<Rc<Value>> {
        self.operation(Some(module), &[x, residual], |x| self.inner.residual_dropout_norm(module, x[0], x[1], p, eps))
    }

    fn attention(&self, q: &Rc<Value>, k: &Rc<Value>, v: &Rc<Value>, mask: &Rc<Value>, spec: &AttentionSpec) -> Result<Rc<Value>> {
        self.operation(None, &[q, k, v, mask], |x| self.inner.attention(x[0], x[1], x[2], x[3], spec))
    }

    fn padding_mask(&self, attention_mask: &Rc<Value>) -> Result<Rc<Value>> {
        self.operation(None, &[attention_mask], |x| self.inner.padding_mask(x[0]))
    }

    fn causal_mask(&self, attention_mask: &Rc<Value>, window: Option<i64>) -> Result<Rc<Value>> {
        self.operation(None, &[attention_mask], |x| self.inner.causal_mask(x[0], window))
    }

    fn cached_causal_mask(&self, attention_mask: &Rc<Value>, ids: &Rc<Value>, window: Option<i64>) -> Result<Rc<Value>> {
        self.operation(None, &[attention_mask, ids], |x| self.inner.cached_causal_mask(x[0], x[1], window))
    }

    fn rotary_angles(&self, ids: &Rc<Value>, rotary: &Rotary) -> Result<Angles<Rc<Value>>> {
        let cos = self.operation(None, &[ids], |x| Ok(self.inner.rotary_angles(x[0], rotary)?.cos))?;
        let sin = self.operation(None, &[ids], |x| Ok(self.inner.rotary_angles(x[0], rotary)?.sin))?;
        Ok(Angles { cos, sin, head_dim: 2 * rotary.inv_freq.len() as i64 })
    }

    fn rotary_angles_at(&self, position_ids: &Rc<Value>, rotary: &Rotary) -> Result<Angles<Rc<Value>>> {
        let cos = self.operation(None, &[position_ids], |x| Ok(self.inner.rotary_angles_at(x[0], rotary)?.cos))?;
        let sin = self.operation(None, &[position_ids], |x| Ok(self.inner.rotary_angles_at(x[0], rotary)?.sin))?;
        Ok(Angles { cos, sin, head_dim: 2 * rotary.inv_freq.len() as i64 })
    }

    fn rotate(&self, x: &Rc<Value>, angles: &Angles<Rc<Value>>) -> Result<Rc<Value>> {
        self.operation(None, &[x, &angles.cos, &angles.sin], |x| {
            self.inner.rotate(x[0], &Angles { cos: Rc::clone(x[1]), sin: Rc::clone(x[2]), head_dim: angles.head_dim })
        })
    }

    fn dropout(&self, x: &Rc<Value>, p: f64) -> Result<Rc<Value>> {
        self.operation(None, &[x], |x| self.inner.dropout(x[0], p))
    }

    fn add(&self, a: &Rc<Value>, b: &Rc<Value>) -> Result<Rc<Value>> {
        self.operation(None, &[a, b], |x| self.inner.add(x[0], x[1]))
    }

    fn mul(&self, a: &Rc<Value>, b: &Rc<Value>) -> Result<Rc<Value>> {
        self.operation(None, &[a, b], |x| self.inner.mul(x[0], x[1]))
    }

    fn columns(&self, x: &Rc<Value>, columns: Range<i64>) -> Result<Rc<Value>> {
        self.operation(None, &[x], |x| self.inner.columns(x[0], columns))
    }

    fn tokens(&self, x: &Rc<Value>, tokens: Range<i64>) -> Result<Rc<Value>> {
        self.operation(None, &[x], |x| self.inner.tokens(x[0], tokens))
    }

    fn slots(&self, x: &Rc<Value>, slots: &Rc<Value>) -> Result<Rc<Value>> {
        self.operation(None, &[x, slots], |x| self.inner.slots(x[0], x[1]))
    }

    fn last_token(&self, x: &Rc<Value>, values: &Rc<Value>, skip: i64) -> Result<Rc<Value>> {
        self.operation(None, &[x, values], |x| self.inner.last_token(x[0], x[1], skip))
    }

    fn activation(&self, x: &Rc<Value>, kind: Activation) -> Result<Rc<Value>> {
        self.operation(None, &[x], |x| self.inner.activation(x[0], kind))
    }

    fn first_token(&self, x: &Rc<Value>) -> Result<Rc<Value>> {
        self.operation(None, &[x], |x| self.inner.first_token(x[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alone, batch, classes, fixture, tensors};
    use tch::{Device, Reduction};

    /// Loss and gradients of one batch with dropout.
    fn gradients(name: &str, recomputed: bool) -> (f64, BTreeMap<String, Tensor>) {
        let folder = fixture("families").join(name);
        let mut model = Model::open(&folder, Device::Cpu, false).unwrap();
        model.config.set_dropout(0.2);
        for parameter in model.parameters.values() {
            let _ = parameter.set_requires_grad(true);
        }
        let batch = batch(&tensors(&folder.join("reference.safetensors")), "batch0");
        let labels = Tensor::from_slice(classes(&batch));
        let loss = |logits: &Tensor| Ok(logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, -100, 0.0));
        tch::manual_seed(7);
        let value = if recomputed {
            backward(&model, &batch, &loss, 1.0).unwrap()
        } else {
            let loss = loss(&model.forward(&batch, true).unwrap()).unwrap();
            loss.backward();
            f64::try_from(loss).unwrap()
        };
        (value, model.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.grad())).collect())
    }

    #[test]
    fn every_family_has_the_gradients_of_kept_layers_bit_for_bit() {
        let _alone = alone();
        for name in ["roberta", "distilbert", "gpt2", "llama", "mistral"] {
            let (kept, recomputed) = (gradients(name, false), gradients(name, true));
            assert!(kept == recomputed, "{name}");
        }
    }
}
