//! Digit runs: cut out once with their groups and separators, then given to the validators that fit.

use std::sync::LazyLock;

use super::super::Entity;
use super::context::Context;
use super::scan::{Found, Scan};
use super::sets::LetterPairs;
use super::{address, bank, chinese_address, chinese_name, date, identity, network, phone, place, plate, secret, words};

/// Groups of digits that one number has at most: `+44 (0) 20 79 46 00 18`.
const GROUPS: usize = 10;
const DIGITS: usize = 40;
/// No number is longer; a run of more digits holds none.
const LONGEST_RUN: usize = 30;

/// A digit run and those behind it that may belong to it.
pub(super) struct Window {
    groups: [(usize, usize); GROUPS],
    /// Digits of the first eight groups, a byte each.
    sizes: u64,
    /// Sixteen can be written anywhere among the first ones.
    digits: [u8; DIGITS + 16],
    /// How many digits the first `n` groups have.
    upto: [u8; GROUPS + 1],
    pub(super) len: usize,
}

impl Window {
    /// The window that begins with the digit run at `at`.
    fn new(scan: &Scan<'_>, at: usize) -> Window {
        let bytes = scan.bytes;
        let mut window = Window { groups: [(0, 0); GROUPS], sizes: 0, digits: [0; DIGITS + 16], upto: [0; GROUPS + 1], len: 0 };
        // No longer run gets here, so that a group and what is behind it fit into these bits.
        debug_assert!(scan.digits(at, usize::MAX) <= LONGEST_RUN);
        let (mut from, mut count) = (at, 0);
        while window.len < GROUPS {
            let digits = scan.bits.from(|block| block.digit, from);
            let size = digits.trailing_ones() as usize;
            if count + size > DIGITS {
                break;
            }
            let end = from + size;
            // Most runs are short: sixteen bytes are copied at once, and those behind the run written over or never read.
            match bytes.get(from..from + 16) {
                Some(some) if size <= 16 => {
                    window.digits[count..count + 16].iter_mut().zip(some).for_each(|(digit, b)| *digit = b.wrapping_sub(b'0'));
                }
                _ => window.digits[count..].iter_mut().zip(&bytes[from..end]).for_each(|(digit, b)| *digit = b - b'0'),
            }
            count += size;
            window.groups[window.len] = (from, end);
            window.sizes |= (size as u64).checked_shl(8 * window.len as u32).unwrap_or(0);
            window.len += 1;
            window.upto[window.len] = count as u8;
            let gap = (digits >> size).trailing_zeros() as usize;
            if gap > 3 || !bytes[end..end + gap].iter().all(|b| is_separator(*b)) {
                break;
            }
            from = end + gap;
        }
        window
    }

    pub(super) fn start(&self) -> usize {
        self.groups[0].0
    }

    /// Where the first `n` groups end.
    pub(super) fn end(&self, n: usize) -> usize {
        self.groups[n - 1].1
    }

    /// Digits in group `k`.
    pub(super) fn size(&self, k: usize) -> usize {
        self.groups[k].1 - self.groups[k].0
    }

    /// Digits in the first `n` groups.
    pub(super) fn count(&self, n: usize) -> usize {
        usize::from(self.upto[n])
    }

    /// Those digits themselves, as numbers.
    pub(super) fn digits(&self, n: usize) -> &[u8] {
        &self.digits[..self.count(n)]
    }

    /// The number in group `k`, if it is short.
    pub(super) fn value(&self, k: usize) -> u32 {
        self.digits[self.count(k)..self.count(k + 1)].iter().take(9).fold(0, |value, digit| value * 10 + u32::from(*digit))
    }

    /// What stands between groups `k` and `k + 1`.
    pub(super) fn separator<'t>(&self, bytes: &'t [u8], k: usize) -> &'t [u8] {
        &bytes[self.groups[k].1..self.groups[k + 1].0]
    }

    /// Whether the first groups have these sizes; of at most eight.
    #[inline(always)]
    pub(super) fn shaped<const N: usize>(&self, sizes: [u8; N]) -> bool {
        let expected = sizes.iter().rev().fold(0, |all, size| all << 8 | u64::from(*size));
        self.len >= N && (self.sizes ^ expected) << (64 - 8 * N) == 0
    }

    /// Whether the first `n` groups are joined by one and the same of these bytes.
    pub(super) fn joined_by(&self, bytes: &[u8], n: usize, allowed: &[u8]) -> bool {
        n < 2 || (1..n).all(|k| matches!(self.separator(bytes, k - 1), [b] if allowed.contains(b) && *b == self.separator(bytes, 0)[0]))
    }
}

/// Whether another number ends right before: `1999-2009`, `3.14159`, `$100`.
pub(super) fn joined_before(scan: &Scan<'_>, at: usize) -> bool {
    match scan.before(at) {
        b'.' | b'-' | b'/' => at >= 2 && scan.bytes[at - 2].is_ascii_digit() && scan.floor < at,
        // Thousands, not a list.
        b',' => at >= 2 && scan.bytes[at - 2].is_ascii_digit() && scan.floor < at && thousands(scan, at),
        b'$' | b'#' | b'=' if at >= 2 && scan.bytes[at - 1] != b'=' => true,
        b'$' | b'#' => true,
        0x80.. => scan.text[..at].ends_with(['€', '£', '¥', '￥', '₹']),
        _ => false,
    }
}

/// Whether a number goes on right behind: `13812345678.50`.
pub(super) fn joined_behind(scan: &Scan<'_>, at: usize) -> bool {
    match scan.byte(at) {
        b'.' | b'-' | b'/' => scan.byte(at + 1).is_ascii_digit(),
        b',' => thousands(scan, at + 1),
        b'%' => true,
        _ => false,
    }
}

/// Three digits and no more: `1,234,567`.
fn thousands(scan: &Scan<'_>, at: usize) -> bool {
    scan.digits(at, 4) == 3
}

/// Tries the number at a digit run; where the pass goes on.
pub(super) fn at(scan: &mut Scan<'_>, at: usize) -> usize {
    let run = scan.digits(at, usize::MAX);
    let run_end = at + run;
    // A local part of an address is the affair of the `@`, and a run that long is no number.
    if scan.byte(run_end) == b'@' && scan.wants(Entity::Email) && scan.byte(run_end + 1).is_ascii_alphanumeric() {
        return run_end;
    }
    if run <= 2
        && let Some(end) = count(scan, at, run_end)
    {
        return end;
    }
    if let Some(found) = plate::around(scan, at) {
        return scan.push(found);
    }
    let letters =
        scan.before(at).is_ascii_alphanumeric() && at > scan.floor || scan.byte(run_end).is_ascii_alphabetic() || matches!(scan.before(at), b'_');
    let dashed = matches!(scan.before(at), b'-') || matches!(scan.byte(run_end), b'-' | b'_');
    if (letters || dashed)
        && let Some(found) = secret::token(scan, at)
    {
        return scan.push(found);
    }
    if run > LONGEST_RUN {
        return run_end;
    }
    let window = Window::new(scan, at);
    if window.len == 0 {
        return run_end;
    }
    let mut best = strong(scan, &window);
    if letters && let Some(found) = bank::iban(scan, at).or_else(|| identity::lettered(scan, at)) {
        best = Some(found.better(best));
    }
    if best.is_none_or(|found| found.score() < 0.8) && (window.count(window.len) >= 5 || letters) {
        let context = scan.context(at);
        best = weak(scan, &window, context).map(|found| found.better(best)).or(best);
    }
    best = best.or_else(|| small(scan, &window));
    match best {
        Some(found) => {
            if found.entity() == Entity::Phone
                && let Some(name) = chinese_name::before_number(scan, found.start)
            {
                scan.push(name);
            }
            scan.push(found)
        }
        None => run_end,
    }
}

/// No word before a number is looked at that has more letters.
const LONGEST_WORD: usize = 40;

/// Where digits end that only count something, as in `moved to 3 pm` and `version 1.2.3`: most short ones in a text do.
/// Nothing before or behind them makes them a part of a longer number, of a date or of an address.
fn count(scan: &Scan<'_>, at: usize, run_end: usize) -> Option<usize> {
    // No month, flat or street stands before them.
    if scan.before(at) != b' ' {
        return None;
    }
    let blank = at - 1;
    let letters = scan.letters_before(blank, scan.floor.max(blank.saturating_sub(LONGEST_WORD)));
    let (before, first) = (scan.before(blank - letters), scan.byte(blank - letters));
    let plain = match letters {
        0 => !matches!(before, b'.' | b' ' | b'-' | 0x80..),
        // Its first letter, which may be a capital, was not seen.
        LONGEST_WORD => false,
        _ => first.is_ascii_lowercase() && !matches!(before, b'-' | 0x80..) && !BEGINNINGS.before.has(first, scan.byte(blank - letters + 1)),
    };
    if !plain {
        return None;
    }
    // Up to three digits with stops between them make no date and no address of a network.
    let (mut end, mut total) = (run_end, run_end - at);
    while scan.byte(end) == b'.' && scan.byte(end + 1).is_ascii_digit() {
        let digits = scan.digits(end + 1, 4);
        total += digits;
        end += 1 + digits;
    }
    if total > 3 {
        return None;
    }
    // No month or street stands behind them, nor another group of digits.
    let word = match (scan.byte(end), scan.byte(end + 1)) {
        (b' ', _) => end + 1,
        (b',', b' ') => end + 2,
        // The last one is that of a sentence; at the end of the text there is nothing.
        (b'.', b' ' | 0) | (0, _) => return Some(end),
        _ => return None,
    };
    let plain = match (scan.byte(word), scan.byte(word + 1)) {
        (first @ b'a'..=b'z', second) => second < 0x80 && !BEGINNINGS.behind.has(first, second),
        (b'(', second) => !second.is_ascii_digit(),
        (b, _) => matches!(b, b'"' | b',' | b'<'),
    };
    plain.then_some(end)
}

fn is_separator(b: u8) -> bool {
    matches!(b, b' ' | b'-' | b'.' | b'/' | b'(' | b')')
}

/// Two letters that begin words which make a number something else than a count.
struct Beginnings {
    before: LetterPairs,
    behind: LetterPairs,
}

static BEGINNINGS: LazyLock<Beginnings> = LazyLock::new(|| Beginnings {
    before: LetterPairs::new(date::MONTHS.iter().copied().chain(address::UNITS.iter().copied()).chain(["ul"])),
    behind: LetterPairs::new(date::MONTHS.iter().copied().chain(words::STREET_BEGINNING_WORDS.split('|')).chain(["of"])),
});

/// What needs no words around it.
fn strong(scan: &mut Scan<'_>, window: &Window) -> Option<Found> {
    let total = window.count(window.len);
    if total < 4 {
        return None;
    }
    let mut best: Option<Found> = None;
    if total >= 13 {
        let card = bank::card(scan, window);
        best = identity::resident(scan, window).map(|resident| resident.better(card)).or(card);
        // Nothing is surer than a checksum.
        if best.is_some() {
            return best;
        }
    }
    let mut offer = |found: Option<Found>| {
        if let Some(found) = found {
            best = Some(found.better(best));
        }
    };
    if window.len >= 4 {
        offer(network::ipv4(scan, window));
    }
    if window.shaped([3, 2, 4]) {
        offer(identity::ssn(scan, window));
    }
    if window.shaped([6, 7]) {
        offer(identity::korean_resident(scan, window));
    }
    if window.shaped([2, 2, 2]) {
        offer(identity::spaced_nino(scan, window));
    }
    if total >= 8 {
        offer(phone::formatted(scan, window));
    }
    offer(place::coordinates(scan, window.start()));
    best
}

/// What needs context words.
fn weak(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    let mut best: Option<Found> = None;
    let mut offer = |found: Option<Found>| {
        if let Some(found) = found {
            best = Some(found.better(best));
        }
    };
    if context.kinds != 0 || scan.strict {
        offer(bank::card_beside_words(scan, window, context));
        offer(identity::resident_beside_words(scan, window, context));
        offer(identity::document(scan, window, context));
        offer(identity::ssn_beside_words(scan, window, context));
        offer(identity::imei(scan, window, context));
        offer(identity::account(scan, window, context));
        offer(secret::beside_words(scan, window, context));
    }
    offer(identity::old_resident(scan, window, context));
    offer(identity::credit_code_of_digits(scan, window, context));
    offer(phone::plain(scan, window, context));
    offer(phone::local(scan, window, context));
    best
}

/// Dates of birth and parts of addresses, of few digits.
fn small(scan: &mut Scan<'_>, window: &Window) -> Option<Found> {
    if let Some(found) = date::of_birth(scan, window) {
        return Some(found);
    }
    if let Some(found) = place::degrees(scan, window.start()) {
        return Some(found);
    }
    if !scan.wants(Entity::Address) || window.size(0) > 6 {
        return None;
    }
    if scan.byte(window.end(1)) >= 0xe4 {
        return chinese_address::behind_number(scan, window.end(1));
    }
    address::around(scan, window)
}
