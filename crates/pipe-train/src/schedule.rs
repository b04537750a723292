//! Learning-rate schedules, as transformers' `get_scheduler` defines them.

use pipe_core::config::{SchedulerType, TrainConfig};

/// The rate at each optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    kind: SchedulerType,
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
        Schedule { kind: config.lr_scheduler_type, peak: config.learning_rate, warmup, total }
    }

    /// The rate of the step after `done` finished ones.
    pub(crate) fn rate(&self, done: u64) -> f64 {
        if done < self.warmup {
            return self.peak * done as f64 / self.warmup.max(1) as f64;
        }
        let progress = (done - self.warmup) as f64 / (self.total.saturating_sub(self.warmup)).max(1) as f64;
        let factor = match self.kind {
            SchedulerType::Linear => (1.0 - progress).max(0.0),
            SchedulerType::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()).max(0.0),
            SchedulerType::Constant | SchedulerType::ConstantWithWarmup => 1.0,
        };
        self.peak * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(config: TrainConfig, total: u64) -> Vec<f64> {
        let schedule = Schedule::new(&config, total);
        (0..total).map(|step| schedule.rate(step)).collect()
    }

    #[test]
    fn linear_with_warm_up_rises_and_falls() {
        let config = TrainConfig { learning_rate: 1.0, warmup_steps: 2.0, ..TrainConfig::default() };
        assert_eq!(rates(config, 6), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
        let share = TrainConfig { learning_rate: 1.0, warmup_steps: 0.25, ..TrainConfig::default() };
        assert_eq!(rates(share, 8)[..3], [0.0, 0.5, 1.0]);
    }

    #[test]
    fn cosine_ends_near_zero_and_constant_stays() {
        let config = |kind| TrainConfig { learning_rate: 2.0, lr_scheduler_type: kind, ..TrainConfig::default() };
        let cosine = rates(config(SchedulerType::Cosine), 100);
        assert!((cosine[50] - 1.0).abs() < 1e-12 && cosine[99] < 1e-3);
        assert_eq!(rates(config(SchedulerType::Constant), 3), [2.0, 2.0, 2.0]);
    }
}
