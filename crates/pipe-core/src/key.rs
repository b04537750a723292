//! The key of a stage: everything that decides its output, and nothing else.
//!
//! ```json
//! {"stage": "train", "version": 1,
//!  "with": {"learning_rate": 3e-05},
//!  "inputs": [{"kind": "tokenize", "parts": {"": "…", "train": "…", "validation": "…"}}],
//!  "sources": ["…"],
//!  "assets": {"model": "…"},
//!  "environment": {"backend": "libtorch 2.11.0", "device": "cpu"}}
//! ```
//!
//! Names, paths, worker counts and settings that equal their default are left out. The components are stored
//! beside the key, so that what changed can be said months later.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::SourceNote;
use crate::config::StageKind;
use crate::digest;

/// All components of one key; serialises to canonical JSON because every map in it is sorted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Components {
    pub stage: StageKind,
    pub version: u32,
    pub with: Value,
    pub inputs: Vec<InputComponent>,
    /// Digests of the source files, in the order they are read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assets: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputComponent {
    pub kind: StageKind,
    /// Content id of each part read: a split's name, or "" for what all splits share.
    pub parts: BTreeMap<String, String>,
}

/// BLAKE3 over the canonical JSON of its [`Components`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    pub fn of(components: &Components) -> Key {
        // `serde_json::Map` is sorted (the feature `preserve_order` is off) and so is every BTreeMap here.
        let json = serde_json::to_vec(components).expect("components are plain data");
        Key(digest::of_bytes(&json))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What differs between two lists of source files, one line each: `source a.csv: content changed, +120 rows`.
pub fn source_differences(old: &[SourceNote], new: &[SourceNote]) -> Vec<String> {
    let by_name = |notes: &[SourceNote]| -> BTreeMap<String, SourceNote> { notes.iter().map(|note| (note.name.clone(), note.clone())).collect() };
    let (before, after) = (by_name(old), by_name(new));
    let mut lines = Vec::new();
    // A file under another name is the same file.
    let renamed = |note: &SourceNote, others: &BTreeMap<String, SourceNote>| others.values().any(|other| other.digest == note.digest);
    for note in new {
        match before.get(&note.name) {
            Some(was) if was.digest == note.digest => {}
            Some(was) => lines.push(format!("source {}: content changed, {}", note.name, growth(was, note))),
            None if renamed(note, &before) => {}
            None => lines.push(format!("source {}: new, {}", note.name, extent(note))),
        }
    }
    lines.extend(
        old.iter()
            .filter(|note| !after.contains_key(&note.name) && !renamed(note, &after))
            .map(|note| format!("source {}: gone, {}", note.name, extent(note))),
    );
    if lines.is_empty() && !old.iter().map(|note| &note.digest).eq(new.iter().map(|note| &note.digest)) {
        lines.push("source files: order changed".into());
    }
    if lines.len() > MAX_SOURCE_LINES {
        let more = lines.len() - MAX_SOURCE_LINES;
        lines.truncate(MAX_SOURCE_LINES);
        lines.push(format!("and {more} more source files"));
    }
    lines
}

/// More changed files than this are counted, not listed.
const MAX_SOURCE_LINES: usize = 8;

fn growth(old: &SourceNote, new: &SourceNote) -> String {
    match (old.records, new.records) {
        (Some(old), Some(new)) if old == new => "as many rows".into(),
        (Some(old), Some(new)) if new.abs_diff(old) == 1 => format!("{:+} row", new as i64 - old as i64),
        (Some(old), Some(new)) => format!("{:+} rows", new as i64 - old as i64),
        _ => format!("{:+} bytes", new.size as i64 - old.size as i64),
    }
}

fn extent(note: &SourceNote) -> String {
    match note.records {
        Some(1) => "1 row".into(),
        Some(records) => format!("{records} rows"),
        None => format!("{} bytes", note.size),
    }
}

/// What differs between two sets of components, sources left out, one line each, such as
/// `with.learning_rate: 5e-5 → 3e-5`.
pub fn differences(old: &Components, new: &Components) -> Vec<String> {
    let mut lines = Vec::new();
    if old.version != new.version {
        lines.push(format!("pipe's own {} stage changed (version {} → {})", new.stage.name(), old.version, new.version));
    }
    settings("with", Some(&old.with), Some(&new.with), Some(&new.stage.default_settings()), &mut lines);
    for (old, new) in old.inputs.iter().zip(&new.inputs) {
        let mut changed: Vec<&str> = Vec::new();
        for part in old.parts.keys().chain(new.parts.keys()) {
            let name = if part.is_empty() { "shared files" } else { part };
            if old.parts.get(part) != new.parts.get(part) && !changed.contains(&name) {
                changed.push(name);
            }
        }
        let whole = |input: &InputComponent| input.parts.keys().all(String::is_empty);
        if !changed.is_empty() && whole(old) && whole(new) {
            lines.push(format!("input from {}: changed", new.kind.name()));
        } else if !changed.is_empty() {
            lines.push(format!("input from {}: {} changed", new.kind.name(), changed.join(", ")));
        }
    }
    if old.inputs.len() != new.inputs.len() {
        lines.push(format!("inputs: {} → {}", old.inputs.len(), new.inputs.len()));
    }
    for (what, old, new) in [("", &old.assets, &new.assets), ("", &old.environment, &new.environment)] {
        for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
            match (old.get(name), new.get(name)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) if a.len() != digest::DIGEST_CHARS => lines.push(format!("{what}{name}: {a} → {b}")),
                (Some(_), Some(_)) => lines.push(format!("{what}{name}: content changed")),
                (None, _) => lines.push(format!("{what}{name}: new")),
                (_, None) => lines.push(format!("{what}{name}: gone")),
            }
        }
    }
    lines
}

/// `old` and `new` are absent where a setting has its default, which is then shown for what it is.
fn settings(path: &str, old: Option<&Value>, new: Option<&Value>, default: Option<&Value>, lines: &mut Vec<String>) {
    let (before, after) = (old.or(default), new.or(default));
    if before == after {
        return;
    }
    let inner = |value: Option<&Value>| value.and_then(Value::as_object).cloned();
    let names: BTreeSet<String> = [before, after].into_iter().filter_map(inner).flat_map(|map| map.into_iter().map(|(name, _)| name)).collect();
    let is_map = |value: Option<&Value>| value.is_none_or(|value| value.is_object() || value.is_null());
    if !names.is_empty() && is_map(before) && is_map(after) {
        for name in names {
            let of = |value: Option<&Value>| value.and_then(|value| value.get(&name)).cloned();
            settings(&format!("{path}.{name}"), of(old).as_ref(), of(new).as_ref(), of(default).as_ref(), lines);
        }
        return;
    }
    let told = |own: Option<&Value>| match (own, default) {
        (Some(value), _) => shown(value),
        (None, Some(Value::Null) | None) => "default".to_owned(),
        (None, Some(value)) => format!("{} (default)", shown(value)),
    };
    lines.push(format!("{path}: {} → {}", told(old), told(new)));
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => shown_number(number.as_f64().unwrap_or(0.0)),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// `5e-5` reads better than `0.00005`, and `1e30` than thirty zeros.
pub(crate) fn shown_number(number: f64) -> String {
    if number != 0.0 && !(1e-3..1e16).contains(&number.abs()) { format!("{number:e}") } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn components(with: Value) -> Components {
        let parts = BTreeMap::from([("train".to_owned(), "a".to_owned())]);
        Components {
            stage: StageKind::Train,
            version: 1,
            with,
            inputs: vec![InputComponent { kind: StageKind::Tokenize, parts }],
            sources: vec![],
            assets: BTreeMap::from([("model".to_owned(), "m".repeat(digest::DIGEST_CHARS))]),
            environment: BTreeMap::from([("device".to_owned(), "cpu".to_owned())]),
        }
    }

    #[test]
    fn a_key_is_the_same_tomorrow() {
        // A changed value here invalidates every cache in the field: bump stage versions instead.
        assert_eq!(Key::of(&components(json!({"learning_rate": 3e-5, "bf16": true}))).as_str(), "45b0e50fe64692d9346d950b6083f590");
        assert_eq!(
            Key::of(&components(json!({"bf16": true, "learning_rate": 3e-5}))).as_str(),
            Key::of(&components(json!({"learning_rate": 3e-5, "bf16": true}))).as_str()
        );
    }

    #[test]
    fn differences_are_named() {
        let old = components(json!({"learning_rate": 5e-5, "parity": {"rows": 3}}));
        let mut new = components(json!({"learning_rate": 3e-5, "bf16": true, "parity": {"rows": 4}}));
        new.inputs[0].parts.insert("train".into(), "b".into());
        new.assets.insert("model".into(), "n".repeat(digest::DIGEST_CHARS));
        new.environment.insert("device".into(), "cuda".into());
        assert_eq!(
            differences(&old, &new),
            [
                "with.bf16: false (default) → true",
                "with.learning_rate: 5e-5 → 3e-5",
                "with.parity.rows: 3 → 4",
                "input from tokenize: train changed",
                "model: content changed",
                "device: cpu → cuda"
            ]
        );
        assert!(differences(&old, &old).is_empty());
    }
}
