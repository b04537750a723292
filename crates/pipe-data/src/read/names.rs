//! Names of columns in formats without a header: the keys of JSON objects, counted as records are parsed.
//!
//! A key may be anything, also personal data. So few are kept, only such as look like names, and only those that many
//! records have are told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// More names than this are not told apart.
const MAX_NAMES: usize = 256;
/// In characters.
const MAX_LENGTH: usize = 64;
const MAX_DIGITS: usize = 5;
const MAX_WORDS: usize = 4;

/// Keys with the number of records that have them.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyNames {
    records: u64,
    names: BTreeMap<String, u64>,
    /// Keys that are asked for: whether any record has them, whatever they look like.
    #[serde(default)]
    listed: BTreeMap<String, bool>,
}

impl KeyNames {
    /// Knows of these keys in any case.
    pub fn listing(names: impl Iterator<Item = String>) -> KeyNames {
        KeyNames { listed: names.map(|name| (name, false)).collect(), ..KeyNames::default() }
    }

    pub fn add(&mut self, other: &KeyNames) {
        self.records += other.records;
        for (name, count) in &other.names {
            self.count(name, *count);
        }
        for (name, met) in &other.listed {
            *self.listed.entry(name.clone()).or_default() |= met;
        }
    }

    fn count(&mut self, name: &str, count: u64) {
        if let Some(sum) = self.names.get_mut(name) {
            *sum += count;
        } else if self.names.len() < MAX_NAMES && is_name(name) {
            self.names.insert(name.to_owned(), count);
        }
    }

    /// Those that at least one in a hundred records has, and more than one where there are some, sorted.
    pub fn common(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter(|(_, count)| **count * 100 >= self.records && (**count > 1 || self.records < 10)).map(|(name, _)| name.as_str())
    }

    /// Whether any record has the key. Keys that do not look like names are found if they were listed.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name) || self.listed.get(name).is_some_and(|met| *met)
    }
}

/// A name such as people give to columns: letters first, no address, no number of any length.
fn is_name(key: &str) -> bool {
    let begins = key.starts_with(|c: char| c.is_alphabetic() || c == '_');
    begins
        && key.chars().all(|c| c.is_alphanumeric() || "_-. /:()".contains(c))
        && key.chars().count() <= MAX_LENGTH
        && key.chars().filter(|c| c.is_numeric()).count() <= MAX_DIGITS
        && key.split_whitespace().count() <= MAX_WORDS
}

/// Counts the keys of records that mostly have the same keys in the same order, as a file's records do.
pub(super) struct KeyCounter<'n> {
    names: &'n mut KeyNames,
    /// In the order of the latest records.
    slots: Vec<(String, u64)>,
    next: usize,
}

impl KeyCounter<'_> {
    pub(super) fn new(names: &mut KeyNames) -> KeyCounter<'_> {
        KeyCounter { names, slots: Vec::new(), next: 0 }
    }

    pub(super) fn begin_record(&mut self) {
        self.names.records += 1;
        self.next = 0;
    }

    pub(super) fn count(&mut self, key: &str) {
        let expected = self.next;
        self.next += 1;
        if let Some(met) = self.names.listed.get_mut(key) {
            *met = true;
        }
        if let Some((name, count)) = self.slots.get_mut(expected)
            && name == key
        {
            *count += 1;
            return;
        }
        if let Some(at) = self.slots.iter().position(|(name, _)| name == key) {
            self.slots[at].1 += 1;
            self.next = at + 1;
        } else if self.slots.len() < MAX_NAMES && is_name(key) {
            self.slots.push((key.to_owned(), 1));
        }
    }
}

impl Drop for KeyCounter<'_> {
    fn drop(&mut self) {
        for (name, count) in std::mem::take(&mut self.slots) {
            self.names.count(&name, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_value_is_no_name() {
        let mut names = KeyNames::default();
        let mut counter = KeyCounter::new(&mut names);
        for at in 0..300 {
            counter.begin_record();
            for key in ["text", "zhang@example.com", "13812345678", "用户 标签"] {
                counter.count(key);
            }
            if at == 7 {
                counter.count("rare");
            }
        }
        drop(counter);
        assert_eq!(names.common().collect::<Vec<_>>(), ["text", "用户 标签"]);
        assert!(names.contains("rare") && !names.contains("13812345678"));
    }
}
