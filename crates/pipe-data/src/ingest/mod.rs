//! `ingest`: source files to scrubbed Parquet, one folder per split.
//!
//! Chunks of records are parsed and scrubbed on all cores; what must see every row (duplicates, splits, labels)
//! happens in file order afterwards, so the output does not depend on the number of workers.
//!
//! ```text
//! train/part-00000.parquet, validation/…, test/…   id, text, [text_pair], [label]
//! labels.json        class names, sorted          scrub.json    the policy that was applied
//! rejects.parquet    where and why, no text       report.json   counts
//! ```

mod labels;
mod rejects;
mod report;
mod split;
mod writer;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use pipe_core::config::{Dedup, IngestConfig};
use pipe_core::provenance::Provenance;
use pipe_core::source::SourceFile;
use pipe_core::{IoContext, Progress, Result, Summary};
use rayon::prelude::*;

use crate::read::{Framer, Parsed, RawChunk, Reject, TextEncoding, empty};
use crate::scrub::{EntityCounts, ScrubPolicy, Scrubber};

use labels::Labels;
use rejects::Rejects;
pub use report::IngestReport;
use split::{RowDigest, Splitter};
use writer::SplitWriters;

/// Chunks in flight: enough to keep all cores busy, few enough to bound memory.
const CHUNKS_IN_FLIGHT: usize = 16;

/// A source file and the digest of its content.
pub struct IngestSource {
    pub file: SourceFile,
    pub digest: String,
}

/// A row after everything that needs no other row.
struct CleanRow {
    id: String,
    digest: RowDigest,
    text: String,
    text_pair: Option<String>,
    label: Option<String>,
}

struct CleanChunk {
    rows: Vec<Result<CleanRow, Reject>>,
    text_counts: EntityCounts,
    pair_counts: EntityCounts,
}

/// Runs the stage into `out`. Paths in the config are relative to `root`.
pub fn run(config: &IngestConfig, root: &Path, sources: &[IngestSource], out: &Path, progress: &dyn Progress) -> Result<Summary> {
    let policy = scrub_policy(config, root)?;
    let scrubber = Scrubber::new(&policy);
    let encoding = TextEncoding::named(&config.source.encoding)?;
    let splitter = Splitter::new(config.split.as_ref());
    let mut writers = SplitWriters::create(out, &splitter, &config.columns)?;
    let mut rejects = Rejects::create(&out.join("rejects.parquet"))?;
    let mut labels = Labels::new();
    let mut report = IngestReport::new(&policy, config.columns.text_pair.is_some());
    let mut seen: HashMap<RowDigest, Option<u32>> = HashMap::new();
    let total_bytes: u64 = sources.iter().filter_map(|source| std::fs::metadata(&source.file.path).ok()).map(|stat| stat.len()).sum();
    let mut bytes_done = 0;

    for source in sources {
        let path = &source.file.path;
        let mut framer = Framer::open(&source.file, &config.source, &config.columns, encoding)?;
        report.add_dropped_columns(framer.dropped_columns());
        let id_prefix = &source.digest[..8];
        let mut file_rows = 0;
        loop {
            progress.check()?;
            let mut chunks: Vec<RawChunk> = Vec::with_capacity(CHUNKS_IN_FLIGHT);
            while chunks.len() < CHUNKS_IN_FLIGHT
                && let Some(chunk) = framer.next_chunk()?
            {
                chunks.push(chunk);
            }
            if chunks.is_empty() {
                break;
            }
            file_rows += chunks.iter().map(RawChunk::records).sum::<usize>() as u64;
            let clean: Vec<Result<CleanChunk>> = chunks
                .par_iter()
                .map(|chunk| Ok(scrub_chunk(chunk.parse(&config.columns, encoding, path)?, &scrubber, &splitter, id_prefix)))
                .collect();
            for chunk in clean {
                let chunk = chunk?;
                report.add_entities(&chunk.text_counts, &chunk.pair_counts);
                for row in chunk.rows {
                    report.rows.read += 1;
                    let row = match row {
                        Ok(row) => row,
                        Err(reject) => {
                            report.add_reject(&reject);
                            rejects.add(&source.digest, &reject)?;
                            continue;
                        }
                    };
                    let label = row.label.as_deref().map(|label| labels.id_of(label)).transpose()?;
                    if config.dedup == Dedup::Exact {
                        match seen.entry(row.digest) {
                            Entry::Occupied(first) => {
                                report.add_duplicate(*first.get() != label);
                                continue;
                            }
                            Entry::Vacant(place) => place.insert(label),
                        };
                    }
                    let split = splitter.split_of(row.digest);
                    report.add_row(split, label);
                    writers.add(split, row)?;
                }
            }
            progress.advance(bytes_done + framer.position(), total_bytes, "bytes", &format!("{} rows", report.rows.read));
        }
        if file_rows == 0 {
            return Err(empty(path));
        }
        bytes_done += std::fs::metadata(path).map_or(0, |stat| stat.len());
    }

    report.check_rejects(&config.rejects)?;
    let splits = writers.finish()?;
    rejects.finish()?;
    let (order, label_names) = labels.finish(report.rows.out, config.columns.label.as_deref(), |id| report.has_label(id))?;
    report.finish(&splitter, &label_names, &order)?;
    write_json(&out.join("labels.json"), &label_names)?;
    write_json(&out.join("scrub.json"), &policy)?;
    write_json(&out.join("report.json"), &report)?;
    for warning in &report.warnings {
        progress.note(warning);
    }
    let figures =
        BTreeMap::from([("bytes".to_owned(), total_bytes.into()), ("report".to_owned(), serde_json::to_value(&report).expect("plain data"))]);
    Ok(Summary { splits, rows: report.rows.read, line: report.line(), table: String::new(), figures })
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(value).expect("plain data")).doing("write", path)
}

/// Everything about a chunk that needs no other row: runs on any thread.
fn scrub_chunk(parsed: Vec<Parsed>, scrubber: &Scrubber, splitter: &Splitter, id_prefix: &str) -> CleanChunk {
    let (mut text_counts, mut pair_counts) = (EntityCounts::default(), EntityCounts::default());
    let rows = parsed
        .into_iter()
        .map(|row| {
            row.map(|row| CleanRow {
                // Of the raw text: after scrubbing, different customers on one template would collapse.
                digest: splitter.digest(&row.text, row.text_pair.as_deref()),
                text: scrubber.scrub(&row.text, &mut text_counts).into_owned(),
                text_pair: row.text_pair.map(|pair| scrubber.scrub(&pair, &mut pair_counts).into_owned()),
                id: row.id.unwrap_or_else(|| format!("{id_prefix}-{}", row.number)),
                label: row.label,
            })
        })
        .collect();
    CleanChunk { rows, text_counts, pair_counts }
}

/// The policy by name, or the one that a finished model was trained with.
fn scrub_policy(config: &IngestConfig, root: &Path) -> Result<ScrubPolicy> {
    match &config.scrub.model {
        Some(model) => ScrubPolicy::from_json(&Provenance::read(&root.join(model))?.scrub),
        None => ScrubPolicy::resolve(&config.scrub.policy, config.scrub.entities.as_deref()),
    }
}
