//! Words and phrases of ASCII, looked up by their first word.

use super::sets::{LONGEST, Lower};

/// Phrases with what they mean: kinds, as bits.
pub(super) struct Phrases {
    /// The first three letters of first words, one bit each: few words of a text begin like one of the lists.
    beginnings: Box<[u64; 512]>,
    /// First words, padded with zeros, in an open-addressing table, each with its range of `rests`.
    slots: Vec<([u8; LONGEST], std::ops::Range<u16>)>,
    /// What follows the first word, the longest first, and what all of it means.
    rests: Vec<(&'static [u8], u32)>,
}

impl Phrases {
    /// Of phrases in lower case that begin with a letter. One that is there twice means what it means first.
    pub(super) fn new(phrases: impl Iterator<Item = (&'static str, u32)>) -> Phrases {
        let mut all: Vec<(&[u8], &[u8], u32)> = phrases.map(|(phrase, kind)| parts(phrase.as_bytes(), kind)).collect();
        all.sort_by(|(a, a_rest, _), (b, b_rest, _)| a.cmp(b).then(b_rest.len().cmp(&a_rest.len())));
        let firsts = all.chunk_by(|(a, ..), (b, ..)| a == b);
        let size = (firsts.clone().count() * 4).next_power_of_two();
        let mut beginnings = Box::new([0; 512]);
        for (first, ..) in &all {
            // With its plural, which of a word of two letters begins otherwise.
            for word in [first.to_vec(), [first, b"s".as_slice()].concat()] {
                let at = beginning(&word, word.len());
                beginnings[at / 64] |= 1u64 << (at % 64);
            }
        }
        let mut table =
            Phrases { beginnings, slots: vec![([0; LONGEST], 0..0); size], rests: all.iter().map(|(_, rest, kind)| (*rest, *kind)).collect() };
        let mut from = 0;
        for group in firsts {
            let word = Lower::exactly(group[0].0);
            assert!(!word.as_bytes().is_empty(), "a phrase of the lists begins with no letter, or with a word that is too long");
            let to = from + group.len() as u16;
            let at = table.slot(&word);
            table.slots[at] = (word.bytes, from..to);
            from = to;
        }
        table
    }

    /// Where a first word is, or where it belongs.
    #[inline]
    fn slot(&self, word: &Lower) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = word.hash() & mask;
        while self.slots[at].0[0] != 0 && self.slots[at].0 != word.bytes {
            at = (at + 1) & mask;
        }
        at
    }

    /// The longest phrase that begins at `start` and ends before `until`, in any case: what it means, and where it ends.
    /// `first`: how many letters its first word has. That may be a plural where it is all of the phrase.
    #[inline]
    pub(super) fn longest(&self, text: &[u8], start: usize, first: usize, until: usize) -> Option<(u32, usize)> {
        let at = beginning(&text[start..], first);
        if self.beginnings[at / 64] >> (at % 64) & 1 == 0 {
            return None;
        }
        let (word_end, rest) = (start + first, &text[start + first..until]);
        let mut lower = Lower::at(text, start, first);
        let fits = |(behind, kind): &(&[u8], u32)| {
            let fits = behind.is_empty() || rest.get(..behind.len()).is_some_and(|rest| rest.eq_ignore_ascii_case(behind));
            fits.then_some((*kind, word_end + behind.len()))
        };
        let range = |range: &std::ops::Range<u16>| usize::from(range.start)..usize::from(range.end);
        let found = self.rests[range(&self.slots[self.slot(&lower)].1)].iter().find_map(fits);
        if found.is_some() || !lower.as_bytes().ends_with(b"s") {
            return found;
        }
        lower.pop();
        let singular = &self.rests[range(&self.slots[self.slot(&lower)].1)];
        // The shortest phrase, which is the last.
        singular.last().filter(|(behind, _)| behind.is_empty()).map(|(_, kind)| (*kind, word_end - 1))
    }
}

/// Five bits for each of the first three letters of a word of `length` letters, in any case.
#[inline]
fn beginning(text: &[u8], length: usize) -> usize {
    let letter = |at: usize| usize::from(text[at] & 31);
    match length {
        0 => 0,
        1 => letter(0) << 10,
        2 => letter(0) << 10 | letter(1) << 5,
        _ => letter(0) << 10 | letter(1) << 5 | letter(2),
    }
}

/// The first word of a phrase, and the rest of it.
fn parts(phrase: &'static [u8], kind: u32) -> (&'static [u8], &'static [u8], u32) {
    let letters = phrase.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let (first, rest) = phrase.split_at(letters);
    (first, rest, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_phrase_is_found_whatever_its_case() {
        let phrases = Phrases::new([("cell", 1), ("cell phone", 2), ("number", 4), ("d.o.b", 8), ("cell phone number", 16)].into_iter());
        let find = |text: &str| {
            let first = text.bytes().take_while(u8::is_ascii_alphabetic).count();
            let found = phrases.longest(text.as_bytes(), 0, first, text.len());
            assert_eq!(phrases.longest(format!("{text} and twenty bytes").as_bytes(), 0, first, text.len()), found);
            found
        };
        assert_eq!(find("cell phone no"), Some((2, 10)));
        assert_eq!(find("Cell Phone NUMBER 1"), Some((16, 17)));
        assert_eq!(find("cell: 1"), Some((1, 4)));
        assert_eq!(find("numbers"), Some((4, 6)));
        assert_eq!(find("D.O.B."), Some((8, 5)));
        assert_eq!(find("d.o"), None);
        assert_eq!(find("cellar"), None);
        assert_eq!(find("s"), None);
        assert_eq!(find("averyverylongwordofmorethanthirtytwoletters"), None);
    }
}
