//! chrF (Popović 2015) and chrF++ (Popović 2017) of a corpus, as sacrebleu counts them: an F-score of n-grams of characters, in
//! chrF++ also of words, in which recall counts twice as much as precision.

use std::collections::HashMap;
use std::hash::Hash;

use super::{ngrams, overlap, python};

const CHARACTER_ORDER: usize = 6;
const BETA_SQUARED: f64 = 4.0;

/// How chrF is counted. Scores are from 0 to 100, as those of sacrebleu and of Hugging Face's `evaluate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chrf {
    word_order: usize,
}

/// What rows add to a corpus' score: n-grams of the prediction, of the reference, and what they have in common, of each
/// order of characters and then of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChrfStatistics {
    orders: [[u64; 3]; CHARACTER_ORDER + 2],
}

impl ChrfStatistics {
    pub fn add(&mut self, other: &ChrfStatistics) {
        for (sum, other) in self.orders.iter_mut().flatten().zip(other.orders.iter().flatten()) {
            *sum += other;
        }
    }
}

impl Chrf {
    /// chrF: n-grams of up to 6 characters.
    pub fn new() -> Self {
        Chrf { word_order: 0 }
    }

    /// chrF++: n-grams of up to 2 words as well.
    pub fn plus_plus() -> Self {
        Chrf { word_order: 2 }
    }

    /// Of one row: those with the reference that scores best, the first of equals.
    pub fn statistics<R: AsRef<str>>(&self, prediction: &str, references: &[R]) -> ChrfStatistics {
        let prediction = Text::new(prediction, self.word_order);
        let predicted = prediction.ngrams(self.word_order);
        let mut best: Option<(f64, ChrfStatistics)> = None;
        for reference in references {
            let reference = Text::new(reference.as_ref(), self.word_order);
            let statistics = predicted.against(&reference.ngrams(self.word_order));
            let score = self.score(&statistics);
            if best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, statistics));
            }
        }
        best.map_or_else(ChrfStatistics::default, |(_, statistics)| statistics)
    }

    /// The score of all rows together, 0 to 100: precision and recall are means over the orders that both sides have.
    pub fn score(&self, statistics: &ChrfStatistics) -> f64 {
        let known = || statistics.orders.iter().filter(|[predicted, expected, _]| *predicted > 0 && *expected > 0);
        let orders = known().count();
        if orders == 0 {
            return 0.0;
        }
        let precision = known().map(|[predicted, _, common]| *common as f64 / *predicted as f64).sum::<f64>() / orders as f64;
        let recall = known().map(|[_, expected, common]| *common as f64 / *expected as f64).sum::<f64>() / orders as f64;
        if precision + recall == 0.0 {
            return 0.0;
        }
        100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    }
}

impl Default for Chrf {
    fn default() -> Self {
        Chrf::new()
    }
}

/// A text without its spaces, and its words where these count.
struct Text {
    characters: Vec<char>,
    words: Vec<String>,
}

impl Text {
    fn new(text: &str, word_order: usize) -> Text {
        let words = if word_order > 0 { python::words(text).flat_map(punctuation_apart).collect() } else { Vec::new() };
        Text { characters: text.chars().filter(|c| !python::is_space(*c)).collect(), words }
    }

    fn ngrams(&self, word_order: usize) -> NGrams<'_> {
        NGrams {
            characters: (1..=CHARACTER_ORDER).map(|n| ngrams(&self.characters, n)).collect(),
            words: (1..=word_order).map(|n| ngrams(&self.words, n)).collect(),
        }
    }
}

/// How often each n-gram occurs, by order from 1.
struct NGrams<'a> {
    characters: Vec<HashMap<&'a [char], u64>>,
    words: Vec<HashMap<&'a [String], u64>>,
}

impl NGrams<'_> {
    fn against(&self, reference: &NGrams) -> ChrfStatistics {
        let characters = self.characters.iter().zip(&reference.characters).map(|(predicted, expected)| compare(predicted, expected));
        let words = self.words.iter().zip(&reference.words).map(|(predicted, expected)| compare(predicted, expected));
        let mut statistics = ChrfStatistics::default();
        statistics.orders.iter_mut().zip(characters.chain(words)).for_each(|(order, counts)| *order = counts);
        statistics
    }
}

fn compare<K: Eq + Hash>(predicted: &HashMap<K, u64>, expected: &HashMap<K, u64>) -> [u64; 3] {
    // N-grams of an order that the reference is too short for are not held against the prediction.
    let of_prediction = if expected.is_empty() { 0 } else { predicted.values().sum() };
    [of_prediction, expected.values().sum(), overlap(predicted, expected)]
}

/// A word, and the punctuation at its end, or else at its beginning, as one of its own.
fn punctuation_apart(word: &str) -> Vec<String> {
    let mut chars = word.chars();
    match (chars.next(), chars.next_back()) {
        (Some(_), Some(last)) if last.is_ascii_punctuation() => vec![word[..word.len() - last.len_utf8()].to_owned(), last.to_string()],
        (Some(first), Some(_)) if first.is_ascii_punctuation() => vec![first.to_string(), word[first.len_utf8()..].to_owned()],
        _ => vec![word.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_texts_score_100_and_empty_ones_nothing() {
        for chrf in [Chrf::default(), Chrf::plus_plus()] {
            assert!((chrf.score(&chrf.statistics("猫 sat, (here)", &["猫 sat, (here)"])) - 100.0).abs() < 1e-9);
            for (prediction, reference) in [("", "a"), ("a", ""), ("", ""), ("a", "b")] {
                assert_eq!(chrf.score(&chrf.statistics(prediction, &[reference])), 0.0);
            }
        }
        assert_eq!(punctuation_apart("(ok)"), ["(ok", ")"]);
        assert_eq!(punctuation_apart("(ok"), ["(", "ok"]);
        assert_eq!(punctuation_apart("!"), ["!"]);
    }
}
