//! `tokenize`: ingest's Parquet to token ids, with the tokenizer's own files carried along.
//!
//! ```text
//! train/part-00000.parquet …   id, input_ids, attention_mask, and by task: token_type_ids; label, labels, value;
//!                              offsets, context, answers, start_position, end_position; then what `keep_columns` names
//! tokenizer/…                  the tokenizer's files as they were, or those of one that was trained on the rows
//! pipe.json                    task, labels, scrub policy, tokenization: what a text must go through for this model
//! report.json                  rows and tokens cut, rows left out
//! ```
//!
//! What a task makes of rows is one file: `sequence.rs`, `words.rs`, `answers.rs`, `language.rs`.

mod answers;
mod chat;
mod encoder;
mod gguf;
mod language;
mod packing;
mod report;
mod row;
mod sequence;
mod shape;
mod train;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use pipe_core::cache::{Artifact, ShardKey, Shards};
use pipe_core::config::{StageKind, TokenizeConfig};
use pipe_core::provenance::{Provenance, Tokenization};
use pipe_core::{Error, IoContext, Progress, Result, Summary, Task};

use serde_json::json;

use crate::kept;
use crate::parquet_io::{TableReader, TableWriter};
use crate::parts::{Part, parts_of};
use crate::scrub::ScrubPolicy;

pub use chat::{ChatTemplate, Turn};
pub use encoder::{EncodedRow, TextEncoder, WindowTokens, length_limit, tokenizer_files};
pub(crate) use language::messages;
use report::{SplitTokens, TokenReport};
pub(crate) use row::IGNORED;
use shape::Shaper;
pub(crate) use shape::task_of;
pub use train::split_to_train_on;
pub(crate) use words::lists;

/// The folder of the tokenizer's files in a token artifact.
pub const TOKENIZER_FOLDER: &str = "tokenizer";

/// Runs the stage: the given splits of the ingest artifact `rows`, part by part.
pub fn run(
    config: &TokenizeConfig,
    root: &Path,
    rows: &Artifact,
    splits: &BTreeMap<String, u64>,
    out: &Path,
    shards: &Shards,
    progress: &dyn Progress,
) -> Result<Summary> {
    let parts = parts_of(rows, splits);
    let columns = match parts.first() {
        Some(part) => TableReader::open(&part.path)?.schema(),
        None => return Err(Error::input("there are no rows to tokenize")),
    };
    let task = task_of(config.task, &columns)?;
    config.check_task(task).map_err(|complaint| Error { hint: complaint.hint, ..Error::usage(complaint.message) })?;
    let labels: Vec<String> = read_json(&rows.path.join("labels.json"))?;
    let policy: ScrubPolicy = read_json(&rows.path.join("scrub.json"))?;
    let carried = out.join(TOKENIZER_FOLDER);
    let (folder, trained) = match (config.training(), config.tokenizer.folder()) {
        (Some(training), _) => (carried.clone(), Some(train::train(training, config.max_length, rows, &carried, progress)?)),
        (None, Some(given)) => (gguf::unpacked(&root.join(given), &carried)?, None),
        (None, None) => return Err(Error::internal("a tokenize stage without a tokenizer")),
    };
    let text_pair = columns.field_with_name("text_pair").is_ok() && task.scores_rows();
    let encoder = shape::windowed(TextEncoder::open(&folder, config, text_pair)?, config, task)?;
    let shaper = Shaper::new(task, config, &encoder, &labels, &columns, &folder)?;
    let mut report = TokenReport::new(encoder.tokenization().max_length);
    let kept = config.keep_columns.as_slice();
    let schema = kept::with_kept(&shaper.schema(), &columns, kept)?;
    let mut tokenizing = Tokenizing { shaper: &shaper, kept, schema, shards, progress, total: splits.values().sum(), done: 0 };
    for split in splits.keys() {
        std::fs::create_dir_all(out.join(split)).doing("make the folder", &out.join(split))?;
        report.splits.insert(split.clone(), SplitTokens::default());
    }
    for part in &parts {
        let tokens = tokenizing.part(part, &out.join(&part.split).join(&part.name))?;
        report.splits.entry(part.split.clone()).or_default().add(&tokens);
    }
    report.check_skipped(config.max_skipped_ratio())?;
    if folder != carried {
        copy_tokenizer(&folder, &carried)?;
    }
    report.trained_tokenizer = trained;
    let done = tokenizing.done;
    let written = report.splits.iter().map(|(split, tokens)| (split.clone(), tokens.rows)).collect();
    let scrub = serde_json::to_value(&policy).expect("plain data");
    let labels = if task.has_classes() { labels.clone() } else { Vec::new() };
    let no_answers = report.splits.values().any(|split| split.unanswered > 0);
    let eos_token_id = shaper.ending().filter(|_| task == Task::CausalLm).map(|id| id as u32);
    let tokenization = Tokenization { no_answers, eos_token_id, chat: shaper.is_of_chats(), ..encoder.tokenization().clone() };
    Provenance::new(task, labels, tokenization, scrub, policy.digest()).write(out)?;
    let path = out.join("report.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&report).expect("plain data")).doing("write", &path)?;
    let figures = BTreeMap::from([("report".to_owned(), json!(report)), ("shards".to_owned(), shards.figures())]);
    Ok(Summary { splits: written, rows: done, line: report.line(), table: String::new(), figures })
}

/// What stays the same from part to part, and how far it is.
struct Tokenizing<'t> {
    shaper: &'t Shaper<'t>,
    /// Columns of the rows that are carried along.
    kept: &'t [String],
    /// Of what is written.
    schema: SchemaRef,
    shards: &'t Shards,
    progress: &'t dyn Progress,
    total: u64,
    done: u64,
}

impl Tokenizing<'_> {
    /// A finished part of an earlier run, or one that is made and kept for later ones.
    fn part(&mut self, part: &Part, target: &Path) -> Result<SplitTokens> {
        self.progress.check()?;
        let mut made_from = json!({"part": part.digest, "shape": self.shaper.identity()});
        if !self.kept.is_empty() {
            made_from["kept"] = json!(self.kept);
        }
        let key = ShardKey::of(StageKind::Tokenize, &made_from);
        if let Some(tokens) = self.shards.link::<SplitTokens>(&key, target)? {
            self.advance(tokens.rows_in());
            return Ok(tokens);
        }
        part.verify()?;
        let tokens = self.tokenize(&part.path, target)?;
        self.shards.keep(&key, target, &tokens)?;
        Ok(tokens)
    }

    fn tokenize(&mut self, file: &Path, target: &Path) -> Result<SplitTokens> {
        let schema = Arc::clone(&self.schema);
        let mut tokens = SplitTokens::default();
        let mut writer = TableWriter::create(target, Arc::clone(&schema), &["id", "context"])?;
        for batch in self.shaper.batches(file)? {
            self.progress.check()?;
            let batch = batch?;
            let ids = batch.column_by_name("id").ok_or_else(|| Error::internal("rows without an id"))?;
            if ids.null_count() > 0 {
                return Err(Error::input("a row has no `id`").hint("leave such rows out in the query that gives them: WHERE id IS NOT NULL"));
            }
            let ids = ids.as_string::<i32>();
            let mut skipped = Vec::new();
            let rows = self.shaper.rows(&batch, &mut skipped)?;
            if let Some(row) = rows.iter().find(|row| row.tokens.lost > 0)
                && self.shaper.encoder.refuses_long_rows()
            {
                let (id, max_length) = (ids.value(row.source), self.shaper.encoder.tokenization().max_length);
                return Err(Error::input(format!("row {id} has more than {max_length} tokens"))
                    .hint("raise `max_length`, or allow `truncation: longest_first`"));
            }
            tokens.rows_in += batch.num_rows() as u64;
            for row in &rows {
                tokens.add_row(&row.tokens);
                tokens.unanswered += u64::from(self.shaper.labelled && row.target.is_unanswered());
            }
            tokens.add_skipped(skipped.iter().map(|&row| ids.value(row)));
            let mut columns = self.shaper.columns(ids, &rows)?;
            columns.extend(kept::of_rows(&batch, self.kept, rows.iter().map(|row| row.source))?);
            writer.write(columns, &schema)?;
            self.advance(batch.num_rows() as u64);
        }
        writer.finish()?;
        Ok(tokens)
    }

    fn advance(&mut self, rows: u64) {
        self.done += rows;
        self.progress.advance(self.done, self.total, "rows", "");
    }
}

/// A text column of an artifact as owned strings.
pub(crate) fn strings(batch: &RecordBatch, column: &str) -> Result<Vec<String>> {
    let array = batch.column_by_name(column).and_then(|array| array.as_string_opt::<i32>());
    let array = array.ok_or_else(|| Error::input(format!("the input artifact has no text column `{column}`")))?;
    if column != "text_pair" && array.null_count() > 0 {
        return Err(Error::input(format!("a row has no `{column}`"))
            .hint(format!("leave such rows out in the query that gives them: WHERE {column} IS NOT NULL")));
    }
    Ok(array.iter().map(|value| value.unwrap_or_default().to_owned()).collect())
}

fn copy_tokenizer(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).doing("make the folder", to)?;
    for name in tokenizer_files(from) {
        std::fs::copy(from.join(&name), to.join(&name)).doing("copy", &from.join(&name))?;
    }
    Ok(())
}

pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).doing("read", path)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::internal(format!("{} cannot be read (line {}, column {})", path.display(), e.line(), e.column())))
}
