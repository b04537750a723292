//! Written texts held against those that are known.

use std::path::Path;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use pipe_core::config::TextTokenizer;
use pipe_core::metrics::GeneratedTextMetrics;
use pipe_core::{Error, Progress, Report, Result, Task};

use crate::parquet_io::TableReader;

/// The metrics of the predictions in `file`: of rows that have a reference.
pub fn evaluate_texts(file: &Path, tokenizer: TextTokenizer, progress: &dyn Progress) -> Result<Report> {
    let mut metrics = match tokenizer {
        TextTokenizer::Spaced => GeneratedTextMetrics::new(),
        TextTokenizer::Chinese => GeneratedTextMetrics::chinese(),
    };
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
        for row in (0..batch.num_rows()).filter(|&row| references.is_valid(row)) {
            // A completion begins with the space that parts it from its prompt, which tokens may or may not hold.
            metrics.add(texts.value(row).trim(), &[references.value(row).trim()]);
            compared += 1;
        }
        done += batch.num_rows() as u64;
        progress.advance(done, total, "rows", "");
    }
    if compared == 0 {
        return Err(Error::input("no row has a text to compare with").hint("map `completion`, or chats that end with the assistant, in ingest"));
    }
    Ok(Report { task: Task::CausalLm, rows: compared, metrics: metrics.report().metrics, ..Report::default() })
}
