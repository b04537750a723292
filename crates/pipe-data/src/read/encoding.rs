//! How the bytes of a record become text.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use pipe_core::{Error, Result};

/// An encoding by name, or found out record by record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextEncoding(Kind);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// ASCII means ASCII in it, but for second bytes of a character.
    Named(&'static Encoding),
    /// Transcoded before records are framed, so that records are UTF-8.
    Utf16 { big_endian: bool },
    /// A record that is UTF-8 is UTF-8; any other is what the rest of its file is.
    Auto(Option<&'static Encoding>),
}

impl TextEncoding {
    pub const UTF_8: TextEncoding = TextEncoding(Kind::Named(UTF_8));

    /// By a WHATWG label, `mac-roman` or `auto`.
    pub fn named(label: &str) -> Result<TextEncoding> {
        let label = if label.eq_ignore_ascii_case("mac-roman") || label.eq_ignore_ascii_case("mac_roman") { "macintosh" } else { label };
        if label == "auto" {
            return Ok(TextEncoding(Kind::Auto(None)));
        }
        match Encoding::for_label_no_replacement(label.as_bytes()) {
            Some(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => Ok(TextEncoding(Kind::Utf16 { big_endian: encoding == UTF_16BE })),
            // Records are framed before they are decoded, which needs newlines that are one byte.
            Some(encoding) if encoding.is_ascii_compatible() => Ok(TextEncoding(Kind::Named(encoding))),
            Some(_) => Err(Error::usage(format!("the encoding `{label}` cannot be read directly"))
                .hint("convert the file to UTF-8 first, for example with iconv")),
            None => Err(Error::usage(format!("the encoding `{label}` is not known")).hint(
                "known are auto, utf-8, utf-16le, utf-16be, mac-roman, windows-1252, gb18030, big5 and the other labels of the WHATWG standard",
            )),
        }
    }

    pub(super) fn is_auto(self) -> bool {
        matches!(self.0, Kind::Auto(_))
    }

    /// `auto` for a file whose records are in `other` where they are not UTF-8.
    pub(super) fn or_else(self, other: TextEncoding) -> TextEncoding {
        match (self.0, other.0) {
            (Kind::Auto(_), Kind::Named(encoding)) if encoding != UTF_8 => TextEncoding(Kind::Auto(Some(encoding))),
            _ => self,
        }
    }

    /// The endianness, where it is UTF-16.
    pub(super) fn utf_16(self) -> Option<bool> {
        match self.0 {
            Kind::Utf16 { big_endian } => Some(big_endian),
            _ => None,
        }
    }

    /// Whether the second byte of a character can be one of ASCII's, such as `\`, `|` or `{`.
    pub(super) fn has_pairs(self) -> bool {
        match self.0 {
            Kind::Named(encoding) | Kind::Auto(Some(encoding)) => encoding != UTF_8 && !encoding.is_single_byte(),
            _ => false,
        }
    }

    /// A name for it that never changes.
    pub(super) fn name(self) -> String {
        match self.0 {
            Kind::Named(encoding) => encoding.name().to_owned(),
            Kind::Utf16 { .. } => UTF_8.name().to_owned(),
            Kind::Auto(other) => format!("auto {}", other.map_or("", Encoding::name)),
        }
    }

    /// The text of a whole record. Strict: bytes that are invalid give nothing, never a replacement character.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match self.0 {
            Kind::Named(encoding) if encoding == UTF_8 => simdutf8::basic::from_utf8(bytes).ok().map(Cow::Borrowed),
            Kind::Utf16 { .. } => simdutf8::basic::from_utf8(bytes).ok().map(Cow::Borrowed),
            Kind::Named(encoding) => encoding.decode_without_bom_handling_and_without_replacement(bytes),
            Kind::Auto(other) => match simdutf8::basic::from_utf8(bytes) {
                Ok(text) => Some(Cow::Borrowed(text)),
                Err(_) => {
                    let other = other?;
                    let text = other.decode_without_bom_handling_and_without_replacement(bytes)?;
                    // The standard gives every byte a character; these five have none.
                    let is_unassigned = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
                    (other != WINDOWS_1252 || !text.contains(is_unassigned)).then_some(text)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_roman_decodes_and_utf_8_is_strict() {
        assert_eq!(TextEncoding::named("mac-roman").unwrap().decode(b"caf\x8e").unwrap(), "café");
        assert!(TextEncoding::UTF_8.decode(b"caf\x8e").is_none());
        assert!(TextEncoding::named("utf-16le").unwrap().utf_16().is_some());
        for unknown in ["klingon", "iso-2022-jp", "iso-2022-kr", "replacement", ""] {
            assert!(TextEncoding::named(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn auto_takes_utf_8_first_and_then_what_the_file_is() {
        let auto = TextEncoding::named("auto").unwrap();
        let with = |label: &str| auto.or_else(TextEncoding::named(label).unwrap());
        let gb = encoding_rs::GB18030.encode("很好").0;
        for encoding in [auto, with("gb18030"), with("windows-1252")] {
            assert_eq!(encoding.decode("很好".as_bytes()).unwrap(), "很好");
        }
        assert!(auto.decode(&gb).is_none());
        assert_eq!(with("gb18030").decode(&gb).unwrap(), "很好");
        assert_eq!(with("windows-1252").decode(b"caf\xe9").unwrap(), "café");
        assert!(with("windows-1252").decode(b"caf\xe9 \x81").is_none());
        assert!(with("gb18030").decode(b"\xff\xff").is_none());
    }
}
