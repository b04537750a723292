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
/// How far before a hit its token may begin. The longest that is sealed in a text is a private key; of a whole column's
/// longer values nothing is scanned.
const REACH: usize = 16 << 10;

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

/// The token that begins with the `<` at `open`.
fn token_at(text: &str, open: usize) -> Option<(Range<usize>, Token<'_>)> {
    let inner = &text[open + 1..];
    let end = inner.bytes().position(|b| !is_inner(b))?;
    let token = read(&inner[..end]).filter(|_| inner.as_bytes()[end] == b'>')?;
    Some((open..open + 1 + end + 1, token))
}

fn is_inner(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':')
}

/// Tokens that begin in `text[from..to]`, in order, with where they stand.
fn tokens_between(text: &str, mut from: usize, to: usize) -> impl Iterator<Item = (Range<usize>, Token<'_>)> {
    std::iter::from_fn(move || {
        while from < to {
            let open = from + text.as_bytes()[from..to].iter().position(|b| *b == b'<')?;
            let token = token_at(text, open);
            from = token.as_ref().map_or(open + 1, |(at, _)| at.end);
            if token.is_some() {
                return token;
            }
        }
        None
    })
}

/// Tokens of `text` in order, with where they stand.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (Range<usize>, Token<'_>)> {
    tokens_between(text, 0, text.len())
}

/// Tokens that touch `range`: one that it begins in, and those that begin in it.
pub(super) fn tokens_at<'t>(text: &'t str, range: &Range<usize>) -> impl Iterator<Item = (Range<usize>, Token<'t>)> {
    let before = &text.as_bytes()[range.start.saturating_sub(REACH)..range.start];
    let open = range.start - before.iter().rev().take_while(|b| is_inner(**b)).count();
    let from = if open > 0 && text.as_bytes()[open - 1] == b'<' { open - 1 } else { range.start };
    tokens_between(text, from, range.end)
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
        let long = format!("<SECRET:sealed:{}>", "a1".repeat(4000));
        assert_eq!(tokens_at(&long, &(7000..7010)).count(), 1);
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
