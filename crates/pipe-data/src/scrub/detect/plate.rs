//! Chinese licence plates (GA 36-2018): the province, a letter, then five characters, six for new-energy cars.

use super::super::{Entity, Verdict};
use super::scan::{Found, Scan};

const PROVINCES: &str = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼";
/// What may end a plate instead of its last character.
const ENDINGS: &str = "警学挂领港澳试超使";

/// A plate around a digit run: back over letters and a separator to the province.
pub(super) fn around(scan: &Scan<'_>, at: usize) -> Option<Found> {
    // The province stands right before the letters, of which there are few.
    if scan.bits.before(|block| block.high, at) >> (u64::BITS - 8) == 0 || !scan.wants(Entity::LicensePlate) {
        return None;
    }
    let least = scan.floor.max(at.saturating_sub(20));
    let mut start = at;
    // Letters of the number and of the authority, with a dot, dash or blank between them.
    let mut letters = 0;
    while start > least && letters < 6 {
        let before = scan.bytes[start - 1];
        if before.is_ascii_alphanumeric() {
            letters += 1;
            start -= 1;
        } else if matches!(before, b' ' | b'-' | b'.') && start > least + 1 && scan.bytes[start - 2].is_ascii_alphabetic() && start > at - 6.min(at) {
            start -= 1;
        } else if scan.text[..start].ends_with(['·', '•', '‧', '・']) {
            start -= scan.char_before(start).map_or(1, char::len_utf8);
        } else {
            break;
        }
    }
    if start < scan.floor {
        return None;
    }
    let han = scan.char_before(start)?;
    if han < '\u{4e00}' {
        return None;
    }
    let begin = start - han.len_utf8();
    if begin < scan.floor {
        return None;
    }
    let armed = matches!(han, '军' | '空' | '海') && scan.byte(start).is_ascii_uppercase();
    let police = PROVINCES.contains(han) && scan.text[scan.floor..begin].ends_with("WJ");
    let mission = han == '使' || han == '领';
    if !(armed || police || mission || PROVINCES.contains(han)) {
        return None;
    }
    let mut end = start;
    let authority = scan.byte(end).is_ascii_alphabetic();
    if !authority && !police && !mission {
        return None;
    }
    if authority && !police && !mission {
        end += 1;
        if let Some(c @ ('·' | '•' | '‧' | '・' | ' ' | '-' | '.')) = scan.char_at(end) {
            end += c.len_utf8();
        }
    }
    let body = end;
    while end - body < 7 && scan.byte(end).is_ascii_alphanumeric() {
        end += 1;
    }
    let value = &scan.bytes[body..end];
    let plain =
        |value: &[u8]| value.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase() && !matches!(b, b'I' | b'O') || b.is_ascii_lowercase());
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let ending = scan.char_at(end).filter(|c| ENDINGS.contains(*c) && value.len() <= 5);
    let fits = match (value.len(), ending) {
        _ if mission => value.len() == 6 && digits == 6,
        (4, Some(c)) => {
            end += c.len_utf8();
            digits >= 3
        }
        (5, _) => digits >= 2,
        // New energy: D, F and their like in the first or the last place.
        (6, _) => digits >= 4 && (value[0].is_ascii_alphabetic() && value[2..].iter().all(u8::is_ascii_digit) || value[5].is_ascii_alphabetic()),
        _ => false,
    };
    let begin = if police { begin - 2 } else { begin };
    (fits && plain(value) && !scan.byte(end).is_ascii_alphanumeric()).then_some(Found::new(Entity::LicensePlate, begin, end, 0.95, Verdict::Format))
}
