//! The recorded graph of a language model that generates: as optimum's `text-generation-with-past`, it reads the keys and values of
//! the tokens before and gives them back with those of its own.

use pipe_core::Result;
use pipe_model::{AttentionSpec, ModelConfig, ModelInputs};

use crate::backend::{BATCH, OnnxBackend, SEQUENCE};
use crate::graph::{Dim, Value};
use crate::proto::{AttributeProto, DataType};

const PAST: Dim = Dim::Symbol("past_sequence_length");
const TOTAL: Dim = Dim::Symbol("past_sequence_length + sequence_length");
/// Queries that share a head of keys, below each other.
const GROUPED: Dim = Dim::Symbol("grouped_sequence_length");

pub(crate) fn past_name(layer: usize, part: &str) -> String {
    format!("past_key_values.{layer}.{part}")
}

pub(crate) fn present_name(layer: usize, part: &str) -> String {
    format!("present.{layer}.{part}")
}

/// The part of a graph that goes from one pass to the next.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Keys and values of each layer, `[B, kv_heads, P, dim]`.
    past: Vec<[Value; 2]>,
    /// Heads of queries that share one of keys.
    groups: i64,
}

impl OnnxBackend<'_> {
    /// Declares what a language model reads, named as optimum names it.
    pub(crate) fn cached_inputs(&mut self, config: &ModelConfig) -> ModelInputs<Value> {
        let graph = self.graph.get_mut();
        let mut input = |name, length| graph.input(name, DataType::Int64, &[BATCH, length]);
        let inputs = ModelInputs {
            input_ids: input("input_ids", SEQUENCE),
            attention_mask: input("attention_mask", TOTAL),
            token_type_ids: None,
            slots: None,
            position_ids: Some(input("position_ids", SEQUENCE)),
        };
        let shape = [BATCH, Dim::Size(config.decoder.kv_heads), PAST, Dim::Size(config.head_dim)];
        let mut past = |layer, part| graph.input(&past_name(layer, part), DataType::Float, &shape);
        let past = (0..config.layers).map(|layer| ["key", "value"].map(|part| past(layer, part))).collect();
        self.cache = Some(Cache { past, groups: config.heads / config.decoder.kv_heads });
        inputs
    }

    /// Attention over the past and these tokens. Queries that share a head of keys stand one below the other, `[B, kv_heads,
    /// groups · L, dim]`, so that no key is copied for each of them.
    #[expect(clippy::too_many_arguments, reason = "those of Backend::cached_attention, and what it found")]
    pub(crate) fn attention_over(
        &self,
        cache: &Cache,
        layer: usize,
        q: &Value,
        k: &Value,
        v: &Value,
        mask: &Value,
        spec: &AttentionSpec,
    ) -> Result<Value> {
        let (rows, length, dim) = (q.shape[0], q.shape[1], Dim::Size(spec.head_dim));
        let (kv_heads, groups) = (Dim::Size(spec.kv_heads), spec.heads / spec.kv_heads);
        let perm = |order: &[i64]| vec![AttributeProto::ints("perm", order)];
        let [past_keys, past_values] = &cache.past[layer];
        let (keys, values) = (self.present(layer, "key", past_keys, k, spec)?, self.present(layer, "value", past_values, v, spec)?);
        let keys = self.node("Transpose", &keys, &[], perm(&[0, 1, 3, 2]), &[rows, kv_heads, dim, TOTAL]);

        let queries = self.reshape_heads(q, spec.heads, spec.head_dim);
        let (queries, below) = if groups == 1 {
            (self.node("Transpose", &queries, &[], perm(&[0, 2, 1, 3]), &[rows, kv_heads, length, dim]), length)
        } else {
            // By heads, each with all its tokens, is by heads of keys, each with all its groups.
            let apart = self.node("Transpose", &queries, &[], perm(&[0, 2, 1, 3]), &[rows, Dim::Size(spec.heads), length, dim]);
            let shape = self.integers("shape.share_heads", &[0, spec.kv_heads, -1, spec.head_dim]);
            (self.node("Reshape", &apart, &[&shape], vec![], &[rows, kv_heads, GROUPED, dim]), GROUPED)
        };
        let scale = self.scalar(&format!("scale.{}", spec.scale as f32), spec.scale as f32);
        let shape = [rows, kv_heads, below, TOTAL];
        let scores = self.node("MatMul", &queries, &[&keys.name], vec![], &shape);
        let scores = self.node("Mul", &scores, &[&scale], vec![], &shape);
        let scores = self.node("Add", &scores, &[&mask.name], vec![], &shape);
        let shares = self.node("Softmax", &scores, &[], vec![AttributeProto::int("axis", -1)], &shape);
        let context = self.node("MatMul", &shares, &[&values.name], vec![], &[rows, kv_heads, below, dim]);
        let context = if groups == 1 {
            context
        } else {
            let shape = self.integers("shape.own_heads", &[0, spec.heads, -1, spec.head_dim]);
            self.node("Reshape", &context, &[&shape], vec![], &[rows, Dim::Size(spec.heads), length, dim])
        };
        let context = self.node("Transpose", &context, &[], perm(&[0, 2, 1, 3]), &[rows, length, Dim::Size(spec.heads), dim]);
        Ok(self.join_heads(&context, spec.heads * spec.head_dim))
    }

    /// The past with `x` `[B, L, kv_heads · dim]` at its end, which is an output of the graph.
    fn present(&self, layer: usize, part: &str, past: &Value, x: &Value, spec: &AttentionSpec) -> Result<Value> {
        let split = self.reshape_heads(x, spec.kv_heads, spec.head_dim);
        let (rows, kv_heads, dim) = (x.shape[0], Dim::Size(spec.kv_heads), Dim::Size(spec.head_dim));
        let perm = vec![AttributeProto::ints("perm", &[0, 2, 1, 3])];
        let new = self.node("Transpose", &split, &[], perm, &[rows, kv_heads, x.shape[1], dim]);
        let axis = vec![AttributeProto::int("axis", 2)];
        let mut graph = self.graph.borrow_mut();
        let all = graph.node("Concat", &new.scope, &[&past.name, &new.name], axis, DataType::Float, &[rows, kv_heads, TOTAL, dim]);
        graph.output(&all, &present_name(layer, part))
    }

    /// A mask `[B, 1, L, T]` once for each of the heads that share one of keys, below each other.
    pub(crate) fn for_shared_heads(&self, mask: Value) -> Value {
        let groups = self.cache.as_ref().map_or(1, |cache| cache.groups);
        if groups == 1 {
            return mask;
        }
        let others = vec![&*mask.name; groups as usize - 1];
        self.node("Concat", &mask, &others, vec![AttributeProto::int("axis", 2)], &[mask.shape[0], mask.shape[1], GROUPED, mask.shape[3]])
    }
}
