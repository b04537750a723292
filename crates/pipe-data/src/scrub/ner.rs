//! Names and places found by a token-classification model.

use std::path::Path;
use std::sync::Arc;

use pipe_core::{Error, Result, digest};

use super::{Entity, Hit, NerPolicy, Verdict};

/// Finds spans in texts: one list for each, in order. Shared by all threads.
pub type EntityModel = Arc<dyn Fn(&[&str]) -> Result<Vec<Vec<ModelSpan>>> + Send + Sync>;

/// A span that a model found: byte offsets, never the text.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpan {
    pub start: usize,
    pub end: usize,
    /// The model's tag, without `B-` and `I-`.
    pub tag: String,
    /// Probability, up to 1.
    pub score: f32,
}

/// What the model's spans are by the policy.
pub(super) fn hits(policy: &NerPolicy, model: &EntityModel, texts: &[&str]) -> Result<Vec<Vec<Hit>>> {
    let spans = model(texts)?;
    if spans.len() != texts.len() {
        return Err(Error::internal("the model that finds names gives other texts back"));
    }
    let hits_of = |(spans, text): (Vec<ModelSpan>, &&str)| -> Vec<Hit> {
        let hit = |span: ModelSpan| {
            let name = policy.labels.get(&span.tag)?;
            let entity = *Entity::ALL.iter().find(|entity| entity.name() == name)?;
            let whole = span.start < span.end && text.is_char_boundary(span.start) && text.is_char_boundary(span.end);
            let sure = f64::from(span.score) >= policy.threshold;
            (whole && sure).then_some(Hit { entity, start: span.start, end: span.end, score: span.score, verdict: Verdict::Model })
        };
        spans.into_iter().filter_map(hit).collect()
    };
    Ok(spans.into_iter().zip(texts).map(hits_of).collect())
}

/// The files of a model's folder that its spans follow from; the last may be missing.
pub const MODEL_FILES: [&str; 4] = ["config.json", "tokenizer.json", "model.onnx", "model.onnx_data"];

/// The digest of a model's files.
pub fn model_digest(folder: &Path) -> Result<String> {
    let mut hasher = Vec::new();
    for name in MODEL_FILES {
        let path = folder.join(name);
        if path.is_file() {
            hasher.extend_from_slice(format!("{name}\0{}\n", digest::of_file(&path)?).as_bytes());
        } else if name != MODEL_FILES[3] {
            return Err(Error::input(format!("{} has no {name} (named by `scrub.ner.model`)", folder.display()))
                .hint("export a token-classification model to ONNX, for example with `optimum-cli export onnx`"));
        }
    }
    Ok(digest::of_bytes(&hasher))
}
