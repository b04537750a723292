//! How far a stage is: reported to a terminal bar, a JSON line or nobody.

use crate::error::Result;

/// Receives progress, and says when to stop.
pub trait Progress: Send + Sync {
    /// `done` of `total` (0: not known) `unit`s; `detail` is a short text such as `loss 0.61`.
    fn advance(&self, done: u64, total: u64, unit: &str, detail: &str);

    /// A line for people: a warning, a reason. Never a row's text.
    fn note(&self, text: &str);

    /// An error once the user or the system asked to stop; stages call it between units of work.
    fn check(&self) -> Result<()>;
}

/// Reports to nobody and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _: u64, _: u64, _: &str, _: &str) {}

    fn note(&self, _: &str) {}

    fn check(&self) -> Result<()> {
        Ok(())
    }
}
