//! `tokenize`: ingest's Parquet to token ids, with the tokenizer's own files carried along.
//!
//! ```text
//! train/part-00000.parquet …   id, input_ids, token_type_ids, attention_mask, [label]
//! tokenizer/…                  the tokenizer's files as they were, or those of one that was trained on the rows
//! pipe.json                    labels, scrub policy, tokenization: what a text must go through for this model
//! report.json                  rows and tokens cut
//! ```

mod encoder;
mod gguf;
mod report;
mod train;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Int8Builder, Int32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipe_core::cache::{Artifact, ShardKey, Shards};
use pipe_core::config::{StageKind, TokenizeConfig};
use pipe_core::provenance::Provenance;
use pipe_core::{Error, IoContext, Progress, Result, Summary};

use serde_json::json;

use crate::parquet_io::{TableReader, TableWriter};
use crate::parts::{Part, check_rows, parts_of};
use crate::scrub::ScrubPolicy;

pub use encoder::{EncodedRow, TextEncoder, length_limit, tokenizer_files};
use report::{SplitTokens, TokenReport};
pub use train::split_to_train_on;

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
    check_rows(&parts)?;
    let labels: Vec<String> = read_json(&rows.path.join("labels.json"))?;
    let policy: ScrubPolicy = read_json(&rows.path.join("scrub.json"))?;
    let carried = out.join(TOKENIZER_FOLDER);
    let (folder, trained) = match (config.training(), config.tokenizer.folder()) {
        (Some(training), _) => (carried.clone(), Some(train::train(training, config.max_length, rows, &carried, progress)?)),
        (None, Some(given)) => (gguf::unpacked(&root.join(given), &carried)?, None),
        (None, None) => return Err(Error::internal("a tokenize stage without a tokenizer")),
    };
    let encoder = TextEncoder::open(&folder, config, has_text_pair(&parts)?)?;
    let mut report = TokenReport::new(encoder.tokenization().max_length);
    let mut tokenizing = Tokenizing { encoder: &encoder, labels: &labels, shards, progress, total: splits.values().sum(), done: 0 };
    for split in splits.keys() {
        std::fs::create_dir_all(out.join(split)).doing("make the folder", &out.join(split))?;
        report.splits.insert(split.clone(), SplitTokens::default());
    }
    for part in &parts {
        let tokens = tokenizing.part(part, &out.join(&part.split).join(&part.name))?;
        report.splits.entry(part.split.clone()).or_default().add(&tokens);
    }
    if folder != carried {
        copy_tokenizer(&folder, &carried)?;
    }
    report.trained_tokenizer = trained;
    let done = tokenizing.done;
    let scrub = serde_json::to_value(&policy).expect("plain data");
    Provenance::new(labels, encoder.tokenization().clone(), scrub, policy.digest()).write(out)?;
    let path = out.join("report.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&report).expect("plain data")).doing("write", &path)?;
    let figures = BTreeMap::from([("report".to_owned(), json!(report)), ("shards".to_owned(), shards.figures())]);
    Ok(Summary { splits: splits.clone(), rows: done, line: report.line(), table: String::new(), figures })
}

/// What stays the same from part to part, and how far it is.
struct Tokenizing<'t> {
    encoder: &'t TextEncoder,
    labels: &'t [String],
    shards: &'t Shards,
    progress: &'t dyn Progress,
    total: u64,
    done: u64,
}

impl Tokenizing<'_> {
    /// A finished part of an earlier run, or one that is made and kept for later ones.
    fn part(&mut self, part: &Part, target: &Path) -> Result<SplitTokens> {
        self.progress.check()?;
        let made_from = json!({"part": part.digest, "tokenization": self.encoder.tokenization(), "labels": self.labels});
        let key = ShardKey::of(StageKind::Tokenize, &made_from);
        if let Some(tokens) = self.shards.link::<SplitTokens>(&key, target)? {
            self.advance(tokens.rows);
            return Ok(tokens);
        }
        part.verify()?;
        let tokens = self.tokenize(&part.path, target)?;
        self.shards.keep(&key, target, &tokens)?;
        Ok(tokens)
    }

    fn tokenize(&mut self, file: &Path, target: &Path) -> Result<SplitTokens> {
        let schema = schema(!self.labels.is_empty());
        let mut tokens = SplitTokens::default();
        let mut writer = TableWriter::create(target, Arc::clone(&schema), &["id"])?;
        for batch in TableReader::open(file)? {
            self.progress.check()?;
            let batch = batch?;
            let texts = strings(&batch, "text")?;
            let pairs = batch.column_by_name("text_pair").map(|_| strings(&batch, "text_pair")).transpose()?;
            let rows = self.encoder.encode(texts, pairs)?;
            let ids = batch.column_by_name("id").ok_or_else(|| Error::internal("rows without an id"))?.clone();
            if ids.null_count() > 0 {
                return Err(Error::input("a row has no `id`").hint("leave such rows out in the query that gives them: WHERE id IS NOT NULL"));
            }
            if let Some(at) = rows.iter().position(|row| row.lost > 0)
                && self.encoder.refuses_long_rows()
            {
                let id = ids.as_string::<i32>().value(at);
                return Err(Error::input(format!("row {id} has more than {} tokens", self.encoder.tokenization().max_length))
                    .hint("raise `max_length`, or allow `truncation: longest_first`"));
            }
            let mut columns = vec![ids];
            columns.extend(token_columns(&rows));
            if !self.labels.is_empty() {
                columns.push(label_ids(&batch, self.labels)?);
            }
            for row in &rows {
                tokens.add_row(row);
            }
            writer.write(columns, &schema)?;
            self.advance(rows.len() as u64);
        }
        writer.finish()?;
        Ok(tokens)
    }

    fn advance(&mut self, rows: u64) {
        self.done += rows;
        self.progress.advance(self.done, self.total, "rows", "");
    }
}

fn schema(labelled: bool) -> SchemaRef {
    let list = |name: &str, item: DataType| Field::new(name, DataType::List(Arc::new(Field::new("item", item, false))), false);
    let mut fields = vec![
        Field::new("id", DataType::Utf8, false),
        list("input_ids", DataType::Int32),
        list("token_type_ids", DataType::Int8),
        list("attention_mask", DataType::Int8),
    ];
    if labelled {
        fields.push(Field::new("label", DataType::Int64, false));
    }
    Arc::new(Schema::new(fields))
}

fn token_columns(rows: &[EncodedRow]) -> Vec<ArrayRef> {
    let item = |data_type| Field::new("item", data_type, false);
    let mut ids = ListBuilder::new(Int32Builder::new()).with_field(item(DataType::Int32));
    let mut types = ListBuilder::new(Int8Builder::new()).with_field(item(DataType::Int8));
    let mut mask = ListBuilder::new(Int8Builder::new()).with_field(item(DataType::Int8));
    for row in rows {
        ids.values().append_slice(&row.ids);
        ids.append(true);
        types.values().append_slice(&row.type_ids);
        types.append(true);
        mask.values().append_slice(&row.mask);
        mask.append(true);
    }
    vec![Arc::new(ids.finish()), Arc::new(types.finish()), Arc::new(mask.finish())]
}

fn label_ids(batch: &RecordBatch, labels: &[String]) -> Result<ArrayRef> {
    let names = batch.column_by_name("label").ok_or_else(|| Error::internal("the ingest artifact names labels but has no label column"))?;
    let mut ids = Vec::with_capacity(names.len());
    for name in names.as_string::<i32>() {
        let name = name
            .ok_or_else(|| Error::input("a row has no `label`").hint("leave such rows out in the query that gives them: WHERE label IS NOT NULL"))?;
        let id = labels.iter().position(|label| label == name);
        ids.push(id.ok_or_else(|| Error::internal("a row has a label that labels.json does not list"))? as i64);
    }
    Ok(Arc::new(Int64Array::from(ids)))
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

fn has_text_pair(parts: &[Part]) -> Result<bool> {
    for part in parts {
        if let Some(batch) = TableReader::open(&part.path)?.next() {
            return Ok(batch?.column_by_name("text_pair").is_some());
        }
    }
    Ok(false)
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
