//! BLEU (Papineni et al. 2002) of a corpus, as sacrebleu counts it (Post 2018, "A Call for Clarity in Reporting BLEU Scores"),
//! with its tokenizers `13a`, which is NIST's `mteval-v13a`, and `zh`.

use std::collections::HashMap;

use super::{ngrams, python};

/// The longest n-gram that counts.
const ORDER: usize = 4;

/// How BLEU is counted; the default is sacrebleu's.
///
/// Scores are from 0 to 1, as those of Hugging Face's `evaluate`; sacrebleu and most papers write 100 times as much. That
/// `bleu` of `evaluate` is [`BleuSmoothing::None`] where a row has one reference; with several it takes the length of the
/// shortest, where sacrebleu takes that of the one whose length is nearest, and so does this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bleu {
    pub tokenizer: BleuTokenizer,
    pub smoothing: BleuSmoothing,
    /// Whether n-grams longer than any prediction are left out of the mean, which makes sense of scores of single sentences.
    pub effective_order: bool,
}

/// How a text is cut into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BleuTokenizer {
    /// `13a`: punctuation apart, but for that within numbers.
    #[default]
    V13a,
    /// `zh`: every Chinese character a word, the rest nearly as `13a`.
    Zh,
    /// `none`: at spaces.
    Space,
}

/// What a precision of 0 counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BleuSmoothing {
    /// As half of one match, the next as a quarter and so on: method 3 of Chen and Cherry 2014.
    #[default]
    Exp,
    /// As 0, which makes the score 0.
    None,
}

/// What rows add to a corpus' score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BleuStatistics {
    /// Words of the predictions.
    pub length: u64,
    /// Words of the references, each row's nearest in length.
    pub reference_length: u64,
    /// N-grams that a reference has too, of each order from 1.
    pub matches: [u64; ORDER],
    /// N-grams of the predictions.
    pub totals: [u64; ORDER],
}

impl BleuStatistics {
    pub fn add(&mut self, other: &BleuStatistics) {
        self.length += other.length;
        self.reference_length += other.reference_length;
        self.matches.iter_mut().zip(other.matches).for_each(|(sum, other)| *sum += other);
        self.totals.iter_mut().zip(other.totals).for_each(|(sum, other)| *sum += other);
    }
}

impl Bleu {
    /// Of one row. An n-gram matches as often as the reference that has it most has it.
    pub fn statistics<R: AsRef<str>>(&self, prediction: &str, references: &[R]) -> BleuStatistics {
        let prediction = self.tokenizer.apply(prediction);
        let prediction: Vec<&str> = python::words(&prediction).collect();
        let references: Vec<String> = references.iter().map(|reference| self.tokenizer.apply(reference.as_ref())).collect();
        let references: Vec<Vec<&str>> = references.iter().map(|reference| python::words(reference).collect()).collect();
        // The shorter of two that are equally near.
        let nearest = references.iter().map(Vec::len).min_by_key(|&length| (length.abs_diff(prediction.len()), length));
        let mut statistics =
            BleuStatistics { length: prediction.len() as u64, reference_length: nearest.unwrap_or(0) as u64, ..BleuStatistics::default() };
        for n in 1..=ORDER {
            let mut most: HashMap<&[&str], u64> = HashMap::new();
            for (ngram, count) in references.iter().flat_map(|reference| ngrams(reference, n)) {
                let most = most.entry(ngram).or_default();
                *most = count.max(*most);
            }
            statistics.matches[n - 1] = super::overlap(&ngrams(&prediction, n), &most);
            statistics.totals[n - 1] = (prediction.len() + 1).saturating_sub(n) as u64;
        }
        statistics
    }

    /// The score of all rows together, 0 to 1; 0 without any match.
    pub fn score(&self, statistics: &BleuStatistics) -> f64 {
        if statistics.matches.iter().all(|&matches| matches == 0) {
            return 0.0;
        }
        let mut log_sum = 0.0;
        let mut halved = 1.0;
        let mut order = ORDER;
        for (at, (&matches, &total)) in statistics.matches.iter().zip(&statistics.totals).enumerate() {
            if total == 0 {
                // No prediction is that long.
                if !self.effective_order {
                    return 0.0;
                }
                order = at;
                break;
            }
            log_sum += match (matches, self.smoothing) {
                (0, BleuSmoothing::None) => return 0.0,
                (0, BleuSmoothing::Exp) => {
                    halved *= 2.0;
                    -(halved * total as f64).ln()
                }
                _ => (matches as f64 / total as f64).ln(),
            };
        }
        let (length, expected) = (statistics.length as f64, statistics.reference_length as f64);
        let brevity = if length < expected { (1.0 - expected / length).exp() } else { 1.0 };
        brevity * (log_sum / order as f64).exp()
    }
}

impl BleuTokenizer {
    /// The text with spaces between its words.
    pub fn apply(self, text: &str) -> String {
        let text = text.trim_end_matches(python::is_space);
        match self {
            BleuTokenizer::Space => text.to_owned(),
            BleuTokenizer::V13a => {
                let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
                let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
                punctuation_apart(&format!(" {text} "))
            }
            BleuTokenizer::Zh => {
                let mut apart = String::new();
                for c in text.trim_start_matches(python::is_space).chars() {
                    if is_chinese_to_sacrebleu(c) {
                        apart.extend([' ', c, ' ']);
                    } else {
                        apart.push(c);
                    }
                }
                punctuation_apart(&apart)
            }
        }
    }
}

/// What `mteval-v13a` does for Western languages, in its order.
fn punctuation_apart(text: &str) -> String {
    let is_point = |c: char| matches!(c, '.' | ',');
    let mut chars = Vec::with_capacity(text.len() * 2);
    for c in text.chars() {
        match c {
            '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/' => chars.extend([' ', c, ' ']),
            c => chars.push(c),
        }
    }
    // A point or comma, unless digits are on both sides of it; a dash after a digit.
    let chars = replace_pairs(&chars, |a, b| (!a.is_ascii_digit() && is_point(b)).then_some([a, ' ', b, ' ']));
    let chars = replace_pairs(&chars, |a, b| (is_point(a) && !b.is_ascii_digit()).then_some([' ', a, ' ', b]));
    replace_pairs(&chars, |a, b| (a.is_ascii_digit() && b == '-').then_some([a, ' ', b, ' '])).into_iter().collect()
}

/// From left to right, as a regular expression of two characters replaces: what was taken is not looked at again.
fn replace_pairs(chars: &[char], replacement: impl Fn(char, char) -> Option<[char; 4]>) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len() * 2);
    let mut at = 0;
    while at < chars.len() {
        match chars.get(at + 1).and_then(|&next| replacement(chars[at], next)) {
            Some(replaced) => {
                out.extend(replaced);
                at += 2;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// The characters that sacrebleu's `zh` takes apart. It means to name U+20000 to U+2A6D6 and U+2F800 to U+2FA1D as well, but
/// writes them so that Python reads strings of two characters, between which are U+2001 to U+2A6D and U+2F81 to U+2FA1:
/// typographic quotes and dashes, mathematical signs. Scores are compared with published ones, so this is kept.
fn is_chinese_to_sacrebleu(c: char) -> bool {
    matches!(c, '\u{2001}'..='\u{2a6d}' | '\u{2e80}'..='\u{2fdf}' | '\u{2ff0}'..='\u{303f}' | '\u{3100}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}')
        || matches!(c, '\u{31c0}'..='\u{31ef}' | '\u{3200}'..='\u{33ff}' | '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}')
        || matches!(c, '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}' | '\u{fa70}'..='\u{fad9}')
        || matches!(c, '\u{fe10}'..='\u{fe1f}' | '\u{fe30}'..='\u{fe4f}' | '\u{ff00}'..='\u{ffef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(tokenizer: BleuTokenizer, text: &str) -> String {
        python::words(&tokenizer.apply(text)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn cuts_as_sacrebleu() {
        let western = |text| words(BleuTokenizer::V13a, text);
        assert_eq!(western("It's 1,000.5, really... \"ok\" (a-b) 5-6!\n"), "It's 1,000.5 , really . . . \" ok \" ( a-b ) 5 - 6 !");
        assert_eq!(western("line-\nbreak &lt;b&gt; &amp;quot;"), "linebreak < b > & quot ;");
        assert_eq!(words(BleuTokenizer::Zh, " 我爱“AI”，2.5元。"), "我 爱 “ AI ” ， 2.5 元 。");
        assert_eq!(words(BleuTokenizer::Space, "a, b"), "a, b");
    }
}
