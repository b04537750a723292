//! Records a forward pass instead of computing it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use pipe_core::{Error, Result};
use pipe_model::{Activation, Angles, AttentionSpec, Backend, ModelInputs, Rotary};

use crate::causal_lm::record::Cache;
use crate::graph::{Dim, Graph, Initializer, Value};
use crate::proto::{AttributeProto, DataType, GraphProto};
use crate::weights::Weights;

pub(crate) const BATCH: Dim = Dim::Symbol("batch_size");
pub(crate) const SEQUENCE: Dim = Dim::Symbol("sequence_length");

/// A [`Backend`] whose tensors are edges of a growing graph of standard ONNX operators.
#[derive(Debug)]
pub(crate) struct OnnxBackend<'w> {
    weights: &'w Weights<'w>,
    pub(crate) graph: RefCell<Graph<'w>>,
    /// What generation reads of the tokens before.
    pub(crate) cache: Option<Cache>,
    /// Modules whose rows are looked up.
    looked_up: RefCell<BTreeSet<String>>,
}

impl<'w> OnnxBackend<'w> {
    pub(crate) fn new(weights: &'w Weights<'w>) -> Self {
        OnnxBackend { weights, graph: RefCell::default(), cache: None, looked_up: RefCell::default() }
    }

    /// Declares what a model reads, named as optimum names it.
    pub(crate) fn inputs(&self, token_types: bool) -> ModelInputs<Value> {
        let mut graph = self.graph.borrow_mut();
        let mut input = |name| graph.input(name, DataType::Int64, &[BATCH, SEQUENCE]);
        ModelInputs {
            input_ids: input("input_ids"),
            attention_mask: input("attention_mask"),
            token_type_ids: token_types.then(|| input("token_type_ids")),
            slots: None,
            position_ids: None,
        }
    }

    /// Declares outputs, each by its name, and ends the recording.
    pub(crate) fn finish(self, outputs: &[(&str, Value)], graph_name: &str) -> Result<(GraphProto, Vec<Initializer<'w>>)> {
        let mut graph = self.graph.into_inner();
        for (name, output) in outputs {
            graph.output(output, name)?;
        }
        graph.last_outputs_first(outputs.len());
        Ok(graph.finish(graph_name))
    }

    /// One column of the last axis, which goes away.
    pub(crate) fn column(&self, x: &Value, at: i64) -> Result<Value> {
        let (column, last) = (self.columns(x, at..at + 1)?, self.integers("axes.-1", &[-1]));
        Ok(self.node("Squeeze", &column, &[&last], vec![], &x.shape[..x.shape.len() - 1]))
    }

    /// A parameter under its own name and in its own layout.
    fn parameter(&self, name: &str) -> Result<(String, Vec<i64>)> {
        let weight = self.weights.require(name)?;
        let (dims, data) = (weight.shape.clone(), weight.data.into());
        let added = self.graph.borrow_mut().initializer(name, || Initializer {
            name: name.to_owned(),
            kind: DataType::Float,
            dims: dims.clone(),
            data,
            transposed: false,
        });
        Ok((added, weight.shape.clone()))
    }

    /// A weight of two axes, as it is.
    fn matrix(&self, module: &str) -> Result<(String, [i64; 2])> {
        let name = format!("{module}.weight");
        let (added, shape) = self.parameter(&name)?;
        let shape = shape.try_into().map_err(|_| Error::internal(format!("{name} is no matrix")))?;
        Ok((added, shape))
    }

    /// The weight of a linear layer, turned from `[out, in]` to the `[in, out]` that MatMul takes: a Transpose node
    /// would keep quantisation tools from seeing a constant.
    fn linear_weight(&self, module: &str) -> Result<(String, i64, i64)> {
        let name = format!("{module}.weight");
        let weight = self.weights.require(&name)?;
        let &[wide, narrow] = weight.shape.as_slice() else {
            return Err(Error::internal(format!("{name} is no matrix")));
        };
        let data = weight.data.into();
        let added = self.graph.borrow_mut().initializer(&name, || Initializer {
            name: name.clone(),
            kind: DataType::Float,
            dims: vec![narrow, wide],
            data,
            transposed: true,
        });
        Ok((added, narrow, wide))
    }

    /// The same of a weight that is in the graph as it is, because its rows are looked up too. ONNX Runtime turns it once, as it loads
    /// the file; a second copy would make that much longer.
    fn shared_weight(&self, module: &str) -> Result<Option<(String, i64, i64)>> {
        if !self.looked_up.borrow().contains(module) {
            return Ok(None);
        }
        let (weight, [wide, narrow]) = self.matrix(module)?;
        let perm = vec![AttributeProto::ints("perm", &[1, 0])];
        let turned = self.module_node("Transpose", module, &[&weight], perm, &[Dim::Size(narrow), Dim::Size(wide)]);
        Ok(Some((turned.name.to_string(), narrow, wide)))
    }

    /// A node that belongs to `module`; what is done with its output belongs to the module around it.
    fn module_node(&self, op: &str, module: &str, inputs: &[&str], attributes: Vec<AttributeProto>, shape: &[Dim]) -> Value {
        let around = module.rsplit_once('.').map_or(module, |(around, _)| around);
        let output = self.graph.borrow_mut().node(op, module, inputs, attributes, DataType::Float, shape);
        Value { scope: around.into(), ..output }
    }

    /// A node in the scope of its first input, which gives values of the same kind.
    pub(crate) fn node(&self, op: &str, first: &Value, others: &[&str], attributes: Vec<AttributeProto>, shape: &[Dim]) -> Value {
        self.node_of(first.kind, op, first, others, attributes, shape)
    }

    /// The same with values of `kind`.
    pub(crate) fn node_of(&self, kind: DataType, op: &str, first: &Value, others: &[&str], attributes: Vec<AttributeProto>, shape: &[Dim]) -> Value {
        let inputs: Vec<&str> = std::iter::once(&*first.name).chain(others.iter().copied()).collect();
        self.graph.borrow_mut().node(op, &first.scope, &inputs, attributes, kind, shape)
    }

    pub(crate) fn cast(&self, x: &Value, kind: DataType) -> Value {
        self.node_of(kind, "Cast", x, &[], vec![AttributeProto::int("to", kind as i64)], &x.shape)
    }

    /// New axes of size 1 at the places `axes` of the result.
    pub(crate) fn unsqueeze(&self, x: &Value, axes: &[i64]) -> Value {
        let name = axes.iter().map(i64::to_string).collect::<Vec<_>>().join("_");
        let mut shape = x.shape.to_vec();
        axes.iter().for_each(|&axis| shape.insert(axis as usize, Dim::Size(1)));
        let axes = self.integers(&format!("axes.{name}"), axes);
        self.node("Unsqueeze", x, &[&axes], vec![], &shape)
    }

    /// Where `x` is another value than `value`, as ones and zeros.
    fn differs(&self, x: &Value, value: i64) -> Value {
        let value = self.index(value);
        let equal = self.node_of(DataType::Bool, "Equal", x, &[&value], vec![], &x.shape);
        self.cast(&self.node("Not", &equal, &[], vec![], &x.shape), DataType::Int64)
    }

    /// A single integer, which unlike a vector of one drops the axis that it picks from.
    pub(crate) fn index(&self, value: i64) -> String {
        let name = format!("index.{value}");
        self.graph.borrow_mut().initializer(&name, || Initializer {
            name: name.clone(),
            kind: DataType::Int64,
            dims: vec![],
            data: value.to_le_bytes().to_vec().into(),
            transposed: false,
        })
    }

    /// `x + {module}.bias`.
    fn add_bias(&self, module: &str, x: &Value) -> Result<Value> {
        let (bias, _) = self.parameter(&format!("{module}.bias"))?;
        Ok(self.module_node("Add", module, &[&x.name, &bias], vec![], &x.shape))
    }

    /// `x` with its last axis of another size.
    fn with_features(x: &Value, size: i64) -> Vec<Dim> {
        let mut shape = x.shape.to_vec();
        shape.pop();
        shape.push(Dim::Size(size));
        shape
    }

    pub(crate) fn integers(&self, name: &str, values: &[i64]) -> String {
        self.graph.borrow_mut().integers(name, values)
    }

    pub(crate) fn scalar(&self, name: &str, value: f32) -> String {
        self.graph.borrow_mut().scalar(name, value)
    }

    /// `[B, L, heads · dim]` → `[B, L, heads, dim]`.
    pub(crate) fn reshape_heads(&self, x: &Value, heads: i64, dim: i64) -> Value {
        // Zero keeps an axis as it is.
        let shape = self.integers(&format!("shape.split_heads_{heads}x{dim}"), &[0, 0, heads, dim]);
        self.node("Reshape", x, &[&shape], vec![], &[x.shape[0], x.shape[1], Dim::Size(heads), Dim::Size(dim)])
    }

    /// `[B, L, heads, dim]` → `[B, L, heads · dim]`.
    pub(crate) fn join_heads(&self, x: &Value, width: i64) -> Value {
        let shape = self.integers(&format!("shape.join_heads_{width}"), &[0, 0, width]);
        self.node("Reshape", x, &[&shape], vec![], &[x.shape[0], x.shape[1], Dim::Size(width)])
    }

    /// `[B, L, kv_heads, dim]` → `[B, L, heads, dim]`: each head as often as queries share it.
    fn repeat_heads(&self, x: &Value, spec: &AttentionSpec) -> Value {
        let groups = spec.heads / spec.kv_heads;
        if groups == 1 {
            return x.clone();
        }
        let (wide, axes) = (self.unsqueeze(x, &[3]), self.integers(&format!("shape.groups_{groups}"), &[1, 1, 1, groups, 1]));
        let mut shape = wide.shape.to_vec();
        shape[3] = Dim::Size(groups);
        let repeated = self.node("Expand", &wide, &[&axes], vec![], &shape);
        self.reshape_heads(&repeated, spec.heads, spec.head_dim)
    }

    /// `[B, L, heads · dim]` → `[B, heads, L, dim]`, or `[B, heads, dim, L]` for the keys.
    fn split_heads(&self, x: &Value, heads: i64, spec: &AttentionSpec, keys: bool) -> Value {
        let split = self.reshape_heads(x, heads, spec.head_dim);
        let split = if heads == spec.heads { split } else { self.repeat_heads(&split, spec) };
        let (heads, dim) = (Dim::Size(spec.heads), Dim::Size(spec.head_dim));
        let (order, turned) =
            if keys { ([0, 2, 3, 1], [x.shape[0], heads, dim, x.shape[1]]) } else { ([0, 2, 1, 3], [x.shape[0], heads, x.shape[1], dim]) };
        self.node("Transpose", &split, &[], vec![AttributeProto::ints("perm", &order)], &turned)
    }
}

impl Backend for OnnxBackend<'_> {
    type Tensor = Value;

    fn embedding(&self, module: &str, ids: &Value, _: Option<i64>) -> Result<Value> {
        let (weight, [_, width]) = self.matrix(module)?;
        self.looked_up.borrow_mut().insert(module.to_owned());
        let shape: Vec<Dim> = ids.shape.iter().copied().chain([Dim::Size(width)]).collect();
        Ok(self.module_node("Gather", module, &[&weight, &ids.name], vec![AttributeProto::int("axis", 0)], &shape))
    }

    fn embedding_row(&self, module: &str, row: i64) -> Result<Value> {
        let (weight, [_, width]) = self.matrix(module)?;
        let index = self.integers(&format!("row.{row}"), &[row]);
        let row = self.module_node("Gather", module, &[&weight, &index], vec![AttributeProto::int("axis", 0)], &[Dim::Size(1), Dim::Size(width)]);
        Ok(self.unsqueeze(&row, &[0]))
    }

    fn position_embedding(&self, module: &str, ids: &Value) -> Result<Value> {
        let (weight, [_, width]) = self.matrix(module)?;
        let slice = vec![AttributeProto::int("start", 1), AttributeProto::int("end", 2)];
        let end = self.graph.borrow_mut().node("Shape", module, &[&ids.name], slice, DataType::Int64, &[Dim::Size(1)]);
        let (start, axis) = (self.integers("start.0", &[0]), self.integers("axes.0", &[0]));
        let rows = self.module_node("Slice", module, &[&weight, &start, &end.name, &axis], vec![], &[ids.shape[1], Dim::Size(width)]);
        Ok(self.unsqueeze(&rows, &[0]))
    }

    fn linear(&self, module: &str, x: &Value) -> Result<Value> {
        let (weight, narrow, wide) = match self.shared_weight(module)? {
            Some(shared) => shared,
            None => self.linear_weight(module)?,
        };
        if x.features()? != narrow {
            return Err(Error::internal(format!("{module} takes {narrow} features and is given {}", x.features()?)));
        }
        let product = self.module_node("MatMul", module, &[&x.name, &weight], vec![], &Self::with_features(x, wide));
        if self.weights.get(&format!("{module}.bias")).is_none() { Ok(product) } else { self.add_bias(module, &product) }
    }

    fn conv1d(&self, module: &str, x: &Value) -> Result<Value> {
        let (weight, [narrow, wide]) = self.matrix(module)?;
        if x.features()? != narrow {
            return Err(Error::internal(format!("{module} takes {narrow} features and is given {}", x.features()?)));
        }
        let product = self.module_node("MatMul", module, &[&x.name, &weight], vec![], &Self::with_features(x, wide));
        self.add_bias(module, &product)
    }

    fn positions_from_padding(&self, ids: &Value, pad: i64) -> Result<Value> {
        let tokens = self.differs(ids, pad);
        let (axis, pad) = (self.index(1), self.index(pad));
        let count = self.node("CumSum", &tokens, &[&axis], vec![], &ids.shape);
        let count = self.node("Mul", &count, &[&tokens.name], vec![], &ids.shape);
        Ok(self.node("Add", &count, &[&pad], vec![], &ids.shape))
    }

    fn layer_norm(&self, module: &str, x: &Value, eps: f64) -> Result<Value> {
        let (weight, _) = self.parameter(&format!("{module}.weight"))?;
        let (bias, _) = self.parameter(&format!("{module}.bias"))?;
        let attributes = vec![AttributeProto::int("axis", -1), AttributeProto::float("epsilon", eps as f32)];
        Ok(self.module_node("LayerNormalization", module, &[&x.name, &weight, &bias], attributes, &x.shape))
    }

    /// Of finer operators, in the pattern that ONNX Runtime fuses.
    fn rms_norm(&self, module: &str, x: &Value, eps: f64) -> Result<Value> {
        let (weight, _) = self.parameter(&format!("{module}.weight"))?;
        let (two, last) = (self.scalar("two", 2.0), self.integers("axes.-1", &[-1]));
        let eps = self.scalar(&format!("epsilon.{eps:e}"), eps as f32);
        let mean_shape = Self::with_features(x, 1);
        let square = self.module_node("Pow", module, &[&x.name, &two], vec![], &x.shape);
        let mean = self.module_node("ReduceMean", module, &[&square.name, &last], vec![AttributeProto::int("keepdims", 1)], &mean_shape);
        let sum = self.module_node("Add", module, &[&mean.name, &eps], vec![], &mean_shape);
        let root = self.module_node("Sqrt", module, &[&sum.name], vec![], &mean_shape);
        let normed = self.module_node("Div", module, &[&x.name, &root.name], vec![], &x.shape);
        Ok(self.module_node("Mul", module, &[&normed.name, &weight], vec![], &x.shape))
    }

    fn attention(&self, q: &Value, k: &Value, v: &Value, mask: &Value, spec: &AttentionSpec) -> Result<Value> {
        let (batch, length, heads) = (q.shape[0], q.shape[1], Dim::Size(spec.heads));
        let scale = self.scalar(&format!("scale.{}", spec.scale as f32), spec.scale as f32);
        let (q, v) = (self.split_heads(q, spec.heads, spec, false), self.split_heads(v, spec.kv_heads, spec, false));
        let k = self.split_heads(k, spec.kv_heads, spec, true);

        let scores_shape = [batch, heads, length, k.shape[3]];
        let scores = self.node("MatMul", &q, &[&k.name], vec![], &scores_shape);
        let scores = self.node("Mul", &scores, &[&scale], vec![], &scores_shape);
        let scores = self.node("Add", &scores, &[&mask.name], vec![], &scores_shape);
        let shares = self.node("Softmax", &scores, &[], vec![AttributeProto::int("axis", -1)], &scores_shape);
        let context = self.node("MatMul", &shares, &[&v.name], vec![], &[batch, heads, length, Dim::Size(spec.head_dim)]);
        let perm = vec![AttributeProto::ints("perm", &[0, 2, 1, 3])];
        let context = self.node("Transpose", &context, &[], perm, &[batch, length, heads, Dim::Size(spec.head_dim)]);
        Ok(self.join_heads(&context, spec.heads * spec.head_dim))
    }

    fn cached_attention(&self, layer: usize, q: &Value, k: &Value, v: &Value, mask: &Value, spec: &AttentionSpec) -> Result<Value> {
        match &self.cache {
            Some(cache) => self.attention_over(cache, layer, q, k, v, mask, spec),
            None => self.attention(q, k, v, mask, spec),
        }
    }

    /// 0 where there is a token and the lowest float where there is none: finite, so that a row of nothing but
    /// padding gives no NaN. `[B, L]` → `[B, 1, 1, L]`.
    fn padding_mask(&self, attention_mask: &Value) -> Result<Value> {
        let (one, lowest) = (self.scalar("one", 1.0), self.scalar("lowest", f32::MIN));
        let kept = self.cast(&self.unsqueeze(attention_mask, &[1, 2]), DataType::Float);
        let left_out = self.graph.borrow_mut().node("Sub", &kept.scope, &[&one, &kept.name], vec![], DataType::Float, &kept.shape);
        Ok(self.node("Mul", &left_out, &[&lowest], vec![], &kept.shape))
    }

    /// The same for `[B, 1, L, L]`: token `i` sees `i - window < j <= i`.
    fn causal_mask(&self, attention_mask: &Value, window: Option<i64>) -> Result<Value> {
        let positions = self.positions(attention_mask);
        Ok(self.causal_mask_between(attention_mask, &positions, &positions, window))
    }

    fn cached_causal_mask(&self, attention_mask: &Value, ids: &Value, window: Option<i64>) -> Result<Value> {
        let (positions, end, length) = (self.positions(attention_mask), self.length(attention_mask), self.length(ids));
        let begin = self.node("Sub", &end, &[&length.name], vec![], &[]);
        let one = self.index(1);
        let range = [&*begin.name, &*end.name, &*one];
        let last = self.graph.borrow_mut().node("Range", &ids.scope, &range, vec![], DataType::Int64, &[ids.shape[1]]);
        Ok(self.for_shared_heads(self.causal_mask_between(attention_mask, &last, &positions, window)))
    }

    fn rotary_angles(&self, ids: &Value, rotary: &Rotary) -> Result<Angles<Value>> {
        let (length, half_dim) = (ids.shape[1], rotary.inv_freq.len() as i64);
        let frequencies = self.frequencies(rotary);
        let positions = self.unsqueeze(&self.cast(&self.positions(ids), DataType::Float), &[1]);
        let half = self.node("Mul", &positions, &[&frequencies], vec![], &[length, Dim::Size(half_dim)]);
        let dim = [length, Dim::Size(2 * half_dim)];
        let whole = self.node("Concat", &half, &[&half.name], vec![AttributeProto::int("axis", -1)], &dim);
        Ok(self.angles(&self.unsqueeze(&whole, &[0, 2]), rotary))
    }

    fn rotary_angles_at(&self, position_ids: &Value, rotary: &Rotary) -> Result<Angles<Value>> {
        let (rows, length, half_dim) = (position_ids.shape[0], position_ids.shape[1], rotary.inv_freq.len() as i64);
        let frequencies = self.frequencies(rotary);
        let positions = self.unsqueeze(&self.cast(position_ids, DataType::Float), &[2]);
        let half = self.node("Mul", &positions, &[&frequencies], vec![], &[rows, length, Dim::Size(half_dim)]);
        let dim = [rows, length, Dim::Size(2 * half_dim)];
        let whole = self.node("Concat", &half, &[&half.name], vec![AttributeProto::int("axis", -1)], &dim);
        Ok(self.angles(&self.unsqueeze(&whole, &[2]), rotary))
    }

    fn rotate(&self, x: &Value, angles: &Angles<Value>) -> Result<Value> {
        let (width, dim) = (x.features()?, angles.head_dim);
        let heads = self.reshape_heads(x, width / dim, dim);
        let (front, back) = (self.columns(&heads, 0..dim / 2)?, self.columns(&heads, dim / 2..dim)?);
        let negative = self.node("Neg", &back, &[], vec![], &back.shape);
        let turned = self.node("Concat", &negative, &[&front.name], vec![AttributeProto::int("axis", -1)], &heads.shape);
        let kept = self.node("Mul", &heads, &[&angles.cos.name], vec![], &heads.shape);
        let turned = self.node("Mul", &turned, &[&angles.sin.name], vec![], &heads.shape);
        Ok(self.join_heads(&self.add(&kept, &turned)?, width))
    }

    fn dropout(&self, x: &Value, _: f64) -> Result<Value> {
        Ok(x.clone())
    }

    fn add(&self, a: &Value, b: &Value) -> Result<Value> {
        let shape = broadcast(a, b)?;
        Ok(self.node("Add", a, &[&b.name], vec![], &shape))
    }

    fn mul(&self, a: &Value, b: &Value) -> Result<Value> {
        let shape = broadcast(a, b)?;
        Ok(self.node("Mul", a, &[&b.name], vec![], &shape))
    }

    fn columns(&self, x: &Value, columns: Range<i64>) -> Result<Value> {
        let [start, end] = [columns.start, columns.end].map(|at| self.integers(&format!("start.{at}"), &[at]));
        let last = self.integers("axes.-1", &[-1]);
        Ok(self.node("Slice", x, &[&start, &end, &last], vec![], &Self::with_features(x, columns.end - columns.start)))
    }

    fn tokens(&self, x: &Value, tokens: Range<i64>) -> Result<Value> {
        let &[batch, _, width] = &*x.shape else {
            return Err(Error::internal(format!("{} is not [B, L, H]", x.name)));
        };
        let [start, end] = [tokens.start, tokens.end].map(|at| self.integers(&format!("start.{at}"), &[at]));
        let axis = self.integers("axes.1", &[1]);
        Ok(self.node("Slice", x, &[&start, &end, &axis], vec![], &[batch, Dim::Size(tokens.end - tokens.start), width]))
    }

    fn activation(&self, x: &Value, kind: Activation) -> Result<Value> {
        let unary = |op, attributes| self.node(op, x, &[], attributes, &x.shape);
        Ok(match kind {
            Activation::Gelu => unary("Gelu", vec![AttributeProto::string("approximate", "none")]),
            Activation::GeluTanh => unary("Gelu", vec![AttributeProto::string("approximate", "tanh")]),
            Activation::Relu => unary("Relu", vec![]),
            Activation::Tanh => unary("Tanh", vec![]),
            // Swish itself is an operator only from opset 24 on.
            Activation::Silu => {
                let gate = unary("Sigmoid", vec![]);
                self.node("Mul", x, &[&gate.name], vec![], &x.shape)
            }
        })
    }

    fn first_token(&self, x: &Value) -> Result<Value> {
        let &[batch, _, width] = &*x.shape else {
            return Err(Error::internal(format!("{} is not [B, L, H]", x.name)));
        };
        let first = self.index(0);
        Ok(self.node("Gather", x, &[&first], vec![AttributeProto::int("axis", 1)], &[batch, width]))
    }

    fn slots(&self, x: &Value, _: &Value) -> Result<Value> {
        Err(Error::internal(format!("an exported graph scores every position of {}", x.name)))
    }

    fn last_token(&self, x: &Value, values: &Value, skip: i64) -> Result<Value> {
        let &[batch, _, width] = &*x.shape else {
            return Err(Error::internal(format!("{} is not [B, L, H]", x.name)));
        };
        let kept = self.node("Mul", &self.differs(values, skip), &[&self.positions(values).name], vec![], &values.shape);
        let axis = self.integers("axes.1", &[1]);
        let last = self.node("ReduceMax", &kept, &[&axis], vec![AttributeProto::int("keepdims", 1)], &[batch, Dim::Size(1)]);
        // One index per row: [B, L, H] at [B, 1] → [B, H]
        Ok(self.node("GatherND", x, &[&last.name], vec![AttributeProto::int("batch_dims", 1)], &[batch, width]))
    }
}

/// The shape of an elementwise operation, as numpy has it.
fn broadcast(a: &Value, b: &Value) -> Result<Vec<Dim>> {
    let rank = a.shape.len().max(b.shape.len());
    let axis = |value: &Value, at: usize| (at + value.shape.len()).checked_sub(rank).map_or(Dim::Size(1), |at| value.shape[at]);
    (0..rank)
        .map(|at| match (axis(a, at), axis(b, at)) {
            (x, y) if x == y => Ok(x),
            (Dim::Size(1), other) | (other, Dim::Size(1)) => Ok(other),
            (x, y) => Err(Error::internal(format!("{} and {} do not fit together: {x} and {y} in axis {at}", a.name, b.name))),
        })
        .collect()
}
