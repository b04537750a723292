//! `pipe run`: walks the plan, reuses what is up to date, makes the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pipe_core::cache::{Artifact, Cache, LockError, PendingArtifact};
use pipe_core::config::{EvaluateConfig, StageConfig};
use pipe_core::digest::DigestCache;
use pipe_core::file::PipelineFile;
use pipe_core::key::{Components, Key, differences};
use pipe_core::metrics::ClassificationReport;
use pipe_core::native::NativeLibraries;
use pipe_core::{Class, Error, Plan, Progress, Result, Step, Summary};

use crate::cli::{FileArgs, Overlap, RunArgs};
use crate::keys::{KeyContext, StepComponents};
use crate::publish::publish;
use crate::record::{RunRecord, StageRecord};
use crate::signals::Signals;
use crate::stages::{self, StageContext};
use crate::terminal::{Terminal, duration, print_result};

/// Where the cache of a pipeline is.
pub(crate) fn cache_dir(args: &FileArgs, file: &PipelineFile) -> PathBuf {
    args.cache_dir.clone().unwrap_or_else(|| file.root.join(".pipe"))
}

pub(crate) fn command(args: &RunArgs) -> Result<u8> {
    let started = Instant::now();
    let file = PipelineFile::load(&args.file.file, &args.file.overrides())?;
    let plan = Plan::new(&file)?;
    let selected = select(&plan, args)?;
    let forced: BTreeSet<usize> = args.force.iter().map(|name| plan.find(name)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let cache = Cache::open(&cache_dir(&args.file, &file))?;
    let signals = Signals::install()?;
    let terminal = Terminal::new(args.log_format);
    let Some(_lock) = lock(&cache, &file.name, args.overlap, &signals)? else {
        return Err(Error::new(Class::Skipped, format!("another run of `{}` is at work: skipped", file.name)));
    };
    let digests = DigestCache::open(cache.dir().join("digests.json"));
    let native = NativeLibraries::locate();
    let mut record = RunRecord::new(ulid::Ulid::generate().to_string(), &file.name);
    let mut run = Run {
        keys: KeyContext { root: &file.root, digests: &digests, native: &native },
        plan: &plan,
        cache: &cache,
        signals: &signals,
        terminal,
        only: args.only.is_some(),
        dry_run: args.dry_run,
        forced: if args.force_all { selected.clone() } else { forced },
        artifacts: BTreeMap::new(),
        tables: Vec::new(),
    };
    let result = run.all(&selected, &mut record);
    let tables = std::mem::take(&mut run.tables);
    digests.save();
    record.end(started.elapsed().as_secs_f64(), &result);
    if !args.dry_run {
        // It describes the run and nothing depends on it: a disk too full for it must not fail what is done, nor hide
        // the error of what is not.
        if let Err(error) = record.write(&cache) {
            terminal.note(&format!("the run's record is missing: {}", error.message));
        }
    }
    for table in tables {
        print_result(&table);
    }
    result?;
    conclude(&record, args.dry_run);
    Ok(0)
}

/// The run's result, on standard output.
fn conclude(record: &RunRecord, dry_run: bool) {
    let ran = record.stages.iter().filter(|stage| stage.status != "cached").count();
    let count = record.stages.len();
    let stages = |n: usize| if n == 1 { "1 stage".to_owned() } else { format!("{n} stages") };
    match ran {
        _ if dry_run => print_result(&format!("dry run: {} would run, {} up to date", stages(ran), count - ran)),
        0 => print_result(&format!("{}: {} up to date, nothing to do ({:.0} ms)", record.pipeline, stages(count), record.seconds * 1000.0)),
        _ => print_result(&format!("{}: {} ran, {} reused, in {}", record.pipeline, stages(ran), count - ran, duration(record.seconds))),
    }
}

fn select(plan: &Plan<'_>, args: &RunArgs) -> Result<BTreeSet<usize>> {
    if let Some(only) = &args.only {
        return Ok(plan.find(only)?.into_iter().collect());
    }
    let until: Option<BTreeSet<usize>> = match &args.until {
        Some(name) => Some(plan.with_needs(plan.find(name)?)),
        None => None,
    };
    let targets: BTreeSet<usize> = match &args.from {
        Some(from) => plan.with_readers(plan.find(from)?),
        None if args.stages.is_empty() => (0..plan.steps.len()).collect(),
        None => args.stages.iter().map(|name| plan.find(name)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
    };
    let selected = plan.with_needs(targets);
    Ok(match until {
        Some(until) => selected.intersection(&until).copied().collect(),
        None => selected,
    })
}

fn lock(cache: &Cache, name: &str, overlap: Overlap, signals: &Signals) -> Result<Option<pipe_core::cache::Lock>> {
    loop {
        match cache.lock_pipeline(name) {
            Ok(lock) => return Ok(Some(lock)),
            Err(LockError::Failed(error)) => return Err(error),
            Err(LockError::Held(_)) if overlap == Overlap::Skip => return Ok(None),
            Err(LockError::Held(holder)) if overlap == Overlap::Fail => {
                return Err(Error::stage(format!("another run of `{name}` is at work ({holder})"))
                    .hint("wait for it, or use --overlap wait or --overlap skip"));
            }
            Err(LockError::Held(_)) => {
                signals.check()?;
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

struct Run<'r> {
    keys: KeyContext<'r>,
    plan: &'r Plan<'r>,
    cache: &'r Cache,
    signals: &'r Signals,
    terminal: Terminal,
    only: bool,
    dry_run: bool,
    forced: BTreeSet<usize>,
    artifacts: BTreeMap<usize, Artifact>,
    tables: Vec<String>,
}

impl Run<'_> {
    fn all(&mut self, selected: &BTreeSet<usize>, record: &mut RunRecord) -> Result<()> {
        if self.only {
            let needs = self.plan.with_needs(selected.iter().copied());
            for at in needs.difference(selected) {
                self.require_fresh(*at)?;
            }
        }
        // Steps whose inputs a dry run cannot know, because they would be made first.
        let mut unknown: BTreeSet<usize> = BTreeSet::new();
        for &at in selected {
            self.signals.check()?;
            let step = &self.plan.steps[at];
            if step.inputs.iter().any(|input| unknown.contains(&input.steps[0])) {
                unknown.insert(at);
                self.terminal.note(&format!("{} would run: its input is made anew", step.stage.name));
                record.stages.push(StageRecord { status: "would run", ..blank(step) });
                continue;
            }
            let started = Instant::now();
            let StepComponents { components, sources } = self.step_components(at)?;
            let key = Key::of(&components);
            let found = if self.forced.contains(&at) { None } else { self.cache.lookup(&key)? };
            let stage_record = match found {
                Some(artifact) => {
                    let stage_record = StageRecord {
                        status: "cached",
                        key: Some(key.clone()),
                        artifact: Some(artifact.manifest.content.clone()),
                        rows: artifact.manifest.rows(),
                        ..blank(step)
                    };
                    self.artifacts.insert(at, artifact);
                    stage_record
                }
                None => {
                    let reason = if self.forced.contains(&at) { "forced".to_owned() } else { self.reason(step, &key, &components)? };
                    if self.dry_run {
                        unknown.insert(at);
                        self.terminal.note(&format!("{} would run: {reason}", step.stage.name));
                        record.stages.push(StageRecord { status: "would run", reason, ..blank(step) });
                        continue;
                    }
                    match self.make(at, &key, &components, sources, &reason, record) {
                        Ok((artifact, summary)) => {
                            let content = artifact.manifest.content.clone();
                            self.artifacts.insert(at, artifact);
                            if !summary.table.is_empty() {
                                self.tables.push(format!("{}:\n{}", step.stage.name, summary.table));
                            }
                            StageRecord {
                                status: "ran",
                                reason,
                                key: Some(key.clone()),
                                artifact: Some(content),
                                seconds: started.elapsed().as_secs_f64(),
                                rows: summary.rows,
                                summary: summary.line,
                                figures: summary.figures,
                                ..blank(step)
                            }
                        }
                        Err(error) => {
                            record.stages.push(StageRecord {
                                status: "failed",
                                reason,
                                key: Some(key),
                                seconds: started.elapsed().as_secs_f64(),
                                ..blank(step)
                            });
                            return Err(Error { message: format!("stage `{}`: {}", step.stage.name, error.message), ..error });
                        }
                    }
                }
            };
            self.say_done(&stage_record);
            record.stages.push(stage_record);
            if !self.dry_run {
                self.after(at, &key)?;
            }
        }
        Ok(())
    }

    /// A run in which all is reused says so in one line; lines for single reused stages come only beside others.
    fn say_done(&self, record: &StageRecord) {
        if record.status != "cached" {
            self.terminal.stage_done(&record.name, record.status, record.seconds, &record.summary);
        } else if self.terminal == Terminal::Json {
            self.terminal.stage_done(&record.name, record.status, 0.0, "");
        }
    }

    fn step_components(&self, at: usize) -> Result<StepComponents> {
        let step = &self.plan.steps[at];
        let inputs: Vec<&Artifact> = step.inputs.iter().map(|input| &self.artifacts[&input.steps[0]]).collect();
        self.keys.components(step, &inputs).map_err(|error| Error { message: format!("stage `{}`: {}", step.stage.name, error.message), ..error })
    }

    fn require_fresh(&mut self, at: usize) -> Result<()> {
        let name = &self.plan.steps[at].stage.name;
        let key = Key::of(&self.step_components(at)?.components);
        match self.cache.lookup(&key)? {
            Some(artifact) => {
                self.artifacts.insert(at, artifact);
                Ok(())
            }
            None => Err(Error::input(format!("stage `{name}` is not up to date, and --only runs nothing else"))
                .hint(format!("run without --only, or first: pipe run {} {name}", self.plan.file.path.display()))),
        }
    }

    /// Why a step runs: what differs from its last success.
    fn reason(&self, step: &Step<'_>, key: &Key, components: &Components) -> Result<String> {
        why_stale(self.cache, &self.plan.file.name, &step.stage.name, key, components)
    }

    fn make(
        &self,
        at: usize,
        key: &Key,
        components: &Components,
        sources: Vec<pipe_core::source::SourceFile>,
        reason: &str,
        record: &RunRecord,
    ) -> Result<(Artifact, Summary)> {
        let step = &self.plan.steps[at];
        let progress = self.terminal.stage(&step.stage.name, reason, self.signals);
        let forced = self.forced.contains(&at);
        let pending = match self.begin(key, forced, &progress) {
            Ok(Begun::Pending(pending)) => pending,
            Ok(Begun::MadeByOther(artifact)) => {
                progress.finish();
                return Ok((*artifact, Summary { line: "made by another run".into(), ..Summary::default() }));
            }
            Err(error) => {
                progress.finish();
                return Err(error);
            }
        };
        if forced {
            // Made anew, not gone on with.
            pending.clear_scratch()?;
        }
        let context = StageContext {
            root: &self.plan.file.root,
            step,
            inputs: step.inputs.iter().map(|input| &self.artifacts[&input.steps[0]]).collect(),
            sources,
            components,
            keys: &self.keys,
            pending: &pending,
            record: record.folder(self.cache).join(&step.stage.name),
            signals: self.signals,
            progress: &progress,
        };
        let made = stages::run(&context);
        progress.finish();
        let summary = made?;
        if self.step_components(at)?.components != *components {
            return Err(
                Error::input("an input changed while the stage was reading it").hint("run again once it is complete; nothing of this stage was kept")
            );
        }
        let splits = summary.splits.clone();
        Ok((pending.commit(components, splits)?, summary))
    }

    /// Takes the key's lock. Whoever holds it makes the same output, or is a worker about to end: worth waiting for.
    fn begin(&self, key: &Key, forced: bool, progress: &dyn Progress) -> Result<Begun> {
        let mut told = false;
        loop {
            match self.cache.begin(key) {
                Ok(pending) => {
                    // Another process may have committed it between our look and our lock.
                    let made = if forced { None } else { self.cache.lookup(key)? };
                    return Ok(made.map_or(Begun::Pending(pending), |artifact| Begun::MadeByOther(Box::new(artifact))));
                }
                Err(LockError::Failed(error)) => return Err(error),
                Err(LockError::Held(holder)) => {
                    if !told {
                        told = true;
                        progress.note(&format!("waiting for {holder}, which makes the same output"));
                    }
                    progress.check()?;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// What happens whether a stage ran or was reused: note it, publish it, check its gates.
    fn after(&mut self, at: usize, key: &Key) -> Result<()> {
        let step = &self.plan.steps[at];
        let artifact = &self.artifacts[&at];
        let mut latest = self.cache.latest(&self.plan.file.name);
        if latest.0.get(&step.stage.name) != Some(key) {
            latest.0.insert(step.stage.name.clone(), key.clone());
            self.cache.set_latest(&self.plan.file.name, &latest)?;
        }
        if let StageConfig::Evaluate(config) = &step.stage.config {
            check_gates(config, &step.stage.name, artifact)?;
        }
        if let Some(target) = &step.stage.publish
            && publish(self.cache, &self.plan.file.root, target, artifact)?
        {
            self.terminal.note(&format!("published {}", target.display()));
        }
        Ok(())
    }
}

/// What waiting for a key's lock led to.
enum Begun {
    Pending(PendingArtifact),
    MadeByOther(Box<Artifact>),
}

fn blank(step: &Step<'_>) -> StageRecord {
    StageRecord {
        name: step.stage.name.clone(),
        status: "ran",
        reason: String::new(),
        key: None,
        artifact: None,
        seconds: 0.0,
        rows: 0,
        summary: String::new(),
        figures: BTreeMap::new(),
    }
}

/// What differs between a stage's last success and now.
pub(crate) fn why_stale(cache: &Cache, pipeline: &str, stage: &str, key: &Key, components: &Components) -> Result<String> {
    let latest = cache.latest(pipeline);
    let Some(last) = latest.0.get(stage) else { return Ok("never run".into()) };
    if last == key {
        return Ok("its output is gone or damaged".into());
    }
    let Some(old) = cache.components(last)? else { return Ok("its last key is gone".into()) };
    Ok(differences(&old, components).join(", "))
}

/// Gates are checked on every run, also on a reused evaluation, so that a model that is not good enough never
/// gets further by running twice.
fn check_gates(config: &EvaluateConfig, stage: &str, artifact: &Artifact) -> Result<()> {
    if config.gate.is_empty() {
        return Ok(());
    }
    let report = ClassificationReport::read(&artifact.path)?;
    let missed: Vec<String> = config
        .gate
        .iter()
        .filter_map(|(name, gate)| {
            let value = report.metrics.get(name).copied().unwrap_or(f64::NAN);
            (!gate.holds(value)).then(|| format!("{name} is {value:.4}, the gate is {} {}", gate.operator.sign(), gate.threshold))
        })
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Error::gate(format!("stage `{stage}`: {}", missed.join("; ")))
        .hint("nothing after this stage was run or published; train longer, on more rows, or lower the gate"))
}
