//! `predict`: rows to classes, numbers, tags, answers or texts, in bounded memory, results in input order.
//!
//! Rows are scrubbed and tokenized as the model was trained, sorted by length within a window into batches of a
//! token budget, and written as `output.rs` has it for the task.

mod generate;
mod input;
mod output;
mod stage;
mod texts;

use std::path::Path;
use std::sync::Arc;

use arrow_array::ArrayRef;
use pipe_core::config::{ColumnsConfig, SourceConfig};
use pipe_core::generate::{GenerationConfig, LanguageModel};
use pipe_core::provenance::Provenance;
use pipe_core::source::SourceFile;
use pipe_core::{AnswerSearch, Batch, Error, Logits, Predictor, Progress, Result, Task, batches_by_length, digest};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::parquet_io::{TableReader, TableWriter};
use crate::read::{CHUNK_RECORDS, Framer, KeyNames, parse_rows, wanted_for_rows};
use crate::scrub::{EntityModel, ScrubKey, ScrubPolicy, Scrubber};
use crate::tokenize::{ChatTemplate, EncodedRow, TextEncoder, WindowTokens};

pub use input::{InputRows, Texts};
pub use stage::{PREDICTIONS, Scorer, run, scrubbed_by, summary};
pub use texts::evaluate_texts;

/// Rows sorted by length together: many enough for uniform batches, few enough for bounded memory.
const WINDOW_ROWS: usize = 8192;

/// Questions whose windows are scored together: a long context has many.
const QUESTIONS: usize = 256;

/// Columns of the output whose values rarely repeat.
const PLAIN: [&str; 1] = ["id"];

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
    /// Of a language model that was tuned on chats.
    template: Option<ChatTemplate>,
    tokens_per_batch: usize,
}

/// What answers.
pub enum Engine<'m> {
    Scores(&'m mut dyn Predictor),
    Writes { model: &'m mut dyn LanguageModel, generation: &'m GenerationConfig },
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
        let template = provenance.tokenize.chat.then(|| ChatTemplate::open(folder, provenance.tokenize.chat_template.as_deref())).transpose()?;
        Ok(TextPipeline { provenance, encoder, scrubber, template, tokens_per_batch })
    }

    pub fn labels(&self) -> &[String] {
        &self.provenance.labels
    }

    pub fn task(&self) -> Task {
        self.provenance.task
    }

    /// How many numbers the model gives for a row or a slot.
    fn scores(&self) -> usize {
        match self.task() {
            Task::QuestionAnswering => 2,
            Task::Regression => 1,
            _ => self.provenance.labels.len(),
        }
    }

    /// Scores of `rows`, in their order: of each as a whole, or of its `slots` one after the other.
    fn logits(
        &self,
        predictor: &mut dyn Predictor,
        rows: &[EncodedRow],
        slots: Option<&[Vec<usize>]>,
        progress: &dyn Progress,
        mut tick: impl FnMut(u64),
    ) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<u32> = rows.iter().map(|row| row.mask.iter().filter(|&&bit| bit != 0).count() as u32).collect();
        let order: Vec<usize> = (0..rows.len()).collect();
        let mut logits = vec![Vec::new(); rows.len()];
        for batch_rows in batches_by_length(&lengths, &order, MAX_BATCH_ROWS, self.tokens_per_batch) {
            progress.check()?;
            let mut batch = self.batch(rows, &lengths, &batch_rows);
            if let Some(slots) = slots {
                let of_row = |(at, &row): (usize, &usize)| slots[row].iter().map(move |slot| (at * batch.length + slot) as i64);
                let all: Vec<i64> = batch_rows.iter().enumerate().flat_map(of_row).collect();
                batch.slots = Some(all);
            }
            let Logits { classes, values } = predictor.predict(&batch)?;
            let items = |row: usize| slots.map_or(1, |slots| slots[row].len());
            if classes != self.scores() || values.len() != classes * batch_rows.iter().map(|&row| items(row)).sum::<usize>() {
                return Err(Error::stage(format!("the model gives {classes} scores, its pipe.json asks for {}", self.scores())));
            }
            let mut rest = values.as_slice();
            for &row in &batch_rows {
                let (of_row, others) = rest.split_at(classes * items(row));
                logits[row] = of_row.to_vec();
                rest = others;
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
pub fn predict<'s>(
    pipeline: &'s TextPipeline,
    engine: Engine<'s>,
    rows: impl Iterator<Item = Result<InputRows>>,
    total: u64,
    out: &Path,
    progress: &'s dyn Progress,
) -> Result<PredictionCounts> {
    let schema = output::schema(pipeline.task(), pipeline.labels());
    let mut writer = TableWriter::create(out, Arc::clone(&schema), &PLAIN)?;
    let mut scoring = Scoring { pipeline, engine: Some(engine), total, done: 0, progress };
    let counts = scoring.score(rows, |columns| writer.write(columns, &schema))?;
    writer.finish_durably()?;
    Ok(counts)
}

/// What stays the same from window to window, and how far it is.
struct Scoring<'s> {
    pipeline: &'s TextPipeline,
    /// Absent while it works.
    engine: Option<Engine<'s>>,
    total: u64,
    /// Rows scored so far.
    done: u64,
    progress: &'s dyn Progress,
}

impl Scoring<'_> {
    /// Scores rows window by window and hands on the columns of the output.
    fn score(
        &mut self,
        rows: impl Iterator<Item = Result<InputRows>>,
        mut write: impl FnMut(Vec<ArrayRef>) -> Result<()>,
    ) -> Result<PredictionCounts> {
        let mut counts = PredictionCounts::default();
        let mut window: Option<InputRows> = None;
        for rows in rows {
            let rows = rows?;
            match &mut window {
                Some(window) => window.extend(rows)?,
                None => window = Some(rows),
            }
            if let Some(full) = window.take_if(|window| window.ids.len() >= WINDOW_ROWS) {
                write(self.window(full, &mut counts)?)?;
            }
        }
        if let Some(rest) = window.filter(|window| !window.ids.is_empty()) {
            write(self.window(rest, &mut counts)?)?;
        }
        Ok(counts)
    }

    fn window(&mut self, mut window: InputRows, counts: &mut PredictionCounts) -> Result<Vec<ArrayRef>> {
        let pipeline = self.pipeline;
        if let Some(scrubber) = &pipeline.scrubber {
            counts.entities += window.scrub(scrubber)?;
        }
        let InputRows { ids, texts } = window;
        counts.rows += ids.len() as u64;
        if pipeline.task() == Task::CausalLm {
            let Some(Engine::Writes { model, generation }) = self.engine.take() else {
                return Err(Error::internal("a language model that only scores"));
            };
            let columns = self.texts(model, generation, ids, texts, counts);
            self.engine = Some(Engine::Writes { model, generation });
            return columns;
        }
        match (pipeline.task(), texts) {
            (Task::TokenClassification, Texts::Words(words)) => self.words(ids, &words, counts),
            (Task::QuestionAnswering, Texts::Questions { questions, contexts }) => self.questions(ids, &questions, &contexts, counts),
            (task, texts) if task.scores_rows() => self.rows(task, ids, texts, counts),
            (task, _) => Err(Error::usage(format!("the model was trained for {}, and these rows are none for it", task.name()))),
        }
    }

    fn rows(&mut self, task: Task, ids: Vec<String>, texts: Texts, counts: &mut PredictionCounts) -> Result<Vec<ArrayRef>> {
        let pipeline = self.pipeline;
        let (texts, pairs) = match texts {
            Texts::Single(texts) => (texts, None),
            Texts::Pairs(texts, pairs) => (texts, Some(pairs)),
            _ => return Err(Error::usage(format!("the model was trained for {}, which reads texts", task.name()))),
        };
        let pairs_needed = pipeline.provenance.tokenize.text_pair;
        if pairs.is_some() != pairs_needed {
            let (needs, gets) = if pairs_needed { ("pairs of texts", "single texts") } else { ("single texts", "pairs") };
            return Err(Error::usage(format!("the model was trained on {needs} and is given {gets}"))
                .hint("see the column of the second text: `columns.text_pair`, --text-pair"));
        }
        let encoded = pipeline.encoder.encode(texts, pairs)?;
        self.check_lengths(&ids, &encoded)?;
        counts.truncated += encoded.iter().filter(|row| row.lost > 0).count() as u64;
        let logits = self.logits(&encoded, None, &|row| ids[row].clone(), ids.len() as u64)?;
        Ok(match task {
            Task::MultiLabelClassification => output::flags(ids, &logits, pipeline.labels()),
            Task::Regression => output::values(ids, &logits),
            _ => output::classes(ids, &logits, pipeline.labels()),
        })
    }

    fn words(&mut self, ids: Vec<String>, words: &[Vec<String>], counts: &mut PredictionCounts) -> Result<Vec<ArrayRef>> {
        let encoded: Vec<(EncodedRow, Vec<Option<usize>>)> =
            words.par_iter().map(|words| self.pipeline.encoder.words(words)).collect::<Result<_>>()?;
        let (mut rows, mut slots, mut scored) = (Vec::with_capacity(words.len()), Vec::new(), Vec::new());
        for (row, word_of) in encoded {
            // The first token of each word is asked, as it was in training.
            let firsts = (0..word_of.len()).filter(|&at| word_of[at].is_some() && (at == 0 || word_of[at - 1] != word_of[at]));
            let firsts: Vec<usize> = firsts.collect();
            scored.push(firsts.iter().filter_map(|&at| word_of[at]).collect::<Vec<usize>>());
            slots.push(firsts);
            counts.truncated += u64::from(row.lost > 0);
            rows.push(row);
        }
        self.check_lengths(&ids, &rows)?;
        let logits = self.logits(&rows, Some(&slots), &|row| ids[row].clone(), ids.len() as u64)?;
        Ok(output::tags(ids, words, &scored, &logits, self.pipeline.labels()))
    }

    fn questions(&mut self, ids: Vec<String>, questions: &[String], contexts: &[String], counts: &mut PredictionCounts) -> Result<Vec<ArrayRef>> {
        let mut found = vec![AnswerSearch::default(); ids.len()];
        for first in (0..ids.len()).step_by(QUESTIONS) {
            let some = first..(first + QUESTIONS).min(ids.len());
            self.answers(&ids[some.clone()], &questions[some.clone()], &contexts[some.clone()], &mut found[some], counts)?;
        }
        Ok(output::answers(ids, contexts, &found, self.pipeline.provenance.tokenize.no_answers))
    }

    fn answers(
        &mut self,
        ids: &[String],
        questions: &[String],
        contexts: &[String],
        found: &mut [AnswerSearch],
        counts: &mut PredictionCounts,
    ) -> Result<()> {
        let encoder = &self.pipeline.encoder;
        let windows: Vec<Vec<WindowTokens>> = questions
            .par_iter()
            .zip(contexts)
            // A question that leaves no room for a context has no answer.
            .map(|(question, context)| Ok(encoder.windows(question, context)?.unwrap_or_default()))
            .collect::<Result<_>>()?;
        let (mut rows, mut offsets, mut question_of, mut slots) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (question, windows) in windows.into_iter().enumerate() {
            counts.truncated += u64::from(windows.is_empty());
            for WindowTokens { tokens: row, offsets: of_window } in windows {
                slots.push((0..row.mask.iter().filter(|&&bit| bit != 0).count()).collect::<Vec<usize>>());
                offsets.push(of_window);
                question_of.push(question);
                rows.push(row);
            }
        }
        let logits = self.logits(&rows, Some(&slots), &|window| ids[question_of[window]].clone(), ids.len() as u64)?;
        for ((question, offsets), logits) in question_of.iter().zip(&offsets).zip(&logits) {
            let pairs: Vec<[i32; 2]> = offsets.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
            found[*question].add(logits, &pairs);
        }
        Ok(())
    }

    fn check_lengths(&self, ids: &[String], rows: &[EncodedRow]) -> Result<()> {
        match rows.iter().position(|row| row.lost > 0).filter(|_| self.pipeline.encoder.refuses_long_rows()) {
            Some(at) => {
                Err(Error::input(format!("row {} is longer than the model reads, which was trained with `truncation: do_not_truncate`", ids[at])))
            }
            None => Ok(()),
        }
    }

    /// Scores of encoded rows, all of them numbers; `of_input` is how many rows of the input they are.
    fn logits(
        &mut self,
        rows: &[EncodedRow],
        slots: Option<&[Vec<usize>]>,
        row_id: &dyn Fn(usize) -> String,
        of_input: u64,
    ) -> Result<Vec<Vec<f32>>> {
        let (mut scored, done, total, progress) = (0, self.done, self.total, self.progress);
        let Some(Engine::Scores(predictor)) = &mut self.engine else { return Err(Error::internal("a model that gives no scores")) };
        let logits = self.pipeline.logits(*predictor, rows, slots, progress, |some| {
            scored += some;
            progress.advance(done + scored * of_input / rows.len().max(1) as u64, total, "rows", "");
        })?;
        self.done += of_input;
        if let Some(at) = logits.iter().position(|row| row.iter().any(|score| !score.is_finite())) {
            return Err(
                Error::stage(format!("the model gives a score that is not a number for row {}", row_id(at))).hint("the model's weights are damaged")
            );
        }
        Ok(logits)
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

/// Rows of one file of an ingest artifact.
fn part_rows(file: &Path, task: Task) -> Result<impl Iterator<Item = Result<InputRows>>> {
    Ok(TableReader::open(file)?.map(move |batch| InputRows::of_batch(&batch?, task)))
}

/// Rows of any source file; bad records are counted in `rejected` and left out.
pub fn file_rows<'r>(
    file: &SourceFile,
    source: &SourceConfig,
    columns: &'r ColumnsConfig,
    rejected: &'r mut u64,
) -> Result<impl Iterator<Item = Result<InputRows>> + 'r> {
    let prefix = digest::of_file(&file.path)?[..8].to_owned();
    let mut framer = Framer::open(file, source, &wanted_for_rows(columns), CHUNK_RECORDS)?;
    Ok(std::iter::from_fn(move || {
        let parsed = match framer.next_chunk() {
            Ok(None) => return None,
            Ok(Some(chunk)) => parse_rows(&chunk, columns, &mut KeyNames::default()),
            Err(error) => Err(error),
        };
        Some(parsed.map(|parsed| {
            let (mut ids, mut texts) = (Vec::with_capacity(parsed.len()), Vec::with_capacity(parsed.len()));
            let mut pairs = columns.text_pair.as_ref().map(|_| Vec::new());
            for row in parsed {
                let Ok(row) = row else {
                    *rejected += 1;
                    continue;
                };
                ids.push(row.id.unwrap_or_else(|| format!("{prefix}-{}", row.number)));
                texts.push(row.text);
                if let Some(pairs) = &mut pairs {
                    pairs.push(row.text_pair.unwrap_or_default());
                }
            }
            let texts = match pairs {
                Some(pairs) => Texts::Pairs(texts, pairs),
                None => Texts::Single(texts),
            };
            InputRows { ids, texts }
        }))
    }))
}
