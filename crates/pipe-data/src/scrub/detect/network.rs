//! Addresses of networks: e-mail, URLs and domains, handles, IP and hardware addresses.

use std::net::Ipv6Addr;

use super::super::{Entity, Verdict};
use super::bits::Block;
use super::context::kind;
use super::number::Window;
use super::scan::{Found, Scan};
use super::words::{TOP_LEVEL, WORDLIKE};

/// RFC 5321: 64 octets before the `@`, 255 behind it.
const LOCAL: usize = 64;
const DOMAIN: usize = 255;

/// An e-mail address or a handle at its `@`.
pub(super) fn at_sign(scan: &mut Scan<'_>, at: usize) -> usize {
    if let Some(found) = email(scan, at) {
        return scan.push(found);
    }
    match handle(scan, at) {
        Some(found) => scan.push(found),
        None => at + 1,
    }
}

/// What a byte may be part of.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut at = 0;
    while at < 256 {
        let b = at as u8;
        if b.is_ascii_alphanumeric() {
            kinds[at] |= LOCAL_PART;
        }
        if matches!(b, b'.' | b'_' | b'%' | b'+' | b'\'' | b'-' | b'&' | b'#' | b'~' | b'!' | b'$' | b'*' | b'=' | b'/') {
            kinds[at] |= LOCAL_PART;
        }
        if matches!(b, b'=' | b'/' | b'\'' | b'*' | b'~' | b'#' | b'!' | b'$' | b'&') {
            kinds[at] |= SIGN;
        }
        if matches!(b, b'!' | b'#'..=b';' | b'=' | b'?'..=b'~') {
            kinds[at] |= URL;
        }
        at += 1;
    }
    kinds
};
const LOCAL_PART: u8 = 1;
const URL: u8 = 2;
/// Of a local part, but rarely meant.
const SIGN: u8 = 4;

fn is(b: u8, kind: u8) -> bool {
    KINDS[usize::from(b)] & kind != 0
}

fn email(scan: &Scan<'_>, at: usize) -> Option<Found> {
    if !scan.wants(Entity::Email) {
        return None;
    }
    let end = domain_end(scan, at + 1)?;
    let least = scan.floor.max(at.saturating_sub(LOCAL));
    // Most local parts have letters, digits and a stop, a dash or an underscore.
    let mut start = at - scan.run_before(|block| block.token() | block.dot, at, least);
    let plain = start;
    while start > least && is(scan.bytes[start - 1], LOCAL_PART) {
        start -= 1;
    }
    // Signs that are allowed but rarely meant: what stands before the last of them is a key or a quotation.
    if start < plain
        && let Some(sign) = scan.bytes[start..at].iter().rposition(|b| is(*b, SIGN))
        && sign + 1 < at - start
        && !(scan.bytes[start + sign] == b'\'' && sign > 0)
    {
        start += sign + 1;
    }
    while start < at && matches!(scan.bytes[start], b'-' | b'_' | b'+' | b'%' | b'\'') {
        start += 1;
    }
    let stops = scan.bits.before(|block| block.dot, at) & (u64::MAX << (64 - (at - start).clamp(1, 64)));
    if start == at {
        start = han_local(scan, at)?;
    } else if scan.bytes[start] == b'.' || scan.bytes[at - 1] == b'.' || stops & stops << 1 != 0 {
        // No valid address, and no part of one is.
        return None;
    }
    Some(Found::new(Entity::Email, start, end, 0.97, Verdict::Format))
}

/// An internationalised local part (RFC 6531): a few Han or other letters right before the `@`.
fn han_local(scan: &Scan<'_>, at: usize) -> Option<usize> {
    let mut start = at;
    for c in scan.text[scan.floor.min(at)..at].chars().rev().take(8) {
        if !c.is_alphanumeric() {
            break;
        }
        start -= c.len_utf8();
    }
    (start < at).then_some(start)
}

/// The end of a host name with a top-level domain of letters that begins at `at`.
fn domain_end(scan: &Scan<'_>, at: usize) -> Option<usize> {
    let bytes = scan.bytes;
    let (mut end, mut label, mut last) = (at, at, None);
    let limit = (at + DOMAIN).min(bytes.len());
    loop {
        end += scan.run_of(|block| block.alphanumeric() | block.dash, end, limit - end);
        let size = end - label;
        if size == 0 || size > 63 || bytes[label] == b'-' {
            break;
        }
        let letters = scan.letters(label, size);
        let puny = bytes[label..end].starts_with(b"xn--");
        // `a@example.com123`: the address ends with its letters.
        if label > at && letters >= 2 && (letters == size || puny || last.is_none() && bytes[label + letters].is_ascii_digit()) {
            last = Some(if puny { end } else { label + letters });
        }
        if end < limit && bytes[end] == b'.' && bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric) {
            end += 1;
            label = end;
        } else {
            break;
        }
    }
    last
}

/// `@name`, no time or price such as `@5pm` and no host.
fn handle(scan: &Scan<'_>, at: usize) -> Option<Found> {
    if !scan.wants(Entity::UserHandle) || scan.before(at) == b'.' && at >= 2 && scan.byte(at - 2).is_ascii_alphanumeric() {
        return None;
    }
    // In ASCII, as most are; another letter goes on.
    let plain = scan.run_of(|block| block.alphanumeric() | block.low, at + 1, 30);
    let mut end = at + 1 + plain;
    for c in scan.text[end..].chars().take(if scan.byte(end) < 0x80 { 0 } else { 30 - plain }) {
        if !(c.is_alphanumeric() || c == '_') {
            break;
        }
        end += c.len_utf8();
    }
    let name = &scan.text[at + 1..end];
    let host = at > scan.floor && (scan.before(at).is_ascii_alphanumeric() || matches!(scan.before(at), b'_' | b'-'));
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &name[digits..];
    let time = digits > 0 && (rest.is_empty() && digits < 5 || ["am", "pm", "h"].iter().any(|unit| rest.eq_ignore_ascii_case(unit)));
    (!name.is_empty() && !time && name != "_" && !host).then_some(Found::new(Entity::UserHandle, at, end, 0.6, Verdict::Format))
}

/// A URL at its `://`, or an IPv6 or hardware address at its first colon.
pub(super) fn colon(scan: &mut Scan<'_>, at: usize) -> usize {
    if scan.bytes[at..].starts_with(b"://") {
        return match url(scan, at) {
            Some(found) => scan.push(found),
            None => at + 3,
        };
    }
    if at < scan.refused_until {
        return at + 1;
    }
    let mut start = at;
    while start > scan.floor && at - start < 5 && scan.bytes[start - 1].is_ascii_hexdigit() {
        start -= 1;
    }
    if at - start > 4 || scan.before(start).is_ascii_alphanumeric() && start > scan.floor || matches!(scan.before(start), b'_' | b':') {
        return at + 1;
    }
    let mut end = at;
    while end < scan.bytes.len() && end - start < 64 && (scan.bytes[end].is_ascii_hexdigit() || matches!(scan.bytes[end], b':' | b'.')) {
        end += 1;
    }
    let colons = scan.bytes[start..end].iter().filter(|b| **b == b':').count();
    if colons >= 2 {
        while end > start && scan.bytes[end - 1] == b'.' || scan.bytes[..end].ends_with(b":") && !scan.bytes[..end].ends_with(b"::") {
            end -= 1;
        }
        if let Some(found) = mac(scan, start).or_else(|| ipv6(scan, start, end)) {
            return scan.push(found);
        }
        scan.refused_until = end;
    }
    at + 1
}

fn ipv6(scan: &Scan<'_>, start: usize, end: usize) -> Option<Found> {
    let after = scan.byte(end);
    if !scan.wants(Entity::IpAddress) || after.is_ascii_alphanumeric() || after == b'_' || end - start > 45 {
        return None;
    }
    let value = &scan.text[start..end];
    let address: Ipv6Addr = value.parse().ok()?;
    // `a::b` is a path in more languages than one; an address has more to it.
    let groups = value.split(':').filter(|group| !group.is_empty()).count();
    let plausible = value.bytes().any(|b| b.is_ascii_digit())
        && (groups >= 3
            || address.is_loopback()
            || matches!(address.segments()[0], 0x2000..=0x3fff | 0xfc00..=0xfeff)
            || value.starts_with("64:ff9b:"));
    plausible.then_some(Found::new(Entity::IpAddress, start, end, 0.9, Verdict::Valid))
}

/// `AA:BB:CC:DD:EE:FF`, `aa-bb-cc-dd-ee-ff`, `aabb.ccdd.eeff`, from its first digit.
fn mac(scan: &Scan<'_>, start: usize) -> Option<Found> {
    if !scan.wants(Entity::MacAddress) || scan.before(start).is_ascii_alphanumeric() && start > scan.floor {
        return None;
    }
    let pairs = |separator: u8| {
        let bytes = scan.bytes.get(start..start + 17)?;
        let fits = bytes.iter().enumerate().all(|(k, b)| if k % 3 == 2 { *b == separator } else { b.is_ascii_hexdigit() });
        fits.then_some(start + 17)
    };
    let fours = || {
        let bytes = scan.bytes.get(start..start + 14)?;
        let fits = bytes.iter().enumerate().all(|(k, b)| if k % 5 == 4 { *b == b'.' } else { b.is_ascii_hexdigit() });
        fits.then_some(start + 14)
    };
    let end = pairs(b':').or_else(|| pairs(b'-')).or_else(fours)?;
    let longer = matches!(scan.byte(end), b':' | b'-') && scan.byte(end + 1).is_ascii_hexdigit();
    (!scan.byte(end).is_ascii_alphanumeric() && !longer).then_some(Found::new(Entity::MacAddress, start, end, 0.95, Verdict::Format))
}

/// A hardware address with dashes, at its first dash or its first digit.
pub(super) fn mac_of_letters(scan: &mut Scan<'_>, at: usize) -> usize {
    if at >= scan.floor + 2
        && scan.bytes[at - 2..at].iter().all(u8::is_ascii_hexdigit)
        && scan.byte(at + 3) == b'-'
        && let Some(found) = mac(scan, at - 2)
    {
        return scan.push(found);
    }
    at + 1
}

/// `[scheme]://…` up to the first byte that no URL has.
fn url(scan: &Scan<'_>, at: usize) -> Option<Found> {
    let least = scan.floor.max(at.saturating_sub(16));
    let mut start = at;
    while start > least && (scan.bytes[start - 1].is_ascii_alphanumeric() || matches!(scan.bytes[start - 1], b'+' | b'-')) {
        start -= 1;
    }
    while start < at && !scan.bytes[start].is_ascii_alphabetic() {
        start += 1;
    }
    if at - start < 2 {
        return None;
    }
    let behind = &scan.bytes[at + 3..];
    let length = behind.iter().take_while(|b| is(**b, URL)).count();
    let end = at + 3 + trimmed(&behind[..length]);
    if end < at + 5 {
        return None;
    }
    web(scan, start, at + 3, end)
}

/// A URL as what it is: one that lets its reader in, or any.
fn web(scan: &Scan<'_>, start: usize, host: usize, end: usize) -> Option<Found> {
    let value = &scan.bytes[host..end];
    if scan.wants(Entity::UrlCredentials) && has_credentials(value) {
        return Some(Found::new(Entity::UrlCredentials, start, end, 0.98, Verdict::Format));
    }
    scan.wants(Entity::Url).then_some(Found::new(Entity::Url, start, end, 0.95, Verdict::Format))
}

/// Parameters that are keys.
const PARAMETERS: &[&str] = &[
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth",
    "auth_token",
    "authtoken",
    "authorization",
    "api_key",
    "apikey",
    "api-key",
    "key",
    "secret",
    "client_secret",
    "password",
    "passwd",
    "pwd",
    "pass",
    "passphrase",
    "sig",
    "signature",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-signature",
    "session",
    "sessionid",
    "session_id",
    "sid",
    "jwt",
    "ticket",
    "code",
    "otp",
    "awsaccesskeyid",
    "accesskeyid",
    "access_key",
    "accesskey",
    "private_token",
    "credential",
    "credentials",
    "sas",
    "se",
    "sv",
    "hmac",
    "bearer",
    "webhook_token",
    "reset_token",
    "invite",
];

fn has_credentials(value: &[u8]) -> bool {
    let authority = value.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(value.len());
    let user = value[..authority].iter().rposition(|b| *b == b'@');
    if user.is_some_and(|user| value[..user].contains(&b':')) {
        return true;
    }
    let Some(query) = value[authority..].iter().position(|b| matches!(b, b'?' | b'#')) else { return false };
    value[authority + query + 1..].split(|b| matches!(b, b'&' | b';' | b'?' | b'#')).any(|pair| {
        let Some(equals) = pair.iter().position(|b| *b == b'=') else { return false };
        // One letter or digit may be a page or a switch; a key has more.
        pair.len() - equals > 4 && PARAMETERS.iter().any(|name| pair[..equals].eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// Without the punctuation that ends the sentence and not the address.
fn trimmed(value: &[u8]) -> usize {
    // How many brackets of a kind are open at the end; counted once, and only where one ends the address.
    let mut open = [None::<i64>; 3];
    let mut length = value.len();
    while length > 0 {
        let (which, opening, closing) = match value[length - 1] {
            b'.' | b',' | b';' | b':' | b'!' | b'?' | b'\'' | b'*' | b'`' | b'|' => {
                length -= 1;
                continue;
            }
            b')' => (0, b'(', b')'),
            b']' => (1, b'[', b']'),
            b'}' => (2, b'{', b'}'),
            _ => break,
        };
        let count = || value.iter().map(|b| i64::from(*b == opening) - i64::from(*b == closing)).sum();
        let open = open[which].get_or_insert_with(count);
        if *open >= 0 {
            break;
        }
        *open += 1;
        length -= 1;
    }
    length
}

/// `example.com`, `www.example.com/x`, `bit.ly/x`: at the first dot inside a word. By a list of top-level domains, since
/// any two words may meet at a full stop. And hardware addresses with dots.
pub(super) fn dot(scan: &mut Scan<'_>, at: usize) -> usize {
    let alphanumeric = |b: u8| b.is_ascii_alphanumeric();
    if at < scan.refused_until || !alphanumeric(scan.before(at)) || !alphanumeric(scan.byte(at + 1)) {
        return at + 1;
    }
    if at >= scan.floor + 4
        && scan.byte(at + 5) == b'.'
        && let Some(found) = mac(scan, at - 4)
    {
        return scan.push(found);
    }
    match domain(scan, at) {
        Some(found) => scan.push(found),
        None => at + 1,
    }
}

fn domain(scan: &mut Scan<'_>, at: usize) -> Option<Found> {
    let bytes = scan.bytes;
    let least = scan.floor.max(at.saturating_sub(63));
    let host = |block: &Block| block.alphanumeric() | block.dash;
    let mut start = at - scan.run_before(host, at, least);
    while bytes[start] == b'-' {
        start += 1;
    }
    let limit = (at + DOMAIN).min(bytes.len());
    let mut host_end = at;
    while host_end < limit && bytes[host_end] == b'.' && bytes.get(host_end + 1).is_some_and(u8::is_ascii_alphanumeric) {
        host_end += 1;
        host_end += scan.run_of(host, host_end, limit - host_end);
    }
    scan.refused_until = host_end;
    // The local part of an address, a name of a program.
    if matches!(scan.byte(host_end), b'@' | b'_' | b'=' | b'(') {
        return None;
    }
    if !scan.wants(Entity::Url) && !scan.wants(Entity::UrlCredentials) || start == at || matches!(scan.before(start), b'@' | b'_' | b'.' | b'-') {
        return None;
    }
    let host = &scan.text[start..host_end];
    let mut end = host_end;
    if scan.byte(end) == b':' {
        let port = bytes[end + 1..].iter().take(6).take_while(|b| b.is_ascii_digit()).count();
        if (1..=5).contains(&port) {
            end += 1 + port;
        }
    }
    if matches!(scan.byte(end), b'/' | b'?' | b'#') {
        end += bytes[end..].iter().take_while(|b| is(**b, URL)).count();
    }
    let end = start + trimmed(&bytes[start..end]);
    let last = host.rsplit('.').next()?;
    let top = last.as_bytes();
    // `Ph.De`: a capital after the stop begins a sentence, unless all is in capitals.
    let sentence = last.starts_with(|c: char| c.is_ascii_uppercase()) && host.bytes().any(|b| b.is_ascii_lowercase());
    let path = end > host_end + 1;
    let www = host.len() > 4 && host.as_bytes()[..4].eq_ignore_ascii_case(b"www.") && top.iter().all(u8::is_ascii_alphabetic);
    let known = TOP_LEVEL.has_lower(last) && (!sentence || last.eq_ignore_ascii_case("com"));
    let accepted = www
        || known
        || path
            && (WORDLIKE.has_lower(last)
                || top.len() == 2
                    && top.iter().all(u8::is_ascii_alphabetic)
                    && scan.byte(host_end) == b'/'
                    && host.matches('.').count() == 1
                    && !sentence);
    if !accepted {
        return None;
    }
    let found = web(scan, start, start, end)?;
    // Right below what has its shape as well: of a number and a bare domain that overlap, the number stays.
    Some(found.less_sure(0.16))
}

/// Four octets; no version and no part of a longer dotted number.
pub(super) fn ipv4(scan: &Scan<'_>, window: &Window) -> Option<Found> {
    // No octet has a zero before its first digit (RFC 6943, 3.1.1).
    let octet = |k: usize| window.size(k) <= 3 && window.value(k) <= 255 && (window.size(k) == 1 || window.digits(k + 1)[window.count(k)] != 0);
    if !scan.wants(Entity::IpAddress) || !window.joined_by(scan.bytes, 4, b".") || !(0..4).all(octet) {
        return None;
    }
    let (start, end) = (window.start(), window.end(4));
    let longer = scan.byte(end) == b'.' && scan.byte(end + 1).is_ascii_digit() || scan.before(start) == b'.';
    let before = scan.before(start);
    if longer || scan.byte(end).is_ascii_alphabetic() && scan.byte(end) != b'x' || matches!(before, b'v' | b'V') && start > scan.floor {
        return None;
    }
    let context = scan.context(start);
    let version = context.nearest & kind::VERSION != 0 && context.gap <= 4;
    (!version).then_some(Found::new(Entity::IpAddress, start, end, 0.9, Verdict::Valid))
}
