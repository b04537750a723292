//! When something happens while training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Complaint;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntervalStrategy {
    #[default]
    No,
    Steps,
    Epoch,
}

/// When a checkpoint is saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaveStrategy {
    #[default]
    No,
    Steps,
    Epoch,
    /// Whenever `metric_for_best_model` is better than before.
    Best,
}

impl From<IntervalStrategy> for SaveStrategy {
    fn from(strategy: IntervalStrategy) -> SaveStrategy {
        match strategy {
            IntervalStrategy::No => SaveStrategy::No,
            IntervalStrategy::Steps => SaveStrategy::Steps,
            IntervalStrategy::Epoch => SaveStrategy::Epoch,
        }
    }
}

/// A number of steps, or below 1 a share of all steps.
pub(super) fn check_steps(setting: &str, steps: f64) -> Result<(), Complaint> {
    if steps.is_nan() || steps <= 0.0 {
        return Err(Complaint::new(setting, format!("`{setting}` must be at least 1, or a share of all steps below 1")));
    }
    if steps >= 1.0 && (steps.fract() != 0.0 || steps > 1e15) {
        return Err(Complaint::new(setting, format!("`{setting}` must be a whole number of steps, or a share of all steps below 1")));
    }
    Ok(())
}
