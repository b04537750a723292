//! How often each word is met, in memory that does not grow with the text.

use std::collections::HashMap;

use pipe_core::{Error, Result};
use rayon::prelude::*;
use tokenizers::Tokenizer;
use tokenizers::tokenizer::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Longer ones are unknown to WordPiece, and no words to anybody.
pub(super) const LONGEST_WORD: usize = 100;

/// More different words than this are not kept: the rarest go, as in word2vec. 100 million words of English have about a million
/// that are met twice.
const MOST_WORDS: usize = 1 << 20;

pub(super) struct WordCounts {
    /// Normalises and splits.
    skeleton: Tokenizer,
    counts: HashMap<String, u64>,
    most: usize,
}

impl WordCounts {
    pub(super) fn new(skeleton: Tokenizer) -> WordCounts {
        WordCounts { skeleton, counts: HashMap::new(), most: MOST_WORDS }
    }

    /// Counts the words of `texts` on all cores. Which words are forgotten depends on how the rows come in batches, and so on
    /// the file, but on no number of threads.
    pub(super) fn add(&mut self, texts: &[String]) -> Result<()> {
        let skeleton = &self.skeleton;
        let counted = texts
            .par_iter()
            .try_fold(HashMap::<String, u64>::new, |mut counts, text| {
                for word in words(skeleton, text)? {
                    *counts.entry(word).or_default() += 1;
                }
                Ok(counts)
            })
            .try_reduce(HashMap::new, |mut into, from| {
                for (word, count) in from {
                    *into.entry(word).or_default() += count;
                }
                Ok(into)
            });
        // The library's message may quote the text.
        let counted = counted.map_err(|_: tokenizers::Error| Error::stage("the tokenizer cannot split a row into words"))?;
        for (word, count) in counted {
            *self.counts.entry(word).or_default() += count;
        }
        self.forget();
        Ok(())
    }

    /// Too many: forgets the rarest, all of one frequency or none, until half the room is free.
    fn forget(&mut self) {
        if self.counts.len() <= self.most {
            return;
        }
        let mut frequencies: Vec<u64> = self.counts.values().copied().collect();
        frequencies.sort_unstable_by(|a, b| b.cmp(a));
        let least = frequencies[self.most / 2];
        self.counts.retain(|_, count| *count > least);
    }

    /// Sorted by word.
    pub(super) fn finish(self) -> Vec<(String, u64)> {
        let mut words: Vec<(String, u64)> = self.counts.into_iter().collect();
        words.sort_unstable();
        words
    }
}

fn words(skeleton: &Tokenizer, text: &str) -> Result<Vec<String>, tokenizers::Error> {
    let mut normalized = NormalizedString::from(text);
    if let Some(normalizer) = skeleton.get_normalizer() {
        normalizer.normalize(&mut normalized)?;
    }
    let mut split = PreTokenizedString::from(normalized);
    if let Some(pre_tokenizer) = skeleton.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut split)?;
    }
    let words = split.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Ok(words
        .into_iter()
        .map(|(word, ..)| word)
        .filter(|word| !word.is_empty() && word.chars().take(LONGEST_WORD + 1).count() <= LONGEST_WORD)
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipe_core::config::TrainTokenizerConfig;

    #[test]
    fn the_rarest_words_are_forgotten_and_the_rest_stay_exact() {
        let mut counts = WordCounts::new(super::super::files::skeleton(&TrainTokenizerConfig::default()).unwrap());
        counts.most = 10;
        for round in 0..50 {
            let rare: Vec<String> = (0..8).map(|n| format!("rare{}", round * 8 + n)).collect();
            counts.add(&["Often often, 常 常".to_owned(), rare.join(" ")]).unwrap();
            assert!(counts.counts.len() <= 10);
        }
        let words = counts.finish();
        assert!(words.contains(&("often".into(), 100)) && words.contains(&("常".into(), 100)), "{words:?}");
    }

    #[test]
    fn words_are_normalised_and_what_is_no_word_is_left_out() {
        let mut counts = WordCounts::new(super::super::files::skeleton(&TrainTokenizerConfig::default()).unwrap());
        counts.add(&[format!("Très BIEN好的！ {}", "1".repeat(10_000))]).unwrap();
        let words: Vec<String> = counts.finish().into_iter().map(|(word, _)| word).collect();
        assert_eq!(words, ["bien", "tres", "好", "的", "！"]);
    }
}
