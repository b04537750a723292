//! The walk through the plan: each step begins once all that it needs is there, side by side as far as the budget goes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use pipe_core::{Class, Error, Result};

use super::gate::Gates;
use super::step::{Ended, Made, Walk};
use crate::events::Event;
use crate::record::{StageRecord, Status};

/// Steps begun and not ended, at most: of a large matrix, few can be made at once anyway.
const MAX_THREADS: usize = 64;

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
    /// Yes, with these steps to choose its inputs from.
    Ready(BTreeSet<usize>),
    NotYet,
    /// Never, and why.
    Never(String),
    /// In a dry run: what it reads would be made first.
    Unknown,
}

pub(super) fn walk(walk: &Walk<'_>, selected: &BTreeSet<usize>) -> Outcome {
    let mut progress = Progressing::new(walk, selected);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel::<(usize, Ended)>();
        loop {
            if !progress.stopping
                && let Err(stop) = walk.signals.check()
            {
                progress.errors.push((usize::MAX, stop));
                progress.stopping = true;
            }
            let mut ready = if progress.stopping { Vec::new() } else { progress.ready() };
            // Each may hold locks while it waits for its turn.
            ready.truncate(MAX_THREADS.saturating_sub(progress.running()));
            let ended = match ready.as_slice() {
                [] if progress.running() == 0 => break,
                // Alone: no thread is needed, and a run in which all is reused makes none.
                [(at, usable)] if progress.running() == 0 => (*at, bring(walk, *at, usable)),
                _ => {
                    for (at, usable) in ready {
                        let sender = sender.clone();
                        scope.spawn(move || {
                            // The walk listens until all have ended.
                            let _ = sender.send((at, bring(walk, at, &usable)));
                        });
                        progress.states.insert(at, State::Running);
                    }
                    receiver.recv().expect("a step is running")
                }
            };
            progress.end(ended.0, ended.1);
        }
    });
    progress.conclude()
}

/// A walk under way.
struct Progressing<'w> {
    walk: &'w Walk<'w>,
    states: BTreeMap<usize, State>,
    /// Those of evaluations that this run has.
    gates: Gates,
    /// For each step that ended, the steps that its output came of, itself included.
    lineage: BTreeMap<usize, BTreeSet<usize>>,
    /// For each evaluation that ended or was blocked, the models that it may have judged.
    judged: BTreeMap<usize, Vec<usize>>,
    /// Made, and to be published once the gates are met.
    unpublished: BTreeSet<usize>,
    records: BTreeMap<usize, StageRecord>,
    tables: BTreeMap<usize, String>,
    errors: Vec<(usize, Error)>,
    /// Steps whose failure was told when it happened.
    told: BTreeSet<usize>,
    stopping: bool,
}

impl<'w> Progressing<'w> {
    fn new(walk: &'w Walk<'w>, selected: &BTreeSet<usize>) -> Progressing<'w> {
        let mut gates = Gates::of(walk.plan);
        // With `--only`, those outside the run were found up to date and met before; or they judge what is made now, and then
        // it is not published.
        for list in &mut gates.before_beginning {
            list.retain(|gate| selected.contains(gate));
        }
        Progressing {
            walk,
            states: selected.iter().map(|&at| (at, State::Waiting)).collect(),
            gates,
            lineage: BTreeMap::new(),
            judged: BTreeMap::new(),
            unpublished: BTreeSet::new(),
            records: BTreeMap::new(),
            tables: BTreeMap::new(),
            errors: Vec::new(),
            told: BTreeSet::new(),
            stopping: false,
        }
    }

    /// Steps outside the selection were found up to date before.
    fn state(&self, step: usize) -> State {
        self.states.get(&step).copied().unwrap_or(State::Done)
    }

    fn running(&self) -> usize {
        self.states.values().filter(|state| **state == State::Running).count()
    }

    /// Steps that may begin, each with the inputs that it may choose from. Steps that never can are ended on the way.
    fn ready(&mut self) -> Vec<(usize, BTreeSet<usize>)> {
        let mut ready = Vec::new();
        // Again and again: a step that can never begin may be what an earlier one in the list waits for.
        loop {
            let mut changed = false;
            ready.clear();
            let waiting: Vec<usize> = self.states.iter().filter(|(_, state)| **state == State::Waiting).map(|(at, _)| *at).collect();
            for at in waiting {
                match self.readiness(at) {
                    Readiness::Ready(usable) => ready.push((at, usable)),
                    Readiness::NotYet => {}
                    Readiness::Never(reason) => {
                        self.block(at, &reason);
                        changed = true;
                    }
                    Readiness::Unknown => {
                        self.states.insert(at, State::WouldRun);
                        self.records.insert(at, self.walk.would_run(at, "its input is made anew"));
                        changed = true;
                    }
                }
            }
            if !changed {
                return ready;
            }
        }
    }

    fn readiness(&self, at: usize) -> Readiness {
        let step = &self.walk.plan.steps[at];
        let settled = |step: usize| !matches!(self.state(step), State::Waiting | State::Running);
        let guards = &self.gates.before_beginning[at];
        if !step.needs().all(settled) || !guards.iter().all(|guard| settled(*guard)) {
            return Readiness::NotYet;
        }
        let name = |step: usize| format!("`{}`", self.walk.plan.steps[step].stage.name);
        let mut usable = BTreeSet::new();
        for input in &step.inputs {
            if input.steps.iter().any(|step| self.state(*step) == State::WouldRun) {
                return Readiness::Unknown;
            }
            let done = || input.steps.iter().copied().filter(|step| self.state(*step) == State::Done);
            let free: Vec<usize> = done().filter(|step| self.barred(*step, guards).is_none()).collect();
            if free.is_empty() {
                return Readiness::Never(match done().find_map(|step| self.barred(step, guards)) {
                    Some(gate) => format!("the gate of {} was not met", name(gate)),
                    None => format!("it needs {}, which failed", name(input.steps[0])),
                });
            }
            usable.extend(free);
        }
        Readiness::Ready(usable)
    }

    /// The one of `gates` that was not met by something that the output of `step` came of.
    fn barred(&self, step: usize, gates: &[usize]) -> Option<usize> {
        let itself = BTreeSet::from([step]);
        let lineage = self.lineage.get(&step).unwrap_or(&itself);
        let missed = |gate: &&usize| matches!(self.state(**gate), State::Failed | State::Blocked);
        gates
            .iter()
            .filter(missed)
            .find(|gate| self.judged.get(gate).is_some_and(|models| models.iter().any(|model| lineage.contains(model))))
            .copied()
    }

    fn block(&mut self, at: usize, reason: &str) {
        let record = StageRecord { status: Status::Blocked, reason: reason.to_owned(), ..self.walk.blank(at) };
        self.say(&record, false);
        self.states.insert(at, State::Blocked);
        self.judged.insert(at, self.walk.plan.steps[at].inputs.first().map(|input| input.steps.clone()).unwrap_or_default());
        self.records.insert(at, record);
    }

    /// Takes note of a step that ended, and publishes what may be published now.
    fn end(&mut self, at: usize, ended: Ended) {
        let Ended { record, chosen, made, error } = ended;
        let state = match (&error, record.status) {
            (Some(_), _) => State::Failed,
            (None, Status::WouldRun) => State::WouldRun,
            (None, Status::Blocked) => State::Blocked,
            (None, _) => State::Done,
        };
        self.states.insert(at, state);
        let others = self.running() > 0 || self.walk.options.keep_going;
        self.say(&record, others);
        if others {
            self.told.insert(at);
        }
        // One that judged the best of several and found it wanting has judged them all: a worse one is no way out.
        let possible = self.walk.plan.steps[at].inputs.first().map(|input| input.steps.clone()).unwrap_or_default();
        self.judged.insert(at, possible);
        let mut lineage: BTreeSet<usize> = chosen.iter().filter_map(|input| self.lineage.get(input)).flatten().copied().collect();
        lineage.extend(chosen.into_iter().chain([at]));
        self.lineage.insert(at, lineage);
        if let Some(Made { artifact, table }) = made {
            self.walk.keep(at, artifact);
            if !table.is_empty() {
                self.tables.insert(at, format!("{}:\n{table}", record.name));
            }
            if error.is_none() && self.walk.plan.steps[at].stage.publish.is_some() && !self.walk.options.dry_run {
                self.unpublished.insert(at);
            }
        }
        self.records.insert(at, record);
        if let Some(error) = error {
            self.fail(at, error);
        }
        self.publish();
    }

    fn fail(&mut self, at: usize, error: Error) {
        self.stopping |= error.class.is_stop() || !self.walk.options.keep_going;
        if self.stopping {
            self.walk.halted.store(true, Ordering::SeqCst);
        }
        self.errors.push((at, error));
    }

    /// Publishes every output whose gates are met. One whose gate was missed never is.
    fn publish(&mut self) {
        for at in self.unpublished.clone() {
            let gates = self.gates.before_publishing[at].clone();
            if let Some(gate) = gates.iter().find(|gate| !self.states.contains_key(gate) && !self.walk.is_known(**gate)) {
                self.unpublished.remove(&at);
                let names = [*gate, at].map(|step| &self.walk.plan.steps[step].stage.name);
                let text = format!("not published: --only runs nothing else, and the gate of `{}` comes first", names[0]);
                self.walk.reporter.note(Some(names[1]), &text);
                continue;
            }
            if gates.iter().any(|gate| matches!(self.state(*gate), State::Waiting | State::Running)) && self.barred(at, &gates).is_none() {
                continue;
            }
            self.unpublished.remove(&at);
            let name = &self.walk.plan.steps[at].stage.name;
            if let Some(gate) = self.barred(at, &gates) {
                let text = format!("not published: the gate of `{}` was not met", self.walk.plan.steps[gate].stage.name);
                self.walk.reporter.note(Some(name), &text);
                continue;
            }
            let published = catch_unwind(AssertUnwindSafe(|| self.walk.publish(at)))
                .unwrap_or_else(|_| Err(Error::internal("pipe met a fault of its own while it published")));
            let record = self.records.get_mut(&at).expect("it ended");
            match published {
                Ok(target) => record.published = target,
                Err(error) => {
                    let error = in_stage(name, error);
                    record.error = Some(error.clone());
                    self.fail(at, error);
                }
            }
        }
    }

    /// A run in which all is reused says so in one line at its end, so the terminal is not told of reused stages.
    fn say(&self, record: &StageRecord, others: bool) {
        let seconds = (record.status == Status::Ran || record.status == Status::Failed).then_some(record.seconds);
        self.walk.reporter.emit(&Event::Stage {
            stage: &record.name,
            status: record.shown_status(),
            reason: &record.reason,
            seconds,
            summary: &record.summary,
            output: record.artifact.as_deref(),
        });
        // The run's last words are about one failure; while others go on, that may not be this one.
        if let Some(error) = record.error.as_ref().filter(|error| others && !error.class.is_stop()) {
            self.walk.reporter.note(Some(&record.name), &error.message);
        }
    }

    /// Failures that were not told when they happened, but for the one that the run's last words will be about.
    fn tell_the_rest(&self) {
        let mut failures: Vec<&(usize, Error)> = self.errors.iter().filter(|(at, error)| *at != usize::MAX && !error.class.is_stop()).collect();
        failures.sort_by_key(|(at, _)| *at);
        for (at, error) in failures.into_iter().skip(1).filter(|(at, _)| !self.told.contains(at)) {
            self.walk.reporter.note(Some(&self.walk.plan.steps[*at].stage.name), &error.message);
        }
    }

    fn conclude(mut self) -> Outcome {
        let waiting: Vec<usize> = self.states.iter().filter(|(_, state)| **state == State::Waiting).map(|(at, _)| *at).collect();
        if !waiting.is_empty() && !self.stopping && self.errors.is_empty() {
            self.errors.push((waiting[0], Error::internal("stages wait for each other, and none can begin")));
        }
        for at in waiting {
            self.block(at, "the run ended before");
        }
        self.tell_the_rest();
        let result = self.combined();
        Outcome { records: self.records.into_values().collect(), tables: self.tables.into_values().collect(), result }
    }

    /// One error out of all. The first failure in the plan decides what is said first and the exit code; a stop only where
    /// nothing failed, or a night that fails would look like one that ran out of time.
    fn combined(&self) -> Result<()> {
        let stop = self.errors.iter().find(|(_, error)| error.class.is_stop()).map(|(_, error)| error);
        let mut failures: Vec<&(usize, Error)> = self.errors.iter().filter(|(_, error)| !error.class.is_stop()).collect();
        failures.sort_by_key(|(at, _)| *at);
        let Some((_, first)) = failures.first() else { return stop.map_or(Ok(()), |stop| Err(stop.clone())) };
        let mut also: Vec<String> = failures[1..].iter().map(|(at, _)| format!("`{}` failed too", self.walk.plan.steps[*at].stage.name)).collect();
        also.extend(stop.map(|stop| format!("the run was {}", stop.message)));
        let more = if also.is_empty() { String::new() } else { format!(" (and {})", also.join(", ")) };
        Err(Error { message: format!("{}{more}", first.message), ..first.clone() })
    }
}

fn bring(walk: &Walk<'_>, at: usize, usable: &BTreeSet<usize>) -> Ended {
    let brought = catch_unwind(AssertUnwindSafe(|| walk.bring(at, usable)));
    brought.unwrap_or_else(|_| {
        let error = Error::internal(format!("stage `{}`: pipe met a fault of its own", walk.plan.steps[at].stage.name));
        let record = StageRecord { status: Status::Failed, error: Some(error.clone()), ..walk.blank(at) };
        Ended { record, chosen: Vec::new(), made: None, error: Some(error) }
    })
}

/// An error that stands for a stage's.
pub(super) fn in_stage(stage: &str, error: Error) -> Error {
    if error.class == Class::Usage && error.rendered.is_some() || error.class.is_stop() {
        return error;
    }
    Error { message: format!("stage `{stage}`: {}", error.message), ..error }
}
