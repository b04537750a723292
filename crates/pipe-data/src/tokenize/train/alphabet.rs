//! The characters that a vocabulary begins with: all pieces are made of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use pipe_core::config::{TokenizerKind, TrainTokenizerConfig};

use super::SPECIAL;

/// What BERT puts before a piece that does not begin a word.
pub(super) const INSIDE: &str = "##";
/// What byte-pair encoding puts after a piece that ends a word (Sennrich et al. 2016).
pub(super) const END: &str = "</w>";

/// The most frequent characters for which there is room.
pub(super) struct Alphabet {
    characters: BTreeSet<char>,
    forms: Vec<String>,
}

impl Alphabet {
    pub(super) fn of(words: &[(String, u64)], config: &TrainTokenizerConfig) -> Alphabet {
        let mut met: BTreeMap<char, (u64, BTreeSet<String>)> = BTreeMap::new();
        for (word, count) in words {
            for (character, form) in spell(word, config.kind) {
                let entry = met.entry(character).or_default();
                entry.0 += count;
                // WordPiece needs each to begin a word too: one that no word of the rows begins with may begin another.
                entry.1.extend((config.kind == TokenizerKind::Wordpiece).then(|| character.to_string()));
                if !entry.1.contains(&form) {
                    entry.1.insert(form);
                }
            }
        }
        let mut by_frequency: Vec<(char, u64, BTreeSet<String>)> =
            met.into_iter().map(|(character, (count, forms))| (character, count, forms)).collect();
        // Stable: of equally frequent ones the first in Unicode.
        by_frequency.sort_by_key(|(_, count, _)| Reverse(*count));
        // The unigram trainer wants room for one piece more.
        let mut room = config.vocab_size - SPECIAL.len() - usize::from(config.kind == TokenizerKind::Unigram);
        let mut alphabet = Alphabet { characters: BTreeSet::new(), forms: Vec::new() };
        let (mut bare, mut marked) = (Vec::new(), Vec::new());
        for (character, _, forms) in by_frequency.into_iter().take(config.limit_alphabet.unwrap_or(usize::MAX)) {
            if forms.len() > room {
                break;
            }
            room -= forms.len();
            alphabet.characters.insert(character);
            for form in forms {
                if form.chars().count() == 1 { bare.push(form) } else { marked.push(form) }
            }
        }
        bare.sort();
        marked.sort();
        alphabet.forms = bare.into_iter().chain(marked).collect();
        alphabet
    }

    pub(super) fn len(&self) -> usize {
        self.characters.len()
    }

    /// Whether it has all characters of `word`.
    pub(super) fn spells(&self, word: &str) -> bool {
        word.chars().all(|character| self.characters.contains(&character))
    }

    /// One-character pieces in the order of their ids.
    pub(super) fn forms(&self) -> &[String] {
        &self.forms
    }
}

/// The characters of a word, each with the piece that stands for it there.
pub(super) fn spell(word: &str, kind: TokenizerKind) -> impl Iterator<Item = (char, String)> {
    let mut characters = word.chars().enumerate().peekable();
    std::iter::from_fn(move || {
        let (at, character) = characters.next()?;
        let form = match kind {
            TokenizerKind::Wordpiece if at > 0 => format!("{INSIDE}{character}"),
            TokenizerKind::Bpe if characters.peek().is_none() => format!("{character}{END}"),
            _ => character.to_string(),
        };
        Some((character, form))
    })
}
