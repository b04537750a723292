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

/// Pairs of letters of ASCII in lower case, one bit each.
pub(super) struct LetterPairs([u32; 26]);

impl LetterPairs {
    /// The first two letters of each word that has two in ASCII.
    pub(super) fn new<'w>(words: impl Iterator<Item = &'w str>) -> LetterPairs {
        let mut pairs = [0; 26];
        for word in words {
            if let [first @ b'a'..=b'z', second @ b'a'..=b'z', ..] = word.as_bytes() {
                pairs[usize::from(first - b'a')] |= 1 << (second - b'a');
            }
        }
        LetterPairs(pairs)
    }

    #[inline]
    pub(super) fn has(&self, first: u8, second: u8) -> bool {
        let number = |b: u8| b.wrapping_sub(b'a');
        number(second) < 26 && self.0.get(usize::from(number(first))).is_some_and(|seconds| seconds >> number(second) & 1 != 0)
    }
}

/// The longest word that a list has, in bytes.
pub(super) const LONGEST: usize = 32;

/// A word in lower case, on the stack, with zeros behind it. One that is longer than any of the lists is empty.
pub(super) struct Lower {
    pub(super) bytes: [u8; LONGEST],
    len: usize,
}

impl Lower {
    #[inline]
    pub(super) fn of(word: &str) -> Lower {
        if word.is_ascii() {
            return Lower::of_ascii(word.as_bytes());
        }
        let mut lower = Lower::exactly(b"");
        for c in word.chars().take(LONGEST).flat_map(char::to_lowercase) {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| lower.push(b));
        }
        if word.len() > LONGEST { Lower::exactly(b"") } else { lower }
    }

    #[inline]
    pub(super) fn of_ascii(word: &[u8]) -> Lower {
        match word.len() {
            0..=16 => Lower::of_halves(halves(word).map(lower_eight), word.len()),
            _ => {
                let mut lower = Lower::exactly(word);
                lower.bytes.make_ascii_lowercase();
                lower
            }
        }
    }

    /// The ASCII word of `length` bytes that begins at `at`. Faster than [`Lower::of_ascii`] where more bytes follow.
    #[inline]
    pub(super) fn at(bytes: &[u8], at: usize, length: usize) -> Lower {
        match bytes[at..].first_chunk::<16>() {
            Some(sixteen) if length <= 16 => {
                let (eights, _) = sixteen.as_chunks::<8>();
                let [low, high] = FIRST_BYTES[length];
                let halves = [u64::from_le_bytes(eights[0]) & low, u64::from_le_bytes(eights[1]) & high];
                Lower::of_halves(halves.map(lower_eight), length)
            }
            _ => Lower::of_ascii(&bytes[at..at + length]),
        }
    }

    /// The word as it is.
    #[inline]
    pub(super) fn exactly(word: &[u8]) -> Lower {
        let mut lower = Lower { bytes: [0; LONGEST], len: 0 };
        match word.len() {
            0..=16 => return Lower::of_halves(halves(word), word.len()),
            17..=LONGEST => lower.bytes[..word.len()].copy_from_slice(word),
            _ => return lower,
        }
        lower.len = word.len();
        lower
    }

    /// Of its first sixteen bytes, which are all.
    #[inline]
    fn of_halves([low, high]: [u64; 2], len: usize) -> Lower {
        let mut lower = Lower { bytes: [0; LONGEST], len };
        lower.bytes[..8].copy_from_slice(&low.to_le_bytes());
        lower.bytes[8..16].copy_from_slice(&high.to_le_bytes());
        lower
    }

    /// Without the bytes that are no letters, from a label such as `API_KEY`.
    pub(super) fn letters(label: &[u8]) -> Lower {
        let mut lower = Lower::exactly(b"");
        label.iter().filter(|b| b.is_ascii_alphabetic()).for_each(|b| lower.push(b.to_ascii_lowercase()));
        lower
    }

    fn push(&mut self, b: u8) {
        if self.len < LONGEST {
            self.bytes[self.len] = b;
            self.len += 1;
        }
    }

    /// Takes the last byte away.
    pub(super) fn pop(&mut self) {
        if self.len > 0 {
            self.len -= 1;
            self.bytes[self.len] = 0;
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The same on every machine.
    #[inline]
    pub(super) fn hash(&self) -> usize {
        let (words, _) = self.bytes.as_chunks::<8>();
        let mixed = words.iter().fold(0, |hash: u64, word| hash.rotate_left(21) ^ u64::from_le_bytes(*word));
        // Fibonacci hashing: the upper bits depend on all lower ones.
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }
}

/// The first so many bytes of sixteen.
const FIRST_BYTES: [[u64; 2]; 17] = {
    let mut masks = [[u64::MAX; 2]; 17];
    let mut at = 0;
    while at < 16 {
        let half = (1 << (8 * (at % 8))) - 1;
        masks[at] = if at < 8 { [half, 0] } else { [u64::MAX, half] };
        at += 1;
    }
    masks
};

/// Up to sixteen bytes, the first in the lowest bits: two loads that overlap, and no call to copy a few bytes.
#[inline]
fn halves(word: &[u8]) -> [u64; 2] {
    let n = word.len();
    if n > 8
        && let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk())
    {
        return [u64::from_le_bytes(*first), u64::from_le_bytes(*last) >> (8 * (16 - n))];
    }
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        return [u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (n - 4)), 0];
    }
    [word.iter().rev().fold(0, |all, b| all << 8 | u64::from(*b)), 0]
}

/// The capitals among eight bytes of ASCII in lower case, all at once: no sum of two of their bytes carries to the next.
#[inline]
fn lower_eight(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let from_a = word + ONES * (0x80 - b'A' as u64);
    let behind_z = word + ONES * (0x7f - b'Z' as u64);
    word | ((from_a ^ behind_z) & (ONES * 0x80)) >> 2
}

/// Words in an open-addressing table: one hash, mostly one comparison.
pub(super) struct WordSet {
    /// Padded with zeros.
    slots: Vec<[u8; LONGEST]>,
    mask: usize,
}

impl WordSet {
    /// Of words parted by bars, each of at most 32 bytes.
    pub(super) fn new(words: &'static str) -> WordSet {
        let size = (words.split('|').count() * 4).next_power_of_two();
        let mut set = WordSet { slots: vec![[0; LONGEST]; size], mask: size - 1 };
        for word in words.split('|') {
            let word = Lower::exactly(word.as_bytes());
            debug_assert_ne!(word.len, 0, "a list has an empty word, or one that is too long");
            let at = set.slot(&word);
            set.slots[at] = word.bytes;
        }
        set
    }

    /// Where a word is, or where it belongs.
    #[inline]
    fn slot(&self, word: &Lower) -> usize {
        let mut at = word.hash() & self.mask;
        while self.slots[at][0] != 0 && self.slots[at] != word.bytes {
            at = (at + 1) & self.mask;
        }
        at
    }

    #[inline]
    pub(super) fn has(&self, word: &Lower) -> bool {
        word.len > 0 && self.slots[self.slot(word)][0] != 0
    }

    /// One in lower case already.
    #[inline]
    pub(super) fn has_exactly(&self, word: &[u8]) -> bool {
        self.has(&Lower::exactly(word))
    }

    pub(super) fn has_lower(&self, word: &str) -> bool {
        self.has(&Lower::of(word))
    }
}
