//! `pipe ls`, `show`, `diff` and `logs`: what earlier runs did, from their records.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pipe_core::cache::{Cache, Manifest};
use pipe_core::file::{PipelineFile, suggestion};
use pipe_core::{Error, IoContext, Result};
use serde_json::json;

use crate::cli::{CacheArgs, DiffArgs, LogsArgs, LsArgs, ShowArgs};
use crate::explain::{between, size};
use crate::record::{RunRecord, Status};
use crate::terminal::{duration, print_result, shortened, table};

impl CacheArgs {
    /// The cache that was named, else that of the pipeline file, else the nearest `.pipe` above this folder; with the
    /// pipeline's name where a file was given.
    pub(crate) fn find(&self) -> Result<(Cache, Option<String>)> {
        let file = self.file.as_ref().map(|path| PipelineFile::load(path, &Default::default())).transpose()?;
        let dir = match (&self.cache_dir, &file) {
            (Some(dir), _) => dir.clone(),
            (None, Some(file)) => file.root.join(".pipe"),
            (None, None) => nearest_cache()?,
        };
        if !dir.is_dir() {
            return Err(Error::input(format!("there is no cache {}", dir.display())).hint("it is made by the first `pipe run`"));
        }
        Ok((Cache::at(&dir), file.map(|file| file.name)))
    }
}

fn nearest_cache() -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(|e| Error::internal(format!("cannot tell the current folder: {e}")))?;
    here.ancestors()
        .map(|folder| folder.join(".pipe"))
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .ok_or_else(|| Error::usage("there is no .pipe in this folder or above it").hint("give --file with the pipeline file, or --cache-dir"))
}

/// All runs whose records can be read, the oldest first: their names sort by time.
pub(crate) fn all(cache: &Cache) -> Vec<RunRecord> {
    names(cache).iter().filter_map(|name| RunRecord::read(cache, name)).collect()
}

pub(crate) fn names(cache: &Cache) -> BTreeSet<String> {
    let entries = std::fs::read_dir(cache.runs_dir()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The run that `text` means: `latest`, `latest~2`, or the beginning or end of its name.
pub(crate) fn find_run(cache: &Cache, pipeline: Option<&str>, text: &str) -> Result<RunRecord> {
    let none = || Error::input(format!("there is no run `{text}`")).hint("`pipe ls` lists them; `latest` and `latest~1` work too");
    if let Some(back) = text.strip_prefix("latest") {
        let back: usize = if back.is_empty() { 0 } else { back.strip_prefix('~').and_then(|n| n.parse().ok()).ok_or_else(none)? };
        // Runs that were skipped or that never got to a stage have nothing to show or to compare.
        let mine = |run: &RunRecord| pipeline.is_none_or(|name| run.pipeline == name) && (!run.stages.is_empty() || run.outcome.is_none());
        return all(cache).into_iter().rev().filter(mine).nth(back).ok_or_else(none);
    }
    let wanted = text.to_ascii_uppercase();
    let found: Vec<String> =
        names(cache).into_iter().filter(|name| !wanted.is_empty() && (name.starts_with(&wanted) || name.ends_with(&wanted))).collect();
    match found.as_slice() {
        [] => Err(none()),
        [one] => RunRecord::read(cache, one)
            .ok_or_else(|| Error::input(format!("the record of run {one} cannot be read")).hint("it may be of another version of pipe")),
        several => Err(Error::input(format!("`{text}` fits {} runs", several.len())).hint("give more of its name")),
    }
}

pub(crate) fn ls(args: &LsArgs) -> Result<u8> {
    let (cache, pipeline) = args.cache.find()?;
    if args.artifacts {
        return ls_artifacts(&cache, args.json);
    }
    let mut runs: Vec<RunRecord> = all(&cache).into_iter().filter(|run| pipeline.as_ref().is_none_or(|name| run.pipeline == *name)).collect();
    let skipped = runs.len().saturating_sub(args.limit);
    runs.drain(..skipped);
    if args.json {
        print_result(&serde_json::to_string_pretty(&runs).map_err(|e| Error::internal(e.to_string()))?);
        return Ok(0);
    }
    let mut rows = vec![["run", "pipeline", "started (UTC)", "time", "end", "ran", "reused"].map(str::to_owned).to_vec()];
    rows.extend(runs.iter().map(|run| {
        vec![
            run.run.clone(),
            run.pipeline.clone(),
            run.started.strftime("%F %T").to_string(),
            if run.ended.is_some() { duration(run.seconds) } else { String::new() },
            run.ending(),
            run.count(Status::Ran).to_string(),
            run.count(Status::Cached).to_string(),
        ]
    }));
    print_result(&table(&rows));
    if skipped > 0 {
        print_result(&format!("and {skipped} earlier ones: --limit shows more"));
    }
    Ok(0)
}

fn ls_artifacts(cache: &Cache, json: bool) -> Result<u8> {
    if json {
        let entry = |entry: pipe_core::cache::ArtifactEntry| {
            let used = entry.last_used.and_then(|time| jiff::Timestamp::try_from(time).ok());
            let kind = entry.manifest.as_ref().map(|manifest| manifest.kind);
            json!({"artifact": entry.content, "kind": kind, "size": entry.size, "last_used": used, "kept_by": entry.kept_by})
        };
        let entries: Vec<_> = cache.artifacts()?.into_iter().map(entry).collect();
        print_result(&serde_json::to_string_pretty(&entries).map_err(|e| Error::internal(e.to_string()))?);
        return Ok(0);
    }
    let mut rows = vec![["artifact", "stage", "size", "rows", "last used", "kept by"].map(str::to_owned).to_vec()];
    for entry in cache.artifacts()? {
        let used = entry.last_used.and_then(|time| jiff::Timestamp::try_from(time).ok()).map(|time| time.strftime("%F %T").to_string());
        let (kind, count) = match &entry.manifest {
            Some(manifest) => (manifest.kind.name(), manifest.rows()),
            None => ("damaged", 0),
        };
        let kept = entry.kept_by.join(", ");
        rows.push(vec![
            entry.content,
            kind.to_owned(),
            size(entry.size),
            if count > 0 { count.to_string() } else { String::new() },
            used.unwrap_or_default(),
            kept,
        ]);
    }
    print_result(&table(&rows));
    Ok(0)
}

pub(crate) fn show(args: &ShowArgs) -> Result<u8> {
    let (cache, pipeline) = args.cache.find()?;
    // An artifact's name is hex, a run's is not.
    let artifacts: Vec<String> =
        cache.artifacts()?.into_iter().map(|entry| entry.content).filter(|id| args.what.len() >= 4 && id.starts_with(&args.what)).collect();
    if let [content] = artifacts.as_slice() {
        let path = cache.artifact_path(content);
        let manifest = Manifest::read(&path).ok_or_else(|| Error::input(format!("the manifest of {} cannot be read", path.display())))?;
        if args.json {
            print_result(&serde_json::to_string_pretty(&manifest).map_err(|e| Error::internal(e.to_string()))?);
            return Ok(0);
        }
        print_result(&format!(
            "{} {}, {} in {} files, at {}",
            manifest.kind.name(),
            content,
            size(manifest.size()),
            manifest.files.len(),
            path.display()
        ));
        let rows: Vec<Vec<String>> =
            manifest.files.iter().map(|file| vec![format!("  {}", file.path), size(file.size), file.blake3.clone()]).collect();
        print_result(&table(&rows));
        return Ok(0);
    }
    let run = find_run(&cache, pipeline.as_deref(), &args.what)?;
    if args.json {
        print_result(&serde_json::to_string_pretty(&run).map_err(|e| Error::internal(e.to_string()))?);
        return Ok(0);
    }
    print_result(&format!("run {} of {} ({}), {}", run.run, run.pipeline, run.file.path.display(), run.ending()));
    let libraries: Vec<String> = run.libraries.iter().map(|(name, version)| format!("{name} {version}")).collect();
    print_result(&format!(
        "  started {}, {}, on {} ({} cores), pipe {}, {}",
        run.started.strftime("%F %T UTC"),
        duration(run.seconds),
        run.machine.host,
        run.machine.cores,
        run.pipe,
        libraries.join(", ")
    ));
    if !run.variables.is_empty() {
        let variables: Vec<String> = run.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        print_result(&format!("  variables: {}", variables.join(", ")));
    }
    if let Some(error) = &run.error {
        print_result(&format!("  error: {}", error.message));
    }
    let mut rows = vec![["stage", "status", "time", "rows", "artifact", "reason"].map(str::to_owned).to_vec()];
    rows.extend(run.stages.iter().map(|stage| {
        vec![
            stage.name.clone(),
            stage.shown_status().to_owned(),
            if matches!(stage.status, Status::Cached | Status::Blocked) { String::new() } else { duration(stage.seconds) },
            if stage.rows > 0 { stage.rows.to_string() } else { String::new() },
            stage.artifact.as_ref().map(|id| id[..12.min(id.len())].to_owned()).unwrap_or_default(),
            shortened(&stage.reason, 80),
        ]
    }));
    print_result(&table(&rows));
    for stage in &run.stages {
        if let Some(error) = &stage.error {
            print_result(&format!("{}: {}", stage.name, error.message));
        }
    }
    Ok(0)
}

/// What differs between two runs, stage by stage.
pub(crate) fn diff(args: &DiffArgs) -> Result<u8> {
    let (cache, pipeline) = args.cache.find()?;
    let (old, new) = (find_run(&cache, pipeline.as_deref(), &args.old)?, find_run(&cache, pipeline.as_deref(), &args.new)?);
    let mut names: Vec<&str> = old.stages.iter().map(|stage| stage.name.as_str()).collect();
    names.extend(new.stages.iter().map(|stage| stage.name.as_str()).filter(|name| old.stage(name).is_none()));
    let mut lines = Vec::new();
    if old.pipe != new.pipe {
        lines.push(format!("pipe: {} → {}", old.pipe, new.pipe));
    }
    for name in names {
        let (before, after) = (old.stage(name), new.stage(name));
        let (Some(before), Some(after)) = (before, after) else {
            let which = if before.is_some() { "first" } else { "second" };
            lines.push(format!("{name}: only in the {which} run"));
            continue;
        };
        match (&before.key, &after.key) {
            (Some(a), Some(b)) if a == b => {
                if before.artifact.is_some() && after.artifact.is_some() && before.artifact != after.artifact {
                    lines.push(format!("{name}: the same inputs and settings gave other bytes"));
                }
            }
            (Some(a), Some(b)) => {
                lines.push(format!("{name}:"));
                lines.extend(between(&cache, a, b)?.into_iter().map(|line| format!("  {line}")));
                let rows = (before.rows, after.rows);
                if rows.0 != rows.1 && rows.0 > 0 && rows.1 > 0 {
                    lines.push(format!("  rows: {} → {}", rows.0, rows.1));
                }
                if before.artifact == after.artifact && before.artifact.is_some() {
                    lines.push("  its output is the same".into());
                }
            }
            _ => lines.push(format!("{name}: {} → {}", before.status.name(), after.status.name())),
        }
    }
    if lines.is_empty() {
        lines.push("no difference".into());
    }
    print_result(&lines.join("\n"));
    Ok(0)
}

/// What a run said, and what the worker of one of its stages said.
pub(crate) fn logs(args: &LogsArgs) -> Result<u8> {
    let (cache, pipeline) = args.cache.find()?;
    let run = find_run(&cache, pipeline.as_deref(), &args.run)?;
    if let Some(stage) = args.stage.as_ref().filter(|stage| run.stage(stage).is_none() && !run.stages.is_empty()) {
        let names: Vec<&str> = run.stages.iter().map(|stage| stage.name.as_str()).collect();
        return Err(Error::input(format!("run {} has no stage `{stage}`", run.run)).maybe_hint(suggestion(stage, &names)));
    }
    let folder = run.folder(&cache);
    let path = folder.join("events.jsonl");
    let text = if path.exists() { std::fs::read_to_string(&path).doing("read", &path)? } else { String::new() };
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        if args.stage.as_ref().is_none_or(|stage| event["stage"] == **stage) {
            print_result(line);
        }
    }
    for stage in run.stages.iter().filter(|stage| args.stage.as_ref().is_none_or(|name| *name == stage.name)) {
        let log = folder.join(folder_name(&stage.name)).join("worker.log");
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if !said.trim().is_empty() {
            print_result(&format!("{} ({}):\n{}", stage.name, log.display(), said.trim_end()));
        }
    }
    Ok(0)
}

fn folder_name(stage: &str) -> String {
    pipe_core::file::folder_name(stage)
}
