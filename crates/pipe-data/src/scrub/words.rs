//! Personal data out of a text that comes as words: a value that stands over several of them is found too.
//!
//! ```text
//! call  138 1234 5678  now      the words, joined with single spaces, are scrubbed as one text
//! call  <PHONE>        now      a value belongs to the word that it begins in; the others that it touches are gone
//! ```

use std::borrow::Cow;
use std::ops::Range;

use pipe_core::Result;
use pipe_core::config::Operator;

use super::{Edits, ScrubCounts, Scrubber};

/// Rounds until the words as they are written hold nothing. One is enough but where a word of white space or of nothing was
/// mended after it, and its neighbours are read otherwise.
const MAX_ROUNDS: usize = 4;

/// Words without what a policy names. No `Debug`: they hold text.
#[derive(Clone, PartialEq)]
pub struct ScrubbedWords {
    /// None is empty or has white space in it.
    pub words: Vec<String>,
    /// Of each word, the raw words that it was made of: one, but where a value stood over several.
    pub from: Vec<Range<usize>>,
    /// Whether a word is not what it was.
    pub changed: bool,
    /// The operator `drop_row` met a value: the row is left out, and counted as filtered.
    pub drop_row: bool,
}

/// The text that words are scrubbed and scanned as.
pub fn joined<S: AsRef<str>>(words: &[S]) -> String {
    let mut text = String::with_capacity(words.iter().map(|word| word.as_ref().len() + 1).sum());
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            text.push(' ');
        }
        text.push_str(word.as_ref());
    }
    text
}

impl ScrubbedWords {
    /// The words as they came, but for white space: whoever reads words splits at it. Inside of a word it becomes `_`, and a
    /// word of nothing else is left out.
    pub fn unscrubbed(words: Vec<String>) -> ScrubbedWords {
        let mut raw = ScrubbedWords::of(words);
        raw.mend();
        raw
    }

    fn of(words: Vec<String>) -> ScrubbedWords {
        let from = (0..words.len()).map(|at| at..at + 1).collect();
        ScrubbedWords { words, from, changed: false, drop_row: false }
    }

    /// The words of the scrubbed text `clean`: those whose spaces between them were replaced are one.
    fn split(&self, clean: &str, edits: &Edits) -> ScrubbedWords {
        let mut end = 0;
        let mut spaces: Vec<usize> = Vec::with_capacity(self.words.len());
        for word in &self.words {
            end += word.len();
            spaces.push(end);
            end += 1;
        }
        // Behind the last word is none.
        spaces.pop();
        let mut split = ScrubbedWords { words: Vec::new(), from: Vec::new(), changed: true, drop_row: self.drop_row };
        let (mut start, mut first) = (0, 0);
        for (at, space) in edits.kept(&spaces).into_iter().enumerate() {
            let Some(space) = space else { continue };
            split.words.push(clean[start..space].to_owned());
            split.from.push(self.from[first].start..self.from[at].end);
            (start, first) = (space + 1, at + 1);
        }
        if let (Some(first), Some(last)) = (self.from.get(first), self.from.last()) {
            split.words.push(clean[start..].to_owned());
            split.from.push(first.start..last.end);
        }
        split
    }

    /// Takes white space out of words, and words without anything out of the text; says whether there were some.
    fn mend(&mut self) -> bool {
        let mut mended = false;
        for word in &mut self.words {
            if word.contains(char::is_whitespace) {
                *word = word.split_whitespace().collect::<Vec<_>>().join("_");
                mended = true;
            }
        }
        if self.words.iter().any(String::is_empty) {
            let (words, from) = (std::mem::take(&mut self.words), std::mem::take(&mut self.from));
            (self.words, self.from) = words.into_iter().zip(from).filter(|(word, _)| !word.is_empty()).unzip();
            mended = true;
        }
        self.changed |= mended;
        mended
    }
}

impl Scrubber {
    /// Scrubs words as the text that they are. Absent: values were left whatever was done, and the words must not be kept.
    ///
    /// # Errors
    ///
    /// As those of [`Scrubber::scrub_all`].
    pub fn scrub_words(&self, words: Vec<String>, counts: &mut ScrubCounts) -> Result<Option<ScrubbedWords>> {
        let mut all = ScrubbedWords::of(words);
        for round in 0..MAX_ROUNDS {
            let text = joined(&all.words);
            let (mut edits, mut found) = (Edits::default(), ScrubCounts::default());
            let clean = self.scrub_noting(&text, &mut found, Some(&mut edits))?;
            // What is kept on purpose is there in every round, and counts once.
            counts.add(&if round == 0 { found } else { found.without(Operator::Keep) });
            all.drop_row |= clean.drop_row;
            if let Cow::Owned(clean) = &clean.text {
                all = all.split(clean, &edits);
            }
            let mended = all.mend();
            if all.drop_row || !mended || self.residual(&joined(&all.words)) == 0 {
                return Ok(Some(all));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ScrubPolicy;
    use super::*;

    fn scrubber(policy: &str) -> Scrubber {
        Scrubber::new(&ScrubPolicy::resolve(policy, None).unwrap(), None).unwrap()
    }

    /// The words of `text` that are left, each with the raw words that it is.
    fn scrub(scrubber: &Scrubber, words: &[&str]) -> (Vec<(String, Range<usize>)>, u64) {
        let mut counts = ScrubCounts::default();
        let raw = words.iter().map(|word| (*word).to_owned()).collect();
        let clean = scrubber.scrub_words(raw, &mut counts).unwrap().unwrap();
        assert_eq!(clean.words.len(), clean.from.len());
        assert_eq!(scrubber.residual(&joined(&clean.words)), 0);
        assert_eq!(clean.changed, clean.words != words);
        (clean.words.into_iter().zip(clean.from).collect(), counts.total())
    }

    fn split(text: &str) -> Vec<&str> {
        text.split(' ').collect()
    }

    #[test]
    fn a_value_over_several_words_is_one_word() {
        let standard = scrubber("standard");
        for (text, expected, from, found) in [
            ("nothing to see", "nothing to see", &[[0, 1], [1, 2], [2, 3]][..], 0),
            ("call 138 1234 5678 now", "call <PHONE> now", &[[0, 1], [1, 4], [4, 5]][..], 1),
            ("138 1234 5678", "<PHONE>", &[[0, 3]][..], 1),
            ("(138 1234 5678),", "(<PHONE>),", &[[0, 3]][..], 1),
            ("write jane@example.com or 138 1234 5678", "write <EMAIL> or <PHONE>", &[[0, 1], [1, 2], [2, 3], [3, 6]][..], 2),
            ("a@example.com b@example.org", "<EMAIL> <EMAIL>", &[[0, 1], [1, 2]][..], 2),
            ("4111 1111 1111 1111 , ok", "<CARD> , ok", &[[0, 4], [4, 5], [5, 6]][..], 1),
        ] {
            let (words, count) = scrub(&standard, &split(text));
            let expected: Vec<(String, Range<usize>)> =
                expected.split(' ').map(str::to_owned).zip(from.iter().map(|[start, end]| *start..*end)).collect();
            assert_eq!((words, count), (expected, found), "{text}");
        }
    }

    #[test]
    fn no_word_is_empty_or_has_white_space() {
        let standard = scrubber("standard");
        let words = |raw: &[&str]| scrub(&standard, raw).0.into_iter().map(|(word, _)| word).collect::<Vec<_>>();
        assert_eq!(words(&["10\u{a0}000", " a\nb ", "", " ", "c"]), ["10_000", "a_b", "c"]);
        // Looked for before white space is taken away.
        assert_eq!(words(&["call 138 1234 5678", "now"]), ["call_<PHONE>", "now"]);
        assert_eq!(words(&["138", "\u{3000}", "1234", "5678"]), ["<PHONE>"]);
        let empty = scrub(&standard, &["", " "]).0;
        assert!(empty.is_empty());
    }

    #[test]
    fn what_an_operator_writes_is_one_word_too() {
        let config = serde_json::from_value(serde_json::json!({"operators": {"phone": "mask", "email": "redact"}})).unwrap();
        let masked = ScrubPolicy::of_config(&config, std::path::Path::new(""), None).unwrap();
        let masked = Scrubber::new(&masked, None).unwrap();
        let (words, found) = scrub(&masked, &split("call 138 1234 5678 or a@example.com now"));
        assert_eq!(words, [("call", 0..1), ("***_****_****", 1..4), ("or", 4..5), ("now", 6..7)].map(|(word, from)| (word.to_owned(), from)));
        assert_eq!(found, 2);
    }
}
