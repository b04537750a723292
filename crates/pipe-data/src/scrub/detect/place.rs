//! Latitude and longitude: pairs of decimals, and degrees with minutes.

use super::super::{Entity, Verdict};
use super::context::kind;
use super::scan::{Found, Scan};

/// A signed decimal that begins at or before `at`: start, end, value, decimals.
fn decimal(scan: &Scan<'_>, at: usize) -> Option<(usize, usize, f64, usize)> {
    let signed = matches!(scan.byte(at), b'-' | b'+');
    let from = at + usize::from(signed);
    let whole = scan.digits(from, 4);
    let point = from + whole;
    if !(1..=3).contains(&whole) || scan.byte(point) != b'.' {
        return None;
    }
    let decimals = scan.digits(point + 1, 18);
    let end = point + 1 + decimals;
    if decimals == 0 || decimals > 16 || scan.byte(end) == b'.' && scan.byte(end + 1).is_ascii_digit() {
        return None;
    }
    Some((at, end, scan.text[at..end].parse().ok()?, decimals))
}

/// What may stand between the two: `°`, a hemisphere, a comma, blanks.
fn between(scan: &Scan<'_>, from: usize) -> Option<usize> {
    let mut at = from;
    let mut parted = false;
    for c in scan.text[from..].chars().take(8) {
        match c {
            '°' | 'N' | 'S' | 'E' | 'W' | 'n' | 's' | 'e' | 'w' | '北' | '南' | '东' | '西' | '纬' | '经' => {}
            ',' | ' ' | '，' | ';' | '/' | '、' => parted = true,
            '0'..='9' | '-' | '+' => return parted.then_some(at),
            _ => return None,
        }
        at += c.len_utf8();
    }
    None
}

/// `39.9042, 116.4074`, either one first; four decimals at least, or two beside a word.
pub(super) fn coordinates(scan: &Scan<'_>, at: usize) -> Option<Found> {
    if !scan.wants(Entity::Coordinates) {
        return None;
    }
    let run = scan.digits(at, 4);
    if scan.byte(at + run) != b'.' {
        return None;
    }
    let start = if matches!(scan.before(at), b'-' | b'+') && at > scan.floor { at - 1 } else { at };
    let before = scan.before(start);
    if before.is_ascii_alphanumeric() || matches!(before, b'.' | b'$' | b'-') || before == b',' && scan.byte(start.wrapping_sub(2)).is_ascii_digit() {
        return None;
    }
    let (_, first_end, first, decimals) = decimal(scan, start)?;
    let pair = between(scan, first_end).and_then(|second| decimal(scan, second));
    let Some((_, end, second, more)) = pair else {
        return single(scan, start, first_end, first, decimals);
    };
    if scan.byte(end).is_ascii_digit() || scan.byte(end) == b'%' {
        return None;
    }
    let ranges = first.abs() <= 90.0 && second.abs() <= 180.0 || first.abs() <= 180.0 && second.abs() <= 90.0;
    let fine = decimals.min(more);
    let said = || scan.context(start).says(kind::PLACE);
    let end = hemisphere(scan, end);
    let found = |score: f32| Some(Found::new(Entity::Coordinates, start, end, score, Verdict::Format));
    if !ranges {
        return None;
    }
    match fine {
        4.. => found(0.92),
        2..=3 if said() => found(0.9),
        _ => None,
    }
}

/// With the `° E` behind the last number.
fn hemisphere(scan: &Scan<'_>, end: usize) -> usize {
    let mut at = end;
    if scan.text[at..].starts_with('°') {
        at += '°'.len_utf8();
    }
    let blank = usize::from(scan.byte(at) == b' ');
    if matches!(scan.byte(at + blank), b'N' | b'S' | b'E' | b'W') && !scan.byte(at + blank + 1).is_ascii_alphanumeric() { at + blank + 1 } else { at }
}

/// `latitude: 39.9042`: one alone, beside its word.
fn single(scan: &Scan<'_>, start: usize, end: usize, value: f64, decimals: usize) -> Option<Found> {
    if decimals < 3 || value.abs() > 180.0 {
        return None;
    }
    let context = scan.context(start);
    (context.nearest & kind::PLACE != 0 && context.gap <= 8).then_some(Found::new(
        Entity::Coordinates,
        start,
        hemisphere(scan, end),
        0.85,
        Verdict::Context,
    ))
}

/// `40°26′46″N 79°58′56″W`, `北纬39°54′20″，东经116°25′29″`: one part each.
pub(super) fn degrees(scan: &Scan<'_>, at: usize) -> Option<Found> {
    let run = scan.digits(at, 4);
    if !matches!(scan.byte(at + run), 0xc2 | 0xe5) || !scan.wants(Entity::Coordinates) {
        return None;
    }
    let number = |from: usize| scan.digits(from, 4);
    let sign = |from: usize, signs: &[&str]| {
        signs.iter().find(|sign| scan.bytes[from.min(scan.bytes.len())..].starts_with(sign.as_bytes())).map(|sign| from + sign.len())
    };
    let mut end = sign(at + number(at), &["°", "度", "º"])?;
    let minutes = number(end);
    if !(1..=2).contains(&minutes) {
        return None;
    }
    end = sign(end + minutes, &["′", "'", "’", "分"])?;
    let seconds = number(end);
    if seconds > 0 {
        let decimals = if scan.byte(end + seconds) == b'.' { 1 + number(end + seconds + 1) } else { 0 };
        end = sign(end + seconds + decimals, &["″", "\"", "''", "”", "’’", "秒"])?;
    }
    let end = hemisphere(scan, end);
    let degrees: u32 = scan.text[at..at + number(at)].parse().ok()?;
    let start = if scan.text[scan.floor..at].ends_with(['纬', '经']) { at.saturating_sub("北纬".len()).max(scan.floor) } else { at };
    let start = if scan.text.is_char_boundary(start) { start } else { at };
    (degrees <= 180).then_some(Found::new(Entity::Coordinates, start, end, 0.9, Verdict::Format))
}
