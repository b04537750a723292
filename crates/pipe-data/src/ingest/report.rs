//! `report.json`: what came in, what went out and why the rest did not. Counts only, never a value.

use std::collections::{BTreeMap, BTreeSet};

use pipe_core::config::RejectsConfig;
use pipe_core::{Error, Result};
use serde::Serialize;

use crate::read::Reject;
use crate::scrub::{ScrubCounts, ScrubPolicy};

use super::split::Splitter;

/// Fewer rows than this rarely give a usable model.
const FEW_ROWS: u64 = 500;

#[derive(Debug, Clone, Serialize)]
pub struct IngestReport {
    pub rows: RowCounts,
    /// Rejected rows by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Duplicates whose label differs from that of the row that stayed.
    pub conflicting_labels: u64,
    /// Entities replaced, by column and type.
    pub entities: BTreeMap<&'static str, ScrubCounts>,
    pub scrub_policy: String,
    pub splits: BTreeMap<String, SplitReport>,
    /// Names in the sources' headers, sorted, whatever role they play.
    pub source_columns: BTreeSet<String>,
    /// Columns that the source has and no role takes.
    pub dropped_columns: Vec<String>,
    pub warnings: Vec<String>,
    #[serde(skip)]
    counts: BTreeMap<(usize, Option<u32>), u64>,
}

/// `read = out + rejected + duplicates`
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct RowCounts {
    pub read: u64,
    pub out: u64,
    pub rejected: u64,
    pub duplicates: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct SplitReport {
    pub rows: u64,
    pub labels: BTreeMap<String, u64>,
}

impl IngestReport {
    pub(super) fn new(policy: &ScrubPolicy, pairs: bool) -> IngestReport {
        let mut entities = BTreeMap::from([("text", ScrubCounts::default())]);
        if pairs {
            entities.insert("text_pair", ScrubCounts::default());
        }
        IngestReport {
            rows: RowCounts::default(),
            rejected: BTreeMap::new(),
            conflicting_labels: 0,
            entities,
            scrub_policy: policy.digest(),
            splits: BTreeMap::new(),
            source_columns: BTreeSet::new(),
            dropped_columns: Vec::new(),
            warnings: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn add_entities(&mut self, text: &ScrubCounts, pair: &ScrubCounts) {
        self.entities.entry("text").or_default().add(text);
        if let Some(counts) = self.entities.get_mut("text_pair") {
            counts.add(pair);
        }
    }

    pub(super) fn add_reject(&mut self, reject: &Reject) {
        self.rows.rejected += 1;
        *self.rejected.entry(reject.reason.name()).or_default() += 1;
    }

    pub(super) fn add_duplicate(&mut self, conflicting: bool) {
        self.rows.duplicates += 1;
        self.conflicting_labels += u64::from(conflicting);
    }

    pub(super) fn add_row(&mut self, split: usize, label: Option<u32>) {
        self.rows.out += 1;
        *self.counts.entry((split, label)).or_default() += 1;
    }

    /// Whether a row of this label is left.
    pub(super) fn has_label(&self, id: u32) -> bool {
        self.counts.keys().any(|(_, label)| *label == Some(id))
    }

    /// Too many rejected rows, or none left, end the stage before anything is committed.
    pub(super) fn check_rejects(&self, limits: &RejectsConfig) -> Result<()> {
        let RowCounts { read, rejected, out, .. } = self.rows;
        let reasons: Vec<String> = self.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let reasons = reasons.join(", ");
        if rejected as f64 > limits.max_ratio * read as f64 || limits.max_count.is_some_and(|max| rejected > max) {
            let hint = if self.rejected.contains_key("invalid_encoding") {
                "is `encoding:` right? files from spreadsheets are often windows-1252 or mac-roman; or raise `rejects: { max_ratio: … }`"
            } else {
                "check `format:`, `delimiter:` and `columns:`, or raise `rejects: { max_ratio: … }`"
            };
            return Err(Error::input(format!("{rejected} of {read} rows were rejected ({reasons})")).hint(hint));
        }
        if out == 0 {
            return Err(Error::input(format!("no row is left of {read} ({reasons})")));
        }
        Ok(())
    }

    /// Fills in what needs the class names, and checks that no row was lost.
    pub(super) fn finish(&mut self, splitter: &Splitter, labels: &[String], order: &[u32]) -> Result<()> {
        let RowCounts { read, out, rejected, duplicates } = self.rows;
        if read != out + rejected + duplicates {
            return Err(Error::internal(format!("{read} rows came in, but {out} + {rejected} + {duplicates} are accounted for")));
        }
        for (at, split) in splitter.names().enumerate() {
            let rows = self.counts.iter().filter(|((of, _), _)| *of == at).map(|(_, count)| count).sum();
            let count = |id: u32| self.counts.get(&(at, Some(id))).copied().unwrap_or(0);
            let labels = labels.iter().zip(order).map(|(label, id)| (label.clone(), count(*id))).collect();
            if rows == 0 {
                self.warnings.push(format!("the split `{split}` is empty"));
            }
            self.splits.insert(split.to_owned(), SplitReport { rows, labels });
        }
        if !labels.is_empty() && out < FEW_ROWS {
            self.warnings.push(format!("{out} rows are few: fine-tuning wants hundreds or thousands of examples"));
        }
        Ok(())
    }

    /// One line for the terminal.
    pub(super) fn line(&self) -> String {
        let entities: u64 = self.entities.values().map(ScrubCounts::total).sum();
        let splits: Vec<String> = self.splits.iter().map(|(name, split)| format!("{name} {}", split.rows)).collect();
        let RowCounts { read, rejected, duplicates, .. } = self.rows;
        format!("{read} rows: {} ({rejected} rejected, {duplicates} duplicates, {entities} entities scrubbed)", splits.join(", "))
    }
}
