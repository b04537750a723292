//! The `run:` section: how runs of a pipeline behave. Nothing in it decides the bytes of an output, so nothing in
//! it is part of a key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Complaint, HumanDuration};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// What to do when another run of this pipeline is at work.
    pub overlap: Overlap,
    /// Stop after this long, save what can be gone on with, and end with exit code 75.
    pub deadline: Option<HumanDuration>,
    /// After a failed stage, go on with all that does not need it.
    pub keep_going: bool,
    /// Cores that stages side by side may use together; absent: all.
    pub cpus: Option<usize>,
    /// Memory that stages side by side may use together; absent: nine tenths of what is free at the start.
    pub memory: Option<ByteSize>,
    /// Further tries after a transient error of a remote source.
    pub retries: u32,
    /// Wait before the first further try; doubles each time.
    pub backoff: HumanDuration,
    /// Use what was fetched before, ask no server.
    pub offline: bool,
    /// A program that is told how a run ended.
    pub notify: Option<NotifyConfig>,
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            overlap: Overlap::Fail,
            deadline: None,
            keep_going: false,
            cpus: None,
            memory: None,
            retries: 4,
            backoff: HumanDuration(std::time::Duration::from_secs(1)),
            offline: false,
            notify: None,
        }
    }
}

/// What a run does when another run of its pipeline is at work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// End with exit code 10.
    #[default]
    Fail,
    /// Wait until it has ended.
    Wait,
    /// End with exit code 20.
    Skip,
}

/// A program that gets the run's record, one JSON document, on its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// The program and its arguments; no shell. `${run.id}`, `${run.date}` and `${run.outcome}` are filled in.
    pub command: Vec<String>,
    /// Which ends of a run are told.
    #[serde(default = "on_trouble")]
    pub on: Vec<Outcome>,
    /// The program is ended after this long.
    #[serde(default = "one_minute")]
    pub timeout: HumanDuration,
}

fn on_trouble() -> Vec<Outcome> {
    vec![Outcome::Failure, Outcome::Stopped]
}

fn one_minute() -> HumanDuration {
    HumanDuration(std::time::Duration::from_secs(60))
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit code 0, and something ran.
    Success,
    /// Exit code 0, all was up to date.
    Unchanged,
    /// A stage or a gate failed, an input is missing, or the file is wrong.
    Failure,
    /// Another run was at work.
    Skipped,
    /// Deadline or signal: the next run goes on.
    Stopped,
}

/// What one stage takes of the budget that stages share, where the estimate is wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Cores.
    pub cpus: Option<usize>,
    /// Memory at its peak.
    pub memory: Option<ByteSize>,
}

impl RunConfig {
    pub(crate) fn check(&self) -> Result<(), Complaint> {
        if self.cpus == Some(0) {
            return Err(Complaint::new("cpus", "`cpus` must be at least 1"));
        }
        if let Some(notify) = &self.notify
            && notify.command.first().is_none_or(String::is_empty)
        {
            return Err(Complaint::new("notify.command", "`command` names the program to run").hint("for example `command: [mail-alert, --to, ops]`"));
        }
        Ok(())
    }
}
