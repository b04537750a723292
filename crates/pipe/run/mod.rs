//! `pipe run`: walks the plan, reuses what is up to date, makes the rest, and says how it ended.

mod budget;
mod gate;
mod preflight;
mod select;
mod settle;
mod step;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use pipe_core::cache::{Cache, Lock, LockError};
use pipe_core::config::{Overlap, RunConfig};
use pipe_core::digest::{self, DigestCache};
use pipe_core::file::PipelineFile;
use pipe_core::native::NativeLibraries;
use pipe_core::{Class, Error, Plan, Result, failpoint};
use pipe_remote::Access;

use crate::cli::{FileArgs, RunArgs};
use crate::events::{Event, Reporter};
use crate::keys::KeyContext;
use crate::notify::notify;
use crate::publish::{Publisher, RunNames};
use crate::record::{RunRecord, Status, host};
use crate::signals::Signals;
use crate::sources::Fetched;
use crate::terminal::{duration, print_result, shortened, table};

use budget::Budget;
use gate::Gates;
pub(crate) use gate::check_metrics;
use step::{Walk, WalkOptions};

/// Where the cache of a pipeline is.
pub(crate) fn cache_dir(args: &FileArgs, file: &PipelineFile) -> PathBuf {
    args.cache_dir.clone().unwrap_or_else(|| file.root.join(".pipe"))
}

/// What a pipeline's state and lock are known by in a cache: its name, and in a cache that several projects share also its
/// root, since two of them may well have a pipeline of one name.
pub(crate) fn pipeline_id(file: &PipelineFile, cache: &Path) -> String {
    let cache = cache.canonicalize().or_else(|_| std::path::absolute(cache)).unwrap_or_else(|_| cache.to_owned());
    if cache.starts_with(&file.root) {
        return file.name.clone();
    }
    format!("{}-{}", file.name, &digest::of_bytes(file.root.as_os_str().as_encoded_bytes())[..8])
}

/// A figure of `/proc/meminfo`, in bytes.
pub(crate) fn memory_info(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

pub(crate) fn command(args: &RunArgs) -> Result<u8> {
    let started = Instant::now();
    let mut file = PipelineFile::load(&args.file.file, &args.file.overrides())?;
    file.run = settings(&file.run, args);
    let plan = crate::sql::plan(&file)?;
    let signals = Signals::install()?.with_deadline(started, file.run.deadline);
    let selected = select::selected(&plan, args)?;
    let forced = select::forced(&plan, args, &selected)?;
    // Opened by the run, so that a folder that cannot be is recorded (where it can be) and told like any failure.
    let cache = Cache::at(&cache_dir(&args.file, &file));
    let native = NativeLibraries::locate();
    let mut record = RunRecord::new(ulid::Ulid::generate().to_string(), &file, &native);
    let mut reporter = Reporter::new(args.log_format);
    if !args.dry_run {
        reporter = reporter.with_log(record.folder(&cache));
    }
    raise_file_limit();
    let names = RunNames::now(&record.run);
    let run = Run { args, plan: &plan, cache: &cache, native: &native, signals: &signals, reporter: &reporter, started, names };
    let result = run.all(&mut record, &selected, forced);
    record.end(started.elapsed().as_secs_f64(), &result);
    reporter.terminal.finish();
    if !args.dry_run {
        run.conclude(&record);
    }
    result?;
    print_result(&last_line(&record, args.dry_run));
    Ok(0)
}

/// Every artifact in use holds an open lock, and a large matrix has more of them than the 1,024 files that shells allow.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Failing to costs nothing where there are few.
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The file's `run:` section with what the command line says instead.
fn settings(file: &RunConfig, args: &RunArgs) -> RunConfig {
    let mut run = file.clone();
    run.overlap = args.overlap.map_or(run.overlap, Overlap::from);
    run.deadline = args.deadline.or(run.deadline);
    run.keep_going |= args.keep_going;
    run.cpus = args.cpus.or(run.cpus);
    run.offline |= args.offline;
    run
}

struct Run<'r> {
    args: &'r RunArgs,
    plan: &'r Plan<'r>,
    /// For reading alone.
    cache: &'r Cache,
    native: &'r Result<NativeLibraries>,
    signals: &'r Signals,
    reporter: &'r Reporter,
    started: Instant,
    names: RunNames,
}

impl Run<'_> {
    /// Everything between the plan and the record.
    fn all(&self, record: &mut RunRecord, selected: &BTreeSet<usize>, forced: BTreeSet<usize>) -> Result<()> {
        let file = self.plan.file;
        let holder = format!("process {} on {}, run {} since {}", record.process, host(), record.run, record.started.strftime("%F %T UTC"));
        // A dry run only looks: it locks nothing, waits for nobody, and changes nothing.
        let dry_run = self.args.dry_run;
        let cache = if dry_run { self.cache.clone() } else { Cache::open(self.cache.dir())? };
        let pipeline = pipeline_id(file, cache.dir());
        let _lock = match dry_run {
            true => None,
            false => match self.lock(&pipeline, &holder)? {
                Some(lock) => Some(lock),
                None => return Err(Error::new(Class::Skipped, format!("another run of `{}` is at work: skipped", file.name))),
            },
        };
        let names: Vec<&str> = selected.iter().map(|at| self.plan.steps[*at].stage.name.as_str()).collect();
        self.reporter.terminal.plan(&names);
        self.reporter.emit(&Event::Run { run: &record.run, pipeline: &record.pipeline });
        if !dry_run {
            self.write(record);
        }
        let digests = DigestCache::open(cache.dir().join("digests.json"));
        let access = if dry_run { Access::Look } else { Access::Fetch };
        let fetched = Fetched::new(cache.dir(), &file.run, access);
        let _files = if dry_run { None } else { Some(cache.use_files()?) };
        let walk = Walk {
            plan: self.plan,
            cache: &cache,
            pipeline: pipeline.clone(),
            keys: KeyContext { root: &file.root, digests: &digests, native: self.native, fetched: &fetched },
            signals: self.signals,
            reporter: self.reporter,
            options: WalkOptions { dry_run, keep_going: file.run.keep_going, forced },
            budget: Budget::new(&file.run),
            publisher: Publisher::new(&cache, file, self.names.clone()),
            holder,
            folder: record.folder(&cache),
            started: self.started,
            selected: selected.clone(),
            latest: Mutex::new(cache.latest(&pipeline)),
            artifacts: Mutex::new(BTreeMap::new()),
            halted: AtomicBool::new(false),
            space: Mutex::new(None),
        };
        if self.args.only.is_some() {
            let gates = Gates::of(self.plan);
            let gates = selected.iter().flat_map(|at| gates.before_beginning[*at].clone());
            let needs = self.plan.with_needs(selected.iter().copied().chain(gates));
            for at in needs.difference(selected) {
                walk.require_fresh(*at)?;
            }
        }
        let outcome = walk::walk(&walk, selected);
        if !dry_run {
            digests.save();
        }
        record.stages = outcome.records;
        for table in &outcome.tables {
            print_result(table);
        }
        outcome.result?;
        if !dry_run {
            let mut latest = walk.latest.lock().expect("no panic while locked").clone();
            let before = latest.clone();
            if selected.len() == self.plan.steps.len() {
                // What is no longer in the file is no longer of its state, and may be swept away.
                let in_plan = |name: &String| self.plan.steps.iter().any(|step| step.stage.name == *name);
                latest.stages.retain(|name, _| in_plan(name));
                latest.good.retain(|name, _| in_plan(name));
                latest.memory.retain(|name, _| in_plan(name));
            }
            latest.good.extend(record.stages.iter().filter_map(|stage| Some((stage.name.clone(), stage.key.clone()?))));
            if latest != before {
                latest.good_run = Some(record.run.clone());
                cache.set_latest(&pipeline, &latest)?;
            }
        }
        Ok(())
    }

    fn lock(&self, pipeline: &str, holder: &str) -> Result<Option<Lock>> {
        let (name, overlap) = (&self.plan.file.name, self.plan.file.run.overlap);
        let mut told = false;
        loop {
            match self.cache.lock_pipeline(pipeline, holder) {
                Ok(lock) => return Ok(Some(lock)),
                Err(LockError::Failed(error)) => return Err(error),
                Err(LockError::Held(_)) if overlap == Overlap::Skip => return Ok(None),
                Err(LockError::Held(holder)) if overlap == Overlap::Fail => {
                    return Err(Error::stage(format!("another run of `{name}` is at work ({holder})"))
                        .hint("wait for it, or use --overlap wait or --overlap skip"));
                }
                Err(LockError::Held(holder)) => {
                    if !told {
                        told = true;
                        self.reporter.note(None, &format!("waiting for another run of `{name}` ({holder})"));
                    }
                    self.signals.check()?;
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    /// Writes the record, tells whoever is to be told, and sums up. Nothing depends on these: a disk too full for them
    /// must not fail what is done, nor hide the error of what is not.
    fn conclude(&self, record: &RunRecord) {
        self.write(record);
        failpoint("run.recorded");
        let (ran, cached) = (record.count(Status::Ran), record.count(Status::Cached));
        let exit_code = record.exit_code.unwrap_or(1);
        self.reporter.emit(&Event::End { run: &record.run, pipeline: &record.pipeline, exit_code, seconds: record.seconds, ran, cached });
        if let Some(config) = &self.plan.file.run.notify
            && let Err(text) = notify(config, record, &|name| run_name(record, &self.names, name))
        {
            self.reporter.note(None, &format!("run.notify failed: {text}"));
        }
        if !self.reporter.terminal.is_json() && ran + record.stages.iter().filter(|stage| stage.error.is_some()).count() > 0 {
            print_result(&summary(record, self.cache));
        }
    }

    fn write(&self, record: &RunRecord) {
        if let Err(error) = record.write(self.cache) {
            self.reporter.note(None, &format!("the run's record is missing: {}", error.message));
        }
    }
}

/// The value of `${run.NAME}`.
fn run_name(record: &RunRecord, names: &RunNames, name: &str) -> String {
    match name {
        "outcome" => record.outcome.and_then(|outcome| serde_json::to_value(outcome).ok()?.as_str().map(str::to_owned)).unwrap_or_default(),
        _ => names.value(name),
    }
}

/// What became of each stage, as a table.
fn summary(record: &RunRecord, cache: &Cache) -> String {
    let header = ["stage", "status", "time", "rows", "reason", "output"].map(str::to_owned).to_vec();
    let row = |stage: &crate::record::StageRecord| {
        let output = match (&stage.published, &stage.artifact) {
            (Some(path), _) => from_here(path),
            (None, Some(artifact)) => from_here(&cache.artifact_path(artifact)),
            (None, None) => String::new(),
        };
        let time = if matches!(stage.status, Status::Cached | Status::Blocked) { String::new() } else { duration(stage.seconds) };
        let rows = if stage.rows > 0 { stage.rows.to_string() } else { String::new() };
        vec![stage.name.clone(), stage.shown_status().to_owned(), time, rows, shortened(&stage.reason, 44), output]
    };
    table(&std::iter::once(header).chain(record.stages.iter().map(row)).collect::<Vec<_>>())
}

/// A path as short as it can be written in the folder that the user is in.
pub(crate) fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// The run's result, on standard output.
fn last_line(record: &RunRecord, dry_run: bool) -> String {
    let count = record.stages.len();
    let cached = record.count(Status::Cached);
    let stages = |n: usize| if n == 1 { "1 stage".to_owned() } else { format!("{n} stages") };
    match count - cached {
        ran if dry_run => format!("dry run: {} would run, {cached} up to date", stages(ran)),
        0 => format!("{}: {} up to date, nothing to do ({:.0} ms)", record.pipeline, stages(count), record.seconds * 1000.0),
        ran => format!("{}: {} ran, {cached} reused, in {}", record.pipeline, stages(ran), duration(record.seconds)),
    }
}
