//! `predict`: texts to classes and probabilities, in bounded memory, results in input order.
//!
//! Rows are scrubbed and tokenized as the model was trained, sorted by length within a window into batches of a
//! token budget, and written as `id, label, score, prob_<class> …`.

mod stage;

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipe_core::config::{ColumnsConfig, SourceConfig};
use pipe_core::provenance::Provenance;
use pipe_core::source::SourceFile;
use pipe_core::{Batch, Error, Logits, Predictor, Progress, Result, argmax, batches_by_length, digest, softmax};

use serde::{Deserialize, Serialize};

use crate::parquet_io::{TableReader, TableWriter};
use crate::read::{CHUNK_RECORDS, Framer, KeyNames, parse_rows, wanted_for_rows};
use crate::scrub::{EntityModel, ScrubCounts, ScrubKey, ScrubPolicy, Scrubber};
use crate::tokenize::{EncodedRow, TextEncoder, strings};

pub use stage::{Scorer, run};

/// Rows sorted by length together: many enough for uniform batches, few enough for bounded memory.
const WINDOW_ROWS: usize = 8192;

/// Columns of the output whose values rarely repeat.
const PLAIN: [&str; 1] = ["id"];

/// Texts with their ids. No `Debug`: raw text.
#[derive(Default)]
pub struct TextRows {
    pub ids: Vec<String>,
    pub texts: Vec<String>,
    pub pairs: Option<Vec<String>>,
}

/// What prediction did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PredictionCounts {
    pub rows: u64,
    pub truncated: u64,
    pub entities: u64,
}

/// A finished model's way of reading texts.
pub struct TextPipeline {
    provenance: Provenance,
    encoder: TextEncoder,
    scrubber: Option<Scrubber>,
    tokens_per_batch: usize,
}

/// Most rows in one batch, whatever the budget: very short rows gain nothing from more.
const MAX_BATCH_ROWS: usize = 256;

/// What a model's scrub policy may need and no model holds.
#[derive(Default)]
pub struct ScrubAccess {
    pub key: Option<ScrubKey>,
    pub names: Option<EntityModel>,
}

impl TextPipeline {
    /// Reads the tokenizer and `pipe.json` of the model in `folder`. `scrub`: absent, texts are taken as they are.
    /// `already` is the digest of a policy that the texts went through before.
    pub fn open(folder: &Path, scrub: Option<&ScrubAccess>, already: Option<&str>, tokens_per_batch: usize) -> Result<TextPipeline> {
        let provenance = Provenance::read(folder)?;
        let encoder = TextEncoder::reopen(folder, &provenance.tokenize)?;
        let needed = scrub.filter(|_| already != Some(provenance.scrub_digest.as_str()));
        let scrubber = needed.map(|access| scrubber(&provenance, access)).transpose()?;
        Ok(TextPipeline { provenance, encoder, scrubber, tokens_per_batch })
    }

    pub fn labels(&self) -> &[String] {
        &self.provenance.labels
    }

    /// Logits of `rows`, in their order.
    fn logits(
        &self,
        predictor: &mut dyn Predictor,
        rows: &[EncodedRow],
        progress: &dyn Progress,
        mut tick: impl FnMut(u64),
    ) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<u32> = rows.iter().map(|row| row.mask.iter().filter(|&&bit| bit == 1).count() as u32).collect();
        let order: Vec<usize> = (0..rows.len()).collect();
        let mut logits = vec![Vec::new(); rows.len()];
        for batch_rows in batches_by_length(&lengths, &order, MAX_BATCH_ROWS, self.tokens_per_batch) {
            progress.check()?;
            let batch = self.batch(rows, &lengths, &batch_rows);
            let Logits { classes, values } = predictor.predict(&batch)?;
            if classes != self.provenance.labels.len() || values.len() != classes * batch_rows.len() {
                return Err(Error::stage(format!("the model scores {classes} classes, its pipe.json names {}", self.provenance.labels.len())));
            }
            for (row, scores) in batch_rows.iter().zip(values.chunks_exact(classes)) {
                logits[*row] = scores.to_vec();
            }
            tick(batch_rows.len() as u64);
        }
        Ok(logits)
    }

    fn batch(&self, rows: &[EncodedRow], lengths: &[u32], picked: &[usize]) -> Batch {
        // Padding that the model was trained with on disk changes nothing in its scores, so none is added here.
        let length = picked.iter().map(|&row| lengths[row] as usize).max().unwrap_or(1).max(1);
        let mut batch = Batch { length, rows: picked.to_vec(), ..Batch::default() };
        for (at, &row) in picked.iter().enumerate() {
            let (row, real, end) = (&rows[row], lengths[row] as usize, (at + 1) * length);
            batch.input_ids.extend(row.ids[..real].iter().map(|&id| i64::from(id)));
            batch.input_ids.resize(end, i64::from(self.provenance.tokenize.pad_token_id));
            batch.token_type_ids.extend(row.type_ids[..real].iter().map(|&kind| i64::from(kind)));
            batch.token_type_ids.resize(end, i64::from(self.provenance.tokenize.pad_token_type_id));
            batch.attention_mask.resize(at * length + real, 1);
            batch.attention_mask.resize(end, 0);
        }
        batch
    }
}

/// Scores what `rows` yields and writes it to the Parquet file `out`, durably. `total` rows are expected (0: not known).
pub fn predict(
    pipeline: &TextPipeline,
    predictor: &mut dyn Predictor,
    rows: impl Iterator<Item = Result<TextRows>>,
    total: u64,
    out: &Path,
    progress: &dyn Progress,
) -> Result<PredictionCounts> {
    let schema = schema(pipeline.labels());
    let mut writer = TableWriter::create(out, Arc::clone(&schema), &PLAIN)?;
    let mut scoring = Scoring { pipeline, predictor, total, done: 0, progress };
    let counts = scoring.score(rows, |columns| writer.write(columns, &schema))?;
    writer.finish_durably()?;
    Ok(counts)
}

/// What stays the same from window to window, and how far it is.
struct Scoring<'s> {
    pipeline: &'s TextPipeline,
    predictor: &'s mut dyn Predictor,
    total: u64,
    /// Rows scored so far.
    done: u64,
    progress: &'s dyn Progress,
}

impl Scoring<'_> {
    /// Scores rows window by window and hands on the columns of the output.
    fn score(
        &mut self,
        rows: impl Iterator<Item = Result<TextRows>>,
        mut write: impl FnMut(Vec<ArrayRef>) -> Result<()>,
    ) -> Result<PredictionCounts> {
        let mut counts = PredictionCounts::default();
        let mut window = TextRows::default();
        for rows in rows {
            let rows = rows?;
            window.ids.extend(rows.ids);
            window.texts.extend(rows.texts);
            if let Some(pairs) = rows.pairs {
                window.pairs.get_or_insert_default().extend(pairs);
            }
            if window.ids.len() >= WINDOW_ROWS {
                write(self.window(std::mem::take(&mut window), &mut counts)?)?;
            }
        }
        if !window.ids.is_empty() {
            write(self.window(window, &mut counts)?)?;
        }
        Ok(counts)
    }

    fn window(&mut self, window: TextRows, counts: &mut PredictionCounts) -> Result<Vec<ArrayRef>> {
        let TextRows { ids, texts, pairs } = window;
        let pipeline = self.pipeline;
        let pairs_needed = pipeline.provenance.tokenize.text_pair;
        if pairs.is_some() != pairs_needed {
            let (needs, gets) = if pairs_needed { ("pairs of texts", "single texts") } else { ("single texts", "pairs") };
            return Err(Error::usage(format!("the model was trained on {needs} and is given {gets}"))
                .hint("see the column of the second text: `columns.text_pair`, --text-pair"));
        }
        let (texts, pairs) = scrubbed(pipeline.scrubber.as_ref(), texts, pairs, counts)?;
        let encoded = pipeline.encoder.encode(texts, pairs)?;
        if let Some(at) = encoded.iter().position(|row| row.lost > 0)
            && pipeline.encoder.refuses_long_rows()
        {
            return Err(Error::input(format!(
                "row {} is longer than the model reads, which was trained with `truncation: do_not_truncate`",
                ids[at]
            )));
        }
        counts.truncated += encoded.iter().filter(|row| row.lost > 0).count() as u64;
        let (mut done, total, progress) = (self.done, self.total, self.progress);
        let logits = pipeline.logits(self.predictor, &encoded, progress, |rows| {
            done += rows;
            progress.advance(done, total, "rows", "");
        })?;
        self.done += ids.len() as u64;
        counts.rows += ids.len() as u64;
        if let Some(at) = logits.iter().position(|row| row.iter().any(|score| !score.is_finite())) {
            return Err(
                Error::stage(format!("the model gives a score that is not a number for row {}", ids[at])).hint("the model's weights are damaged")
            );
        }
        Ok(columns(ids, &logits, pipeline.labels()))
    }
}

fn scrubber(provenance: &Provenance, access: &ScrubAccess) -> Result<Scrubber> {
    let policy = ScrubPolicy::from_json(&provenance.scrub)?;
    let scrubber = Scrubber::new(&policy, access.key.as_ref())?;
    match (policy.ner(), &access.names) {
        (Some(_), Some(names)) => scrubber.with_model(names),
        (Some(ner), None) => Err(ner.missing()),
        (None, _) => Ok(scrubber),
    }
}

type Texts = (Vec<String>, Option<Vec<String>>);

/// A row that the policy leaves out of training is scored all the same, with placeholders in it: every row that is asked
/// about gets an answer.
fn scrubbed(scrubber: Option<&Scrubber>, texts: Vec<String>, pairs: Option<Vec<String>>, counts: &mut PredictionCounts) -> Result<Texts> {
    let Some(scrubber) = scrubber else { return Ok((texts, pairs)) };
    let mut found = ScrubCounts::default();
    let mut clean = |texts: Vec<String>, column: &str| scrubber.scrub_column(texts, column, &mut found);
    let texts = clean(texts, "text")?;
    let pairs = pairs.map(|pairs| clean(pairs, "text_pair")).transpose()?;
    counts.entities += found.total();
    Ok((texts, pairs))
}

fn schema(labels: &[String]) -> SchemaRef {
    let mut fields =
        vec![Field::new("id", DataType::Utf8, false), Field::new("label", DataType::Utf8, false), Field::new("score", DataType::Float32, false)];
    fields.extend(labels.iter().map(|label| Field::new(format!("prob_{label}"), DataType::Float32, false)));
    Arc::new(Schema::new(fields))
}

fn columns(ids: Vec<String>, logits: &[Vec<f32>], labels: &[String]) -> Vec<ArrayRef> {
    let best: Vec<usize> = logits.iter().map(|row| argmax(row)).collect();
    let probabilities: Vec<Vec<f64>> = logits.iter().map(|row| softmax(row)).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(ids)),
        Arc::new(StringArray::from_iter_values(best.iter().map(|&class| labels[class].as_str()))),
        Arc::new(Float32Array::from_iter_values(probabilities.iter().zip(&best).map(|(row, &class)| row[class] as f32))),
    ];
    for class in 0..labels.len() {
        columns.push(Arc::new(Float32Array::from_iter_values(probabilities.iter().map(|row| row[class] as f32))));
    }
    columns
}

/// Rows of one file of an ingest artifact.
fn part_rows(file: &Path) -> Result<impl Iterator<Item = Result<TextRows>>> {
    Ok(TableReader::open(file)?.map(|batch| {
        let batch = batch?;
        let pairs = batch.column_by_name("text_pair").map(|_| strings(&batch, "text_pair")).transpose()?;
        Ok(TextRows { ids: strings(&batch, "id")?, texts: strings(&batch, "text")?, pairs })
    }))
}

/// Rows of any source file; bad records are counted in `rejected` and left out.
pub fn file_rows<'r>(
    file: &SourceFile,
    source: &SourceConfig,
    columns: &'r ColumnsConfig,
    rejected: &'r mut u64,
) -> Result<impl Iterator<Item = Result<TextRows>> + 'r> {
    let prefix = digest::of_file(&file.path)?[..8].to_owned();
    let mut framer = Framer::open(file, source, &wanted_for_rows(columns), CHUNK_RECORDS)?;
    Ok(std::iter::from_fn(move || {
        let parsed = match framer.next_chunk() {
            Ok(None) => return None,
            Ok(Some(chunk)) => parse_rows(&chunk, columns, &mut KeyNames::default()),
            Err(error) => Err(error),
        };
        Some(parsed.map(|parsed| {
            let mut rows = TextRows { pairs: columns.text_pair.as_ref().map(|_| Vec::new()), ..TextRows::default() };
            for row in parsed {
                let Ok(row) = row else {
                    *rejected += 1;
                    continue;
                };
                rows.ids.push(row.id.unwrap_or_else(|| format!("{prefix}-{}", row.number)));
                rows.texts.push(row.text);
                if let Some(pairs) = &mut rows.pairs {
                    pairs.push(row.text_pair.unwrap_or_default());
                }
            }
            rows
        }))
    }))
}
