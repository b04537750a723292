//! Identity documents, and other numbers that stand for one person.

use super::super::{Entity, Verdict};
use super::bank::luhn;
use super::bits::Block;
use super::context::{Context, kind};
use super::number::{Window, joined_before, joined_behind};
use super::scan::{Found, Scan};

/// The longest document number that is looked at.
const LONGEST: usize = 24;

/// Chinese resident identity numbers of 18 digits (GB 11643-1999), in one run or as region, date and rest. Numbers that
/// begin with 9 are foreigners' permanent residence permits of 2023, of the same make.
pub(super) fn resident(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let number = Resident::read(scan, window)?;
    let valid = number.checks && number.plausible();
    let entity = if number.digits[0] == 9 { Entity::Permit } else { Entity::CnResidentId };
    (valid && scan.wants(entity)).then_some(Found::new(entity, window.start(), number.end, 1.0, Verdict::Valid))
}

/// One with a wrong checksum is a typo, where the words say what it is.
pub(super) fn resident_beside_words(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    if !scan.wants(Entity::CnResidentId) || !context.says(kind::RESIDENT) {
        return None;
    }
    let number = Resident::read(scan, window)?;
    number.plausible().then_some(Found::new(Entity::CnResidentId, window.start(), number.end, 0.8, Verdict::ChecksumFailed))
}

struct Resident {
    digits: [u8; 17],
    end: usize,
    checks: bool,
}

impl Resident {
    fn read(scan: &Scan<'_>, window: &Window) -> Option<Resident> {
        let n = (1..=window.len.min(5)).find(|&n| matches!(window.count(n), 17 | 18))?;
        let grouped = n == 1 || window.size(0) == 6 && window_joined(scan, window, n);
        if !grouped || matches!(scan.before(window.start()), b'.') && joined_before(scan, window.start()) {
            return None;
        }
        let (count, mut end) = (window.count(n), window.end(n));
        let last = match (count, scan.byte(end)) {
            (18, _) => window.digits(n)[17],
            (_, b'x' | b'X') => {
                end += 1;
                10
            }
            // A check letter of its own group: 110101 19900307 002 X is not seen, a digit is.
            _ if window.len > n && window.size(n) == 1 && window.count(n + 1) == 18 => {
                end = window.end(n + 1);
                window.digits(n + 1)[17]
            }
            _ => return None,
        };
        if scan.byte(end).is_ascii_digit() || last == 10 && scan.byte(end).is_ascii_alphanumeric() {
            return None;
        }
        let digits: [u8; 17] = window.digits(n)[..17].try_into().ok()?;
        let sum: u32 = digits.iter().enumerate().map(|(k, digit)| u32::from(*digit) * (1 << (17 - k)) % 11).sum();
        Some(Resident { digits, end, checks: (sum + u32::from(last)) % 11 == 1 })
    }

    fn plausible(&self) -> bool {
        let number = |from: usize, to: usize| self.digits[from..to].iter().fold(0, |value, digit| value * 10 + u32::from(*digit));
        let date = super::date::exists(number(6, 10), number(10, 12), number(12, 14)) && (1850..=2100).contains(&number(6, 10));
        let place = if self.digits[0] == 9 { province(number(1, 3)) } else { region(number(0, 6)) };
        date && place
    }
}

fn window_joined(scan: &Scan<'_>, window: &Window, n: usize) -> bool {
    (1..n).all(|k| matches!(window.separator(scan.bytes, k - 1), b" " | b"-"))
}

/// Provinces of GB/T 2260, and 81 to 83 for residents of Hong Kong, Macao and Taiwan.
fn province(code: u32) -> bool {
    matches!(code, 11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83)
}

/// A county's code: the province, then a prefecture that is or was (1–43, 90 for what a province governs itself, 0 for
/// the province as a whole).
fn region(code: u32) -> bool {
    let (top, middle) = (code / 10_000, code / 100 % 100);
    let prefecture = match top {
        71 | 81..=83 => true,
        11 | 12 | 31 | 50 => middle <= 3,
        // Chaozhou, Jieyang and Yunfu.
        44 => middle <= 43 || (51..=53).contains(&middle),
        _ => middle <= 43 || middle == 90,
    };
    province(top) && prefecture
}

/// Those of 15 digits, from before 1999: no checksum, so that a thing's number is left alone.
pub(super) fn old_resident(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    if !scan.wants(Entity::CnResidentId) || window.size(0) != 15 || scan.before(window.start()).is_ascii_alphabetic() || context.names_thing() {
        return None;
    }
    let digits = window.digits(1);
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |value, digit| value * 10 + u32::from(*digit));
    let valid = region(number(0, 6)) && super::date::exists(1900 + number(6, 8), number(8, 10), number(10, 12));
    let alone = !joined_before(scan, window.start()) && !joined_behind(scan, window.end(1));
    let says = context.says(kind::RESIDENT);
    (valid && alone).then_some(Found::new(Entity::CnResidentId, window.start(), window.end(1), if says { 0.85 } else { 0.55 }, Verdict::Format))
}

/// US social security numbers: no area 000, 666 or 900–999, no group 00, no serial 0000 (SSA, since 2011).
fn ssn_rules(digits: &[u8]) -> bool {
    let area = digits[..3].iter().fold(0, |value, digit| value * 10 + u32::from(*digit));
    area != 0 && area != 666 && area < 900 && digits[3..5] != [0, 0] && digits[5..9] != [0; 4]
}

/// `536-22-1234`, `536 22 1234`.
pub(super) fn ssn(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let (start, end) = (window.start(), window.end(3));
    if !scan.wants(Entity::UsSsn) || !window.joined_by(scan.bytes, 3, b"- .") || !ssn_rules(window.digits(3)) {
        return None;
    }
    if joined_before(scan, start) && scan.before(start) != b'=' || joined_behind(scan, end) {
        return None;
    }
    let dashes = window.separator(scan.bytes, 0) == b"-";
    // Blanks and dots group any numbers: a flat, a house and a box, say.
    if !dashes && !scan.strict && !scan.context(start).says(kind::SSN) {
        return None;
    }
    Some(Found::new(Entity::UsSsn, start, end, if dashes { 0.9 } else { 0.7 }, Verdict::Format))
}

/// Nine digits in a run, beside a word.
pub(super) fn ssn_beside_words(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    let fits = scan.wants(Entity::UsSsn) && window.size(0) == 9 && context.says(kind::SSN) && ssn_rules(window.digits(1));
    let alone = !joined_behind(scan, window.end(1)) && !scan.before(window.start()).is_ascii_alphabetic();
    (fits && alone).then_some(Found::new(Entity::UsSsn, window.start(), window.end(1), 0.8, Verdict::Context))
}

/// `900307-1234567`: a Korean resident number, with its date and the digit of sex and century.
pub(super) fn korean_resident(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let digits = window.digits(2);
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |value, digit| value * 10 + u32::from(*digit));
    let valid = (1..=8).contains(&digits[6]) && super::date::exists(2000 + number(0, 2), number(2, 4), number(4, 6));
    let alone = !joined_before(scan, window.start()) && !joined_behind(scan, window.end(2)) && window.separator(scan.bytes, 0) == b"-";
    (scan.wants(Entity::RecordNumber) && valid && alone).then_some(Found::new(
        Entity::RecordNumber,
        window.start(),
        window.end(2),
        0.85,
        Verdict::Format,
    ))
}

/// Device numbers of 15 digits, also as 2-6-6-1, and of 16 with the software's version.
pub(super) fn imei(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    if !scan.wants(Entity::Imei) || !context.says(kind::IMEI) {
        return None;
    }
    let n = (1..=window.len.min(4)).find(|&n| matches!(window.count(n), 15 | 16) && window_joined(scan, window, n))?;
    let valid = window.count(n) == 15 && luhn(window.digits(n));
    let verdict = if valid { Verdict::Valid } else { Verdict::ChecksumFailed };
    Some(Found::new(Entity::Imei, window.start(), window.end(n), if valid { 1.0 } else { 0.8 }, verdict))
}

/// QQ accounts: five to eleven digits beside their word. A WeChat account of digits is a telephone or QQ number.
pub(super) fn account(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    let says = context.nearest & (kind::QQ | kind::WECHAT) != 0 && context.gap <= 18;
    let run = window.size(0);
    let (before, after) = (scan.before(window.start()), scan.byte(window.end(1)));
    if !scan.wants(Entity::SocialAccount) || !says || !(5..=11).contains(&run) || window.digits(1)[0] == 0 {
        return None;
    }
    // Behind a word of WeChat a letter must begin the account.
    let lone = !(before.is_ascii_alphanumeric() || matches!(before, b'_' | b'-') || after.is_ascii_alphabetic() || after == b'_');
    lone.then_some(Found::new(Entity::SocialAccount, window.start(), window.end(1), 0.75, Verdict::Context))
}

/// The letters and digits around a digit run, with dashes and blanks inside if `joins` has them.
fn token(scan: &Scan<'_>, at: usize) -> Option<(usize, usize)> {
    let least = scan.floor.max(at.saturating_sub(LONGEST));
    let start = at - scan.run_before(Block::alphanumeric, at, least);
    let end = at + scan.run_of(Block::alphanumeric, at, LONGEST + 1);
    let cut = start > scan.floor && matches!(scan.byte(start - 1), b'_');
    (end - start <= LONGEST && !cut && scan.byte(end) != b'_').then_some((start, end))
}

/// Documents that only words name: passports, permits, driving licences, record numbers.
pub(super) fn document(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    let kinds = context.kinds & (kind::PASSPORT | kind::PERMIT | kind::LICENCE | kind::RECORD | kind::RESIDENT);
    if kinds == 0 || context.nearest & (kind::PASSPORT | kind::PERMIT | kind::LICENCE | kind::RECORD | kind::RESIDENT | kind::THING) == 0 {
        return None;
    }
    let (start, end) = token(scan, window.start())?;
    let value = &scan.bytes[start..end];
    let hit = |entity: Entity, end: usize, score: f32| scan.wants(entity).then_some(Found::new(entity, start, end, score, Verdict::Context));
    if kinds & kind::PERMIT != 0 && context.says(kind::PERMIT) && permit(value) {
        return hit(Entity::Permit, end, 0.85);
    }
    if kinds & kind::PASSPORT != 0 && context.says(kind::PASSPORT) && passport(value) {
        return hit(Entity::Passport, end, 0.85);
    }
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    if kinds & kind::LICENCE != 0 && context.says(kind::LICENCE) && (5..=20).contains(&value.len()) && digits >= 4 {
        return hit(Entity::DriverLicense, joined_end(scan, window, end, context), 0.8);
    }
    if kinds & kind::RECORD != 0 && context.nearest & kind::RECORD != 0 && context.gap <= 24 && scan.before(start) != b'#' {
        let end = joined_end(scan, window, end, context);
        let all = scan.bytes[start..end].iter().filter(|b| b.is_ascii_digit()).count();
        return ((5..=LONGEST).contains(&all) || all >= 4 && end - start >= 6).then(|| hit(Entity::RecordNumber, end, 0.7)).flatten();
    }
    None
}

/// With the groups that follow: `2847 3916 5023`, `D123-4567-8901`.
fn joined_end(scan: &Scan<'_>, window: &Window, end: usize, context: Context) -> usize {
    let blanks = context.gap <= 12;
    let mut last = end;
    for k in 1..window.len.min(6) {
        if window.end(k) != last {
            break;
        }
        match window.separator(scan.bytes, k - 1) {
            b"-" | b"/" | b"." => last = window.end(k + 1),
            b" " if blanks && window.size(k) >= 2 && window.digits(1)[0] != 0 && window.count(window.len) >= 8 => last = window.end(k + 1),
            _ => break,
        }
    }
    while scan.byte(last).is_ascii_alphabetic() && last - end < 3 {
        last += 1;
    }
    last
}

/// Letters and digits of the passports of most countries: eight or nine characters, letters first if any.
fn passport(value: &[u8]) -> bool {
    let letters = value.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let digits = value[letters..].iter().take_while(|b| b.is_ascii_digit()).count();
    let first = value[0].to_ascii_uppercase();
    match (letters, digits, value.len() - letters - digits) {
        // US, UK, Russia and others; also the Chinese G, E and their like, Korea's M.
        (0, 8 | 9, 0) | (1, 8, 0) | (2, 6 | 7, 0) => true,
        // India's series and the Chinese D, S and P of officials, Australia's.
        (1, 7, 0) => matches!(first, b'D' | b'E' | b'J'..=b'N' | b'P' | b'R'..=b'Z'),
        // Germany and France mix them.
        _ => value.len() == 9 && value.iter().filter(|b| b.is_ascii_digit()).count() >= 4,
    }
}

/// Travel permits: C and W to Hong Kong and Macao, T and L to Taiwan, H and M for their residents, eight or ten digits
/// for Taiwan's; residence permits: three letters and twelve digits.
fn permit(value: &[u8]) -> bool {
    let letters = value.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let digits = value.len() - letters;
    value[letters..].iter().all(u8::is_ascii_digit) && matches!((letters, digits), (0, 8 | 10) | (1, 8 | 10) | (2, 7) | (3, 9..=12))
}

/// What letters around a digit run tell without a word: unified social credit codes, Indian PANs and UK national insurance
/// numbers.
pub(super) fn lettered(scan: &Scan<'_>, at: usize) -> Option<Found> {
    let (start, end) = token(scan, at)?;
    let value = &scan.bytes[start..end];
    if value.len() == 18 && scan.wants(Entity::CnCreditCode) && credit_code(value) {
        return Some(Found::new(Entity::CnCreditCode, start, end, 0.98, Verdict::Valid));
    }
    if !matches!(value.len(), 9 | 10) || !scan.wants(Entity::RecordNumber) {
        return None;
    }
    let upper = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_uppercase);
    let number = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    // Permanent account numbers: the fourth letter is the kind of holder.
    let pan = value.len() == 10 && upper(&value[..5]) && number(&value[5..9]) && value[9].is_ascii_uppercase() && b"PCHABGJLFT".contains(&value[3]);
    let nino = value.len() == 9 && upper(&value[..2]) && number(&value[2..8]) && matches!(value[8], b'A'..=b'D') && nino_prefix(&value[..2]);
    (pan || nino).then_some(Found::new(Entity::RecordNumber, start, end, 0.85, Verdict::Format))
}

fn nino_prefix(letters: &[u8]) -> bool {
    letters.iter().all(u8::is_ascii_uppercase)
        && !letters.iter().any(|b| b"DFIQUV".contains(b))
        && letters[1] != b'O'
        && ![b"BG".as_slice(), b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"].contains(&letters)
}

/// `AB 12 34 56 C`, from its first two digits.
pub(super) fn spaced_nino(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let start = window.start().checked_sub(3)?;
    let spaced = window.shaped([2, 2, 2]) && window.joined_by(scan.bytes, 3, b" -") && scan.byte(start + 2) == scan.byte(window.end(1));
    let end = window.end(3.min(window.len)) + 2;
    if !scan.wants(Entity::RecordNumber) || !spaced || start < scan.floor || scan.before(start).is_ascii_alphanumeric() {
        return None;
    }
    let last = scan.byte(end - 1);
    let fits = nino_prefix(&scan.bytes[start..start + 2]) && matches!(last, b'A'..=b'D') && !scan.byte(end).is_ascii_alphanumeric();
    fits.then_some(Found::new(Entity::RecordNumber, start, end, 0.9, Verdict::Format))
}

/// Characters of unified social credit codes (GB 32100-2015): no I, O, S, V, Z.
const CREDIT_ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";

/// What each of them stands for; of other bytes, 31.
const CREDIT_DIGITS: [u8; 256] = {
    let mut digits = [CREDIT_ALPHABET.len() as u8; 256];
    let mut at = 0;
    while at < CREDIT_ALPHABET.len() {
        digits[CREDIT_ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    digits
};

/// The mod-31 checksum, over values of the alphabet with powers of three.
fn credit_checks(value: &[u8]) -> bool {
    let digit = |b: u8| usize::from(CREDIT_DIGITS[usize::from(b.to_ascii_uppercase())]);
    let (mut sum, mut weight) = (0, 1);
    for &b in &value[..17] {
        if digit(b) == CREDIT_ALPHABET.len() {
            return false;
        }
        sum += digit(b) * weight;
        weight = weight * 3 % 31;
    }
    digit(value[17]) == (31 - sum % 31) % 31
}

/// One with letters: the checksum, and digits where the region stands.
fn credit_code(value: &[u8]) -> bool {
    matches!(value[0].to_ascii_uppercase(), b'1'..=b'9' | b'A' | b'N' | b'Y') && value[2..8].iter().all(u8::is_ascii_digit) && credit_checks(value)
}

/// One of digits alone, beside a word.
pub(super) fn credit_code_of_digits(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    let (start, end) = (window.start(), window.end(1));
    let fits = scan.wants(Entity::CnCreditCode) && window.size(0) == 18 && context.nearest & (kind::COMPANY | kind::THING) != 0;
    let named = || context.kinds & kind::COMPANY != 0 || scan.text[..start].trim_end_matches(['：', ':', ' ', '是', '为']).ends_with("代码");
    (fits && named() && credit_checks(&scan.bytes[start..end])).then_some(Found::new(Entity::CnCreditCode, start, end, 0.9, Verdict::Valid))
}
