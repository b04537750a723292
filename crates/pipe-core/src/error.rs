//! One error type for everything that ends a command: what happened, why, what to do, and the exit code.
//!
//! No message may quote a row's text. Values from the pipeline file, paths and counts are fine.

use std::cell::Cell;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Who has to act on an error; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A fault of pipe's own.
    Internal,
    /// The command line or the pipeline file is wrong.
    Usage,
    /// A stage failed.
    Stage,
    /// A gate was not met.
    Gate,
    /// An input is missing or too many of its rows are bad.
    Input,
    /// Another run holds the pipeline and `--overlap skip` was asked for.
    Skipped,
    /// The deadline: what was done is kept.
    Deadline,
    /// SIGINT: what was done is kept.
    Interrupted,
    /// SIGTERM: what was done is kept.
    Terminated,
}

impl Class {
    /// The process exit code of this class, as documented in the README.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Internal => 1,
            Class::Usage => 2,
            Class::Stage => 10,
            Class::Gate => 11,
            Class::Input => 12,
            Class::Skipped => 20,
            Class::Deadline => 75,
            Class::Interrupted => 130,
            Class::Terminated => 143,
        }
    }
}

impl Class {
    /// Asked to stop, by a signal or the deadline: no failure, and the next run goes on.
    pub fn is_stop(self) -> bool {
        matches!(self, Class::Deadline | Class::Interrupted | Class::Terminated)
    }
}

/// An error with its class, its cause chain flattened to text, and a hint.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Error {
    pub class: Class,
    /// Lower case, completes "failed: …".
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// A multi-line rendering (source excerpt with carets) shown instead of `message` on a terminal.
    #[serde(skip)]
    pub rendered: Option<String>,
}

/// The result of everything that can end a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Error { class, message: message.into(), hint: None, rendered: None }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Class::Internal, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Class::Usage, message)
    }

    pub fn stage(message: impl Into<String>) -> Self {
        Error::new(Class::Stage, message)
    }

    pub fn gate(message: impl Into<String>) -> Self {
        Error::new(Class::Gate, message)
    }

    pub fn input(message: impl Into<String>) -> Self {
        Error::new(Class::Input, message)
    }

    /// Says which row it is about.
    #[must_use]
    pub fn of_row(mut self, id: &str) -> Self {
        self.message = format!("row {id}: {}", self.message);
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// An I/O failure on `path`; says which path and, for a full disk, what to do.
    pub fn io(doing: &str, path: &Path, error: std::io::Error) -> Self {
        let e = Error::stage(format!("cannot {doing} {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                e.hint("free some space or point --cache-dir at a larger disk; finished stages are kept, the next run goes on from there")
            }
            std::io::ErrorKind::PermissionDenied => e.hint("check who owns the file and its folder"),
            _ => e,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Adds what was being done, and on which path, to an I/O error.
pub trait IoContext<T> {
    /// Completes "cannot … PATH".
    fn doing(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn doing(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::io(doing, path, e))
    }
}

thread_local! {
    /// A panic of this thread is caught and told otherwise.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives, or nothing where it panics: for libraries that do so on damaged files. What `work` changes must not
/// be used after a panic.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = EXPECTED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(before);
    result.ok()
}

/// Panics tell where they happened and nothing else: their messages can quote the text at hand.
pub fn hide_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if EXPECTED.get() {
            return;
        }
        let place = panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        // `eprintln!` would panic where standard error cannot be written, within a panic.
        let _ = writeln!(std::io::stderr(), "internal error{place}; please report it");
    }));
}
