//! How the learning rate changes over the steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TrainConfig;
use crate::config::{Complaint, in_range};

/// The schedules of transformers' `get_scheduler`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerType {
    #[default]
    Linear,
    Cosine,
    CosineWithRestarts,
    Polynomial,
    Constant,
    ConstantWithWarmup,
    InverseSqrt,
    /// Lowers the rate when `metric_for_best_model` has not improved for `patience` evaluations.
    ReduceLrOnPlateau,
    /// Needs `min_lr` or `min_lr_rate` in `lr_scheduler_kwargs`.
    CosineWithMinLr,
    /// Needs `num_decay_steps` in `lr_scheduler_kwargs`.
    WarmupStableDecay,
}

/// What a schedule takes beside warm-up. Each key belongs to some schedules alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerArgs {
    /// Of `cosine`, `cosine_with_min_lr`, `warmup_stable_decay`: waves, 0.5 by default; of `cosine_with_restarts`: restarts, 1.
    pub num_cycles: Option<f64>,
    /// Of `polynomial`; 1 by default.
    pub power: Option<f64>,
    /// Of `polynomial`: the rate at the end; 1e-7 by default.
    pub lr_end: Option<f64>,
    /// The lowest rate of `cosine_with_min_lr` and `reduce_lr_on_plateau`.
    pub min_lr: Option<f64>,
    /// Of `cosine_with_min_lr`: the lowest rate as a share of `learning_rate`.
    pub min_lr_rate: Option<f64>,
    /// Of `inverse_sqrt`: steps; the steps of warm-up by default, 10000 without any.
    pub timescale: Option<f64>,
    /// Of `warmup_stable_decay`.
    pub num_decay_steps: Option<u64>,
    /// Of `warmup_stable_decay`: what warm-up and decay leave by default.
    pub num_stable_steps: Option<u64>,
    /// Of `warmup_stable_decay`; linear by default.
    pub warmup_type: Option<RampType>,
    /// Of `warmup_stable_decay`; cosine by default.
    pub decay_type: Option<RampType>,
    /// Of `warmup_stable_decay`: the lowest rate as a share of `learning_rate`; 0 by default.
    pub min_lr_ratio: Option<f64>,
    /// Of `reduce_lr_on_plateau`: what the rate is multiplied by; 0.1 by default.
    pub factor: Option<f64>,
    /// Of `reduce_lr_on_plateau`: evaluations without a gain that are borne; 10 by default.
    pub patience: Option<u64>,
    /// Of `reduce_lr_on_plateau`: what counts as a gain; 1e-4 by default.
    pub threshold: Option<f64>,
    /// Of `reduce_lr_on_plateau`; rel by default.
    pub threshold_mode: Option<ThresholdMode>,
    /// Of `reduce_lr_on_plateau`: evaluations after a reduction that do not count; 0 by default.
    pub cooldown: Option<u64>,
    /// Of `reduce_lr_on_plateau`: the smallest change that is made; 1e-8 by default.
    pub eps: Option<f64>,
}

/// The shape of a rise or fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RampType {
    #[serde(rename = "linear")]
    Linear,
    #[serde(rename = "cosine")]
    Cosine,
    #[serde(rename = "1-sqrt")]
    OneMinusSqrt,
}

/// Whether a threshold is a share of the best value or a difference from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    Rel,
    Abs,
}

impl SchedulerType {
    /// The keys of `lr_scheduler_kwargs` that it takes.
    fn keys(self) -> &'static [&'static str] {
        match self {
            SchedulerType::Linear | SchedulerType::Constant | SchedulerType::ConstantWithWarmup => &[],
            SchedulerType::Cosine | SchedulerType::CosineWithRestarts => &["num_cycles"],
            SchedulerType::Polynomial => &["power", "lr_end"],
            SchedulerType::InverseSqrt => &["timescale"],
            SchedulerType::CosineWithMinLr => &["num_cycles", "min_lr", "min_lr_rate"],
            SchedulerType::WarmupStableDecay => &["num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"],
            SchedulerType::ReduceLrOnPlateau => &["factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps"],
        }
    }
}

impl SchedulerArgs {
    pub(super) fn check(&self, config: &TrainConfig) -> Result<(), Complaint> {
        let kind = config.lr_scheduler_type;
        let known = kind.keys();
        let name = |kind: SchedulerType| serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        let Ok(Value::Object(written)) = serde_json::to_value(self) else { return Ok(()) };
        if let Some((key, _)) = written.iter().find(|(key, value)| !value.is_null() && !known.contains(&key.as_str())) {
            let what = if known.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", known.join(", ")) };
            return Err(Complaint::new(format!("lr_scheduler_kwargs.{key}"), format!("the schedule `{}` has no `{key}`", name(kind))).hint(what));
        }
        for (key, value, range) in [
            ("num_cycles", self.num_cycles, 0.0..=f64::INFINITY),
            ("power", self.power, 0.0..=f64::INFINITY),
            ("lr_end", self.lr_end, 0.0..=f64::INFINITY),
            ("min_lr", self.min_lr, 0.0..=f64::INFINITY),
            ("min_lr_rate", self.min_lr_rate, 0.0..=1.0),
            ("timescale", self.timescale, 1.0..=f64::INFINITY),
            ("min_lr_ratio", self.min_lr_ratio, 0.0..=1.0),
            ("factor", self.factor, 0.0..=0.999_999_9),
            ("threshold", self.threshold, 0.0..=f64::INFINITY),
            ("eps", self.eps, 0.0..=f64::INFINITY),
        ] {
            in_range(&format!("lr_scheduler_kwargs.{key}"), value.unwrap_or(*range.start()), range)?;
        }
        for (key, end) in [("lr_end", self.lr_end.or((kind == SchedulerType::Polynomial).then_some(1e-7))), ("min_lr", self.min_lr)] {
            if end.is_some_and(|end| end >= config.learning_rate) {
                return Err(Complaint::new(format!("lr_scheduler_kwargs.{key}"), format!("`{key}` must be below `learning_rate`")));
            }
        }
        if kind == SchedulerType::CosineWithMinLr && self.min_lr.is_some() == self.min_lr_rate.is_some() {
            return Err(Complaint::new("lr_scheduler_kwargs", "`cosine_with_min_lr` needs one of `min_lr` and `min_lr_rate`")
                .hint("add `lr_scheduler_kwargs: { min_lr_rate: 0.1 }`"));
        }
        if kind == SchedulerType::WarmupStableDecay && self.num_decay_steps.is_none() {
            return Err(Complaint::new("lr_scheduler_kwargs", "`warmup_stable_decay` needs `num_decay_steps`")
                .hint("add `lr_scheduler_kwargs: { num_decay_steps: 100 }`"));
        }
        if kind == SchedulerType::ReduceLrOnPlateau {
            if config.eval_strategy == super::IntervalStrategy::No {
                return Err(
                    Complaint::new("lr_scheduler_type", "`reduce_lr_on_plateau` needs evaluations to compare").hint("add `eval_strategy: epoch`")
                );
            }
            if config.warmup_steps > 0.0 || config.warmup_ratio > 0.0 {
                return Err(
                    Complaint::new("lr_scheduler_type", "`reduce_lr_on_plateau` has no warm-up").hint("remove `warmup_steps` and `warmup_ratio`")
                );
            }
        }
        Ok(())
    }
}
