//! Which encoding a file is in, as far as its bytes tell.
//!
//! Valid UTF-8 is UTF-8: no other text looks like it by chance. What is left is told by plausibility: pairs of bytes
//! that are common Chinese characters, or single bytes that give letters where letters belong.

use std::io::{BufRead, BufReader, Read, Result};

use encoding_rs::{BIG5, Encoding, GB18030, MACINTOSH, WINDOWS_1252};

use crate::read::TextEncoding;

/// How much of a file is looked through for lines that are not ASCII.
const MAX_READ: u64 = 256 << 20;
/// How much of such lines is enough.
const MAX_SAMPLE: usize = 1 << 20;
const MAX_LINE: u64 = 64 << 10;
/// A share of lines that are damaged in a file that is otherwise fine.
const MAX_DAMAGED: f64 = 0.1;

/// What the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// ASCII is UTF-8 too.
    Utf8,
    /// With its endianness, as `source.encoding` names it.
    Utf16(&'static str),
    /// A label for `source.encoding`.
    Label(&'static str),
    Unknown,
}

/// Looks through a file.
pub(super) fn guess(bytes: impl Read) -> Result<Guess> {
    Ok(match sample(bytes)? {
        Ok(lines) => of_lines(&lines),
        Err(utf_16) => utf_16,
    })
}

/// What a file is where it is not UTF-8, as far as that can be told.
pub(crate) fn beside_utf_8(bytes: impl Read) -> Result<Option<TextEncoding>> {
    let guess = match sample(bytes)? {
        Ok(lines) => {
            let others: Vec<Vec<u8>> = lines.into_iter().filter(|line| !is_utf_8(line)).collect();
            of_lines(&others)
        }
        Err(utf_16) => utf_16,
    };
    Ok(match guess {
        Guess::Label(label) | Guess::Utf16(label) => TextEncoding::named(label).ok(),
        Guess::Utf8 | Guess::Unknown => None,
    })
}

/// Lines that are not ASCII, or that it is UTF-16.
fn sample(bytes: impl Read) -> Result<std::result::Result<Vec<Vec<u8>>, Guess>> {
    let mut reader = BufReader::with_capacity(1 << 20, bytes);
    let head = reader.fill_buf()?;
    if let Some(name) = utf_16(&head[..head.len().min(4096)]) {
        return Ok(Err(Guess::Utf16(name)));
    }
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let (mut read, mut sampled) = (0, 0);
    while read < MAX_READ && sampled < MAX_SAMPLE {
        let mut line = Vec::new();
        let length = Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        read += length as u64;
        if !line.is_ascii() {
            sampled += line.len();
            lines.push(line);
        }
    }
    Ok(Ok(lines))
}

/// A line longer than the limit may end inside a character.
fn is_utf_8(line: &[u8]) -> bool {
    std::str::from_utf8(line).map_or_else(|e| e.error_len().is_none(), |_| true)
}

fn utf_16(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xfe, ..] => return Some("utf-16le"),
        [0xfe, 0xff, ..] => return Some("utf-16be"),
        _ => {}
    }
    // Without a mark: every other byte of Latin text is zero, and no other text has zeros.
    let zeros = |parity: usize| head.iter().skip(parity).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    if even + odd <= head.len() / 10 {
        return None;
    }
    Some(if odd > even { "utf-16le" } else { "utf-16be" })
}

/// `lines` are those that are not ASCII.
fn of_lines(lines: &[Vec<u8>]) -> Guess {
    let share = |good: &dyn Fn(&[u8]) -> bool| lines.iter().filter(|line| good(line)).count() as f64 / lines.len().max(1) as f64;
    if lines.is_empty() || share(&is_utf_8) >= 1.0 - MAX_DAMAGED {
        return Guess::Utf8;
    }
    let decodes = |encoding: &'static Encoding| {
        share(&|line: &[u8]| encoding.decode_without_bom_handling_and_without_replacement(line).is_some()) >= 1.0 - MAX_DAMAGED
    };
    let (simplified, traditional) = (chinese(lines), traditional(lines));
    if simplified > 0.7 && simplified > traditional && decodes(GB18030) {
        return Guess::Label("gb18030");
    }
    if traditional > 0.9 && decodes(BIG5) {
        return Guess::Label("big5");
    }
    // Latin text has few letters with accents; Cyrillic, Greek or Korean has hardly any without.
    let (high, plain) = lines
        .iter()
        .flatten()
        .fold((0u64, 0u64), |(high, plain), byte| (high + u64::from(!byte.is_ascii()), plain + u64::from(byte.is_ascii_alphabetic())));
    if high > plain {
        return Guess::Unknown;
    }
    let scores = [("windows-1252", WINDOWS_1252), ("mac-roman", MACINTOSH)].map(|(label, encoding)| (latin(lines, encoding), label));
    match scores.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
        // A coin would do as well below this.
        Some((score, label)) if score > -0.5 => Guess::Label(label),
        _ => Guess::Unknown,
    }
}

/// The share of pairs of high bytes that are characters of GB 2312's first level, sorted by sound and in daily use, or
/// its punctuation. Its second half is told apart: Korean has such pairs too, all from the first half.
fn chinese(lines: &[Vec<u8>]) -> f64 {
    let common = |lead, trail| matches!(lead, 0xa1..=0xa3 | 0xb0..=0xd7) && trail >= 0xa1;
    share_of_pairs(lines, common, |lead, _| (0xc9..=0xd7).contains(&lead), 0.1)
}

/// The share of pairs that are characters of Big5's first level, in daily use, or its punctuation. Low second bytes, of
/// which Chinese has many, tell it from other languages.
fn traditional(lines: &[Vec<u8>]) -> f64 {
    let common = |lead, trail| matches!(lead, 0xa1..=0xc6) && matches!(trail, 0x40..=0x7e | 0xa1..=0xfe);
    share_of_pairs(lines, common, |_, trail| trail < 0x80, 0.15)
}

/// The share of pairs of bytes, the first one high, that are `common`; 0 where fewer than `least` of all are common and `telling`.
fn share_of_pairs(lines: &[Vec<u8>], common: impl Fn(u8, u8) -> bool, telling: impl Fn(u8, u8) -> bool, least: f64) -> f64 {
    let (mut pairs, mut commons, mut tellings) = (0u64, 0u64, 0u64);
    for line in lines {
        let mut at = 0;
        while at + 1 < line.len() {
            let (lead, trail) = (line[at], line[at + 1]);
            if lead < 0x81 {
                at += 1;
                continue;
            }
            pairs += 1;
            if common(lead, trail) {
                commons += 1;
                tellings += u64::from(telling(lead, trail));
            }
            at += 2;
        }
    }
    if pairs == 0 || (tellings as f64) < least * pairs as f64 { 0.0 } else { commons as f64 / pairs as f64 }
}

/// How plausible the characters beyond ASCII are in their places, from -2 to 1 each on average.
fn latin(lines: &[Vec<u8>], encoding: &'static Encoding) -> f64 {
    let (mut score, mut count) = (0.0, 0u64);
    for line in lines {
        let (text, _) = encoding.decode_without_bom_handling(line);
        let chars: Vec<char> = text.chars().collect();
        for (at, &c) in chars.iter().enumerate().filter(|(_, c)| !c.is_ascii()) {
            let before = at.checked_sub(1).map_or(' ', |at| chars[at]);
            let after = chars.get(at + 1).copied().unwrap_or(' ');
            score += plausible(c, before, after);
            count += 1;
        }
    }
    score / count.max(1) as f64
}

fn plausible(c: char, before: char, after: char) -> f64 {
    let beside = |wanted: fn(char) -> bool| wanted(before) || wanted(after);
    match c {
        // Not assigned: no text has it.
        '\u{80}'..='\u{9f}' => -2.0,
        '’' | '‘' if beside(char::is_alphabetic) => 1.0,
        '¿' | '¡' if after.is_alphabetic() && !before.is_alphabetic() => 1.0,
        '“' | '”' | '‘' | '’' | '…' | '–' | '—' | '«' | '»' | '•' | '\u{a0}' => 0.5,
        '€' | '£' | '°' | '©' | '®' | '™' if !(before.is_alphabetic() && after.is_alphabetic()) => 0.3,
        c if c.is_lowercase() && beside(|c| c.is_ascii_lowercase()) => 1.0,
        c if c.is_uppercase() && before.is_lowercase() => -1.0,
        c if c.is_uppercase() && after.is_alphabetic() => 1.0,
        c if c.is_alphabetic() => 0.0,
        _ if before.is_alphabetic() && after.is_alphabetic() => -1.0,
        _ => -0.3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixture is the example data in small: Mac Roman, with rows that were encoded twice.
    #[test]
    fn the_sample_is_mac_roman() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tweets-sample.csv");
        assert_eq!(guess(std::fs::File::open(path).unwrap()).unwrap(), Guess::Label("mac-roman"));
    }

    fn of(text: &str, encoding: &'static Encoding) -> Guess {
        guess(&*encoding.encode(&format!("text,label\n{text}\n")).0).unwrap()
    }

    #[test]
    fn encodings_are_told_apart() {
        let french = "Le café est fermé, à côté du musée où l’élève a été reçu.\n“Très bien” – dit-il…\n";
        let german = "Schöne Grüße aus München, die Straße ist naß und kühl.\nÜber Ärger spricht man nicht.\n";
        let chinese = "这个产品非常好用,我很喜欢。\n送货太慢了,包装也坏了,不会再买。\n一般般吧,没有想象中的好。\n";
        for text in [french, german] {
            assert_eq!(of(text, encoding_rs::UTF_8), Guess::Utf8);
            assert_eq!(of(text, WINDOWS_1252), Guess::Label("windows-1252"));
            assert_eq!(of(text, MACINTOSH), Guess::Label("mac-roman"));
        }
        assert_eq!(of(chinese, encoding_rs::UTF_8), Guess::Utf8);
        assert_eq!(of(chinese, GB18030), Guess::Label("gb18030"));
        let traditional = "這個產品非常好用,我很喜歡。\n送貨太慢了,包裝也壞了。\n";
        assert_eq!(of(traditional, BIG5), Guess::Label("big5"));
        assert_eq!(of(traditional, encoding_rs::UTF_8), Guess::Utf8);
        assert_eq!(of("plain words", encoding_rs::UTF_8), Guess::Utf8);
        assert_eq!(of("¿Qué día es? ¡No sé! Mañana, señor.\n", WINDOWS_1252), Guess::Label("windows-1252"));
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        for (text, encoding) in [
            ("이 제품은 정말 좋아요. 배송도 빨라요.\n너무 비싸요.\n", encoding_rs::EUC_KR),
            ("Очень хороший товар, мне понравилось.\nДоставка была долгой.\n", encoding_rs::WINDOWS_1251),
            ("この商品はとても良いです。配送も早かった。\n高すぎる。\n", encoding_rs::SHIFT_JIS),
            ("この商品はとても良いです。配送も早かった。\n高すぎる。\n", encoding_rs::EUC_JP),
        ] {
            assert_eq!(of(text, encoding), Guess::Unknown, "{text}");
        }
    }

    #[test]
    fn utf_16_is_known_with_and_without_its_mark() {
        let units = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        for text in ["\u{feff}text,label\na,b\n", "text,label\na,b\n"] {
            assert_eq!(guess(&*units(text)).unwrap(), Guess::Utf16("utf-16le"));
        }
    }
}
