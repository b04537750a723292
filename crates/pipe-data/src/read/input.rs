//! A file's bytes as records are framed in them: decompressed, without a byte order mark, UTF-16 as UTF-8.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pipe_core::config::{Compression, SourceConfig};
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Result};

use crate::inspect::beside_utf_8;

use super::TextEncoding;
use super::utf16::Utf16Reader;

/// The dictionary of an xz file may take so much memory, in KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 256 << 10;

/// An open file.
pub(crate) struct Input {
    pub(crate) bytes: Box<dyn Read + Send>,
    /// Bytes of the file itself that were read so far.
    pub(super) position: Arc<AtomicU64>,
    pub(crate) compression: Compression,
    /// Of its records, once they are framed.
    pub(super) encoding: TextEncoding,
    /// Bytes before the first record: the byte order mark.
    pub(super) mark: u64,
    /// The file is UTF-16, so that what is read has another length than what is there.
    pub(super) is_utf_16: bool,
}

struct Counted {
    file: File,
    position: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Input {
    /// The bytes of a file, decompressed and nothing else.
    pub(crate) fn decompressed(file: &SourceFile, compression: Compression) -> Result<Input> {
        let path = &file.shown();
        let position = Arc::new(AtomicU64::new(0));
        let counted = Counted { file: File::open(&file.path).doing("open", path)?, position: Arc::clone(&position) };
        let mut reader = BufReader::with_capacity(256 << 10, counted);
        let compression = match compression {
            Compression::Auto => by_magic(fill(&mut reader, path, Compression::None)?),
            named => named,
        };
        let bytes: Box<dyn Read + Send> = match compression {
            Compression::Auto | Compression::None => Box::new(reader),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader).map_err(|error| read_error(path, compression, 0, error))?),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
            Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY)),
        };
        Ok(Input { bytes, position, compression, encoding: TextEncoding::UTF_8, mark: 0, is_utf_16: false })
    }

    /// The text of a file, in the encoding that `source` names or that its bytes tell.
    pub(super) fn text(file: &SourceFile, source: &SourceConfig) -> Result<Input> {
        let named = TextEncoding::named(&source.encoding)?;
        let path = &file.shown();
        let mut input = Input::decompressed(file, source.compression)?;
        let mut bytes = BufReader::with_capacity(64 << 10, input.bytes);
        let head = fill(&mut bytes, path, input.compression)?;
        // A mark outranks a name: what has one cannot be anything else.
        let (mark, by_mark) = match head {
            [0xef, 0xbb, 0xbf, ..] => (3, Some(TextEncoding::UTF_8)),
            [0xff, 0xfe, ..] => (2, Some(TextEncoding::named("utf-16le")?)),
            [0xfe, 0xff, ..] => (2, Some(TextEncoding::named("utf-16be")?)),
            _ => (0, None),
        };
        bytes.consume(mark);
        input.mark = mark as u64;
        input.encoding = match by_mark {
            // Only the mark says so: records may be in another encoding all the same.
            Some(utf_8) if utf_8 == TextEncoding::UTF_8 => named,
            Some(utf_16) => utf_16,
            None => named,
        };
        if input.encoding.is_auto() {
            // Bytes that cannot be read are told of when records are.
            let found = beside_utf_8(Input::decompressed(file, source.compression)?.bytes).unwrap_or_default();
            input.encoding = match found {
                Some(found) if found.utf_16().is_some() => found,
                Some(found) => named.or_else(found),
                None => named,
            };
        }
        input.is_utf_16 = input.encoding.utf_16().is_some();
        input.bytes = match input.encoding.utf_16() {
            Some(big_endian) => Box::new(Utf16Reader::new(bytes, big_endian)),
            None => Box::new(bytes),
        };
        Ok(input)
    }
}

fn fill<'b>(reader: &'b mut impl BufRead, path: &Path, compression: Compression) -> Result<&'b [u8]> {
    reader.fill_buf().map_err(|error| read_error(path, compression, 0, error))
}

/// What a file says it is compressed with.
pub(super) fn by_magic(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, 8, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        // A text may well begin with the first four; what follows is the number of a block, or of the end.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Compression::Bzip2,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// What went wrong after `records` records of `path`. Messages of decoders are not passed on.
pub(crate) fn read_error(path: &Path, compression: Compression, records: u64, error: io::Error) -> Error {
    let name = match compression {
        Compression::Auto | Compression::None => return Error::io("read", path, error),
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Bzip2 => "bzip2",
        Compression::Xz => "xz",
    };
    // The file system's own errors carry a number, a decoder's do not.
    if error.raw_os_error().is_some() {
        return Error::io("read", path, error);
    }
    let after = if records == 0 { "before the first record".to_owned() } else { format!("after record {records}") };
    if error.kind() == ErrorKind::UnexpectedEof {
        return Error::input(format!("{} is cut short: its {name} data ends {after}", path.display())).hint("copy it again");
    }
    Error::input(format!("{} cannot be decompressed: its {name} data is damaged {after}", path.display()))
        .hint("copy it again; or is `compression:` wrong?")
}
