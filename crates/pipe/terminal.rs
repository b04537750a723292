//! What a person or a log collector sees: a list of stages with live bars on a terminal, JSON lines elsewhere. Results go
//! to standard output.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pipe_core::{Error, Result};

use crate::cli::LogFormat;
use crate::events::Event;

/// Where and how progress is told.
pub(crate) enum Terminal {
    /// A live line per stage.
    Bars(Bars),
    /// Plain lines.
    Text,
    Json,
}

/// The live lines: one for each stage that runs or waits, in the order of the plan.
pub(crate) struct Bars {
    lines: MultiProgress,
    stages: Mutex<Vec<StageLine>>,
}

struct StageLine {
    name: String,
    bar: Option<ProgressBar>,
}

/// Of stages' names, at least.
const NAME_WIDTH: usize = 10;
/// With more stages than this only those that run have a live line.
const MAX_WAITING_LINES: usize = 24;

impl Terminal {
    pub(crate) fn new(format: LogFormat) -> Terminal {
        match format {
            LogFormat::Json => Terminal::Json,
            _ if std::io::stderr().is_terminal() => {
                let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
                Terminal::Bars(Bars { lines, stages: Mutex::new(Vec::new()) })
            }
            LogFormat::Text => Terminal::Text,
            LogFormat::Auto => Terminal::Json,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        matches!(self, Terminal::Json)
    }

    /// Names the stages to come, so that those that wait have a line too. Lines appear with the first stage that runs.
    pub(crate) fn plan(&self, names: &[&str]) {
        if let Terminal::Bars(bars) = self {
            let mut stages = bars.stages.lock().expect("no panic while locked");
            *stages = names.iter().map(|name| StageLine { name: (*name).to_owned(), bar: None }).collect();
        }
    }

    /// The live line of a stage that begins.
    pub(crate) fn bar(&self, name: &str, reason: &str) -> Option<ProgressBar> {
        let Terminal::Bars(bars) = self else { return None };
        let mut stages = bars.stages.lock().expect("no panic while locked");
        if !stages.iter().any(|line| line.name == name) {
            stages.push(StageLine { name: name.to_owned(), bar: None });
        }
        let all = stages.len() <= MAX_WAITING_LINES;
        let width = name_width(&stages);
        for line in stages.iter_mut().filter(|line| line.bar.is_none() && (all || line.name == name)) {
            let bar = bars.lines.add(ProgressBar::no_length());
            bar.set_prefix(format!("{:width$}", line.name));
            bar.set_style(style(&format!("{} {{prefix}}", dim("○"))));
            bar.tick();
            line.bar = Some(bar);
        }
        let bar = stages.iter().find(|line| line.name == name).and_then(|line| line.bar.clone())?;
        bar.reset_elapsed();
        bar.set_style(style("{spinner} {prefix} {elapsed:>5}  {wide_msg}"));
        bar.set_message(reason.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Some(bar)
    }

    pub(crate) fn advance(&self, bar: &ProgressBar, done: u64, total: u64, unit: &str, detail: &str) {
        if total > 0 && bar.length() != Some(total) {
            bar.set_length(total);
            let count = if unit == "bytes" { "{bytes}/{total_bytes}".to_owned() } else { format!("{{human_pos}}/{{human_len}} {unit}") };
            let template = format!("{{spinner}} {{prefix}} {{elapsed:>5}}  {{bar:24}} {count}  {{msg}}  ETA {{eta}}");
            bar.set_style(style(&template).progress_chars("━╸ "));
        }
        bar.set_position(done);
        bar.set_message(detail.to_owned());
    }

    pub(crate) fn show(&self, event: &Event<'_>) {
        match self {
            Terminal::Json => print_event(event),
            Terminal::Text => {
                if let Some(text) = plain(event, NAME_WIDTH) {
                    let _ = writeln!(std::io::stderr(), "{text}");
                }
            }
            Terminal::Bars(bars) => bars.show(event),
        }
    }

    /// Takes the lines of stages that never began away.
    pub(crate) fn finish(&self) {
        if let Terminal::Bars(bars) = self {
            for line in bars.stages.lock().expect("no panic while locked").iter() {
                if let Some(bar) = line.bar.as_ref().filter(|bar| !bar.is_finished()) {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

fn name_width(stages: &[StageLine]) -> usize {
    stages.iter().map(|line| line.name.chars().count()).max().unwrap_or(NAME_WIDTH).max(NAME_WIDTH)
}

impl Bars {
    fn show(&self, event: &Event<'_>) {
        match event {
            Event::Stage { status: "running", .. } | Event::Progress { .. } | Event::Error { .. } | Event::Run { .. } | Event::End { .. } => {}
            Event::Stage { stage, status: "would run", reason, .. } => self.print(&format!("{stage} would run: {reason}")),
            Event::Stage { stage, status, .. } => {
                let stages = self.stages.lock().expect("no panic while locked");
                let begun = stages.iter().any(|line| line.bar.is_some());
                let width = name_width(&stages);
                let text = plain(event, width).unwrap_or_else(|| format!("{} {stage:<width$} {:>7}  up to date", dim("·"), ""));
                match stages.iter().find(|line| line.name == *stage).and_then(|line| line.bar.as_ref()) {
                    Some(bar) => {
                        bar.set_style(style("{msg}"));
                        bar.finish_with_message(text);
                    }
                    // A run in which all is reused says so in one line.
                    None if begun || *status != "cached" => self.print(&text),
                    None => {}
                }
            }
            Event::Note { .. } => {
                if let Some(text) = plain(event, NAME_WIDTH) {
                    self.print(&text);
                }
            }
        }
    }

    fn print(&self, text: &str) {
        // `println` of the lines shows nothing while there is none.
        let none = self.stages.lock().expect("no panic while locked").iter().all(|line| line.bar.is_none());
        if none {
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            let _ = self.lines.println(text);
        }
    }
}

/// An event as a line for people, stages' names padded to `width`; absent where it has none.
fn plain(event: &Event<'_>, width: usize) -> Option<String> {
    match event {
        Event::Stage { stage, status: "running", reason, .. } => Some(format!("{stage}: {reason}")),
        Event::Stage { stage, status: "would run", reason, .. } => Some(format!("  {stage} would run: {reason}")),
        Event::Stage { stage, status, seconds, summary, reason, .. } => {
            let seconds = seconds.map(duration).unwrap_or_default();
            match *status {
                "ran" => Some(format!("{} {stage:<width$} {seconds:>7}  {summary}", paint("✓", "32"))),
                "cached" => None,
                "failed" | "stopped" | "gate not met" => Some(format!("{} {stage:<width$} {seconds:>7}  {status}", paint("✗", "31"))),
                _ => Some(format!("{} {stage:<width$} {:>7}  {status}: {reason}", dim("–"), "")),
            }
        }
        Event::Note { stage: Some(stage), text } => Some(format!("  {stage}: {text}")),
        Event::Note { stage: None, text } => Some(format!("  {text}")),
        _ => None,
    }
}

pub(crate) fn print_event(event: &Event<'_>) {
    #[derive(serde::Serialize)]
    struct Line<'l> {
        time: jiff::Timestamp,
        #[serde(flatten)]
        event: &'l Event<'l>,
    }
    let time = jiff::Timestamp::now();
    if let Ok(line) = serde_json::to_string(&Line { time, event }) {
        // Standard error may be a closed pipe; that is no reason to stop working.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Whether a result could not be written.
static RESULT_LOST: AtomicBool = AtomicBool::new(false);

/// One result on standard output. A reader that left early (`| head`) is no fault; a full disk is.
pub(crate) fn print_result(text: &str) {
    let mut out = std::io::stdout();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        RESULT_LOST.store(true, Ordering::Relaxed);
    }
}

/// A part of a result, as it is. Whether there is still somebody who reads it.
pub(crate) fn print_part(text: &str) -> bool {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
        RESULT_LOST.store(true, Ordering::Relaxed);
    }
    written.is_ok()
}

/// Something to know beside a result.
pub(crate) fn print_note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// An error if a result could not be written.
pub(crate) fn check_results() -> Result<()> {
    if RESULT_LOST.load(Ordering::Relaxed) { Err(Error::stage("standard output cannot be written: is its disk full?")) } else { Ok(()) }
}

/// Rows of cells as aligned columns; the last column is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(at, cell)| format!("{cell:width$}", width = widths[at]));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Seconds for people: `0.4 s`, `12 s`, `3 m 05 s`, `2 h 10 m`.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5999.5 => format!("{} m {:02} s", (s / 60.0) as u64, (s % 60.0) as u64),
        s => format!("{} h {:02} m", (s / 3600.0) as u64, (s % 3600.0 / 60.0) as u64),
    }
}

/// At most `limit` characters, with a sign where some are left out.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit { text.to_owned() } else { text.chars().take(limit.saturating_sub(1)).chain(['…']).collect() }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn dim(text: &str) -> String {
    paint(text, "2")
}

/// Colour only for people who did not ask to be spared it: <https://no-color.org>.
fn paint(text: &str, code: &str) -> String {
    let wanted = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The last words of a command that failed: one screen, what is wrong and what to do.
pub(crate) fn print_error(error: &Error, format: LogFormat) {
    if Terminal::new(format).is_json() && format != LogFormat::Text {
        print_event(&Event::error(error));
        return;
    }
    let text = match (&error.rendered, &error.hint) {
        (Some(rendered), _) => rendered.clone(),
        (None, Some(hint)) => format!("error: {}\n hint: {hint}", error.message),
        (None, None) => format!("error: {}", error.message),
    };
    let _ = writeln!(std::io::stderr(), "{text}");
}
