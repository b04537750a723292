//! Is there room for what a run will write? Judged by what the same stages wrote last time.

use std::collections::BTreeSet;

use pipe_core::cache::{Cache, Latest};
use pipe_core::config::{ByteSize, StageKind};
use pipe_core::{Error, Plan, Result};

/// Fails if the outputs of `steps`, as large as they were last time, do not fit on the cache's disk.
pub(super) fn check_space(cache: &Cache, plan: &Plan<'_>, latest: &Latest, steps: &BTreeSet<usize>) -> Result<()> {
    let mut needed = 0u64;
    for at in steps {
        let stage = plan.steps[*at].stage;
        let Some(record) = latest.stages.get(&stage.name).and_then(|key| cache.key_record(key).ok().flatten()) else { continue };
        let Some(manifest) = pipe_core::cache::Manifest::read(&cache.artifact_path(&record.artifact)) else { continue };
        // A checkpoint holds the weights and two moments of each; two are kept beside the output while a third is written.
        let factor = if stage.config.kind() == StageKind::Train { 10 } else { 1 };
        needed += manifest.size() * factor;
    }
    let Some(free) = free_space(cache) else { return Ok(()) };
    if free >= needed {
        return Ok(());
    }
    Err(Error::stage(format!(
        "not enough space: {} are free at {}, this run needs about {} if it writes as much as the last one",
        ByteSize(free),
        cache.dir().display(),
        ByteSize(needed)
    ))
    .hint("free some space (`pipe gc` removes what no pipeline uses), or point --cache-dir at a larger disk; nothing was run"))
}

/// In bytes, on the cache's disk.
fn free_space(cache: &Cache) -> Option<u64> {
    let stat = rustix::fs::statvfs(cache.dir()).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
