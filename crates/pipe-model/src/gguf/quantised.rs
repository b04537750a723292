//! Quantised tensors: blocks of values that share a scale, as ggml lays them out.

use pipe_core::{Error, Result};

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorKind {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// ggml's number, how many values make a block, and how many bytes that is.
const KINDS: [(TensorKind, u32, u64, u64); 11] = [
    (TensorKind::F32, 0, 1, 4),
    (TensorKind::F16, 1, 1, 2),
    (TensorKind::Q4_0, 2, 32, 18),
    (TensorKind::Q4_1, 3, 32, 20),
    (TensorKind::Q5_0, 6, 32, 22),
    (TensorKind::Q5_1, 7, 32, 24),
    (TensorKind::Q8_0, 8, 32, 34),
    (TensorKind::Q4K, 12, 256, 144),
    (TensorKind::Q5K, 13, 256, 176),
    (TensorKind::Q6K, 14, 256, 210),
    (TensorKind::Bf16, 30, 1, 2),
];

impl TensorKind {
    pub(super) fn of(number: u32, tensor: &str) -> Result<TensorKind> {
        KINDS.iter().find(|(_, known, ..)| *known == number).map(|(kind, ..)| *kind).ok_or_else(|| {
            Error::input(format!("the tensor `{tensor}` is of GGML's type {number}, which is not supported"))
                .hint("supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K")
        })
    }

    /// Values and bytes of a block.
    pub(super) fn block(self) -> (u64, u64) {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or((1, 4), |(_, _, values, bytes)| (*values, *bytes))
    }

    /// The values of whole blocks.
    pub(super) fn to_f32(self, data: &[u8]) -> Vec<f32> {
        let (values, bytes) = self.block();
        let mut out = Vec::with_capacity(data.len() / bytes as usize * values as usize);
        for block in data.chunks_exact(bytes as usize) {
            // Of every kind but the plain ones and Q6_K.
            let scale = f16(block);
            match self {
                TensorKind::F32 => out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
                TensorKind::F16 => out.push(scale),
                TensorKind::Bf16 => out.push(f32::from_bits(u32::from(u16::from_le_bytes([block[0], block[1]])) << 16)),
                TensorKind::Q4_0 => halves(&block[2..], |_, nibble| (f32::from(nibble) - 8.0) * scale, &mut out),
                TensorKind::Q4_1 => {
                    let least = f16(&block[2..]);
                    halves(&block[4..], |_, nibble| f32::from(nibble) * scale + least, &mut out);
                }
                TensorKind::Q5_0 => halves(&block[6..], |at, nibble| (f32::from(nibble | fifth_bit(&block[2..], at)) - 16.0) * scale, &mut out),
                TensorKind::Q5_1 => {
                    let least = f16(&block[2..]);
                    halves(&block[8..], |at, nibble| f32::from(nibble | fifth_bit(&block[4..], at)) * scale + least, &mut out);
                }
                TensorKind::Q8_0 => out.extend(block[2..].iter().map(|&value| f32::from(value as i8) * scale)),
                TensorKind::Q4K => q4_k(block, &block[16..], |_, _| 0, &mut out),
                TensorKind::Q5K => q4_k(block, &block[48..], |group, at| (block[16 + at] >> group & 1) << 4, &mut out),
                TensorKind::Q6K => q6_k(block, &mut out),
            }
        }
        out
    }
}

/// The first two bytes as a half-precision float.
fn f16(bytes: &[u8]) -> f32 {
    let bits = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let (sign, exponent, fraction) = ((bits >> 15) << 31, (bits >> 10) & 0x1f, bits & 0x3ff);
    match exponent {
        // Below the normal ones: fraction · 2⁻²⁴.
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// The low halves of 16 bytes, then the high ones, each with its place among the 32.
fn halves(bytes: &[u8], value: impl Fn(usize, u8) -> f32, out: &mut Vec<f32>) {
    out.extend(bytes.iter().enumerate().map(|(at, byte)| value(at, byte & 0xf)));
    out.extend(bytes.iter().enumerate().map(|(at, byte)| value(at + 16, byte >> 4)));
}

/// Bit `at` of 32, as the fifth of a value.
fn fifth_bit(bytes: &[u8], at: usize) -> u8 {
    (bytes[at / 8] >> (at % 8) & 1) << 4
}

/// Eight groups of 32, each with a scale and a minimum of six bits; `fifth` gives what a group's value has beside its four
/// bits in `values`.
fn q4_k(block: &[u8], values: &[u8], fifth: impl Fn(usize, usize) -> u8, out: &mut Vec<f32>) {
    let (scale, least, packed) = (f16(block), f16(&block[2..]), &block[4..16]);
    let group = |at: usize| match at {
        0..4 => (packed[at] & 63, packed[at + 4] & 63),
        _ => (packed[at + 4] & 0xf | packed[at - 4] >> 6 << 4, packed[at + 4] >> 4 | packed[at] >> 6 << 4),
    };
    for (pair, bytes) in values.chunks_exact(32).enumerate() {
        for at in [2 * pair, 2 * pair + 1] {
            let (by, minus) = group(at);
            let (by, minus) = (scale * f32::from(by), least * f32::from(minus));
            let value = |(place, byte): (usize, &u8)| byte >> (4 * (at % 2)) & 0xf | fifth(at, place);
            out.extend(bytes.iter().enumerate().map(|byte| by * f32::from(value(byte)) - minus));
        }
    }
}

/// Two halves of 128, of which each scale is for 16.
fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let (low, high, scales, scale) = (&block[..128], &block[128..192], &block[192..208], f16(&block[208..]));
    for half in 0..2 {
        let (low, high, scales) = (&low[64 * half..], &high[32 * half..], &scales[8 * half..]);
        for quarter in 0..4 {
            out.extend((0..32).map(|at| {
                let bits = low[at + 32 * (quarter % 2)] >> (4 * (quarter / 2)) & 0xf | (high[at] >> (2 * quarter) & 3) << 4;
                scale * f32::from(scales[2 * quarter + at / 16] as i8) * (f32::from(bits) - 32.0)
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(f16(&u16::to_le_bytes(bits)), value, "{bits:x}");
        }
        assert!(f16(&0x7e00_u16.to_le_bytes()).is_nan());
    }

    /// One tensor of random blocks of each kind, and what the package `gguf` makes of them.
    #[test]
    fn values_are_those_of_the_reference_reader() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families/gguf-kinds");
        let file = crate::gguf::GgufFile::open(&folder.join("kinds.gguf")).unwrap();
        let expected = std::fs::read(folder.join("kinds.f32")).unwrap();
        let mut expected = expected.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let gguf = file.read().unwrap();
        let mut seen = Vec::new();
        // The reference is in the order of the tensors' names.
        for (name, tensor) in gguf.tensors() {
            seen.push(tensor.kind);
            for (at, value) in tensor.to_f32().into_iter().enumerate() {
                let expected = expected.next().unwrap();
                assert!((value - expected).abs() <= 1e-6 * expected.abs(), "{name}, value {at}: {value}, not {expected}");
            }
        }
        assert!(expected.next().is_none());
        assert!(KINDS.iter().all(|(kind, ..)| seen.contains(kind)), "{seen:?}");
    }
}
