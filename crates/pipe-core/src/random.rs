//! Random numbers that are the same everywhere for ever.

/// SplitMix64 (Steele, Lea and Flood 2014): small, and no library's next version draws others.
#[derive(Debug, Clone)]
pub struct SplitMix(u64);

impl SplitMix {
    /// A stream for each combination of `parts`.
    pub fn new(parts: &[u64]) -> SplitMix {
        let mut state = SplitMix(0);
        for part in parts {
            state.0 ^= part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            state.0 = state.next_u64();
        }
        state
    }

    /// The stream that the published generator gives for this state.
    pub fn from_state(state: u64) -> SplitMix {
        SplitMix(state)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1, with all the bits that a double has.
    pub fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `bound`, which is not 0. The bias is of the order of bound / 2⁶⁴ (Lemire 2019, without rejection).
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Fisher–Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // The bias of a 64-bit remainder is below 2⁻⁴⁰ for any data set that fits a disk.
            items.swap(last, (self.next_u64() % (last as u64 + 1)) as usize);
        }
    }
}
