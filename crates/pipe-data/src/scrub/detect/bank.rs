//! Bank cards and account numbers.

use super::super::{Entity, Verdict};
use super::bits::Block;
use super::context::{Context, kind};
use super::number::{Window, joined_behind};
use super::scan::{Found, Scan};

/// The checksum of ISO/IEC 7812-1.
pub(super) fn luhn(digits: &[u8]) -> bool {
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
fn issuer(digits: &[u8]) -> bool {
    let prefix = |n: usize| digits[..n].iter().fold(0u32, |value, &digit| value * 10 + u32::from(digit));
    let n = digits.len();
    match (prefix(1), prefix(2), prefix(3), prefix(4)) {
        // Visa.
        (4, ..) => matches!(n, 13 | 16 | 18 | 19),
        // Mastercard.
        (_, 51..=55, ..) | (.., 2221..=2720) => n == 16,
        // American Express.
        (_, 34 | 37, ..) => n == 15,
        // Diners Club.
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305 | 309, _) => (14..=19).contains(&n),
        // JCB, with the older ones of fifteen digits.
        (.., 3500..=3599) => (16..=19).contains(&n),
        (.., 2131 | 1800) => n == 15,
        // Mir.
        (.., 2200..=2204) => (16..=19).contains(&n),
        // UnionPay.
        (_, 62 | 81, ..) => (16..=19).contains(&n),
        // Discover.
        (.., 6011) | (_, 65, ..) | (_, _, 644..=649, _) => (16..=19).contains(&n),
        // Maestro, and RuPay and Elo among its ranges.
        (_, 50 | 56..=58 | 60 | 61 | 63 | 66..=69, ..) => (13..=19).contains(&n),
        // Older issues of Chinese banks.
        (.., 9558 | 9559 | 9400 | 9843) | (_, 90, ..) => (16..=19).contains(&n),
        _ => false,
    }
}

/// How many of the window's groups make a card: the most, since a security code or a date may stand behind it.
fn candidate(scan: &Scan<'_>, window: &Window, fits: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let start = window.start();
    let prefixed = matches!(scan.before(start), b'+' | b'.') || (scan.before(start) == b'-' && start >= 2 && scan.byte(start - 2).is_ascii_digit());
    if prefixed {
        return None;
    }
    (1..=window.len.min(6)).rev().find(|&n| {
        (12..=19).contains(&window.count(n))
            && (window.joined_by(scan.bytes, n, b" -.") || n == 1)
            && (0..n.saturating_sub(1)).all(|k| window.size(k) >= 4)
            && (n > 1 || !(scan.byte(window.end(1)) == b'.' && joined_behind(scan, window.end(1))))
            && fits(window.digits(n))
    })
}

pub(super) fn card(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    if !scan.wants(Entity::CardNumber) || scan.before(window.start()).is_ascii_alphabetic() && window.size(0) < 16 {
        return None;
    }
    let n = candidate(scan, window, |digits| digits.len() > 12 && issuer(digits) && luhn(digits))?;
    Some(Found::new(Entity::CardNumber, window.start(), window.end(n), 1.0, Verdict::Valid))
}

/// A typo is a card still, where the words say so.
pub(super) fn card_beside_words(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    if !scan.wants(Entity::CardNumber) || !context.says(kind::CARD) {
        return None;
    }
    let n = candidate(scan, window, |digits| match digits.len() {
        // Maestro has some of twelve.
        12 => matches!(digits, [5, 0 | 6..=8, ..] | [6, 0..=9, ..] | [0, 6, 0, 4, ..]) && luhn(digits),
        16.. => issuer(digits) || context.nearest & kind::CARD != 0,
        _ => issuer(digits),
    })?;
    let verdict = if luhn(window.digits(n)) { Verdict::Context } else { Verdict::ChecksumFailed };
    Some(Found::new(Entity::CardNumber, window.start(), window.end(n), 0.7, verdict))
}

/// Countries and lengths of the IBAN registry (ISO 13616, SWIFT).
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AO", 25),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BF", 28),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BJ", 28),
    (b"BR", 29),
    (b"BY", 28),
    (b"CF", 27),
    (b"CG", 27),
    (b"CH", 21),
    (b"CI", 28),
    (b"CM", 27),
    (b"CR", 22),
    (b"CV", 25),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"DZ", 26),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GA", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GQ", 27),
    (b"GR", 27),
    (b"GT", 28),
    (b"GW", 25),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IR", 26),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KM", 27),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MA", 28),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MG", 27),
    (b"MK", 19),
    (b"ML", 28),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"MZ", 25),
    (b"NE", 28),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SN", 28),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TD", 27),
    (b"TG", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// The length by both letters of the country; 0: none.
const IBAN_LENGTH: [[u8; 26]; 26] = {
    let mut lengths = [[0; 26]; 26];
    let mut at = 0;
    while at < IBAN_LENGTHS.len() {
        let (country, length) = IBAN_LENGTHS[at];
        lengths[(country[0] - b'A') as usize][(country[1] - b'A') as usize] = length as u8;
        at += 1;
    }
    lengths
};

/// Two letters before the digit run, then what the country's length says, in groups of any size or none.
pub(super) fn iban(scan: &mut Scan<'_>, at: usize) -> Option<Found> {
    if !scan.wants(Entity::Iban) || at < scan.floor + 2 || !scan.byte(at + 1).is_ascii_digit() {
        return None;
    }
    let start = at - 2;
    if start > 0 && scan.byte(start - 1).is_ascii_alphanumeric() {
        return None;
    }
    let country = [scan.byte(start).to_ascii_uppercase(), scan.byte(start + 1).to_ascii_uppercase()];
    let letter = |b: u8| b.is_ascii_uppercase().then(|| usize::from(b - b'A'));
    let length = match IBAN_LENGTH[letter(country[0])?][letter(country[1])?] {
        0 => return None,
        length => usize::from(length),
    };
    let mut value = [0; 34];
    // In one run, as it mostly is; else a sign after the other.
    let (mut count, mut end) = match scan.run_of(Block::alphanumeric, start, length) {
        run if run == length => {
            value[..length].copy_from_slice(&scan.bytes[start..start + length]);
            value.make_ascii_uppercase();
            (length, start + length)
        }
        _ => (0, start),
    };
    while count < length && end - start < 64 {
        match scan.byte(end) {
            b if b.is_ascii_alphanumeric() => {
                value[count] = b.to_ascii_uppercase();
                count += 1;
            }
            b' ' | b'-' if count >= 2 && scan.byte(end + 1).is_ascii_alphanumeric() => {}
            _ => break,
        }
        end += 1;
    }
    if count < length || scan.byte(end).is_ascii_alphanumeric() {
        return iban_of_other_length(scan, start);
    }
    let valid = mod_97(&value[..length]);
    if !valid {
        let context = scan.context(start);
        return (context.nearest & kind::IBAN != 0).then_some(Found::new(Entity::Iban, start, end, 0.7, Verdict::ChecksumFailed));
    }
    Some(Found::new(Entity::Iban, start, end, 1.0, Verdict::Valid))
}

/// One character lost or doubled where the checksum still holds, as made-up numbers have it: in one run only.
fn iban_of_other_length(scan: &Scan<'_>, start: usize) -> Option<Found> {
    let length = scan.bytes[start..].iter().take(35).take_while(|b| b.is_ascii_alphanumeric()).count();
    let mut value = [0; 34];
    if !(15..=34).contains(&length) {
        return None;
    }
    value[..length].iter_mut().zip(&scan.bytes[start..]).for_each(|(upper, b)| *upper = b.to_ascii_uppercase());
    mod_97(&value[..length]).then_some(Found::new(Entity::Iban, start, start + length, 0.9, Verdict::Valid))
}

/// ISO 7064 mod 97-10 over the value with its first four characters behind the rest; letters are 10 to 35.
fn mod_97(value: &[u8]) -> bool {
    let add = |rest: u64, part: &[u8]| {
        part.iter().fold(rest, |rest, b| match b {
            b'0'..=b'9' => rest * 10 + u64::from(b - b'0'),
            _ => rest * 100 + u64::from(b - b'A') + 10,
        }) % 97
    };
    // Eight signs at most between two divisions: 97 · 100⁸ is less than 2⁶⁴.
    let (head, body) = value.split_at(4);
    add(body.chunks(8).fold(0, add), head) == 1
}
