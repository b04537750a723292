//! Full-width digits, unusual spaces and dashes, zero-width characters: made plain for the detectors, with a map back.

use std::borrow::Cow;

/// A text as the detectors read it.
pub(super) struct Folded<'t> {
    pub(super) text: Cow<'t, str>,
    /// Offset in the original of each byte of `text`, and of its end. Absent where nothing was folded.
    map: Option<Vec<u32>>,
}

impl<'t> Folded<'t> {
    pub(super) fn new(text: &'t str) -> Folded<'t> {
        // Longer than offsets can say, and longer than any record is read.
        if text.is_ascii() || text.len() > u32::MAX as usize || !text.chars().any(|c| fold(c) != Fold::Keep) {
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

    /// From an offset in the folded text to the original.
    pub(super) fn original(&self, offset: usize) -> usize {
        self.map.as_ref().map_or(offset, |map| map[offset] as usize)
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
        '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' | '＠' | '．' | '－' | '＋' | '（' | '）' | '／' | '＿' => {
            Fold::To(char::from_u32(c as u32 - 0xfee0).unwrap_or(c))
        }
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' => Fold::To('-'),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => Fold::To(' '),
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => Fold::Drop,
        _ => Fold::Keep,
    }
}
