//! SIGINT and SIGTERM: the first asks to stop and keeps what was done, a second SIGINT ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pipe_core::{Class, Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Says whether a stop was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
}

impl Signals {
    pub(crate) fn install() -> Result<Signals> {
        let signals = Signals { interrupt: Arc::default(), terminate: Arc::default() };
        let failed = |e: std::io::Error| Error::internal(format!("cannot handle signals: {e}"));
        // Registered first, so that it sees the flag of an earlier SIGINT, not of this one.
        signal_hook::flag::register_conditional_shutdown(SIGINT, i32::from(Class::Interrupted.exit_code()), Arc::clone(&signals.interrupt))
            .map_err(failed)?;
        signal_hook::flag::register(SIGINT, Arc::clone(&signals.interrupt)).map_err(failed)?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&signals.terminate)).map_err(failed)?;
        Ok(signals)
    }

    /// The error to end with, once a stop was asked for.
    pub(crate) fn check(&self) -> Result<()> {
        let stop =
            |class, name| Err(Error::new(class, format!("stopped by {name}")).hint("what was finished is kept: run the same command to go on"));
        if self.interrupt.load(Ordering::Relaxed) {
            return stop(Class::Interrupted, "SIGINT");
        }
        if self.terminate.load(Ordering::Relaxed) {
            return stop(Class::Terminated, "SIGTERM");
        }
        Ok(())
    }
}
