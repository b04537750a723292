//! `pipe verify`: is what is cached still what was committed, and does a stage give the same bytes again?

use std::collections::BTreeMap;

use pipe_core::cache::{Artifact, Cache, Manifest, PendingArtifact};
use pipe_core::{Error, Plan, Result};

use crate::cli::{LogFormat, VerifyArgs};
use crate::events::Reporter;
use crate::explain::size;
use crate::publish::published;
use crate::signals::Signals;
use crate::stages::{self, StageContext};
use crate::status::{Look, State};
use crate::terminal::print_result;

pub(crate) fn command(args: &VerifyArgs) -> Result<u8> {
    match &args.replay {
        Some(stage) => replay(args, stage),
        None => rehash(args),
    }
}

/// Reads every byte of every artifact again. A damaged one is moved away, so that its stage runs again.
fn rehash(args: &VerifyArgs) -> Result<u8> {
    let cache = args.cache.find()?.0;
    let signals = Signals::install()?;
    let (mut whole, mut bytes, mut damaged) = (0u64, 0u64, Vec::new());
    for entry in cache.artifacts()? {
        signals.check()?;
        let path = cache.artifact_path(&entry.content);
        let wrong = match &entry.manifest {
            Some(manifest) => {
                bytes += manifest.size();
                manifest.damaged(&path)?.into_iter().map(str::to_owned).collect()
            }
            None => vec!["manifest.json".to_owned()],
        };
        if wrong.is_empty() {
            whole += 1;
            continue;
        }
        let kind = entry.manifest.as_ref().map_or("unknown", |manifest| manifest.kind.name());
        let moved = !args.dry_run && cache.quarantine(&entry.content)?;
        // Swept away meanwhile.
        if !path.exists() && !moved {
            continue;
        }
        let what = match (moved, args.dry_run) {
            (true, _) => "; moved to trash",
            (false, false) => "; left in its place, since somebody reads it now",
            (false, true) => "",
        };
        print_result(&format!("{} ({kind}) is damaged: {}{what}", entry.content, wrong.join(", ")));
        damaged.push(entry.content);
    }
    for (target, stage) in published(&cache) {
        signals.check()?;
        // By its own manifest: a run that was killed before it could note what it published did publish it.
        let wrong = Manifest::read(&target).map(|shown| shown.damaged(&target).map(|files| files.join(", ")));
        let wrong = match wrong {
            None => "manifest.json".to_owned(),
            Some(wrong) => wrong?,
        };
        if !wrong.is_empty() {
            print_result(&format!(
                "{} (published by {stage}) is not what was published: {wrong}; remove the folder, and the next run publishes it again",
                target.display()
            ));
            damaged.push(stage);
        }
    }
    print_result(&format!("{whole} artifacts are whole ({})", size(bytes)));
    if damaged.is_empty() {
        return Ok(0);
    }
    let hint =
        if args.dry_run { "without --dry-run they are moved away, so that the next run makes them again" } else { "the next run makes them again" };
    Err(Error::stage(format!("{} of {} artifacts are damaged", damaged.len(), damaged.len() as u64 + whole)).hint(hint))
}

/// Makes a stage's output once more, beside what is committed, and compares the two.
fn replay(args: &VerifyArgs, name: &str) -> Result<u8> {
    let Some(path) = &args.cache.file else {
        return Err(Error::usage("--replay needs the pipeline file").hint("pipe verify --file pipelines/classify.yaml --replay train"));
    };
    let file = crate::cli::FileArgs::of(path, args.cache.cache_dir.as_deref());
    let look = Look::open(&file)?;
    let plan = look.plan()?;
    let cache = Cache::open(look.cache.dir())?;
    let states = look.states(&plan)?;
    let mut differing = Vec::new();
    for at in plan.find(name)? {
        let stage = &plan.steps[at].stage.name;
        let State::Fresh { artifact, found } = &states[at] else {
            return Err(Error::input(format!("stage `{stage}` is not up to date: {}", states[at].reasons().join(", ")))
                .hint(format!("first: pipe run {} {stage}", path.display())));
        };
        // A lease: it is read while it is compared.
        let kept = cache.lookup(&found.key)?.ok_or_else(|| Error::input(format!("the output of `{stage}` is gone")))?;
        let inputs = inputs(&plan, at, &states)?;
        let pending = PendingArtifact::replay(&cache, &found.key)?;
        let signals = Signals::install()?;
        let reporter = Reporter::new(LogFormat::Text);
        let progress = reporter.stage(stage, "made again, to be compared", &signals);
        let context = StageContext {
            root: &look.file.root,
            step: &plan.steps[at],
            config: &found.config,
            inputs,
            sources: found.sources.clone(),
            components: &found.components,
            keys: &look.keys(),
            pending: &pending,
            record: pending.scratch().join("record"),
            signals: &signals,
            progress: &progress,
        };
        let made = stages::run(&context).and_then(|summary| Manifest::of_folder(&pending.out(), found.components.stage, summary.splits));
        drop(progress);
        reporter.terminal.finish();
        pending.discard();
        let made = made?;
        let files = different_files(&kept.manifest, &made);
        if files.is_empty() {
            print_result(&format!("{stage}: the same bytes again ({}, {})", artifact.manifest.content, size(made.size())));
        } else {
            print_result(&format!("{stage}: other bytes in {}", files.join(", ")));
            differing.push(format!("`{stage}`"));
        }
    }
    if differing.is_empty() {
        return Ok(0);
    }
    Err(Error::stage(format!("{} gave other bytes than before", differing.join(", ")))
        .hint("training repeats itself for one number of threads and one type of CPU; anything else is worth a report"))
}

/// The artifacts that a fresh step reads.
fn inputs<'s>(plan: &Plan<'_>, at: usize, states: &'s [State]) -> Result<Vec<&'s Artifact>> {
    let mut inputs = Vec::new();
    for input in &plan.steps[at].inputs {
        let found: Vec<&Artifact> = input
            .steps
            .iter()
            .filter_map(|step| match &states[*step] {
                State::Fresh { artifact, .. } => Some(artifact.as_ref()),
                State::Stale { .. } => None,
            })
            .collect();
        inputs.push(found[if found.len() > 1 { plan.best(&input.steps, &found)? } else { 0 }]);
    }
    Ok(inputs)
}

fn different_files(old: &Manifest, new: &Manifest) -> Vec<String> {
    let digests =
        |manifest: &Manifest| -> BTreeMap<String, String> { manifest.files.iter().map(|file| (file.path.clone(), file.blake3.clone())).collect() };
    let (old, new) = (digests(old), digests(new));
    old.keys().chain(new.keys().filter(|path| !old.contains_key(*path))).filter(|path| old.get(*path) != new.get(*path)).cloned().collect()
}
