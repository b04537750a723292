//! Which split a row belongs to: a threshold on a keyed hash of its raw text, or of its group.
//!
//! The place of a row follows from its own text or group and the seed alone, so new rows never move old ones, and rows of
//! equal text, or of one group, never straddle two splits.

use pipe_core::config::SplitConfig;

/// A keyed 128-bit digest of a row's texts, or of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowDigest(u128);

impl From<u128> for RowDigest {
    fn from(number: u128) -> RowDigest {
        RowDigest(number)
    }
}

impl From<RowDigest> for u128 {
    fn from(digest: RowDigest) -> u128 {
        digest.0
    }
}

impl RowDigest {
    pub(crate) const BYTES: i32 = 16;

    fn of(hasher: &blake3::Hasher) -> RowDigest {
        let bytes: [u8; 16] = hasher.finalize().as_bytes()[..16].try_into().expect("a hash has 32 bytes");
        RowDigest(u128::from_le_bytes(bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// `bytes` are [`BYTES`](RowDigest::BYTES) long.
    pub(crate) fn from_bytes(bytes: &[u8]) -> RowDigest {
        RowDigest(u128::from_le_bytes(bytes.try_into().expect("16 bytes")))
    }

    /// Bits that the choice of the split leaves alone, so that what is decided by them falls alike in every split.
    pub(crate) fn low(self) -> u64 {
        self.0 as u64
    }
}

pub(crate) struct Splitter {
    key: [u8; 32],
    group_key: [u8; 32],
    /// Split names with the upper end of their share of the hash range.
    thresholds: Vec<(String, f64)>,
    shares: Vec<f64>,
}

impl Splitter {
    pub(crate) fn new(config: Option<&SplitConfig>) -> Splitter {
        let seed = config.map_or(0, |config| config.seed);
        let shares = config.map_or_else(|| vec![("all", 1.0)], SplitConfig::shares);
        let parts = shares.iter().map(|(_, share)| *share).collect();
        let mut end = 0.0;
        let mut thresholds: Vec<(String, f64)> = Vec::new();
        for (name, share) in shares {
            end += share;
            thresholds.push((name.to_owned(), end));
        }
        // Rounding must leave no gap at the end of the range.
        if let Some(last) = thresholds.last_mut() {
            last.1 = f64::INFINITY;
        }
        let key = |context: &str| blake3::derive_key(context, &seed.to_le_bytes());
        Splitter { key: key("pipe row digest v1"), group_key: key("pipe group digest v1"), thresholds, shares: parts }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.thresholds.iter().map(|(name, _)| name.as_str())
    }

    /// Shares of the rows, in the order of the names.
    pub(crate) fn shares(&self) -> impl Iterator<Item = f64> {
        self.shares.iter().copied()
    }

    pub(crate) fn digest(&self, text: &str, text_pair: Option<&str>) -> RowDigest {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        if let Some(pair) = text_pair {
            hasher.update(pair.as_bytes());
        }
        RowDigest::of(&hasher)
    }

    /// Of the texts that a model reads, in the order of their columns.
    pub(crate) fn digest_of(&self, texts: &[&str]) -> RowDigest {
        match texts {
            [text] => self.digest(text, None),
            [text, pair] => self.digest(text, Some(pair)),
            texts => {
                let mut hasher = blake3::Hasher::new_keyed(&self.key);
                hasher.update(&(texts.len() as u64).to_be_bytes());
                for text in texts {
                    hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
                }
                RowDigest::of(&hasher)
            }
        }
    }

    /// Digest of a row's group, never equal to that of a text.
    pub(crate) fn group(&self, value: &str) -> RowDigest {
        RowDigest::of(blake3::Hasher::new_keyed(&self.group_key).update(value.as_bytes()))
    }

    /// Index into [`names`](Splitter::names).
    pub(crate) fn split_of(&self, digest: RowDigest) -> usize {
        let position = (digest.0 >> 64) as u64 as f64 / 2f64.powi(64);
        self.thresholds.iter().position(|(_, end)| position < *end).expect("the last share is open")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pipe_core::config::SplitBy;

    use super::*;

    fn config(seed: u64) -> SplitConfig {
        SplitConfig { train: 0.8, validation: 0.1, test: 0.1, seed, by: SplitBy::Hash, files: BTreeMap::new() }
    }

    #[test]
    fn shares_are_met_and_another_seed_splits_otherwise() {
        let (a, b) = (Splitter::new(Some(&config(1))), Splitter::new(Some(&config(2))));
        let place = |splitter: &Splitter, i: usize| splitter.split_of(splitter.digest(&format!("row {i}"), None));
        let mut counts = [0usize; 3];
        let mut moved = 0;
        for i in 0..20_000 {
            counts[place(&a, i)] += 1;
            moved += usize::from(place(&a, i) != place(&b, i));
        }
        assert!((15_700..16_300).contains(&counts[0]), "{counts:?}");
        assert!((1_800..2_200).contains(&counts[1]), "{counts:?}");
        // Two independent draws differ with probability 1 − (0.64 + 0.01 + 0.01).
        assert!((6_400..7_200).contains(&moved), "{moved}");
    }

    #[test]
    fn a_pair_is_not_its_concatenation() {
        let splitter = Splitter::new(None);
        assert_ne!(splitter.digest("ab", Some("c")), splitter.digest("a", Some("bc")));
        assert_eq!(splitter.names().collect::<Vec<_>>(), ["all"]);
    }

    /// The formula in other words (`blake3` of Python): rows of data sets that were split before must stay where they are.
    #[test]
    fn rows_stay_where_they_always_were() {
        let splitter = Splitter::new(Some(&config(42)));
        assert_eq!(u128::from(splitter.digest("row 1", None)), 0xe086_b985_d5ab_d0e0_07d0_1fae_f141_a28d);
        assert_eq!(u128::from(splitter.digest("a", Some("b"))), 0x6130_1e70_8d45_767e_d0e2_b6c1_12f3_dd63);
        let places: Vec<usize> = (0..20).map(|row| splitter.split_of(splitter.digest(&format!("row {row}"), None))).collect();
        assert_eq!(places, [1, 1, 2, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0]);
        assert_ne!(splitter.group("row 1"), splitter.digest("row 1", None));
        assert_ne!(splitter.group("row 1"), Splitter::new(Some(&config(43))).group("row 1"));
    }
}
