//! Dates of birth: dates beside a word of birth, in the forms of Chinese and English.

use super::super::{Entity, Verdict};
use super::context::{self, kind};
use super::number::Window;
use super::scan::{Found, Scan};

/// Whether the Gregorian calendar has this day.
pub(super) fn exists(year: u32, month: u32, day: u32) -> bool {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

pub(super) const MONTHS: [&str; 12] =
    ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];

/// The month that a word of letters names, by its whole or its first three letters.
fn month(word: &str) -> Option<u32> {
    let [a, b, c] = *word.as_bytes().first_chunk()?;
    let at = match &[a | 0x20, b | 0x20, c | 0x20] {
        b"jan" => 0,
        b"feb" => 1,
        b"mar" => 2,
        b"apr" => 3,
        b"may" => 4,
        b"jun" => 5,
        b"jul" => 6,
        b"aug" => 7,
        b"sep" => 8,
        b"oct" => 9,
        b"nov" => 10,
        b"dec" => 11,
        _ => return None,
    };
    let whole = word.len() == 3 || word.eq_ignore_ascii_case(MONTHS[at]) || word.eq_ignore_ascii_case("sept");
    whole.then_some(at as u32 + 1)
}

/// A date from a digit run, if a word of birth stands beside it.
pub(super) fn of_birth(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    if !scan.wants(Entity::DateOfBirth) || window.size(0) > 8 {
        return None;
    }
    let after = scan.byte(window.end(1));
    let han = after >= 0x80 || after == b' ' && scan.byte(window.end(1) + 1) >= 0x80;
    let letter = |at: usize| scan.byte(at).is_ascii_alphabetic();
    let first = window.start();
    let month = window.size(0) <= 2
        && (letter(window.end(1) + 1)
            || letter(window.end(1))
            || first >= 2 && (letter(first - 1) || letter(first - 2) || scan.byte(first - 2) == b'.'));
    if !han && !month && window.len < 3 && window.size(0) != 8 {
        return None;
    }
    let (start, end) = numeric(scan, window).or_else(|| if han { chinese(scan, window) } else { None }).or_else(|| named(scan, window))?;
    let context = scan.context(start);
    let said = context.nearest & kind::BIRTH != 0
        || context.kinds & kind::BIRTH != 0 && context.gap > 0 && context.nearest & (kind::THING | kind::VERSION) == 0;
    let behind = || context::follows(scan, end, kind::BIRTH) || scan.text[end..].starts_with('生') || scan.text[end..].starts_with("出生");
    (said || behind()).then_some(Found::new(Entity::DateOfBirth, start, end, 0.9, Verdict::Context))
}

fn full_year(value: u32) -> bool {
    (1850..=2100).contains(&value)
}

/// `1990-03-07`, `03/07/1990`, `7.3.90`, `19900307`.
fn numeric(scan: &Scan<'_>, window: &Window) -> Option<(usize, usize)> {
    let run = || {
        let value = window.value(0);
        let fits = window.size(0) == 8 && full_year(value / 10_000) && exists(value / 10_000, value / 100 % 100, value % 100);
        fits.then_some((window.start(), window.end(1)))
    };
    if window.len < 3 || !window.joined_by(scan.bytes, 3, b"-/. ") {
        return run();
    }
    let (a, b, c) = (window.value(0), window.value(1), window.value(2));
    let small = |k: usize| window.size(k) <= 2;
    let fits = match (window.size(0), window.size(2)) {
        (4, 1..=2) => full_year(a) && small(1) && exists(a, b, c),
        (1..=2, 4) => full_year(c) && small(1) && (exists(c, a, b) || exists(c, b, a)),
        (1..=2, 2) => small(1) && (exists(2000, a, b) || exists(2000, b, a)) && window.separator(scan.bytes, 0) != b" ",
        _ => false,
    };
    fits.then_some((window.start(), window.end(3)))
}

/// `1990年3月7日`, `90年3月`, `3月7日`, `1990 年 3 月 7 日`.
fn chinese(scan: &Scan<'_>, window: &Window) -> Option<(usize, usize)> {
    let start = window.start();
    let part = |from: usize, sign: &[&str]| {
        let from = from + usize::from(scan.byte(from) == b' ');
        let digits = scan.bytes[from.min(scan.bytes.len())..].iter().take(5).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > 4 {
            return None;
        }
        let value: u32 = scan.text[from..from + digits].parse().ok()?;
        let behind = from + digits + usize::from(scan.byte(from + digits) == b' ');
        let sign = sign.iter().find(|sign| scan.bytes[behind.min(scan.bytes.len())..].starts_with(sign.as_bytes()))?;
        Some((value, behind + sign.len()))
    };
    let (year, at) = part(start, &["年"]).map_or((None, start), |(year, at)| (Some(year), at));
    let fits_year = year.is_none_or(|year| full_year(year) || year <= 99);
    let (month, month_end) = part(at, &["月"])?;
    match part(month_end, &["日", "号", "號"]) {
        Some((day, end)) => (fits_year && exists(year.filter(|year| *year > 99).unwrap_or(2000), month, day)).then_some((start, end)),
        None => (fits_year && year.is_some() && (1..=12).contains(&month)).then_some((start, month_end)),
    }
}

/// `March 7, 1990`, `7 March 1990`, `7th of March, 1990`, from its first digits.
fn named(scan: &Scan<'_>, window: &Window) -> Option<(usize, usize)> {
    let (start, day) = (window.start(), window.value(0));
    if window.size(0) > 2 || !(1..=31).contains(&day) {
        return None;
    }
    let mut end = window.end(1);
    if matches!(scan.bytes.get(end..end + 2), Some(b"st" | b"nd" | b"rd" | b"th")) {
        end += 2;
    }
    let year = |from: usize| {
        let from = from + scan.bytes[from.min(scan.bytes.len())..].iter().take(2).take_while(|b| matches!(b, b',' | b' ' | b'.')).count();
        let digits = scan.digits(from, 5);
        let value: u32 = scan.text.get(from..from + digits)?.parse().ok()?;
        (digits == 4 && full_year(value)).then_some((value, from + digits))
    };
    // The month before the day.
    let blanks = scan.bytes[scan.floor.min(start)..start].iter().rev().take(2).take_while(|b| matches!(b, b' ' | b'.')).count();
    let before = &scan.text[scan.floor.min(start - blanks)..start - blanks];
    let letters = scan.letters_before(start - blanks, scan.floor.max(start.saturating_sub(blanks + 10)));
    let word = &before[before.len() - letters..];
    if let Some(month) = month(word) {
        let begin = scan.floor + before.len() - letters;
        return Some(match year(end) {
            Some((value, end)) if exists(value, month, day) => (begin, end),
            _ if exists(2000, month, day) => (begin, end),
            _ => return None,
        });
    }
    // The month behind it.
    let mut at = end;
    for filler in [" of ", " ", "-", "."] {
        if scan.bytes[at..].starts_with(filler.as_bytes()) {
            at += filler.len();
        }
    }
    let letters = scan.letters(at, 10);
    let month = month(&scan.text[at..at + letters])?;
    let behind = at + letters;
    let behind = behind + usize::from(scan.byte(behind) == b'-');
    match year(behind) {
        Some((value, end)) if exists(value, month, day) => Some((start, end)),
        _ => exists(2000, month, day).then_some((start, at + letters)),
    }
}

/// Numerals of Chinese dates.
fn numeral(c: char) -> bool {
    matches!(c, '一' | '二' | '三' | '四' | '五' | '六' | '七' | '八' | '九' | '十' | '〇' | '零' | '○' | '廿' | '初' | '两')
}

/// `出生三月七号`, `生日是十二月二十五日`, `生于一九九〇年三月`: at the 生 of its word.
pub(super) fn chinese_birthday(scan: &mut Scan<'_>, at: usize) {
    let text = scan.text;
    let rest = &text[at..];
    let word = if rest.starts_with("生日") || rest.starts_with("生于") || rest.starts_with("生年月日") || text[..at].ends_with('出') {
        "生"
    } else {
        return;
    };
    let mut start = at + word.len();
    for _ in 0..4 {
        for filler in ["日期", "年月", "年月日", "日", "于", "是", "为", "在", "：", ":", " ", "农历", "阴历", "时间"] {
            if text[start..].starts_with(filler) {
                start += filler.len();
            }
        }
    }
    let (mut end, mut seen, mut numerals, mut last) = (start, 0, 0, ' ');
    for c in text[start..].chars().take(14) {
        match c {
            c if numeral(c) => numerals += 1,
            '年' | '月' if numerals > 0 => {
                seen += 1;
                numerals = 0;
            }
            '日' | '号' if numerals > 0 && seen > 0 => {
                seen += 1;
                end += c.len_utf8();
                break;
            }
            _ => break,
        }
        last = c;
        end += c.len_utf8();
    }
    if numeral(last) && seen > 0 && !text[..end].ends_with(['日', '号']) && numerals == 0 {
        return;
    }
    if seen >= 1 && text[start..end].contains('月') && end > start {
        scan.push(Found::new(Entity::DateOfBirth, start, end, 0.85, Verdict::Context));
    }
}
