//! What stands in a value's place inside angle brackets, and how it is recognised again.
//!
//! ```text
//! <PHONE>                       placeholder
//! <PHONE:kdmbacgplhfnoiej>      hmac: 64 bits as 16 letters, a to p
//! <PHONE_KDMBACGPLHFN>          surrogate where no range of fakes is reserved: 48 bits as 12 letters
//! <PHONE:sealed:dGhlIHZhbHVl…>  seal: AES-256-SIV, base64url without padding
//! ```
//!
//! Letters alone, so that no token can look like a number, nor hide one: who finds `<PHONE:4111111111111111>` in a text
//! finds a card number.

use std::ops::Range;

pub(super) const HMAC_LETTERS: usize = 16;
pub(super) const SURROGATE_LETTERS: usize = 12;
pub(super) const SEALED: &str = ":sealed:";
const MAX_LABEL: usize = 40;
/// A sealed value may be a whole cell; a token is looked for so far from a hit.
const REACH: usize = 512;

/// A token's parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token<'t> {
    /// `PHONE`
    pub(super) label: &'t str,
    pub(super) kind: TokenKind<'t>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TokenKind<'t> {
    Placeholder,
    Hmac,
    Surrogate,
    /// What is encoded in base64url.
    Sealed(&'t str),
}

/// Four bits a letter, from the first byte's upper half on.
pub(super) fn letters(bytes: &[u8], count: usize) -> impl Iterator<Item = char> {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(count).map(|nibble| char::from(b'a' + nibble))
}

/// Reads what stands between `<` and `>`.
fn read(inner: &str) -> Option<Token<'_>> {
    let (label, rest) = match inner.find(':') {
        Some(at) => (&inner[..at], &inner[at..]),
        None => (inner, ""),
    };
    if !label.starts_with(|c: char| c.is_ascii_uppercase()) || !label.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
        return None;
    }
    let letters = |text: &str, count: usize, first: u8| text.len() == count && text.bytes().all(|b| (first..first + 16).contains(&b));
    if rest.is_empty() {
        let surrogate = label.rsplit_once('_').filter(|(_, name)| letters(name, SURROGATE_LETTERS, b'A'));
        let (label, kind) = surrogate.map_or((label, TokenKind::Placeholder), |(label, _)| (label, TokenKind::Surrogate));
        return (label.len() <= MAX_LABEL).then_some(Token { label, kind });
    }
    if label.len() > MAX_LABEL {
        return None;
    }
    if let Some(code) = rest.strip_prefix(SEALED) {
        let base64url = !code.is_empty() && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        return base64url.then_some(Token { label, kind: TokenKind::Sealed(code) });
    }
    letters(&rest[1..], HMAC_LETTERS, b'a').then_some(Token { label, kind: TokenKind::Hmac })
}

/// Tokens of `text` in order, with where they stand. Linear: what is no token is passed at its `<`.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (Range<usize>, Token<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(open) = text[at..].find('<').map(|found| at + found) {
            let inner = &text[open + 1..];
            let end = inner.bytes().position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':'))).unwrap_or(inner.len());
            at = open + 1 + end;
            if inner[end..].starts_with('>')
                && let Some(token) = read(&inner[..end])
            {
                at += 1;
                return Some((open..at, token));
            }
        }
        None
    })
}

/// Tokens that touch `range`, or a part of the text near it.
pub(super) fn tokens_at<'t>(text: &'t str, range: &Range<usize>) -> impl Iterator<Item = (Range<usize>, Token<'t>)> {
    let mut from = range.start.saturating_sub(REACH);
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    // From the last `<` that may hold the range's start.
    let from = text[from..range.start].rfind('<').map_or(range.start, |found| from + found);
    let end = range.end;
    tokens(&text[from..]).map(move |(at, token)| (at.start + from..at.end + from, token)).take_while(move |(at, _)| at.start < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_and_nothing_else() {
        let text = "a <PHONE> <b> <ID_CARD:abcdefghijklmnop>,<PHONE_ABCDEFGHIJKL><EMAIL:sealed:a-_9> <PHONE:4111111111111111> <A<CARD";
        let found: Vec<(&str, TokenKind<'_>)> = tokens(text).map(|(_, token)| (token.label, token.kind)).collect();
        let expected =
            [("PHONE", TokenKind::Placeholder), ("ID_CARD", TokenKind::Hmac), ("PHONE", TokenKind::Surrogate), ("EMAIL", TokenKind::Sealed("a-_9"))];
        assert_eq!(found, expected);
        let card = text.find("abcdef").unwrap();
        let at: Vec<Range<usize>> = tokens_at(text, &(card..card + 3)).map(|(at, _)| at).collect();
        assert_eq!(&text[at[0].clone()], "<ID_CARD:abcdefghijklmnop>");
        assert_eq!(at.len(), 1);
    }

    #[test]
    fn letters_hold_four_bits_each() {
        assert_eq!(letters(&[0x0f, 0xa1], 3).collect::<String>(), "apk");
    }
}
