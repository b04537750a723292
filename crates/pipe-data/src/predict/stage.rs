//! The stage: an ingest artifact part by part, with the scores of each part kept for later runs.
//!
//! A window of rows never reaches over the end of a part, so that a part's scores follow from its own rows alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use pipe_core::cache::{Artifact, ShardKey, Shards};
use pipe_core::config::StageKind;
use pipe_core::{Error, Progress, Result};
use serde_json::{Value, json};

use crate::parquet_io::{TableReader, TableWriter, to_bytes};
use crate::parts::{Part, parts_of};
use crate::tokenize::task_of;

use super::{Engine, PLAIN, PredictionCounts, Scoring, TextPipeline, output, part_rows};

/// A model that scores, and all that its scores follow from beside the rows: its content, settings, libraries.
pub struct Scorer<'m> {
    pub pipeline: &'m TextPipeline,
    pub engine: Engine<'m>,
    pub identity: Value,
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
    let Scorer { pipeline, engine, identity } = scorer;
    let parts = parts_of(rows, splits);
    if let Some(part) = parts.first() {
        task_of(Some(pipeline.task()), &TableReader::open(&part.path)?.schema())?;
    }
    let schema = output::schema(pipeline.task(), pipeline.labels());
    let mut writer = TableWriter::create(out, Arc::clone(&schema), &PLAIN)?;
    let mut scoring = Scoring { pipeline, engine: Some(engine), total: splits.values().sum(), done: 0, progress };
    let mut counts = PredictionCounts::default();
    for part in parts {
        progress.check()?;
        let key = ShardKey::of(StageKind::Predict, &json!({"part": part.digest, "model": identity}));
        let found: Option<(Vec<u8>, PredictionCounts)> = shards.load(&key);
        let (bytes, of_part) = match found {
            Some(found) => {
                scoring.done += found.1.rows;
                progress.advance(scoring.done, scoring.total, "rows", "");
                found
            }
            None => {
                let made = score_part(&mut scoring, &part, &schema)?;
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

fn score_part(scoring: &mut Scoring<'_>, part: &Part, schema: &SchemaRef) -> Result<(Vec<u8>, PredictionCounts)> {
    part.verify()?;
    let mut batches = Vec::new();
    let counts = scoring.score(part_rows(&part.path, scoring.pipeline.task())?, |columns| {
        let batch = RecordBatch::try_new(Arc::clone(schema), columns);
        batches.push(batch.map_err(|e| Error::internal(format!("columns do not fit their schema: {e}")))?);
        Ok(())
    })?;
    Ok((to_bytes(&batches, schema, &PLAIN)?, counts))
}

impl PredictionCounts {
    fn add(&mut self, other: &PredictionCounts) {
        self.rows += other.rows;
        self.truncated += other.truncated;
        self.entities += other.entities;
    }
}
