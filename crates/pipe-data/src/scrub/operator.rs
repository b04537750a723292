//! What takes a value's place.

use std::borrow::Cow;
use std::fmt::Write;

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use pipe_core::config::{Operator, OperatorConfig};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Entity;
use super::canonical::{canonical, folded};
use super::key::{HMAC, SEAL, SURROGATE, ScrubKey};
use super::surrogate::fake;
use super::token::{HMAC_LETTERS, SEALED, SURROGATE_LETTERS, letters};

/// What kind of value it is.
pub(super) struct Kind<'k> {
    /// None for a whole column.
    pub(super) entity: Option<Entity>,
    /// Kept apart by keyed operators: the type's name, or the column's with a mark before it.
    pub(super) domain: Cow<'k, str>,
    /// `PHONE`: the placeholder without its brackets.
    pub(super) label: Cow<'k, str>,
}

/// Carries out operators, with the subkeys of one key.
pub(super) struct Operators(Option<Subkeys>);

struct Subkeys {
    hmac: Hmac<Sha256>,
    surrogate: Zeroizing<[u8; 32]>,
    sealer: Sealer,
}

impl Operators {
    pub(super) fn new(key: Option<&ScrubKey>) -> Operators {
        Operators(key.map(|key| {
            let hmac = Hmac::new_from_slice(key.derive(HMAC).as_slice()).expect("a key of any length will do");
            Subkeys { hmac, surrogate: key.derive(SURROGATE), sealer: Sealer::new(key) }
        }))
    }

    /// Writes what takes the place of `value`. An operator that leaves a row out writes a placeholder.
    pub(super) fn replace(&self, operator: OperatorConfig, kind: &Kind<'_>, value: &str, out: &mut String) {
        let label = &kind.label;
        // A policy whose operators need a key is not applied without one; see `ScrubPolicy::check_key`.
        let keyed = self.0.as_ref().filter(|_| operator.operator.needs_key());
        match (operator.operator, keyed) {
            (Operator::Keep, _) => out.push_str(value),
            (Operator::Redact, _) => {}
            (Operator::Mask, _) => mask(value, operator.keep_last, out),
            (Operator::Hmac, Some(keys)) => {
                let mac = keys.hmac.clone().chain_update(kind.domain.as_bytes()).chain_update([0]).chain_update(kind.canonical(value).as_bytes());
                let _ = write!(out, "<{label}:");
                out.extend(letters(&mac.finalize().into_bytes(), HMAC_LETTERS));
                out.push('>');
            }
            (Operator::Surrogate, Some(keys)) => {
                let canonical = kind.canonical(value);
                let mut hasher = blake3::Hasher::new_keyed(&keys.surrogate);
                let random: [u8; 32] = hasher.update(kind.domain.as_bytes()).update(&[0]).update(canonical.as_bytes()).finalize().into();
                match kind.entity.and_then(|entity| fake(entity, value, &canonical, &random)) {
                    Some(fake) => out.push_str(&fake),
                    None => {
                        let _ = write!(out, "<{label}_");
                        out.extend(letters(&random, SURROGATE_LETTERS).map(|c| c.to_ascii_uppercase()));
                        out.push('>');
                    }
                }
            }
            (Operator::Seal, Some(keys)) => {
                let _ = write!(out, "<{label}{SEALED}");
                URL_SAFE_NO_PAD.encode_string(keys.sealer.seal(label, value), out);
                out.push('>');
            }
            (Operator::Placeholder | Operator::DropRow | Operator::Hmac | Operator::Surrogate | Operator::Seal, _) => {
                out.push('<');
                out.push_str(label);
                out.push('>');
            }
        }
    }

    pub(super) fn sealer(&self) -> Option<&Sealer> {
        self.0.as_ref().map(|keys| &keys.sealer)
    }
}

impl Kind<'_> {
    fn canonical(&self, value: &str) -> String {
        self.entity.map_or_else(|| folded(value), |entity| canonical(entity, value))
    }
}

/// A `*` for each letter and digit but the last `keep_last`; separators stay. All of them where that would leave the
/// whole value.
fn mask(value: &str, keep_last: usize, out: &mut String) {
    let count = value.chars().filter(|c| c.is_alphanumeric()).count();
    let mut hidden = if keep_last < count { count - keep_last } else { count };
    for c in value.chars() {
        if c.is_alphanumeric() && hidden > 0 {
            hidden -= 1;
            out.push('*');
        } else {
            out.push(c);
        }
    }
}

/// AES-256 in SIV mode (RFC 5297): deterministic, so that equal values stay equal; the associated data is the label of
/// the value's type, so that a token of one type is none of another.
pub(super) struct Sealer(Zeroizing<[u8; 64]>);

impl Sealer {
    pub(super) fn new(key: &ScrubKey) -> Sealer {
        Sealer(key.derive_long(SEAL))
    }

    fn cipher(&self) -> Aes256Siv {
        let key: &[u8; 64] = &self.0;
        Aes256Siv::new(key.into())
    }

    fn seal(&self, label: &str, value: &str) -> Vec<u8> {
        self.cipher().encrypt([label.as_bytes()], value.as_bytes()).expect("one header, and memory for a copy")
    }

    /// The value of a sealed token; none where it was sealed with another key, or is no sealed value at all.
    pub(super) fn open(&self, label: &str, code: &str) -> Option<Zeroizing<String>> {
        let sealed = URL_SAFE_NO_PAD.decode(code).ok()?;
        let value = self.cipher().decrypt([label.as_bytes()], &sealed).ok()?;
        String::from_utf8(value).ok().map(Zeroizing::new)
    }
}
