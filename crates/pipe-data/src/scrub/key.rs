//! The secret key of `hmac`, `surrogate` and `seal`: where it is read from, what is derived from it, how it is called.
//!
//! A key's file, and an environment variable that holds one, is a line of text:
//!
//! ```text
//! pipe-key-1:<64 hex digits>
//! ```
//!
//! Everything that is keyed uses a subkey of its own (BLAKE3 `derive_key`), so that no output of one use says anything
//! about another. Artifacts, reports and cache keys name a key by its id, from which nothing can be computed.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use pipe_core::config::KeySource;
use pipe_core::{Error, IoContext, Result};
use zeroize::Zeroizing;

const PREFIX: &str = "pipe-key-1:";
/// A key's file is one line.
const MAX_FILE: u64 = 4096;

/// What keys are derived for. Changing a context changes every token.
const ID: &str = "pipe 2026-11 scrub: key id";
pub(super) const HMAC: &str = "pipe 2026-11 scrub: hmac tokens";
pub(super) const SURROGATE: &str = "pipe 2026-11 scrub: surrogates";
pub(super) const SEAL: &str = "pipe 2026-11 scrub: AES-256-SIV sealing";
pub(super) const ALLOW: &str = "pipe 2026-11 scrub: allowed values";

/// 32 secret bytes, overwritten when dropped. No `Debug`, no `Display`.
#[derive(Clone)]
pub struct ScrubKey(Zeroizing<[u8; 32]>);

impl ScrubKey {
    /// From the system's random source.
    pub fn generate() -> Result<ScrubKey> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| Error::stage("the system gives no random bytes"))?;
        Ok(ScrubKey(bytes))
    }

    /// The key that a pipeline names; a relative path starts at `root`.
    pub fn read(source: &KeySource, root: &Path) -> Result<ScrubKey> {
        match (&source.file, &source.env) {
            (Some(file), _) => ScrubKey::from_file(&root.join(file)),
            (None, Some(name)) => {
                let value = std::env::var(name).map(Zeroizing::new).map_err(|_| {
                    Error::usage(format!("the environment variable {name} holds no key"))
                        .hint(format!("export {name} with what `pipe keygen FILE` wrote to FILE"))
                })?;
                ScrubKey::parse(&value, &format!("the environment variable {name}"))
            }
            (None, None) => Err(Error::usage("a key is in a `file` or in an environment variable (`env`)")),
        }
    }

    /// Refuses a file that others than its owner can read.
    pub fn from_file(path: &Path) -> Result<ScrubKey> {
        let text = read_secret(path)?;
        ScrubKey::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, place: &str) -> Result<ScrubKey> {
        let bad = || Error::usage(format!("{place} holds no key of pipe")).hint("make one with `pipe keygen FILE`");
        let digits = text.trim().strip_prefix(PREFIX).ok_or_else(bad)?;
        decode_hex(digits).map(ScrubKey).ok_or_else(bad)
    }

    /// Writes a new file that its owner alone can read; one that exists is left as it is.
    pub fn write_new(&self, path: &Path) -> Result<()> {
        write_secret(path, &format!("{PREFIX}{}\n", *encode_hex(&self.0)))
    }

    /// What artifacts and reports call it: 8 hex digits.
    pub fn id(&self) -> String {
        blake3::Hash::from(blake3::derive_key(ID, self.0.as_slice())).to_hex()[..8].to_owned()
    }

    /// A subkey for one use, named by a context that is used for nothing else.
    pub fn derive(&self, context: &'static str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, self.0.as_slice()))
    }

    /// The same, of 64 bytes.
    pub(super) fn derive_long(&self, context: &'static str) -> Zeroizing<[u8; 64]> {
        let mut bytes = Zeroizing::new([0; 64]);
        blake3::Hasher::new_derive_key(context).update(self.0.as_slice()).finalize_xof().fill(bytes.as_mut_slice());
        bytes
    }

    #[cfg(test)]
    pub(super) fn of_bytes(bytes: [u8; 32]) -> ScrubKey {
        ScrubKey(Zeroizing::new(bytes))
    }
}

/// The text of a file that its owner alone may read.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::usage(format!("there is no key file {}", path.display())).hint(format!("make one with `pipe keygen {}`", path.display()))
        }
        _ => Error::io("open", path, error),
    })?;
    let stat = file.metadata().doing("read", path)?;
    if !stat.is_file() {
        return Err(Error::usage(format!("{} is not a file", path.display())));
    }
    if stat.permissions().mode() & 0o077 != 0 {
        return Err(Error::usage(format!("others than its owner can read or write the key file {}", path.display()))
            .hint(format!("chmod 600 {}", path.display())));
    }
    let mut text = Zeroizing::new(String::new());
    // The message of invalid UTF-8 quotes nothing.
    file.take(MAX_FILE).read_to_string(&mut text).doing("read", path)?;
    Ok(text)
}

/// A new file that its owner alone may read.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::usage(format!("{} exists and is left as it is", path.display())).hint("what a lost key sealed stays sealed: give another name")
        }
        _ => Error::io("write", path, error),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).doing("write", path)
}

pub(super) fn encode_hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(String::with_capacity(64));
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

pub(super) fn decode_hex(digits: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits: &[u8; 64] = digits.as_bytes().try_into().ok()?;
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_which_nobody_else_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = ScrubKey::generate().unwrap();
        key.write_new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let source = KeySource { file: Some("key".into()), env: None };
        assert_eq!(ScrubKey::read(&source, folder.path()).unwrap().id(), key.id());
        assert_eq!(key.id().len(), 8);
        assert!(key.write_new(&path).unwrap_err().message.contains("left as it is"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = ScrubKey::from_file(&path).err().unwrap();
        assert!(error.hint.unwrap().starts_with("chmod 600 "));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        for text in ["", "hunter2", "pipe-key-1:", "pipe-key-1:00", &format!("pipe-key-1:{}", "x".repeat(64)), &"0".repeat(64)] {
            let error = ScrubKey::parse(text, "FILE").err().unwrap();
            assert_eq!(error.message, "FILE holds no key of pipe");
        }
    }
}
