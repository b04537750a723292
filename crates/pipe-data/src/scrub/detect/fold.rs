//! Full-width digits, unusual spaces and dashes, zero-width characters: made plain for the parsers, with a map back.

use std::borrow::Cow;

/// A text as the parsers read it.
pub(super) struct Folded<'t> {
    pub(super) text: Cow<'t, str>,
    /// Offset in the original of each byte of `text`, and of its end. Absent where nothing was folded.
    map: Option<Vec<u32>>,
}

impl<'t> Folded<'t> {
    pub(super) fn new(text: &'t str) -> Folded<'t> {
        // Longer than offsets can say, and longer than any record is read.
        if text.len() > u32::MAX as usize {
            return Folded { text: Cow::Borrowed(text), map: None };
        }
        let (mut out, mut map) = (String::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
        for (at, c) in text.char_indices() {
            let plain = match fold(c) {
                Fold::Keep => c,
                Fold::To(plain) => plain,
                Fold::Drop => continue,
            };
            out.push(plain);
            map.resize(out.len(), at as u32);
        }
        map.push(text.len() as u32);
        Folded { text: Cow::Owned(out), map: Some(map) }
    }

    /// From a range of the folded text to one of the original. It ends where its last character does, so that dropped
    /// characters behind a value stay.
    pub(super) fn range(&self, start: usize, end: usize) -> (usize, usize) {
        match &self.map {
            Some(map) if start < end => {
                let last = map[end - 1] as usize;
                let end = (end..map.len()).map(|at| map[at] as usize).find(|&at| at > last).unwrap_or(last);
                (map[start] as usize, end)
            }
            _ => (start, end),
        }
    }
}

#[derive(PartialEq)]
enum Fold {
    Keep,
    To(char),
    Drop,
}

fn fold(c: char) -> Fold {
    match c {
        // Full-width forms of what stands in addresses and numbers; full-width commas and stops end a value, as they are.
        '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' | '＠' | '．' | '－' | '＋' | '（' | '）' | '／' | '＿' | '：' | '＝' | '＃' | '＆' | '？' | '％' => {
            Fold::To(char::from_u32(c as u32 - 0xfee0).unwrap_or(c))
        }
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{fe58}' => Fold::To('-'),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => Fold::To(' '),
        '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => Fold::Drop,
        // Mathematical digits, as some write numbers to look special.
        '\u{1d7ce}'..='\u{1d7ff}' => Fold::To(char::from(b'0' + ((c as u32 - 0x1d7ce) % 10) as u8)),
        _ => Fold::Keep,
    }
}

/// Whether the character at `at`, not ASCII, asks for the text to be folded: it would hide a value from the parsers.
pub(super) fn asks(bytes: &[u8], at: usize) -> bool {
    let near = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_digit() || matches!(b, b'(' | b')' | b'+' | b'@'));
    let before = at.checked_sub(1).and_then(|at| bytes.get(at));
    match &bytes[at..] {
        // Full-width letters, digits and `＠`.
        [0xef, 0xbc, 0x90..=0x99 | 0xa0..=0xba, ..] | [0xef, 0xbd, 0x81..=0x9a, ..] => true,
        // Zero-width characters.
        [0xe2, 0x80, 0x8b..=0x8f, ..] | [0xe2, 0x81, 0xa0, ..] | [0xef, 0xbb, 0xbf, ..] | [0xc2, 0xad, ..] => true,
        // Full-width punctuation, spaces and dashes, inside a number only.
        [0xef, 0xbc, 0x88 | 0x89 | 0x8b | 0x8d | 0x8e | 0x8f | 0xbf, after, ..]
        | [0xe2, 0x80, 0x80..=0x8a | 0x90..=0x95 | 0xaf, after, ..]
        | [0xe2, 0x88, 0x92, after, ..]
        | [0xe2, 0x81, 0x9f, after, ..]
        | [0xe3, 0x80, 0x80, after, ..] => {
            near(before) && (near(Some(after)) || *after >= 0xe2) || near(Some(after)) && before.is_some_and(|b| *b >= 0x80)
        }
        [0xc2, 0xa0, after, ..] => near(before) && (near(Some(after)) || *after >= 0xc2),
        [0xf0, 0x9d, 0x9f, ..] => true,
        _ => false,
    }
}
