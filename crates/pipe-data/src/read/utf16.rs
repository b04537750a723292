//! UTF-16 to UTF-8 as it is read, so that records can be framed by single bytes.
//!
//! What is no character stays none: half a surrogate pair becomes the three bytes that would be its UTF-8, which are
//! invalid there, so that its record is rejected and no other.

use std::io::{ErrorKind, Read, Result};

pub(super) struct Utf16Reader<R> {
    inner: R,
    big_endian: bool,
    raw: Vec<u8>,
    /// Bytes of `raw` that are not decoded yet: half a unit, or half a pair.
    left: usize,
    out: Vec<u8>,
    given: usize,
    ended: bool,
}

const BLOCK: usize = 64 << 10;

impl<R: Read> Utf16Reader<R> {
    pub(super) fn new(inner: R, big_endian: bool) -> Utf16Reader<R> {
        Utf16Reader { inner, big_endian, raw: vec![0; BLOCK], left: 0, out: Vec::new(), given: 0, ended: false }
    }

    fn refill(&mut self) -> Result<()> {
        self.out.clear();
        self.given = 0;
        let read = loop {
            match self.inner.read(&mut self.raw[self.left..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let filled = self.left + read;
        self.ended = read == 0;
        let unit = |at: usize| {
            let bytes = [self.raw[at], self.raw[at + 1]];
            if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
        };
        let mut at = 0;
        while at + 1 < filled {
            let first = unit(at);
            match first {
                0..0x80 => self.out.push(first as u8),
                0xd800..0xdc00 if at + 3 >= filled && !self.ended => break,
                0xd800..0xdc00 if at + 3 < filled && (0xdc00..0xe000).contains(&unit(at + 2)) => {
                    let pair = char::decode_utf16([first, unit(at + 2)]).next().and_then(std::result::Result::ok);
                    let mut bytes = [0; 4];
                    self.out.extend_from_slice(pair.unwrap_or('\u{fffd}').encode_utf8(&mut bytes).as_bytes());
                    at += 2;
                }
                0x80..0x800 => self.out.extend_from_slice(&[0xc0 | (first >> 6) as u8, 0x80 | (first & 0x3f) as u8]),
                _ => self.out.extend_from_slice(&[0xe0 | (first >> 12) as u8, 0x80 | (first >> 6 & 0x3f) as u8, 0x80 | (first & 0x3f) as u8]),
            }
            at += 2;
        }
        if self.ended && at < filled {
            // Half a unit: valid in no encoding.
            self.out.push(0xff);
            at = filled;
        }
        self.raw.copy_within(at..filled, 0);
        self.left = filled - at;
        Ok(())
    }
}

impl<R: Read> Read for Utf16Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.given == self.out.len() && !self.ended {
            self.refill()?;
        }
        let most = buffer.len().min(self.out.len() - self.given);
        buffer[..most].copy_from_slice(&self.out[self.given..self.given + most]);
        self.given += most;
        Ok(most)
    }
}

/// How many bytes of the file `text` was, as [`Utf16Reader`] gives it.
pub(super) fn source_length(text: &[u8]) -> u64 {
    let units = |byte: u8| match byte {
        0x80..0xc0 => 0,
        0xf0..0xf8 => 2,
        _ => 1,
    };
    // Half a unit, which can only be the last byte of the file.
    let half = u64::from(text.last() == Some(&0xff));
    2 * text.iter().map(|&byte| units(byte)).sum::<u64>() - half
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], step: usize) -> Vec<u8> {
        /// Gives few bytes at a time.
        struct Slow<'b>(&'b [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
                let most = buffer.len().min(self.1).min(self.0.len());
                buffer[..most].copy_from_slice(&self.0[..most]);
                self.0 = &self.0[most..];
                Ok(most)
            }
        }
        let mut out = Vec::new();
        Utf16Reader::new(Slow(bytes, step), false).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn text_comes_through_whatever_the_blocks() {
        let text = "aé 很好 😀\n".repeat(3);
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for step in [1, 2, 3, 5, 1000] {
            assert_eq!(decode(&bytes, step), text.as_bytes());
        }
        assert_eq!(source_length(text.as_bytes()), bytes.len() as u64);
    }

    #[test]
    fn what_is_no_character_is_no_utf_8_and_costs_nothing_else() {
        for (units, tail) in [(vec![0x61, 0xd800, 0x62], 0), (vec![0xdc00, 0x62], 0), (vec![0x61, 0xd83d], 0), (vec![0x61], 1)] {
            let mut bytes: Vec<u8> = units.into_iter().flat_map(u16::to_le_bytes).collect();
            bytes.extend(vec![0x62; tail]);
            let out = decode(&bytes, 1);
            assert!(std::str::from_utf8(&out).is_err());
            assert_eq!(source_length(&out), bytes.len() as u64);
        }
    }
}
