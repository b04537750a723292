//! Telephone numbers: international by country calling code (ITU-T E.164), national by their shape.
//!
//! What counts is how numbers are written, not whether an exchange has assigned them: made-up and mistyped numbers are
//! personal data too. So the tables hold lengths and not number ranges.

use std::sync::LazyLock;

use super::super::{Entity, Verdict};
use super::context::{self, Context, kind};
use super::number::{Window, joined_before, joined_behind};
use super::scan::{Found, Scan};

/// Lengths of national numbers by calling code: code, least, most.
const CALLING_CODES: &[(u32, u8, u8)] = &[
    (1, 10, 10),
    (7, 10, 10),
    (20, 8, 10),
    (27, 9, 9),
    (30, 10, 10),
    (31, 9, 10),
    (32, 8, 9),
    (33, 9, 9),
    (34, 9, 9),
    (36, 8, 9),
    (39, 6, 12),
    (40, 9, 9),
    (41, 9, 9),
    (43, 5, 13),
    (44, 9, 10),
    (45, 8, 8),
    (46, 7, 10),
    (47, 8, 8),
    (48, 9, 9),
    (49, 6, 13),
    (51, 8, 9),
    (52, 10, 11),
    (53, 6, 8),
    (54, 10, 11),
    (55, 10, 11),
    (56, 9, 9),
    (57, 8, 10),
    (58, 10, 10),
    (60, 7, 10),
    (61, 9, 9),
    (62, 7, 12),
    (63, 8, 10),
    (64, 8, 10),
    (65, 8, 8),
    (66, 8, 9),
    (81, 9, 10),
    (82, 8, 11),
    (84, 9, 10),
    (86, 9, 12),
    (90, 10, 10),
    (91, 10, 10),
    (92, 9, 10),
    (93, 9, 9),
    (94, 9, 9),
    (95, 7, 10),
    (98, 10, 10),
    (352, 4, 11),
    (353, 7, 9),
    (354, 7, 9),
    (357, 8, 8),
    (358, 5, 12),
    (371, 8, 8),
    (372, 7, 8),
    (852, 8, 9),
    (853, 8, 8),
    (886, 8, 9),
];
/// Those of three digits that are not above: seven to ten digits.
const OTHER_CODES: &[std::ops::RangeInclusive<u32>] = &[
    211..=213,
    216..=216,
    218..=218,
    220..=269,
    290..=291,
    297..=299,
    350..=359,
    370..=389,
    420..=421,
    423..=423,
    500..=509,
    590..=599,
    670..=692,
    800..=800,
    808..=808,
    850..=850,
    852..=856,
    870..=870,
    878..=878,
    880..=883,
    886..=886,
    888..=888,
    960..=968,
    970..=979,
    992..=998,
];

/// Least and most digits behind each calling code; 0: no such code.
static LENGTHS: LazyLock<Box<[(u8, u8); 1000]>> = LazyLock::new(|| {
    let mut lengths = Box::new([(0, 0); 1000]);
    OTHER_CODES.iter().cloned().flatten().for_each(|code| lengths[code as usize] = (7, 10));
    CALLING_CODES.iter().for_each(|(code, least, most)| lengths[*code as usize] = (*least, *most));
    lengths
});

/// Digits of the calling code at the beginning of `digits`, and the least and most that may follow.
fn calling_code(digits: &[u8]) -> Option<(usize, usize, usize)> {
    let mut code = 0;
    (1..=3).find_map(|n| {
        code = code * 10 + usize::from(*digits.get(n - 1)?);
        // No code begins with a zero, and one of three digits is of another length than its first two.
        let (least, most) = LENGTHS[code];
        (most > 0 && code >= [1, 10, 100][n - 1]).then_some((n, usize::from(least), usize::from(most)))
    })
}

/// `x123`, `ext. 12`, `转8001`, `分机 801`: where it ends.
fn extension(scan: &Scan<'_>, end: usize) -> usize {
    let rest = &scan.bytes[end..];
    let blanks = rest.iter().take(2).take_while(|b| **b == b' ' || **b == b',').count();
    let rest = &rest[blanks..];
    if !rest.first().is_some_and(|b| matches!(b, b'x' | b'X' | b'e' | b'E' | b'#' | 0x80..)) {
        return end;
    }
    let marks: [&[u8]; 8] = [b"extension", b"ext.", b"ext", b"x", b"#", "转".as_bytes(), "分机".as_bytes(), "轉".as_bytes()];
    let Some(mark) = marks.iter().find(|mark| rest.len() > mark.len() && rest[..mark.len()].eq_ignore_ascii_case(mark)) else { return end };
    let behind = rest[mark.len()..].iter().take(2).take_while(|b| matches!(b, b' ' | b':')).count();
    let digits = rest[mark.len() + behind..].iter().take(7).take_while(|b| b.is_ascii_digit()).count();
    if (1..=6).contains(&digits) { end + blanks + mark.len() + behind + digits } else { end }
}

fn found(scan: &Scan<'_>, window: &Window, n: usize, start: usize, score: f32) -> Option<Found> {
    Some(Found::new(Entity::Phone, start, extension(scan, window.end(n)), score, if score >= 0.75 { Verdict::Format } else { Verdict::Context }))
}

/// One separator, or a bracket with a blank: what stands between the groups of one number.
fn separated(scan: &Scan<'_>, window: &Window, n: usize) -> bool {
    (1..n).all(|k| {
        let separator = window.separator(scan.bytes, k - 1);
        separator.len() == 1 && separator[0] != b'(' && separator[0] != b')'
            || matches!(separator, b") " | b")-" | b")" | b" (" | b"-(" | b"(" | b")." | b")/" | b" - " | b"- " | b" -")
    })
}

/// With an opening bracket before the first group, if that is what the bracket behind it belongs to.
fn opening(scan: &Scan<'_>, window: &Window) -> usize {
    let start = window.start();
    let closes = scan.byte(window.end(1)) == b')';
    if closes && scan.before(start) == b'(' && start > scan.floor { start - 1 } else { start }
}

/// Numbers that their shape tells.
pub(super) fn formatted(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    if !scan.wants(Entity::Phone) {
        return None;
    }
    international(scan, window)
        .or_else(|| chinese_mobile(scan, window))
        .or_else(|| american(scan, window))
        .or_else(|| chinese_landline(scan, window))
        .or_else(|| with_zero(scan, window))
        .or_else(|| in_brackets(scan, window))
}

/// `+44 20 7946 0018`, `+1-846-853-9089x92`, `0041 44 668 18 00`, `011 44 20 7946 0018`.
fn international(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let start = window.start();
    let digits = window.digits(window.len);
    let plus = match (scan.before(start), start) {
        (b'+', 1..) => Some(start - 1),
        (b'(', 2..) if scan.byte(start - 2) == b'+' => Some(start - 2),
        (b' ', 2..) if scan.byte(start - 2) == b'+' => Some(start - 2),
        _ => None,
    }
    .filter(|plus| *plus >= scan.floor);
    let (begin, zeros) = match plus {
        Some(plus) if scan.before(plus).is_ascii_alphanumeric() => return None,
        Some(plus) => (if scan.before(plus) == b'(' && scan.byte(window.end(1)) == b')' { plus - 1 } else { plus }, 0),
        None if window.len > 1 && digits.starts_with(&[0, 1, 1]) && window.size(0) == 3 => (start, 3),
        None if digits.starts_with(&[0, 0]) && !joined_before(scan, start) => (start, 2),
        None => return None,
    };
    let rest = &digits[zeros..];
    let (code, least, most) = calling_code(rest)?;
    // A trunk zero in brackets is not dialled from abroad: +44 (0)20.
    let trunk = usize::from(rest.get(code) == Some(&0));
    let n = (1..=window.len).rev().find(|&n| {
        let count = window.count(n);
        (zeros + code + least..=zeros + code + most + trunk).contains(&count) && separated(scan, window, n)
    })?;
    let mobile = rest.starts_with(&[8, 6, 1]) && window.count(n) == zeros + 13;
    if plus.is_none() && n == 1 && !mobile && !scan.context(start).says(kind::PHONE) {
        return None;
    }
    found(scan, window, n, begin, 0.9)
}

/// Chinese mobile numbers: 1, then 3 to 9, then nine digits; `86` may stand before them.
fn chinese_mobile(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let digits = window.digits(window.len);
    let code = if digits.starts_with(&[8, 6, 1]) { 2 } else { 0 };
    if !matches!(digits.get(code..code + 2), Some([1, 3..=9])) {
        return None;
    }
    let n = (1..=window.len.min(5)).find(|&n| window.count(n) == code + 11)?;
    let grouped = match (code, n) {
        (_, 1) => true,
        (0, _) => {
            window.shaped([3, 4, 4]) || window.shaped([3, 8]) || window.shaped([3, 3, 5]) || window.shaped([7, 4]) || window.shaped([3, 2, 2, 2, 2])
        }
        _ => window.size(0) == 2 && matches!(window.size(1), 3 | 11) || window.shaped([5, 4, 4]),
    };
    let alone = grouped && (1..n).all(|k| matches!(window.separator(scan.bytes, k - 1), b" " | b"-" | b"." | b") "));
    let (start, end) = (window.start(), window.end(n));
    let decimal = joined_before(scan, start) && !matches!(scan.before(start), b'-' | b':' | b'/' | b',' | b'=')
        || scan.byte(end) == b'.' && scan.byte(end + 1).is_ascii_digit();
    if !alone || decimal || n < window.len && window.separator(scan.bytes, n - 1) == b"-" && window.size(n) > 6 || scan.context(start).names_thing() {
        return None;
    }
    found(scan, window, n, start, 0.9)
}

/// Toll-free and service numbers are nobody's own: 400-820-1234, 1-800-555-0199.
fn service(area: &[u8]) -> bool {
    matches!(area, [4 | 8, 0, 0])
}

/// Whether the area code of a service number stands right before: `(800) |428-4322`.
fn behind_service(scan: &Scan<'_>, start: usize) -> bool {
    let head = &scan.bytes[..start];
    let blanks = head.iter().rev().take(2).take_while(|b| matches!(b, b' ' | b')')).count();
    let head = &head[..start - blanks];
    blanks > 0 && (head.ends_with(b"800") || head.ends_with(b"400")) && !head[..head.len() - 3].last().is_some_and(u8::is_ascii_digit)
}

/// The North American plan: `(415) 555-0123`, `415.555.0123x12`, `1-415-555-0123`.
fn american(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let country = match (window.size(0), window.value(0)) {
        (1, 1) => 1,
        _ => 0,
    };
    let joined = country == 0 && window.shaped([3, 7]) && scan.byte(window.end(1)) == b')';
    let parted = if country == 1 { window.shaped([1, 3, 3, 4]) } else { window.shaped([3, 3, 4]) };
    if !(joined || parted) {
        return None;
    }
    let n = if window.shaped([3, 7]) { 2 } else { country + 3 };
    let area = window.digits(window.len).get(country..country + 3)?;
    if !separated(scan, window, n) || service(area) {
        return None;
    }
    let start = opening(scan, window);
    let blanks = (1..n).all(|k| window.separator(scan.bytes, k - 1) == b" ");
    let plausible = area[0] >= 2 || area[0] == 0 && area[1] != 0 || !blanks;
    if !plausible || joined_before(scan, start) || joined_behind(scan, window.end(n)) || scan.context(start).names_thing() {
        return None;
    }
    found(scan, window, n, start, if blanks { 0.8 } else { 0.85 })
}

/// `010-12345678`, `(0755) 1234567转801`, `0571 8765 4321`.
fn chinese_landline(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let digits = window.digits(window.len);
    let area = match digits {
        [0, 1, 0, ..] | [0, 2, _, ..] => 3,
        [0, 3..=9, _, _, ..] => 4,
        _ => return None,
    };
    let n = (1..=window.len.min(3)).rev().find(|&n| (7..=8).contains(&window.count(n).saturating_sub(area)))?;
    let split = n == 1 || window.size(0) == area;
    let start = opening(scan, window);
    // Subscribers' numbers do not begin with 0 or 1; without an area code apart from them, a zero might be anything.
    let plain = n == 1 && !(matches!(digits.get(area), Some(2..=8)) && window.count(1) >= 11);
    let card = n == 1 && (scan.context(start).nearest & kind::CARD != 0 || scan.before(start).is_ascii_alphabetic());
    if !split || plain || card || !separated(scan, window, n) || joined_before(scan, start) || scan.context(start).names_thing() {
        return None;
    }
    let extended = window.len > n && window.separator(scan.bytes, n - 1) == b"-" && window.size(n) <= 5 && n > 1;
    if !extended && joined_behind(scan, window.end(n)) {
        return None;
    }
    found(scan, window, if extended { n + 1 } else { n }, start, 0.8)
}

/// National numbers with their trunk zero: `020 7946 0018`, `06 12 34 56 78`, `02.27.96.63.08`, `030/1234567`.
fn with_zero(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let digits = window.digits(window.len);
    if digits[0] != 0 || digits[1] == 0 || !(2..=6).contains(&window.size(0)) || window.len < 2 {
        return None;
    }
    let start = opening(scan, window);
    let n = (2..=window.len.min(6)).rev().find(|&n| (9..=13).contains(&window.count(n)) && separated(scan, window, n))?;
    let even = (1..n).all(|k| window.size(k) >= 2) && (window.count(n) < 13 || n == 2);
    if !even || date_like(window) || joined_before(scan, start) || joined_behind(scan, window.end(n)) || scan.context(start).names_thing() {
        return None;
    }
    let context = scan.context(start);
    if context.nearest & kind::RECORD != 0 || context.nearest & kind::RESIDENT != 0 {
        return None;
    }
    found(scan, window, n, start, 0.8)
}

/// `(91) 5676-6953`, `(85) 5986-8343`: an area code in brackets.
fn in_brackets(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let start = opening(scan, window);
    if start == window.start() || !(2..=5).contains(&window.size(0)) || window.len < 2 || service(window.digits(1)) {
        return None;
    }
    let n = (2..=window.len.min(5)).rev().find(|&n| (9..=12).contains(&window.count(n)) && separated(scan, window, n))?;
    let even = (1..n).all(|k| (2..=8).contains(&window.size(k)));
    let year = window.size(0) == 4 && (1900..=2100).contains(&window.value(0));
    if !even || year || joined_behind(scan, window.end(n)) || scan.context(start).names_thing() {
        return None;
    }
    found(scan, window, n, start, 0.8)
}

/// Runs of digits: `4155550123`, `07700900123`, `14155550123` beside a word.
pub(super) fn plain(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    if !scan.wants(Entity::Phone) || context.names_thing() {
        return None;
    }
    let (start, end, digits) = (window.start(), window.end(1), window.digits(1));
    let lone = !joined_before(scan, start) && !joined_behind(scan, end);
    let lettered = scan.before(start).is_ascii_alphabetic() || scan.before(start) == b'_';
    if !lone || service(digits.get(..3)?) && digits.len() <= 11 || digits.iter().all(|digit| *digit == digits[0]) {
        return None;
    }
    let beside = |score: f32| {
        let says = context.says(kind::PHONE) && !context::follows(scan, end, kind::THING)
            || context::follows(scan, extension(scan, end), kind::PHONE)
            || scan.strict;
        says.then_some(score)
    };
    let other =
        context.nearest & (kind::RECORD | kind::SSN | kind::LICENCE | kind::RESIDENT | kind::CARD | kind::QQ | kind::PASSPORT | kind::IBAN) != 0;
    let score = match (digits.len(), digits[0]) {
        (10, 2..=9) if !lettered && !other => Some(0.65),
        (10..=12, 0) if digits[1] != 0 && !lettered && !other => Some(0.65),
        _ if other || lettered => None,
        (9, 0) if digits[1] != 0 => beside(0.6),
        (8..=12, _) => beside(0.55),
        (7, 2..=9) => beside(0.5),
        _ => None,
    }?;
    found(scan, window, 1, start, score)
}

/// Groups that only words make a telephone number: `88 165 40 96`, `785 8949`, `555-0101`, `25-62-29-72`.
pub(super) fn local(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    if !scan.wants(Entity::Phone) || window.len < 2 || context.names_thing() || service(window.digits(1)) {
        return None;
    }
    let start = opening(scan, window);
    if window.size(0) == 1 && window.len > 1 && service(&window.digits(2)[1..]) || behind_service(scan, start) {
        return None;
    }
    let n = (2..=window.len.min(6)).rev().find(|&n| {
        let end = (1..n).all(|k| (1..=8).contains(&window.size(k))) && (0..n).filter(|k| window.size(*k) == 1).count() <= 1;
        let enough =
            (7..=12).contains(&window.count(n)) || window.count(n) == 6 && (n == 3 && window.shaped([2, 2, 2]) || n == 2 && window.shaped([3, 3]));
        enough && end && separated(scan, window, n)
    })?;
    let end = window.end(n);
    let ssn = window.shaped([3, 2, 4]);
    let years = n == 2 && window.shaped([4, 4]) && [0, 1].iter().all(|k| (1900..=2100).contains(&window.value(*k)));
    let bytes = scan.bytes;
    let decimal = n == 2 && window.separator(bytes, 0) == b"." && !window.shaped([4, 4]) || window.separator(bytes, 0) == b"/" && n == 2;
    if ssn || years || decimal || date_like(window) || !(1..=5).contains(&window.size(0)) || joined_before(scan, start) || joined_behind(scan, end) {
        return None;
    }
    let other =
        context.nearest & (kind::RECORD | kind::SSN | kind::LICENCE | kind::RESIDENT | kind::CARD | kind::QQ | kind::PASSPORT | kind::BIRTH) != 0;
    let says = context.says(kind::PHONE) && !other || context::follows(scan, end, kind::PHONE);
    let obvious = scan.strict && !other && (window.count(n) >= 9 || window.shaped([3, 4]) && window.value(0) >= 200);
    if !says && !obvious {
        return None;
    }
    found(scan, window, n, start, 0.6)
}

/// `01.02.2009`, `01-02-2009 10`, `2009/01/02 12`: a day, a month and a year.
fn date_like(window: &Window) -> bool {
    if window.len < 3 {
        return false;
    }
    let (a, b, c) = (window.value(0), window.value(1), window.value(2));
    let year = |k: usize, n: u32| window.size(k) == 4 && (1900..=2100).contains(&n);
    year(2, c) && (1..=31).contains(&a) && (1..=31).contains(&b) && window.size(0) <= 2 && window.size(1) <= 2
        || year(0, a) && (1..=12).contains(&b) && (1..=31).contains(&c) && window.size(1) <= 2 && window.size(2) <= 2
}
