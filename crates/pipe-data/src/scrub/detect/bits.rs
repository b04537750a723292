//! Which bytes of a text are of which class: one bit each, sixty-four bytes at once.
//!
//! Runs of digits and of letters, forwards and backwards, are then a shift and a count of bits, without a branch for each
//! byte; and the pass stops only where the bytes around an anchor allow a value, which a few operations on words tell for
//! sixty-four bytes. The idea is that of simdjson (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019).

/// Bytes that a block stands for.
pub(super) const BLOCK: usize = 64;

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

    /// How many bytes of a text its classes take the place of, or more.
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity() * BLOCK
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

/// The classes by what tells bytes apart: `range(first, span)` those from `first` to `span` above it, `is(b)` those that
/// are `b`, `letter(b)` those that are the letter `b` in any case.
#[inline(always)]
fn block(high: u64, range: impl Fn(u8, u8) -> u64, is: impl Fn(u8) -> u64, letter: impl Fn(u8) -> u64) -> Block {
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
        tail: letter(b'd') | letter(b'e') | letter(b's'),
        high,
    }
}

/// On any processor: a byte after the other.
fn classify(bytes: &[u8; BLOCK]) -> Block {
    fn bits(bytes: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> u64 {
        bytes.iter().enumerate().fold(0, |bits, (at, b)| bits | u64::from(is(*b)) << at)
    }
    block(
        bits(bytes, |b| b >= 0x80),
        |first, span| bits(bytes, |b| b.wrapping_sub(first) <= span),
        |one| bits(bytes, |b| b == one),
        |letter| bits(bytes, |b| b | 0x20 == letter),
    )
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi8, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    };

    use super::{BLOCK, Block, block};

    /// [`super::read`] with [`super::classify`] for thirty-two bytes at once.
    #[target_feature(enable = "avx2")]
    pub(super) fn read(bytes: &[u8], out: &mut Vec<Block>) {
        super::read(bytes, out, |block| {
            // SAFETY: both halves are inside the block.
            let halves = unsafe { [_mm256_loadu_si256(block.as_ptr().cast()), _mm256_loadu_si256(block.as_ptr().add(BLOCK / 2).cast())] };
            classify(halves)
        });
    }

    #[target_feature(enable = "avx2")]
    fn classify(halves: [__m256i; 2]) -> Block {
        let mask = |[low, high]: [__m256i; 2]| u64::from(_mm256_movemask_epi8(low) as u32) | u64::from(_mm256_movemask_epi8(high) as u32) << 32;
        let high = mask(halves);
        if high == u64::MAX {
            return Block::NOT_ASCII;
        }
        let byte = |b: u8| _mm256_set1_epi8(b as i8);
        // What is below `first` wraps around to more than `span`.
        let within = |half: __m256i, first: u8, span: u8| {
            let above = _mm256_add_epi8(half, byte(first.wrapping_neg()));
            _mm256_cmpeq_epi8(_mm256_min_epu8(above, byte(span)), above)
        };
        let lower = halves.map(|half| _mm256_or_si256(half, byte(0x20)));
        let equal = |halves: [__m256i; 2], b: u8| mask(halves.map(|half| _mm256_cmpeq_epi8(half, byte(b))));
        block(high, |first, span| mask(halves.map(|half| within(half, first, span))), |b| equal(halves, b), |b| equal(lower, b))
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask, _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_movepi8_mask, _mm512_or_si512,
        _mm512_set1_epi8, _mm512_sub_epi8,
    };

    use super::{BLOCK, Block, block};

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
    fn classify(bytes: __m512i) -> Block {
        let high = _mm512_movepi8_mask(bytes);
        if high == u64::MAX {
            return Block::NOT_ASCII;
        }
        let byte = |b: u8| _mm512_set1_epi8(b as i8);
        let lower = _mm512_or_si512(bytes, byte(0x20));
        block(
            high,
            // What is below `first` wraps around to more than `span`.
            |first, span| _mm512_cmple_epu8_mask(_mm512_sub_epi8(bytes, byte(first)), byte(span)),
            |b| _mm512_cmpeq_epi8_mask(bytes, byte(b)),
            |b| _mm512_cmpeq_epi8_mask(lower, byte(b)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way to make blocks that this processor has.
    type Read = fn(&[u8], &mut Vec<Block>);

    fn ways() -> Vec<Read> {
        let mut ways: Vec<Read> = vec![|bytes, out| read(bytes, out, classify)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                ways.push(|bytes, out| unsafe { avx2::read(bytes, out) });
            }
            if is_x86_feature_detected!("avx512bw") {
                // SAFETY: the processor has AVX-512BW.
                ways.push(|bytes, out| unsafe { avx512::read(bytes, out) });
            }
        }
        ways
    }

    #[test]
    fn every_byte_is_of_its_classes_at_every_place() {
        let bytes: Vec<u8> = (0..4 * 256u32).map(|at| (at * 167 + at / 256 * 13) as u8).collect();
        let texts =
            (0..200).chain([1024]).map(|length| &bytes[..length]).chain(["今天天气不错，我们下午在会议室讨论了下个季度的产品规划，a".as_bytes()]);
        for text in texts {
            for (way, read) in ways().iter().enumerate() {
                let mut blocks = Vec::new();
                read(text, &mut blocks);
                assert_eq!(blocks.len(), text.len() / BLOCK + 1);
                for at in 0..blocks.len() * BLOCK {
                    let (block, b) = (&blocks[at / BLOCK], text.get(at).copied().unwrap_or(0));
                    let found =
                        [block.digit, block.upper, block.alpha, block.blank, block.dot, block.dash, block.low, block.sign, block.tail, block.high];
                    let expected = [
                        b.is_ascii_digit(),
                        b.is_ascii_uppercase(),
                        b.is_ascii_alphabetic(),
                        b == b' ',
                        b == b'.',
                        b == b'-',
                        b == b'_',
                        b"@:=".contains(&b),
                        b"desDES".contains(&b),
                        !b.is_ascii(),
                    ];
                    assert_eq!(found.map(|bits| bits >> (at % BLOCK) & 1 != 0), expected, "byte {b} at {at}, way {way}");
                }
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
