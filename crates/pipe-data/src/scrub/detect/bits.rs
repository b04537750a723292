//! Which bytes of a text are of which class: one bit each, sixty-four bytes at once.
//!
//! Runs of digits and of letters, forwards and backwards, are then a shift and a count of bits, without a branch for each
//! byte; and the pass stops only where the bytes around an anchor allow a value, which a few operations on words tell for
//! sixty-four bytes. The idea is that of simdjson (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019).

/// Bytes that a block stands for.
const BLOCK: usize = 64;

/// Bit `k` is about byte `k` of the block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// `0` to `9`
    pub(super) digit: u64,
    /// `A` to `Z`
    pub(super) upper: u64,
    /// `A` to `Z` and `a` to `z`
    pub(super) alpha: u64,
    pub(super) blank: u64,
    pub(super) dot: u64,
    /// `-`
    pub(super) dash: u64,
    /// `_`
    pub(super) low: u64,
    /// `@`, `:` and `=`
    pub(super) sign: u64,
    /// `d`, `e` and `s` in any case, the last letters of what introduces a name.
    pub(super) tail: u64,
    /// Not ASCII.
    pub(super) high: u64,
}

impl Block {
    /// As most blocks are in Chinese: 64 bytes of characters of three bytes each.
    const NOT_ASCII: Block = Block { digit: 0, upper: 0, alpha: 0, blank: 0, dot: 0, dash: 0, low: 0, sign: 0, tail: 0, high: u64::MAX };

    #[inline]
    pub(super) fn alphanumeric(&self) -> u64 {
        self.digit | self.alpha
    }

    /// What keys and tokens are made of.
    #[inline]
    pub(super) fn token(&self) -> u64 {
        self.digit | self.alpha | self.dash | self.low
    }
}

/// The classes of a text's bytes, with a block of zeros before the first one and behind the last, so that those around any
/// byte can be read.
#[derive(Default)]
pub(super) struct Bits(Vec<Block>);

impl Bits {
    pub(super) const fn new() -> Bits {
        Bits(Vec::new())
    }

    /// Takes the place of what was known of another text.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.0.clear();
        self.0.reserve(bytes.len() / BLOCK + 3);
        self.0.push(Block::default());
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has AVX-512BW.
            unsafe { avx512::read(bytes, &mut self.0) };
        } else if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            unsafe { avx2::read(bytes, &mut self.0) };
        } else {
            read(bytes, &mut self.0, classify);
        }
        #[cfg(not(target_arch = "x86_64"))]
        read(bytes, &mut self.0, classify);
        self.0.push(Block::default());
    }

    /// Block `at` between its neighbours.
    #[inline]
    pub(super) fn around(&self, at: usize) -> &[Block; 3] {
        self.0[at..].first_chunk().expect("a block before the first one, and one behind the last")
    }

    /// Of a class, the bits of the sixty-four bytes from `at` on.
    #[inline]
    pub(super) fn from(&self, class: impl Fn(&Block) -> u64, at: usize) -> u64 {
        self.before(class, at + BLOCK)
    }

    /// Those of the sixty-four bytes before `at`, the nearest in the highest bit.
    #[inline]
    pub(super) fn before(&self, class: impl Fn(&Block) -> u64, at: usize) -> u64 {
        // There is a block more before the text.
        let (block, shift) = (at / BLOCK, at % BLOCK);
        match self.0.get(block..block + 2) {
            Some([this, next]) => class(this) >> shift | class(next) << 1 << (BLOCK - 1 - shift),
            _ => 0,
        }
    }
}

/// One block after the other; the last one is filled up with zeros, which are of no class.
#[inline(always)]
fn read(bytes: &[u8], out: &mut Vec<Block>, classify: impl Fn(&[u8; BLOCK]) -> Block) {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    out.extend(blocks.iter().map(&classify));
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    out.push(classify(&last));
}

/// On any processor: a byte after the other.
fn classify(bytes: &[u8; BLOCK]) -> Block {
    let bits = |is: fn(u8) -> bool| bytes.iter().enumerate().fold(0, |bits, (at, b)| bits | u64::from(is(*b)) << at);
    Block {
        digit: bits(|b| b.is_ascii_digit()),
        upper: bits(|b| b.is_ascii_uppercase()),
        alpha: bits(|b| b.is_ascii_alphabetic()),
        blank: bits(|b| b == b' '),
        dot: bits(|b| b == b'.'),
        dash: bits(|b| b == b'-'),
        low: bits(|b| b == b'_'),
        sign: bits(|b| matches!(b, b'@' | b':' | b'=')),
        tail: bits(|b| matches!(b | 0x20, b'd' | b'e' | b's')),
        high: bits(|b| b >= 0x80),
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi8, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    };

    use super::{BLOCK, Block};

    /// [`super::read`] with [`super::classify`] for thirty-two bytes at once.
    #[target_feature(enable = "avx2")]
    pub(super) fn read(bytes: &[u8], out: &mut Vec<Block>) {
        super::read(bytes, out, |block| {
            // SAFETY: both halves are inside the block.
            let halves = unsafe { (load(block, 0), load(block, BLOCK / 2)) };
            classify(halves.0, halves.1)
        });
    }

    #[target_feature(enable = "avx2")]
    unsafe fn load(block: &[u8; BLOCK], at: usize) -> __m256i {
        // SAFETY: the caller asks for a half of the block.
        unsafe { _mm256_loadu_si256(block.as_ptr().add(at).cast()) }
    }

    #[target_feature(enable = "avx2")]
    fn classify(low: __m256i, high: __m256i) -> Block {
        let mask = |low: __m256i, high: __m256i| u64::from(_mm256_movemask_epi8(low) as u32) | u64::from(_mm256_movemask_epi8(high) as u32) << 32;
        if mask(low, high) == u64::MAX {
            return Block::NOT_ASCII;
        }
        let byte = |b: u8| _mm256_set1_epi8(b as i8);
        // At most `span` above `first`: what is below it wraps around to more.
        let within = |half: __m256i, first: u8, span: u8| {
            let above = _mm256_add_epi8(half, byte(first.wrapping_neg()));
            _mm256_cmpeq_epi8(_mm256_min_epu8(above, byte(span)), above)
        };
        let range = |first: u8, span: u8| mask(within(low, first, span), within(high, first, span));
        let equal = |half: __m256i, b: u8| _mm256_cmpeq_epi8(half, byte(b));
        let is = |b: u8| mask(equal(low, b), equal(high, b));
        let any = |half: __m256i, [a, b, c]: [u8; 3]| _mm256_or_si256(_mm256_or_si256(equal(half, a), equal(half, b)), equal(half, c));
        let lower = |half: __m256i| _mm256_or_si256(half, byte(0x20));
        let upper = range(b'A', 25);
        Block {
            digit: range(b'0', 9),
            upper,
            alpha: upper | range(b'a', 25),
            blank: is(b' '),
            dot: is(b'.'),
            dash: is(b'-'),
            low: is(b'_'),
            sign: mask(any(low, [b'@', b':', b'=']), any(high, [b'@', b':', b'='])),
            tail: mask(any(lower(low), [b'd', b'e', b's']), any(lower(high), [b'd', b'e', b's'])),
            high: mask(low, high),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask, _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_movepi8_mask, _mm512_or_si512,
        _mm512_set1_epi8, _mm512_sub_epi8,
    };

    use super::{BLOCK, Block};

    /// [`super::read`] with [`super::classify`] for sixty-four bytes at once.
    #[target_feature(enable = "avx512bw")]
    pub(super) fn read(bytes: &[u8], out: &mut Vec<Block>) {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            // SAFETY: the block has as many bytes as are read.
            out.push(classify(unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }));
        }
        // SAFETY: the mask lets no byte behind the rest be read.
        out.push(classify(unsafe { _mm512_maskz_loadu_epi8((1 << rest.len()) - 1, rest.as_ptr().cast()) }));
    }

    #[target_feature(enable = "avx512bw")]
    fn classify(block: __m512i) -> Block {
        let high = _mm512_movepi8_mask(block);
        if high == u64::MAX {
            return Block::NOT_ASCII;
        }
        let byte = |b: u8| _mm512_set1_epi8(b as i8);
        // At most `span` above `first`: what is below it wraps around to more.
        let range = |first: u8, span: u8| _mm512_cmple_epu8_mask(_mm512_sub_epi8(block, byte(first)), byte(span));
        let is = |b: u8| _mm512_cmpeq_epi8_mask(block, byte(b));
        let lower = _mm512_or_si512(block, byte(0x20));
        let ended = |b: u8| _mm512_cmpeq_epi8_mask(lower, byte(b));
        let upper = range(b'A', 25);
        Block {
            digit: range(b'0', 9),
            upper,
            alpha: upper | range(b'a', 25),
            blank: is(b' '),
            dot: is(b'.'),
            dash: is(b'-'),
            low: is(b'_'),
            sign: is(b'@') | is(b':') | is(b'='),
            tail: ended(b'd') | ended(b'e') | ended(b's'),
            high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_of_its_classes_at_every_place() {
        let bytes: Vec<u8> = (0..4 * 256u32).map(|at| (at * 167 + at / 256 * 13) as u8).collect();
        for length in (0..200).chain([1024]) {
            let bytes = &bytes[..length];
            let mut plain = Vec::new();
            read(bytes, &mut plain, classify);
            let mut bits = Bits::default();
            bits.read(bytes);
            assert_eq!(bits.0, [&[Block::default()], plain.as_slice(), &[Block::default()]].concat(), "of {length} bytes");
            // Whatever this processor would not choose, too.
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                let mut blocks = Vec::new();
                // SAFETY: the processor has AVX2.
                unsafe { avx2::read(bytes, &mut blocks) };
                assert_eq!(blocks, plain, "of {length} bytes with AVX2");
            }
        }
    }

    #[test]
    fn bits_are_read_from_any_place_and_before_it() {
        let text: Vec<u8> = (0..300).map(|at| if at % 7 < 3 { b'1' } else { b'a' }).collect();
        let mut bits = Bits::default();
        bits.read(&text);
        let digit = |at: usize| u64::from(text.get(at).is_some_and(u8::is_ascii_digit));
        for at in 0..=text.len() {
            let from = (0..64).fold(0, |bits, k| bits | digit(at + k) << k);
            assert_eq!(bits.from(|block| block.digit, at), from, "from {at}");
            let before = (1..=64.min(at)).fold(0, |bits, k| bits | digit(at - k) << (64 - k));
            assert_eq!(bits.before(|block| block.digit, at), before, "before {at}");
        }
        assert_eq!(bits.from(|block| block.digit, 10_000), 0);
    }
}
