//! `report.json` and `report.md`: what came in, what went out and why the rest did not. Counts only, never a value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use pipe_core::config::RejectsConfig;
use pipe_core::{Error, Result};
use serde::Serialize;

use crate::read::Reject;
use crate::scrub::ScrubCounts;

use super::assign::AssignReport;

/// Fewer rows than this rarely give a usable model.
const FEW_ROWS: u64 = 500;

#[derive(Debug, Clone, Serialize)]
pub struct IngestReport {
    pub rows: RowCounts,
    /// Rejected rows by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// What the whole data set was asked: duplicates, conflicts, and what two splits have in common.
    pub(super) rows_together: AssignReport,
    /// What was found, by column, type, operator and what its validator said.
    pub entities: BTreeMap<String, ScrubCounts>,
    pub scrub_policy: String,
    /// Of the key that tokens, surrogates and sealed values were made with.
    pub scrub_key: Option<String>,
    pub splits: BTreeMap<String, SplitReport>,
    /// In the order that `rows_together` counts them in.
    pub split_names: Vec<String>,
    /// Columns of the output.
    pub columns: BTreeSet<String>,
    /// Names in the sources' headers, sorted, whatever role they play.
    pub source_columns: BTreeSet<String>,
    /// Columns that the source has and the settings do not name: they are dropped.
    pub dropped_columns: Vec<String>,
    pub warnings: Vec<String>,
}

/// `read = out + rejected + duplicates + near_duplicates + conflicts + filtered`
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct RowCounts {
    pub read: u64,
    pub out: u64,
    pub rejected: u64,
    pub duplicates: u64,
    pub near_duplicates: u64,
    /// Left out because rows of equal text have other labels.
    pub conflicts: u64,
    /// Left out because the settings say so.
    pub filtered: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct SplitReport {
    pub rows: u64,
    /// Rows of each class; of tags, words.
    pub labels: BTreeMap<String, u64>,
}

impl SplitReport {
    /// One more row, with its classes.
    pub(super) fn add<'c>(&mut self, classes: impl Iterator<Item = &'c str>) {
        self.rows += 1;
        for class in classes {
            match self.labels.get_mut(class) {
                Some(count) => *count += 1,
                None => drop(self.labels.insert(class.to_owned(), 1)),
            }
        }
    }
}

impl IngestReport {
    pub(super) fn new(columns: BTreeSet<String>) -> IngestReport {
        IngestReport {
            rows: RowCounts::default(),
            rejected: BTreeMap::new(),
            rows_together: AssignReport::default(),
            entities: BTreeMap::new(),
            scrub_policy: String::new(),
            scrub_key: None,
            splits: BTreeMap::new(),
            split_names: Vec::new(),
            columns,
            source_columns: BTreeSet::new(),
            dropped_columns: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn add_entities(&mut self, found: &BTreeMap<String, ScrubCounts>) {
        for (column, counts) in found {
            match self.entities.get_mut(column) {
                Some(sum) => sum.add(counts),
                None => drop(self.entities.insert(column.clone(), counts.clone())),
            }
        }
    }

    pub(super) fn add_reject(&mut self, reject: &Reject) {
        self.rows.rejected += 1;
        *self.rejected.entry(reject.reason.name()).or_default() += 1;
    }

    /// Too many rejected rows end the stage before anything is committed.
    pub(super) fn check_rejects(&self, limits: &RejectsConfig) -> Result<()> {
        let RowCounts { read, rejected, .. } = self.rows;
        if rejected as f64 <= limits.max_ratio * read as f64 && limits.max_count.is_none_or(|max| rejected <= max) {
            return Ok(());
        }
        // The commonest reason first: others may follow from it.
        let commonest = self.rejected.iter().max_by_key(|(_, count)| **count).map(|(reason, _)| *reason);
        let of_form = match commonest {
            Some("missing_column") => Some("the records lack a column that `columns:` names: compare the names, upper and lower case count"),
            Some("invalid_answers") => Some(
                "`answers` are {\"text\": […], \"answer_start\": […]}, in characters, each text at its start in the context; empty lists for none",
            ),
            Some("invalid_messages") => Some("`messages` are a list of {\"role\": …, \"content\": …}"),
            Some("misaligned_tags") => Some("each word in `tokens` needs one tag in `tags`"),
            _ => None,
        };
        let hint = if let Some(hint) = of_form {
            hint
        } else if self.rejected.contains_key("invalid_encoding") {
            "is `encoding:` right? files from spreadsheets are often windows-1252 or mac-roman, and `auto` finds out; or raise `rejects: { max_ratio: … }`"
        } else if self.rejected.contains_key("personal_data") {
            "ids, classes and numbers are not scrubbed in part: say what is to happen to the column in `scrub: { columns: { … } }`, for example hmac or keep"
        } else {
            "check `format:`, `delimiter:` and `columns:`, or raise `rejects: { max_ratio: … }`"
        };
        Err(Error::input(format!("{rejected} of {read} rows were rejected ({})", self.reasons())).hint(hint))
    }

    fn reasons(&self) -> String {
        let reasons: Vec<String> = self.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        reasons.join(", ")
    }

    /// Takes in what became of the rows, and checks that none was lost. `labelled` rows are there to learn from.
    pub(super) fn finish(&mut self, together: AssignReport, labels: &[String], labelled: bool) -> Result<()> {
        self.rows.duplicates = together.duplicates;
        self.rows.near_duplicates = together.near_duplicates;
        self.rows.conflicts = together.conflicts_dropped;
        self.rows.filtered += together.without_split;
        self.rows_together = together;
        self.rows.out = self.splits.values().map(|split| split.rows).sum();
        let RowCounts { read, out, rejected, duplicates, near_duplicates, conflicts, filtered } = self.rows;
        let accounted = out + rejected + duplicates + near_duplicates + conflicts + filtered;
        if read != accounted {
            return Err(Error::internal(format!(
                "{read} rows came in, but {out} + {rejected} + {duplicates} + {near_duplicates} + {conflicts} + {filtered} are accounted for"
            )));
        }
        if out == 0 {
            let why = [("rejected", rejected), ("filtered", filtered), ("conflicts", conflicts)];
            let why: Vec<String> = why.into_iter().filter(|(_, count)| *count > 0).map(|(why, count)| format!("{why} {count}")).collect();
            return Err(Error::input(format!("no row is left of {read} ({})", why.join(", "))));
        }
        for (split, of_split) in &mut self.splits {
            if of_split.rows == 0 {
                self.warnings.push(format!("the split `{split}` is empty"));
            }
            for label in labels {
                of_split.labels.entry(label.clone()).or_default();
            }
        }
        for overlap in self.rows_together.overlaps.iter().filter(|overlap| overlap.scrubbed.count > overlap.texts.count) {
            let [first, second] = overlap.splits.map(|at| self.split_names.get(at).map_or("", String::as_str));
            self.warnings.push(format!(
                "{} texts are equal after scrubbing in `{first}` and `{second}`: templates; keep them together with `columns: {{ group: … }}` or `dedup: near`",
                overlap.scrubbed.count
            ));
        }
        if labelled && out < FEW_ROWS {
            self.warnings.push(format!("{out} rows are few: fine-tuning wants hundreds or thousands of examples"));
        }
        Ok(())
    }

    /// One line for the terminal.
    pub(super) fn line(&self) -> String {
        let entities: u64 = self.entities.values().map(ScrubCounts::total).sum();
        let splits: Vec<String> = self.splits.iter().map(|(name, split)| format!("{name} {}", split.rows)).collect();
        let RowCounts { read, rejected, duplicates, near_duplicates, conflicts, filtered, .. } = self.rows;
        let more = [(near_duplicates, "near duplicates"), (conflicts, "conflicts"), (filtered, "filtered")];
        let more: String = more.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}")).collect();
        format!("{read} rows: {} ({rejected} rejected, {duplicates} duplicates{more}, {entities} entities scrubbed)", splits.join(", "))
    }

    /// `report.md`: the same for people.
    pub(super) fn to_markdown(&self) -> String {
        let mut out = String::from("# Ingest\n\n| rows | |\n|---|---:|\n");
        let RowCounts { read, out: left, rejected, duplicates, near_duplicates, conflicts, filtered } = self.rows;
        let counts = [
            ("read", read),
            ("rejected", rejected),
            ("duplicates", duplicates),
            ("near duplicates", near_duplicates),
            ("conflicting labels, dropped", conflicts),
            ("filtered", filtered),
            ("written", left),
        ];
        for (what, count) in counts {
            let _ = writeln!(out, "| {what} | {count} |");
        }
        if !self.rejected.is_empty() {
            let _ = writeln!(out, "\nRejected: {}. Where each stands is in `rejects.parquet`.", self.reasons());
        }
        out.push_str("\n## Splits\n\n");
        let labels: Vec<&String> = self.splits.values().next().map(|split| split.labels.keys().collect()).unwrap_or_default();
        let escaped = |label: &String| label.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(out, "| split | rows |{}", labels.iter().map(|label| format!(" {} |", escaped(label))).collect::<String>());
        let _ = writeln!(out, "|---|---:|{}", "---:|".repeat(labels.len()));
        for (name, split) in &self.splits {
            let counts: String = labels.iter().map(|label| format!(" {} |", split.labels.get(*label).copied().unwrap_or(0))).collect();
            let _ = writeln!(out, "| {name} | {} |{counts}", split.rows);
        }
        let name = |at: usize| self.split_names.get(at).map_or("", String::as_str);
        let overlaps: Vec<String> = self
            .rows_together
            .overlaps
            .iter()
            .map(|o| {
                let near = o.near.map_or_else(|| "not looked for".to_owned(), |near| near.count.to_string());
                format!("| {} | {} | {} | {} | {near} |\n", name(o.splits[0]), name(o.splits[1]), o.texts.count, o.scrubbed.count)
            })
            .collect();
        if !overlaps.is_empty() {
            out.push_str("\nTexts that two splits have in common:\n\n| split | split | equal | equal after scrubbing | nearly equal |\n|---|---|---:|---:|---:|\n");
            out.push_str(&overlaps.concat());
        }
        out.push_str("\n## Personal data\n\n");
        if self.entities.values().all(ScrubCounts::is_empty) {
            out.push_str("None was found.\n");
        } else {
            out.push_str("| column | type | what was done | validator | values |\n|---|---|---|---|---:|\n");
            for (column, counts) in &self.entities {
                for (entity, operator, verdict, count) in counts.iter() {
                    let _ = writeln!(out, "| {column} | {entity} | {} | {} | {count} |", operator.name(), verdict.name());
                }
            }
        }
        let _ = writeln!(out, "\nPolicy `{}`{}.", self.scrub_policy, self.scrub_key.as_ref().map(|key| format!(", key `{key}`")).unwrap_or_default());
        if !self.dropped_columns.is_empty() {
            let _ = writeln!(out, "\nColumns of the source that nothing names, dropped: {}.", self.dropped_columns.join(", "));
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "\n**{warning}**");
        }
        out
    }
}
