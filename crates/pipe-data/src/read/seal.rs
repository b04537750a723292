//! Raw bytes of rejected records, sealed to a key whose secret half is elsewhere.
//!
//! A sealed record is libsodium's sealed box (`crypto_box_seal`: X25519, XSalsa20-Poly1305, see
//! <https://doc.libsodium.org/public-key_cryptography/sealed_boxes>): an ephemeral public key of 32 bytes, then the
//! encrypted bytes with their tag of 16. Its ephemeral secret is derived from a secret of the sealing side and the bytes,
//! instead of drawn, so that the same input gives the same output; equal records are equal when sealed, as their digests are.
//!
//! Keys are text: `pipe-recipient-` or `pipe-secret-`, and 72 hexadecimal digits, of which the last 8 are a checksum.

use crypto_box::aead::OsRng;
use crypto_box::aead::rand_core::{CryptoRng, Error as RandomError, RngCore};
use crypto_box::{PublicKey, SecretKey};
use pipe_core::{Error, Result};

const RECIPIENT: &str = "pipe-recipient-";
const SECRET: &str = "pipe-secret-";
const KEY_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;

/// Seals to one recipient. No `Debug`: it holds a secret.
pub struct Sealer {
    recipient: PublicKey,
    own_key: [u8; 32],
}

impl Sealer {
    /// `recipient` is a public key as [`generate_recipient`] gives it; `own_key` a secret of whoever seals. It opens
    /// nothing, but who knows it can find out whether a guess is what was sealed.
    pub fn new(recipient: &str, own_key: &[u8; 32]) -> Result<Sealer> {
        Ok(Sealer { recipient: PublicKey::from(decode(RECIPIENT, recipient)?), own_key: *own_key })
    }

    /// The same for the same bytes.
    pub fn seal(&self, raw: &[u8]) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key("pipe sealed record v1", &self.own_key));
        hasher.update(self.recipient.as_bytes()).update(raw);
        let mut derived = Derived(hasher.finalize_xof());
        // It fails on lengths that no record has.
        self.recipient.seal(&mut derived, raw).unwrap_or_default()
    }
}

/// The stream of a keyed BLAKE3 in the place of chance.
struct Derived(blake3::OutputReader);

impl RngCore for Derived {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl CryptoRng for Derived {}

/// A new pair of keys: the secret one, which opens, and the public one, for `rejects.recipient`.
pub fn generate_recipient() -> (String, String) {
    let secret = SecretKey::generate(&mut OsRng);
    (encode(SECRET, &secret.to_bytes()), encode(RECIPIENT, secret.public_key().as_bytes()))
}

/// The raw bytes of a record that was sealed to the public half of `secret`.
pub fn unseal_record(secret: &str, sealed: &[u8]) -> Result<Vec<u8>> {
    let secret = SecretKey::from(decode(SECRET, secret)?);
    secret.unseal(sealed).map_err(|_| {
        Error::input("a sealed record cannot be opened with this key").hint("it was sealed to another `rejects.recipient`, or is damaged")
    })
}

fn checksum(prefix: &str, key: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(prefix.as_bytes()).update(key);
    let mut check = [0; CHECK_BYTES];
    hasher.finalize_xof().fill(&mut check);
    check
}

fn encode(prefix: &str, key: &[u8; KEY_BYTES]) -> String {
    format!("{prefix}{}{}", to_hex(key), to_hex(&checksum(prefix, key)))
}

/// No error shows the text: it may be a secret.
fn decode(prefix: &str, text: &str) -> Result<[u8; KEY_BYTES]> {
    let what = if prefix == SECRET { "secret key" } else { "recipient" };
    let Some(digits) = text.trim().strip_prefix(prefix) else {
        let other = if prefix == SECRET { RECIPIENT } else { SECRET };
        let hint = match text.trim().starts_with(other) {
            true if prefix == RECIPIENT => {
                "this is a secret key: keep it to yourself, and give the other line that `pipe keygen --recipient` printed"
            }
            true => "this is the public half; what it seals is opened with the secret one",
            false => "`pipe keygen --recipient` makes a pair of keys",
        };
        return Err(Error::usage(format!("the {what} does not begin with `{prefix}`")).hint(hint));
    };
    let bytes = from_hex(digits).filter(|bytes| bytes.len() == KEY_BYTES + CHECK_BYTES);
    let key: Option<[u8; KEY_BYTES]> = bytes.and_then(|bytes| {
        let (key, check) = bytes.split_at(KEY_BYTES);
        (checksum(prefix, key) == check).then(|| key.try_into().ok())?
    });
    key.ok_or_else(|| Error::usage(format!("the {what} is mistyped or incomplete: its checksum does not fit")).hint("copy the whole line again"))
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

/// Bytes as text in JSON.
pub(super) mod as_hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| super::to_hex(bytes)).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::from_hex(&text).ok_or_else(|| D::Error::custom("not hexadecimal"))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_half_opens_and_the_same_bytes_are_sealed_alike() {
        let (secret, public) = generate_recipient();
        let (other, _) = generate_recipient();
        let sealer = Sealer::new(&public, &[7; 32]).unwrap();
        for raw in [&b""[..], b"13800000000,\xff\x00", &[7; 100_000]] {
            let sealed = sealer.seal(raw);
            assert_eq!(sealed.len(), raw.len() + 48);
            assert_eq!(sealed, Sealer::new(&public, &[7; 32]).unwrap().seal(raw));
            assert_ne!(sealed, Sealer::new(&public, &[8; 32]).unwrap().seal(raw));
            assert_eq!(unseal_record(&secret, &sealed).unwrap(), raw);
            assert!(unseal_record(&other, &sealed).is_err());
            assert!(unseal_record(&secret, &sealed[1..]).is_err());
            assert!(unseal_record(&secret, &[]).is_err());
        }
    }

    /// RFC 7748, section 6.1: Alice's keys.
    #[test]
    fn keys_are_those_of_x25519() {
        let alice = from_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a").unwrap();
        let public = SecretKey::from(<[u8; 32]>::try_from(alice).unwrap()).public_key();
        assert_eq!(to_hex(public.as_bytes()), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    }

    #[test]
    fn a_wrong_key_is_told_without_showing_it() {
        let (secret, public) = generate_recipient();
        let mistyped = public.replacen(|c: char| c.is_ascii_digit(), "f", 1);
        for (text, word) in [(secret.as_str(), "secret"), (mistyped.as_str(), "copy"), ("", "keygen"), ("pipe-recipient-éé", "copy")] {
            let error = Sealer::new(text, &[0; 32]).err().unwrap();
            assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(word)), "{error:?}");
            assert!(!format!("{error:?}").contains(&secret[15..]));
        }
        assert!(unseal_record(&public, b"").is_err());
    }
}
