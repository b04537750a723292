//! Logits of real rows, for the exporter to compare its graph with.

use std::collections::BTreeMap;
use std::path::Path;

use pipe_core::provenance::Provenance;
use pipe_core::{BatchSource, Predictor, Result, Summary};
use pipe_data::TokenSource;
use tch::Tensor;

use crate::model::Model;
use crate::weights;

/// Rows per reference batch: small, so that the batches have many different lengths.
const BATCH_ROWS: usize = 8;

/// Picks `count` rows spread evenly over the lengths that occur, and writes their batches and logits to `out`.
pub(crate) fn write(model: &mut Model, tokens: &Path, split: &str, count: usize, out: &Path, scratch: &Path) -> Result<Summary> {
    let source = TokenSource::open(tokens, split, scratch)?;
    model.check_rows(source.lengths(), Provenance::read(tokens)?.tokenize.vocab_size)?;
    let mut rows: Vec<usize> = (0..source.rows()).collect();
    rows.sort_by_key(|&row| (source.lengths()[row], row));
    let count = count.min(rows.len());
    let picked: Vec<usize> = (0..count).map(|at| rows[at * (rows.len() - 1) / count.saturating_sub(1).max(1)]).collect();
    let mut tensors = BTreeMap::new();
    for (at, rows) in picked.chunks(BATCH_ROWS).enumerate() {
        let batch = source.batch(rows)?;
        let logits = model.predict(&batch)?;
        let shape = [rows.len() as i64, batch.length as i64];
        for (name, values) in [("input_ids", &batch.input_ids), ("attention_mask", &batch.attention_mask), ("token_type_ids", &batch.token_type_ids)]
        {
            tensors.insert(format!("batch{at}.{name}"), Tensor::from_slice(values).view(shape));
        }
        let shape = [rows.len() as i64, logits.classes as i64];
        tensors.insert(format!("batch{at}.logits"), Tensor::from_slice(&logits.values).view(shape));
    }
    weights::save(&tensors, out)?;
    Ok(Summary { rows: count as u64, ..Summary::default() })
}
