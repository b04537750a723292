//! Addresses in Latin script, from a house number, a flat or a post code outwards.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::super::{Entity, Verdict};
use super::context::kind;
use super::number::Window;
use super::scan::{Found, Scan};
use super::sets::Lower;
use super::words::{CERTAIN_STREETS, STREET_BEGINNINGS, STREET_ENDINGS, STREETS};

/// Words of a part of a building before its number.
pub(super) const UNITS: &[&str] = &["apt", "apartment", "suite", "ste", "unit", "flat", "floor", "room", "rm", "box", "bldg", "building"];

/// The last two bytes of each of [`STREET_ENDINGS`]: few words end so.
static LAST_TWO: LazyLock<BTreeSet<[u8; 2]>> =
    LazyLock::new(|| STREET_ENDINGS.iter().filter_map(|ending| ending.as_bytes().last_chunk().copied()).collect());

/// States of the USA and their territories, and military posts.
const STATES: &str = " AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY DC PR GU VI AS MP AA AE AP ";

fn is_state(word: &str) -> bool {
    word.len() == 2 && word.bytes().all(|b| b.is_ascii_uppercase()) && STATES.as_bytes().chunks_exact(3).any(|state| state[1..] == *word.as_bytes())
}

/// Words that a street's number does not stand before.
const COUNTED: &[&str] = &[
    "on", "in", "at", "and", "cars", "feb", "jan", "mar", "apr", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "people", "years", "percent",
    "million", "billion", "days", "hours", "minutes",
];

/// The address that the digits at the window's start belong to.
pub(super) fn around(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    let (start, end, size) = (window.start(), window.end(1), window.size(0));
    let before = scan.before(start);
    if matches!(before, b'$' | b'.' | b'%' | b'@') || before == b',' && scan.byte(start.wrapping_sub(2)).is_ascii_digit() {
        return None;
    }
    let after = scan.byte(end);
    let hit = |start: usize, end: usize, score: f32, verdict: Verdict| Some(Found::new(Entity::Address, start, end, score, verdict));
    if let Some((begin, end)) = uk_postcode(scan, start) {
        return hit(begin, end, 0.8, Verdict::Format);
    }
    let alone = !before.is_ascii_alphanumeric();
    if !alone || matches!(after, b'%' | b':') {
        return None;
    }
    if before == b' ' {
        if let Some(begin) = unit_before(scan, start) {
            return hit(begin, rest(scan, end), 0.75, Verdict::Format);
        }
        if size == 5
            && let Some(begin) = state_before(scan, start)
        {
            let end = if after == b'-' && window.len > 1 && window.size(1) == 4 { window.end(2) } else { end };
            return hit(begin, end, 0.75, Verdict::Format);
        }
        if size <= 4
            && let Some(begin) = street_before(scan, start)
        {
            return hit(begin, rest(scan, lettered(scan, end)), 0.75, Verdict::Format);
        }
    }
    if size <= 6
        && let Some(end) = street_behind(scan, lettered(scan, end))
    {
        return hit(start, rest(scan, end), 0.8, Verdict::Format);
    }
    if (3..=6).contains(&size) {
        let context = scan.context(start);
        if context.nearest & kind::POSTCODE != 0 && context.gap <= 10 {
            let end = if after == b'-' && window.len > 1 && window.size(1) <= 4 { window.end(2) } else { end };
            return hit(start, end, 0.8, Verdict::Context);
        }
    }
    None
}

/// Behind a house number's letter: `12B`, `12-14`.
fn lettered(scan: &Scan<'_>, end: usize) -> usize {
    let mut end = end;
    if scan.byte(end) == b'-' && scan.byte(end + 1).is_ascii_digit() {
        end += 1 + scan.digits(end + 1, 5);
    }
    if scan.byte(end).is_ascii_alphabetic() && !scan.byte(end + 1).is_ascii_alphanumeric() { end + 1 } else { end }
}

/// The longest word that is looked at, in characters.
const LONGEST_WORD: usize = 28;

/// The word that begins at `at`: letters of any script but Han, with apostrophes and dashes inside.
fn word<'t>(scan: &Scan<'t>, at: usize) -> &'t str {
    let length = scan.run_of(|block| block.alpha | block.dash, at, LONGEST_WORD);
    let behind = scan.byte(at + length);
    if length == LONGEST_WORD || behind != b'\'' && behind < 0x80 {
        return scan.text.get(at..at + length).unwrap_or("");
    }
    let rest = &scan.text[at..];
    let part = |c: char| c.is_alphabetic() && c < '\u{2e80}' || matches!(c, '\'' | '’' | '-');
    let length: usize = rest.chars().take(LONGEST_WORD).take_while(|c| part(*c)).map(char::len_utf8).sum();
    &rest[..length]
}

/// `12| Oak Valley Drive`, `12| Rue de la Paix`: where the street ends.
fn street_behind(scan: &Scan<'_>, number_end: usize) -> Option<usize> {
    if scan.byte(number_end) != b' ' && !(scan.byte(number_end) == b',' && scan.byte(number_end + 1) == b' ') {
        return None;
    }
    let mut at = number_end + 1 + usize::from(scan.byte(number_end) == b',');
    let first = word(scan, at);
    let (mut capitals, mut words) = (0, 0);
    let digit = scan.byte(at).is_ascii_digit();
    let beginning = !digit && first.len() <= 12 && STREET_BEGINNINGS.has_lower(first);
    if !digit && !beginning && !first.starts_with(char::is_uppercase) {
        return None;
    }
    if beginning {
        return foreign_street(scan, at + first.len());
    }
    let mut best = None;
    while words < 6 {
        // Numbered streets: `5th Avenue`, `40th Street`; a second number, as some write a flat before the house.
        let digits = scan.digits(at, 6);
        let ordinal = digits > 0 && matches!(scan.bytes.get(at + digits..at + digits + 2), Some(b"st" | b"nd" | b"rd" | b"th"));
        if ordinal || digits > 0 && words == 0 {
            at += digits + if ordinal { 2 } else { 0 };
            capitals += 1;
            words += 1;
            if scan.byte(at) != b' ' {
                break;
            }
            at += 1;
            continue;
        }
        let found = word(scan, at);
        if found.is_empty() || found.len() > 24 {
            break;
        }
        let capital = found.starts_with(char::is_uppercase);
        if !capital && words == 0 {
            break;
        }
        let lowered = Lower::of(found);
        let lower = lowered.as_bytes();
        if COUNTED.iter().any(|word| word.as_bytes() == lower) {
            break;
        }
        let mut end = at + found.len();
        let stop = scan.byte(end) == b'.';
        if words > 0 && capitals > 0 && STREETS.has(&lowered) && (capital || CERTAIN_STREETS.has(&lowered)) {
            let certain = CERTAIN_STREETS.has(&lowered);
            let told = || {
                scan.context(number_end).says(kind::ADDRESS)
                    || scan.bytes[end..].starts_with(b", ")
                    || scan.bytes[end..].starts_with(b" Apt")
                    || scan.bytes[end..].starts_with(b" Suite")
                    || scan.byte(end) == b'\n'
            };
            if certain || capitals >= 1 && capital && told() {
                best = Some(end + usize::from(stop && lower.len() <= 4));
            }
            if certain && !scan.text[end..].starts_with(" Street") {
                break;
            }
        }
        if !capital && !matches!(lower, b"of" | b"the" | b"de" | b"la" | b"del" | b"von" | b"van") {
            break;
        }
        capitals += usize::from(capital);
        words += 1;
        if stop {
            end += 1;
        }
        if scan.byte(end) != b' ' {
            break;
        }
        at = end + 1;
    }
    best
}

/// The rest of `Rue de la Paix`, `Via Carlo Cattaneo 130`: capital words and particles, and a number.
fn foreign_street(scan: &Scan<'_>, from: usize) -> Option<usize> {
    let mut end = from + usize::from(scan.byte(from) == b'.');
    let mut capitals = 0;
    for _ in 0..6 {
        if scan.byte(end) != b' ' {
            break;
        }
        let found = word(scan, end + 1);
        let capital = found.starts_with(char::is_uppercase);
        if found.is_empty()
            || !capital
                && !matches!(found, "de" | "la" | "le" | "du" | "des" | "da" | "do" | "das" | "dos" | "di" | "della" | "del" | "les" | "aux" | "of")
        {
            break;
        }
        capitals += usize::from(capital);
        end += 1 + found.len();
    }
    if scan.byte(end) == b' ' || scan.bytes[end.min(scan.bytes.len())..].starts_with(b", ") {
        let number = end + scan.bytes[end..].iter().take(2).take_while(|b| matches!(b, b' ' | b',')).count();
        let digits = scan.digits(number, 5);
        if (1..=4).contains(&digits) {
            end = number + digits;
        }
    }
    (capitals > 0).then_some(end)
}

/// `Apt. |604`, `P.O. Box |101`, `Suite |12`: where it begins.
fn unit_before(scan: &Scan<'_>, start: usize) -> Option<usize> {
    let least = scan.floor.max(start.saturating_sub(20)).min(start - 1);
    let head = &scan.bytes[least..start - 1];
    let head = head.strip_suffix(b".").unwrap_or(head);
    let head_end = least + head.len();
    let letters = scan.letters_before(head_end, least);
    let begin = head_end - letters;
    if !(2..=9).contains(&letters) || !matches!(scan.bytes[begin] | 0x20, b'a' | b'b' | b'f' | b'r' | b's' | b'u') {
        return None;
    }
    let unit = Lower::letters(&scan.bytes[begin..begin + letters]);
    let unit = unit.as_bytes();
    if !UNITS.iter().any(|known| known.as_bytes() == unit) {
        return None;
    }
    let capital = scan.byte(begin).is_ascii_uppercase();
    if unit == b"box" {
        for office in ["P.O. ", "PO ", "P. O. ", "Post Office ", "P.O ", "p.o. ", "po "] {
            if scan.text[scan.floor..begin].ends_with(office) {
                return Some(begin - office.len());
            }
        }
        return capital.then_some(begin);
    }
    // In running text `unit 3` or `floor 2` may be anything; a capital or a comma before says that it is an address.
    let certain = matches!(unit, b"apt" | b"apartment" | b"suite" | b"ste" | b"flat");
    (certain || capital && matches!(scan.before(begin), b' ' | b'\n') && unit == b"unit" || scan.text[scan.floor..begin].ends_with(", "))
        .then_some(begin)
}

/// `IL |62704`, `Austin, TX |78704`: where the state, or its city, begins.
fn state_before(scan: &Scan<'_>, start: usize) -> Option<usize> {
    if start < scan.floor + 3 {
        return None;
    }
    let state = scan.text.get(start - 3..start)?;
    let known = state.ends_with(' ') && !scan.before(start - 3).is_ascii_alphanumeric() && is_state(&state[..2]);
    known.then_some(start - 3)
}

/// `Hauptstraße |7`, `Via Carlo Cattaneo |130`, `ul. Lubartowska |42`: where the street begins.
fn street_before(scan: &Scan<'_>, start: usize) -> Option<usize> {
    // A street's name has a capital; most words before a number have none.
    let least = scan.floor.max(start.saturating_sub(41));
    let letters = scan.run_before(|block| block.alpha | block.high | block.dash, start - 1, least);
    let first = scan.byte(start - 1 - letters);
    if letters == 0 && scan.before(start - 1) != b'.' || first.is_ascii_lowercase() && !matches!(&scan.bytes[start - 1 - letters..start - 1], b"ul") {
        return None;
    }
    let mut least = scan.floor.max(start.saturating_sub(64)).min(start);
    while !scan.text.is_char_boundary(least) {
        least += 1;
    }
    let head = scan.text.get(least..start - 1)?;
    let last = head.rsplit(|c: char| !(c.is_alphabetic() || matches!(c, '-' | '.' | '\''))).next()?;
    let stem = last.trim_end_matches('.');
    if stem.len() < 5 && !STREET_BEGINNINGS.has_lower(stem) && !stem.starts_with(char::is_uppercase) {
        return None;
    }
    let lowered = Lower::of(stem);
    let lower = lowered.as_bytes();
    let ending = || {
        lower.last_chunk().is_some_and(|last| LAST_TWO.contains(last))
            && STREET_ENDINGS.iter().any(|ending| lower.ends_with(ending.as_bytes()) && lower.len() > ending.len() + 2)
    };
    if stem.starts_with(char::is_uppercase) && ending() && !STREETS.has(&lowered) {
        return Some(house_before(scan, least + head.len() - last.len()));
    }
    // Back over capital words and particles to one that begins a street.
    let mut at = head.len();
    for _ in 0..5 {
        let rest = head[..at].trim_end_matches(' ');
        let word = rest.rsplit([' ', '\n', ',', '>', '(', ':']).next()?;
        if word.is_empty() {
            return None;
        }
        let begin = rest.len() - word.len();
        if STREET_BEGINNINGS.has_lower(word.trim_end_matches('.')) && begin + word.len() < head.len() {
            return Some(house_before(scan, least + begin));
        }
        let part = word.starts_with(char::is_uppercase)
            || matches!(word, "de" | "la" | "le" | "du" | "des" | "da" | "do" | "das" | "dos" | "di" | "della" | "del" | "les");
        if !part {
            return None;
        }
        at = begin;
    }
    None
}

/// With a number right before the street: `54 ul. Lubartowska 42`.
fn house_before(scan: &Scan<'_>, begin: usize) -> usize {
    let head = &scan.bytes[scan.floor.min(begin)..begin];
    let digits = head.strip_suffix(b" ").map_or(0, |head| head.iter().rev().take(5).take_while(|b| b.is_ascii_digit()).count());
    let number = begin - 1.min(begin) - digits;
    if (1..=4).contains(&digits) && !scan.before(number).is_ascii_alphanumeric() { number } else { begin }
}

/// Parts behind a street or a flat: `, Apt 4B`, `, Springfield, IL 62704`, `, 10117 Berlin`.
fn rest(scan: &Scan<'_>, from: usize) -> usize {
    let mut end = from;
    for _ in 0..4 {
        let mut at = end;
        while at - end < 3 && matches!(scan.byte(at), b',' | b' ' | b'\n' | b'.') {
            at += 1;
        }
        if at == end {
            break;
        }
        match part(scan, at, scan.bytes[end..at].contains(&b',')) {
            Some(next) => end = next,
            None => break,
        }
    }
    end
}

/// One such part at `at`.
fn part(scan: &Scan<'_>, at: usize, comma: bool) -> Option<usize> {
    let found = word(scan, at);
    if UNITS.iter().any(|unit| unit.eq_ignore_ascii_case(found)) || scan.byte(at) == b'#' {
        let mut end = if scan.byte(at) == b'#' { at + 1 } else { at + found.len() };
        while matches!(scan.byte(end), b'.' | b' ') && end < at + found.len() + 2 {
            end += 1;
        }
        let number = scan.bytes[end.min(scan.bytes.len())..].iter().take(8).take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
        return (number > 0 && scan.bytes[end..end + number].iter().any(|b| b.is_ascii_digit())).then_some(end + number);
    }
    // `IL 62704`, also behind its city: `Springfield, IL 62704`.
    let zip = |from: usize| {
        let digits = scan.digits(from, 6);
        (digits == 5).then_some(from + 5)
    };
    if found.len() == 2 && is_state(found) {
        return zip(at + 3);
    }
    if let Some(end) = zip(at)
        && comma
        && scan.byte(end) == b' '
        && word(scan, end + 1).starts_with(char::is_uppercase)
    {
        return Some(end + 1 + word(scan, end + 1).len());
    }
    if comma && found.starts_with(char::is_uppercase) {
        // A city is one only with what follows it.
        let mut end = at + found.len();
        for _ in 0..3 {
            let mut next = end;
            while next - end < 2 && matches!(scan.byte(next), b',' | b' ') {
                next += 1;
            }
            let second = word(scan, next);
            if second.len() == 2 && is_state(second) {
                return Some(zip(next + 3).unwrap_or(next + 2));
            }
            if let Some((_, end)) = (next < scan.bytes.len()).then(|| postcode_at(scan, next)).flatten() {
                return Some(end);
            }
            if !second.starts_with(char::is_uppercase) {
                return None;
            }
            end = next + second.len();
        }
    }
    None
}

/// Around the first digit of `SW1A 1AA`: capital letters, digits, a blank, a digit and two letters.
fn uk_postcode(scan: &Scan<'_>, at: usize) -> Option<(usize, usize)> {
    let letters = scan.run_before(|block| block.upper, at, scan.floor.max(at.saturating_sub(3)));
    if !(1..=2).contains(&letters) {
        return None;
    }
    postcode_at(scan, at - letters)
}

fn postcode_at(scan: &Scan<'_>, start: usize) -> Option<(usize, usize)> {
    let letters = scan.run_of(|block| block.upper, start, 3);
    let digits = start + letters;
    if !(1..=2).contains(&letters) || !scan.byte(digits).is_ascii_digit() || scan.before(start).is_ascii_alphanumeric() {
        return None;
    }
    let second = usize::from(scan.byte(digits + 1).is_ascii_digit() || scan.byte(digits + 1).is_ascii_uppercase());
    let blank = digits + 1 + second;
    let inward = scan.bytes.get(blank + 1..blank + 4)?;
    let fits = scan.byte(blank) == b' ' && inward[0].is_ascii_digit() && inward[1..].iter().all(u8::is_ascii_uppercase);
    (fits && !scan.byte(blank + 4).is_ascii_alphanumeric()).then_some((start, blank + 4))
}
