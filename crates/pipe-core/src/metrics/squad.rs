//! Questions answered with a span of a text, or with none: exact match and F1 as the official scripts of SQuAD 1.1 (Rajpurkar
//! et al. 2016) and 2.0 (Rajpurkar et al. 2018) count them, from 0 to 100.
//!
//! Texts are normalised first: lower case, without the punctuation of ASCII, without the articles "a", "an" and "the", with
//! single spaces. What is a letter, a space or lower case is what Python says. A row counts with the gold answer that fits best.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text::{self, python};
use super::{mean, named};

/// Which script is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SquadVersion {
    /// Every question has an answer; an answer of which normalising leaves nothing has an F1 of 0, even to itself.
    V1,
    /// A question without gold answers has none, and `""` is the prediction that is right. Gold answers of which
    /// normalising leaves nothing do not count; two empty answers have an F1 of 1. That a question has no answer is said by
    /// the prediction alone: probabilities of it, and the best thresholds that the script seeks for them, are not taken.
    V2,
}

/// Sums over rows; of constant size.
#[derive(Debug, Clone, PartialEq)]
pub struct SquadMetrics {
    version: SquadVersion,
    answered: Sums,
    unanswerable: Sums,
}

/// Scores of one row, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquadScore {
    pub exact: bool,
    pub f1: f64,
    /// F1 over characters instead of words, for languages that put no spaces between them.
    pub f1_char: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sums {
    rows: u64,
    exact: u64,
    f1: f64,
    f1_char: f64,
}

/// What [`SquadMetrics`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SquadReport {
    pub rows: u64,
    /// Rows that have an answer.
    pub answerable: u64,
    /// By the names of the family, 0 to 100. `HasAns_exact` and so on, by the names of the official script of version 2, are
    /// over the rows that have an answer, or have none; version 1 has no such metrics.
    pub metrics: BTreeMap<String, f64>,
}

impl SquadMetrics {
    pub fn new(version: SquadVersion) -> Self {
        SquadMetrics { version, answered: Sums::default(), unanswerable: Sums::default() }
    }

    /// Adds a row, and gives its scores back. `gold` are all the answers that are right; none says that there is no answer.
    pub fn add<G: AsRef<str>>(&mut self, prediction: &str, gold: &[G]) -> SquadScore {
        let score = self.score(prediction, gold);
        let sums = if gold.is_empty() { &mut self.unanswerable } else { &mut self.answered };
        sums.add(&Sums { rows: 1, exact: score.exact.into(), f1: score.f1, f1_char: score.f1_char });
        score
    }

    fn score<G: AsRef<str>>(&self, prediction: &str, gold: &[G]) -> SquadScore {
        let mut gold: Vec<String> = gold.iter().map(|answer| normalize_answer(answer.as_ref())).collect();
        if self.version == SquadVersion::V2 {
            gold.retain(|answer| !answer.is_empty());
        }
        if gold.is_empty() {
            gold.push(String::new());
        }
        let prediction = normalize_answer(prediction);
        let best = |measure: &dyn Fn(&str) -> f64| gold.iter().map(|gold| measure(gold)).fold(0.0, f64::max);
        SquadScore {
            exact: gold.contains(&prediction),
            f1: best(&|gold| self.f1(&words(gold), &words(&prediction))),
            f1_char: best(&|gold| self.f1(&characters(gold), &characters(&prediction))),
        }
    }

    fn f1<T: Eq + std::hash::Hash>(&self, gold: &[T], prediction: &[T]) -> f64 {
        if gold.is_empty() || prediction.is_empty() {
            let both = gold.is_empty() && prediction.is_empty();
            return f64::from(self.version == SquadVersion::V2 && both);
        }
        text::f_measure(text::overlap(&text::ngrams(prediction, 1), &text::ngrams(gold, 1)), prediction.len() as u64, gold.len() as u64)
    }

    /// Adds rows that were scored elsewhere, by the same script.
    pub fn merge(&mut self, other: &SquadMetrics) {
        assert_eq!(self.version, other.version, "metrics of two versions");
        self.answered.add(&other.answered);
        self.unanswerable.add(&other.unanswerable);
    }

    pub fn report(&self) -> SquadReport {
        let mut all = self.answered;
        all.add(&self.unanswerable);
        let of = |sums: &Sums, value: f64| mean(100.0 * value, sums.rows);
        let exact = |sums: &Sums| of(sums, sums.exact as f64);
        let mut metrics = named([("exact_match", exact(&all)), ("f1", of(&all, all.f1)), ("f1_char", of(&all, all.f1_char))]);
        if self.version == SquadVersion::V2 {
            metrics.extend(named([
                ("HasAns_exact", exact(&self.answered)),
                ("HasAns_f1", of(&self.answered, self.answered.f1)),
                ("NoAns_exact", exact(&self.unanswerable)),
                ("NoAns_f1", of(&self.unanswerable, self.unanswerable.f1)),
            ]));
        }
        SquadReport { rows: all.rows, answerable: self.answered.rows, metrics }
    }
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.rows += other.rows;
        self.exact += other.exact;
        self.f1 += other.f1;
        self.f1_char += other.f1_char;
    }
}

/// An answer as it is compared.
pub fn normalize_answer(answer: &str) -> String {
    let text: String = answer.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    // Runs of word characters and of others: an article is a whole run, so `\b(a|an|the)\b` of the script finds no more.
    let chars: Vec<char> = text.chars().collect();
    let mut kept = String::new();
    for run in chars.chunk_by(|a, b| python::is_alphanumeric(*a) == python::is_alphanumeric(*b)) {
        match run {
            ['a'] | ['a', 'n'] | ['t', 'h', 'e'] => kept.push(' '),
            run => kept.extend(run),
        }
    }
    python::words(&kept).collect::<Vec<_>>().join(" ")
}

fn words(normalized: &str) -> Vec<&str> {
    normalized.split(' ').filter(|word| !word.is_empty()).collect()
}

/// The characters that say something: no spaces, and of the punctuation of Chinese, Japanese and Korean none either, as
/// normalising leaves none of English.
fn characters(normalized: &str) -> Vec<char> {
    normalized.chars().filter(|c| *c != ' ' && !is_other_punctuation(*c)).collect()
}

fn is_other_punctuation(c: char) -> bool {
    // General and CJK punctuation, and the full-width forms of what ASCII has.
    matches!(c, '\u{2010}'..='\u{2027}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' | '\u{30fb}')
        || matches!(c, '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}')
}

#[cfg(test)]
mod tests {
    use super::super::MetricFamily;
    use super::super::reference::{Reference, near, text};
    use super::*;

    #[test]
    fn equals_the_official_scripts() {
        let mut reference = Reference::load("squad", MetricFamily::QuestionAnswering);
        let pieces = reference.strings("pieces");
        for (case, mut rng) in reference.cases() {
            let mut versions = [SquadMetrics::new(SquadVersion::V1), SquadMetrics::new(SquadVersion::V2)];
            for _ in 0..rng.below(4) + 1 {
                let base: Vec<usize> = (0..rng.below(11)).map(|_| rng.below(pieces.len())).collect();
                let gold: Vec<String> = (0..rng.below(4)).map(|_| near(&mut rng, &pieces, &base)).collect();
                let prediction = match rng.below(6) {
                    0 => text(&mut rng, &pieces, 6),
                    1 => String::new(),
                    _ => near(&mut rng, &pieces, &base),
                };
                versions[1].add(&prediction, &gold);
                if !gold.is_empty() {
                    versions[0].add(&prediction, &gold);
                }
            }
            let [one, two] = versions.map(|metrics| metrics.report().metrics);
            reference.check(case, &two);
            reference.check_value("v1_exact_match", case, one.get("exact_match").copied());
            reference.check_value("v1_f1", case, one.get("f1").copied());
        }
        reference.finish();
    }

    #[test]
    fn normalises_as_python_does() {
        assert_eq!(normalize_answer("  The\u{1c}Cat's, a  \u{3000}hat!"), "cats hat");
        assert_eq!(normalize_answer("a\u{301} an-ant \u{24d0}a a\u{3001}b"), "\u{301} anant \u{24d0} \u{3001}b");
        assert_eq!(normalize_answer("«The» ＡＮ A"), "« » ａｎ");
    }

    #[test]
    fn chinese_answers_are_compared_by_character() {
        let mut metrics = SquadMetrics::new(SquadVersion::V2);
        let score = metrics.add("北京，中国", &["中国北京市"]);
        assert_eq!((score.exact, score.f1), (false, 0.0));
        assert!((score.f1_char - 8.0 / 9.0).abs() < 1e-12);
        let mut other = SquadMetrics::new(SquadVersion::V2);
        other.add::<&str>("", &[]);
        metrics.merge(&other);
        let report = metrics.report();
        assert_eq!((report.rows, report.answerable, report.metrics["NoAns_f1"], report.metrics["exact_match"]), (2, 1, 100.0, 50.0));
        assert!(SquadMetrics::new(SquadVersion::V1).report().metrics.is_empty());
    }
}
