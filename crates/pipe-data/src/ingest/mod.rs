//! `ingest`: source files to scrubbed Parquet, one folder per split.
//!
//! Two passes, neither of which holds the data set. In the first, files are cut into shards of records (`plan`), which
//! are parsed, typed and scrubbed on all cores (`clean`), or found in the store of an earlier run (`shard`); what must see
//! every row goes to sorted scratch files in file order (`collect`, `assign`): duplicates, near duplicates, splits. In the second,
//! rows are read from the store again and written to the parts of their splits on all cores (`write`), and what was written is
//! scanned once more (`residual`). The output depends neither on the number of workers nor on what was reused.
//!
//! ```text
//! train/part-00000.parquet, validation/…, test/…   id, and a column per role and extra column
//! labels.json        class names, sorted          scrub.json    the policy that was applied
//! rejects.parquet    where and why, no text       report.json, report.md   counts
//! ```

mod assign;
mod builder;
mod clean;
mod collect;
mod columns;
mod json;
mod labels;
mod lists;
mod parts;
mod plan;
mod rejects;
mod report;
mod residual;
mod shard;
mod store;
mod value;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use glob::Pattern;
use pipe_core::cache::Shards;
use pipe_core::config::{IngestConfig, SplitBy, SplitConfig};
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Progress, Result, Summary};
use serde_json::json;

use crate::read::seal::Sealer;
use crate::scrub::{EntityModel, Personal, ScrubKey, ScrubPolicy, Scrubber};

use assign::{AssignConfig, Assigner, Splitter};
use collect::Collector;
use columns::Columns;
pub(crate) use labels::{Classes, Labels};
pub(crate) use parts::Cuts;
use plan::Planner;
pub use report::IngestReport;
use shard::{CleanShard, Cleaner, ShardSchema};
use write::RowWriter;

/// What sorting for the assignment of rows may hold at a time.
const SORT_MEMORY: usize = 64 << 20;

/// What the key for the ephemeral secrets of sealed rejects is derived for.
const SEALED_REJECTS: &str = "pipe 2026-11 ingest: ephemeral secrets of sealed rejects";

/// A source file and the digest of its content.
pub struct IngestSource {
    pub file: SourceFile,
    pub digest: String,
}

/// What a run of the stage is given beside its settings.
pub struct IngestPlaces<'p> {
    /// Paths in the settings are relative to it.
    pub root: &'p Path,
    pub out: &'p Path,
    /// For files that are gone afterwards.
    pub scratch: &'p Path,
    pub shards: &'p Shards,
    /// The model of `scrub.ner`.
    pub names: Option<&'p EntityModel>,
}

/// What is done with personal data in this run. No `Debug`: it holds keys.
struct Scrub {
    policy: ScrubPolicy,
    scrubber: Scrubber,
    /// Of the key that is used, if one is.
    key_id: Option<String>,
    sealer: Option<Sealer>,
    /// Of what computes the model that finds names.
    runtime: Option<String>,
}

impl Scrub {
    fn new(config: &IngestConfig, root: &Path, names: Option<&EntityModel>) -> Result<Scrub> {
        let key = config.scrub.key.as_ref().map(|key| ScrubKey::read(key, root)).transpose()?;
        let policy = ScrubPolicy::of_config(&config.scrub, root, key.as_ref())?;
        let mut scrubber = Scrubber::new(&policy, key.as_ref())?;
        if let Some(names) = names {
            scrubber = scrubber.with_model(names)?;
        }
        let sealer = match (&config.rejects.recipient, &key) {
            (Some(recipient), Some(key)) => Some(Sealer::new(recipient, &key.derive(SEALED_REJECTS))?),
            _ => None,
        };
        let used = policy.key_id().is_some() || sealer.is_some();
        let key_id = key.as_ref().filter(|_| used).map(ScrubKey::id);
        Ok(Scrub { policy, scrubber, key_id, sealer, runtime: names.map(|names| names.runtime.clone()) })
    }
}

/// Runs the stage.
pub fn run(config: &IngestConfig, places: &IngestPlaces<'_>, sources: &[IngestSource], progress: &dyn Progress) -> Result<Summary> {
    let IngestPlaces { root, out, scratch, shards, names } = *places;
    let scrub = Scrub::new(config, root, names)?;
    let splitter = Splitter::new(config.split.as_ref());
    let columns = Columns::new(config, &scrub.policy)?;
    let schema = ShardSchema::new(&columns, config);
    let sizes: Vec<u64> = sources.iter().map(|source| std::fs::metadata(&source.file.path).map_or(0, |stat| stat.len())).collect();
    let bytes: u64 = sizes.iter().sum();
    let mut planner = Planner::new(config, &columns.wanted, sources, &sizes);
    let cleaner = Cleaner::new(config, &scrub, &columns, &schema, &splitter, shards);
    let assign = AssignConfig { dedup: config.dedup, near: &config.near, conflicts: config.conflicts, split: config.split.as_ref() };
    let assigner = Assigner::new(
        &assign,
        splits_of_files(config.split.as_ref(), sources.iter().map(|source| source.file.name.as_str()))?,
        scratch,
        SORT_MEMORY,
    )?;
    let mut collector = Collector::new(config, sources, &columns, &schema, assigner, shards, out)?;

    // Three batches are under way: one is read from its files, one is cleaned, one is collected.
    let mut raw = planner.next_batch()?;
    let mut clean: Vec<CleanShard> = Vec::new();
    while !raw.is_empty() || !clean.is_empty() {
        let (collected, (cleaned, read)) = rayon::join(
            || collect_batch(&mut collector, clean, bytes, progress),
            || rayon::join(|| cleaner.clean(raw, progress), || planner.next_batch()),
        );
        // In the order of the rows, so that the same input always ends with the same error.
        collected?;
        (clean, raw) = (cleaned?, read?);
    }
    let mut seen = planner.seen;
    collector.end_file()?;
    let Collector { assigner, stored, rejects, labels, mut report, keys, .. } = collector;
    // A key may be anybody's name.
    let mut names = Vec::new();
    for name in keys.common() {
        if scrub.scrubber.personal(name)? == Personal::No {
            names.push(name);
        }
    }
    seen.add(names.into_iter(), &columns.wanted);
    (report.source_columns, report.dropped_columns) = (seen.columns, seen.dropped);
    (report.scrub_policy, report.scrub_key) = (scrub.policy.digest(), scrub.key_id.clone());
    report.check_rejects(&config.rejects)?;
    rejects.finish()?;

    let assignment = assigner.finish(progress)?;
    report.split_names = splitter.names().map(str::to_owned).collect();
    let writer = RowWriter {
        out,
        splits: report.split_names.clone(),
        columns: &columns,
        shard_schema: &schema,
        schema: columns.schema(),
        shards,
        stored: &stored,
        scrubber: &scrub.scrubber,
        metadata: footer(&scrub.policy, config.split.as_ref()),
    };
    report.splits = writer.write(&assignment, config.shard_rows, progress)?;
    let splits = report.splits.iter().map(|(name, split)| (name.clone(), split.rows)).collect();
    let used = |class: &str| report.splits.values().any(|split| split.labels.get(class).is_some_and(|rows| *rows > 0));
    let left = report.splits.values().map(|split| split.rows).sum();
    let label_names = labels.finish(left, config.columns.classes().map(|(_, column)| column), used)?;
    report.finish(assignment.report.clone(), &label_names, config.columns.target().is_some())?;
    write_json(&out.join("labels.json"), &label_names)?;
    write_json(&out.join("scrub.json"), &scrub.policy)?;
    write_json(&out.join("report.json"), &report)?;
    let path = out.join("report.md");
    std::fs::write(&path, report.to_markdown()).doing("write", &path)?;
    for warning in &report.warnings {
        progress.note(warning);
    }
    let figures = BTreeMap::from([
        ("bytes".to_owned(), bytes.into()),
        ("report".to_owned(), json!(report)),
        ("shards".to_owned(), shards.figures()),
        ("source_rows".to_owned(), json!(seen.rows)),
    ]);
    Ok(Summary { splits, rows: report.rows.read, line: report.line(), table: String::new(), figures })
}

fn collect_batch(collector: &mut Collector<'_>, shards: Vec<CleanShard>, bytes: u64, progress: &dyn Progress) -> Result<()> {
    for shard in shards {
        progress.check()?;
        collector.add(&shard)?;
        progress.advance(shard.end, bytes, "bytes", &format!("{} rows", collector.report.rows.read));
    }
    Ok(())
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(value).expect("plain data")).doing("write", path)
}

/// For the footers of parts: where their rows come from.
fn footer(policy: &ScrubPolicy, split: Option<&SplitConfig>) -> Vec<(String, String)> {
    let mut metadata = vec![("pipe.scrub_policy".to_owned(), policy.digest())];
    metadata.extend(split.map(|split| ("pipe.split_seed".to_owned(), split.seed.to_string())));
    metadata
}

/// With `by: files`: the split of each source file, by the first pattern that its name fits. Empty for every other way to split.
pub fn splits_of_files<'n>(split: Option<&SplitConfig>, names: impl Iterator<Item = &'n str>) -> Result<Vec<Option<usize>>> {
    let Some(split) = split.filter(|split| split.by == SplitBy::Files) else { return Ok(Vec::new()) };
    let mut patterns = Vec::new();
    for (at, (name, _)) in split.shares().into_iter().enumerate() {
        for pattern in split.files.get(name).into_iter().flatten() {
            let pattern = Pattern::new(pattern).map_err(|_| Error::usage(format!("`{pattern}` in `split.files.{name}` is no valid pattern")))?;
            patterns.push((at, name, pattern, false));
        }
    }
    let mut found = Vec::new();
    for name in names {
        let first = patterns.iter_mut().find(|(_, _, pattern, _)| pattern.matches(name));
        found.push(first.map(|(at, _, _, fits)| {
            *fits = true;
            *at
        }));
    }
    if let Some((_, name, pattern, _)) = patterns.iter().find(|(_, _, _, fits)| !fits) {
        return Err(Error::input(format!("no source file fits `{pattern}` in `split.files.{name}`")).hint(
            "patterns are held against the names of source files as `paths` gives them, relative to the pipeline's root; the first that fits counts",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod role_tests;
#[cfg(test)]
mod tests;
