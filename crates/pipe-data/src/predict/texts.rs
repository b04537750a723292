//! Written texts held against those that are known.

use std::path::Path;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use pipe_core::config::{EvaluateConfig, TextTokenizer};
use pipe_core::metrics::GeneratedTextMetrics;
use pipe_core::{Error, Progress, Report, Result, SliceColumn, Task, add_parts};

use crate::kept;
use crate::parquet_io::TableReader;

/// The metrics of the predictions in `file`: of rows that have a reference.
pub fn evaluate_texts(file: &Path, config: &EvaluateConfig, progress: &dyn Progress) -> Result<Report> {
    let none = || match config.text_tokenizer {
        TextTokenizer::Spaced => GeneratedTextMetrics::new(),
        TextTokenizer::Chinese => GeneratedTextMetrics::chinese(),
    };
    let mut metrics = none();
    let has_parts = !config.by.is_empty() || config.confidence.is_some();
    let (mut units, mut values) = (Vec::new(), vec![Vec::new(); config.by.len()]);
    let reader = TableReader::open(file)?;
    let total = reader.rows;
    let (mut done, mut compared) = (0, 0);
    for batch in reader {
        progress.check()?;
        let batch = batch?;
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (Some(texts), Some(references)) = (text("text"), text("reference")) else {
            return Err(Error::usage("these predictions are no texts").hint("`of: predictions` is for what a causal language model wrote"));
        };
        let columns = config.by.iter().map(|name| kept::texts_of(&batch, name)).collect::<Result<Vec<_>>>()?;
        for row in (0..batch.num_rows()).filter(|&row| references.is_valid(row)) {
            // A completion begins with the space that parts it from its prompt, which tokens may or may not hold.
            let mut of_row = none();
            of_row.add(texts.value(row).trim(), &[references.value(row).trim()]);
            metrics.merge(&of_row);
            values.iter_mut().zip(&columns).for_each(|(values, column)| values.push(column[row].clone()));
            units.extend(has_parts.then_some(of_row));
            compared += 1;
        }
        done += batch.num_rows() as u64;
        progress.advance(done, total, "rows", "");
    }
    if compared == 0 {
        return Err(Error::input("no row has a text to compare with").hint("map `completion`, or chats that end with the assistant, in ingest"));
    }
    let mut report = Report { task: Task::CausalLm, rows: compared, metrics: metrics.report().metrics, ..Report::default() };
    let columns = config.by.iter().zip(values).map(|(name, values)| SliceColumn::new(name, values)).collect::<Result<Vec<_>>>()?;
    let measure = |picked: &[usize]| {
        let mut metrics = none();
        picked.iter().for_each(|&unit| metrics.merge(&units[unit]));
        metrics.report().metrics
    };
    add_parts(&mut report, units.len(), &columns, config.confidence, &measure, progress)?;
    Ok(report)
}
