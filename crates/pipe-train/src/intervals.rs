//! When a training logs, evaluates and saves.

use pipe_core::config::{IntervalStrategy, SaveStrategy, TrainConfig};

/// The settings resolved to steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Intervals {
    steps_per_epoch: u64,
    total: u64,
    logging: (IntervalStrategy, u64),
    logging_first_step: bool,
    eval: (IntervalStrategy, Option<u64>),
    eval_delay: f64,
    save: (SaveStrategy, Option<u64>),
}

/// What transformers writes where a number of steps was not given.
const UNSET: u64 = 500;

impl Intervals {
    pub(crate) fn new(config: &TrainConfig, steps_per_epoch: u64, total: u64) -> Intervals {
        // Below 1 it is a share of all steps.
        let steps = |steps: f64| if steps < 1.0 { (total as f64 * steps).ceil() as u64 } else { steps as u64 };
        Intervals {
            steps_per_epoch,
            total,
            logging: (config.logging_strategy, steps(config.logging_steps).max(1)),
            logging_first_step: config.logging_first_step,
            eval: (config.eval_strategy, config.eval_steps.map(steps)),
            eval_delay: config.eval_delay,
            save: (config.effective_save_strategy(), config.save_steps.or(config.eval_steps).map(steps)),
        }
    }

    pub(crate) fn logs_at(&self, step: u64) -> bool {
        match self.logging.0 {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => step.is_multiple_of(self.logging.1) || (self.logging_first_step && step == 1),
            IntervalStrategy::Epoch => self.ends_epoch(step) || (self.logging_first_step && step == 1),
        }
    }

    /// The last step counts, so that what was trained is what is judged.
    pub(crate) fn evaluates_at(&self, step: u64) -> bool {
        match self.eval.0 {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => step as f64 >= self.eval_delay && (is_every(self.eval.1, step) || step == self.total),
            IntervalStrategy::Epoch => step as f64 / self.steps_per_epoch as f64 >= self.eval_delay && self.ends_epoch(step),
        }
    }

    /// `is_best`: this step was evaluated and is the best so far.
    pub(crate) fn saves_at(&self, step: u64, is_best: bool) -> bool {
        match self.save.0 {
            SaveStrategy::No => false,
            SaveStrategy::Steps => is_every(self.save.1, step) || step == self.total,
            SaveStrategy::Epoch => self.ends_epoch(step),
            SaveStrategy::Best => is_best,
        }
    }

    fn ends_epoch(&self, step: u64) -> bool {
        step.is_multiple_of(self.steps_per_epoch) || step == self.total
    }

    pub(crate) fn logging_steps(&self) -> u64 {
        self.logging.1
    }

    pub(crate) fn eval_steps(&self) -> u64 {
        self.eval.1.unwrap_or(UNSET)
    }

    pub(crate) fn save_steps(&self) -> u64 {
        self.save.1.unwrap_or(UNSET)
    }
}

fn is_every(steps: Option<u64>, step: u64) -> bool {
    steps.is_some_and(|steps| step.is_multiple_of(steps.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(config: &TrainConfig, what: impl Fn(&Intervals, u64) -> bool) -> Vec<u64> {
        let intervals = Intervals::new(config, 8, 20);
        (1..=20).filter(|&step| what(&intervals, step)).collect()
    }

    #[test]
    fn steps_shares_epochs_and_delays() {
        let logging = |logging_steps, logging_strategy, logging_first_step| TrainConfig {
            logging_steps,
            logging_strategy,
            logging_first_step,
            ..TrainConfig::default()
        };
        let (steps, epoch, no) = (IntervalStrategy::Steps, IntervalStrategy::Epoch, IntervalStrategy::No);
        assert_eq!(all(&logging(6.0, steps, true), Intervals::logs_at), [1, 6, 12, 18]);
        assert_eq!(all(&logging(0.3, steps, false), Intervals::logs_at), [6, 12, 18]);
        assert_eq!(all(&logging(6.0, epoch, false), Intervals::logs_at), [8, 16, 20]);
        assert!(all(&logging(6.0, no, true), Intervals::logs_at).is_empty());
        let eval = |eval_strategy, eval_steps, eval_delay| TrainConfig { eval_strategy, eval_steps, eval_delay, ..TrainConfig::default() };
        assert_eq!(all(&eval(steps, Some(0.25), 7.0), Intervals::evaluates_at), [10, 15, 20]);
        assert_eq!(all(&eval(epoch, None, 2.0), Intervals::evaluates_at), [16, 20]);
        let save = |save_strategy, save_steps| TrainConfig { save_strategy: Some(save_strategy), save_steps, ..TrainConfig::default() };
        assert_eq!(all(&save(SaveStrategy::Steps, Some(9.0)), |intervals, step| intervals.saves_at(step, false)), [9, 18, 20]);
        assert_eq!(all(&save(SaveStrategy::Best, None), |intervals, step| intervals.saves_at(step, step % 7 == 0)), [7, 14]);
        assert_eq!(all(&eval(epoch, None, 0.0), |intervals, step| intervals.saves_at(step, false)), [8, 16, 20]);
    }
}
