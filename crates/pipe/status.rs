//! `pipe status`, `path` and `validate`: what is up to date, without running anything and without waiting for a run.

use std::sync::OnceLock;

use pipe_core::cache::{Artifact, Cache, Latest};
use pipe_core::config::{StageConfig, is_policy_file};
use pipe_core::digest::DigestCache;
use pipe_core::file::PipelineFile;
use pipe_core::native::NativeLibraries;
use pipe_core::{Error, Plan, Result, Silent};
use pipe_data::scrub::ScrubPolicy;
use pipe_remote::Access;
use serde_json::json;

use crate::cli::{FileArgs, PathArgs, StatusArgs};
use crate::explain::why_stale;
use crate::keys::{KeyContext, Resolved, StepComponents};
use crate::run::{cache_dir, check_metrics, pipeline_id};
use crate::sources::Fetched;
use crate::terminal::print_result;

/// A stage's state without running anything.
pub(crate) enum State {
    Fresh {
        artifact: Box<Artifact>,
        found: Box<StepComponents>,
    },
    /// `found` is absent where what it reads is stale itself.
    Stale {
        reasons: Vec<String>,
        found: Option<Box<StepComponents>>,
    },
}

impl State {
    pub(crate) fn found(&self) -> Option<&StepComponents> {
        match self {
            State::Fresh { found, .. } => Some(found),
            State::Stale { found, .. } => found.as_deref(),
        }
    }

    pub(crate) fn reasons(&self) -> &[String] {
        match self {
            State::Fresh { .. } => &[],
            State::Stale { reasons, .. } => reasons,
        }
    }
}

/// A pipeline and its cache, for commands that only look.
pub(crate) struct Look {
    pub(crate) file: PipelineFile,
    pub(crate) cache: Cache,
    pub(crate) digests: DigestCache,
    pub(crate) native: Result<NativeLibraries>,
    fetched: Fetched,
    latest: OnceLock<Latest>,
}

impl Look {
    pub(crate) fn open(args: &FileArgs) -> Result<Look> {
        let file = PipelineFile::load(&args.file, &args.overrides())?;
        let dir = cache_dir(args, &file);
        let digests = DigestCache::open(dir.join("digests.json"));
        let fetched = Fetched::new(&dir, &file.run, Access::Look);
        Ok(Look { cache: Cache::at(&dir), digests, native: NativeLibraries::locate(), fetched, file, latest: OnceLock::new() })
    }

    pub(crate) fn plan(&self) -> Result<Plan<'_>> {
        crate::sql::plan(&self.file)
    }

    pub(crate) fn keys(&self) -> KeyContext<'_> {
        KeyContext { root: &self.file.root, digests: &self.digests, native: &self.native, fetched: &self.fetched }
    }

    fn latest(&self) -> &Latest {
        self.latest.get_or_init(|| self.cache.latest(&pipeline_id(&self.file, self.cache.dir())))
    }

    /// What a stage left when it last ended well, if it is still there.
    pub(crate) fn last_output(&self, stage: &str) -> Result<Option<Artifact>> {
        self.latest().stages.get(stage).map_or(Ok(None), |key| self.cache.lookup(key))
    }

    /// The state of every step, in the plan's order.
    pub(crate) fn states(&self, plan: &Plan<'_>) -> Result<Vec<State>> {
        let mut states: Vec<State> = Vec::new();
        for at in 0..plan.steps.len() {
            let state = self.state(plan, at, &states)?;
            states.push(state);
        }
        Ok(states)
    }

    fn state(&self, plan: &Plan<'_>, at: usize, states: &[State]) -> Result<State> {
        let step = &plan.steps[at];
        let mut inputs: Vec<&Artifact> = Vec::new();
        for input in &step.inputs {
            let mut found: Vec<&Artifact> = Vec::new();
            for of in &input.steps {
                match &states[*of] {
                    State::Fresh { artifact, .. } => found.push(artifact),
                    State::Stale { .. } => {
                        return Ok(State::Stale { reasons: vec![format!("{} is stale", plan.steps[*of].stage.name)], found: None });
                    }
                }
            }
            inputs.push(found[if found.len() > 1 { plan.best(&input.steps, &found)? } else { 0 }]);
        }
        let found = match self.keys().components(step, &inputs, &Silent) {
            Ok(Resolved::Known(found)) => found,
            Ok(Resolved::NotFetched(reasons)) => return Ok(State::Stale { reasons, found: None }),
            Err(error) => return Ok(State::Stale { reasons: vec![error.message], found: None }),
        };
        Ok(match self.cache.lookup(&found.key)? {
            Some(artifact) => State::Fresh { artifact: Box::new(artifact), found },
            None => {
                let last = self.latest().stages.get(&step.stage.name);
                State::Stale { reasons: why_stale(&self.cache, last, &found)?, found: Some(found) }
            }
        })
    }
}

pub(crate) fn command(args: &StatusArgs) -> Result<u8> {
    let look = Look::open(&args.file)?;
    let plan = look.plan()?;
    let states = look.states(&plan)?;
    let width = plan.steps.iter().map(|step| step.stage.name.chars().count()).max().unwrap_or(0).max(10);
    let mut documents = Vec::new();
    for (step, state) in plan.steps.iter().zip(&states) {
        let name = &step.stage.name;
        let line = match state {
            State::Fresh { artifact, .. } => {
                let rows = if artifact.manifest.splits.is_empty() { String::new() } else { format!(", {} rows", artifact.manifest.rows()) };
                let gate = match &step.stage.config {
                    StageConfig::Evaluate(config) => check_metrics(config, artifact).err().map(|error| format!(", gate not met: {}", error.message)),
                    _ => None,
                };
                format!("{name:width$}  up to date{rows}{}", gate.unwrap_or_default())
            }
            State::Stale { reasons, .. } => format!("{name:width$}  stale: {}", reasons.join(", ")),
        };
        if args.json {
            let (artifact, path) = match state {
                State::Fresh { artifact, .. } => (Some(&artifact.manifest.content), Some(&artifact.path)),
                State::Stale { .. } => (None, None),
            };
            let key = state.found().map(|found| &found.key);
            documents.push(
                json!({"stage": name, "up_to_date": artifact.is_some(), "reasons": state.reasons(), "key": key, "artifact": artifact, "path": path}),
            );
        } else {
            print_result(&line);
        }
    }
    if args.json {
        print_result(&serde_json::to_string_pretty(&documents).map_err(|e| Error::internal(e.to_string()))?);
    }
    let stale = states.iter().any(|state| matches!(state, State::Stale { .. }));
    Ok(if stale && args.exit_code { 3 } else { 0 })
}

/// Prints the folder of a stage's output, for scripts.
pub(crate) fn path(args: &PathArgs) -> Result<u8> {
    let look = Look::open(&args.file)?;
    let plan = look.plan()?;
    let at = plan.find_one(&args.stage)?;
    match look.states(&plan)?.swap_remove(at) {
        State::Fresh { artifact, .. } => {
            print_result(&format!("{}", artifact.path.display()));
            Ok(0)
        }
        State::Stale { reasons, .. } => Err(Error::input(format!("stage `{}` is not up to date: {}", args.stage, reasons.join(", "))).hint(format!(
            "pipe run {} {}",
            look.file.path.display(),
            args.stage
        ))),
    }
}

pub(crate) fn validate(args: &FileArgs) -> Result<u8> {
    let file = PipelineFile::load(&args.file, &args.overrides())?;
    let plan = crate::sql::plan(&file)?;
    for stage in &file.stages {
        if let StageConfig::Ingest(config) = &stage.config
            && is_policy_file(&config.scrub.policy)
        {
            ScrubPolicy::check_file(&file.root.join(&config.scrub.policy))?;
        }
    }
    let names: Vec<&str> = plan.steps.iter().map(|step| step.stage.name.as_str()).collect();
    print_result(&format!("{}: valid, {}", file.path.display(), names.join(" → ")));
    Ok(0)
}
