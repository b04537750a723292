//! `matrix:`: one stage over several values, and the references that pick among them.
//!
//! ```yaml
//! train:    { uses: train, matrix: { lr: [3e-5, 5e-5] }, with: { learning_rate: "${matrix.lr}" } }
//! evaluate: { uses: evaluate, from: [train, tokenize.test] }            # one for each train
//! export:   { uses: export, from: ["train[best]", tokenize.validation] } # the best one alone
//! ```
//!
//! A stage that reads a matrix stage without choosing gets the same axes, so `evaluate[lr=3e-5]` reads
//! `train[lr=3e-5]`. `train[lr=3e-5]` chooses one value of an axis, `train[best]` the best of all.

use super::node::{Node, Value};
use super::stages::Stage;
use crate::key::shown_number;

/// One axis of a matrix: its values in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) values: Vec<Node>,
}

/// One value for each axis.
pub(super) type Cell = Vec<(String, Node)>;

/// All combinations, the last axis running fastest. Absent: more than `limit`.
pub(super) fn cells(axes: &[Axis], limit: usize) -> Option<Vec<Cell>> {
    let mut cells: Vec<Cell> = vec![Vec::new()];
    for axis in axes {
        if cells.len().checked_mul(axis.values.len()).is_none_or(|count| count > limit) {
            return None;
        }
        cells = cells
            .into_iter()
            .flat_map(|cell| {
                axis.values.iter().map(move |value| {
                    let mut cell = cell.clone();
                    cell.push((axis.name.clone(), value.clone()));
                    cell
                })
            })
            .collect();
    }
    Some(cells)
}

/// `train[lr=3e-5,seed=1]`; the bare name where there is no matrix.
pub(super) fn cell_name(stage: &str, cell: &Cell) -> String {
    if cell.is_empty() {
        return stage.to_owned();
    }
    let values: Vec<String> = cell.iter().map(|(axis, value)| format!("{axis}={}", shown(&value.value))).collect();
    format!("{stage}[{}]", values.join(","))
}

/// A scalar as it stands in a stage's name.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => shown_number(*value),
        Value::String(value) => value.clone(),
        _ => String::new(),
    }
}

/// `stage`, `stage.split`, `stage[axis=value,…].split`, `stage[best].split`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReferenceText {
    pub(super) stage: String,
    pub(super) selector: Selector,
    pub(super) split: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Selector {
    /// Values by axis; those that are not named stay open.
    Values(Vec<(String, Value)>),
    Best,
}

impl ReferenceText {
    /// The message on a failure says what is wrong.
    pub(super) fn parse(text: &str) -> Result<ReferenceText, String> {
        let (stage, rest) = text.split_at(text.find(['[', '.']).unwrap_or(text.len()));
        let (selector, rest) = match rest.strip_prefix('[') {
            None => (Selector::Values(Vec::new()), rest),
            Some(inner) => {
                let (inner, rest) = inner.split_once(']').ok_or_else(|| format!("`{text}` has a `[` without its `]`"))?;
                (Selector::parse(inner)?, rest)
            }
        };
        let split = match rest.strip_prefix('.') {
            Some(split) if !split.is_empty() => Some(split.to_owned()),
            None if rest.is_empty() => None,
            _ => return Err(format!("`{text}` is no reference to a stage")),
        };
        Ok(ReferenceText { stage: stage.to_owned(), selector, split })
    }
}

impl Selector {
    fn parse(inner: &str) -> Result<Selector, String> {
        if inner.trim() == "best" {
            return Ok(Selector::Best);
        }
        let mut values = Vec::new();
        for part in inner.split(',') {
            let (axis, value) = part.split_once('=').ok_or_else(|| format!("`[{inner}]` chooses nothing: write `[axis=value]` or `[best]`"))?;
            let value = super::node::plain_scalar(value.trim().trim_matches('"'));
            values.push((axis.trim().to_owned(), value));
        }
        Ok(Selector::Values(values))
    }

    /// The value that it fixes for `axis`.
    pub(super) fn fixed(&self, axis: &str) -> Option<&Value> {
        match self {
            Selector::Values(values) => values.iter().find(|(name, _)| name == axis).map(|(_, value)| value),
            Selector::Best => None,
        }
    }

    /// Whether a cell is among those chosen.
    pub(super) fn admits(&self, cell: &Cell) -> bool {
        cell.iter().all(|(axis, value)| self.fixed(axis).is_none_or(|fixed| same(fixed, &value.value)))
    }
}

/// Places of the stages that `text` names: a stage by its full name, all cells of a base name, or those that
/// `base[axis=value]` chooses.
pub fn matching<'s>(text: &str, stages: impl Iterator<Item = &'s Stage>) -> Vec<usize> {
    let reference = ReferenceText::parse(text).ok().filter(|reference| reference.split.is_none());
    let chosen = |stage: &Stage| match &reference {
        Some(ReferenceText { stage: base, selector: Selector::Values(values), .. }) => {
            stage.base == *base
                && values
                    .iter()
                    .all(|(axis, value)| stage.cell.iter().any(|(name, own)| name == axis && same(&super::node::plain_scalar(own), value)))
        }
        _ => false,
    };
    stages.enumerate().filter(|(_, stage)| stage.name == text || chosen(stage)).map(|(at, _)| at).collect()
}

/// `3e-5`, `3.0e-5` and `0.00003` are one value.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        _ => None,
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => shown(a) == shown(b),
    }
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::SourceId;
    use super::super::node::parse;
    use super::*;

    fn axis(name: &str, yaml: &str) -> Axis {
        let Value::Seq(values) = parse(yaml, SourceId::FILE).unwrap().value else { panic!("a list") };
        Axis { name: name.into(), values }
    }

    #[test]
    fn cells_are_all_combinations_with_stable_names() {
        let axes = [axis("lr", "[3.0e-5, 0.1]"), axis("seed", "[1, 2]")];
        let names: Vec<String> = cells(&axes, 10).unwrap().iter().map(|cell| cell_name("train", cell)).collect();
        assert_eq!(names, ["train[lr=3e-5,seed=1]", "train[lr=3e-5,seed=2]", "train[lr=0.1,seed=1]", "train[lr=0.1,seed=2]"]);
        assert!(cells(&axes, 3).is_none());
        assert_eq!(cell_name("train", &Vec::new()), "train");
    }

    #[test]
    fn references_choose_by_value_and_not_by_spelling() {
        let reference = ReferenceText::parse("train[lr=0.00003].test").unwrap();
        assert_eq!((reference.stage.as_str(), reference.split.as_deref()), ("train", Some("test")));
        let all = cells(&[axis("lr", "[3e-5, 5e-5]")], 10).unwrap();
        assert_eq!(all.iter().map(|cell| reference.selector.admits(cell)).collect::<Vec<_>>(), [true, false]);
        assert_eq!(ReferenceText::parse("train[best]").unwrap().selector, Selector::Best);
        for wrong in ["train[lr=3", "train[lr]", "train.", "train[best]x"] {
            assert!(ReferenceText::parse(wrong).is_err(), "{wrong}");
        }
    }
}
