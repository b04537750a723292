//! Settings that cannot be, or not together.

use super::intervals::check_steps;
use super::{Device, IntervalStrategy, SaveStrategy, TrainConfig};
use crate::config::{Base, Complaint, NewModel, in_range, known_name};
use crate::metrics::all_names;

impl TrainConfig {
    pub(in crate::config) fn check(&self) -> Result<(), Complaint> {
        self.check_model()?;
        self.check_numbers()?;
        self.lr_scheduler_kwargs.check(self)?;
        self.optim_args.check(self)?;
        self.freeze.check()?;
        self.check_loss()?;
        self.check_intervals()?;
        self.check_precision()
    }

    fn check_model(&self) -> Result<(), Complaint> {
        if self.model.is_missing() {
            return Err(Complaint::missing("model", "path/to/model"));
        }
        if let Base::Scratch(scratch) = &self.model {
            match &scratch.config {
                Some(NewModel::Inline(config)) => config.check("model.config")?,
                Some(NewModel::File(path)) if !path.as_os_str().is_empty() => {}
                _ => {
                    return Err(Complaint::new("model", "this mapping has no `config`, which is what a train stage takes of it")
                        .hint("add `config: { hidden_size: 128, … }` to it, or give the path of a pretrained model"));
                }
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), Complaint> {
        for (setting, value, range) in [
            ("learning_rate", self.learning_rate, 0.0..=f64::INFINITY),
            ("num_train_epochs", self.num_train_epochs, 0.0..=f64::INFINITY),
            ("weight_decay", self.weight_decay, 0.0..=f64::INFINITY),
            ("max_grad_norm", self.max_grad_norm, 0.0..=f64::INFINITY),
            ("warmup_steps", self.warmup_steps, 0.0..=f64::INFINITY),
            ("warmup_ratio", self.warmup_ratio, 0.0..=1.0),
            ("adam_beta1", self.adam_beta1, 0.0..=0.999_999_9),
            ("adam_beta2", self.adam_beta2, 0.0..=0.999_999_9),
            ("adam_epsilon", self.adam_epsilon, 0.0..=1.0),
            ("dropout", self.dropout.unwrap_or(0.0), 0.0..=0.99),
            ("layerwise_lr_decay", self.layerwise_lr_decay.unwrap_or(1.0), 0.001..=1.0),
            ("head_learning_rate", self.head_learning_rate.unwrap_or(0.0), 0.0..=f64::INFINITY),
            ("label_smoothing_factor", self.label_smoothing_factor, 0.0..=0.99),
            ("focal_gamma", self.focal_gamma, 0.0..=100.0),
            ("neftune_noise_alpha", self.neftune_noise_alpha.unwrap_or(0.0), 0.0..=1e6),
            ("eval_delay", self.eval_delay, 0.0..=f64::INFINITY),
            ("early_stopping_threshold", self.early_stopping_threshold, 0.0..=f64::INFINITY),
        ] {
            in_range(setting, value, range)?;
        }
        for (setting, value) in [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("max_train_samples", self.max_train_samples.unwrap_or(1)),
            ("max_eval_samples", self.max_eval_samples.unwrap_or(1)),
            ("save_total_limit", self.save_total_limit.unwrap_or(1)),
            ("torch_threads", self.torch_threads.unwrap_or(1)),
            // With 0 there would be no evaluation to be patient after.
            ("early_stopping_patience", self.early_stopping_patience.unwrap_or(1) as usize),
        ] {
            if value == 0 {
                return Err(Complaint::new(setting, format!("`{setting}` must be at least 1")));
            }
        }
        if self.max_steps <= 0 && self.num_train_epochs == 0.0 {
            return Err(Complaint::new("num_train_epochs", "nothing to train: `num_train_epochs` is 0 and `max_steps` is not set"));
        }
        if self.head_learning_rate.is_some() && self.learning_rate == 0.0 {
            return Err(Complaint::new("head_learning_rate", "`learning_rate` is 0, so there is no schedule for the classifier to follow")
                .hint("freeze the rest instead: `freeze: { embeddings: true, layers: … }`"));
        }
        Ok(())
    }

    fn check_loss(&self) -> Result<(), Complaint> {
        if let Some(weights) = &self.class_weights {
            weights.check()?;
        }
        if self.focal_gamma > 0.0 && self.label_smoothing_factor > 0.0 {
            return Err(
                Complaint::new("focal_gamma", "`focal_gamma` and `label_smoothing_factor` pull in opposite directions").hint("remove one of the two")
            );
        }
        Ok(())
    }

    fn check_intervals(&self) -> Result<(), Complaint> {
        if let Some(metric) = &self.metric_for_best_model {
            let mut known = vec!["loss"];
            known.extend(all_names());
            known_name("metric_for_best_model", metric.strip_prefix("eval_").unwrap_or(metric), &known)?;
        }
        for (setting, steps) in [("logging_steps", Some(self.logging_steps)), ("eval_steps", self.eval_steps), ("save_steps", self.save_steps)] {
            steps.map_or(Ok(()), |steps| check_steps(setting, steps))?;
        }
        if self.eval_strategy == IntervalStrategy::Steps && self.eval_steps.is_none() {
            return Err(Complaint::missing("eval_steps", "100"));
        }
        if self.save_strategy == Some(SaveStrategy::Steps) && self.save_steps.or(self.eval_steps).is_none() {
            return Err(Complaint::missing("save_steps", "100"));
        }
        for (setting, wanted) in [
            ("load_best_model_at_end", self.load_best_model_at_end),
            ("early_stopping_patience", self.early_stopping_patience.is_some()),
            ("save_strategy", self.save_strategy == Some(SaveStrategy::Best)),
            ("eval_on_start", self.eval_on_start),
        ] {
            if wanted && self.eval_strategy == IntervalStrategy::No {
                return Err(Complaint::new(setting, format!("`{setting}` needs evaluations to compare")).hint("add `eval_strategy: epoch`"));
            }
        }
        Ok(())
    }

    fn check_precision(&self) -> Result<(), Complaint> {
        if self.bf16 && self.fp16 {
            return Err(Complaint::new("fp16", "`bf16` and `fp16` are two types for the same products").hint("remove one of the two"));
        }
        for (setting, wanted, instead) in [("fp16", self.fp16, "`bf16: true`, which needs no loss scale"), ("tf32", self.tf32, "`bf16: true`")] {
            if wanted && self.device == Device::Cpu {
                return Err(Complaint::new(setting, format!("`{setting}` is of GPUs: a CPU computes it slower than f32, where it can at all"))
                    .hint(format!("use {instead}, or remove `{setting}`")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{StageConfig, StageKind};
    use crate::file::{Problem, SourceId, parse};

    fn read(with: &str) -> Result<StageConfig, Problem> {
        StageConfig::read(StageKind::Train, &parse(&format!("{{ model: m, {with} }}"), SourceId::FILE).unwrap())
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        for (with, message) in [
            ("lr_scheduler_kwargs: { num_cycles: 2 }", "the schedule `linear` has no `num_cycles`"),
            ("lr_scheduler_type: cosine, lr_scheduler_kwargs: { num_cycle: 2 }", "unknown key `num_cycle`"),
            ("lr_scheduler_type: cosine_with_min_lr", "needs one of `min_lr` and `min_lr_rate`"),
            ("lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: { min_lr: 1.0e-3 }", "must be below `learning_rate`"),
            ("lr_scheduler_type: polynomial, learning_rate: 1.0e-8", "must be below `learning_rate`"),
            ("lr_scheduler_type: warmup_stable_decay", "needs `num_decay_steps`"),
            ("lr_scheduler_type: reduce_lr_on_plateau", "needs evaluations"),
            ("lr_scheduler_type: reduce_lr_on_plateau, eval_strategy: epoch, warmup_steps: 5", "no warm-up"),
            ("optim: adam", "not one of the possible values"),
            ("optim_args: { momentum: 0.9 }", "`adamw` has no `momentum`"),
            ("optim: sgd, optim_args: { nesterov: true }", "needs a `momentum`"),
            ("optim: sgd, optim_args: momentum", "not of the form key=value"),
            ("optim: sgd, optim_args: mommentum=0.9", "unknown field `mommentum`"),
            ("optim: sgd, optim_args: { beta1: 0.9 }", "`sgd` has no `beta1`"),
            ("class_weights: equal", "not one of the possible values"),
            ("class_weights: { a: -1 }", "at least 0"),
            ("class_weights: { a: 0 }", "nothing would be learnt"),
            ("focal_gamma: 2, label_smoothing_factor: 0.1", "opposite directions"),
            ("freeze: { patterns: [\"*\"] }", "every weight"),
            ("freeze: { layer: 2 }", "unknown key `layer`"),
            ("fp16: true, bf16: true", "two types"),
            ("fp16: true, device: cpu", "`fp16` is of GPUs"),
            ("tf32: true, device: cpu", "`tf32` is of GPUs"),
            ("logging_steps: 2.5", "a whole number"),
            ("eval_strategy: steps", "`eval_steps` is missing"),
            ("save_strategy: best", "needs evaluations"),
            ("eval_on_start: true", "needs evaluations"),
            ("head_learning_rate: 1.0e-3, learning_rate: 0", "no schedule for the classifier"),
            ("layerwise_lr_decay: 2", "between"),
            ("save_total_limit: 0", "at least 1"),
        ] {
            let problem = read(with).unwrap_err();
            assert!(problem.message.contains(message), "{with}: {}", problem.message);
        }
    }

    #[test]
    fn spellings_of_both_versions_lead_to_one_key() {
        for (one, other) in [
            ("optim: adamw_torch_fused", "optim: adamw_torch"),
            ("optim: adamw_bnb_8bit", "optim: adamw_8bit"),
            ("optim: lion_32bit", "optim: lion"),
            ("evaluation_strategy: epoch", "eval_strategy: epoch"),
            ("optim: sgd, optim_args: \"momentum=0.9, nesterov=True\"", "optim: sgd, optim_args: { momentum: 0.9, nesterov: true }"),
            ("gradient_checkpointing: true, save_total_limit: 4", "seed: 42"),
        ] {
            assert_eq!(read(one).unwrap().semantic(), read(other).unwrap().semantic(), "{one}");
        }
        assert_ne!(read("optim: lion").unwrap().semantic(), read("optim: adamw_torch").unwrap().semantic());
    }
}
