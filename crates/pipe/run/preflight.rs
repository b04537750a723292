//! Is there room for what a run will write? Judged by what the same stages wrote last time.

use std::collections::BTreeSet;

use pipe_core::cache::{Cache, Latest};
use pipe_core::config::{ByteSize, StageKind};
use pipe_core::{Error, Plan, Result};

use crate::publish::Publisher;

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

/// Fails if an output cannot be published where the file says, which is better known before a night of training.
pub(super) fn check_targets(plan: &Plan<'_>, publisher: &Publisher<'_>, selected: &BTreeSet<usize>) -> Result<()> {
    for stage in selected.iter().map(|at| plan.steps[*at].stage) {
        let Some(text) = &stage.publish else { continue };
        let target = publisher.target(text);
        let Some(there) = target.ancestors().skip(1).find(|folder| folder.exists()) else { continue };
        if !there.is_dir() || rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
            return Err(Error::stage(format!(
                "stage `{}` cannot publish to {}: {} cannot be written to",
                stage.name,
                target.display(),
                there.display()
            ))
            .hint("check who owns the folder; nothing was run"));
        }
    }
    Ok(())
}

/// In bytes, on the cache's disk.
fn free_space(cache: &Cache) -> Option<u64> {
    let stat = rustix::fs::statvfs(cache.dir()).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
