//! Which rows are told apart as duplicates, and how rows are shared out to splits.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Complaint, in_range};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dedup {
    /// Rows of equal raw text: the first one stays.
    #[default]
    Exact,
    /// Rows of nearly equal raw text too: the first one of each cluster stays.
    Near,
    /// All rows stay.
    None,
}

/// MinHash of shingles, banded: rows that agree in one whole band are near duplicates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NearConfig {
    /// Bands of the signature.
    pub bands: usize,
    /// Hashes per band: with 14 × 8, texts that share 72 % of their shingles meet in one band with a chance of one in two.
    pub rows: usize,
    /// Words per shingle.
    pub words: usize,
    /// Characters per shingle where a text is written in Han characters, kana or Thai.
    pub characters: usize,
    /// What happens to the others of a cluster.
    pub action: NearAction,
}

impl Default for NearConfig {
    fn default() -> Self {
        NearConfig { bands: 14, rows: 8, words: 5, characters: 5, action: NearAction::Drop }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NearAction {
    /// They are left out.
    #[default]
    Drop,
    /// They stay, in one split with the first one.
    Group,
}

/// What happens to rows of equal text whose labels differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conflicts {
    /// They are counted, and the first one stays.
    #[default]
    KeepFirst,
    /// All of them are left out.
    Drop,
}

/// Shares of the splits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Share of the rows that train.
    #[serde(default)]
    pub train: f64,
    /// Share of the rows that are evaluated while training.
    #[serde(default)]
    pub validation: f64,
    /// Share of the rows that are kept for the end.
    #[serde(default)]
    pub test: f64,
    /// Another one gives other splits.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// What decides the split of a row.
    #[serde(default)]
    pub by: SplitBy,
    /// With `by: files`: patterns for the names of source files, per split.
    #[serde(default)]
    pub files: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// A keyed hash of the row's text, or of its `group`: new rows never move old ones.
    #[default]
    Hash,
    /// As `hash`, but with exactly the asked share of every class in every split; new rows may move old ones.
    Stratified,
    /// The column `time`: the latest rows test, those before them validate.
    Time,
    /// The source file.
    Files,
}

/// Names of splits, in the order that they are laid out in.
pub const SPLITS: [&str; 3] = ["train", "validation", "test"];

fn default_seed() -> u64 {
    42
}

impl SplitConfig {
    /// Split names with their shares, in the order that thresholds are laid out; empty ones left out. With given files
    /// shares are 0.
    pub fn shares(&self) -> Vec<(&'static str, f64)> {
        let all = [self.train, self.validation, self.test];
        let used = |name: &str, share: f64| share > 0.0 || self.files.contains_key(name);
        SPLITS.into_iter().zip(all).filter(|(name, share)| used(name, *share)).collect()
    }

    /// `target` is the role that rows are labelled with.
    pub(super) fn check(&self, target: Option<&str>, has_time: bool) -> Result<(), Complaint> {
        for (name, share) in [("train", self.train), ("validation", self.validation), ("test", self.test)] {
            in_range(&format!("split.{name}"), share, 0.0..=1.0)?;
        }
        let sum = self.train + self.validation + self.test;
        match self.by {
            SplitBy::Files => {
                if sum > 0.0 {
                    return Err(Complaint::new("split", "with `by: files` the files decide, not shares"));
                }
                if self.files.is_empty() {
                    return Err(Complaint::missing("split.files", "{ train: [\"train/*.csv\"], test: [\"test/*.csv\"] }"));
                }
                if let Some(unknown) = self.files.keys().find(|name| !SPLITS.contains(&name.as_str())) {
                    return Err(Complaint::new(format!("split.files.{unknown}"), format!("there is no split `{unknown}`"))
                        .hint("splits are train, validation and test"));
                }
                for (name, patterns) in &self.files {
                    if let Some(bad) = patterns.iter().find(|pattern| glob::Pattern::new(pattern).is_err()) {
                        return Err(Complaint::new(format!("split.files.{name}"), format!("`{bad}` is no valid pattern")));
                    }
                }
                return Ok(());
            }
            SplitBy::Stratified if target.is_none() => {
                return Err(Complaint::new("split.by", "a stratified split needs classes").hint("add `columns: { label: … }`"));
            }
            SplitBy::Stratified if target != Some("label") => {
                let target = target.unwrap_or_default();
                return Err(Complaint::new("split.by", format!("a stratified split needs one class per row, which `{target}` is not"))
                    .hint("leave `by:` out: by hash, each row has its own chance"));
            }
            SplitBy::Time if !has_time => {
                return Err(Complaint::new("split.by", "a split by time needs times").hint("add `columns: { time: … }`"));
            }
            _ => {}
        }
        if !self.files.is_empty() {
            return Err(Complaint::new("split.files", "`files` is for `by: files`"));
        }
        if (sum - 1.0).abs() > 1e-6 {
            return Err(Complaint::new("split", format!("the shares add up to {sum}, not to 1")));
        }
        Ok(())
    }
}

impl NearConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        in_range("near.bands", self.bands as f64, 1.0..=64.0)?;
        in_range("near.rows", self.rows as f64, 1.0..=64.0)?;
        in_range("near.words", self.words as f64, 1.0..=32.0)?;
        in_range("near.characters", self.characters as f64, 1.0..=32.0)
    }
}
