//! Learning-rate schedules, as transformers' `get_scheduler` defines them, each a factor of `learning_rate` by step.
//!
//! `reduce_lr_on_plateau` follows evaluations instead of steps: its state is a [`Plateau`].

use std::f64::consts::PI;

use pipe_core::config::{RampType, SchedulerArgs, SchedulerType, ThresholdMode, TrainConfig};
use serde::{Deserialize, Serialize};

/// The rate at each optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    kind: SchedulerType,
    args: SchedulerArgs,
    peak: f64,
    warmup: u64,
    total: u64,
}

impl Schedule {
    pub(crate) fn new(config: &TrainConfig, total: u64) -> Schedule {
        // v5: below 1 it is a share; v4 has `warmup_ratio` for that. A number of steps wins over a ratio.
        let warmup = match (config.warmup_steps, config.warmup_ratio) {
            (steps, _) if steps >= 1.0 => steps as u64,
            (share, ratio) => (total as f64 * if share > 0.0 { share } else { ratio }).ceil() as u64,
        };
        let warmup = if config.lr_scheduler_type == SchedulerType::Constant { 0 } else { warmup };
        Schedule { kind: config.lr_scheduler_type, args: config.lr_scheduler_kwargs, peak: config.learning_rate, warmup, total }
    }

    /// The rate of the step after `done` updates.
    pub(crate) fn rate(&self, done: u64, plateau: Option<&Plateau>) -> f64 {
        plateau.map_or_else(|| self.peak * self.factor(done as f64), |plateau| plateau.rate)
    }

    fn factor(&self, step: f64) -> f64 {
        let (warmup, total, args) = (self.warmup as f64, self.total as f64, &self.args);
        if self.kind == SchedulerType::WarmupStableDecay {
            return self.warmup_stable_decay(step);
        }
        if step < warmup {
            return step / warmup.max(1.0);
        }
        let decay = (total - warmup).max(1.0);
        let progress = (step - warmup) / decay;
        match self.kind {
            SchedulerType::Linear => ((total - step) / decay).max(0.0),
            SchedulerType::Cosine => wave(args.num_cycles.unwrap_or(0.5), progress).max(0.0),
            SchedulerType::CosineWithRestarts if progress >= 1.0 => 0.0,
            SchedulerType::CosineWithRestarts => 0.5 * (1.0 + (PI * ((args.num_cycles.unwrap_or(1.0) * progress) % 1.0)).cos()),
            SchedulerType::CosineWithMinLr => {
                let lowest = args.min_lr_rate.unwrap_or_else(|| args.min_lr.unwrap_or(0.0) / self.peak);
                (wave(args.num_cycles.unwrap_or(0.5), progress) * (1.0 - lowest) + lowest).max(0.0)
            }
            SchedulerType::Polynomial => {
                let end = args.lr_end.unwrap_or(1e-7);
                let left = (1.0 - progress).max(0.0);
                ((self.peak - end) * left.powf(args.power.unwrap_or(1.0)) + end) / self.peak
            }
            SchedulerType::InverseSqrt => {
                let timescale = args.timescale.unwrap_or(if self.warmup == 0 { 10_000.0 } else { warmup });
                1.0 / ((step + timescale - warmup) / timescale).sqrt()
            }
            SchedulerType::Constant | SchedulerType::ConstantWithWarmup | SchedulerType::ReduceLrOnPlateau | SchedulerType::WarmupStableDecay => 1.0,
        }
    }

    fn warmup_stable_decay(&self, step: f64) -> f64 {
        let (warmup, args) = (self.warmup as f64, &self.args);
        let decay = args.num_decay_steps.unwrap_or(0) as f64;
        let stable = args.num_stable_steps.map_or(self.total as f64 - warmup - decay, |steps| steps as f64);
        let lowest = args.min_lr_ratio.unwrap_or(0.0);
        let above_lowest = |factor: f64| (factor * (1.0 - lowest) + lowest).max(0.0);
        if step < warmup {
            let progress = step / warmup.max(1.0);
            return above_lowest(match args.warmup_type.unwrap_or(RampType::Linear) {
                RampType::Linear => progress,
                RampType::Cosine => 0.5 * (1.0 - (PI * progress).cos()),
                RampType::OneMinusSqrt => 1.0 - (1.0 - progress).sqrt(),
            });
        }
        if step < warmup + stable {
            return 1.0;
        }
        if step < warmup + stable + decay {
            let progress = (step - warmup - stable) / decay.max(1.0);
            return above_lowest(match args.decay_type.unwrap_or(RampType::Cosine) {
                RampType::Linear => 1.0 - progress,
                RampType::Cosine => wave(args.num_cycles.unwrap_or(0.5), progress),
                RampType::OneMinusSqrt => 1.0 - progress.sqrt(),
            });
        }
        lowest
    }
}

/// `cycles` waves of a cosine from 1 to 0 and back.
fn wave(cycles: f64, progress: f64) -> f64 {
    0.5 * (1.0 + (PI * cycles * 2.0 * progress).cos())
}

/// The state of `reduce_lr_on_plateau`, as `torch.optim.lr_scheduler.ReduceLROnPlateau` keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plateau {
    rate: f64,
    best: Option<f64>,
    evaluations_without_gain: u64,
    cooldown: u64,
}

impl Plateau {
    /// Absent for the schedules that follow steps.
    pub(crate) fn new(config: &TrainConfig) -> Option<Plateau> {
        (config.lr_scheduler_type == SchedulerType::ReduceLrOnPlateau).then_some(Plateau {
            rate: config.learning_rate,
            best: None,
            evaluations_without_gain: 0,
            cooldown: 0,
        })
    }

    /// Takes note of an evaluation's measure; lowers the rate where there was no gain for too long.
    pub(crate) fn observe(&mut self, value: f64, greater_is_better: bool, args: &SchedulerArgs) {
        let threshold = args.threshold.unwrap_or(1e-4);
        let is_gain = self.best.is_none_or(|best| match (greater_is_better, args.threshold_mode.unwrap_or(ThresholdMode::Rel)) {
            (false, ThresholdMode::Rel) => value < best * (1.0 - threshold),
            (false, ThresholdMode::Abs) => value < best - threshold,
            (true, ThresholdMode::Rel) => value > best * (1.0 + threshold),
            (true, ThresholdMode::Abs) => value > best + threshold,
        });
        if is_gain {
            (self.best, self.evaluations_without_gain) = (Some(value), 0);
        } else {
            self.evaluations_without_gain += 1;
        }
        if self.cooldown > 0 {
            (self.cooldown, self.evaluations_without_gain) = (self.cooldown - 1, 0);
        }
        if self.evaluations_without_gain > args.patience.unwrap_or(10) {
            let lower = (self.rate * args.factor.unwrap_or(0.1)).max(args.min_lr.unwrap_or(0.0));
            if self.rate - lower > args.eps.unwrap_or(1e-8) {
                self.rate = lower;
            }
            (self.cooldown, self.evaluations_without_gain) = (args.cooldown.unwrap_or(0), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/parity/schedules.reference.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The settings of a case, with the names of `TrainingArguments`.
    fn settings(case: &serde_json::Value) -> TrainConfig {
        serde_json::from_value(case["settings"].clone()).unwrap()
    }

    #[test]
    fn every_schedule_is_that_of_transformers() {
        let reference = reference();
        let cases = reference["schedules"].as_array().unwrap();
        assert!(cases.len() >= 20);
        for case in cases {
            let config = settings(case);
            let schedule = Schedule::new(&config, case["total"].as_u64().unwrap());
            for (step, expected) in case["rates"].as_array().unwrap().iter().enumerate() {
                let (found, expected) = (schedule.rate(step as u64, None), expected.as_f64().unwrap());
                assert!((found - expected).abs() <= 1e-12 * config.learning_rate, "{}, step {step}: {found} and {expected}", case["settings"]);
            }
        }
    }

    #[test]
    fn a_plateau_lowers_the_rate_as_torch_does() {
        let reference = reference();
        let cases = reference["plateaus"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let config = settings(case);
            let mut plateau = Plateau::new(&config).unwrap();
            let mut lowered = 0;
            for (value, expected) in case["values"].as_array().unwrap().iter().zip(case["rates"].as_array().unwrap()) {
                let before = plateau.rate;
                plateau.observe(value.as_f64().unwrap(), config.best_is_greater(), &config.lr_scheduler_kwargs);
                assert!((plateau.rate - expected.as_f64().unwrap()).abs() < 1e-15, "{}: {} and {expected}", case["settings"], plateau.rate);
                lowered += u32::from(plateau.rate < before);
            }
            assert!(lowered > 0);
        }
    }

    #[test]
    fn warm_up_is_steps_or_a_share() {
        let first = |config: TrainConfig| (0..3).map(|step| Schedule::new(&config, 8).rate(step, None)).collect::<Vec<_>>();
        let steps = TrainConfig { learning_rate: 1.0, warmup_steps: 2.0, ..TrainConfig::default() };
        assert_eq!(first(steps.clone()), [0.0, 0.5, 1.0]);
        assert_eq!(first(TrainConfig { warmup_steps: 0.25, ..steps.clone() }), [0.0, 0.5, 1.0]);
        assert_eq!(first(TrainConfig { warmup_steps: 0.0, warmup_ratio: 0.25, ..steps }), [0.0, 0.5, 1.0]);
    }
}
