//! The pass: from anchor to anchor, and what was found on the way.

use std::cell::Cell;
use std::num::NonZeroU64;

use super::super::{Entity, Hit, Verdict};
use super::anchors::{Anchors, Class};
use super::bits::{BLOCK, Bits, Block};
use super::context::{self, Context};
use super::{Detector, chinese_address, chinese_name, date, fold, name, network, number, secret};

/// Why a pass ended.
#[derive(PartialEq)]
pub(super) enum Stop {
    /// At the end of the text.
    End,
    /// At a character that hides a value: the text must be folded first.
    Folds,
}

/// What a parser found, with offsets into the text that it read.
///
/// Two numbers, also where it may be absent, so that what a parser says is returned in registers: of a larger struct, its
/// discriminant is written and the whole read back at once, for which a processor waits.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) start: usize,
    /// From the highest bits: the score in hundredths (8 bits), the length (32), the type (8), the verdict (8), 1.
    rest: NonZeroU64,
}

impl Found {
    /// `score`: up to 1, in hundredths.
    #[inline(always)]
    pub(super) fn new(entity: Entity, start: usize, end: usize, score: f32, verdict: Verdict) -> Found {
        // Parsers read a bounded number of bytes; an empty one is of a parser that is about to refuse it.
        debug_assert!(start <= end && u32::try_from(end - start).is_ok() && (0.0..=1.0).contains(&score));
        let (hundredths, length) = ((score * 100.0 + 0.5) as u8, (end - start) as u32);
        let rest = u64::from(hundredths) << 56 | u64::from(length) << 24 | u64::from(entity.position()) << 16 | (verdict as u64) << 8 | 1;
        Found { start, rest: NonZeroU64::new(rest).expect("its lowest bit is set") }
    }

    pub(super) fn end(self) -> usize {
        self.start + (self.rest.get() >> 24) as u32 as usize
    }

    fn hundredths(self) -> u8 {
        (self.rest.get() >> 56) as u8
    }

    pub(super) fn score(self) -> f32 {
        f32::from(self.hundredths()) / 100.0
    }

    pub(super) fn entity(self) -> Entity {
        Entity::ALL[usize::from((self.rest.get() >> 16) as u8)]
    }

    fn verdict(self) -> Verdict {
        Verdict::ALL[usize::from((self.rest.get() >> 8) as u8)]
    }

    /// The same, less sure by so much.
    pub(super) fn less_sure(self, by: f32) -> Found {
        Found::new(self.entity(), self.start, self.end(), self.score() - by, self.verdict())
    }

    /// The surer of both, then the longer.
    pub(super) fn better(self, other: Option<Found>) -> Found {
        match other {
            Some(other) if other.rest.get() >> 24 > self.rest.get() >> 24 => other,
            _ => self,
        }
    }
}

pub(super) struct Scan<'t> {
    pub(super) text: &'t str,
    pub(super) bytes: &'t [u8],
    pub(super) bits: &'t Bits,
    pub(super) strict: bool,
    types: u32,
    anchors: &'t Anchors,
    hits: &'t mut Vec<Hit>,
    /// Where the last hit ends: no value and no context word reaches back over it.
    pub(super) floor: usize,
    /// What was hit last, or the first of a list: a value beside it in a list shares its context.
    listed: Option<Entity>,
    /// The context of the candidate that was asked for last: its start, the floor then, the answer.
    asked: Cell<(usize, usize, Context)>,
    /// What a parser refused is not tried again from its middle: hosts, colon-separated numbers, tokens.
    pub(super) refused_until: usize,
}

impl<'t> Scan<'t> {
    /// `bits`: those of `text`. Found values are added to `hits`, which are none yet.
    pub(super) fn new(text: &'t str, bits: &'t Bits, detector: &'t Detector, hits: &'t mut Vec<Hit>) -> Scan<'t> {
        Scan {
            text,
            bytes: text.as_bytes(),
            bits,
            strict: detector.strict,
            types: detector.types,
            anchors: &detector.anchors,
            hits,
            floor: 0,
            listed: None,
            asked: Cell::new((usize::MAX, 0, Context::default())),
            refused_until: 0,
        }
    }

    pub(super) fn wants(&self, entity: Entity) -> bool {
        self.types & entity.bit() != 0
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// The byte before `at`; 0 at the beginning of the text.
    pub(super) fn before(&self, at: usize) -> u8 {
        if at == 0 { 0 } else { self.bytes[at - 1] }
    }

    /// Whether there are but ASCII characters in a range of at most sixty-four bytes.
    pub(super) fn is_ascii(&self, from: usize, until: usize) -> bool {
        until <= from || self.bits.from(|block| block.high, from) & (u64::MAX >> (64 - (until - from).min(64))) == 0
    }

    /// How many bytes from `at` on are of a class; `most` at most.
    #[inline]
    pub(super) fn run_of(&self, class: impl Fn(&Block) -> u64, at: usize, most: usize) -> usize {
        let mut length = 0;
        loop {
            let ones = self.bits.from(&class, at + length).trailing_ones() as usize;
            length += ones;
            if ones < BLOCK || length >= most {
                return length.min(most);
            }
        }
    }

    /// How many bytes right before `at` are of a class, none of them before `least`.
    #[inline]
    pub(super) fn run_before(&self, class: impl Fn(&Block) -> u64, at: usize, least: usize) -> usize {
        let most = at.saturating_sub(least);
        let mut length = 0;
        while length < most {
            let ones = self.bits.before(&class, at - length).leading_ones() as usize;
            length += ones;
            if ones < BLOCK {
                break;
            }
        }
        length.min(most)
    }

    /// How many digits there are from `at` on; `most` at most.
    #[inline]
    pub(super) fn digits(&self, at: usize, most: usize) -> usize {
        self.run_of(|block| block.digit, at, most)
    }

    /// How many letters of ASCII there are from `at` on; `most` at most.
    #[inline]
    pub(super) fn letters(&self, at: usize, most: usize) -> usize {
        self.run_of(|block| block.alpha, at, most)
    }

    /// How many letters of ASCII stand right before `at`, none of them before `least`.
    #[inline]
    pub(super) fn letters_before(&self, at: usize, least: usize) -> usize {
        self.run_before(|block| block.alpha, at, least)
    }

    /// The character before `at`.
    pub(super) fn char_before(&self, at: usize) -> Option<char> {
        self.text[..at].chars().next_back()
    }

    /// The character at `at`.
    pub(super) fn char_at(&self, at: usize) -> Option<char> {
        self.text[at..].chars().next()
    }

    /// The context words in front of a value.
    pub(super) fn context(&self, at: usize) -> Context {
        let gap = &self.bytes[self.floor.min(at)..at];
        if !self.hits.is_empty() && (gap.len() <= 8) && context::is_list_gap(gap) {
            return self.listed.map_or(Context::default(), context::of_entity);
        }
        let (asked, floor, context) = self.asked.get();
        if asked == at && floor == self.floor {
            return context;
        }
        let context = context::before(self, at);
        self.asked.set((at, self.floor, context));
        context
    }

    pub(super) fn push(&mut self, found: Found) -> usize {
        let (entity, start, end) = (found.entity(), found.start, found.end());
        debug_assert!(start < end);
        if self.wants(entity) {
            // The context of a list is that of its first value.
            if self.floor <= start && !context::is_list_gap(&self.bytes[self.floor..start]) {
                self.listed = Some(entity);
            }
            self.hits.push(Hit { entity, start, end, score: found.score(), verdict: found.verdict() });
            self.floor = self.floor.max(end);
        }
        end
    }

    /// One pass. `folds`: stop at the first character that asks for folding.
    pub(super) fn run(&mut self, folds: bool) -> Stop {
        let (bytes, anchors) = (self.bytes, self.anchors);
        let (mut at, mut block, mut stops) = (0, usize::MAX, 0);
        while at < bytes.len() {
            if at / BLOCK != block {
                block = at / BLOCK;
                stops = anchors.stops(self.bits, block);
            }
            // Behind a value, the pass may go on inside a run of digits.
            if !bytes[at].is_ascii_digit() {
                match stops >> (at % BLOCK) {
                    0 => {
                        at = (block + 1) * BLOCK;
                        continue;
                    }
                    rest => at += rest.trailing_zeros() as usize,
                }
            }
            let class = anchors.classes[usize::from(bytes[at])];
            at = match class {
                Class::Han => self.han_run(at),
                Class::Digit => number::at(self, at),
                Class::At => network::at_sign(self, at),
                Class::Colon => {
                    let next = network::colon(self, at);
                    if next > at + 1 { next } else { self.label(at, at + 1) }
                }
                Class::Equals => self.label(at, at + 1),
                Class::Dot => network::dot(self, at),
                Class::Dash => {
                    let next = secret::private_key(self, at);
                    if next > at + 1 { next } else { network::mac_of_letters(self, at) }
                }
                Class::Capital => name::capital(self, at),
                Class::Other => {
                    if folds && fold::asks(bytes, at) {
                        return Stop::Folds;
                    }
                    if bytes[at..].starts_with("：".as_bytes()) { self.label(at, at + 3) } else { at + 1 }
                }
                Class::Plain => at + 1,
            };
        }
        Stop::End
    }

    /// What follows `label:` or `label=`.
    fn label(&mut self, at: usize, behind: usize) -> usize {
        let Some(word) = secret::word_before(self, at) else { return behind };
        let word = word.as_bytes();
        let next = secret::labelled(self, word, behind);
        if next > behind { next } else { name::labelled(self, word, at, behind).max(behind) }
    }

    /// From a Han character on, over what most texts have between two of them too; where the pass goes on.
    fn han_run(&mut self, at: usize) -> usize {
        let (bytes, anchors) = (self.bytes, self.anchors);
        let (mut next, mut before) = (at, 0);
        for three in bytes[at..].chunks_exact(3) {
            let three = [three[0], three[1], three[2]];
            match three {
                [0xe4..=0xe9, ..] => {
                    let flags = anchors.flags(three);
                    if Anchors::may_stop(flags, before) {
                        self.han(next);
                    }
                    before = flags;
                }
                // `，` `！` `；` `？`, and `、` `。` with the brackets behind them: nothing begins or hides in them.
                [0xef, 0xbc, 0x81 | 0x8c | 0x9b | 0x9f] | [0xe3, 0x80, 0x81 | 0x82 | 0x88..=0x91] => before = 0,
                _ => break,
            }
            next += 3;
        }
        if Anchors::stops_before_digit(before) && self.byte(next).is_ascii_digit() {
            self.han(next - 3);
        }
        next.max(self.floor).max(at + 1)
    }

    /// At a Han character that the pass stops at.
    fn han(&mut self, at: usize) {
        let Some(c) = self.char_at(at) else { return };
        let pair = at.checked_sub(3).filter(|from| *from >= self.floor).and_then(|from| Some((from, *self.bytes[from..].first_chunk()?)));
        if let Some((from, _)) = pair.filter(|(_, two)| self.anchors.is_pair(*two)) {
            match c {
                '信' => name::chinese_account(self, from),
                '码' | '碼' | '钥' | '令' => secret::chinese_password(self, from),
                '日' | '于' | '年' if self.wants(Entity::DateOfBirth) => date::chinese_birthday(self, from),
                '生' if self.wants(Entity::DateOfBirth) => date::chinese_birthday(self, at),
                _ => {}
            }
            if self.wants(Entity::Person) && at >= self.floor {
                chinese_name::anchor(self, at, c);
            }
        }
        if at >= self.floor
            && self.wants(Entity::Address)
            && matches!(c, '路' | '街' | '道' | '巷' | '村' | '镇' | '乡' | '同' | '区' | '县')
            && let Some(found) = chinese_address::around(self, at)
        {
            self.push(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_told_as_it_was_given() {
        for entity in Entity::ALL {
            for verdict in Verdict::ALL {
                for hundredths in 0..=100 {
                    let score = format!("{}.{:02}", hundredths / 100, hundredths % 100).parse().unwrap();
                    let found = Found::new(*entity, 70, 70 + (1 << 24), score, verdict);
                    let told = (found.entity(), found.start, found.end(), found.score(), found.verdict());
                    assert_eq!(told, (*entity, 70, 70 + (1 << 24), score, verdict));
                }
            }
        }
    }

    #[test]
    fn the_surer_is_better_then_the_longer() {
        let found = |score: f32, length: usize| Found::new(Entity::Phone, 5, 5 + length, score, Verdict::Format);
        let better = |one: Found, other: Found| {
            let better = one.better(Some(other));
            (better.score(), better.end() - better.start)
        };
        assert_eq!(better(found(0.8, 300), found(0.85, 3)), (0.85, 3));
        assert_eq!(better(found(0.85, 3), found(0.8, 300)), (0.85, 3));
        assert_eq!(better(found(0.8, 255), found(0.8, 256)), (0.8, 256));
        assert_eq!(better(found(0.8, 256), found(0.8, 255)), (0.8, 256));
        assert_eq!(found(1.0, 1).less_sure(0.16).score(), 0.84);
    }
}
