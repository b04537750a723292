//! CSV as RFC 4180 has it and spreadsheets write it: where a record ends, and what its fields are.
//!
//! A quote means something at the begin of a field only. Within quotes a doubled quote is one, and delimiters and line
//! ends are text. What follows the closing quote up to the next delimiter belongs to the field as it is.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

const QUOTE: u8 = b'"';

/// How a file's fields are set apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    /// The second byte of a character may be equal to the delimiter.
    pub(super) has_pairs: bool,
}

/// Where the record at the start of some bytes ends.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// After so many bytes, the line end not counted.
    At(usize),
    /// Not in these bytes.
    Beyond,
    /// The same, and it is within quotes.
    Quoted,
}

/// `bytes` begin with a record, not with a line end. Linear in the record's length.
pub(super) fn record_end(bytes: &[u8], dialect: Dialect) -> End {
    let line = memchr2(b'\n', b'\r', bytes);
    // Most records are one line without quotes.
    if let Some(line) = line
        && memchr(QUOTE, &bytes[..line]).is_none()
    {
        return End::At(line);
    }
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&QUOTE) {
            match closing_quote(&bytes[at + 1..]) {
                Some(length) => at += length + 2,
                None => return End::Quoted,
            }
        }
        match field_end(&bytes[at..], dialect) {
            Some(length) if bytes[at + length] == dialect.delimiter => at += length + 1,
            Some(length) => return End::At(at + length),
            None => return End::Beyond,
        }
    }
}

/// Position of the quote that ends a quoted field, which begins before `bytes`.
fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr(QUOTE, &bytes[at..])?;
        // At the end of what is there it closes, or the file goes on with another one: whoever asks looks again then.
        if bytes.get(at + 1) != Some(&QUOTE) {
            return Some(at);
        }
        at += 2;
    }
}

/// Position of the delimiter or line end after an unquoted field or the rest of one.
fn field_end(bytes: &[u8], dialect: Dialect) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr3(dialect.delimiter, b'\n', b'\r', &bytes[from..])?;
        if !dialect.has_pairs || bytes[at] != dialect.delimiter || !is_second_byte(bytes, from, at) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Whether the byte at `at` is the second of a character: there is an odd number of first bytes before it.
fn is_second_byte(bytes: &[u8], from: usize, at: usize) -> bool {
    let before = bytes[from..at].iter().rev().take_while(|byte| **byte > 0x80).count();
    before % 2 == 1
}

/// The fields of a record, in order.
pub(super) struct Fields<'t> {
    rest: Option<&'t str>,
    delimiter: u8,
}

impl<'t> Fields<'t> {
    /// Of a decoded record without its line end.
    pub(super) fn of(record: &'t str, delimiter: u8) -> Fields<'t> {
        Fields { rest: Some(record), delimiter }
    }

    fn split(&mut self, text: &'t str, at: Option<usize>) -> &'t str {
        match at {
            Some(at) => {
                self.rest = Some(&text[at + 1..]);
                &text[..at]
            }
            None => text,
        }
    }
}

impl<'t> Iterator for Fields<'t> {
    type Item = Cow<'t, str>;

    fn next(&mut self) -> Option<Cow<'t, str>> {
        let text = self.rest.take()?;
        if text.as_bytes().first() != Some(&QUOTE) {
            let at = memchr(self.delimiter, text.as_bytes());
            return Some(Cow::Borrowed(self.split(text, at)));
        }
        let quoted = &text[1..];
        let Some(length) = closing_quote(quoted.as_bytes()) else {
            return Some(Cow::Borrowed(quoted));
        };
        let (inner, after) = (&quoted[..length], &quoted[length + 1..]);
        let at = memchr(self.delimiter, after.as_bytes());
        let tail = self.split(after, at);
        if tail.is_empty() && memchr(QUOTE, inner.as_bytes()).is_none() {
            return Some(Cow::Borrowed(inner));
        }
        Some(Cow::Owned(inner.replace("\"\"", "\"") + tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMA: Dialect = Dialect { delimiter: b',', has_pairs: false };

    fn fields(record: &str) -> Vec<String> {
        Fields::of(record, b',').map(Cow::into_owned).collect()
    }

    #[test]
    fn records_end_outside_quotes() {
        for (text, expected) in [
            ("a,b\nc", End::At(3)),
            ("a,\"b\n\"\"\",c\r\nd", End::At(10)),
            ("a\"b\nc", End::At(3)),
            ("a,b", End::Beyond),
            ("a,\"b\n", End::Quoted),
            ("\"a\"\n", End::At(3)),
            ("\"\"\n", End::At(2)),
            ("\"\"\"", End::Quoted),
        ] {
            assert_eq!(record_end(text.as_bytes(), COMMA), expected, "{text}");
        }
    }

    #[test]
    fn fields_are_what_is_between_quotes_and_delimiters() {
        assert_eq!(fields("a,b,"), ["a", "b", ""]);
        assert_eq!(fields(""), [""]);
        assert_eq!(fields("\"a,b\",\"c \"\"d\"\"\",\"e\nf\""), ["a,b", "c \"d\"", "e\nf"]);
        assert_eq!(fields("a\"b,\"c\"d,\"\""), ["a\"b", "cd", ""]);
        assert_eq!(fields("\"open, never"), ["open, never"]);
    }

    #[test]
    fn a_second_byte_is_no_delimiter() {
        // 磡 is 0xB4 0x7C in Big5 or GBK alike: its second byte is `|`.
        let pipe = Dialect { delimiter: b'|', has_pairs: true };
        assert_eq!(record_end(b"\xb4|\"x\n", pipe), End::At(4));
        assert_eq!(record_end(b"a|\"x\ny\"\n", pipe), End::At(7));
        assert_eq!(record_end(b"\xb4\xb5|\"x\ny\"\n", pipe), End::At(8));
    }
}
