//! The stage: an ingest artifact part by part, with the scores of each part kept for later runs.
//!
//! A window of rows never reaches over the end of a part, so that a part's scores follow from its own rows alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use pipe_core::cache::{Artifact, ShardKey, Shards};
use pipe_core::config::{PredictConfig, StageKind};
use pipe_core::{Error, Progress, Result, Summary, Task};
use serde_json::{Value, json};

use crate::kept;
use crate::parquet_io::{TableReader, TableWriter, to_bytes};
use crate::parts::{Part, parts_of};
use crate::scrub::{EntityModel, ScrubKey, ScrubPolicy};
use crate::tokenize::{read_json, task_of};

use super::{Engine, PLAIN, PredictionCounts, Scoring, ScrubAccess, TextPipeline, output, part_rows};

/// The file of a predict stage.
pub const PREDICTIONS: &str = "predictions.parquet";

/// A model that scores, and all that its scores follow from beside the rows: its content, settings, libraries.
pub struct Scorer<'m> {
    pub pipeline: &'m TextPipeline,
    pub engine: Engine<'m>,
    pub identity: Value,
    /// Columns of the rows that are written too.
    pub keep_columns: &'m [String],
}

impl TextPipeline {
    /// As the model in `folder` reads `rows`: those that went through its own policy need not go through it again.
    pub fn of_stage(folder: &Path, config: &PredictConfig, root: &Path, rows: &Artifact, names: Option<EntityModel>) -> Result<TextPipeline> {
        let key = config.key.as_ref().map(|source| ScrubKey::read(source, root)).transpose()?;
        let access = ScrubAccess { key, names };
        TextPipeline::open(folder, config.scrub.then_some(&access), Some(&scrubbed_by(rows)?), config.tokens_per_batch)
    }
}

/// The digest of the policy that rows went through.
pub fn scrubbed_by(rows: &Artifact) -> Result<String> {
    let policy: ScrubPolicy = read_json(&rows.path.join("scrub.json"))?;
    Ok(policy.digest())
}

/// What is said of the rows that were scored, or continued.
pub fn summary(task: Task, counts: &PredictionCounts, shards: &Shards) -> Summary {
    let done = if task == Task::CausalLm { "texts written" } else { "rows scored" };
    let figures = [("truncated", json!(counts.truncated)), ("entities", json!(counts.entities)), ("shards", shards.figures())];
    let figures = figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect();
    Summary { rows: counts.rows, line: format!("{} {done}", counts.rows), figures, ..Summary::default() }
}

/// Scores the given splits of the ingest artifact `rows` into the Parquet file `out`, in the order of the rows.
pub fn run<'s>(
    scorer: Scorer<'s>,
    rows: &Artifact,
    splits: &BTreeMap<String, u64>,
    out: &Path,
    shards: &Shards,
    progress: &'s dyn Progress,
) -> Result<PredictionCounts> {
    let Scorer { pipeline, engine, identity, keep_columns } = scorer;
    let parts = parts_of(rows, splits);
    let own = output::schema(pipeline.task(), pipeline.labels());
    let mut schema = Arc::clone(&own);
    if let Some(part) = parts.first() {
        let columns = TableReader::open(&part.path)?.schema();
        task_of(Some(pipeline.task()), &columns)?;
        schema = kept::with_kept(&own, &columns, keep_columns)?;
    }
    let mut writer = TableWriter::create(out, Arc::clone(&schema), &PLAIN)?;
    let mut scoring = Scoring { pipeline, engine: Some(engine), total: splits.values().sum(), done: 0, progress };
    let mut counts = PredictionCounts::default();
    for part in parts {
        progress.check()?;
        let mut made_from = json!({"part": part.digest, "model": identity});
        if !keep_columns.is_empty() {
            made_from["kept"] = json!(keep_columns);
        }
        let key = ShardKey::of(StageKind::Predict, &made_from);
        let found: Option<(Vec<u8>, PredictionCounts)> = shards.load(&key);
        let (bytes, of_part) = match found {
            Some(found) => {
                scoring.done += found.1.rows;
                progress.advance(scoring.done, scoring.total, "rows", "");
                found
            }
            None => {
                let made = score_part(&mut scoring, &part, keep_columns, &own, &schema)?;
                shards.put(&key, &made.0, &made.1)?;
                made
            }
        };
        counts.add(&of_part);
        // Made or found, it is read the same way, so that the bytes of the output are the same.
        for batch in TableReader::of_bytes(bytes, &part.path)? {
            writer.write(batch?.columns().to_vec(), &schema)?;
        }
    }
    writer.finish()?;
    Ok(counts)
}

/// `own` are the columns of the predictions, `schema` those and the kept ones.
fn score_part(
    scoring: &mut Scoring<'_>,
    part: &Part,
    keep_columns: &[String],
    own: &SchemaRef,
    schema: &SchemaRef,
) -> Result<(Vec<u8>, PredictionCounts)> {
    part.verify()?;
    let unfit = |e| Error::internal(format!("columns do not fit their schema: {e}"));
    let mut batches = Vec::new();
    let counts = scoring.score(part_rows(&part.path, scoring.pipeline.task())?, |columns| {
        batches.push(RecordBatch::try_new(Arc::clone(own), columns).map_err(unfit)?);
        Ok(())
    })?;
    if !keep_columns.is_empty() {
        let reader = TableReader::open(&part.path)?;
        let rows = reader.schema();
        let rows = concat_batches(&rows, &reader.collect::<Result<Vec<_>>>()?).map_err(unfit)?;
        // Every row is answered, in its order.
        let mut from = 0;
        for batch in &mut batches {
            let mut columns = batch.columns().to_vec();
            columns.extend(kept::of_rows(&rows, keep_columns, from..from + batch.num_rows())?);
            from += batch.num_rows();
            *batch = RecordBatch::try_new(Arc::clone(schema), columns).map_err(unfit)?;
        }
    }
    Ok((to_bytes(&batches, schema, &PLAIN)?, counts))
}

impl PredictionCounts {
    fn add(&mut self, other: &PredictionCounts) {
        self.rows += other.rows;
        self.truncated += other.truncated;
        self.entities += other.entities;
    }
}
