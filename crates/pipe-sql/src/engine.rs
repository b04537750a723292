//! How polars runs here: on one thread, beside a caller that can be told to stop.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pipe_core::{Error, Progress, Result};
use polars::prelude::PolarsResult;

use crate::error::while_running;

/// Of polars: another one may give other bytes.
pub const VERSION: &str = polars::VERSION;

const MAX_THREADS: &str = "POLARS_MAX_THREADS";

/// Gives polars one thread, whatever the machine has and the environment says, and leaves the environment as it was.
///
/// Partial sums of floats then always come together in the order of the rows. Threads start with the first query; this reads
/// settings alone.
///
/// # Safety
///
/// No other thread may run yet: it changes the environment for a moment.
pub unsafe fn one_thread() {
    let theirs: Vec<_> = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("POLARS_")).collect();
    // SAFETY: the caller promises that nobody else can be reading the environment.
    unsafe {
        theirs.iter().for_each(|(name, _)| std::env::remove_var(name));
        std::env::set_var(MAX_THREADS, "1");
        // Read once, at the first call.
        polars_config::config();
        std::env::remove_var(MAX_THREADS);
        theirs.iter().for_each(|(name, value)| std::env::set_var(name, value));
    }
}

/// Does `work` on a thread of its own, and asks twenty times a second whether to stop. A query cannot be stopped from
/// outside: its thread then goes on until the process ends, which it soon does.
pub(crate) fn watched<T: Send + 'static>(progress: &dyn Progress, work: impl FnOnce() -> PolarsResult<T> + Send + 'static) -> Result<T> {
    let (send, result) = channel();
    std::thread::spawn(move || {
        // A panic is known by the lost channel; its message was hidden by the hook.
        if let Ok(done) = std::panic::catch_unwind(AssertUnwindSafe(work)) {
            let _ = send.send(done);
        }
    });
    loop {
        match result.recv_timeout(Duration::from_millis(50)) {
            Ok(done) => return done.map_err(while_running),
            Err(RecvTimeoutError::Timeout) => progress.check()?,
            Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("the query engine met a fault of its own")),
        }
    }
}
