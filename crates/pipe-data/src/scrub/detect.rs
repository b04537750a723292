//! One pass of one automaton over texts that pass a cheap gate.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input, PatternID};

use super::fold::Folded;
use super::patterns::{PATTERNS, Pattern};
use super::validate::Candidate;
use super::{Entity, Hit, Verdict};

/// How far another pattern is tried from where a candidate began. An address has at most 254 characters (RFC 5321);
/// without a bound, a long line of refused candidates would be read to its end for each of them.
const RETRY_REACH: usize = 320;

pub(super) struct Detector {
    patterns: Vec<&'static Pattern>,
    regex: Option<Regex>,
}

impl Detector {
    pub(super) fn new(entities: Vec<Entity>) -> Detector {
        let patterns: Vec<&Pattern> = PATTERNS.iter().filter(|pattern| entities.contains(&pattern.entity)).collect();
        let sources: Vec<&str> = patterns.iter().map(|pattern| pattern.regex).collect();
        let regex = (!sources.is_empty()).then(|| Regex::new_many(&sources).expect("the patterns are part of the program and tested"));
        Detector { patterns, regex }
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let Some(regex) = &self.regex else { return Vec::new() };
        if !may_hold_values(text) {
            return Vec::new();
        }
        let folded = Folded::new(text);
        let text: &str = &folded.text;
        let mut hits = Vec::new();
        let mut at = 0;
        while at <= text.len()
            && let Some(found) = regex.search(&Input::new(text).range(at..))
        {
            match self.best_at(regex, text, found.start(), found.end(), found.pattern()) {
                Some((entity, end, score)) => {
                    hits.push(Hit { entity, start: folded.original(found.start()), end: folded.original(end), score, verdict: Verdict::Format });
                    at = end;
                }
                None => at = next_start(text, found.start()),
            }
        }
        hits
    }

    /// The best accepted candidate that starts where the automaton found one: by score, then by length. The automaton
    /// tells only one pattern, whose validator may refuse what another would take.
    fn best_at(&self, regex: &Regex, text: &str, start: usize, end: usize, first: PatternID) -> Option<(Entity, usize, f32)> {
        let mut best: Option<(Entity, usize, f32)> = None;
        let mut reach = (start + RETRY_REACH).min(text.len()).max(end);
        while !text.is_char_boundary(reach) {
            reach += 1;
        }
        for (at, pattern) in self.patterns.iter().enumerate() {
            let id = PatternID::must(at);
            let end = if id == first {
                end
            } else {
                match regex.search(&Input::new(text).range(start..reach).anchored(Anchored::Pattern(id))) {
                    Some(found) => found.end(),
                    None => continue,
                }
            };
            let Some((length, score)) = (pattern.accept)(&Candidate { text, start, end }) else { continue };
            let end = start + length;
            if best.is_none_or(|(_, best_end, best_score)| (score, end) > (best_score, best_end)) {
                best = Some((pattern.entity, end, score));
            }
        }
        best
    }
}

/// Where to look on after a refused candidate. No value begins inside a run of digits or of letters and digits that a
/// refused one began, but for a number behind letters.
fn next_start(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let run = |same: fn(&u8) -> bool| bytes[start..].iter().take_while(|b| same(b)).count();
    let skipped = match bytes[start] {
        b if b.is_ascii_digit() => run(u8::is_ascii_digit),
        b if b.is_ascii_alphabetic() => run(u8::is_ascii_alphabetic),
        _ => text[start..].chars().next().map_or(1, char::len_utf8),
    };
    start + skipped
}

/// False for most texts: a value has an `@`, a dot or colons inside a word, or several digits.
fn may_hold_values(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut digits, mut colons) = (0, 0);
    for (at, &b) in bytes.iter().enumerate() {
        match b {
            b'0'..=b'9' => {
                digits += 1;
                if digits >= 7 {
                    return true;
                }
            }
            b'@' => return true,
            b'.' if at > 0 && bytes[at - 1].is_ascii_alphanumeric() && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) => return true,
            b':' => {
                colons += 1;
                if colons >= 2 || bytes[at..].starts_with(b"://") {
                    return true;
                }
            }
            // The first byte of every full-width form (U+FF00…): 0xEF 0xBC / 0xBD.
            0xef if matches!(bytes.get(at + 1), Some(0xbc | 0xbd)) && is_folded_form(&bytes[at..]) => return true,
            _ => {}
        }
    }
    false
}

/// A full-width digit, `＠` or `．`, not the full-width comma of every Chinese sentence.
fn is_folded_form(bytes: &[u8]) -> bool {
    matches!(bytes, [0xef, 0xbc, 0x90..=0x99 | 0xa0 | 0x8e, ..])
}
