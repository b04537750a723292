//! Evaluation while training: what is due, what is best, when to stop.

use std::time::Instant;

use pipe_core::metrics::headline;
use pipe_core::{Error, Evaluation, Progress, Report, Result};
use serde_json::{Value, json};

use super::Trainer;

impl Trainer<'_> {
    /// What is due before the first step of this run: the evaluation that a stop broke off, or that of `eval_on_start`.
    pub(super) fn evaluate_first(&mut self) -> Result<()> {
        let on_start = self.config.eval_on_start && self.state.global_step == 0 && !self.state.evaluated_on_start;
        if on_start || self.state.evaluation_due {
            let is_best = self.evaluate_now()?;
            self.save_if_due(is_best)?;
        }
        Ok(())
    }

    pub(super) fn evaluate_and_save(&mut self) -> Result<()> {
        let is_best = self.intervals.evaluates_at(self.state.global_step) && self.evaluate_now()?;
        self.save_if_due(is_best)
    }

    fn save_if_due(&self, is_best: bool) -> Result<()> {
        let step = self.state.global_step;
        if (step > 0 && self.intervals.saves_at(step, is_best)) || (is_best && self.config.load_best_model_at_end) { self.save() } else { Ok(()) }
    }

    /// Evaluates and judges; true if it is the best so far.
    fn evaluate_now(&mut self) -> Result<bool> {
        self.state.evaluation_due = true;
        let report = match self.evaluate() {
            Err(stop) if stop.class.is_stop() => {
                // What was trained is kept; the evaluation is made again as a whole.
                self.save()?;
                return Err(stop);
            }
            report => report?,
        };
        self.state.evaluation_due = false;
        self.state.evaluated_on_start |= self.state.global_step == 0;
        self.judge(&report)
    }

    fn evaluate(&mut self) -> Result<Report> {
        let (validation, rows) = self.validation.as_ref().ok_or_else(|| Error::internal("an evaluation without a validation split"))?;
        let (quiet, started) = (Quiet(self.progress), Instant::now());
        let evaluation = Evaluation {
            task: self.task,
            labels: &self.labels,
            batch_size: self.config.per_device_eval_batch_size,
            rows: Some(rows),
            by: &[],
            confidence: None,
        };
        let report = pipe_core::evaluate(&mut self.model, validation, &evaluation, &quiet)?;
        let seconds = started.elapsed().as_secs_f64();
        self.evaluations.push(json!({
            "step": self.state.global_step, "eval_runtime": seconds, "eval_samples_per_second": report.rows as f64 / seconds,
        }));
        Ok(report)
    }

    /// Logs an evaluation and lets it decide; true if it is the best so far.
    fn judge(&mut self, report: &Report) -> Result<bool> {
        let loss = report.loss.map(|loss| ("eval_loss".to_owned(), json!(loss)));
        let values: Vec<(String, Value)> =
            loss.into_iter().chain(report.metrics.iter().map(|(name, value)| (format!("eval_{name}"), json!(value)))).collect();
        self.log(values)?;
        let name = self.config.best_metric();
        self.progress.note(&format!(
            "step {}: eval_loss {:.4}, {}",
            self.state.global_step,
            report.loss.unwrap_or(f64::NAN),
            report.line(headline(self.task, &self.labels))
        ));
        let Some(value) = report.value(&name) else {
            // Such as a correlation while all predictions are alike.
            self.progress.note(&format!("step {}: {name} is not defined for these predictions, which counts as no gain", self.state.global_step));
            self.state.evaluations_without_gain += 1;
            return Ok(false);
        };
        if let Some(plateau) = self.state.plateau.as_mut().filter(|_| self.state.global_step > 0) {
            plateau.observe(value, self.config.best_is_greater(), &self.config.lr_scheduler_kwargs);
        }
        let gain = match self.state.best_metric {
            None => f64::INFINITY,
            Some(best) if self.config.best_is_greater() => value - best,
            Some(best) => best - value,
        };
        if gain > self.config.early_stopping_threshold {
            self.state.evaluations_without_gain = 0;
        } else {
            self.state.evaluations_without_gain += 1;
        }
        if gain > 0.0 {
            (self.state.best_metric, self.state.best_step) = (Some(value), Some(self.state.global_step));
        }
        Ok(gain > 0.0)
    }

    pub(super) fn is_out_of_patience(&self) -> bool {
        self.config.early_stopping_patience.is_some_and(|patience| self.state.evaluations_without_gain >= patience)
    }
}

/// Evaluation within training keeps the bar at the training step.
struct Quiet<'p>(&'p dyn Progress);

impl Progress for Quiet<'_> {
    fn advance(&self, _: u64, _: u64, _: &str, _: &str) {}

    fn note(&self, text: &str) {
        self.0.note(text);
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}
