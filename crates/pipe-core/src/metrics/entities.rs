//! Entities in tagged sentences, as seqeval counts them by default, which is as `conlleval` of CoNLL-2000 does.
//!
//! An entity is right where its type, its first and its last token are. The tags are read leniently, whichever of IOB1, IOB2,
//! IOE1, IOE2 and IOBES they are written in: an `I-` without a `B-` before it begins an entity, and so does a change of type.
//! A tag without a type (`B`) has the type `_`, and one that is empty is read as `O`.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::counts::{self, Counts, ratio};
use super::named;

/// A span of tokens with a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entity<'a> {
    pub kind: &'a str,
    pub first: usize,
    /// The last token, included.
    pub last: usize,
}

/// Counts by type of entity; of the size of the types.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EntityMetrics {
    types: BTreeMap<String, Counts>,
    sentences: u64,
    tokens: u64,
    right_tokens: u64,
}

/// What [`EntityMetrics`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntityReport {
    pub sentences: u64,
    pub tokens: u64,
    /// By the names of the family. `precision`, `recall` and `f1` are over all entities (micro); the macro and weighted means
    /// are over the types that occur in gold or predicted tags; `accuracy` is that of tokens.
    pub metrics: BTreeMap<String, f64>,
    /// In the order of their names.
    pub types: Vec<EntityTypeReport>,
}

/// Scores of one type of entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntityTypeReport {
    #[serde(rename = "type")]
    pub kind: String,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Entities of this type in the gold tags.
    pub support: u64,
}

impl EntityMetrics {
    pub fn new() -> Self {
        EntityMetrics::default()
    }

    /// Adds a sentence: a gold and a predicted tag for each token.
    pub fn add<G: AsRef<str>, P: AsRef<str>>(&mut self, gold: &[G], predicted: &[P]) {
        assert_eq!(gold.len(), predicted.len(), "as many predicted as gold tags");
        let gold: Vec<&str> = gold.iter().map(AsRef::as_ref).collect();
        let predicted: Vec<&str> = predicted.iter().map(AsRef::as_ref).collect();
        self.sentences += 1;
        self.tokens += gold.len() as u64;
        self.right_tokens += gold.iter().zip(&predicted).filter(|(gold, predicted)| gold == predicted).count() as u64;
        let truth: HashSet<Entity> = entities(&gold).into_iter().collect();
        for entity in &truth {
            self.of(entity.kind).support += 1;
        }
        for entity in entities(&predicted) {
            let counts = self.of(entity.kind);
            counts.predicted += 1;
            counts.hits += u64::from(truth.contains(&entity));
        }
    }

    /// Adds a sentence of tag ids, which are places in `tags`.
    pub fn add_ids(&mut self, gold: &[usize], predicted: &[usize], tags: &[String]) {
        let tags_of = |ids: &[usize]| -> Vec<&str> { ids.iter().map(|&id| tags[id].as_str()).collect() };
        self.add(&tags_of(gold), &tags_of(predicted));
    }

    pub fn merge(&mut self, other: &EntityMetrics) {
        for (kind, counts) in &other.types {
            self.of(kind).add(counts);
        }
        self.sentences += other.sentences;
        self.tokens += other.tokens;
        self.right_tokens += other.right_tokens;
    }

    fn of(&mut self, kind: &str) -> &mut Counts {
        self.types.entry(kind.to_owned()).or_default()
    }

    pub fn report(&self) -> EntityReport {
        let counts: Vec<Counts> = self.types.values().copied().collect();
        let total = counts::total(&counts);
        let mut metrics: BTreeMap<String, f64> = counts::macro_and_weighted(&counts).collect();
        metrics.extend(named([
            ("precision", Some(total.precision())),
            ("recall", Some(total.recall())),
            ("f1", Some(total.f1())),
            ("accuracy", Some(ratio(self.right_tokens, self.tokens))),
        ]));
        let table = self.types.iter().map(|(kind, counts)| EntityTypeReport {
            kind: kind.clone(),
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.support,
        });
        EntityReport { sentences: self.sentences, tokens: self.tokens, metrics, types: table.collect() }
    }
}

/// The entities of a tagged sentence, in order.
pub fn entities<'a>(tags: &[&'a str]) -> Vec<Entity<'a>> {
    let mut found = Vec::new();
    let (mut before, mut first) = (OUTSIDE, 0);
    for (at, tag) in tags.iter().map(|tag| Tag::read(tag)).chain([OUTSIDE]).enumerate() {
        // The `chain` above makes `at` one more than the last token at the end, so 1 at the least where something ends.
        if ends(before, tag) {
            found.push(Entity { kind: before.kind, first, last: at - 1 });
        }
        if begins(before, tag) {
            first = at;
        }
        before = tag;
    }
    found
}

#[derive(Debug, Clone, Copy)]
struct Tag<'a> {
    prefix: char,
    kind: &'a str,
}

const OUTSIDE: Tag<'static> = Tag { prefix: 'O', kind: "_" };

impl<'a> Tag<'a> {
    fn read(tag: &'a str) -> Tag<'a> {
        let mut chars = tag.chars();
        let Some(prefix) = chars.next() else { return OUTSIDE };
        let rest = chars.as_str();
        let kind = rest.split_once('-').map_or(rest, |(_, kind)| kind);
        Tag { prefix, kind: if kind.is_empty() { "_" } else { kind } }
    }

    /// `.` is what conlleval has for the end of a sentence.
    fn is_outside(self) -> bool {
        matches!(self.prefix, 'O' | '.')
    }
}

/// Whether an entity ends between two neighbours.
fn ends(before: Tag, tag: Tag) -> bool {
    matches!((before.prefix, tag.prefix), ('E' | 'S', _) | ('B' | 'I', 'B' | 'S' | 'O')) || (!before.is_outside() && before.kind != tag.kind)
}

/// Whether an entity begins with the second of two neighbours.
fn begins(before: Tag, tag: Tag) -> bool {
    matches!((before.prefix, tag.prefix), (_, 'B' | 'S') | ('E' | 'S' | 'O', 'E' | 'I')) || (!tag.is_outside() && before.kind != tag.kind)
}

#[cfg(test)]
mod tests {
    use super::super::MetricFamily;
    use super::super::reference::Reference;
    use super::*;
    use crate::SplitMix;

    /// What a model may predict, and more: tags of several schemes in one sentence, tags without type, types with a dash.
    fn sentence(rng: &mut SplitMix, prefixes: &str, types: usize) -> Vec<String> {
        let prefixes: Vec<char> = prefixes.chars().collect();
        let tag = |rng: &mut SplitMix| {
            let prefix = prefixes[rng.below(prefixes.len())];
            let kind = ["PER", "LOC", "ORG", "MISC-X", ""][rng.below(types)];
            match (prefix, kind) {
                ('O', _) => "O".to_owned(),
                (prefix, "") => prefix.to_string(),
                (prefix, kind) => format!("{prefix}-{kind}"),
            }
        };
        (0..rng.below(13)).map(|_| tag(rng)).collect()
    }

    #[test]
    fn equals_seqeval() {
        let mut reference = Reference::load("entities", MetricFamily::Entities);
        for (case, mut rng) in reference.cases() {
            let prefixes = ["BIO", "IO", "IEO", "BIESO", "BBIO", "O"][rng.below(6)];
            let (types, sentences) = (rng.below(5) + 1, rng.below(6));
            let mut metrics = EntityMetrics::new();
            let mut by_sentence = EntityMetrics::new();
            for _ in 0..sentences {
                let gold = sentence(&mut rng, prefixes, types);
                let other = sentence(&mut rng, prefixes, types);
                let predicted: Vec<String> =
                    gold.iter().enumerate().map(|(at, tag)| other.get(at).filter(|_| rng.below(4) == 0).unwrap_or(tag).clone()).collect();
                metrics.add(&gold, &predicted);
                let mut one = EntityMetrics::new();
                one.add(&gold, &predicted);
                by_sentence.merge(&one);
            }
            let report = metrics.report();
            reference.check(case, &report.metrics);
            for (at, kind) in report.types.iter().enumerate() {
                reference.check_at("type_f1", case, at, Some(kind.f1));
            }
            assert_eq!(by_sentence, metrics);
        }
        reference.finish();
    }

    #[test]
    fn reads_tags_as_conlleval() {
        let spans = |tags: &str| -> String {
            let tags: Vec<&str> = tags.split(' ').collect();
            entities(&tags).iter().map(|e| format!("{}:{}-{}", e.kind, e.first, e.last)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(spans("B-PER I-PER O B-LOC"), "PER:0-1 LOC:3-3");
        assert_eq!(spans("I-PER I-PER I-LOC O I-LOC"), "PER:0-1 LOC:2-2 LOC:4-4");
        assert_eq!(spans("S-PER B-LOC I-LOC E-LOC E-LOC"), "PER:0-0 LOC:1-3 LOC:4-4");
        assert_eq!(spans("B I O"), "_:0-1");
        assert_eq!(entities(&["", ""]), []);
        let mut metrics = EntityMetrics::new();
        metrics.add_ids(&[0, 1, 2], &[0, 1, 1], &["O".to_owned(), "B-A".to_owned(), "I-A".to_owned()]);
        assert_eq!(metrics.report().metrics["f1"], 0.0);
    }

    #[test]
    fn without_entities_all_scores_are_zero() {
        let mut metrics = EntityMetrics::new();
        assert!(metrics.report().metrics.values().all(|value| *value == 0.0));
        metrics.add::<&str, &str>(&[], &[]);
        metrics.add(&["O"], &["O"]);
        let report = metrics.report();
        assert_eq!((report.metrics["f1"], report.metrics["f1_macro"], report.metrics["accuracy"]), (0.0, 0.0, 1.0));
        assert!(report.types.is_empty());
    }
}
