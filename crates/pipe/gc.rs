//! `pipe gc`, `pin` and `unpin`: what the cache keeps, and what goes.

use std::collections::{BTreeMap, BTreeSet};

use pipe_core::cache::{Cache, GcPolicy};
use pipe_core::{Error, Result};

use crate::cli::{GcArgs, PinArgs};
use crate::explain::size;
use crate::runs::{self, find_run};
use crate::terminal::{print_result, table};

pub(crate) fn command(args: &GcArgs) -> Result<u8> {
    let cache = Cache::open(args.cache.find()?.0.dir())?;
    let policy =
        GcPolicy { older_than: args.older_than.0, max_size: args.max_size.map(|size| size.0), records_older_than: args.records_older_than.0 };
    let (recent, old_runs) = runs_kept(&cache, args.keep_runs);
    let waste = cache.waste(&policy, &recent, &old_runs)?;
    let mut freed: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut in_use = 0;
    for item in &waste {
        let gone = args.dry_run || cache.sweep(item)?;
        if gone {
            let entry = freed.entry(item.what.as_str()).or_default();
            *entry = (entry.0 + 1, entry.1 + item.size);
        } else {
            in_use += 1;
        }
    }
    if !args.dry_run {
        cache.sweep_locks();
    }
    let rows: Vec<Vec<String>> = freed.iter().map(|(what, (count, bytes))| vec![format!("  {what}"), count.to_string(), size(*bytes)]).collect();
    if !rows.is_empty() {
        print_result(&table(&rows));
    }
    let total: u64 = freed.values().map(|(_, bytes)| bytes).sum();
    let verb = if args.dry_run { "would be freed" } else { "freed" };
    let left = if in_use > 0 { format!(", {in_use} left because they are in use or gone") } else { String::new() };
    print_result(&format!("{} {verb}{left}", size(total)));
    Ok(0)
}

/// Outputs of the last `count` runs of each pipeline, and the names of all older runs.
fn runs_kept(cache: &Cache, count: usize) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let (mut outputs, mut old) = (BTreeSet::new(), BTreeSet::new());
    let read = runs::all(cache);
    // What a kill left without a record, or another version of pipe wrote.
    old.extend(runs::names(cache).into_iter().filter(|name| !read.iter().any(|run| run.run == *name)));
    for (place, run) in read.into_iter().rev().enumerate() {
        let made: Vec<String> = run.stages.into_iter().filter_map(|stage| stage.artifact).collect();
        let number = met.entry(run.pipeline).or_default();
        // A run that made and reused nothing protects nothing, and must not push out one that did.
        *number += usize::from(!made.is_empty());
        if !made.is_empty() && *number <= count {
            outputs.extend(made);
        } else if !made.is_empty() || place >= count {
            old.insert(run.run);
        }
    }
    (outputs, old)
}

pub(crate) fn pin(args: &PinArgs) -> Result<u8> {
    let (cache, pipeline) = args.cache.find()?;
    for content in chosen(&cache, pipeline.as_deref(), args)? {
        cache.pin(&content, args.reason.as_deref().unwrap_or("by hand"))?;
        print_result(&format!("{content} is kept"));
    }
    Ok(0)
}

pub(crate) fn unpin(args: &PinArgs) -> Result<u8> {
    let (cache, pipeline) = args.cache.find()?;
    for content in chosen(&cache, pipeline.as_deref(), args)? {
        if cache.unpin(&content)? {
            print_result(&format!("{content} is no longer pinned"));
        }
    }
    Ok(0)
}

/// The artifacts that a content id (or its beginning) or a run stands for.
fn chosen(cache: &Cache, pipeline: Option<&str>, args: &PinArgs) -> Result<Vec<String>> {
    let named = |id: &String| args.what.len() >= 4 && id.starts_with(&args.what);
    // A pin may outlive its artifact.
    let mut artifacts: BTreeSet<String> = cache.artifacts()?.into_iter().map(|entry| entry.content).filter(named).collect();
    artifacts.extend(cache.pins().into_iter().filter(named));
    match artifacts.len() {
        0 => {}
        1 => return Ok(artifacts.into_iter().collect()),
        several => return Err(Error::input(format!("`{}` fits {several} artifacts", args.what)).hint("give more of its name")),
    }
    let run = find_run(cache, pipeline, &args.what)?;
    let outputs: Vec<String> = run.stages.into_iter().filter_map(|stage| stage.artifact).collect();
    if outputs.is_empty() {
        return Err(Error::input(format!("run {} made no output", run.run)).hint("choose another: `pipe ls` lists them"));
    }
    Ok(outputs)
}
