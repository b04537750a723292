//! `pipe status`, `pipe path`, `pipe validate`: read only, they take no lock and make nothing.

use std::collections::BTreeMap;

use pipe_core::cache::{Artifact, Cache};
use pipe_core::digest::DigestCache;
use pipe_core::file::PipelineFile;
use pipe_core::key::Key;
use pipe_core::native::NativeLibraries;
use pipe_core::{Error, Plan, Result};

use crate::cli::{FileArgs, PathArgs, StatusArgs};
use crate::keys::KeyContext;
use crate::run::{cache_dir, why_stale};
use crate::terminal::print_result;

/// A stage's state without running anything.
enum State {
    Fresh(Box<Artifact>),
    Stale(String),
}

pub(crate) fn command(args: &StatusArgs) -> Result<u8> {
    let file = PipelineFile::load(&args.file.file, &args.file.overrides())?;
    let plan = Plan::new(&file)?;
    let states = states(&plan, &args.file)?;
    let mut stale = false;
    for (step, state) in plan.steps.iter().zip(&states) {
        match state {
            State::Fresh(artifact) => {
                let rows = if artifact.manifest.splits.is_empty() { String::new() } else { format!(", {} rows", artifact.manifest.rows()) };
                print_result(&format!("{:<10}  up to date{rows}", step.stage.name));
            }
            State::Stale(reason) => {
                stale = true;
                print_result(&format!("{:<10}  stale: {reason}", step.stage.name));
            }
        }
    }
    Ok(if stale && args.exit_code { 3 } else { 0 })
}

/// Prints the folder of a stage's output, for scripts.
pub(crate) fn path(args: &PathArgs) -> Result<u8> {
    let file = PipelineFile::load(&args.file.file, &args.file.overrides())?;
    let plan = Plan::new(&file)?;
    let at = plan.find_one(&args.stage)?;
    match states(&plan, &args.file)?.swap_remove(at) {
        State::Fresh(artifact) => {
            print_result(&format!("{}", artifact.path.display()));
            Ok(0)
        }
        State::Stale(reason) => Err(Error::input(format!("stage `{}` is not up to date: {reason}", args.stage)).hint(format!(
            "pipe run {} {}",
            file.path.display(),
            args.stage
        ))),
    }
}

pub(crate) fn validate(args: &FileArgs) -> Result<u8> {
    let file = PipelineFile::load(&args.file, &args.overrides())?;
    let plan = Plan::new(&file)?;
    let names: Vec<&str> = plan.steps.iter().map(|step| step.stage.name.as_str()).collect();
    print_result(&format!("{}: valid, {}", file.path.display(), names.join(" → ")));
    Ok(0)
}

fn states(plan: &Plan<'_>, args: &FileArgs) -> Result<Vec<State>> {
    let dir = cache_dir(args, plan.file);
    let cache = Cache::at(&dir);
    let digests = DigestCache::open(dir.join("digests.json"));
    let native = NativeLibraries::locate();
    let context = KeyContext { root: &plan.file.root, digests: &digests, native: &native };
    let mut states: Vec<State> = Vec::new();
    for step in &plan.steps {
        let mut inputs = BTreeMap::new();
        let mut stale_input = None;
        for (at, input) in step.inputs.iter().enumerate() {
            match &states[input.steps[0]] {
                State::Fresh(artifact) => {
                    inputs.insert(at, artifact.as_ref());
                }
                State::Stale(_) => stale_input = Some(&plan.steps[input.steps[0]].stage.name),
            }
        }
        let state = match stale_input {
            Some(name) => State::Stale(format!("{name} is stale")),
            None => {
                let inputs: Vec<&Artifact> = inputs.into_values().collect();
                match context.components(step, &inputs) {
                    Err(error) => State::Stale(error.message),
                    Ok(found) => {
                        let key = Key::of(&found.components);
                        match cache.lookup(&key)? {
                            Some(artifact) => State::Fresh(Box::new(artifact)),
                            None => State::Stale(why_stale(&cache, &plan.file.name, &step.stage.name, &key, &found.components)?),
                        }
                    }
                }
            }
        };
        states.push(state);
    }
    Ok(states)
}
