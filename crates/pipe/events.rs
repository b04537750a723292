//! What happens in a run, told as it happens: to the terminal (or as JSON lines), and to the run's `events.jsonl`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pipe_core::{Error, Progress, Result};
use serde::Serialize;

use crate::cli::LogFormat;
use crate::signals::Signals;
use crate::terminal::Terminal;

/// Progress events of one stage are at least this far apart in JSON.
const JSON_INTERVAL: Duration = Duration::from_secs(5);

/// One line of `events.jsonl`, and of standard error where that is no terminal.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'e> {
    Run {
        run: &'e str,
        pipeline: &'e str,
    },
    /// A stage begins or has ended.
    Stage {
        stage: &'e str,
        /// `running`, `ran`, `cached`, `failed`, `gate not met`, `stopped`, `blocked`, `would run`
        status: &'e str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'e str,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
        #[serde(skip_serializing_if = "str::is_empty")]
        summary: &'e str,
        #[serde(skip_serializing_if = "Option::is_none")]
        output: Option<&'e str>,
    },
    Progress {
        stage: &'e str,
        done: u64,
        total: u64,
        unit: &'e str,
        detail: &'e str,
    },
    Note {
        #[serde(skip_serializing_if = "Option::is_none")]
        stage: Option<&'e str>,
        text: &'e str,
    },
    Error {
        class: pipe_core::Class,
        exit_code: u8,
        message: &'e str,
        hint: Option<&'e str>,
    },
    End {
        run: &'e str,
        pipeline: &'e str,
        exit_code: u8,
        seconds: f64,
        ran: usize,
        cached: usize,
    },
}

impl<'e> Event<'e> {
    pub(crate) fn error(error: &'e Error) -> Event<'e> {
        Event::Error { class: error.class, exit_code: error.class.exit_code(), message: &error.message, hint: error.hint.as_deref() }
    }
}

/// Tells events to all who listen. Nobody listening is no reason to stop working: failures to tell are ignored.
pub(crate) struct Reporter {
    pub(crate) terminal: Terminal,
    log: Option<Mutex<Log>>,
}

/// `events.jsonl` of a run, opened at the first line.
struct Log {
    folder: PathBuf,
    file: Option<File>,
    started: Instant,
}

impl Log {
    fn line(&mut self, event: &Event<'_>) -> Option<()> {
        #[derive(Serialize)]
        struct Line<'l> {
            /// Seconds since the run began.
            at: f64,
            #[serde(flatten)]
            event: &'l Event<'l>,
        }
        if self.file.is_none() {
            std::fs::create_dir_all(&self.folder).ok()?;
            self.file = Some(File::options().create(true).append(true).open(self.folder.join("events.jsonl")).ok()?);
        }
        let mut line = serde_json::to_vec(&Line { at: (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0, event }).ok()?;
        line.push(b'\n');
        self.file.as_mut()?.write_all(&line).ok()
    }
}

impl Reporter {
    /// Tells the terminal alone.
    pub(crate) fn new(format: LogFormat) -> Reporter {
        Reporter { terminal: Terminal::new(format), log: None }
    }

    /// Also writes `events.jsonl` into the run's folder.
    #[must_use]
    pub(crate) fn with_log(mut self, folder: PathBuf) -> Reporter {
        self.log = Some(Mutex::new(Log { folder, file: None, started: Instant::now() }));
        self
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.terminal.show(event);
        if let Some(log) = &self.log
            && !matches!(event, Event::Progress { .. })
        {
            let _ = log.lock().expect("no panic while locked").line(event);
        }
    }

    pub(crate) fn note(&self, stage: Option<&str>, text: &str) {
        self.emit(&Event::Note { stage, text });
    }

    /// For what comes before a stage: told only if there is something to fetch.
    pub(crate) fn fetching<'r>(&'r self, name: &str, signals: &Signals) -> Fetching<'r> {
        Fetching { reporter: self, name: name.to_owned(), signals: signals.clone(), progress: OnceLock::new() }
    }

    /// Starts telling about one stage.
    pub(crate) fn stage<'r>(&'r self, name: &str, reason: &str, signals: &Signals) -> StageProgress<'r> {
        let bar = self.terminal.bar(name, reason);
        self.emit(&Event::Stage { stage: name, status: "running", reason, seconds: None, summary: "", output: None });
        StageProgress { reporter: self, name: name.to_owned(), bar, signals: signals.clone(), last: Mutex::new(None) }
    }
}

/// Tells how far one stage is.
pub(crate) struct StageProgress<'r> {
    reporter: &'r Reporter,
    name: String,
    bar: Option<ProgressBar>,
    signals: Signals,
    last: Mutex<Option<Instant>>,
}

impl Progress for StageProgress<'_> {
    fn advance(&self, done: u64, total: u64, unit: &str, detail: &str) {
        if let Some(bar) = &self.bar {
            self.reporter.terminal.advance(bar, done, total, unit, detail);
            return;
        }
        let mut last = self.last.lock().expect("no panic while locked");
        if last.is_none_or(|last| last.elapsed() >= JSON_INTERVAL) {
            *last = Some(Instant::now());
            self.reporter.emit(&Event::Progress { stage: &self.name, done, total, unit, detail });
        }
    }

    fn note(&self, text: &str) {
        self.reporter.note(Some(&self.name), text);
    }

    fn check(&self) -> Result<()> {
        self.signals.check()
    }
}

/// Tells how far the fetching of a stage's sources is, from its first byte on.
pub(crate) struct Fetching<'r> {
    reporter: &'r Reporter,
    name: String,
    signals: Signals,
    progress: OnceLock<StageProgress<'r>>,
}

impl Progress for Fetching<'_> {
    fn advance(&self, done: u64, total: u64, unit: &str, detail: &str) {
        self.progress.get_or_init(|| self.reporter.stage(&self.name, "fetching", &self.signals)).advance(done, total, unit, detail);
    }

    fn note(&self, text: &str) {
        self.reporter.note(Some(&self.name), text);
    }

    fn check(&self) -> Result<()> {
        self.signals.check()
    }
}
