//! The parts of a file in their order.

use std::collections::BTreeMap;

use pipe_core::{Error, Result};

use super::{Gguf, Setting, Tensor, TensorKind};

const MAGIC: &[u8] = b"GGUF";
const MOST_AXES: usize = 4;

// The kinds of a setting.
const U8: u32 = 0;
const I8: u32 = 1;
const U16: u32 = 2;
const I16: u32 = 3;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;
const U64: u32 = 10;
const I64: u32 = 11;
const F64: u32 = 12;

fn damaged(what: &str) -> Error {
    Error::input(format!("not a whole GGUF file: {what}")).hint("it may be cut short: fetch or copy it again")
}

/// A place in the file.
struct Cursor<'m> {
    bytes: &'m [u8],
    at: usize,
}

impl<'m> Cursor<'m> {
    fn take(&mut self, length: usize) -> Result<&'m [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len()).ok_or_else(|| damaged("it ends within a value"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// How many things of at least `size` bytes follow: no more than there is room for.
    fn count(&mut self, size: usize) -> Result<usize> {
        let count = self.u64()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= (self.bytes.len() - self.at) / size)
            .ok_or_else(|| damaged("a count is larger than the file"))
    }

    fn text(&mut self) -> Result<&'m str> {
        let length = self.count(1)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| damaged("a text is not UTF-8"))
    }

    fn integer(&mut self, kind: u32) -> Result<i64> {
        Ok(match kind {
            U8 => u8::from_le_bytes(self.array()?).into(),
            I8 => i8::from_le_bytes(self.array()?).into(),
            U16 => u16::from_le_bytes(self.array()?).into(),
            I16 => i16::from_le_bytes(self.array()?).into(),
            U32 => self.u32()?.into(),
            I32 => i32::from_le_bytes(self.array()?).into(),
            U64 => i64::try_from(self.u64()?).map_err(|_| damaged("a number is out of range"))?,
            I64 => i64::from_le_bytes(self.array()?),
            _ => return Err(damaged("a value of no known kind")),
        })
    }

    fn float(&mut self, kind: u32) -> Result<f64> {
        Ok(if kind == F32 { f32::from_le_bytes(self.array()?).into() } else { f64::from_le_bytes(self.array()?) })
    }

    fn flag(&mut self) -> Result<bool> {
        Ok(self.array::<1>()? != [0])
    }

    fn setting(&mut self) -> Result<Setting<'m>> {
        Ok(match self.u32()? {
            F32 => Setting::Float(self.float(F32)?),
            F64 => Setting::Float(self.float(F64)?),
            BOOL => Setting::Bool(self.flag()?),
            TEXT => Setting::Text(self.text()?),
            LIST => self.list()?,
            kind => Setting::Integer(self.integer(kind)?),
        })
    }

    fn list(&mut self) -> Result<Setting<'m>> {
        let kind = self.u32()?;
        Ok(match kind {
            F32 | F64 => {
                let count = self.count(if kind == F32 { 4 } else { 8 })?;
                Setting::Floats((0..count).map(|_| self.float(kind)).collect::<Result<_>>()?)
            }
            BOOL => {
                let count = self.count(1)?;
                Setting::Bools((0..count).map(|_| self.flag()).collect::<Result<_>>()?)
            }
            TEXT => {
                let count = self.count(8)?;
                Setting::Texts((0..count).map(|_| self.text()).collect::<Result<_>>()?)
            }
            LIST => return Err(damaged("a list of lists")),
            kind => {
                let count = self.count(1)?;
                Setting::Integers((0..count).map(|_| self.integer(kind)).collect::<Result<_>>()?)
            }
        })
    }
}

/// A tensor as its header has it.
struct Header<'m> {
    name: &'m str,
    shape: Vec<i64>,
    kind: TensorKind,
    offset: u64,
}

impl<'m> Header<'m> {
    fn read(cursor: &mut Cursor<'m>) -> Result<Header<'m>> {
        let name = cursor.text()?;
        let axes = cursor.u32()? as usize;
        if axes > MOST_AXES {
            return Err(damaged("a tensor with too many axes"));
        }
        let mut shape =
            (0..axes).map(|_| i64::try_from(cursor.u64()?).map_err(|_| damaged("a tensor's size is out of range"))).collect::<Result<Vec<i64>>>()?;
        shape.reverse();
        let kind = TensorKind::of(cursor.u32()?, name)?;
        Ok(Header { name, shape, kind, offset: cursor.u64()? })
    }

    fn place(self, data: &'m [u8], alignment: u64) -> Result<(&'m str, Tensor<'m>)> {
        let outside = || damaged(&format!("the tensor `{}` does not lie within it", self.name));
        let row = self.shape.last().map_or(1, |&size| size as u64);
        let values = self.shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size as u64)).ok_or_else(outside)?;
        let (block, bytes) = self.kind.block();
        if !row.is_multiple_of(block) || !self.offset.is_multiple_of(alignment) {
            return Err(damaged(&format!("the tensor `{}` is not made of whole blocks", self.name)));
        }
        let length = (values / block).checked_mul(bytes).ok_or_else(outside)?;
        let end = self.offset.checked_add(length).filter(|&end| end <= data.len() as u64).ok_or_else(outside)?;
        let data = &data[self.offset as usize..end as usize];
        Ok((self.name, Tensor { shape: self.shape, kind: self.kind, data }))
    }
}

impl<'m> Gguf<'m> {
    pub(crate) fn parse(bytes: &'m [u8]) -> Result<Gguf<'m>> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err(Error::input("not a GGUF file"));
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(Error::input(format!("GGUF version {version} is not supported; supported: 2, 3, little-endian")));
        }
        // A name, its length, axes, kind and offset; a key and the smallest value.
        let (tensors, settings) = (cursor.count(24)?, cursor.count(13)?);
        let mut gguf = Gguf { settings: BTreeMap::new(), tensors: BTreeMap::new() };
        for _ in 0..settings {
            let key = cursor.text()?;
            if gguf.settings.insert(key, cursor.setting()?).is_some() {
                return Err(damaged(&format!("`{key}` is there twice")));
            }
        }
        let headers = (0..tensors).map(|_| Header::read(&mut cursor)).collect::<Result<Vec<_>>>()?;
        let alignment = gguf.integer("general.alignment")?.unwrap_or(32);
        let alignment = u64::try_from(alignment)
            .ok()
            .filter(|size| (1..=1 << 20).contains(size))
            .ok_or_else(|| damaged("`general.alignment` is out of range"))?;
        let start = (cursor.at as u64).next_multiple_of(alignment);
        // Without tensors there may be no padding either.
        let data = bytes.get(start as usize..).unwrap_or_default();
        for header in headers {
            let (name, tensor) = header.place(data, alignment)?;
            if gguf.tensors.insert(name, tensor).is_some() {
                return Err(damaged(&format!("the tensor `{name}` is there twice")));
            }
        }
        Ok(gguf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> Vec<u8> {
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/families/llama-gguf/model.gguf")).unwrap()
    }

    /// Every byte of the header changed and every length cut: an error or a model, and never a panic or a large allocation.
    #[test]
    fn no_damage_makes_the_reader_stumble() {
        let whole = fixture();
        let header = 7_000;
        Gguf::parse(&whole).unwrap();
        for length in 0..header {
            assert!(Gguf::parse(&whole[..length]).is_err(), "cut at {length}");
        }
        assert!(Gguf::parse(&whole[..whole.len() - 1]).is_err());
        for at in 0..header {
            for value in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                if let Ok(gguf) = Gguf::parse(&changed) {
                    let _ = gguf.config();
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (bytes, message) in [
            (b"safetensors".as_slice(), "not a GGUF file"),
            (b"GGUF\x01\0\0\0", "GGUF version 1 is not supported"),
            (b"GGUF\0\0\0\x03", "little-endian"),
            (b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", "a count is larger than the file"),
        ] {
            let error = Gguf::parse(bytes).unwrap_err();
            assert!(error.message.contains(message), "{error}");
        }
    }
}
