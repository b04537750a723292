//! Texts held against references: BLEU, chrF, ROUGE and exact match.
//!
//! [`Bleu`], [`Chrf`] and [`Rouge`] score texts by themselves; the first two by statistics that are summed over rows, so a
//! bootstrap sums them again and computes nothing from texts. [`GeneratedTextMetrics`] has them all.

mod bleu;
mod chrf;
pub(super) mod python;
mod rouge;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

pub use bleu::{Bleu, BleuSmoothing, BleuStatistics, BleuTokenizer};
pub use chrf::{Chrf, ChrfStatistics};
pub use rouge::{Rouge, RougeScores, RougeTokenizer};
use serde::{Deserialize, Serialize};

use super::{mean, named};

/// All metrics of generated texts, from sums; of constant size.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedTextMetrics {
    bleu: Bleu,
    chrf: Chrf,
    chrf_words: Chrf,
    rouge: Rouge,
    rows: u64,
    exact: u64,
    bleu_sum: BleuStatistics,
    chrf_sum: ChrfStatistics,
    chrf_words_sum: ChrfStatistics,
    rouge_sum: RougeScores,
}

/// What [`GeneratedTextMetrics`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeneratedTextReport {
    pub rows: u64,
    /// By the names of the family, each on the scale of Hugging Face's `evaluate`: `bleu`, `rouge…` and `exact_match` from 0
    /// to 1, `chrf` and `chrf++` from 0 to 100. BLEU as papers and sacrebleu write it is 100 × `bleu`.
    pub metrics: BTreeMap<String, f64>,
}

impl GeneratedTextMetrics {
    /// For languages that put spaces between words.
    pub fn new() -> Self {
        GeneratedTextMetrics::with(Bleu::default(), Rouge::default())
    }

    /// For Chinese: BLEU as sacrebleu's `zh`, ROUGE by character.
    pub fn chinese() -> Self {
        let bleu = Bleu { tokenizer: BleuTokenizer::Zh, ..Bleu::default() };
        GeneratedTextMetrics::with(bleu, Rouge { tokenizer: RougeTokenizer::Cjk })
    }

    pub fn with(bleu: Bleu, rouge: Rouge) -> Self {
        GeneratedTextMetrics {
            bleu,
            chrf: Chrf::new(),
            chrf_words: Chrf::plus_plus(),
            rouge,
            rows: 0,
            exact: 0,
            bleu_sum: BleuStatistics::default(),
            chrf_sum: ChrfStatistics::default(),
            chrf_words_sum: ChrfStatistics::default(),
            rouge_sum: RougeScores::default(),
        }
    }

    /// Adds a row; one of `references` is enough to be right. A row without references is held against an empty one.
    pub fn add<R: AsRef<str>>(&mut self, prediction: &str, references: &[R]) {
        let references: Vec<&str> = references.iter().map(AsRef::as_ref).collect();
        let references = if references.is_empty() { &[""] } else { references.as_slice() };
        self.rows += 1;
        self.exact += u64::from(exact_match(prediction, references));
        self.bleu_sum.add(&self.bleu.statistics(prediction, references));
        self.chrf_sum.add(&self.chrf.statistics(prediction, references));
        self.chrf_words_sum.add(&self.chrf_words.statistics(prediction, references));
        self.rouge_sum.add(&self.rouge.score(prediction, references));
    }

    /// Adds what was counted elsewhere, with the same tokenizers.
    pub fn merge(&mut self, other: &GeneratedTextMetrics) {
        assert!(self.bleu == other.bleu && self.rouge == other.rouge, "metrics with other tokenizers");
        self.rows += other.rows;
        self.exact += other.exact;
        self.bleu_sum.add(&other.bleu_sum);
        self.chrf_sum.add(&other.chrf_sum);
        self.chrf_words_sum.add(&other.chrf_words_sum);
        self.rouge_sum.add(&other.rouge_sum);
    }

    pub fn report(&self) -> GeneratedTextReport {
        let rouge = self.rouge_sum.named().map(|(name, sum)| (name, mean(sum, self.rows)));
        let mut metrics = named(rouge);
        metrics.extend(named([
            ("bleu", Some(self.bleu.score(&self.bleu_sum))),
            ("chrf", Some(self.chrf.score(&self.chrf_sum))),
            ("chrf++", Some(self.chrf_words.score(&self.chrf_words_sum))),
            ("exact_match", Some(super::counts::ratio(self.exact, self.rows))),
        ]));
        GeneratedTextReport { rows: self.rows, metrics }
    }
}

impl Default for GeneratedTextMetrics {
    fn default() -> Self {
        GeneratedTextMetrics::new()
    }
}

/// Whether the texts are the same to the last character.
pub fn exact_match<R: AsRef<str>>(prediction: &str, references: &[R]) -> bool {
    references.iter().any(|reference| reference.as_ref() == prediction)
}

/// How often each run of `n` items occurs.
pub(super) fn ngrams<T: Eq + Hash>(items: &[T], n: usize) -> HashMap<&[T], u64> {
    let mut counts = HashMap::new();
    for ngram in items.windows(n) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// What two bags have in common.
pub(super) fn overlap<K: Eq + Hash>(one: &HashMap<K, u64>, other: &HashMap<K, u64>) -> u64 {
    one.iter().map(|(item, count)| other.get(item).map_or(0, |other| *count.min(other))).sum()
}

/// The harmonic mean of the hits' shares of what was predicted and of what was expected; 0 without hits.
pub(super) fn f_measure(hits: u64, predicted: u64, expected: u64) -> f64 {
    if hits == 0 { 0.0 } else { 2.0 * hits as f64 / (predicted + expected) as f64 }
}

/// Characters of scripts without spaces between words: ideographs and kana.
fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
        || matches!(c, '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::super::Bootstrap;
    use super::super::MetricFamily;
    use super::super::reference::{Reference, near, text};
    use super::*;

    #[test]
    fn equals_sacrebleu_and_rouge_score() {
        let mut reference = Reference::load("text", MetricFamily::GeneratedText);
        let pieces = reference.strings("pieces");
        for (case, mut rng) in reference.cases() {
            let mut metrics = GeneratedTextMetrics::new();
            let unsmoothed = Bleu { smoothing: BleuSmoothing::None, ..Bleu::default() };
            let effective = Bleu { effective_order: true, ..Bleu::default() };
            let chinese = GeneratedTextMetrics::chinese();
            let mut bleus = [("unsmoothed_bleu", unsmoothed), ("effective_bleu", effective), ("zh_bleu", chinese.bleu)]
                .map(|(name, bleu)| (name, bleu, BleuStatistics::default()));
            let (mut rouge, rows) = (RougeScores::default(), rng.below(4) + 1);
            let references = rng.below(3) + 1;
            for _ in 0..rows {
                let base: Vec<usize> = (0..rng.below(16)).map(|_| rng.below(pieces.len())).collect();
                let gold: Vec<String> = (0..references).map(|_| near(&mut rng, &pieces, &base)).collect();
                let prediction = match rng.below(8) {
                    0 => text(&mut rng, &pieces, 10),
                    1 => gold[0].clone(),
                    _ => near(&mut rng, &pieces, &base),
                };
                metrics.add(&prediction, &gold);
                bleus.iter_mut().for_each(|(_, bleu, sum)| sum.add(&bleu.statistics(&prediction, &gold)));
                rouge.add(&chinese.rouge.score(&prediction, &gold));
            }
            reference.check(case, &metrics.report().metrics);
            reference.check_value("zh_rouge1", case, Some(rouge.rouge1 / rows as f64));
            reference.check_value("zh_rougeLsum", case, Some(rouge.rouge_l_sum / rows as f64));
            for (name, bleu, sum) in &bleus {
                reference.check_value(name, case, Some(bleu.score(sum)));
            }
        }
        reference.finish();
    }

    #[test]
    fn parts_put_together_are_the_whole_and_nothing_is_nothing() {
        let rows = [("the cat sat", "the cat sat on the mat"), ("", "a"), ("猫。", "猫"), ("yes", "yes")];
        let (mut whole, mut parts) = (GeneratedTextMetrics::chinese(), GeneratedTextMetrics::chinese());
        for (prediction, reference) in rows {
            whole.add(prediction, &[reference]);
            let mut part = GeneratedTextMetrics::chinese();
            part.add(prediction, &[reference]);
            parts.merge(&part);
        }
        assert_eq!(whole, parts);
        assert_eq!(whole.report().metrics["exact_match"], 0.25);
        let nothing = GeneratedTextMetrics::default().report();
        assert!(nothing.metrics.values().all(|value| *value == 0.0) && !nothing.metrics.contains_key("rouge1"));
        let mut unreferenced = GeneratedTextMetrics::new();
        unreferenced.add::<&str>("text", &[]);
        assert_eq!(unreferenced.report().metrics["bleu"], 0.0);
    }

    #[test]
    fn a_bootstrap_of_bleu_sums_what_rows_have() {
        let bleu = Bleu::default();
        let texts: Vec<String> = (0..30).map(|at| format!("one two three {} five", if at % 3 == 0 { "4" } else { "four" })).collect();
        let rows: Vec<BleuStatistics> = texts.iter().map(|text| bleu.statistics(text, &["one two three four five"])).collect();
        let interval = Bootstrap::default().interval_of_sums(&rows, BleuStatistics::add, |sum| Some(bleu.score(sum))).unwrap();
        let mut sum = BleuStatistics::default();
        rows.iter().for_each(|row| sum.add(row));
        let score = bleu.score(&sum);
        assert!(interval.low < score && score < interval.high, "{interval:?} {score}");
    }
}
