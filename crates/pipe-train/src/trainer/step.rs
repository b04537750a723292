//! One optimizer step: gradients micro-batch by micro-batch, then the update.

use pipe_core::{BatchSource, Error, Result, SplitMix};
use serde_json::json;
use tch::Tensor;

use super::Trainer;
use crate::backend::{is_out_of_memory, torch_error};
use crate::recompute;
use crate::state::Ledger;

impl Trainer<'_> {
    /// Trains on `batch`; its loss.
    pub(super) fn step(&mut self, batch: &[usize]) -> Result<f64> {
        let lr = self.schedule.rate(self.state.updates, self.state.plateau.as_ref());
        let loss = self.gradients(batch)?;
        let norm = self.optimizer.step(self.state.updates, lr, self.loss_scale())?;
        match &mut self.state.loss_scale {
            // Too large for half precision: the step is left out.
            Some(scale) if !norm.is_finite() => scale.overflows()?,
            Some(scale) => {
                scale.fits();
                self.state.updates += 1;
            }
            None => {
                self.check_finite("gradient norm", norm, batch)?;
                self.state.updates += 1;
            }
        }
        self.state.global_step += 1;
        self.log_step(loss, norm, lr)?;
        Ok(loss)
    }

    fn loss_scale(&self) -> f64 {
        self.state.loss_scale.as_ref().map_or(1.0, |scale| scale.factor())
    }

    /// Gradients of the mean loss over `batch`; that loss. With `auto_find_batch_size` in smaller micro-batches once memory
    /// runs out.
    fn gradients(&mut self, batch: &[usize]) -> Result<f64> {
        let first = self.state.micro_batch.unwrap_or(self.config.per_device_train_batch_size);
        let ((loss, ledger), micro) = if self.config.auto_find_batch_size {
            halving(first, |micro| {
                // What came of a try with more rows.
                self.optimizer.forget_gradients()?;
                self.accumulate(batch, micro)
            })?
        } else {
            (self.accumulate(batch, first)?, first)
        };
        if micro < first {
            self.progress.note(&format!(
                "memory ran out: forward passes have {micro} rows from step {} on, steps as many as before",
                self.state.global_step + 1
            ));
            self.state.micro_batch = Some(micro);
        }
        self.state.ledger = ledger;
        Ok(loss)
    }

    /// The same in micro-batches of `micro` rows; with the ledger as it is after them.
    fn accumulate(&self, batch: &[usize], micro: usize) -> Result<(f64, Ledger)> {
        // Sorted, so that each micro-batch is padded to no more than it needs.
        let mut rows = batch.to_vec();
        rows.sort_by_key(|&row| (self.train.lengths()[row], row));
        let items = self.loss.items(&self.train.labels_of(&rows));
        // Rows that weigh nothing have no loss to divide.
        let items = if items == 0.0 { 1.0 } else { items };
        let (mut total, mut ledger) = (0.0, self.state.ledger);
        for (at, rows) in rows.chunks(micro).enumerate() {
            // Dropout's generator is seeded here each time: nothing to save, and resume is exact.
            tch::manual_seed(SplitMix::new(&[self.config.seed, self.state.global_step, at as u64]).next_u64() as i64);
            let micro_batch = self.train.batch(rows)?;
            let share = |logits: &Tensor| self.loss.sum(logits, &micro_batch)?.f_div_scalar(items).map_err(torch_error);
            let value = if self.config.gradient_checkpointing {
                recompute::backward(&self.model, &micro_batch, &share, self.loss_scale())?
            } else {
                let loss = share(&self.model.forward(&micro_batch, true)?)?;
                let value = f64::try_from(&loss).map_err(torch_error)?;
                self.check_finite("loss", value, rows)?;
                // Exact where the scale is 1.
                loss.f_mul_scalar(self.loss_scale()).and_then(|scaled| scaled.f_backward()).map_err(torch_error)?;
                value
            };
            self.check_finite("loss", value, rows)?;
            let tokens = rows.iter().map(|&row| u64::from(self.train.lengths()[row])).sum();
            ledger.add(rows.len(), tokens, rows.len() * micro_batch.length);
            total += value;
        }
        Ok((total, ledger))
    }

    fn check_finite(&self, what: &str, value: f64, rows: &[usize]) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let ids: Vec<String> = rows.iter().take(8).map(|&row| self.train.row_id(row)).collect();
        let more = if rows.len() > ids.len() { format!(" and {} more", rows.len() - ids.len()) } else { String::new() };
        Err(Error::stage(format!("the {what} is not a number at step {} (rows {}{more})", self.state.global_step + 1, ids.join(", ")))
            .hint("lower `learning_rate`, add `warmup_steps`, or check these rows; the last checkpoint is kept"))
    }

    fn log_step(&mut self, loss: f64, norm: f64, lr: f64) -> Result<()> {
        self.state.window_loss += loss;
        self.state.total_loss += loss;
        self.state.window_steps += 1;
        if !self.intervals.logs_at(self.state.global_step) {
            return Ok(());
        }
        let mean = self.state.window_loss / self.state.window_steps as f64;
        (self.state.window_loss, self.state.window_steps) = (0.0, 0);
        self.log([("loss", mean), ("grad_norm", norm), ("learning_rate", lr)].map(|(name, value)| (name.to_owned(), json!(value))))
    }
}

/// Calls `run` with half as many rows each time that memory runs out; what it gave in the end, and with how many.
fn halving<T>(first: usize, mut run: impl FnMut(usize) -> Result<T>) -> Result<(T, usize)> {
    let mut rows = first;
    loop {
        match run(rows) {
            Err(error) if is_out_of_memory(&error) && rows > 1 => rows = rows.div_ceil(2),
            Err(error) if is_out_of_memory(&error) => {
                return Err(error.hint("not even one row fits: lower `max_length`, use `gradient_checkpointing: true`, or a smaller model"));
            }
            done => return done.map(|value| (value, rows)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_memory_halves_the_rows_and_other_errors_end() {
        let of = |fits: usize| {
            let mut tried = Vec::new();
            let result = halving(12, |rows| {
                tried.push(rows);
                if rows <= fits { Ok(rows) } else { Err(Error::stage("libtorch: CUDA out of memory. Tried to allocate 2 GiB")) }
            });
            (result, tried)
        };
        assert_eq!(of(12).1, [12]);
        assert_eq!(of(4).1, [12, 6, 3]);
        assert_eq!(of(4).0.unwrap(), (3, 3));
        let (none, tried) = of(0);
        assert_eq!(tried, [12, 6, 3, 2, 1]);
        assert!(none.unwrap_err().hint.unwrap().contains("not even one row"));
        let mut calls = 0;
        let other = halving(12, |_| -> Result<()> {
            calls += 1;
            Err(Error::stage("libtorch: a shape does not fit"))
        });
        assert!(other.is_err() && calls == 1);
    }
}
