//! Source files of an ingest stage: is all there that should be, and has it arrived?

use std::time::SystemTime;

use pipe_core::cache::SourceNote;
use pipe_core::config::{HumanDuration, SourceConfig};
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Result};

/// Refuses input that is still arriving: too few files, or files written to a moment ago.
pub(crate) fn check_arrival(config: &SourceConfig, sources: &[SourceFile], notes: &[SourceNote]) -> Result<()> {
    if let Some(least) = config.min_files.filter(|least| sources.len() < *least) {
        let found = sources.len();
        return Err(Error::input(format!("{found} source files are there, `min_files` asks for {least}"))
            .hint("run again once all have arrived; nothing was run"));
    }
    let Some(HumanDuration(settle)) = config.settle else { return Ok(()) };
    let now = SystemTime::now();
    for (source, note) in sources.iter().zip(notes) {
        let written = std::fs::metadata(&source.path).and_then(|stat| stat.modified()).doing("read", &source.path)?;
        // A time in the future is a clock that differs, and says nothing of rest.
        let rested = now.duration_since(written).unwrap_or_default();
        if rested < settle {
            let (since, settle) = (rested.as_secs(), HumanDuration(settle));
            return Err(Error::input(format!("{} was written to {since} s ago, `settle` asks for {settle} of rest", note.name))
                .hint("it may still be arriving: run again later; nothing was run"));
        }
    }
    Ok(())
}
