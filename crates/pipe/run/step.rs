//! One step brought up to date: its key, a look into the cache, and its making.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipe_core::cache::{Artifact, Cache, Latest, LockError, PendingArtifact};
use pipe_core::config::StageConfig;
use pipe_core::key::Key;
use pipe_core::{Error, Plan, Progress, Result, Summary};

use super::budget::{Budget, demand};
use super::preflight;
use super::walk::in_stage;
use crate::events::{Reporter, StageProgress};
use crate::explain;
use crate::keys::{KeyContext, Resolved, StepComponents};
use crate::publish::Publisher;
use crate::record::{InputNote, StageRecord, Status};
use crate::signals::Signals;
use crate::stages::{self, StageContext};

/// What all steps of a run share.
pub(super) struct Walk<'r> {
    pub(super) plan: &'r Plan<'r>,
    pub(super) cache: &'r Cache,
    /// What its state and its lock are known by in the cache.
    pub(super) pipeline: String,
    pub(super) keys: KeyContext<'r>,
    pub(super) signals: &'r Signals,
    pub(super) reporter: &'r Reporter,
    pub(super) options: WalkOptions,
    pub(super) budget: Budget,
    pub(super) publisher: Publisher<'r>,
    /// Who runs, for those that wait for us.
    pub(super) holder: String,
    /// The folder of this run's timed records.
    pub(super) folder: PathBuf,
    pub(super) started: Instant,
    pub(super) selected: BTreeSet<usize>,
    pub(super) latest: Mutex<Latest>,
    pub(super) artifacts: Mutex<BTreeMap<usize, Arc<Artifact>>>,
    /// A stage failed, and nothing new begins.
    pub(super) halted: AtomicBool,
    /// Looked at once, before the first stage is made.
    pub(super) space: Mutex<Option<Result<()>>>,
}

pub(super) struct WalkOptions {
    pub(super) dry_run: bool,
    pub(super) keep_going: bool,
    pub(super) forced: BTreeSet<usize>,
}

/// How a step ended.
pub(super) struct Ended {
    pub(super) record: StageRecord,
    /// The steps whose outputs it read, in the order of its inputs.
    pub(super) chosen: Vec<usize>,
    pub(super) made: Option<Made>,
    pub(super) error: Option<Error>,
}

/// A step's output, made now or before.
pub(super) struct Made {
    pub(super) artifact: Artifact,
    /// For standard output.
    pub(super) table: String,
}

impl Walk<'_> {
    pub(super) fn blank(&self, at: usize) -> StageRecord {
        let stage = self.plan.steps[at].stage;
        StageRecord {
            name: stage.name.clone(),
            kind: stage.config.kind().name().to_owned(),
            status: Status::Ran,
            reason: String::new(),
            key: None,
            artifact: None,
            inputs: Vec::new(),
            sources: Vec::new(),
            with: stage.config.semantic(),
            started_seconds: self.started.elapsed().as_secs_f64(),
            seconds: 0.0,
            rows: 0,
            summary: String::new(),
            published: None,
            figures: BTreeMap::new(),
            error: None,
        }
    }

    pub(super) fn would_run(&self, at: usize, reason: &str) -> StageRecord {
        let record = StageRecord { status: Status::WouldRun, reason: reason.to_owned(), ..self.blank(at) };
        let event =
            crate::events::Event::Stage { stage: &record.name, status: record.status.name(), reason, seconds: None, summary: "", output: None };
        self.reporter.emit(&event);
        record
    }

    /// Keeps a step's output for those that read it.
    pub(super) fn keep(&self, at: usize, artifact: Artifact) {
        self.artifacts.lock().expect("no panic while locked").insert(at, Arc::new(artifact));
    }

    /// The outputs that a step reads, in the order of its inputs, chosen among the `usable` steps.
    fn inputs(&self, at: usize, usable: &BTreeSet<usize>) -> Result<Vec<(usize, Arc<Artifact>)>> {
        let artifacts = self.artifacts.lock().expect("no panic while locked");
        let mut inputs = Vec::new();
        for input in &self.plan.steps[at].inputs {
            let steps: Vec<usize> = input.steps.iter().copied().filter(|step| usable.contains(step)).collect();
            let found: Vec<&Artifact> = steps.iter().filter_map(|step| artifacts.get(step).map(Arc::as_ref)).collect();
            if found.len() != steps.len() || steps.is_empty() {
                return Err(Error::internal("a step began before its inputs were there"));
            }
            let chosen = steps[if steps.len() > 1 { self.plan.best(&steps, &found)? } else { 0 }];
            inputs.push((chosen, Arc::clone(&artifacts[&chosen])));
        }
        Ok(inputs)
    }

    fn components(&self, at: usize, inputs: &[(usize, Arc<Artifact>)]) -> Result<Resolved> {
        let inputs: Vec<&Artifact> = inputs.iter().map(|(_, artifact)| artifact.as_ref()).collect();
        let fetching = self.reporter.fetching(&self.plan.steps[at].stage.name, self.signals);
        self.keys.components(&self.plan.steps[at], &inputs, &fetching)
    }

    /// For `--only`: takes a step that must be up to date as it is.
    pub(super) fn require_fresh(&self, at: usize) -> Result<()> {
        let name = &self.plan.steps[at].stage.name;
        let found = match self.components(at, &self.inputs(at, &self.plan.steps[at].needs().collect())?).map_err(|error| in_stage(name, error))? {
            Resolved::Known(found) => self.cache.lookup(&found.key)?.map(|artifact| (artifact, found.key)),
            Resolved::NotFetched(_) => None,
        };
        match found {
            Some((artifact, key)) => {
                self.judge(at, &artifact, &key).map_err(|error| in_stage(name, error))?;
                self.keep(at, artifact);
                Ok(())
            }
            None => Err(Error::input(format!("stage `{name}` is not up to date, and --only runs nothing else"))
                .hint(format!("run without --only, or first: pipe run {} {name}", self.plan.file.path.display()))),
        }
    }

    /// Brings a step up to date.
    pub(super) fn bring(&self, at: usize, usable: &BTreeSet<usize>) -> Ended {
        let started = Instant::now();
        let mut record = self.blank(at);
        let (mut made, mut chosen) = (None, Vec::new());
        let result = self.try_bring(at, usable, &mut record, &mut chosen, &mut made);
        record.seconds = started.elapsed().as_secs_f64();
        let error = result.err().map(|error| in_stage(&record.name, error));
        if let Some(error) = &error {
            // A stage whose gate was not met did its work all the same.
            if made.is_none() {
                record.status = Status::Failed;
            }
            record.error = Some(error.clone());
        }
        Ended { record, chosen, made, error }
    }

    fn try_bring(
        &self,
        at: usize,
        usable: &BTreeSet<usize>,
        record: &mut StageRecord,
        chosen: &mut Vec<usize>,
        made: &mut Option<Made>,
    ) -> Result<()> {
        let stage = self.plan.steps[at].stage;
        let inputs = self.inputs(at, usable)?;
        chosen.extend(inputs.iter().map(|(step, _)| *step));
        let note = |(step, artifact): &(usize, Arc<Artifact>)| InputNote {
            stage: self.plan.steps[*step].stage.name.clone(),
            artifact: artifact.manifest.content.clone(),
        };
        record.inputs = inputs.iter().map(note).collect();
        let found = match self.components(at, &inputs)? {
            Resolved::Known(found) => *found,
            // A dry run fetches nothing.
            Resolved::NotFetched(reasons) => {
                (record.status, record.reason) = (Status::WouldRun, reasons.join(", "));
                return Ok(());
            }
        };
        record.key = Some(found.key.clone());
        let forced = self.options.forced.contains(&at);
        let cached = if forced { None } else { self.cache.lookup(&found.key)? };
        let (artifact, summary) = match cached {
            Some(artifact) => {
                record.status = Status::Cached;
                record.rows = artifact.manifest.rows();
                (artifact, Summary::default())
            }
            None => {
                record.reason = if forced { "forced".to_owned() } else { self.reason(at, &found)? };
                if self.options.dry_run {
                    record.status = Status::WouldRun;
                    return Ok(());
                }
                match self.make(at, &inputs, found, record)? {
                    Some(made) => made,
                    None => {
                        (record.status, record.reason) = (Status::Blocked, "the run ended before".to_owned());
                        return Ok(());
                    }
                }
            }
        };
        record.artifact = Some(artifact.manifest.content.clone());
        let table = summary.table;
        (record.rows, record.summary) = (if record.status == Status::Cached { record.rows } else { summary.rows }, summary.line);
        record.figures = summary.figures;
        if !self.options.dry_run {
            self.remember(&stage.name, record)?;
        }
        *made = Some(Made { artifact, table });
        // In a dry run too: it says what a run would do, and that is to end here.
        match (&made, &record.key) {
            (Some(made), Some(key)) => self.judge(at, &made.artifact, key),
            _ => Ok(()),
        }
    }

    /// Why a step runs: what differs from its last success.
    fn reason(&self, at: usize, found: &StepComponents) -> Result<String> {
        let last = self.latest.lock().expect("no panic while locked").stages.get(&self.plan.steps[at].stage.name).cloned();
        Ok(explain::why_stale(self.cache, last.as_ref(), found)?.join(", "))
    }

    /// Absent: another stage failed while this one waited for its turn.
    fn make(
        &self,
        at: usize,
        inputs: &[(usize, Arc<Artifact>)],
        found: StepComponents,
        record: &mut StageRecord,
    ) -> Result<Option<(Artifact, Summary)>> {
        let step = &self.plan.steps[at];
        self.check_space(at)?;
        if let StageConfig::Ingest(config) = &found.config {
            crate::sources::check_arrival(&config.source, &found.sources, &found.notes)?;
        }
        let progress = self.reporter.stage(&step.stage.name, &record.reason, self.signals);
        let forced = self.options.forced.contains(&at);
        let pending = match self.begin(&found.key, forced, &progress)? {
            Begun::Pending(pending) => pending,
            Begun::TooLate => return Ok(None),
            Begun::MadeByOther(artifact) => return Ok(Some((*artifact, Summary { line: "made by another run".into(), ..Summary::default() }))),
        };
        let memory = self.latest.lock().expect("no panic while locked").memory.get(&step.stage.name).copied();
        let _share = self.budget.take(at, demand(step, &found.config, memory, &self.keys), &progress)?;
        if self.halted.load(Ordering::SeqCst) {
            return Ok(None);
        }
        // Before the share is given back to one that waits for it.
        let result = self.make_pending(at, inputs, found, pending, &progress, record);
        if result.is_err() && !self.options.keep_going {
            self.halted.store(true, Ordering::SeqCst);
        }
        result.map(Some)
    }

    fn make_pending(
        &self,
        at: usize,
        inputs: &[(usize, Arc<Artifact>)],
        found: StepComponents,
        pending: PendingArtifact,
        progress: &StageProgress<'_>,
        record: &mut StageRecord,
    ) -> Result<(Artifact, Summary)> {
        let step = &self.plan.steps[at];
        if self.options.forced.contains(&at) {
            // Made anew, not gone on with.
            pending.clear_scratch()?;
        }
        let context = StageContext {
            root: &self.plan.file.root,
            step,
            config: &found.config,
            inputs: inputs.iter().map(|(_, artifact)| artifact.as_ref()).collect(),
            sources: found.sources.clone(),
            components: &found.components,
            keys: &self.keys,
            pending: &pending,
            record: self.folder.join(step.stage.folder_name()),
            signals: self.signals,
            progress,
        };
        let summary = stages::run(&context)?;
        if !self.keys.unchanged(step, &context.inputs, &found.components, progress)? {
            return Err(
                Error::input("an input changed while the stage was reading it").hint("run again once it is complete; nothing of this stage was kept")
            );
        }
        let mut sources = found.notes;
        let counted = summary.figures.get("source_rows").and_then(|rows| rows.as_array());
        for (source, rows) in sources.iter_mut().zip(counted.into_iter().flatten()) {
            source.records = rows.as_u64();
        }
        record.sources.clone_from(&sources);
        let splits = summary.splits.clone();
        Ok((pending.commit(&found.components, sources, splits)?, summary))
    }

    /// Once, before the first stage is made: room for it and for all that follows it.
    fn check_space(&self, at: usize) -> Result<()> {
        let mut space = self.space.lock().expect("no panic while locked");
        let checked = space.get_or_insert_with(|| -> Result<()> {
            let mut steps = self.plan.with_readers([at]);
            steps.retain(|step| self.selected.contains(step));
            preflight::check_space(self.cache, self.plan, &self.latest.lock().expect("no panic while locked"), &steps)?;
            preflight::check_targets(self.plan, &self.publisher, &self.selected)
        });
        checked.clone()
    }

    /// Takes the key's lock. Whoever holds it makes the same output, or is a worker about to end: worth waiting for.
    fn begin(&self, key: &Key, forced: bool, progress: &StageProgress<'_>) -> Result<Begun> {
        let mut told = false;
        loop {
            match self.cache.begin(key, &self.holder) {
                Ok(pending) => {
                    // Another process may have committed it between our look and our lock.
                    let made = if forced { None } else { self.cache.lookup(key)? };
                    return Ok(match made {
                        None => Begun::Pending(pending),
                        Some(artifact) => {
                            pending.discard();
                            Begun::MadeByOther(Box::new(artifact))
                        }
                    });
                }
                Err(LockError::Failed(error)) => return Err(error),
                Err(LockError::Held(holder)) => {
                    if !told {
                        told = true;
                        progress.note(&format!("waiting for {holder}, which makes the same output"));
                    }
                    progress.check()?;
                    if self.halted.load(Ordering::SeqCst) {
                        return Ok(Begun::TooLate);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

/// What waiting for a key's lock led to.
enum Begun {
    Pending(PendingArtifact),
    MadeByOther(Box<Artifact>),
    /// The run ended in the meantime.
    TooLate,
}
