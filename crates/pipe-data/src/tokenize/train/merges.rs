//! Byte-pair merges (Sennrich et al. 2016), with which the library trains WordPiece too: the most frequent pair of neighbours
//! becomes a piece of its own, again and again. Of equally frequent pairs the one with the lower ids is taken.
//!
//! The library breaks ties in the same way, but numbers pieces, and takes up again pairs that it met twice, in the order of a
//! hash map.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use pipe_core::config::{TokenizerKind, TrainTokenizerConfig};
use pipe_core::{Error, Progress, Result};

use super::alphabet::{INSIDE, spell};

type Pair = (u32, u32);

/// Pieces and their ids, both ways.
pub(super) struct Vocabulary {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    pub(super) fn new(names: impl Iterator<Item = String>) -> Vocabulary {
        let mut vocabulary = Vocabulary { names: Vec::new(), ids: HashMap::new() };
        for name in names {
            vocabulary.id(name);
        }
        vocabulary
    }

    /// A new one where there is none.
    fn id(&mut self, name: String) -> u32 {
        let next = self.names.len() as u32;
        *self.ids.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            next
        })
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.names
    }
}

/// A word as the pieces it consists of at the moment.
struct Word {
    pieces: Vec<u32>,
    count: u64,
}

/// How often each pair is met, and in which words it is or was.
#[derive(Default)]
struct Pairs {
    counts: HashMap<Pair, u64>,
    places: HashMap<Pair, Vec<u32>>,
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Pairs {
    fn add(&mut self, at: usize, word: &Word, grown: &mut HashSet<Pair>) {
        for pair in neighbours(&word.pieces) {
            *self.counts.entry(pair).or_default() += word.count;
            let places = self.places.entry(pair).or_default();
            if places.last() != Some(&(at as u32)) {
                places.push(at as u32);
            }
            grown.insert(pair);
        }
    }

    fn remove(&mut self, word: &Word) {
        for pair in neighbours(&word.pieces) {
            if let Some(count) = self.counts.get_mut(&pair) {
                *count -= word.count;
            }
        }
    }

    fn queue(&mut self, grown: HashSet<Pair>) {
        for pair in grown {
            self.queue.push((self.counts[&pair], Reverse(pair)));
        }
    }

    /// The most frequent pair. Entries of the queue may be out of date; one that became rarer since is put back in its place,
    /// and one that became more frequent has a second entry further ahead.
    fn most_frequent(&mut self, least: u64) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now == count && count >= least {
                return Some(pair);
            }
            if now < count && now >= least {
                self.queue.push((now, Reverse(pair)));
            }
        }
        None
    }
}

fn neighbours(pieces: &[u32]) -> impl Iterator<Item = Pair> {
    pieces.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Joins pairs of the words' pieces until `vocabulary` is full or no pair is frequent enough; what was joined, in order.
pub(super) fn merge(
    config: &TrainTokenizerConfig,
    words: &[(String, u64)],
    vocabulary: &mut Vocabulary,
    progress: &dyn Progress,
) -> Result<Vec<(String, String)>> {
    let mut words: Vec<Word> = words
        .iter()
        .map(|(word, count)| {
            let pieces = spell(word, config.kind).map(|(_, form)| vocabulary.ids.get(&form).copied());
            let pieces = pieces.collect::<Option<Vec<u32>>>().ok_or_else(|| Error::internal("a word with a character that is no piece"))?;
            Ok(Word { pieces, count: *count })
        })
        .collect::<Result<_>>()?;
    let mut pairs = Pairs::default();
    let mut grown = HashSet::new();
    for (at, word) in words.iter().enumerate() {
        pairs.add(at, word, &mut grown);
    }
    pairs.queue(grown);
    let mut merges: Vec<(String, String)> = Vec::new();
    let mut known: HashSet<Pair> = HashSet::new();
    while vocabulary.names.len() < config.vocab_size {
        let Some(pair) = pairs.most_frequent(config.min_frequency.max(1)) else { break };
        progress.check()?;
        let (left, right) = (vocabulary.names[pair.0 as usize].clone(), vocabulary.names[pair.1 as usize].clone());
        let tail = if config.kind == TokenizerKind::Wordpiece { right.strip_prefix(INSIDE).unwrap_or(&right) } else { &right };
        let joined = vocabulary.id(format!("{left}{tail}"));
        let mut grown = HashSet::new();
        for at in pairs.places.remove(&pair).unwrap_or_default() {
            let word = &mut words[at as usize];
            if neighbours(&word.pieces).any(|found| found == pair) {
                pairs.remove(word);
                join(&mut word.pieces, pair, joined);
                pairs.add(at as usize, word, &mut grown);
            }
        }
        pairs.counts.remove(&pair);
        pairs.queue(grown);
        // A piece that can be made in two ways brings pairs back; they need no second rule.
        if known.insert(pair) {
            merges.push((left, right));
        }
    }
    Ok(merges)
}

/// From left to right, as an encoder does it.
fn join(pieces: &mut Vec<u32>, pair: Pair, joined: u32) {
    let mut kept = 0;
    let mut at = 0;
    while at < pieces.len() {
        let both = pieces.get(at..at + 2) == Some(&[pair.0, pair.1]);
        pieces[kept] = if both { joined } else { pieces[at] };
        kept += 1;
        at += if both { 2 } else { 1 };
    }
    pieces.truncate(kept);
}
