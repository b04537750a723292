//! `run.notify`: a program that gets the run's record on its standard input.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pipe_core::config::NotifyConfig;
use pipe_core::file::fill_run_names;

use crate::record::RunRecord;

/// Tells how a run ended. A failure to tell changes nothing about the run; it is returned as a text.
pub(crate) fn notify(config: &NotifyConfig, record: &RunRecord, run_name: &dyn Fn(&str) -> String) -> Result<(), String> {
    if !record.outcome.is_some_and(|outcome| config.on.contains(&outcome)) {
        return Ok(());
    }
    let words: Vec<String> = config.command.iter().map(|word| fill_run_names(word, run_name)).collect();
    let (program, arguments) = words.split_first().ok_or("the command is empty")?;
    let document = serde_json::to_vec(record).map_err(|e| e.to_string())?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot start {program}: {e}"))?;
    // On a thread: a program that never reads must not hold us up.
    let input = child.stdin.take();
    std::thread::spawn(move || input.map(|mut input| input.write_all(&document)));
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(|e| format!("cannot wait for {program}: {e}"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{program} ended with {status}")),
            None if started.elapsed() >= config.timeout.0 => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} did not end within {}", config.timeout));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
