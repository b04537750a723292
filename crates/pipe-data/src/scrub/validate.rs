//! What makes a candidate a value: checksums, ranges, prefixes and neighbours.

use std::net::Ipv6Addr;

/// A match of a pattern in its text.
pub(super) struct Candidate<'t> {
    pub(super) text: &'t str,
    pub(super) start: usize,
    pub(super) end: usize,
}

type Verdict = Option<(usize, f32)>;

impl Candidate<'_> {
    fn value(&self) -> &str {
        &self.text[self.start..self.end]
    }

    fn before(&self) -> Option<u8> {
        self.start.checked_sub(1).map(|at| self.text.as_bytes()[at])
    }

    fn after(&self, length: usize) -> &[u8] {
        &self.text.as_bytes()[self.start + length..]
    }

    fn digits(&self) -> Vec<u8> {
        self.value().bytes().take_while(|b| !b.is_ascii_alphabetic() && *b < 128).filter(u8::is_ascii_digit).map(|b| b - b'0').collect()
    }

    /// A number that is no part of a longer one: no digit on either side, nor one behind a point, comma or dash.
    fn stands_alone(&self) -> bool {
        let bytes = self.text.as_bytes();
        let joined_before = match self.before() {
            Some(b) if b.is_ascii_digit() => true,
            Some(b'.' | b',' | b'-' | b'/') => self.start >= 2 && bytes[self.start - 2].is_ascii_digit(),
            Some(b'$' | b'#') => true,
            _ => false,
        };
        let joined_after = match self.after(self.value().len()) {
            [b, ..] if b.is_ascii_digit() => true,
            [b'.' | b',' | b'-' | b'/', b, ..] => b.is_ascii_digit(),
            _ => false,
        };
        !joined_before && !joined_after
    }

    fn digit_run(&self) -> bool {
        !self.before().is_some_and(|b| b.is_ascii_digit()) && !self.after(self.value().len()).first().is_some_and(u8::is_ascii_digit)
    }
}

/// Without the punctuation that ends the sentence and not the address.
fn trimmed(value: &str) -> usize {
    let mut length = value.len();
    loop {
        let bytes = &value.as_bytes()[..length];
        match bytes.last() {
            Some(b'.' | b',' | b';' | b':' | b'!' | b'?' | b'\'' | b'*' | b'`') => length -= 1,
            Some(close @ (b')' | b']' | b'}')) => {
                let open = match close {
                    b')' => b'(',
                    b']' => b'[',
                    _ => b'{',
                };
                let count = |wanted: u8| bytes.iter().filter(|&&b| b == wanted).count();
                if count(*close) <= count(open) {
                    return length;
                }
                length -= 1;
            }
            _ => return length,
        }
    }
}

pub(super) fn url(candidate: &Candidate<'_>) -> Verdict {
    let length = trimmed(candidate.value());
    (length > "www.".len()).then_some((length, 0.95))
}

/// Top-level domains that are also words stand for a domain only with a path behind them.
const WORDLIKE: [&str; 30] = [
    "me", "it", "is", "to", "in", "no", "so", "at", "be", "my", "us", "am", "by", "im", "as", "do", "he", "id", "la", "ma", "pa", "hi", "one", "now",
    "live", "life", "fun", "love", "today", "news",
];
const DOMAINS: [&str; 52] = [
    "com", "org", "net", "edu", "gov", "mil", "int", "info", "biz", "io", "co", "ly", "tv", "fm", "gl", "gd", "cc", "uk", "de", "fr", "cn", "ru",
    "jp", "eu", "ca", "au", "nl", "se", "ch", "es", "pl", "br", "kr", "hk", "tw", "sg", "nz", "ie", "fi", "dk", "cz", "gr", "hu", "pt", "app", "dev",
    "xyz", "online", "site", "shop", "club", "ai",
];

/// `bit.ly/x`, `example.com`: by a list of top-level domains, since any two words may meet at a full stop.
pub(super) fn domain(candidate: &Candidate<'_>) -> Verdict {
    let value = candidate.value();
    let length = trimmed(value);
    let host_end = value.find(['/', ':']).unwrap_or(length).min(length);
    let host = &value[..host_end];
    if candidate.before().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'@' || b == b'_' || b == b'.') {
        return None;
    }
    let top = host.rsplit('.').next()?.to_ascii_lowercase();
    // `Ph.De`: a capital after the stop begins a sentence, unless all is in capitals.
    let sentence = host.rsplit('.').next()?.starts_with(|c: char| c.is_ascii_uppercase()) && host.chars().any(|c| c.is_ascii_lowercase());
    let continues = candidate.after(length).first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'@');
    let path = length > host_end + 1;
    let known = DOMAINS.contains(&top.as_str()) && (!sentence || top == "com");
    let accepted = known
        || (path
            && (WORDLIKE.contains(&top.as_str())
                || (top.len() == 2 && value[host_end..].starts_with('/') && host.matches('.').count() == 1 && !sentence)));
    (accepted && !continues).then_some((length, 0.8))
}

pub(super) fn email(candidate: &Candidate<'_>) -> Verdict {
    Some((candidate.value().len(), 0.97))
}

/// Not a time or a price: `@5pm`, `@50`.
pub(super) fn handle(candidate: &Candidate<'_>) -> Verdict {
    let name = &candidate.value()[1..];
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let rest = name[digits..].to_ascii_lowercase();
    let time = digits > 0 && (rest.is_empty() && digits < 5 || rest == "am" || rest == "pm" || rest == "h");
    (!time && name != "_").then_some((candidate.value().len(), 0.6))
}

pub(super) fn ipv4(candidate: &Candidate<'_>) -> Verdict {
    let valid =
        candidate.value().split('.').all(|octet| octet.parse::<u16>().is_ok_and(|n| n <= 255) && (octet.len() == 1 || !octet.starts_with('0')));
    let version = candidate.before().is_some_and(|b| matches!(b, b'v' | b'V'));
    let alone = candidate.digit_run()
        && candidate.before() != Some(b'.')
        && !matches!(candidate.after(candidate.value().len()), [b'.', b, ..] if b.is_ascii_digit());
    (valid && !version && alone).then_some((candidate.value().len(), 0.9))
}

pub(super) fn ipv6(candidate: &Candidate<'_>) -> Verdict {
    let value = candidate.value();
    let joined = |b: u8| b.is_ascii_alphanumeric() || b == b':' || b == b'_';
    if candidate.before().is_some_and(joined) || candidate.after(value.len()).first().copied().is_some_and(joined) {
        return None;
    }
    let address: Ipv6Addr = value.parse().ok()?;
    // `a::b` is a path in more languages than one; an address has more to it.
    let groups = value.split(':').filter(|group| !group.is_empty()).count();
    let plausible = value.bytes().any(|b| b.is_ascii_digit())
        && (groups >= 3 || address.is_loopback() || matches!(address.segments()[0], 0x2000..=0x3fff | 0xfc00..=0xfeff));
    plausible.then_some((value.len(), 0.9))
}

/// The checksum of ISO/IEC 7812-1.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| {
            let digit = u32::from(digit);
            if at % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Issuer ranges and their lengths: a Luhn number alone may be anything, one in ten random numbers is.
fn card_issuer(digits: &[u8]) -> bool {
    let prefix = |n: usize| digits[..n].iter().fold(0u32, |value, &digit| value * 10 + u32::from(digit));
    let n = digits.len();
    match (prefix(1), prefix(2), prefix(3), prefix(4)) {
        (4, ..) => matches!(n, 13 | 16 | 19),
        (_, 51..=55, ..) => n == 16,
        (.., 2221..=2720) => n == 16,
        (_, 34 | 37, ..) => n == 15,
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305, _) => n == 14,
        (.., 3528..=3589) => (16..=19).contains(&n),
        (_, 62, ..) => (16..=19).contains(&n),
        (.., 6011) | (_, 65, ..) | (_, _, 644..=649, _) => (16..=19).contains(&n),
        (_, 50 | 56..=58 | 60 | 61 | 63 | 66..=69, ..) => (13..=19).contains(&n),
        // Older issues of Chinese banks.
        (.., 9558) => n == 19,
        _ => false,
    }
}

/// The longest group-wise prefix that is a card: a security code or a date may stand behind it.
pub(super) fn card(candidate: &Candidate<'_>) -> Verdict {
    let value = candidate.value();
    if candidate.before().is_some_and(|b| b.is_ascii_digit()) {
        return None;
    }
    (13..=value.len()).rev().find_map(|length| {
        let next = value.as_bytes().get(length).or_else(|| candidate.after(value.len()).first());
        if !value.as_bytes()[length - 1].is_ascii_digit() || next.is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let digits: Vec<u8> = value[..length].bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
        ((13..=19).contains(&digits.len()) && luhn(&digits) && card_issuer(&digits)).then_some((length, 1.0))
    })
}

fn phone(candidate: &Candidate<'_>, digits: std::ops::RangeInclusive<usize>, score: f32) -> Verdict {
    (digits.contains(&candidate.digits().len()) && candidate.digit_run()).then_some((candidate.value().trim_end().len(), score))
}

/// E.164 allows 15 digits.
pub(super) fn international(candidate: &Candidate<'_>) -> Verdict {
    let zeros = if candidate.value().starts_with("00") { 2 } else { 0 };
    let separated = candidate.value().bytes().any(|b| matches!(b, b' ' | b'-' | b'.' | b'/' | b'('));
    if zeros > 0 && !separated {
        return None;
    }
    phone(candidate, 8 + zeros..=16 + zeros, 0.85)
}

fn service_number(digits: &[u8]) -> bool {
    matches!(digits, [4 | 8, 0, 0, ..])
}

pub(super) fn grouped(candidate: &Candidate<'_>) -> Verdict {
    if service_number(&candidate.digits()) || !candidate.stands_alone() {
        return None;
    }
    phone(candidate, 10..=13, 0.8)
}

pub(super) fn plain_ten(candidate: &Candidate<'_>) -> Verdict {
    if service_number(&candidate.digits()) || !candidate.stands_alone() || candidate.before().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') {
        return None;
    }
    phone(candidate, 10..=11, 0.6)
}

pub(super) fn chinese_mobile(candidate: &Candidate<'_>) -> Verdict {
    phone(candidate, 11..=15, 0.9)
}

pub(super) fn landline(candidate: &Candidate<'_>) -> Verdict {
    // Two-digit area codes are 010 and 02x, all others have three digits behind the zero.
    let digits = candidate.digits();
    let area = match (digits.get(1), digits.get(2)) {
        (Some(1), Some(0)) | (Some(2), _) => 3,
        _ => 4,
    };
    let rest = digits.len().saturating_sub(area);
    let separated = candidate.value().bytes().any(|b| matches!(b, b'-' | b' ' | b')'));
    if !(7..=13).contains(&rest) || !(separated || (10..=12).contains(&digits.len())) || !candidate.stands_alone() {
        return None;
    }
    phone(candidate, 10..=17, 0.75)
}

pub(super) fn leading_zero(candidate: &Candidate<'_>) -> Verdict {
    if !candidate.stands_alone() || date_like(candidate.value()) {
        return None;
    }
    phone(candidate, 9..=12, 0.65)
}

/// `01.02.2009`, `01-02-2009 10`: a day, a month and a year.
fn date_like(value: &str) -> bool {
    let mut parts = value.split(['.', '-', '/', ' ']);
    let number = |part: Option<&str>| part.filter(|part| part.len() <= 4).and_then(|part| part.parse::<u32>().ok());
    match (number(parts.next()), number(parts.next()), number(parts.next())) {
        (Some(a), Some(b), Some(year)) => a <= 31 && b <= 31 && (1900..=2100).contains(&year),
        _ => false,
    }
}
