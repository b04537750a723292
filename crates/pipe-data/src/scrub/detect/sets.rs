//! Sets of characters and of words that answer within a few nanoseconds.

/// Characters of the Basic Multilingual Plane, one bit each.
pub(super) struct CharSet(Box<[u64; 1024]>);

impl CharSet {
    pub(super) fn new(characters: &str) -> CharSet {
        let mut bits = Box::new([0; 1024]);
        characters.chars().filter(|c| (*c as usize) < 0x1_0000).for_each(|c| bits[c as usize >> 6] |= 1u64 << (c as usize & 63));
        CharSet(bits)
    }

    #[inline]
    pub(super) fn has(&self, c: char) -> bool {
        self.0.get(c as usize >> 6).is_some_and(|bits| bits >> (c as usize & 63) & 1 != 0)
    }
}

/// Pairs of Han characters, of six bytes in UTF-8.
#[derive(Default)]
pub(super) struct PairSet(Vec<u64>);

impl PairSet {
    pub(super) fn new(pairs: impl Iterator<Item = [u8; 6]>) -> PairSet {
        let pairs: Vec<u64> = pairs.map(PairSet::number).collect();
        let mut set = PairSet(vec![0; (pairs.len() * 8).next_power_of_two()]);
        for pair in pairs {
            let at = set.slot(pair);
            set.0[at] = pair;
        }
        set
    }

    fn number([a, b, c, d, e, f]: [u8; 6]) -> u64 {
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Where a pair is, or where it belongs. No pair is 0.
    fn slot(&self, pair: u64) -> usize {
        let mask = self.0.len() - 1;
        // Fibonacci hashing: the upper bits depend on all lower ones.
        let mut at = (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & mask;
        while self.0[at] != 0 && self.0[at] != pair {
            at = (at + 1) & mask;
        }
        at
    }

    #[inline]
    pub(super) fn has(&self, pair: [u8; 6]) -> bool {
        let pair = PairSet::number(pair);
        !self.0.is_empty() && self.0[self.slot(pair)] == pair
    }
}

/// A word in lower case, on the stack. Longer ones than any of the lists are empty.
pub(super) struct Lower {
    bytes: [u8; 32],
    len: usize,
}

impl Lower {
    pub(super) fn of(word: &str) -> Lower {
        let mut lower = Lower { bytes: [0; 32], len: 0 };
        if word.len() > 32 {
            return lower;
        }
        if word.is_ascii() {
            word.bytes().for_each(|b| lower.push(b.to_ascii_lowercase()));
        } else {
            for c in word.chars().flat_map(char::to_lowercase) {
                let mut bytes = [0; 4];
                c.encode_utf8(&mut bytes).bytes().for_each(|b| lower.push(b));
            }
        }
        lower
    }

    /// Without the bytes that are no letters, from a label such as `API_KEY`.
    pub(super) fn letters(label: &[u8]) -> Lower {
        let mut lower = Lower { bytes: [0; 32], len: 0 };
        label.iter().filter(|b| b.is_ascii_alphabetic()).for_each(|b| lower.push(b.to_ascii_lowercase()));
        lower
    }

    fn push(&mut self, b: u8) {
        if self.len < self.bytes.len() {
            self.bytes[self.len] = b;
            self.len += 1;
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Words in an open-addressing table: one hash, mostly one comparison.
pub(super) struct WordSet {
    slots: Vec<&'static [u8]>,
    mask: usize,
}

impl WordSet {
    /// Of words parted by bars.
    pub(super) fn new(words: &'static str) -> WordSet {
        let size = (words.split('|').count() * 4).next_power_of_two();
        let mut set = WordSet { slots: vec![&[]; size], mask: size - 1 };
        for word in words.split('|') {
            let mut at = hash(word.as_bytes()) & set.mask;
            while !set.slots[at].is_empty() && set.slots[at] != word.as_bytes() {
                at = (at + 1) & set.mask;
            }
            set.slots[at] = word.as_bytes();
        }
        set
    }

    #[inline]
    pub(super) fn has(&self, word: &[u8]) -> bool {
        if word.is_empty() {
            return false;
        }
        let mut at = hash(word) & self.mask;
        while !self.slots[at].is_empty() {
            if self.slots[at] == word {
                return true;
            }
            at = (at + 1) & self.mask;
        }
        false
    }

    pub(super) fn has_lower(&self, word: &str) -> bool {
        self.has(Lower::of(word).as_bytes())
    }
}

/// FNV-1a: short words only, and the same on every machine.
fn hash(word: &[u8]) -> usize {
    let hash = word.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    (hash ^ hash >> 32) as usize
}
