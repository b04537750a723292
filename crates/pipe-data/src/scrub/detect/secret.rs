//! Keys, tokens and passwords: by the prefixes that their issuers give them, by their format, by the word before them.

use std::sync::LazyLock;

use super::super::{Entity, Verdict};
use super::bits::Block;
use super::context::{Context, kind};
use super::number::Window;
use super::scan::{Found, Scan};
use super::sets::Lower;

/// A prefix, and how many characters must follow it at least.
const PREFIXES: &[(&str, usize)] = &[
    // OpenAI and Anthropic.
    ("sk-ant-", 16),
    ("sk-proj-", 16),
    ("sk-svcacct-", 16),
    ("sk-admin-", 16),
    ("sk-or-v1-", 16),
    ("sk-", 20),
    // GitHub and GitLab.
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("ghr_", 30),
    ("github_pat_", 22),
    ("glpat-", 16),
    ("gldt-", 16),
    ("glrt-", 16),
    // AWS, Google, Azure, Alibaba, Tencent.
    ("AKIA", 16),
    ("ASIA", 16),
    ("AROA", 16),
    ("AIDA", 16),
    ("ABIA", 16),
    ("AIza", 30),
    ("ya29.", 20),
    ("GOCSPX-", 20),
    ("LTAI", 12),
    ("AKID", 28),
    // Slack, Stripe, Square, Twilio, SendGrid, Mailgun, Shopify.
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("xapp-", 10),
    ("sk_live_", 10),
    ("sk_test_", 10),
    ("rk_live_", 10),
    ("rk_test_", 10),
    ("pk_live_", 10),
    ("pk_test_", 10),
    ("whsec_", 16),
    ("sq0atp-", 20),
    ("sq0csp-", 20),
    ("SG.", 40),
    ("shpat_", 30),
    ("shpss_", 30),
    ("key-", 32),
    // Package registries and hosts.
    ("npm_", 30),
    ("pypi-", 40),
    ("dckr_pat_", 20),
    ("hf_", 30),
    ("dop_v1_", 40),
    ("rubygems_", 40),
    ("lin_api_", 30),
    ("figd_", 30),
    ("sntrys_", 30),
    ("nvapi-", 40),
    ("gsk_", 40),
    ("r8_", 30),
    ("tfp_", 30),
    ("hvs.", 20),
    ("PMAK-", 40),
    ("EAACEdEose0cBA", 10),
    ("AGE-SECRET-KEY-1", 50),
    ("glsa_", 30),
    ("dapi", 32),
    ("secret_", 40),
    ("ntn_", 30),
    ("xai-", 40),
    ("pplx-", 40),
    ("FLWSECK_TEST-", 10),
    ("SK", 32),
    ("AC", 32),
];

/// The prefixes by the byte that they begin with, in their order.
static BY_FIRST: LazyLock<[Vec<(&str, usize)>; 256]> = LazyLock::new(|| {
    let mut by_first = [const { Vec::new() }; 256];
    PREFIXES.iter().for_each(|(prefix, least)| by_first[usize::from(prefix.as_bytes()[0])].push((*prefix, *least)));
    by_first
});

fn token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

/// A key around a digit run, by its prefix.
pub(super) fn token(scan: &mut Scan<'_>, at: usize) -> Option<Found> {
    if !scan.wants(Entity::Secret) || at < scan.refused_until {
        return None;
    }
    let least = scan.floor.max(at.saturating_sub(96));
    let start = at - scan.run_before(Block::token, at, least);
    let end = at + scan.run_of(Block::token, at, 512);
    // The shortest key with its prefix.
    if end - start < 14 && scan.before(start) != b'.' {
        return None;
    }
    // A key of another key's kind: `KEY-AKIA…` has its prefix behind a dash.
    let word = at - scan.run_before(Block::alphanumeric, at, start);
    if let Some(found) = json_web_token(scan, if scan.bytes[start..].starts_with(b"eyJ") { start } else { word }) {
        return Some(found);
    }
    let by_first = |at: usize| BY_FIRST[usize::from(scan.bytes[at])].as_slice();
    if by_first(start).is_empty() && by_first(word).is_empty() && scan.before(start) != b'.' {
        if end - start > 64 {
            scan.refused_until = end;
        }
        return None;
    }
    for begin in [start, word].into_iter().take(if word == start { 1 } else { 2 }) {
        let value = &scan.bytes[begin..end];
        let fits = |prefix: &str, least: usize| value.len() >= prefix.len() + least && value.starts_with(prefix.as_bytes());
        if let Some((prefix, _)) = by_first(begin).iter().find(|(prefix, least)| fits(prefix, *least)) {
            let body = &value[prefix.len()..];
            // Short prefixes of letters alone begin words too.
            let letters = prefix.bytes().all(|b| b.is_ascii_alphabetic());
            let strict = !letters
                || body.iter().all(u8::is_ascii_alphanumeric) && body.len() <= 48 && (prefix.len() > 2 || body.iter().all(u8::is_ascii_hexdigit));
            let mixed = body.iter().any(u8::is_ascii_digit);
            if strict && mixed {
                let mut end = end;
                // Some keys go on behind a dot.
                while scan.byte(end) == b'.' && token_byte(scan.byte(end + 1)) && prefix.ends_with('.') {
                    end += 1 + scan.bytes[end + 1..].iter().take(512).take_while(|b| token_byte(**b)).count();
                }
                return Some(Found::new(Entity::Secret, begin, end, 0.98, Verdict::Format));
            }
        }
    }
    // `SG.` and `ya29.` have their dot before the digits.
    if scan.before(start) == b'.' && start > scan.floor + 2 {
        for prefix in ["SG.", "ya29.", "hvs."] {
            if scan.bytes[scan.floor..start].ends_with(prefix.as_bytes()) && end - start >= 20 {
                let mut end = end;
                while scan.byte(end) == b'.' && token_byte(scan.byte(end + 1)) {
                    end += 1 + scan.bytes[end + 1..].iter().take(512).take_while(|b| token_byte(**b)).count();
                }
                return Some(Found::new(Entity::Secret, start - prefix.len(), end, 0.98, Verdict::Format));
            }
        }
    }
    if end - start > 64 {
        scan.refused_until = end;
    }
    None
}

/// Three parts of base64url, the first of which is JSON with an algorithm (RFC 7519).
fn json_web_token(scan: &Scan<'_>, start: usize) -> Option<Found> {
    if !scan.bytes[start..].starts_with(b"eyJ") {
        return None;
    }
    let part = |from: usize| from + scan.bytes[from.min(scan.bytes.len())..].iter().take(8192).take_while(|b| token_byte(**b)).count();
    let header = part(start);
    let claims = part(header + 1);
    if scan.byte(header) != b'.' || scan.byte(claims) != b'.' || claims - header < 8 {
        return None;
    }
    let end = part(claims + 1);
    let json = base64(&scan.bytes[start..header])?;
    let named = json.starts_with(b"{") && json.windows(5).any(|window| window == b"\"alg\"");
    named.then_some(Found::new(Entity::Secret, start, end, 0.99, Verdict::Valid))
}

/// base64url without padding (RFC 4648), of a header's length.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > 1024 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for b in text {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

/// A PEM block (RFC 7468) of a private key, with its end. Keys have a few kilobytes at most.
pub(super) fn private_key(scan: &mut Scan<'_>, at: usize) -> usize {
    const BEGIN: &[u8] = b"-----BEGIN ";
    if !scan.wants(Entity::Secret) || !scan.bytes[at..].starts_with(BEGIN) {
        return at + 1;
    }
    let rest = &scan.bytes[at..(at + 16_384).min(scan.bytes.len())];
    let label = rest[BEGIN.len()..].iter().take(48).position(|b| *b == b'-').unwrap_or(0);
    let label = &rest[BEGIN.len()..BEGIN.len() + label];
    if !label.windows(11).any(|window| window == b"PRIVATE KEY") || at < scan.refused_until {
        return at + BEGIN.len();
    }
    match memchr::memmem::find(&rest[BEGIN.len()..], b"-----END ") {
        Some(end) => {
            let end = BEGIN.len() + end + b"-----END ".len();
            let close = rest[end..].iter().take(64).position(|b| *b == b'-').unwrap_or(0);
            let dashes = rest[end + close..].iter().take(5).take_while(|b| **b == b'-').count();
            scan.push(Found::new(Entity::Secret, at, at + end + close + dashes, 1.0, Verdict::Format))
        }
        None => {
            // No other block ends in what was just read.
            scan.refused_until = at + rest.len();
            at + BEGIN.len()
        }
    }
}

/// The words before a colon or an equals sign whose value is secret.
const LABELS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "passcode",
    "secret",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "authtoken",
    "accesstoken",
    "token",
    "key",
    "credential",
    "credentials",
    "authorization",
    "bearer",
    "pass",
    "clientsecret",
    "masterkey",
    "encryptionkey",
    "signingkey",
    "pin",
];

/// `api_key = "…"`, `password: …`. Where the pass goes on: behind the value, if there is one.
pub(super) fn labelled(scan: &mut Scan<'_>, label: &[u8], behind: usize) -> usize {
    if !scan.wants(Entity::Secret) {
        return behind;
    }
    // What every label ends in.
    if !matches!(label[label.len() - 1], b'd' | b'e' | b't' | b'y' | b'n' | b's' | b'l' | b'r') {
        return behind;
    }
    let Some(label) = LABELS.iter().find(|known| label.ends_with(known.as_bytes())) else { return behind };
    let Some((start, end, quoted)) = value_behind(scan, behind) else { return behind };
    let certain = matches!(*label, "password" | "passwd" | "pwd" | "passphrase" | "passcode" | "pass" | "pin");
    if looks_secret(&scan.bytes[start..end], certain, quoted) {
        scan.push(Found::new(Entity::Secret, start, end, 0.85, Verdict::Context))
    } else {
        behind
    }
}

/// The word before a sign, its letters in lower case without what joins them: `API_KEY` is `apikey`.
pub(super) fn word_before(scan: &Scan<'_>, at: usize) -> Option<Lower> {
    let mut end = at;
    while end > scan.floor && at - end < 4 && matches!(scan.bytes[end - 1], b' ' | b'"' | b'\'' | b'\t' | b':' | b'*') {
        end -= 1;
    }
    let start = end - scan.run_before(|block| block.alpha | block.low | block.dash | block.dot, end, scan.floor.max(end.saturating_sub(32)));
    let word = Lower::letters(&scan.bytes[start..end]);
    (word.as_bytes().len() >= 2).then_some(word)
}

/// The value behind a sign: to the closing quote, or to a blank or what ends a clause.
fn value_behind(scan: &Scan<'_>, behind: usize) -> Option<(usize, usize, bool)> {
    let mut start = behind;
    while start - behind < 4 && matches!(scan.byte(start), b' ' | b'\t' | b'=' | b'>') {
        start += 1;
    }
    for scheme in [b"bearer ".as_slice(), b"basic ", b"token "] {
        if scan.bytes.get(start..start + scheme.len()).is_some_and(|word| word.eq_ignore_ascii_case(scheme)) {
            start += scheme.len();
        }
    }
    let quote = scan.byte(start);
    let quoted = matches!(quote, b'"' | b'\'' | b'`');
    if quoted {
        start += 1;
    }
    let ends =
        |b: u8| if quoted { b == quote || b == b'\n' } else { !(0x21..0x7f).contains(&b) || matches!(b, b'"' | b'\'' | b',' | b';' | b'<' | b'`') };
    let length = scan.bytes[start..].iter().take(512).take_while(|b| !ends(**b)).count();
    let mut end = start + length;
    if !scan.text.is_char_boundary(end) {
        return None;
    }
    while !quoted && end > start && matches!(scan.bytes[end - 1], b'.' | b')' | b']' | b'}' | b'?' | b':') {
        end -= 1;
    }
    (end > start).then_some((start, end, quoted))
}

/// A word of a sentence is no secret: digits, signs or mixed cases are wanted, and of tokens a length too.
fn looks_secret(value: &[u8], certain: bool, quoted: bool) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let signs = value
        .iter()
        .filter(|b| b.is_ascii_punctuation() && !matches!(b, b'.' | b'-' | b'_' | b'/' | b'(' | b')' | b'[' | b']' | b'<' | b'{' | b'}'))
        .count();
    let inner_capital = value.iter().skip(1).any(u8::is_ascii_uppercase) && value.iter().any(u8::is_ascii_lowercase);
    let reference = value.starts_with(b"$") || value.starts_with(b"{") || value.starts_with(b"<") || value.starts_with(b"http");
    if reference || value.iter().all(|b| matches!(b, b'*' | b'x' | b'X' | b'.' | b'-')) {
        return false;
    }
    if certain {
        return value.len() >= 4 && (digits > 0 || signs > 0 || inner_capital || quoted && value.len() >= 6 && !value.contains(&b' '));
    }
    value.len() >= 12 && !value.contains(&b' ') && letters > 0 && (digits >= 2 || inner_capital && value.len() >= 20) && entropy(value) >= 2.8
}

/// Shannon entropy in bits a byte.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    value.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let n = value.len() as f64;
    counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / n).map(|p| -p * p.log2()).sum()
}

/// `my password is hunter2`: around a digit run.
pub(super) fn beside_words(scan: &Scan<'_>, window: &Window, context: Context) -> Option<Found> {
    if !scan.wants(Entity::Secret) || context.nearest & kind::SECRET == 0 || context.gap > 8 {
        return None;
    }
    let start_least = scan.floor.max(window.start().saturating_sub(64));
    let mut start = window.start();
    while start > start_least && (0x21..0x7f).contains(&scan.bytes[start - 1]) && !matches!(scan.bytes[start - 1], b'"' | b'\'' | b':' | b'=') {
        start -= 1;
    }
    let (start, end, quoted) = value_behind(scan, start)?;
    (end > window.start() && looks_secret(&scan.bytes[start..end], true, quoted)).then_some(Found::new(
        Entity::Secret,
        start,
        end,
        0.7,
        Verdict::Context,
    ))
}

/// `密码：…`, `密码是…`, `口令…`, at the first character of the word.
pub(super) fn chinese_password(scan: &mut Scan<'_>, at: usize) {
    let rest = &scan.text[at..];
    let Some(word) = ["密码", "密碼", "密钥", "口令"].iter().find(|word| rest.starts_with(**word)) else { return };
    let mut behind = at + word.len();
    for mark in ["是", "为", "：", ":", "=", " ", "：", "「", "“"] {
        if scan.text[behind..].starts_with(mark) {
            behind += mark.len();
        }
    }
    if let Some((start, end, quoted)) = value_behind(scan, behind)
        && looks_secret(&scan.bytes[start..end], true, quoted)
    {
        scan.push(Found::new(Entity::Secret, start, end, 0.85, Verdict::Context));
    }
}
