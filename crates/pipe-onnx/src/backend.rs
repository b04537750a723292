//! Records a forward pass instead of computing it.

use std::cell::RefCell;

use pipe_core::{Error, Result};
use pipe_model::{Activation, AttentionSpec, Backend, EncoderInputs};

use crate::graph::{Dim, Graph, Initializer, Value};
use crate::proto::{AttributeProto, DataType, GraphProto};
use crate::weights::Weights;

pub(crate) const BATCH: Dim = Dim::Symbol("batch_size");
pub(crate) const SEQUENCE: Dim = Dim::Symbol("sequence_length");

/// A [`Backend`] whose tensors are edges of a growing graph of standard ONNX operators.
#[derive(Debug)]
pub(crate) struct OnnxBackend<'w> {
    weights: &'w Weights<'w>,
    graph: RefCell<Graph<'w>>,
}

impl<'w> OnnxBackend<'w> {
    pub(crate) fn new(weights: &'w Weights<'w>) -> Self {
        OnnxBackend { weights, graph: RefCell::default() }
    }

    /// Declares what an encoder reads, named as optimum names it.
    pub(crate) fn encoder_inputs(&self) -> EncoderInputs<Value> {
        let mut graph = self.graph.borrow_mut();
        let mut input = |name| graph.input(name, DataType::Int64, &[BATCH, SEQUENCE]);
        EncoderInputs { input_ids: input("input_ids"), attention_mask: input("attention_mask"), token_type_ids: input("token_type_ids") }
    }

    /// Declares an output and ends the recording.
    pub(crate) fn finish(self, output: &Value, name: &str, graph_name: &str) -> Result<(GraphProto, Vec<Initializer<'w>>)> {
        let mut graph = self.graph.into_inner();
        graph.output(output, name)?;
        Ok(graph.finish(graph_name))
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

    /// A node that belongs to `module`; what is done with its output belongs to the module around it.
    fn module_node(&self, op: &str, module: &str, inputs: &[&str], attributes: Vec<AttributeProto>, shape: &[Dim]) -> Value {
        let around = module.rsplit_once('.').map_or(module, |(around, _)| around);
        let output = self.graph.borrow_mut().node(op, module, inputs, attributes, DataType::Float, shape);
        Value { scope: around.into(), ..output }
    }

    /// A node in the scope of its first input.
    fn node(&self, op: &str, first: &Value, others: &[&str], attributes: Vec<AttributeProto>, shape: &[Dim]) -> Value {
        let inputs: Vec<&str> = std::iter::once(&*first.name).chain(others.iter().copied()).collect();
        self.graph.borrow_mut().node(op, &first.scope, &inputs, attributes, first.kind, shape)
    }

    fn integers(&self, name: &str, values: &[i64]) -> String {
        self.graph.borrow_mut().integers(name, values)
    }

    fn scalar(&self, name: &str, value: f32) -> String {
        self.graph.borrow_mut().scalar(name, value)
    }

    /// `[B, L, H]` → `[B, heads, L, dim]`, or `[B, heads, dim, L]` for the keys.
    fn split_heads(&self, x: &Value, spec: &AttentionSpec, keys: bool) -> Value {
        let (heads, dim) = (Dim::Size(spec.heads), Dim::Size(spec.head_dim));
        // Zero keeps an axis as it is.
        let shape = self.integers(&format!("shape.split_heads_{}x{}", spec.heads, spec.head_dim), &[0, 0, spec.heads, spec.head_dim]);
        let split = self.node("Reshape", x, &[&shape], vec![], &[x.shape[0], x.shape[1], heads, dim]);
        let (order, turned) =
            if keys { ([0, 2, 3, 1], [x.shape[0], heads, dim, x.shape[1]]) } else { ([0, 2, 1, 3], [x.shape[0], heads, x.shape[1], dim]) };
        self.node("Transpose", &split, &[], vec![AttributeProto::ints("perm", &order)], &turned)
    }
}

impl Backend for OnnxBackend<'_> {
    type Tensor = Value;

    fn embedding(&self, module: &str, ids: &Value) -> Result<Value> {
        let (weight, shape) = self.parameter(&format!("{module}.weight"))?;
        let &[_, width] = shape.as_slice() else {
            return Err(Error::internal(format!("{module}.weight is no table of rows")));
        };
        let shape: Vec<Dim> = ids.shape.iter().copied().chain([Dim::Size(width)]).collect();
        Ok(self.module_node("Gather", module, &[&weight, &ids.name], vec![AttributeProto::int("axis", 0)], &shape))
    }

    fn position_embedding(&self, module: &str, ids: &Value, offset: i64) -> Result<Value> {
        let (weight, shape) = self.parameter(&format!("{module}.weight"))?;
        let &[_, width] = shape.as_slice() else {
            return Err(Error::internal(format!("{module}.weight is no table of rows")));
        };
        let (length, width) = (ids.shape[1], Dim::Size(width));
        let mut graph = self.graph.borrow_mut();
        let start = graph.integers(&format!("index.{offset}"), &[offset]);
        let axis = graph.integers("axes.0", &[0]);
        let slice = [AttributeProto::int("start", 1), AttributeProto::int("end", 2)].to_vec();
        let mut end = graph.node("Shape", module, &[&ids.name], slice, DataType::Int64, &[Dim::Size(1)]);
        if offset != 0 {
            end = graph.node("Add", module, &[&end.name, &start], vec![], DataType::Int64, &[Dim::Size(1)]);
        }
        drop(graph);
        let rows = self.module_node("Slice", module, &[&weight, &start, &end.name, &axis], vec![], &[length, width]);
        Ok(self.module_node("Unsqueeze", module, &[&rows.name, &axis], vec![], &[Dim::Size(1), length, width]))
    }

    fn linear(&self, module: &str, x: &Value) -> Result<Value> {
        let (weight, narrow, wide) = self.linear_weight(module)?;
        if x.features()? != narrow {
            return Err(Error::internal(format!("{module} takes {narrow} features and is given {}", x.features()?)));
        }
        let mut shape = x.shape.to_vec();
        shape.pop();
        shape.push(Dim::Size(wide));
        let product = self.module_node("MatMul", module, &[&x.name, &weight], vec![], &shape);
        let bias = format!("{module}.bias");
        if self.weights.get(&bias).is_none() {
            return Ok(product);
        }
        let (bias, _) = self.parameter(&bias)?;
        Ok(self.module_node("Add", module, &[&product.name, &bias], vec![], &shape))
    }

    fn layer_norm(&self, module: &str, x: &Value, eps: f64) -> Result<Value> {
        let (weight, _) = self.parameter(&format!("{module}.weight"))?;
        let (bias, _) = self.parameter(&format!("{module}.bias"))?;
        let attributes = vec![AttributeProto::int("axis", -1), AttributeProto::float("epsilon", eps as f32)];
        Ok(self.module_node("LayerNormalization", module, &[&x.name, &weight, &bias], attributes, &x.shape))
    }

    fn attention(&self, q: &Value, k: &Value, v: &Value, mask: &Value, spec: &AttentionSpec) -> Result<Value> {
        let (batch, length, heads) = (q.shape[0], q.shape[1], Dim::Size(spec.heads));
        let scale = self.scalar(&format!("scale.{}", spec.head_dim), (1.0 / (spec.head_dim as f64).sqrt()) as f32);
        let hidden = self.integers(&format!("shape.join_heads_{}", spec.heads * spec.head_dim), &[0, 0, spec.heads * spec.head_dim]);
        let (q, k, v) = (self.split_heads(q, spec, false), self.split_heads(k, spec, true), self.split_heads(v, spec, false));

        let scores_shape = [batch, heads, length, k.shape[3]];
        let scores = self.node("MatMul", &q, &[&k.name], vec![], &scores_shape);
        let scores = self.node("Mul", &scores, &[&scale], vec![], &scores_shape);
        let scores = self.node("Add", &scores, &[&mask.name], vec![], &scores_shape);
        let shares = self.node("Softmax", &scores, &[], vec![AttributeProto::int("axis", -1)], &scores_shape);
        let context = self.node("MatMul", &shares, &[&v.name], vec![], &[batch, heads, length, Dim::Size(spec.head_dim)]);
        let perm = vec![AttributeProto::ints("perm", &[0, 2, 1, 3])];
        let context = self.node("Transpose", &context, &[], perm, &[batch, length, heads, Dim::Size(spec.head_dim)]);
        Ok(self.node("Reshape", &context, &[&hidden], vec![], &[batch, length, Dim::Size(spec.heads * spec.head_dim)]))
    }

    /// 0 where there is a token and the lowest float where there is none: finite, so that a row of nothing but
    /// padding gives no NaN. `[B, L]` → `[B, 1, 1, L]`.
    fn padding_mask(&self, attention_mask: &Value) -> Result<Value> {
        let (one, lowest) = (self.scalar("one", 1.0), self.scalar("lowest", f32::MIN));
        let axes = self.integers("axes.1_2", &[1, 2]);
        let shape = [attention_mask.shape[0], Dim::Size(1), Dim::Size(1), attention_mask.shape[1]];
        let wide = self.node("Unsqueeze", attention_mask, &[&axes], vec![], &shape);
        let scope = wide.scope.clone();
        let mut graph = self.graph.borrow_mut();
        let mut float = |op, inputs: &[&str], attributes| graph.node(op, &scope, inputs, attributes, DataType::Float, &shape);
        let kept = float("Cast", &[&wide.name], vec![AttributeProto::int("to", DataType::Float as i64)]);
        let left_out = float("Sub", &[&one, &kept.name], vec![]);
        Ok(float("Mul", &[&left_out.name, &lowest], vec![]))
    }

    fn dropout(&self, x: &Value, _: f64) -> Result<Value> {
        Ok(x.clone())
    }

    fn add(&self, a: &Value, b: &Value) -> Result<Value> {
        let shape = broadcast(a, b)?;
        Ok(self.node("Add", a, &[&b.name], vec![], &shape))
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
        let mut graph = self.graph.borrow_mut();
        // A scalar index, unlike a vector of one, drops the axis.
        let first = graph.initializer("index.first", || Initializer {
            name: "index.first".into(),
            kind: DataType::Int64,
            dims: vec![],
            data: 0_i64.to_le_bytes().to_vec().into(),
            transposed: false,
        });
        drop(graph);
        Ok(self.node("Gather", x, &[&first], vec![AttributeProto::int("axis", 1)], &[batch, width]))
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
