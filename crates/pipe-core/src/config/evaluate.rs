//! Settings of `evaluate`, with its gates.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Complaint, Device, distinct_columns, in_range, known_name};
use crate::evaluate::Evaluation;
use crate::metrics::{all_names, headline};
use crate::task::Task;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// A folder written by `export`; absent: the train or export stage named in `from:`.
    pub model: Option<PathBuf>,
    /// Named in the summary; `metrics.json` always holds all of them. Absent: the usual ones of the task.
    #[schemars(schema_with = "metrics_schema")]
    pub metrics: Option<Vec<String>>,
    /// Metric → condition such as `">= 0.6"`. Checked on every run, so no part of the key.
    #[schemars(schema_with = "gate_schema")]
    pub gate: BTreeMap<String, Gate>,
    /// `predictions`: holds the texts that a predict stage wrote against the completions of its rows, in the place of scoring
    /// tokens with a model.
    pub of: EvaluateOf,
    /// How such texts are cut to words.
    pub text_tokenizer: TextTokenizer,
    /// Columns by whose values everything is measured too. The tokenize stage (or, with `of: predictions`, the predict stage)
    /// keeps them: `keep_columns`.
    pub by: Vec<String>,
    /// Intervals of every metric, by the bootstrap: `{}` for the usual ones.
    pub confidence: Option<ConfidenceConfig>,
    /// Rows scored at once.
    pub per_device_eval_batch_size: usize,
    /// Matrix products in bfloat16.
    pub bf16: bool,
    pub device: Device,
    /// Threads of libtorch; recorded, not keyed.
    pub torch_threads: Option<usize>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        EvaluateConfig {
            model: None,
            metrics: None,
            gate: BTreeMap::new(),
            of: EvaluateOf::Model,
            text_tokenizer: TextTokenizer::Spaced,
            by: Vec::new(),
            confidence: None,
            per_device_eval_batch_size: 32,
            bf16: false,
            device: Device::Auto,
            torch_threads: None,
        }
    }
}

/// Percentile bootstrap: rows are drawn again and again, with replacement, and the metrics of what was drawn are compared. Names
/// are those of `scipy.stats.bootstrap`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConfidenceConfig {
    /// The share of such intervals that hold the true value.
    pub confidence_level: f64,
    /// How often as many rows are drawn as there are.
    pub n_resamples: usize,
    pub seed: u64,
}

impl Default for ConfidenceConfig {
    fn default() -> Self {
        ConfidenceConfig { confidence_level: 0.95, n_resamples: 1000, seed: 42 }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvaluateOf {
    #[default]
    Model,
    Predictions,
}

/// How generated texts are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextTokenizer {
    /// BLEU as sacrebleu's `13a`, ROUGE by words.
    #[default]
    Spaced,
    /// BLEU as sacrebleu's `zh`, ROUGE by characters.
    Chinese,
}

fn metrics_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["array", "null"], "items": {"enum": all_names()}})
}

/// With every name spelled out, so that an editor offers them.
fn gate_schema(generator: &mut SchemaGenerator) -> Schema {
    let gates: BTreeMap<&str, Schema> = all_names().into_iter().map(|name| (name, generator.subschema_for::<Gate>())).collect();
    json_schema!({"type": "object", "properties": gates, "additionalProperties": false})
}

/// A condition on a metric, written as an operator and a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gate {
    pub operator: GateOperator,
    pub threshold: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateOperator {
    AtLeast,
    Above,
    AtMost,
    Below,
}

impl GateOperator {
    /// Two-character signs first: `>` is a prefix of `>=`.
    const SIGNS: [(&'static str, GateOperator); 4] =
        [(">=", GateOperator::AtLeast), ("<=", GateOperator::AtMost), (">", GateOperator::Above), ("<", GateOperator::Below)];

    pub fn sign(self) -> &'static str {
        Self::SIGNS.iter().find(|(_, operator)| *operator == self).map_or("", |(sign, _)| sign)
    }
}

impl Gate {
    /// False for a value that is not a number: a gate fails closed.
    pub fn holds(&self, value: f64) -> bool {
        match self.operator {
            GateOperator::AtLeast => value >= self.threshold,
            GateOperator::Above => value > self.threshold,
            GateOperator::AtMost => value <= self.threshold,
            GateOperator::Below => value < self.threshold,
        }
    }
}

impl TryFrom<String> for Gate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let complaint = || "a gate is an operator and a number, such as \">= 0.6\"".to_owned();
        let text = text.trim();
        let (sign, operator) = GateOperator::SIGNS.into_iter().find(|(sign, _)| text.starts_with(sign)).ok_or_else(complaint)?;
        let threshold: f64 = text[sign.len()..].trim().parse().map_err(|_| complaint())?;
        if threshold.is_finite() { Ok(Gate { operator, threshold }) } else { Err(complaint()) }
    }
}

impl JsonSchema for Gate {
    fn schema_name() -> Cow<'static, str> {
        "Gate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An operator and a number, such as `\">= 0.6\"`.",
            "type": "string",
            "pattern": r"^\s*(>=|<=|>|<)\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$",
        })
    }
}

impl From<Gate> for String {
    fn from(gate: Gate) -> String {
        format!("{} {}", gate.operator.sign(), gate.threshold)
    }
}

impl EvaluateConfig {
    /// What the summary names.
    pub fn metrics(&self, task: Task, labels: &[String]) -> Vec<String> {
        self.metrics.clone().unwrap_or_else(|| headline(task, labels).iter().map(|&name| name.to_owned()).collect())
    }

    /// Of all rows of a split.
    pub fn evaluation<'e>(&'e self, task: Task, labels: &'e [String]) -> Evaluation<'e> {
        Evaluation { task, labels, batch_size: self.per_device_eval_batch_size, rows: None, by: &self.by, confidence: self.confidence }
    }

    pub(super) fn check(&self) -> Result<(), Complaint> {
        for name in self.metrics.iter().flatten() {
            known_name("metrics", name, &all_names())?;
        }
        for name in self.gate.keys() {
            known_name("gate", name, &all_names())?;
        }
        distinct_columns("by", &self.by)?;
        if let Some(confidence) = &self.confidence {
            in_range("confidence.confidence_level", confidence.confidence_level, 0.01..=0.9999)?;
            in_range("confidence.n_resamples", confidence.n_resamples as f64, 10.0..=1_000_000.0)?;
        }
        if self.per_device_eval_batch_size == 0 {
            return Err(Complaint::new("per_device_eval_batch_size", "a batch has at least one row"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_read_and_write_the_same() {
        for (text, value, holds) in [(">= 0.6", 0.6, true), ("> 0.6", 0.6, false), ("<=0.5", 0.5, true), ("< 0.5", f64::NAN, false)] {
            let gate = Gate::try_from(text.to_owned()).unwrap();
            assert_eq!(gate.holds(value), holds, "{text}");
            assert_eq!(Gate::try_from(String::from(gate)).unwrap(), gate);
        }
        assert!(Gate::try_from("0.6".to_owned()).is_err());
        assert!(Gate::try_from(">= nan".to_owned()).is_err());
    }
}
