//! What a person or a log collector sees: bars on a terminal, JSON lines elsewhere. Results go to standard output.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pipe_core::{Error, Progress, Result};
use serde_json::json;

use crate::cli::LogFormat;
use crate::signals::Signals;

/// JSON progress lines of one stage are at least this far apart.
const JSON_INTERVAL: Duration = Duration::from_secs(5);

/// Where and how progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// A live bar per stage.
    Bars,
    /// Plain lines.
    Text,
    Json,
}

impl Terminal {
    pub(crate) fn new(format: LogFormat) -> Terminal {
        match format {
            LogFormat::Json => Terminal::Json,
            _ if std::io::stderr().is_terminal() => Terminal::Bars,
            LogFormat::Text => Terminal::Text,
            LogFormat::Auto => Terminal::Json,
        }
    }

    /// Starts telling about one stage.
    pub(crate) fn stage(self, name: &str, reason: &str, signals: &Signals) -> StageProgress {
        let bar = match self {
            Terminal::Bars => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
                bar.set_style(spinner());
                bar.set_prefix(name.to_owned());
                bar.set_message(reason.to_owned());
                bar.enable_steady_tick(Duration::from_millis(100));
                Some(bar)
            }
            Terminal::Text => {
                eprintln!("{name}: {reason}");
                None
            }
            Terminal::Json => {
                line(&json!({"event": "stage", "stage": name, "status": "running", "reason": reason}));
                None
            }
        };
        StageProgress { terminal: self, name: name.to_owned(), bar, signals: signals.clone(), last: Mutex::new(None) }
    }

    /// One line for a stage that has ended or was reused.
    pub(crate) fn stage_done(self, name: &str, status: &str, seconds: f64, text: &str) {
        match self {
            Terminal::Json => line(&json!({"event": "stage", "stage": name, "status": status, "seconds": seconds, "summary": text})),
            _ if status == "cached" => eprintln!("{} {name:<10} up to date", tick('·')),
            _ => eprintln!("{} {name:<10} {:>7}  {text}", tick('✓'), duration(seconds)),
        }
    }

    pub(crate) fn note(self, text: &str) {
        match self {
            Terminal::Json => line(&json!({"event": "note", "text": text})),
            _ => eprintln!("  {text}"),
        }
    }
}

/// One result on standard output. A reader that left early (`| head`) is no fault.
pub(crate) fn print_result(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn tick(mark: char) -> String {
    mark.to_string()
}

fn line(value: &serde_json::Value) {
    // Standard error may be a closed pipe; that is no reason to stop working.
    let _ = writeln!(std::io::stderr(), "{value}");
}

/// Seconds for people: `0.4 s`, `12 s`, `3 m 05 s`.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s => format!("{} m {:02} s", (s / 60.0) as u64, (s % 60.0) as u64),
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix:10} {elapsed:>5}  {wide_msg}").expect("a valid template")
}

fn bar(unit: &str) -> ProgressStyle {
    let count = if unit == "bytes" { "{bytes}/{total_bytes}" } else { "{human_pos}/{human_len} {unit}" };
    let template = format!("{{spinner}} {{prefix:10}} {{elapsed:>5}}  {{bar:24}} {count}  {{msg}}  ETA {{eta}}").replace("{unit}", unit);
    ProgressStyle::with_template(&template).expect("a valid template").progress_chars("━╸ ")
}

/// Tells how far one stage is.
pub(crate) struct StageProgress {
    terminal: Terminal,
    name: String,
    bar: Option<ProgressBar>,
    signals: Signals,
    last: Mutex<Option<Instant>>,
}

impl StageProgress {
    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for StageProgress {
    fn advance(&self, done: u64, total: u64, unit: &str, detail: &str) {
        if let Some(shown) = &self.bar {
            if total > 0 && shown.length() != Some(total) {
                shown.set_length(total);
                shown.set_style(bar(unit));
            }
            shown.set_position(done);
            shown.set_message(detail.to_owned());
        }
        if self.terminal == Terminal::Json {
            let mut last = self.last.lock().expect("no panic while locked");
            if last.is_none_or(|last| last.elapsed() >= JSON_INTERVAL) {
                *last = Some(Instant::now());
                line(&json!({"event": "progress", "stage": self.name, "done": done, "total": total, "unit": unit, "detail": detail}));
            }
        }
    }

    fn note(&self, text: &str) {
        match (&self.bar, self.terminal) {
            (Some(bar), _) => bar.suspend(|| eprintln!("  {text}")),
            (None, Terminal::Json) => line(&json!({"event": "note", "stage": self.name, "text": text})),
            (None, _) => eprintln!("  {text}"),
        }
    }

    fn check(&self) -> Result<()> {
        self.signals.check()
    }
}

/// The last words of a command that failed: one screen, what is wrong and what to do.
pub(crate) fn print_error(error: &Error, format: LogFormat) {
    if Terminal::new(format) == Terminal::Json && format != LogFormat::Text {
        line(&json!({"event": "error", "class": error.class, "exit_code": error.class.exit_code(), "message": error.message, "hint": error.hint}));
        return;
    }
    match (&error.rendered, &error.hint) {
        (Some(rendered), _) => eprintln!("{rendered}"),
        (None, Some(hint)) => eprintln!("error: {}\n hint: {hint}", error.message),
        (None, None) => eprintln!("error: {}", error.message),
    }
}
