//! AdamW whose moments are kept as blocks of 8-bit numbers (Dettmers et al. 2022, "8-bit Optimizers via Block-wise
//! Quantization"): a block of 256 values is its largest magnitude and, for each value, the place in a table of 256.

use pipe_core::Result;
use pipe_core::config::TrainConfig;
use tch::{Kind, TchError, Tensor};

use super::adamw::AdamW;
use super::{Group, Moment, Rule, Slots, is_embedding};
use crate::backend::torch_error;

/// Values that share a scale.
const BLOCK: i64 = 256;
/// Smaller parameters, biases and norms among them, keep moments in f32: they weigh nothing. The models of tests are small.
const SMALLEST: usize = if cfg!(test) { 1024 } else { 4096 };

pub(super) struct AdamW8bit {
    inner: AdamW,
    first: Table,
    second: Table,
}

/// The values that 8 bits stand for.
struct Table {
    /// Ascending, `[256]`.
    values: Tensor,
    /// Between neighbours, `[255]`.
    bounds: Tensor,
}

impl Table {
    /// Dynamic tree quantization: seven decades, each with twice as many values as the one below; 0 and 1.
    fn new(signed: bool) -> Table {
        let mut values = vec![0.0f32, 1.0];
        for exponent in 0..7 {
            let count = if signed { 1 << exponent } else { 2 << exponent };
            let decade = 10f64.powi(exponent - 6);
            for at in 0..count {
                // The middle of one of `count` equal parts of 0.1 to 1.
                let value = (decade * (0.1 + 0.9 * (f64::from(at) + 0.5) / f64::from(count))) as f32;
                values.push(value);
                if signed {
                    values.push(-value);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        let bounds: Vec<f32> = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        Table { values: Tensor::from_slice(&values), bounds: Tensor::from_slice(&bounds) }
    }

    /// `codes` `[blocks, 256]` and `scales` `[blocks, 1]` as f32 of the shape of `like`.
    fn read(&self, codes: &Tensor, scales: &Tensor, like: &Tensor) -> Result<Tensor, TchError> {
        let values = self.values.to_device(codes.device());
        let blocks = values.f_index_select(0, &codes.f_view(-1)?.f_to_kind(Kind::Int)?)?.f_view_as(codes)?.f_mul(scales)?;
        blocks.f_view(-1)?.f_narrow(0, 0, like.numel() as i64)?.f_reshape(like.size())
    }

    /// The reverse, rounding to the nearest value.
    fn write(&self, values: &Tensor, codes: &mut Tensor, scales: &mut Tensor) -> Result<(), TchError> {
        let missing = codes.numel() as i64 - values.numel() as i64;
        let blocks = values.f_reshape(-1)?.f_constant_pad_nd([0, missing])?.f_view_as(codes)?;
        let largest = blocks.f_abs()?.f_amax([1i64].as_slice(), true)?;
        let scaled = blocks.f_div(&largest.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
        codes.f_copy_(&scaled.f_bucketize(&self.bounds.to_device(codes.device()), true, false)?)?;
        scales.f_copy_(&largest)?;
        Ok(())
    }
}

impl AdamW8bit {
    pub(super) fn new(config: &TrainConfig) -> AdamW8bit {
        AdamW8bit { inner: AdamW::new(config), first: Table::new(true), second: Table::new(false) }
    }

    fn move_one(&self, param: &Tensor, slots: &mut Slots, grad: &Tensor, at: Moment, weight_decay: f64) -> Result<()> {
        let [(_, codes1), (_, scales1), (_, codes2), (_, scales2)] = slots.as_mut_slice() else { return Ok(()) };
        let exp_avg = self.first.read(codes1, scales1, param).map_err(torch_error)?;
        let exp_avg_sq = self.second.read(codes2, scales2, param).map_err(torch_error)?;
        let one = |tensor: &Tensor| [tensor.shallow_clone()];
        self.inner.apply([&one(param), &one(grad), &one(&exp_avg), &one(&exp_avg_sq)], &[None], at, weight_decay)?;
        self.first.write(&exp_avg, codes1, scales1).map_err(torch_error)?;
        self.second.write(&exp_avg_sq, codes2, scales2).map_err(torch_error)
    }
}

impl Rule for AdamW8bit {
    fn fresh(&self, name: &str, param: &Tensor) -> Slots {
        // Tables of embeddings get few, uneven gradients, and stay in f32 as in the paper and in transformers' Trainer.
        if param.numel() < SMALLEST || is_embedding(name, param) {
            return self.inner.fresh(name, param);
        }
        let blocks = (param.numel() as i64 + BLOCK - 1) / BLOCK;
        // The place of 0 in the table, so that what was never written reads as 0.
        let codes = |table: &Table| {
            let zero = i64::try_from(table.values.eq(0.0).to_kind(Kind::Int).argmax(0, false)).unwrap_or(0);
            Tensor::full([blocks, BLOCK], zero, (Kind::Uint8, param.device()))
        };
        let scales = || Tensor::zeros([blocks, 1], (Kind::Float, param.device()));
        vec![
            ("exp_avg_codes", codes(&self.first)),
            ("exp_avg_scales", scales()),
            ("exp_avg_sq_codes", codes(&self.second)),
            ("exp_avg_sq_scales", scales()),
        ]
    }

    fn update(&self, group: &mut Group, grads: &[Tensor], at: Moment) -> Result<()> {
        let weight_decay = group.weight_decay;
        let (mut params, mut gradients, mut exp_avgs, mut exp_avg_sqs, mut marks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (((param, slots), grad), of_rows) in group.params.iter().zip(&mut group.states).zip(grads).zip(&group.marks) {
            if let [(_, exp_avg), (_, exp_avg_sq)] = slots.as_slice() {
                for (list, tensor) in [(&mut params, param), (&mut gradients, grad), (&mut exp_avgs, exp_avg), (&mut exp_avg_sqs, exp_avg_sq)] {
                    list.push(tensor.shallow_clone());
                }
                marks.push(of_rows.as_ref().map(Tensor::shallow_clone));
            } else {
                self.move_one(param, slots, grad, at, weight_decay)?;
            }
        }
        self.inner.apply([&params, &gradients, &exp_avgs, &exp_avg_sqs], &marks, at, weight_decay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_256_values_and_reading_gives_back_what_was_written() {
        for signed in [true, false] {
            let table = Table::new(signed);
            assert_eq!(table.values.size(), [256]);
            let values = Tensor::arange(700, (Kind::Float, tch::Device::Cpu)) / 700.0 - if signed { 0.5 } else { 0.0 };
            let (mut codes, mut scales) =
                (Tensor::zeros([3, 256], (Kind::Uint8, tch::Device::Cpu)), Tensor::zeros([3, 1], (Kind::Float, tch::Device::Cpu)));
            table.write(&values, &mut codes, &mut scales).unwrap();
            let back = table.read(&codes, &scales, &values).unwrap();
            let error = f64::try_from((&back - &values).abs().max()).unwrap();
            assert!(error < 0.01, "signed {signed}: {error}");
            // What the table holds comes back, but for the last bit of the scale.
            let (mut again, mut same) = (codes.zeros_like(), scales.zeros_like());
            table.write(&back, &mut again, &mut same).unwrap();
            assert_eq!(codes, again);
        }
    }

    /// What `make_trainer.py` calls the same.
    fn numbers(count: i64, seed: i64) -> Tensor {
        let value = |at: i64| ((at * 7919 + seed * 104_729) % 1024 - 512) as f32 / 512.0 / if at % 5 == 0 { 64.0 } else { 1.0 };
        Tensor::from_slice(&(0..count).map(value).collect::<Vec<f32>>())
    }

    #[test]
    fn five_steps_are_those_of_bitsandbytes_tables() {
        let reference = crate::testing::read_json(&crate::testing::fixture("../parity/adamw8bit.reference.json"));
        let case = &reference["cases"][0];
        let config: TrainConfig = serde_json::from_value(case["settings"].clone()).unwrap();
        let count = case["count"].as_i64().unwrap();
        let rule = AdamW8bit::new(&config);
        let param = numbers(count, 0);
        let states = vec![rule.fresh("a.weight", &param)];
        assert_eq!(states[0][0].1.kind(), Kind::Uint8);
        let mut group =
            Group { names: vec!["a.weight".into()], params: vec![param], states, marks: vec![None], weight_decay: config.weight_decay, rate: 1.0 };
        for step in 1..=case["steps"].as_u64().unwrap() {
            rule.update(&mut group, &[numbers(count, step as i64)], Moment { step, lr: config.learning_rate, factor: 1.0 }).unwrap();
        }
        let found: Vec<f32> = Vec::try_from(&group.params[0]).unwrap();
        let every = case["every"].as_u64().unwrap() as usize;
        let mut largest = 0.0f64;
        for (found, expected) in found.iter().step_by(every).zip(case["weights"].as_array().unwrap()) {
            largest = largest.max((f64::from(*found) - expected.as_f64().unwrap()).abs());
        }
        // A step is 0.01; one value rounded otherwise would be seen at 1e-4.
        assert!(largest < 1e-5, "{largest:e}");
    }
}
