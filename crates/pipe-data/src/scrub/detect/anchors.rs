//! Which bytes, and which Han characters, the pass over a text stops at: only what some wanted type needs.

use super::super::Entity;
use super::bits::{Bits, Block};
use super::chinese_name;
use super::sets::PairSet;

/// What a byte means to the pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Plain,
    Digit,
    At,
    Colon,
    Equals,
    Dot,
    Dash,
    Capital,
    /// The first byte of a Han character.
    Han,
    /// The first byte of another character that may have to be folded, or is `：`.
    Other,
}

pub(super) struct Anchors {
    pub(super) classes: [Class; 256],
    /// Names are looked for behind every capital, not only where a word may introduce one.
    all_capitals: bool,
    /// Flags of each character of the Basic Multilingual Plane.
    han: Box<[u8; 1 << 16]>,
    /// The last two characters of words that the pass stops at.
    pairs: PairSet,
}

/// The pass stops at the character whatever stands beside it.
const ALONE: u8 = 1;
/// It is the last one of a pair.
const LAST: u8 = 1 << 1;
/// It is the first one.
const FIRST: u8 = 1 << 2;
/// The pass stops at it where a digit follows.
const BEFORE_DIGIT: u8 = 1 << 3;

/// What ends the name of a road or a place.
const ADDRESS_ANCHORS: &str = "路街巷村镇乡区县";
/// Of more than one meaning alone.
const ADDRESS_PAIRS: &[&str] = &["大道", "街道", "干道", "辅道", "胡同"];
const BIRTH_PAIRS: &[&str] = &["出生", "生日", "生于", "生年"];
const ACCOUNT_PAIRS: &[&str] = &["微信"];
const SECRET_PAIRS: &[&str] = &["密码", "密碼", "密钥", "口令"];

/// The number of a Han character, of three bytes in UTF-8.
#[inline]
fn code(han: [u8; 3]) -> usize {
    usize::from(han[0] & 0xf) << 12 | usize::from(han[1] & 0x3f) << 6 | usize::from(han[2] & 0x3f)
}

impl Anchors {
    pub(super) fn new(types: u32, strict: bool) -> Anchors {
        let wants = |entities: &[Entity]| entities.iter().any(|entity| types & entity.bit() != 0);
        let mut classes = [Class::Plain; 256];
        let mut set = |bytes: &mut dyn Iterator<Item = u8>, class: Class| bytes.for_each(|b| classes[usize::from(b)] = class);
        // All but e-mail addresses, domains and handles have digits, or may have.
        set(&mut (b'0'..=b'9'), Class::Digit);
        if wants(&[Entity::Email, Entity::UserHandle]) {
            set(&mut [b'@'].into_iter(), Class::At);
        }
        if wants(&[
            Entity::Url,
            Entity::UrlCredentials,
            Entity::IpAddress,
            Entity::MacAddress,
            Entity::Secret,
            Entity::Person,
            Entity::SocialAccount,
            Entity::Address,
            Entity::UserHandle,
        ]) {
            set(&mut [b':'].into_iter(), Class::Colon);
        }
        if wants(&[Entity::Secret]) {
            set(&mut [b'='].into_iter(), Class::Equals);
        }
        if wants(&[Entity::Url, Entity::MacAddress]) {
            set(&mut [b'.'].into_iter(), Class::Dot);
        }
        if wants(&[Entity::Secret, Entity::MacAddress]) {
            set(&mut [b'-'].into_iter(), Class::Dash);
        }
        if wants(&[Entity::Person]) {
            set(&mut (b'A'..=b'Z'), Class::Capital);
        }
        set(&mut [0xc2, 0xe2, 0xe3, 0xef, 0xf0].into_iter(), Class::Other);
        let mut han = Box::new([0; 1 << 16]);
        let mut flag = |c: char, flag: u8| han[c as usize] |= flag;
        let mut pairs: Vec<[u8; 6]> = Vec::new();
        let mut add = |words: &[&str]| pairs.extend(words.iter().filter_map(|word| word.as_bytes().last_chunk::<6>()));
        if wants(&[Entity::Person]) {
            chinese_name::words().for_each(&mut add);
        }
        if wants(&[Entity::Address]) {
            ADDRESS_ANCHORS.chars().for_each(|c| flag(c, ALONE));
            flag('道', BEFORE_DIGIT);
            add(ADDRESS_PAIRS);
        }
        if wants(&[Entity::DateOfBirth]) {
            add(BIRTH_PAIRS);
        }
        if wants(&[Entity::SocialAccount]) {
            add(ACCOUNT_PAIRS);
        }
        if wants(&[Entity::Secret]) {
            add(SECRET_PAIRS);
        }
        for [a, b, c, d, e, f] in &pairs {
            han[code([*a, *b, *c])] |= FIRST;
            han[code([*d, *e, *f])] |= LAST;
        }
        if han.iter().any(|flags| *flags != 0) {
            (0xe4..=0xe9).for_each(|b: usize| classes[b] = Class::Han);
        }
        Anchors { classes, all_capitals: strict && wants(&[Entity::Person]), han, pairs: PairSet::new(pairs.into_iter()) }
    }

    /// Where in block `at` of a text the pass stops: all bytes at which something may begin, and a few more. Inside a run
    /// of digits it does not stop again.
    #[inline]
    pub(super) fn stops(&self, bits: &Bits, at: usize) -> u64 {
        let [before, block, behind] = bits.around(at);
        if block.high == u64::MAX {
            return u64::MAX;
        }
        let mut stops = block.high | block.sign | block.digit & !back(before.digit, block.digit, 1);
        // A stop inside a word: those of sentences are none.
        if block.dot != 0 {
            let word = back(before.alphanumeric(), block.alphanumeric(), 1) & ahead(block.alphanumeric(), behind.alphanumeric(), 1);
            stops |= block.dot & word;
        }
        // The first of many dashes, or that between the first two pairs of a hardware address.
        if block.dash != 0 {
            let word = |n: u32| back(before.alphanumeric(), block.alphanumeric(), n);
            let dash = |n: u32| ahead(block.dash, behind.dash, n);
            stops |= block.dash & (dash(1) | dash(3) & word(1) & word(2));
        }
        if self.all_capitals {
            stops |= block.upper & !back(before.alphanumeric(), block.alphanumeric(), 1);
        } else if self.classes[usize::from(b'A')] == Class::Capital {
            let capitals = block.upper & back(before.blank, block.blank, 1);
            if capitals != 0 {
                stops |= capitals & introduced(before, block);
            }
        }
        stops
    }

    /// What is known of a Han character.
    #[inline]
    pub(super) fn flags(&self, han: [u8; 3]) -> u8 {
        self.han[code(han)]
    }

    /// Whether the pass may stop at a character with these flags behind one with those.
    #[inline]
    pub(super) fn may_stop(flags: u8, before: u8) -> bool {
        // A last character counts behind a first one alone.
        flags & (ALONE | before >> 1 & LAST) != 0
    }

    /// The same, where a digit follows.
    pub(super) fn stops_before_digit(flags: u8) -> bool {
        flags & BEFORE_DIGIT != 0
    }

    pub(super) fn is_pair(&self, two: [u8; 6]) -> bool {
        self.pairs.has(two)
    }
}

/// Of each byte of a block, what holds `n` bytes before it.
#[inline]
fn back(before: u64, block: u64, n: u32) -> u64 {
    block << n | before >> (u64::BITS - n)
}

/// The same, behind it.
#[inline]
fn ahead(block: u64, behind: u64, n: u32) -> u64 {
    block >> n | behind << (u64::BITS - n)
}

/// Where, behind a blank, the word before may introduce a name: that one has a capital (`Mr Smith`), is short with a
/// stop (`mr. Smith`), or may be `is`, `name`, `named` or `called`.
#[inline]
fn introduced(before: &Block, block: &Block) -> u64 {
    // Added to the letters, the first letter of a word carries to the byte behind its last.
    let first = block.upper & !back(before.alpha, block.alpha, 1);
    let (sum_before, carry) = (before.upper & !(before.alpha << 1)).overflowing_add(before.alpha);
    let sum = first.wrapping_add(block.alpha).wrapping_add(u64::from(carry));
    let (end_before, end) = (sum_before & !before.alpha, sum & !block.alpha);
    let capital = back(end_before, end, 1) | back(end_before & before.dot, end & block.dot, 2);
    let letter = |n: u32| back(before.alpha, block.alpha, n);
    let short = back(before.dot, block.dot, 2) & letter(3) & !(letter(4) & letter(5) & letter(6) & letter(7));
    let phrase = back(before.tail, block.tail, 2) & letter(3) & (!letter(4) | letter(5));
    capital | short | phrase
}
