//! What ends a run early: SIGINT, SIGTERM and the deadline. The first asks to stop and keeps what was done, a second SIGINT
//! ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pipe_core::config::HumanDuration;
use pipe_core::{Class, Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Says whether a stop was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
    deadline: Option<(Instant, HumanDuration)>,
}

impl Signals {
    pub(crate) fn install() -> Result<Signals> {
        let signals = Signals { interrupt: Arc::default(), terminate: Arc::default(), deadline: None };
        let failed = |e: std::io::Error| Error::internal(format!("cannot handle signals: {e}"));
        // Registered first, so that it sees the flag of an earlier SIGINT, not of this one.
        signal_hook::flag::register_conditional_shutdown(SIGINT, i32::from(Class::Interrupted.exit_code()), Arc::clone(&signals.interrupt))
            .map_err(failed)?;
        signal_hook::flag::register(SIGINT, Arc::clone(&signals.interrupt)).map_err(failed)?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&signals.terminate)).map_err(failed)?;
        // A terminal that was closed, or a connection that broke; not where `nohup` said that this is to be ignored.
        if !is_ignored(SIGHUP) {
            signal_hook::flag::register(SIGHUP, Arc::clone(&signals.terminate)).map_err(failed)?;
        }
        Ok(signals)
    }

    /// The run stops `deadline` after `started`.
    #[must_use]
    pub(crate) fn with_deadline(mut self, started: Instant, deadline: Option<HumanDuration>) -> Signals {
        self.deadline = deadline.and_then(|after| Some((started.checked_add(after.0)?, after)));
        self
    }

    /// The error to end with, once a stop was asked for.
    pub(crate) fn check(&self) -> Result<()> {
        let stop =
            |class, by: String| Err(Error::new(class, format!("stopped {by}")).hint("what was finished is kept: run the same command to go on"));
        if self.interrupt.load(Ordering::Relaxed) {
            return stop(Class::Interrupted, "by SIGINT".into());
        }
        if self.terminate.load(Ordering::Relaxed) {
            return stop(Class::Terminated, "by SIGTERM or SIGHUP".into());
        }
        match self.deadline {
            Some((end, after)) if Instant::now() >= end => stop(Class::Deadline, format!("at the deadline of {after}")),
            _ => Ok(()),
        }
    }
}

/// Whether whoever started this process had a signal ignored, from the mask in `/proc/self/status`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
