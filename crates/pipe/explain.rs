//! Why a stage is not up to date, or why it ran: the components of its key, compared with those of another time.

use std::collections::BTreeMap;

use pipe_core::cache::{Cache, KeyRecord, SourceNote};
use pipe_core::config::{ByteSize, StageConfig};
use pipe_core::key::{Components, Key, differences, source_differences};
use pipe_core::{Error, Result};
use serde_json::json;

use crate::cli::ExplainArgs;
use crate::keys::StepComponents;
use crate::record::RunRecord;
use crate::runs::{self, find_run};
use crate::status::{Look, State};
use crate::terminal::print_result;

/// Files larger than this together are not read to count their rows: their sizes are compared instead.
const MAX_COUNTED: u64 = 64 << 20;

/// What differs between a stage's last success and now, one line each.
pub(crate) fn why_stale(cache: &Cache, last: Option<&Key>, found: &StepComponents) -> Result<Vec<String>> {
    let Some(last) = last else { return Ok(vec!["never run before".into()]) };
    if *last == found.key {
        return Ok(vec!["its output is gone or damaged".into()]);
    }
    let Some(old) = cache.key_record(last)? else { return Ok(vec!["the record of its last run is gone".into()]) };
    Ok(compare(&old, &found.components, &counted(found, &old.sources)))
}

/// All differences between a recorded key and other components.
fn compare(old: &KeyRecord, components: &Components, sources: &[SourceNote]) -> Vec<String> {
    let mut lines = source_differences(&old.sources, sources);
    // The formats follow from the files.
    let told = !lines.is_empty();
    lines.extend(differences(&old.components, components).into_iter().filter(|line| !told || !line.starts_with("formats:")));
    lines
}

/// The sources of a stage that did not read them yet, with the rows of those that changed.
fn counted(found: &StepComponents, old: &[SourceNote]) -> Vec<SourceNote> {
    let StageConfig::Ingest(config) = &found.config else { return Vec::new() };
    let known: BTreeMap<&str, Option<u64>> = old.iter().map(|note| (note.digest.as_str(), note.records)).collect();
    let changed = |note: &SourceNote| !known.contains_key(note.digest.as_str());
    let few = found.notes.iter().filter(|note| changed(note)).map(|note| note.size).sum::<u64>() <= MAX_COUNTED;
    let count = |(note, source): (&SourceNote, &pipe_core::source::SourceFile)| {
        let records = match known.get(note.digest.as_str()) {
            Some(records) => *records,
            None if few => pipe_data::read::count_records(source, &config.source).ok(),
            None => None,
        };
        SourceNote { records, ..note.clone() }
    };
    found.notes.iter().zip(&found.sources).map(count).collect()
}

pub(crate) fn command(args: &ExplainArgs) -> Result<u8> {
    let look = Look::open(&args.file)?;
    let plan = look.plan()?;
    let states = look.states(&plan)?;
    let chosen = plan.find(&args.stage)?;
    let vs = args.vs.as_deref().map(|run| find_run(&look.cache, Some(&look.file.name), run)).transpose()?;
    let mut documents = Vec::new();
    for at in chosen {
        let stage = plan.steps[at].stage;
        let mut lines = Vec::new();
        let (word, reasons) = match (&states[at], &vs) {
            (_, Some(run)) => ("compared", against(&look, &states[at], run, &stage.name)?),
            (State::Fresh { found, .. }, None) => ("up to date", last_making(&look.cache, &found.key)),
            (State::Stale { reasons, .. }, None) => ("stale", reasons.clone()),
        };
        match &vs {
            Some(run) if reasons.is_empty() => lines.push(format!("{}: the same as in run {}", stage.name, run.run)),
            Some(run) => lines.push(format!("{}: since run {} of {}:", stage.name, run.run, run.started.strftime("%F %T"))),
            None => lines.push(format!("{}: {word}", stage.name)),
        }
        lines.extend(reasons.iter().map(|reason| format!("  {reason}")));
        if args.json {
            let components = states[at].found().map(|found| &found.components);
            let key = states[at].found().map(|found| &found.key);
            documents.push(json!({"stage": stage.name, "state": word, "reasons": reasons, "key": key, "components": components}));
        } else {
            print_result(&lines.join("\n"));
        }
    }
    if args.json {
        print_result(&serde_json::to_string_pretty(&documents).map_err(|e| Error::internal(e.to_string()))?);
    }
    Ok(0)
}

/// How a stage's components differ from those that it had in `run`.
fn against(look: &Look, state: &State, run: &RunRecord, stage: &str) -> Result<Vec<String>> {
    let missing = |what: &str| Error::input(format!("{what} `{stage}`")).hint("choose another run: `pipe ls` lists them");
    let key = run.stage(stage).and_then(|record| record.key.clone()).ok_or_else(|| missing(&format!("run {} did not get to stage", run.run)))?;
    let old = look.cache.key_record(&key)?.ok_or_else(|| missing("there is no record of the output that the run had for"))?;
    match state.found() {
        None => Ok(vec![format!("cannot be told yet: {}", state.reasons().join(", "))]),
        Some(found) if found.key == key => Ok(Vec::new()),
        Some(found) => Ok(compare(&old, &found.components, &counted(found, &old.sources))),
    }
}

/// When and why the output at hand was made.
fn last_making(cache: &Cache, key: &Key) -> Vec<String> {
    let run = runs::all(cache).into_iter().rev().find_map(|run| {
        let made = |stage: &&crate::record::StageRecord| stage.status == crate::record::Status::Ran && stage.key.as_ref() == Some(key);
        let record = run.stages.iter().find(made)?;
        Some((run.run.clone(), run.started, record.reason.clone()))
    });
    run.map(|(run, started, reason)| format!("made by run {run} of {}: {reason}", started.strftime("%F %T"))).into_iter().collect()
}

/// What differs between the same stage of two runs.
pub(crate) fn between(cache: &Cache, old: &Key, new: &Key) -> Result<Vec<String>> {
    match (cache.key_record(old)?, cache.key_record(new)?) {
        (Some(old), Some(new)) => Ok(compare(&old, &new.components, &new.sources)),
        _ => Ok(vec!["the record of one of the two outputs is gone".into()]),
    }
}

/// For people: a size with its unit.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}
