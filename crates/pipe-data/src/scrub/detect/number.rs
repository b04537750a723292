//! Digit runs: cut out once with their groups and separators, then given to the validators that fit.

use super::super::Entity;
use super::context::Context;
use super::scan::{Found, Scan};
use super::{address, bank, chinese_address, chinese_name, date, identity, network, phone, place, plate, secret};

/// Groups of digits that one number has at most: `+44 (0) 20 79 46 00 18`.
const GROUPS: usize = 10;
const DIGITS: usize = 40;
/// No number is longer; a run of more digits holds none.
const LONGEST_RUN: usize = 30;

/// A digit run and those behind it that may belong to it.
pub(super) struct Window {
    groups: [(usize, usize); GROUPS],
    digits: [u8; DIGITS],
    /// How many digits the first `n` groups have.
    upto: [u8; GROUPS + 1],
    pub(super) len: usize,
}

impl Window {
    /// The window that begins with the digit run at `at`.
    fn new(bytes: &[u8], at: usize) -> Window {
        let mut window = Window { groups: [(0, 0); GROUPS], digits: [0; DIGITS], upto: [0; GROUPS + 1], len: 0 };
        let (mut at, mut count) = (at, 0);
        while window.len < GROUPS {
            let start = at;
            while at < bytes.len() && bytes[at].is_ascii_digit() && count < DIGITS {
                window.digits[count] = bytes[at] - b'0';
                count += 1;
                at += 1;
            }
            if at < bytes.len() && bytes[at].is_ascii_digit() {
                break;
            }
            window.groups[window.len] = (start, at);
            window.len += 1;
            window.upto[window.len] = count as u8;
            let behind = at + bytes[at..].iter().take(3).take_while(|b| matches!(b, b' ' | b'-' | b'.' | b'/' | b'(' | b')')).count();
            if behind == at || !bytes.get(behind).is_some_and(u8::is_ascii_digit) {
                break;
            }
            at = behind;
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

    /// Whether the first `n` groups have these sizes.
    pub(super) fn shaped(&self, sizes: &[usize]) -> bool {
        self.len >= sizes.len() && sizes.iter().enumerate().all(|(k, size)| self.size(k) == *size)
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
    scan.bytes[at.min(scan.bytes.len())..].iter().take(4).take_while(|b| b.is_ascii_digit()).count() == 3
}

/// Tries the number at a digit run; where the pass goes on.
pub(super) fn at(scan: &mut Scan<'_>, at: usize) -> usize {
    let run = scan.bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let run_end = at + run;
    // A local part of an address is the affair of the `@`, and a run that long is no number.
    if scan.byte(run_end) == b'@' && scan.wants(Entity::Email) && scan.byte(run_end + 1).is_ascii_alphanumeric() {
        return run_end;
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
    let window = Window::new(scan.bytes, at);
    if window.len == 0 {
        return run_end;
    }
    let mut best = strong(scan, &window);
    if letters && let Some(found) = bank::iban(scan, at).or_else(|| identity::credit_code(scan, at)).or_else(|| identity::lettered(scan, at)) {
        best = Some(found.better(best));
    }
    if best.is_none_or(|found| found.score < 0.8) && (window.count(window.len) >= 5 || letters) {
        let context = scan.context(at);
        best = weak(scan, &window, context).map(|found| found.better(best)).or(best);
    }
    best = best.or_else(|| small(scan, &window));
    match best {
        Some(found) => {
            if found.entity == Entity::Phone
                && let Some(name) = chinese_name::before_number(scan, found.start)
            {
                scan.push(name);
            }
            scan.push(found)
        }
        None => run_end,
    }
}

/// What needs no words around it.
fn strong(scan: &mut Scan<'_>, window: &Window) -> Option<Found> {
    let total = window.count(window.len);
    if total < 4 {
        return None;
    }
    let mut best: Option<Found> = None;
    let mut offer = |found: Option<Found>| {
        if let Some(found) = found {
            best = Some(found.better(best));
        }
    };
    if total >= 13 {
        offer(bank::card(scan, window));
        offer(identity::resident(scan, window));
    }
    if window.len >= 4 {
        offer(network::ipv4(scan, window));
    }
    if window.shaped(&[3, 2, 4]) {
        offer(identity::ssn(scan, window));
    }
    if window.shaped(&[6, 7]) {
        offer(identity::korean_resident(scan, window));
    }
    if window.shaped(&[2, 2, 2]) {
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
