//! Cores, memory and the GPU, shared by the stages that are made side by side.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use pipe_core::config::{Base, NewModel, RunConfig, StageConfig};
use pipe_core::worker::ResolvedDevice;
use pipe_core::{Progress, Result, Step};

use crate::keys::KeyContext;

/// What a stage takes while it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) cpus: usize,
    /// In bytes.
    pub(super) memory: u64,
    pub(super) gpu: bool,
}

/// What all stages of a run may take together.
pub(super) struct Budget {
    total: Demand,
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    free: Demand,
    /// Steps that wait; the earliest in the plan goes first, so that none waits for ever.
    waiting: BTreeSet<usize>,
}

/// A share in use; dropping it gives it back.
pub(super) struct Share<'b> {
    budget: &'b Budget,
    demand: Demand,
}

const GIB: u64 = 1 << 30;
/// How often a stage that waits looks whether the run was stopped.
const LOOK: Duration = Duration::from_millis(100);

impl Budget {
    pub(super) fn new(config: &RunConfig) -> Budget {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let available = super::memory_info("MemAvailable").map_or(8 * GIB, |bytes| bytes / 10 * 9);
        let total = Demand { cpus: config.cpus.unwrap_or(cores), memory: config.memory.map_or(available, |size| size.0), gpu: true };
        Budget { total, state: Mutex::new(State { free: total, waiting: BTreeSet::new() }), freed: Condvar::new() }
    }

    /// Waits until `step` can have what it needs. One that needs more than there is gets all of it, alone.
    pub(super) fn take(&self, step: usize, demand: Demand, progress: &dyn Progress) -> Result<Share<'_>> {
        let demand = Demand { cpus: demand.cpus.min(self.total.cpus), memory: demand.memory.min(self.total.memory), gpu: demand.gpu };
        let mut state = self.state.lock().expect("no panic while locked");
        state.waiting.insert(step);
        loop {
            if let Err(stop) = progress.check() {
                state.waiting.remove(&step);
                return Err(stop);
            }
            let fits = demand.cpus <= state.free.cpus && demand.memory <= state.free.memory && (!demand.gpu || state.free.gpu);
            if fits && state.waiting.first() == Some(&step) {
                state.waiting.remove(&step);
                state.free.cpus -= demand.cpus;
                state.free.memory -= demand.memory;
                state.free.gpu &= !demand.gpu;
                self.freed.notify_all();
                return Ok(Share { budget: self, demand });
            }
            state = self.freed.wait_timeout(state, LOOK).expect("no panic while locked").0;
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock().expect("no panic while locked");
        state.free.cpus += self.demand.cpus;
        state.free.memory += self.demand.memory;
        state.free.gpu |= self.demand.gpu;
        self.budget.freed.notify_all();
    }
}

/// What a stage will take: as declared, else as its last making took, else a guess by its kind.
pub(super) fn demand(step: &Step<'_>, config: &StageConfig, last_memory: Option<u64>, keys: &KeyContext<'_>) -> Demand {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let device = |device| keys.native().and_then(|native| native.resolve_device(device)).is_ok_and(|device| device == ResolvedDevice::Cuda);
    let (cpus, memory, gpu) = match config {
        // They share one pool of threads, however many of them there are.
        StageConfig::Ingest(_) | StageConfig::Tokenize(_) => (1, GIB / 2, false),
        StageConfig::Train(config) => {
            let weights = match (&config.model, config.model.new_model()) {
                (Base::Folder(folder), _) => weights_size(&keys.root.join(folder)),
                (_, Some(NewModel::Inline(shape))) => shape.weights_size(),
                // Unknown before it is read.
                _ => GIB / 2,
            };
            let gpu = device(config.device);
            // Weights, gradients and two moments, and as much again for activations.
            (if gpu { 1 } else { config.torch_threads.unwrap_or(cores) }, GIB + 8 * weights, gpu)
        }
        StageConfig::Evaluate(config) => {
            let gpu = device(config.device);
            (if gpu { 1 } else { config.torch_threads.unwrap_or(cores) }, GIB, gpu)
        }
        // A query has one thread.
        StageConfig::Export(_) | StageConfig::Sql(_) => (1, GIB, false),
        StageConfig::Predict(config) => {
            let gpu = step.predicts_with_torch() && device(config.device);
            (if gpu { 1 } else { config.threads.unwrap_or(cores) }, GIB, gpu)
        }
    };
    let declared = &step.stage.resources;
    Demand { cpus: declared.cpus.unwrap_or(cpus), memory: declared.memory.map(|size| size.0).or(last_memory).unwrap_or(memory), gpu }
}

fn weights_size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let weights = files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "safetensors"));
    weights.filter_map(|entry| entry.metadata().ok()).map(|stat| stat.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipe_core::Silent;
    use pipe_core::config::ByteSize;

    #[test]
    fn shares_never_exceed_the_budget_and_one_too_large_runs_alone() {
        let config = RunConfig { cpus: Some(2), memory: Some(ByteSize(100)), ..RunConfig::default() };
        let budget = Budget::new(&config);
        let demand = |cpus, memory| Demand { cpus, memory, gpu: false };
        let running = Mutex::new((0usize, 0usize));
        std::thread::scope(|scope| {
            for step in 0..8 {
                let (budget, running) = (&budget, &running);
                scope.spawn(move || {
                    let wanted = if step == 3 { demand(16, 1000) } else { demand(1, 40) };
                    let share = budget.take(step, wanted, &Silent).unwrap();
                    let now = {
                        let mut running = running.lock().unwrap();
                        running.0 += share.demand.cpus;
                        running.1 = running.1.max(running.0);
                        running.0
                    };
                    assert!(now <= 2, "{now} cores in use");
                    std::thread::sleep(Duration::from_millis(5));
                    running.lock().unwrap().0 -= share.demand.cpus;
                });
            }
        });
        assert_eq!(running.lock().unwrap().1, 2);
    }
}
