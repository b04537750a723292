//! `ingest`: source files to scrubbed Parquet, one folder per split.
//!
//! Files are cut into shards of records (`plan`), which are parsed and scrubbed on all cores, or found in the store of
//! an earlier run (`shard`). What must see every row (duplicates, splits, labels) happens in file order afterwards
//! (`merge`), so the output does not depend on the number of workers, nor on what was reused.
//!
//! ```text
//! train/part-00000.parquet, validation/…, test/…   id, text, [text_pair], [label]
//! labels.json        class names, sorted          scrub.json    the policy that was applied
//! rejects.parquet    where and why, no text       report.json   counts
//! ```

mod labels;
mod merge;
mod plan;
mod rejects;
mod report;
mod shard;
mod split;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;

use pipe_core::cache::Shards;
use pipe_core::config::IngestConfig;
use pipe_core::provenance::Provenance;
use pipe_core::source::SourceFile;
use pipe_core::{IoContext, Progress, Result, Summary};
use serde_json::json;

use crate::read::TextEncoding;
use crate::scrub::ScrubPolicy;

pub(crate) use labels::Labels;
use merge::Merge;
use plan::{Planner, SourceFacts};
pub use report::IngestReport;
use shard::{CleanShard, Cleaner};
use split::Splitter;
pub(crate) use writer::Cuts;

/// A source file and the digest of its content.
pub struct IngestSource {
    pub file: SourceFile,
    pub digest: String,
}

/// Runs the stage into `out`. Paths in the config are relative to `root`.
pub fn run(config: &IngestConfig, root: &Path, sources: &[IngestSource], out: &Path, shards: &Shards, progress: &dyn Progress) -> Result<Summary> {
    let policy = scrub_policy(config, root)?;
    let encoding = TextEncoding::named(&config.source.encoding)?;
    let splitter = Splitter::new(config.split.as_ref());
    let sizes: Vec<u64> = sources.iter().map(|source| std::fs::metadata(&source.file.path).map_or(0, |stat| stat.len())).collect();
    let bytes: u64 = sizes.iter().sum();
    let mut planner = Planner::new(config, encoding, sources, &sizes);
    let cleaner = Cleaner::new(config, sources, encoding, &policy, &splitter, shards);
    let mut merge = Merge::new(config, sources, &policy, &splitter, shards, out)?;

    // Three batches are under way: one is read from its files, one is cleaned, one is merged.
    let mut raw = planner.next_batch()?;
    let mut clean: Vec<CleanShard> = Vec::new();
    while !raw.is_empty() || !clean.is_empty() {
        let (merged, (cleaned, read)) =
            rayon::join(|| merge_batch(&mut merge, clean, bytes, progress), || rayon::join(|| cleaner.clean(raw, progress), || planner.next_batch()));
        // In the order of the rows, so that the same input always ends with the same error.
        merged?;
        (clean, raw) = (cleaned?, read?);
    }
    let source_rows = planner.seen.rows.clone();
    let (report, splits) = finish(merge, planner.seen, config, &splitter, &policy, out)?;
    for warning in &report.warnings {
        progress.note(warning);
    }
    let figures = BTreeMap::from([
        ("bytes".to_owned(), bytes.into()),
        ("report".to_owned(), json!(report)),
        ("shards".to_owned(), shards.figures()),
        ("source_rows".to_owned(), json!(source_rows)),
    ]);
    Ok(Summary { splits, rows: report.rows.read, line: report.line(), table: String::new(), figures })
}

fn merge_batch(merge: &mut Merge<'_>, shards: Vec<CleanShard>, bytes: u64, progress: &dyn Progress) -> Result<()> {
    for shard in shards {
        progress.check()?;
        merge.add(&shard)?;
        progress.advance(shard.end, bytes, "bytes", &format!("{} rows", merge.report.rows.read));
    }
    Ok(())
}

/// What is left to write once every row is in.
fn finish(
    mut merge: Merge<'_>,
    seen: SourceFacts,
    config: &IngestConfig,
    splitter: &Splitter,
    policy: &ScrubPolicy,
    out: &Path,
) -> Result<(IngestReport, BTreeMap<String, u64>)> {
    let report = &mut merge.report;
    (report.source_columns, report.dropped_columns) = (seen.columns, seen.dropped);
    report.check_rejects(&config.rejects)?;
    let splits = merge.writers.finish()?;
    merge.rejects.finish()?;
    let (order, label_names) = merge.labels.finish(report.rows.out, config.columns.label.as_deref(), |id| report.has_label(id))?;
    report.finish(splitter, &label_names, &order)?;
    write_json(&out.join("labels.json"), &label_names)?;
    write_json(&out.join("scrub.json"), policy)?;
    write_json(&out.join("report.json"), report)?;
    Ok((merge.report, splits))
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(value).expect("plain data")).doing("write", path)
}

/// The policy by name, or the one that a finished model was trained with.
fn scrub_policy(config: &IngestConfig, root: &Path) -> Result<ScrubPolicy> {
    match &config.scrub.model {
        Some(model) => ScrubPolicy::from_json(&Provenance::read(&root.join(model))?.scrub),
        None => ScrubPolicy::resolve(&config.scrub.policy, config.scrub.entities.as_deref()),
    }
}

#[cfg(test)]
mod tests;
