//! Names and places found by a token-classification model: any that optimum exports to ONNX.
//!
//! ```text
//! folder/model.onnx        int64 input_ids, attention_mask, [token_type_ids] → float32 logits [rows, tokens, tags]
//! folder/config.json       id2label: tags in the schemes IOB1, IOB2, BIOES, BILOU, or plain ones
//! folder/tokenizer.json
//! ```
//!
//! A text longer than the model reads goes through it in windows that overlap; each token is judged in the window in which
//! it stands farther from an end. A word has the tag of its first token (`aggregation_strategy="first"` of transformers).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use pipe_core::{Batch, Error, IoContext, Logits, Result, argmax, batches_by_length, digest, softmax};
use serde::Deserialize;
use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationDirection};

use super::{Entity, Hit, NerPolicy, Verdict};

/// The files of a model's folder that its spans follow from; the last may be missing.
pub const MODEL_FILES: [&str; 4] = ["config.json", "tokenizer.json", "model.onnx", "model.onnx_data"];

/// Tokens of one window, special ones included, where the model does not say less.
const WINDOW: usize = 512;
/// Bounds memory: rows and tokens of one batch.
const BATCH_ROWS: usize = 32;
const BATCH_TOKENS: usize = 8192;

/// Finds spans in texts: one list for each, in order.
pub type FindSpans = dyn Fn(&[&str]) -> Result<Vec<Vec<ModelSpan>>> + Send + Sync;
/// Scores of each token slot of a batch.
pub type ScoreTokens = dyn Fn(&Batch) -> Result<Logits> + Send + Sync;

/// A model that finds names. Shared by all threads.
#[derive(Clone)]
pub struct EntityModel {
    /// Of its files.
    pub digest: String,
    /// What computes it: other versions may give other scores.
    pub runtime: String,
    /// Kinds that its tags name, without `B-` and `I-`.
    pub tags: BTreeSet<String>,
    pub find: Arc<FindSpans>,
}

/// A span that a model found: byte offsets, never the text.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpan {
    pub start: usize,
    pub end: usize,
    /// The model's tag, without `B-` and `I-`.
    pub tag: String,
    /// Mean probability of its words, up to 1.
    pub score: f32,
}

/// Opens the model in `folder`; `scorer` opens its graph, which scores so many tags, in the version `runtime` of what computes it.
pub fn open(folder: &Path, runtime: String, scorer: impl FnOnce(usize) -> Result<Arc<ScoreTokens>>) -> Result<EntityModel> {
    let digest = model_digest(folder)?;
    let config: ModelConfig = {
        let path = folder.join(MODEL_FILES[0]);
        let bytes = std::fs::read(&path).doing("read", &path)?;
        let bad = |e: serde_json::Error| Error::input(format!("{} cannot be read (line {}, column {})", path.display(), e.line(), e.column()));
        serde_json::from_slice(&bytes).map_err(bad)?
    };
    let tags: Option<Vec<Tag>> = (0..config.id2label.len()).map(|id| config.id2label.get(&id.to_string()).map(|tag| Tag::of(tag))).collect();
    let Some(tags) = tags.filter(|tags| !tags.is_empty()) else {
        return Err(Error::input(format!("`id2label` of {} does not name the tags from 0 on", folder.join(MODEL_FILES[0]).display()))
            .hint("give a model for token classification, exported with its config.json"));
    };
    let tokenizer = tokenizer(folder)?;
    let special = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
    let window = config.window().saturating_sub(special).max(4);
    let score = scorer(tags.len())?;
    let kinds = tags.iter().filter_map(|tag| tag.kind.clone()).collect();
    let model = Model { tokenizer, window, tags, pad_token_id: config.pad_token_id.unwrap_or(0), score };
    Ok(EntityModel { digest, runtime, tags: kinds, find: Arc::new(move |texts| model.find(texts)) })
}

#[derive(Deserialize)]
struct ModelConfig {
    #[serde(default)]
    id2label: BTreeMap<String, String>,
    max_position_embeddings: Option<usize>,
    pad_token_id: Option<i64>,
    #[serde(default)]
    model_type: String,
}

impl ModelConfig {
    fn window(&self) -> usize {
        // RoBERTa and its kin count positions from behind the padding's.
        let taken = if self.model_type.contains("roberta") || self.model_type == "camembert" { self.pad_token_id.unwrap_or(1) + 1 } else { 0 };
        let positions = self.max_position_embeddings.unwrap_or(WINDOW);
        positions.saturating_sub(usize::try_from(taken).unwrap_or(0)).clamp(8, WINDOW)
    }
}

fn tokenizer(folder: &Path) -> Result<Tokenizer> {
    let path = folder.join(MODEL_FILES[1]);
    let bad = |_| Error::input(format!("{} cannot be read as a tokenizer", path.display()));
    let mut tokenizer = Tokenizer::from_file(&path).map_err(bad)?;
    tokenizer.with_padding(None);
    // What it would cut off goes through the model in windows.
    tokenizer.with_truncation(None).map_err(bad)?;
    Ok(tokenizer)
}

/// What a tag says: the part of a span, and of which kind. `O` has no kind.
#[derive(Debug, PartialEq)]
struct Tag {
    begins: bool,
    ends: bool,
    kind: Option<String>,
}

impl Tag {
    fn of(tag: &str) -> Tag {
        let (begins, ends, kind) = match tag.split_once(['-', '_']) {
            Some(("B", kind)) => (true, false, kind),
            Some(("I" | "M", kind)) => (false, false, kind),
            Some(("E" | "L", kind)) => (false, true, kind),
            Some(("S" | "U", kind)) => (true, true, kind),
            _ => (false, false, tag),
        };
        Tag { begins, ends, kind: Some(kind).filter(|kind| *kind != "O").map(str::to_owned) }
    }
}

struct Model {
    tokenizer: Tokenizer,
    /// Tokens of a text that go through the model together.
    window: usize,
    tags: Vec<Tag>,
    pad_token_id: i64,
    score: Arc<ScoreTokens>,
}

/// A word of a text with the most probable tag of its first token.
struct Word {
    start: usize,
    end: usize,
    tag: usize,
    probability: f64,
}

impl Model {
    fn find(&self, texts: &[&str]) -> Result<Vec<Vec<ModelSpan>>> {
        // Tokens that a window shares with the one before it.
        let stride = self.window / 4;
        // Windows of all texts, in their order.
        let mut windows: Vec<(usize, Encoding)> = Vec::new();
        for (at, text) in texts.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            // The library's message may quote the text.
            let failed = |_| Error::stage("the tokenizer of the model that finds names cannot encode a row");
            let mut first = self.tokenizer.encode(*text, false).map_err(failed)?;
            first.truncate(self.window, stride, TruncationDirection::Right);
            let more = first.take_overflowing();
            for window in std::iter::once(first).chain(more) {
                windows.push((at, self.tokenizer.post_process(window, None, true).map_err(failed)?));
            }
        }
        let best = self.best_tags(&windows)?;
        let mut spans = Vec::with_capacity(texts.len());
        let mut from = 0;
        for (at, text) in texts.iter().enumerate() {
            let count = windows[from..].iter().take_while(|(of, _)| *of == at).count();
            let words = words(&windows[from..from + count], &best[from..from + count], stride);
            spans.push(self.spans(text, words));
            from += count;
        }
        Ok(spans)
    }

    /// The most probable tag of each token, with its probability.
    fn best_tags(&self, windows: &[(usize, Encoding)]) -> Result<Vec<Vec<(usize, f64)>>> {
        let lengths: Vec<u32> = windows.iter().map(|(_, window)| window.len() as u32).collect();
        let order: Vec<usize> = (0..windows.len()).collect();
        let mut best = vec![Vec::new(); windows.len()];
        for picked in batches_by_length(&lengths, &order, BATCH_ROWS, BATCH_TOKENS) {
            let length = picked.iter().map(|&at| lengths[at] as usize).max().unwrap_or(1);
            let mut batch = Batch { length, rows: picked.clone(), ..Batch::default() };
            for (at, &window) in picked.iter().enumerate() {
                let encoding = &windows[window].1;
                let end = (at + 1) * length;
                batch.input_ids.extend(encoding.get_ids().iter().map(|&id| i64::from(id)));
                batch.input_ids.resize(end, self.pad_token_id);
                batch.token_type_ids.extend(encoding.get_type_ids().iter().map(|&id| i64::from(id)));
                batch.token_type_ids.resize(end, 0);
                batch.attention_mask.resize(at * length + encoding.len(), 1);
                batch.attention_mask.resize(end, 0);
            }
            let scores = (self.score)(&batch)?;
            if scores.classes != self.tags.len() || scores.values.len() != scores.classes * length * picked.len() {
                return Err(Error::stage("the model that finds names gives another number of scores than its config.json says"));
            }
            for (&window, scores) in picked.iter().zip(scores.values.chunks_exact(scores.classes * length)) {
                let tokens = lengths[window] as usize;
                best[window] =
                    scores.chunks_exact(self.tags.len()).take(tokens).map(|token| (argmax(token), softmax(token)[argmax(token)])).collect();
            }
        }
        Ok(best)
    }

    /// Words of one kind beside each other are one span, unless a tag begins or ends one.
    fn spans(&self, text: &str, words: Vec<Word>) -> Vec<ModelSpan> {
        let mut spans: Vec<(ModelSpan, f64, usize)> = Vec::new();
        let mut open = false;
        for word in words {
            let tag = &self.tags[word.tag];
            let Some(kind) = &tag.kind else {
                open = false;
                continue;
            };
            match spans.last_mut().filter(|(span, ..)| open && !tag.begins && span.tag == *kind) {
                Some((span, sum, count)) => {
                    span.end = word.end;
                    *sum += word.probability;
                    *count += 1;
                }
                None => spans.push((ModelSpan { start: word.start, end: word.end, tag: kind.clone(), score: 0.0 }, word.probability, 1)),
            }
            open = !tag.ends;
        }
        let finished = spans.into_iter().filter_map(|(mut span, sum, count)| {
            // Some tokenizers count the space before a word as part of it.
            let inner = text.get(span.start..span.end)?;
            span.start += inner.len() - inner.trim_start().len();
            span.end = span.start + inner.trim().len();
            span.score = (sum / count as f64) as f32;
            (span.start < span.end).then_some(span)
        });
        finished.collect()
    }
}

/// Words of one text out of its windows.
fn words(windows: &[(usize, Encoding)], best: &[Vec<(usize, f64)>], stride: usize) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut last_word = None;
    for (at, ((_, window), tags)) in windows.iter().zip(best).enumerate() {
        let tokens: Vec<usize> = (0..window.len()).filter(|&token| window.get_special_tokens_mask()[token] == 0).collect();
        // Of what two windows share, half is judged in each.
        let skip = if at == 0 { 0 } else { stride / 2 };
        let drop = if at + 1 == windows.len() { 0 } else { stride - stride / 2 };
        let keep = tokens.len().saturating_sub(drop);
        for &token in tokens.get(skip..keep.max(skip)).unwrap_or(&[]) {
            let (start, end) = window.get_offsets()[token];
            let word = window.get_word_ids()[token];
            match words.last_mut() {
                Some(open) if word.is_some() && word == last_word => open.end = open.end.max(end),
                _ => {
                    let (tag, probability) = tags[token];
                    words.push(Word { start, end, tag, probability });
                }
            }
            last_word = word;
        }
    }
    words
}

/// The digest of a model's files.
pub fn model_digest(folder: &Path) -> Result<String> {
    let mut content = String::new();
    for name in MODEL_FILES {
        let path = folder.join(name);
        if path.is_file() {
            content += &format!("{name}\0{}\n", digest::of_file(&path)?);
        } else if name != MODEL_FILES[3] {
            return Err(Error::input(format!("{} has no {name}", folder.display()))
                .hint("export a token-classification model to ONNX, for example with `optimum-cli export onnx`"));
        }
    }
    Ok(digest::of_bytes(content.as_bytes()))
}

/// What the model's spans are by the policy.
pub(super) fn hits(policy: &NerPolicy, model: &EntityModel, texts: &[&str]) -> Result<Vec<Vec<Hit>>> {
    let spans = (model.find)(texts)?;
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

#[cfg(test)]
mod tests;
