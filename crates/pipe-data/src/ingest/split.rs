//! Which split a row belongs to: a threshold on a keyed hash of its raw text.
//!
//! The place of a row follows from its own text and the seed alone, so new rows never move old ones, and rows of
//! equal text never straddle two splits.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use pipe_core::config::SplitConfig;

/// A keyed 128-bit digest of a row's raw text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowDigest(u128);

/// For maps of digests: a digest needs no hashing.
pub(crate) type DigestHasher = BuildHasherDefault<Low>;

#[derive(Default)]
pub(crate) struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a row digest is one number")
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl Hash for RowDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low());
    }
}

impl RowDigest {
    pub(crate) const BYTES: i32 = 16;

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
    /// Split names with the upper end of their share of the hash range.
    thresholds: Vec<(String, f64)>,
}

impl Splitter {
    pub(crate) fn new(config: Option<&SplitConfig>) -> Splitter {
        let seed = config.map_or(0, |config| config.seed);
        let shares = config.map_or_else(|| vec![("all", 1.0)], SplitConfig::shares);
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
        Splitter { key: blake3::derive_key("pipe row digest v1", &seed.to_le_bytes()), thresholds }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.thresholds.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn digest(&self, text: &str, text_pair: Option<&str>) -> RowDigest {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        if let Some(pair) = text_pair {
            hasher.update(pair.as_bytes());
        }
        let bytes: [u8; 16] = hasher.finalize().as_bytes()[..16].try_into().expect("a hash has 32 bytes");
        RowDigest(u128::from_le_bytes(bytes))
    }

    /// Index into [`names`](Splitter::names).
    pub(crate) fn split_of(&self, digest: RowDigest) -> usize {
        let position = (digest.0 >> 64) as u64 as f64 / 2f64.powi(64);
        self.thresholds.iter().position(|(_, end)| position < *end).expect("the last share is open")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(seed: u64) -> SplitConfig {
        SplitConfig { train: 0.8, validation: 0.1, test: 0.1, seed, by: Default::default(), files: Default::default() }
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
}
