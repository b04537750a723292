//! `runs/<ulid>/run.json`: what a run did, from what, with what and how it ended; for people, for later runs and for
//! `run.notify`. Its exit code is the one the process ends with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use pipe_core::cache::{Cache, SourceNote};
use pipe_core::config::Outcome;
use pipe_core::file::PipelineFile;
use pipe_core::key::Key;
use pipe_core::native::NativeLibraries;
use pipe_core::{Class, Error, IoContext, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// On-disk version of `run.json`.
const VERSION: u32 = 2;
const FILE_NAME: &str = "run.json";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    version: u32,
    pub(crate) run: String,
    pub(crate) pipeline: String,
    pub(crate) file: FileNote,
    /// Values of the file's variables; those from the environment by name only.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) pipe: String,
    /// Library → version, of those that are installed.
    pub(crate) libraries: BTreeMap<String, String>,
    pub(crate) machine: Machine,
    pub(crate) process: u32,
    pub(crate) started: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) seconds: f64,
    /// Absent while it runs, and for ever in one that was killed.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) exit_code: Option<u8>,
    pub(crate) error: Option<Error>,
    pub(crate) stages: Vec<StageRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FileNote {
    pub(crate) path: PathBuf,
    pub(crate) digest: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) host: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
}

/// What became of a stage in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Ran,
    /// Up to date before.
    Cached,
    Failed,
    /// Not begun, since something that it needs failed or the run stopped.
    Blocked,
    /// In a dry run.
    #[serde(rename = "would run")]
    WouldRun,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Ran => "ran",
            Status::Cached => "cached",
            Status::Failed => "failed",
            Status::Blocked => "blocked",
            Status::WouldRun => "would run",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StageRecord {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) status: Status,
    /// Why it ran, or why it did not.
    pub(crate) reason: String,
    pub(crate) key: Option<Key>,
    /// Content id of the output.
    pub(crate) artifact: Option<String>,
    pub(crate) inputs: Vec<InputNote>,
    /// Of a stage that ran; that of a reused one is in the record of its key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sources: Vec<SourceNote>,
    /// The settings that decide the output, defaults left out.
    pub(crate) with: Value,
    /// Since the run began.
    pub(crate) started_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) rows: u64,
    pub(crate) summary: String,
    pub(crate) published: Option<PathBuf>,
    pub(crate) figures: BTreeMap<String, Value>,
    pub(crate) error: Option<Error>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InputNote {
    pub(crate) stage: String,
    pub(crate) artifact: String,
}

impl StageRecord {
    /// Its status, and what came after it where that went wrong.
    pub(crate) fn shown_status(&self) -> &'static str {
        match &self.error {
            Some(error) if error.class == Class::Gate => "gate not met",
            Some(error) if error.class.is_stop() => "stopped",
            Some(_) => "failed",
            None => self.status.name(),
        }
    }
}

impl RunRecord {
    pub(crate) fn new(run: String, file: &PipelineFile, native: &Result<NativeLibraries>) -> RunRecord {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut libraries = BTreeMap::new();
        if let Ok(native) = native {
            for (name, version) in [("libtorch", native.libtorch_version()), ("onnxruntime", native.onnxruntime_version())] {
                libraries.extend(version.ok().map(|version| (name.to_owned(), version)));
            }
        }
        RunRecord {
            version: VERSION,
            run,
            pipeline: file.name.clone(),
            file: FileNote { path: file.path.clone(), digest: file.digest.clone() },
            variables: file.variables.clone(),
            pipe: pipe_core::BUILD_ID.to_owned(),
            libraries,
            machine: Machine { host: host(), cores, memory_bytes: crate::run::memory_info("MemTotal").unwrap_or(0) },
            process: std::process::id(),
            started: Timestamp::now(),
            ended: None,
            seconds: 0.0,
            outcome: None,
            exit_code: None,
            error: None,
            stages: Vec::new(),
        }
    }

    /// The folder of this run's timed records.
    pub(crate) fn folder(&self, cache: &Cache) -> PathBuf {
        cache.run_dir(&self.run)
    }

    pub(crate) fn end(&mut self, seconds: f64, result: &Result<()>) {
        self.seconds = seconds;
        self.ended = Some(Timestamp::now());
        let (outcome, code) = match result {
            Ok(()) if self.count(Status::Ran) == 0 => (Outcome::Unchanged, 0),
            Ok(()) => (Outcome::Success, 0),
            Err(error) if error.class == Class::Skipped => (Outcome::Skipped, error.class.exit_code()),
            Err(error) if error.class.is_stop() => (Outcome::Stopped, error.class.exit_code()),
            Err(error) => (Outcome::Failure, error.class.exit_code()),
        };
        (self.outcome, self.exit_code) = (Some(outcome), Some(code));
        self.error = result.as_ref().err().cloned();
    }

    pub(crate) fn count(&self, status: Status) -> usize {
        self.stages.iter().filter(|stage| stage.status == status).count()
    }

    pub(crate) fn stage(&self, name: &str) -> Option<&StageRecord> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Writes `run.json`. Not synced: it describes, nothing depends on it.
    pub(crate) fn write(&self, cache: &Cache) -> Result<()> {
        let folder = self.folder(cache);
        std::fs::create_dir_all(&folder).doing("make the folder", &folder)?;
        let (path, aside) = (folder.join(FILE_NAME), folder.join(".run.json"));
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::internal(e.to_string()))?;
        std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, &path)).doing("write", &path)
    }

    /// Absent where there is none, or where another version of pipe wrote it.
    pub(crate) fn read(cache: &Cache, run: &str) -> Option<RunRecord> {
        let record: RunRecord = serde_json::from_slice(&std::fs::read(cache.run_dir(run).join(FILE_NAME)).ok()?).ok()?;
        (record.version == VERSION).then_some(record)
    }

    /// How it ended, in a word or two.
    pub(crate) fn ending(&self) -> String {
        match (self.outcome, self.exit_code) {
            (Some(Outcome::Success), _) => "ok".into(),
            (Some(Outcome::Unchanged), _) => "unchanged".into(),
            (Some(outcome), Some(code)) => {
                let word = match outcome {
                    Outcome::Failure => "failed",
                    Outcome::Skipped => "skipped",
                    _ => "stopped",
                };
                format!("{word} ({code})")
            }
            _ if self.is_alive() => "running".into(),
            _ => "killed".into(),
        }
    }

    /// Whether its process still runs, as far as this machine can tell.
    fn is_alive(&self) -> bool {
        self.machine.host == host() && std::fs::read(format!("/proc/{}/comm", self.process)).is_ok_and(|name| name.starts_with(b"pipe"))
    }
}

/// This machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
