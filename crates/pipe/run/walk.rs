//! The walk through the plan: each step begins once all that it needs is there, side by side as far as the budget goes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use pipe_core::{Class, Error, Result};

use super::gate;
use super::step::{Ended, Made, Walk};
use crate::events::Event;
use crate::record::{StageRecord, Status};

/// Where a selected step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
    Failed,
    /// Something that it needs failed.
    Blocked,
    WouldRun,
}

/// What a walk leads to.
pub(super) struct Outcome {
    /// In the order of the plan.
    pub(super) records: Vec<StageRecord>,
    /// Tables for standard output, by step.
    pub(super) tables: Vec<String>,
    pub(super) result: Result<()>,
}

/// May a step begin?
enum Readiness {
    Ready,
    NotYet,
    /// Never: the name of what it waits for in vain.
    Never(String),
    /// In a dry run: what it reads would be made first.
    Unknown,
}

pub(super) fn walk(walk: &Walk<'_>, selected: &BTreeSet<usize>) -> Outcome {
    let guards = gate::guards(walk.plan, selected);
    let mut states: BTreeMap<usize, State> = selected.iter().map(|&at| (at, State::Waiting)).collect();
    let mut records: BTreeMap<usize, StageRecord> = BTreeMap::new();
    let mut tables: BTreeMap<usize, String> = BTreeMap::new();
    let mut errors: Vec<(usize, Error)> = Vec::new();
    let mut stopping = false;
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel::<(usize, Ended)>();
        loop {
            if !stopping && let Err(stop) = walk.signals.check() {
                errors.push((usize::MAX, stop));
                stopping = true;
            }
            let mut ready = Vec::new();
            if !stopping {
                // Until nothing changes: a step that can never begin may be what another waits for.
                loop {
                    let mut changed = false;
                    ready.clear();
                    for at in selected.iter().copied().filter(|at| states[at] == State::Waiting).collect::<Vec<_>>() {
                        match readiness(walk, &states, &guards, at) {
                            Readiness::Ready => ready.push(at),
                            Readiness::NotYet => {}
                            Readiness::Never(name) => {
                                states.insert(at, State::Blocked);
                                records.insert(at, blocked(walk, at, &format!("it needs {name}, which failed")));
                                changed = true;
                            }
                            Readiness::Unknown => {
                                states.insert(at, State::WouldRun);
                                records.insert(at, walk.would_run(at, "its input is made anew"));
                                changed = true;
                            }
                        }
                    }
                    if !changed {
                        break;
                    }
                }
            }
            let running = states.values().filter(|state| **state == State::Running).count();
            let ended = match ready.as_slice() {
                [] if running == 0 => break,
                // Alone: no thread is needed, and a run in which all is reused makes none.
                [at] if running == 0 => (*at, bring(walk, *at, &states)),
                _ => {
                    for at in ready {
                        let (sender, states_then) = (sender.clone(), states.clone());
                        scope.spawn(move || {
                            // The walk listens until all have ended.
                            let _ = sender.send((at, bring(walk, at, &states_then)));
                        });
                        states.insert(at, State::Running);
                    }
                    receiver.recv().expect("a step is running")
                }
            };
            let (at, Ended { record, made, error }) = ended;
            say(walk, &record);
            states.insert(
                at,
                match (&error, record.status) {
                    (Some(_), _) => State::Failed,
                    (None, Status::WouldRun) => State::WouldRun,
                    (None, Status::Blocked) => State::Blocked,
                    (None, _) => State::Done,
                },
            );
            if let Some(Made { artifact, table }) = made {
                walk.keep(at, artifact);
                if !table.is_empty() {
                    tables.insert(at, format!("{}:\n{table}", record.name));
                }
            }
            records.insert(at, record);
            if let Some(error) = error {
                stopping |= error.class.is_stop() || !walk.options.keep_going;
                errors.push((at, error));
            }
        }
    });
    for (&at, _) in states.iter().filter(|(_, state)| **state == State::Waiting) {
        records.insert(at, blocked(walk, at, "the run ended before"));
    }
    Outcome { records: records.into_values().collect(), tables: tables.into_values().collect(), result: combined(walk, errors) }
}

fn bring(walk: &Walk<'_>, at: usize, states: &BTreeMap<usize, State>) -> Ended {
    let usable = |step: &usize| states.get(step).is_none_or(|state| *state == State::Done);
    let brought = catch_unwind(AssertUnwindSafe(|| walk.bring(at, &usable)));
    brought.unwrap_or_else(|_| {
        let error = Error::internal(format!("stage `{}`: pipe met a fault of its own", walk.plan.steps[at].stage.name));
        Ended { record: StageRecord { status: Status::Failed, error: Some(error.clone()), ..walk.blank(at) }, made: None, error: Some(error) }
    })
}

fn readiness(walk: &Walk<'_>, states: &BTreeMap<usize, State>, guards: &[Vec<usize>], at: usize) -> Readiness {
    // Steps outside the selection were found up to date before.
    let state = |step: &usize| states.get(step).copied().unwrap_or(State::Done);
    let name = |step: &usize| format!("`{}`", walk.plan.steps[*step].stage.name);
    let mut verdict = Readiness::Ready;
    for input in &walk.plan.steps[at].inputs {
        let settled = |step: &usize| !matches!(state(step), State::Waiting | State::Running);
        if !input.steps.iter().all(settled) {
            return Readiness::NotYet;
        }
        if input.steps.iter().any(|step| state(step) == State::WouldRun) {
            verdict = Readiness::Unknown;
        } else if !input.steps.iter().any(|step| state(step) == State::Done) {
            return Readiness::Never(name(&input.steps[0]));
        }
    }
    for guard in &guards[at] {
        match state(guard) {
            State::Waiting | State::Running => return Readiness::NotYet,
            State::Failed | State::Blocked => return Readiness::Never(name(guard)),
            State::Done | State::WouldRun => {}
        }
    }
    verdict
}

fn blocked(walk: &Walk<'_>, at: usize, reason: &str) -> StageRecord {
    let record = StageRecord { status: Status::Blocked, reason: reason.to_owned(), ..walk.blank(at) };
    say(walk, &record);
    record
}

/// A run in which all is reused says so in one line at its end, so the terminal is not told of reused stages.
fn say(walk: &Walk<'_>, record: &StageRecord) {
    let output = record.artifact.as_deref();
    let seconds = (record.status == Status::Ran || record.status == Status::Failed).then_some(record.seconds);
    walk.reporter.emit(&Event::Stage {
        stage: &record.name,
        status: record.shown_status(),
        reason: &record.reason,
        seconds,
        summary: &record.summary,
        output,
    });
    if let Some(error) = record.error.as_ref().filter(|error| walk.options.keep_going && !error.class.is_stop()) {
        walk.reporter.note(Some(&record.name), &error.message);
    }
}

/// One error out of all: the first in the plan decides what is said first and the exit code.
fn combined(walk: &Walk<'_>, mut errors: Vec<(usize, Error)>) -> Result<()> {
    // A stop reaches every step that runs, and is one event.
    if let Some((_, stop)) = errors.iter().find(|(_, error)| error.class.is_stop()) {
        return Err(stop.clone());
    }
    errors.sort_by_key(|(at, _)| *at);
    let rest: Vec<String> = errors.iter().skip(1).map(|(at, _)| format!("`{}`", walk.plan.steps[*at].stage.name)).collect();
    match errors.into_iter().next() {
        None => Ok(()),
        Some((_, first)) if rest.is_empty() => Err(first),
        Some((_, first)) => Err(Error { message: format!("{} (and {} failed too)", first.message, rest.join(", ")), ..first }),
    }
}

/// An error that stands for a stage's.
pub(super) fn in_stage(stage: &str, error: Error) -> Error {
    if error.class == Class::Usage && error.rendered.is_some() || error.class.is_stop() {
        return error;
    }
    Error { message: format!("stage `{stage}`: {}", error.message), ..error }
}
