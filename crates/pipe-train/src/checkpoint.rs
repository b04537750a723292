//! Checkpoints: written aside, made durable, renamed, hashed; a damaged one is passed over.
//!
//! ```text
//! checkpoint-120/model.safetensors, optimizer.safetensors, state.json
//! ```
//!
//! `state.json` is written last and holds the digests of the others: what was logged, the state of schedule and loss scale,
//! and how far into the data the training is. There is no random state to save: every
//! micro-step seeds the generator from (seed, step, micro-step), and the data order follows from (seed, epoch).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use pipe_core::cache::{sync_dir, write_atomically};
use pipe_core::{Error, IoContext, Result, digest};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::backend::Parameters;
use crate::optimizer::Optimizer;
use crate::state::TrainerState;
use crate::weights;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const VERSION: u32 = 2;
/// How many of the newest are kept where the settings do not say: one more than needed, in case the last is damaged.
const KEPT: usize = 2;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    state: TrainerState,
    /// File name → digest.
    files: BTreeMap<String, String>,
    /// Of all the above.
    digest: String,
}

impl Record {
    fn new(state: TrainerState, files: BTreeMap<String, String>) -> Record {
        let digest = digest::of_bytes(&serde_json::to_vec(&(VERSION, &state, &files)).expect("plain data"));
        Record { version: VERSION, state, files, digest }
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(STATE);
        write_atomically(&path, &serde_json::to_vec(self).expect("plain data")).doing("write", &path)
    }
}

/// The checkpoints of one training, in its scratch folder.
pub(crate) struct Checkpoints {
    folder: PathBuf,
    /// How many of the newest are kept, beside the best one.
    limit: usize,
}

impl Checkpoints {
    pub(crate) fn new(folder: &Path, limit: Option<usize>) -> Checkpoints {
        Checkpoints { folder: folder.to_owned(), limit: limit.unwrap_or(KEPT) }
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("checkpoint-{step}"))
    }

    /// Writes the checkpoint of `state.global_step`, then drops those that are not needed any more.
    pub(crate) fn save(&self, parameters: &Parameters, optimizer: &Optimizer, state: &TrainerState) -> Result<()> {
        let path = self.path(state.global_step);
        // One that was damaged is written anew. One that was saved in the middle of this step's evaluation has the weights
        // already, and learns what came of it before anything that its old state needs goes.
        let whole = self.whole(state.global_step);
        if let Some(record) = &whole
            && record.state != *state
        {
            Record::new(state.clone(), record.files.clone()).write(&path)?;
        }
        if whole.is_none() {
            let aside = self.folder.join(".writing");
            if aside.exists() {
                std::fs::remove_dir_all(&aside).doing("clear", &aside)?;
            }
            std::fs::create_dir_all(&aside).doing("make the folder", &aside)?;
            weights::save(parameters, &aside.join(MODEL))?;
            weights::save(&optimizer.state(), &aside.join(OPTIMIZER))?;
            let mut files = BTreeMap::new();
            for name in [MODEL, OPTIMIZER] {
                let file = aside.join(name);
                File::open(&file).and_then(|file| file.sync_all()).doing("write", &file)?;
                files.insert(name.to_owned(), digest::of_file(&file)?);
            }
            Record::new(state.clone(), files).write(&aside)?;
            if path.exists() {
                std::fs::remove_dir_all(&path).doing("clear", &path)?;
            }
            std::fs::rename(&aside, &path).doing("finish", &path)?;
            sync_dir(&self.folder).doing("write", &self.folder)?;
        }
        self.prune(state.global_step)
    }

    /// Drops all but the newest ones, and the best one of each: whichever is gone back to, its best model must be there.
    fn prune(&self, last: u64) -> Result<()> {
        let steps = self.steps()?;
        let newest = steps.iter().rev().take(self.limit).copied().chain([last]);
        let kept: BTreeSet<u64> =
            newest.flat_map(|step| [Some(step), self.record(step).and_then(|record| record.state.best_step)]).flatten().collect();
        for step in steps.into_iter().filter(|step| !kept.contains(step)) {
            self.remove(step)?;
        }
        Ok(())
    }

    fn remove(&self, step: u64) -> Result<()> {
        let path = self.path(step);
        std::fs::remove_dir_all(&path).doing("remove", &path)
    }

    /// The newest whole checkpoint: its state, after its tensors were copied into place. `needs_best`: the best model
    /// will be loaded at the end, so it must still be there.
    pub(crate) fn resume(&self, parameters: &Parameters, optimizer: &mut Optimizer, needs_best: bool) -> Result<Option<TrainerState>> {
        for step in self.steps()?.into_iter().rev() {
            let Some(record) = self.whole(step) else { continue };
            if needs_best && record.state.best_step.is_some_and(|best| best != step && self.whole(best).is_none()) {
                continue;
            }
            // Newer ones are damaged, or there would be no coming back to this one.
            for newer in self.steps()?.into_iter().filter(|newer| *newer > step) {
                self.remove(newer)?;
            }
            copy_into(parameters, &weights::read(&self.path(step).join(MODEL))?)?;
            optimizer.restore(&weights::read(&self.path(step).join(OPTIMIZER))?)?;
            return Ok(Some(record.state));
        }
        // None can be gone back to: what is left of them would be taken for those of the training that begins now.
        for step in self.steps()? {
            self.remove(step)?;
        }
        Ok(None)
    }

    /// Copies the weights of the checkpoint at `step` into `parameters`.
    pub(crate) fn load_model(&self, step: u64, parameters: &Parameters) -> Result<()> {
        if self.whole(step).is_none() {
            return Err(
                Error::stage(format!("{} is damaged", self.path(step).display())).hint("run again: training goes on from the last whole checkpoint")
            );
        }
        copy_into(parameters, &weights::read(&self.path(step).join(MODEL))?)
    }

    /// What the checkpoint at `step` says of itself, if all of it is there and as it was written.
    fn whole(&self, step: u64) -> Option<Record> {
        let (path, record) = (self.path(step), self.record(step)?);
        let is_whole = |(name, expected): (&String, &String)| digest::of_file(&path.join(name)).is_ok_and(|found| found == *expected);
        let unchanged = Record::new(record.state.clone(), record.files.clone()).digest == record.digest;
        (record.version == VERSION && unchanged && record.files.iter().all(is_whole)).then_some(record)
    }

    /// What the checkpoint at `step` says of itself.
    fn record(&self, step: u64) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(self.path(step).join(STATE)).ok()?).ok()
    }

    /// Steps of all finished checkpoints, ascending.
    fn steps(&self) -> Result<Vec<u64>> {
        let mut steps = Vec::new();
        for entry in std::fs::read_dir(&self.folder).doing("list", &self.folder)? {
            let name = entry.doing("list", &self.folder)?.file_name();
            steps.extend(name.to_str().and_then(|name| name.strip_prefix("checkpoint-")?.parse::<u64>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }
}

fn copy_into(parameters: &Parameters, saved: &BTreeMap<String, Tensor>) -> Result<()> {
    tch::no_grad(|| {
        for (name, parameter) in parameters {
            let tensor = saved.get(name).ok_or_else(|| Error::stage(format!("the checkpoint lacks `{name}`")))?;
            parameter.shallow_clone().f_copy_(tensor).map_err(crate::backend::torch_error)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Rates;
    use crate::step::Marks;
    use pipe_core::config::TrainConfig;
    use proptest::prelude::*;
    use tch::Kind;

    /// Two parameters with gradients, at values that `at` decides.
    fn parameters(at: f64) -> Parameters {
        let tensor = |size: &[i64]| Tensor::full(size, at, (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        Parameters::from([("a.weight".to_owned(), tensor(&[3, 5])), ("b.bias".to_owned(), tensor(&[4]))])
    }

    fn state(step: u64) -> TrainerState {
        let mut state = TrainerState { global_step: step, max_steps: 30, window_loss: 0.1 + step as f64, ..TrainerState::default() };
        state.log(0.5, [("loss".to_owned(), serde_json::json!(1.0 / (step as f64 + 3.0)))]);
        state
    }

    fn optimizer(parameters: &Parameters) -> Optimizer {
        Optimizer::new(parameters, &Marks::default(), &TrainConfig::default(), &Rates::default())
    }

    /// Checkpoints of steps 10 and 20 in `folder`, whose weights are as the steps are.
    fn two(folder: &Path) -> Checkpoints {
        let checkpoints = Checkpoints::new(folder, None);
        for step in [10, 20] {
            let parameters = parameters(step as f64);
            checkpoints.save(&parameters, &optimizer(&parameters), &state(step)).unwrap();
        }
        checkpoints
    }

    #[derive(Debug, Clone)]
    enum Damage {
        Truncated(prop::sample::Index),
        Flipped(prop::sample::Index, u8),
        Missing,
    }

    fn damage() -> impl Strategy<Value = Damage> {
        prop_oneof![
            any::<prop::sample::Index>().prop_map(Damage::Truncated),
            (any::<prop::sample::Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flipped(at, bit)),
            Just(Damage::Missing),
        ]
    }

    #[test]
    fn checkpoints_that_none_goes_back_to_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = two(folder.path());
        for step in [10, 20] {
            std::fs::write(checkpoints.path(step).join(MODEL), b"cut").unwrap();
        }
        let parameters = parameters(0.0);
        assert!(checkpoints.resume(&parameters, &mut optimizer(&parameters), false).unwrap().is_none());
        assert!(checkpoints.steps().unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_damaged_a_whole_checkpoint_is_found(which in 0..3usize, damage in damage()) {
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = two(folder.path());
            let path = checkpoints.path(20).join([MODEL, OPTIMIZER, STATE][which]);
            let mut bytes = std::fs::read(&path).unwrap();
            match damage {
                Damage::Truncated(at) => std::fs::write(&path, &bytes[..at.index(bytes.len())]).unwrap(),
                Damage::Flipped(at, bit) => {
                    let at = at.index(bytes.len());
                    bytes[at] ^= 1 << bit;
                    std::fs::write(&path, bytes).unwrap();
                }
                Damage::Missing => std::fs::remove_file(&path).unwrap(),
            }
            let parameters = parameters(0.0);
            let found = checkpoints.resume(&parameters, &mut optimizer(&parameters), false).unwrap().unwrap();
            // A flip may spell the same number otherwise, such as 1e-5 with a capital.
            prop_assert!(found == state(10) || (found == state(20) && which == 2));
            let weight = f64::try_from(parameters["a.weight"].mean(Kind::Double)).unwrap();
            prop_assert_eq!(weight, found.global_step as f64);
        }
    }

    #[test]
    fn a_half_written_one_is_none_and_the_next_save_clears_it() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = two(folder.path());
        std::fs::create_dir_all(folder.path().join(".writing")).unwrap();
        std::fs::write(folder.path().join(".writing").join(MODEL), "half").unwrap();
        let parameters = parameters(30.0);
        let mut optimizer = optimizer(&parameters);
        assert_eq!(checkpoints.resume(&parameters, &mut optimizer, false).unwrap().unwrap().global_step, 20);
        checkpoints.save(&parameters, &optimizer, &state(30)).unwrap();
        assert!(!folder.path().join(".writing").exists());
        assert_eq!(checkpoints.steps().unwrap(), [20, 30]);
    }

    #[test]
    fn one_that_is_gone_back_to_has_its_best_model() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path(), None);
        let parameters = parameters(1.0);
        let mut optimizer = optimizer(&parameters);
        for (step, best) in [(10, 10), (20, 10), (30, 30)] {
            checkpoints.save(&parameters, &optimizer, &TrainerState { best_step: Some(best), ..state(step) }).unwrap();
        }
        assert_eq!(checkpoints.steps().unwrap(), [10, 20, 30]);
        std::fs::write(checkpoints.path(30).join(OPTIMIZER), "damaged").unwrap();
        let found = checkpoints.resume(&parameters, &mut optimizer, true).unwrap().unwrap();
        assert_eq!((found.global_step, found.best_step), (20, Some(10)));
        for step in [30, 40] {
            checkpoints.save(&parameters, &optimizer, &TrainerState { best_step: Some(30), ..state(step) }).unwrap();
        }
        assert_eq!(checkpoints.steps().unwrap(), [30, 40]);
    }

    #[test]
    fn one_without_the_best_model_that_it_needs_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = two(folder.path());
        let parameters = parameters(30.0);
        let mut optimizer = optimizer(&parameters);
        checkpoints.save(&parameters, &optimizer, &TrainerState { best_step: Some(10), ..state(30) }).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [10, 20, 30]);
        std::fs::remove_file(checkpoints.path(10).join(MODEL)).unwrap();
        assert_eq!(checkpoints.resume(&parameters, &mut optimizer, true).unwrap().unwrap().global_step, 20);
        assert_eq!(checkpoints.steps().unwrap(), [10, 20]);
    }
}
