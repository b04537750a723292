//! Counting values, column by column.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Distinct values are counted up to this.
const MAX_DISTINCT: usize = 1 << 16;
/// Values whose tokens are estimated, for each column.
const MAX_ESTIMATES: usize = 20_000;
/// A name of more characters than this is no name.
const MAX_NAME: usize = 64;
/// Nor is one of so many words, where the values are of many words too.
const SENTENCE_WORDS: usize = 5;
/// Tokens that the special ones take, two texts included.
const SPECIAL_TOKENS: u32 = 3;

/// What a value is, as far as roles care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    Text,
    /// Integers and true/false: possible labels.
    Integer,
    Number,
    Other,
}

impl ValueKind {
    /// A field of a CSV file: all are text, some look like numbers.
    pub(super) fn of_field(field: &str) -> ValueKind {
        let field = field.trim();
        if field.parse::<i64>().is_ok() {
            ValueKind::Integer
        } else if field.parse::<f64>().is_ok() {
            ValueKind::Number
        } else {
            ValueKind::Text
        }
    }
}

/// Statistics of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnFacts {
    pub name: String,
    /// Values that are there and not blank.
    pub filled: u64,
    /// Of those, texts that do not look like numbers.
    pub texts: u64,
    /// Of those, integers or true/false.
    pub integers: u64,
    /// Of those, several words, or a script that writes none apart.
    pub prose: u64,
    /// Different values, up to a limit.
    pub distinct: u64,
    /// No value came twice, as far as they were told apart.
    pub unique: bool,
    /// Of the filled values, in characters.
    pub mean_chars: f64,
    pub max_chars: usize,
    /// An estimate of the tokens of all but the longest hundredth, special ones included.
    pub tokens: u32,
}

struct Tally {
    facts: ColumnFacts,
    distinct: HashSet<u64>,
    chars: u64,
    measured: u64,
    tokens: Vec<u32>,
    like_its_name: u64,
}

pub(super) struct Tallies {
    columns: Vec<Tally>,
    hasher: RandomState,
    pub(super) records: u64,
    pub(super) unreadable: u64,
}

impl Tallies {
    pub(super) fn new(header: &[String]) -> Tallies {
        let mut tallies = Tallies { columns: Vec::new(), hasher: RandomState::new(), records: 0, unreadable: 0 };
        for name in header {
            tallies.column(name);
        }
        tallies
    }

    fn column(&mut self, name: &str) {
        let facts = ColumnFacts {
            name: name.to_owned(),
            filled: 0,
            texts: 0,
            integers: 0,
            prose: 0,
            distinct: 0,
            unique: true,
            mean_chars: 0.0,
            max_chars: 0,
            tokens: 0,
        };
        self.columns.push(Tally { facts, distinct: HashSet::new(), chars: 0, measured: 0, tokens: Vec::new(), like_its_name: 0 });
    }

    pub(super) fn add(&mut self, at: usize, kind: ValueKind, value: &str) {
        let Some(tally) = self.columns.get_mut(at) else { return };
        let value = value.trim();
        let facts = &mut tally.facts;
        match kind {
            ValueKind::Other => facts.filled += 1,
            _ if value.is_empty() => {}
            _ => {
                facts.filled += 1;
                facts.texts += u64::from(kind == ValueKind::Text);
                facts.integers += u64::from(kind == ValueKind::Integer);
                facts.prose += u64::from(kind == ValueKind::Text && is_prose(value));
                let chars = value.chars().count();
                facts.max_chars = facts.max_chars.max(chars);
                tally.chars += chars as u64;
                tally.measured += 1;
                if tally.tokens.len() < MAX_ESTIMATES {
                    tally.tokens.push(estimate_tokens(value));
                }
                tally.like_its_name += u64::from(value == facts.name.trim());
                if tally.distinct.len() < MAX_DISTINCT {
                    let is_new = tally.distinct.insert(self.hasher.hash_one(value));
                    tally.facts.unique &= is_new;
                }
            }
        }
    }

    /// A name that is a sentence, or that the column's own values repeat, is a value.
    pub(super) fn header_is_a_row(&self) -> bool {
        self.columns.iter().any(|tally| {
            let name = tally.facts.name.trim();
            let repeated = tally.like_its_name * 50 > tally.facts.filled && tally.facts.filled > 0;
            let sentence = name.split_whitespace().count() >= SENTENCE_WORDS && tally.facts.prose * 2 > tally.facts.filled;
            name.chars().count() > MAX_NAME || repeated || sentence
        })
    }

    /// Keys that few records have are no columns, but perhaps values.
    pub(super) fn finish(self) -> Vec<ColumnFacts> {
        let records = self.records;
        self.columns.into_iter().map(Tally::finish).filter(|facts| facts.filled > 0 && facts.filled * 2 >= records).collect()
    }
}

impl Tally {
    fn finish(mut self) -> ColumnFacts {
        let estimated = self.tokens.len();
        self.tokens.sort_unstable();
        ColumnFacts {
            distinct: self.distinct.len() as u64,
            mean_chars: self.chars as f64 / self.measured.max(1) as f64,
            tokens: self.tokens.get((estimated * 99 / 100).min(estimated.saturating_sub(1))).map_or(0, |tokens| tokens + SPECIAL_TOKENS),
            ..self.facts
        }
    }
}

/// Chinese, Japanese and Korean characters: a word or a part of one each.
fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Several words, most of them letters; dates, codes, paths and numbers are none.
fn is_prose(value: &str) -> bool {
    let (mut letters, mut visible, mut ideographs) = (0, 0, 0);
    for c in value.chars().filter(|c| !c.is_whitespace()) {
        visible += 1;
        letters += usize::from(c.is_alphabetic());
        ideographs += usize::from(is_ideographic(c));
    }
    letters * 2 >= visible && (ideographs >= 4 || value.split_whitespace().nth(1).is_some())
}

/// About a token for three letters, and one for each other sign: on the safe side for most vocabularies.
fn estimate_tokens(value: &str) -> u32 {
    let (mut tokens, mut letters) = (0u32, 0u32);
    for c in value.chars() {
        if c.is_alphanumeric() && !is_ideographic(c) {
            letters += 1;
        } else if !c.is_whitespace() {
            tokens += 1;
        }
    }
    tokens.saturating_add(letters / 3)
}
