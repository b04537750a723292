//! The one error type of xtask: what failed, why, and what to do about it.

use std::fmt;
use std::io;
use std::path::Path;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// An error that a person reads and nothing inspects, so it is text: a sentence and a hint.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    hint: Option<String>,
    exit_code: u8,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit_code: 1 }
    }

    /// A command line that makes no sense, which has an exit code of its own, as in `pipe`.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit_code: 2, ..Self::new(message).hint("see `cargo xtask --help`") }
    }

    /// For an I/O error: `failed to {doing} {path}: {cause}`, with a hint where the cause is a full disk.
    pub(crate) fn io(doing: &str, path: &Path, cause: &io::Error) -> Self {
        let error = Self::new(format!("failed to {doing} {}: {cause}", path.display()));
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => error.hint(FREE_SPACE),
            _ => error,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

/// What to do about a full disk, wherever it was noticed.
pub(crate) const FREE_SPACE: &str = "free some space and run the same command again: \
    what was finished is kept, and nothing half-done is left behind";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_comes_with_a_hint() {
        let full = io::ErrorKind::StorageFull.into();
        let error = Error::io("write", Path::new("a/b"), &full).to_string();
        assert!(error.starts_with("error: failed to write a/b: "), "{error}");
        assert!(error.contains("hint: free some space"), "{error}");
    }
}
