//! Where tokens stand, as the recorded graph works it out: masks of decoders and rotary angles.

use pipe_model::{Angles, Rotary};

use crate::backend::OnnxBackend;
use crate::graph::{Dim, Initializer, Value};
use crate::proto::{AttributeProto, DataType};

impl OnnxBackend<'_> {
    /// `0..L`, where `L` is the length of `of` `[B, L]`.
    pub(crate) fn positions(&self, of: &Value) -> Value {
        let end = self.length(of);
        let (zero, one) = (self.index(0), self.index(1));
        let mut graph = self.graph.borrow_mut();
        graph.node("Range", &of.scope, &[&zero, &end.name, &one], vec![], DataType::Int64, &[of.shape[1]])
    }

    /// The length of `of` `[B, L]`.
    pub(crate) fn length(&self, of: &Value) -> Value {
        let slice = vec![AttributeProto::int("start", 1), AttributeProto::int("end", 2)];
        let length = self.node_of(DataType::Int64, "Shape", of, &[], slice, &[Dim::Size(1)]);
        self.node("Squeeze", &length, &[], vec![], &[])
    }

    pub(crate) fn frequencies(&self, rotary: &Rotary) -> String {
        self.graph.borrow_mut().initializer("rotary.inv_freq", || Initializer {
            name: "rotary.inv_freq".into(),
            kind: DataType::Float,
            dims: vec![rotary.inv_freq.len() as i64],
            data: rotary.inv_freq.iter().flat_map(|freq| freq.to_le_bytes()).collect(),
            transposed: false,
        })
    }

    /// Of the angles of each element of a head, `[1 or B, L, 1, dim]`.
    pub(crate) fn angles(&self, angles: &Value, rotary: &Rotary) -> Angles<Value> {
        let scaled = |op| {
            let x = self.node(op, angles, &[], vec![], &angles.shape);
            if rotary.attention_factor == 1.0 {
                return x;
            }
            let factor = self.scalar("rotary.attention_factor", rotary.attention_factor as f32);
            self.node("Mul", &x, &[&factor], vec![], &x.shape)
        };
        Angles { cos: scaled("Cos"), sin: scaled("Sin"), head_dim: 2 * rotary.inv_freq.len() as i64 }
    }

    /// What is added to the scores of tokens at the places `from` `[L]` that look at those at `to` `[T]`, of which `attention_mask`
    /// `[B, T]` says which are there → `[B, 1, L, T]`.
    pub(crate) fn causal_mask_between(&self, attention_mask: &Value, from: &Value, to: &Value, window: Option<i64>) -> Value {
        let square = [from.shape[0], to.shape[0]];
        let distance = self.node("Sub", &self.unsqueeze(from, &[1]), &[&to.name], vec![], &square);
        let zero = self.index(0);
        let mut seen = self.node_of(DataType::Bool, "GreaterOrEqual", &distance, &[&zero], vec![], &square);
        if let Some(window) = window {
            let window = self.index(window);
            let near = self.node_of(DataType::Bool, "Less", &distance, &[&window], vec![], &square);
            seen = self.node("And", &seen, &[&near.name], vec![], &square);
        }
        let tokens = self.unsqueeze(&self.cast(attention_mask, DataType::Bool), &[1, 2]);
        let shape = [attention_mask.shape[0], Dim::Size(1), square[0], square[1]];
        let seen = self.node("And", &tokens, &[&seen.name], vec![], &shape);
        let (nothing, lowest) = (self.scalar("nothing", 0.0), self.scalar("lowest", f32::MIN));
        self.node_of(DataType::Float, "Where", &seen, &[&nothing, &lowest], vec![], &shape)
    }
}
