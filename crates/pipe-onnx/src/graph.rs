//! A graph under construction: nodes, the values between them with their symbolic shapes, and the weights.
//!
//! Weights stay where they are (a memory-mapped file) until [`write`](crate::write) streams them out.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;

use pipe_core::{Error, Result};

use crate::proto::{
    AttributeProto, DataType, DimensionProto, DimensionValue, GraphProto, NodeProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// One axis of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dim {
    Size(i64),
    /// Known when the model runs: `batch_size`, `sequence_length`.
    Symbol(&'static str),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Size(size) => write!(f, "{size}"),
            Dim::Symbol(name) => f.write_str(name),
        }
    }
}

/// An edge of the graph: what a node gives and others take.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) name: Rc<str>,
    /// The module that operations without weights on this value belong to; only names in the file follow from it.
    pub(crate) scope: Rc<str>,
    pub(crate) kind: DataType,
    pub(crate) shape: Rc<[Dim]>,
}

impl Value {
    /// The last axis, where it has a fixed size.
    pub(crate) fn features(&self) -> Result<i64> {
        match self.shape.last() {
            Some(Dim::Size(size)) => Ok(*size),
            _ => Err(Error::internal(format!("{} has no fixed last axis", self.name))),
        }
    }
}

/// A constant of the graph. The data is little-endian and row-major.
#[derive(Debug)]
pub(crate) struct Initializer<'w> {
    pub(crate) name: String,
    pub(crate) kind: DataType,
    /// As the graph sees it: after the transposition.
    pub(crate) dims: Vec<i64>,
    pub(crate) data: Cow<'w, [u8]>,
    /// `data` is `[dims[1], dims[0]]` floats and is turned when it is written.
    pub(crate) transposed: bool,
}

/// Collects the parts of a graph in the order of execution.
#[derive(Debug, Default)]
pub(crate) struct Graph<'w> {
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    nodes: Vec<NodeProto>,
    edges: Vec<ValueInfoProto>,
    initializers: Vec<Initializer<'w>>,
    initializer_names: HashSet<String>,
    /// How often each node name was asked for.
    node_names: HashMap<String, usize>,
}

impl<'w> Graph<'w> {
    pub(crate) fn input(&mut self, name: &str, kind: DataType, shape: &[Dim]) -> Value {
        self.inputs.push(value_info(name, kind, shape));
        Value { name: name.into(), scope: name.into(), kind, shape: shape.into() }
    }

    /// Adds a constant unless one of this name is there already, and gives its name back.
    pub(crate) fn initializer(&mut self, name: &str, make: impl FnOnce() -> Initializer<'w>) -> String {
        if self.initializer_names.insert(name.to_owned()) {
            let initializer = make();
            debug_assert_eq!(initializer.name, name);
            self.initializers.push(initializer);
        }
        name.to_owned()
    }

    /// A vector of integers: axes, shapes, indices.
    pub(crate) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.initializer(name, || Initializer {
            name: name.to_owned(),
            kind: DataType::Int64,
            dims: vec![values.len() as i64],
            data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            transposed: false,
        })
    }

    /// A single float.
    pub(crate) fn scalar(&mut self, name: &str, value: f32) -> String {
        let data = value.to_le_bytes().to_vec().into();
        self.initializer(name, || Initializer { name: name.to_owned(), kind: DataType::Float, dims: vec![], data, transposed: false })
    }

    /// Adds a node named `scope/op` and gives its only output.
    pub(crate) fn node(&mut self, op: &str, scope: &str, inputs: &[&str], attributes: Vec<AttributeProto>, kind: DataType, shape: &[Dim]) -> Value {
        let base = format!("{scope}/{op}");
        let count = self.node_names.entry(base.clone()).or_default();
        let name = if *count == 0 { base } else { format!("{base}_{count}") };
        *count += 1;
        let output = format!("{name}_output_0");
        self.edges.push(value_info(&output, kind, shape));
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.clone()],
            name,
            op_type: op.to_owned(),
            attribute: attributes,
        });
        Value { name: output.into(), scope: scope.into(), kind, shape: shape.into() }
    }

    /// Makes a node's output an output of the graph called `name`, and gives it back under that name. Nothing may have read it yet.
    pub(crate) fn output(&mut self, value: &Value, name: &str) -> Result<Value> {
        let read = self.nodes.iter().any(|node| node.input.iter().any(|input| **input == *value.name));
        let slot = self.nodes.iter_mut().flat_map(|node| &mut node.output).find(|output| ***output == *value.name);
        let (Some(slot), false) = (slot, read) else {
            return Err(Error::internal(format!("{} cannot become the output {name}", value.name)));
        };
        name.clone_into(slot);
        self.edges.retain(|edge| *edge.name != *value.name);
        self.outputs.push(value_info(name, value.kind, &value.shape));
        Ok(Value { name: name.into(), ..value.clone() })
    }

    /// Puts the last output in front of the others: programs that ask by place expect the scores there.
    pub(crate) fn last_outputs_first(&mut self, count: usize) {
        self.outputs.rotate_right(count);
    }

    /// The graph without its initialisers, and those.
    pub(crate) fn finish(self, name: &str) -> (GraphProto, Vec<Initializer<'w>>) {
        let proto = GraphProto {
            node: self.nodes,
            name: name.to_owned(),
            initializer: Vec::new(),
            input: self.inputs,
            output: self.outputs,
            value_info: self.edges,
        };
        (proto, self.initializers)
    }
}

fn value_info(name: &str, kind: DataType, shape: &[Dim]) -> ValueInfoProto {
    let dim = |dim: &Dim| match dim {
        Dim::Size(size) => DimensionValue::Size(*size),
        Dim::Symbol(name) => DimensionValue::Symbol((*name).to_owned()),
    };
    let dim = shape.iter().map(|axis| DimensionProto { value: Some(dim(axis)) }).collect();
    let tensor_type = TensorTypeProto { elem_type: kind.into(), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
