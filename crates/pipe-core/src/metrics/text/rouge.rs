//! ROUGE (Lin 2004): F-measures of common words, pairs of words and common subsequences, as Google's `rouge-score` counts them
//! without its stemmer. With several references, each measure is that of the one that fits best.

use std::collections::{HashMap, HashSet};

use super::{f_measure, is_cjk, ngrams, overlap, python};

/// How ROUGE is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rouge {
    pub tokenizer: RougeTokenizer,
}

/// How a text is cut into words, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RougeTokenizer {
    /// `[a-z0-9]+`, as `rouge-score`: whatever else there is does not count, so Chinese texts have no words at all.
    #[default]
    Ascii,
    /// Every ideograph and every kana is a word, and so are runs of letters and digits of any other script.
    Cjk,
}

/// F-measures of one row, or their sums over rows. 0 to 1 for a row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RougeScores {
    pub rouge1: f64,
    pub rouge2: f64,
    /// The longest common subsequence of the whole texts.
    pub rouge_l: f64,
    /// The union of the longest common subsequences of each reference line with every line of the prediction.
    pub rouge_l_sum: f64,
}

impl RougeScores {
    pub fn add(&mut self, other: &RougeScores) {
        self.rouge1 += other.rouge1;
        self.rouge2 += other.rouge2;
        self.rouge_l += other.rouge_l;
        self.rouge_l_sum += other.rouge_l_sum;
    }

    fn max(&self, other: &RougeScores) -> RougeScores {
        RougeScores {
            rouge1: self.rouge1.max(other.rouge1),
            rouge2: self.rouge2.max(other.rouge2),
            rouge_l: self.rouge_l.max(other.rouge_l),
            rouge_l_sum: self.rouge_l_sum.max(other.rouge_l_sum),
        }
    }

    /// By the names that `rouge-score` has for them.
    pub fn named(&self) -> [(&'static str, f64); 4] {
        [("rouge1", self.rouge1), ("rouge2", self.rouge2), ("rougeL", self.rouge_l), ("rougeLsum", self.rouge_l_sum)]
    }
}

impl Rouge {
    /// Of one row. Sentences are lines, as far as `rougeLsum` is concerned.
    pub fn score<R: AsRef<str>>(&self, prediction: &str, references: &[R]) -> RougeScores {
        let prediction = self.lines(prediction);
        let scores = references.iter().map(|reference| score(&prediction, &self.lines(reference.as_ref())));
        scores.fold(RougeScores::default(), |best, score| best.max(&score))
    }

    /// The words of each line. No word reaches over the end of a line, so together they are the text's.
    fn lines(&self, text: &str) -> Vec<Vec<String>> {
        text.split('\n').map(|line| self.tokenizer.words(line)).collect()
    }
}

impl RougeTokenizer {
    pub fn words(self, text: &str) -> Vec<String> {
        let lower = text.to_lowercase();
        match self {
            RougeTokenizer::Ascii => {
                let words = lower.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
                words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
            }
            RougeTokenizer::Cjk => {
                let chars: Vec<char> = lower.chars().collect();
                let is_part = |c: char| python::is_alphanumeric(c) && !is_cjk(c);
                let runs = chars.chunk_by(|a, b| is_part(*a) && is_part(*b));
                runs.filter(|run| python::is_alphanumeric(run[0]) || is_cjk(run[0])).map(|run| run.iter().collect()).collect()
            }
        }
    }
}

/// Of lines against lines of one reference.
fn score(prediction: &[Vec<String>], reference: &[Vec<String>]) -> RougeScores {
    let words = |lines: &[Vec<String>]| -> Vec<String> { lines.concat() };
    let (predicted, expected) = (words(prediction), words(reference));
    let of_ngrams = |n: usize| {
        let total = |words: &[String]| (words.len() + 1).saturating_sub(n) as u64;
        f_measure(overlap(&ngrams(&predicted, n), &ngrams(&expected, n)), total(&predicted), total(&expected))
    };
    let lengths = (predicted.len() as u64, expected.len() as u64);
    RougeScores {
        rouge1: of_ngrams(1),
        rouge2: of_ngrams(2),
        rouge_l: f_measure(common_length(&expected, &predicted), lengths.0, lengths.1),
        rouge_l_sum: f_measure(union_hits(prediction, reference), lengths.0, lengths.1),
    }
}

/// The words of the reference's lines that are in a longest common subsequence with some line of the prediction, each
/// counted no more often than both texts have it (as ROUGE 1.5.5 does, and not the paper).
fn union_hits(prediction: &[Vec<String>], reference: &[Vec<String>]) -> u64 {
    let bag = |lines: &[Vec<String>]| -> HashMap<String, u64> {
        lines.iter().flatten().fold(HashMap::new(), |mut bag, word| {
            *bag.entry(word.clone()).or_default() += 1;
            bag
        })
    };
    let (mut predicted, mut expected) = (bag(prediction), bag(reference));
    let mut hits = 0;
    for line in reference {
        let common: HashSet<usize> = prediction.iter().flat_map(|other| common_places(line, other)).collect();
        for word in common.into_iter().map(|at| &line[at]) {
            if let (Some(predicted), Some(expected)) = (predicted.get_mut(word), expected.get_mut(word))
                && *predicted > 0
                && *expected > 0
            {
                hits += 1;
                *predicted -= 1;
                *expected -= 1;
            }
        }
    }
    hits
}

/// How long the longest common subsequence is.
fn common_length(reference: &[String], prediction: &[String]) -> u64 {
    let mut lengths = vec![0u64; prediction.len() + 1];
    for word in reference {
        let mut diagonal = 0;
        for (at, other) in prediction.iter().enumerate() {
            let above = lengths[at + 1];
            lengths[at + 1] = if word == other { diagonal + 1 } else { above.max(lengths[at]) };
            diagonal = above;
        }
    }
    lengths[prediction.len()]
}

/// The places in `reference` of one longest common subsequence: of several the one that `rouge-score` finds, from the end,
/// where a word of the reference is passed over before one of the prediction unless that loses length.
fn common_places(reference: &[String], prediction: &[String]) -> Vec<usize> {
    let width = prediction.len() + 1;
    let mut lengths = vec![0u32; (reference.len() + 1) * width];
    for (row, word) in reference.iter().enumerate() {
        for (column, other) in prediction.iter().enumerate() {
            let at = (row + 1) * width + column + 1;
            lengths[at] = if word == other { lengths[at - width - 1] + 1 } else { lengths[at - width].max(lengths[at - 1]) };
        }
    }
    let (mut row, mut column, mut places) = (reference.len(), prediction.len(), Vec::new());
    while row > 0 && column > 0 {
        if reference[row - 1] == prediction[column - 1] {
            places.push(row - 1);
            row -= 1;
            column -= 1;
        } else if lengths[row * width + column - 1] > lengths[(row - 1) * width + column] {
            column -= 1;
        } else {
            row -= 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_words_by_script() {
        assert_eq!(RougeTokenizer::Ascii.words("The Cat's 2nd naïve—猫"), ["the", "cat", "s", "2nd", "na", "ve"]);
        assert_eq!(RougeTokenizer::Cjk.words("我爱AI2，Привет мир！カナ"), ["我", "爱", "ai2", "привет", "мир", "カ", "ナ"]);
        assert!(RougeTokenizer::Ascii.words("你好").is_empty());
    }

    #[test]
    fn scores_the_known_example() {
        let scores = Rouge::default().score("the cat was under the bed", &["the cat was found under the bed"]);
        assert!((scores.rouge1 - 12.0 / 13.0).abs() < 1e-12);
        assert!((scores.rouge2 - 8.0 / 11.0).abs() < 1e-12);
        assert!((scores.rouge_l - 12.0 / 13.0).abs() < 1e-12);
    }
}
