//! Names of people in Latin script: behind a title, a label or `my name is`; and accounts of WeChat behind their word.

use std::sync::LazyLock;

use super::super::{Entity, Verdict};
use super::scan::{Found, Scan};
use super::sets::{Lower, WordSet};
use super::words::{ENGLISH_GIVEN, NOT_ENGLISH_NAMES, TITLES};

/// Words that stand before a surname's capital.
const PARTICLES: &[&str] =
    &["van", "der", "den", "de", "von", "la", "le", "di", "da", "dos", "das", "del", "ter", "ten", "bin", "al", "el", "af", "av", "zu"];

/// What a label says that a name follows.
static NAME_LABELS: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "name|fullname|firstname|lastname|surname|givenname|patient|customer|client|applicant|employee|contact|contactperson|\
         attn|attention|recipient|sender|cardholder|accountholder|holder|policyholder|insured|tenant|landlord|buyer|seller|owner|\
         driver|passenger|guest|student|teacher|manager|doctor|physician|gp|wife|husband|spouse|father|mother|beneficiary|\
         guardian|author|signed|coapplicant|versicherungsnehmer|nom|nombre|applicantname|patientname|customername|username|\
         nextofkin|emergencycontact|from",
    )
});
/// What before `name` makes it the name of a thing.
const THINGS: &[&str] = &[
    "file", "user", "host", "domain", "class", "product", "brand", "company", "path", "table", "column", "event", "project", "bank", "store", "item",
    "model", "package", "function", "variable",
];

/// A word of a name that begins at `at`: a capital, then letters, apostrophes and dashes. Its end.
fn capital_word(scan: &Scan<'_>, at: usize) -> Option<usize> {
    // In ASCII without an apostrophe, as most are.
    if scan.byte(at).is_ascii_uppercase() {
        let length = scan.run_of(|block| block.alpha | block.dash, at, 24);
        match scan.byte(at + length) {
            b'\'' | 0x80.. => {}
            b'.' if length == 1 => return Some(at + 2),
            _ => return Some(at + length - scan.run_before(|block| block.dash, at + length, at)),
        }
    }
    let mut characters = scan.text[at..].char_indices().take(24);
    let (_, first) = characters.next()?;
    if !first.is_uppercase() || first >= '\u{2e80}' {
        return None;
    }
    let mut end = at + first.len_utf8();
    let mut initial = true;
    for (offset, c) in characters {
        if c == '.' && initial {
            return Some(at + offset + 1);
        }
        if !(c.is_alphabetic() && c < '\u{2e80}' || matches!(c, '\'' | '’' | '-')) {
            break;
        }
        initial = false;
        end = at + offset + c.len_utf8();
    }
    while matches!(scan.bytes[end - 1], b'\'' | b'-') {
        end -= 1;
    }
    // `Smith's`: the name ends before the genitive.
    for genitive in ["'s", "’s"] {
        if scan.text[at..end].ends_with(genitive) {
            end -= genitive.len();
        }
    }
    Some(end)
}

/// One to `most` words of a name. `any_case`: words in lower case too.
fn words(scan: &Scan<'_>, start: usize, most: usize, any_case: bool) -> Option<(usize, usize)> {
    let (mut at, mut end, mut count) = (start, start, 0);
    while count < most {
        let word_end = match capital_word(scan, at) {
            Some(word) => word,
            None => {
                let letters = scan.text[at..]
                    .char_indices()
                    .take(24)
                    .find(|(_, c)| !(c.is_alphabetic() && *c < '\u{2e80}' || *c == '\''))
                    .map_or(scan.text.len().min(at + 24), |(offset, _)| at + offset);
                let Some(word) = scan.text.get(at..letters).filter(|word| !word.is_empty()) else { break };
                let particle = count > 0 && PARTICLES.contains(&word) && scan.byte(letters) == b' ';
                if particle {
                    at = letters + 1;
                    continue;
                }
                if !any_case {
                    break;
                }
                letters
            }
        };
        if NOT_ENGLISH_NAMES.has_lower(&scan.text[at..word_end]) {
            break;
        }
        count += 1;
        end = word_end;
        if scan.byte(end) != b' ' {
            break;
        }
        at = end + 1;
    }
    (count > 0 && !scan.byte(end).is_ascii_alphanumeric()).then_some((end, count))
}

/// A capital letter that begins a word: is a title or `name is` before it?
pub(super) fn capital(scan: &mut Scan<'_>, at: usize) -> usize {
    if at > 0 && !matches!(scan.bytes[at - 1], b' ' | b'"' | b'>' | b'(' | b'\n' | b'\t') {
        return at + 1;
    }
    if at >= 3 && scan.bytes[at - 1] == b' ' && introduced(scan, at) {
        return match words(scan, at, 4, false) {
            Some((end, _)) => scan.push(Found::new(Entity::Person, at, end, 0.7, Verdict::Context)),
            None => at + 1,
        };
    }
    if !scan.strict {
        return at + 1;
    }
    let word_end = at + scan.bytes[at..].iter().take(32).take_while(|b| b.is_ascii_alphabetic()).count();
    if scan.byte(word_end) == b' '
        && scan.byte(word_end + 1).is_ascii_uppercase()
        && ENGLISH_GIVEN.has_lower(&scan.text[at..word_end])
        && let Some((end, 2..)) = words(scan, at, 3, false)
    {
        return scan.push(Found::new(Entity::Person, at, end, 0.5, Verdict::Listed));
    }
    word_end
}

/// `Mr. |`, `Miss |`, `name is |`, `I am |`, `called |`.
fn introduced(scan: &Scan<'_>, at: usize) -> bool {
    let least = scan.floor.max(at.saturating_sub(24)).min(at - 1);
    let head = &scan.bytes[least..at - 1];
    // The last letter of every such word: most capitals stop here.
    let Some(last) = head.last() else { return false };
    let stop = *last == b'.';
    if !stop && !matches!(last, b'r' | b'R' | b's' | b'S' | b'f' | b'm' | b'M' | b'x' | b'u' | b'e' | b't' | b'n' | b'l' | b'v' | b'd' | b'a') {
        return false;
    }
    let head = if stop { &head[..head.len() - 1] } else { head };
    let letters = scan.letters_before(least + head.len(), least);
    if letters == 0 || letters > 12 {
        return false;
    }
    let capital = head[head.len() - letters].is_ascii_uppercase();
    let phrase = matches!((letters, head[head.len() - letters]), (2, b'i') | (4 | 5, b'n') | (6, b'c'));
    if !(capital || phrase || stop && letters <= 4) {
        return false;
    }
    let word = Lower::of_ascii(&head[head.len() - letters..]);
    let before = &head[..head.len() - letters];
    let after = |phrase: &[u8]| before.len() >= phrase.len() && before[before.len() - phrase.len()..].eq_ignore_ascii_case(phrase);
    match word.as_bytes() {
        b"is" => !stop && (after(b"name ") || after(b"this ") && (after(b"hello, this ") || after(b"hi, this ") || after(b"hi this "))),
        b"m" | b"am" => false,
        b"named" | b"called" => {
            !stop && (after(b"he was ") || after(b"i was ") || after(b"was ") || after(b"man ") || after(b"woman ") || after(b"am "))
        }
        b"name" => !stop && after(b"maiden "),
        _ => {
            // In the middle of a word's capitals (`MR`) as well; `dear` and its like need their capital.
            (capital || stop && letters <= 4) && TITLES.has(&word)
        }
    }
}

/// `Name: Jane Doe`, `"name": "Jane Doe"`, and `WeChat: jane_doe`. Where the pass goes on.
pub(super) fn labelled(scan: &mut Scan<'_>, label: &[u8], at: usize, behind: usize) -> usize {
    let wants = (scan.wants(Entity::Person), scan.wants(Entity::SocialAccount), scan.wants(Entity::UserHandle));
    if wants == (false, false, false) {
        return behind;
    }
    let mut start = behind;
    while start - behind < 10 && matches!(scan.byte(start), b' ' | b'\t' | b'"' | b'\'' | b'*') {
        start += 1;
    }
    if wants.1 && [b"wechat".as_slice(), b"weixin", b"wx", b"vx", b"wechatid"].iter().any(|known| label.ends_with(known)) {
        return wechat(scan, start).map_or(behind, |found| scan.push(found));
    }
    if wants.2 && matches!(label, b"username" | b"userid" | b"login" | b"handle" | b"skype" | b"telegram" | b"twitter" | b"instagram") {
        let length = scan.bytes[start..].iter().take(33).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')).count();
        let tagged = scan.bytes[start..start + length].iter().any(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.'));
        if (3..=32).contains(&length) && tagged && scan.byte(start + length) != b'@' {
            return scan.push(Found::new(Entity::UserHandle, start, start + length, 0.6, Verdict::Context));
        }
    }
    let thing = label.ends_with(b"name") && named_thing(scan, label, at);
    let named = label.ends_with(b"name") || NAME_LABELS.has_exactly(label);
    if !wants.0 || thing || !named || at < scan.floor {
        return behind;
    }
    let any_case = label.ends_with(b"name");
    if let Some((end, count)) = words(scan, start, 4, any_case)
        && (count >= 2
            || scan.bytes.get(end).is_none_or(|b| matches!(b, b'\n' | b',' | b';' | b'"' | b'\'' | b'.' | b'|' | b'(' | b'\t') || *b >= 0x80))
    {
        return scan.push(Found::new(Entity::Person, start, end, 0.7, Verdict::Context));
    }
    behind
}

/// Whether the word before `name` says that a thing has it: `filename`, `File name`.
fn named_thing(scan: &Scan<'_>, label: &[u8], at: usize) -> bool {
    let stem = &label[..label.len() - b"name".len()];
    if !stem.is_empty() {
        return THINGS.iter().any(|thing| stem.ends_with(thing.as_bytes()));
    }
    let head = &scan.bytes[scan.floor.min(at)..at];
    let Some(name) = head.iter().rposition(|b| matches!(b, b'n' | b'N')) else { return false };
    let Some(head) = head[..name].strip_suffix(b" ") else { return false };
    let letters = head.iter().rev().take(12).take_while(|b| b.is_ascii_alphabetic()).count();
    THINGS.iter().any(|thing| thing.as_bytes().eq_ignore_ascii_case(&head[head.len() - letters..]))
}

/// A WeChat account (six to twenty characters, a letter first) at `start`.
fn wechat(scan: &Scan<'_>, start: usize) -> Option<Found> {
    let length = scan.bytes[start..].iter().take(32).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
    let fits = scan.byte(start).is_ascii_alphabetic() && (6..=20).contains(&length) && !matches!(scan.byte(start + length), b'@');
    fits.then_some(Found::new(Entity::SocialAccount, start, start + length, 0.8, Verdict::Context))
}

/// `微信号wxid_abc123`, `微信：zhangsan_2024`, at the 微.
pub(super) fn chinese_account(scan: &mut Scan<'_>, at: usize) {
    let rest = &scan.text[at..];
    if !rest.starts_with("微信") {
        return;
    }
    let mut start = at + "微信".len();
    for _ in 0..3 {
        for filler in ["账号", "帐号", "号码", "号", "是", "为", "：", ":", " ", "ID", "id", "（", "("] {
            if scan.text[start..].starts_with(filler) {
                start += filler.len();
            }
        }
    }
    if let Some(found) = wechat(scan, start) {
        scan.push(found);
    }
}
