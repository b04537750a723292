//! Against transformers: logits, loss, every gradient, and ten steps of its Trainer for each optimizer and schedule. The
//! references and the scripts that made them are in `tests/fixtures` and `tests/parity`.
//!
//! Tolerances: logits relative to the largest of them; gradients ‖a−b‖ ≤ 1e-4·‖b‖ + 1e-7·‖all gradients‖, because
//! the gradient of a key's bias is truly zero and has no relative error.

use std::collections::{BTreeMap, BTreeSet};

use pipe_core::config::{OptimizerName, TrainConfig};
use pipe_core::{Batch, Task};
use pipe_model::Backend;
use serde_json::Value;
use tch::{Reduction, Tensor};

use crate::loss::Loss;
use crate::loss_scale::LossScale;
use crate::model::Model;
use crate::optimizer::{Optimizer, Rates};
use crate::schedule::{Plateau, Schedule};
use crate::testing::{alone, batch, check_gradients, check_outputs, classes, fixture, model, norm, read_json, tensors};

fn mean_loss(model: &Model, batch: &Batch) -> (Tensor, Tensor) {
    let logits = model.forward(batch, true).unwrap();
    let loss = logits.cross_entropy_loss::<Tensor>(&Tensor::from_slice(classes(batch)), None, Reduction::Mean, -100, 0.0);
    (logits, loss)
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    let _alone = alone();
    for name in ["tiny-bert-cls", "tiny-bert-relu", "tiny-bert-gelu-new"] {
        let mut model = model(name);
        model.config.set_dropout(0.0);
        let reference = tensors(&fixture(&format!("{name}.reference.safetensors")));
        for prefix in ["batch1", "batch0"] {
            let (logits, loss) = mean_loss(&model, &batch(&reference, prefix));
            check_outputs(&logits, &loss, &reference, prefix, name);
            if prefix == "batch0" {
                loss.backward();
            }
        }
        check_gradients(&model, &reference, name);
    }
}

/// Loss, norm of the gradients and learning rate of a step.
type Step = [f64; 3];

/// Trains tiny-bert-cls on the ten batches of the reference.
fn ten_steps(config: &TrainConfig) -> (Vec<Step>, Model) {
    let reference = tensors(&fixture("adamw.reference.safetensors"));
    let config = config.canonical();
    let mut model = model("tiny-bert-cls");
    model.config.set_dropout(0.0);
    model.options.fp16 = config.fp16;
    let mut scale = config.fp16.then(LossScale::new);
    let mut optimizer = Optimizer::new(&model.parameters, &model.marks, &config, &Rates::new(&config, &model.parameters, BTreeSet::new()));
    let (schedule, mut plateau) = (Schedule::new(&config, 10), Plateau::new(&config));
    let loss = Loss::new(&config, Task::SequenceClassification, &model.config.labels().unwrap(), &[1, 1, 1]).unwrap();
    let mut steps = Vec::new();
    for step in 0..10 {
        let batch = batch(&reference, &format!("step{step}"));
        let rate = schedule.rate(step, plateau.as_ref());
        let (mean, norm) = loop {
            let factor = scale.as_ref().map_or(1.0, LossScale::factor);
            let mean = loss.sum(&model.forward(&batch, true).unwrap(), &batch).unwrap() / loss.items(&batch.labels);
            (&mean * factor).backward();
            let norm = optimizer.step(step, rate, factor).unwrap();
            match &mut scale {
                // Where the trainer leaves the step out.
                Some(scale) if !norm.is_finite() => scale.overflows().unwrap(),
                _ => break (mean, norm),
            }
        };
        steps.push([mean.double_value(&[]), norm, rate]);
        if let Some(plateau) = &mut plateau {
            let (_, evaluated) = tch::no_grad(|| mean_loss(&model, &self::batch(&reference, "step0")));
            plateau.observe(evaluated.double_value(&[]), false, &config.lr_scheduler_kwargs);
        }
    }
    (steps, model)
}

#[track_caller]
fn assert_follows(steps: &[Step], expected: &Value, what: &str) {
    let expected = expected.as_array().unwrap();
    assert_eq!(steps.len(), expected.len());
    for (step, (ours, theirs)) in steps.iter().zip(expected).enumerate() {
        for (name, ours) in ["loss", "grad_norm", "lr"].into_iter().zip(ours) {
            let theirs = theirs[name].as_f64().unwrap();
            assert!((ours - theirs).abs() <= 1e-4 * theirs.abs(), "{what}, step {step}: {name} is {ours}, transformers has {theirs}");
        }
    }
}

#[test]
fn ten_steps_follow_the_trainer_of_transformers() {
    let _alone = alone();
    let cases = read_json(&fixture("../parity/trainer.reference.json"));
    let cases = cases["trainings"].as_array().unwrap();
    assert!(cases.len() >= 15);
    for case in cases {
        // The names and spellings are those of TrainingArguments.
        let config: TrainConfig = serde_json::from_value(case["settings"].clone()).unwrap();
        assert_follows(&ten_steps(&config).0, &case["steps"], &case["settings"].to_string());
    }
}

#[test]
fn ten_steps_end_with_the_weights_of_transformers() {
    let _alone = alone();
    let reference = tensors(&fixture("adamw.reference.safetensors"));
    let config = TrainConfig { learning_rate: 1e-3, weight_decay: 0.01, warmup_steps: 3.0, ..TrainConfig::default() };
    let (steps, model) = ten_steps(&config);
    assert_follows(&steps, &read_json(&fixture("adamw.reference.json"))["steps"], "AdamW");
    for (name, expected) in reference.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("final.")?, tensor))) {
        let error = norm(&(&model.parameters[name] - expected)) / norm(expected);
        assert!(error < 1e-5, "{name} differs by {error:e} after ten steps");
    }
}

#[test]
fn eight_bits_stay_close_to_adamw() {
    let _alone = alone();
    let config = |optim| TrainConfig { learning_rate: 1e-3, weight_decay: 0.01, warmup_steps: 3.0, optim, ..TrainConfig::default() };
    let (exact, rounded) = (ten_steps(&config(OptimizerName::AdamwTorch)).0, ten_steps(&config(OptimizerName::Adamw8bit)).0);
    assert_ne!(exact, rounded, "the fixture has parameters that are large enough for 8 bits");
    for (step, (exact, rounded)) in exact.iter().zip(&rounded).enumerate() {
        assert!((exact[0] - rounded[0]).abs() < 0.02 * exact[0].max(0.5), "step {step}: {} and {}", rounded[0], exact[0]);
    }
}

#[test]
fn noise_on_embeddings_is_bounded_and_of_training_alone() {
    let _alone = alone();
    let reference = tensors(&fixture("tiny-bert-cls.reference.safetensors"));
    let batch = batch(&reference, "batch0");
    let mut model = model("tiny-bert-cls");
    model.config.set_dropout(0.0);
    let plain = model.forward(&batch, true).unwrap();
    model.options.neftune_noise_alpha = 5.0;
    assert_eq!(plain, model.forward(&batch, false).unwrap());
    assert_ne!(plain, model.forward(&batch, true).unwrap());
    let words = "bert.embeddings.word_embeddings";
    let ids = model.inputs(&batch).unwrap().input_ids;
    let embedded = |training| model.backend(training).embedding(words, &ids, None).unwrap();
    let noise = embedded(true).as_ref() - embedded(false).as_ref();
    let (largest, bound) = (noise.abs().max().double_value(&[]), 5.0 / ((batch.length * 48) as f64).sqrt());
    assert!(largest <= bound * 1.001 && largest > 0.95 * bound, "{largest} and {bound}");
}

#[test]
fn half_precision_with_a_loss_scale_stays_close_to_f32() {
    let _alone = alone();
    let config = |fp16| TrainConfig { learning_rate: 1e-3, fp16, ..TrainConfig::default() };
    let (exact, rounded) = (ten_steps(&config(false)).0, ten_steps(&config(true)).0);
    assert_ne!(exact, rounded);
    for (step, (exact, rounded)) in exact.iter().zip(&rounded).enumerate() {
        for at in 0..2 {
            assert!((exact[at] - rounded[at]).abs() < 0.02 * exact[at].max(0.5), "step {step}: {} and {}", rounded[at], exact[at]);
        }
    }
}

#[test]
fn a_gradient_that_overflows_moves_nothing() {
    let _alone = alone();
    let reference = tensors(&fixture("adamw.reference.safetensors"));
    for optim in [OptimizerName::AdamwTorch, OptimizerName::Sgd, OptimizerName::Adafactor] {
        let (model, config) = (model("tiny-bert-cls"), TrainConfig { optim, ..TrainConfig::default() });
        let before: BTreeMap<String, Tensor> = model.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.detach().copy())).collect();
        let mut optimizer = Optimizer::new(&model.parameters, &model.marks, &config, &Rates::default());
        let (_, loss) = mean_loss(&model, &batch(&reference, "step0"));
        (loss * f64::INFINITY).backward();
        assert!(!optimizer.step(0, 1e-3, 1.0).unwrap().is_finite());
        assert!(before.iter().all(|(name, tensor)| *tensor == model.parameters[name]), "{optim:?}");
        // Nor does it stay for the next step.
        let (_, loss) = mean_loss(&model, &batch(&reference, "step0"));
        loss.backward();
        assert!(optimizer.step(0, 1e-3, 1.0).unwrap().is_finite());
    }
}

#[test]
fn bf16_stays_close_to_f32() {
    let _alone = alone();
    let reference = tensors(&fixture("tiny-bert-cls.reference.safetensors"));
    let mut model = model("tiny-bert-cls");
    model.bf16 = true;
    let (logits, loss) = mean_loss(&model, &batch(&reference, "batch0"));
    let expected = &reference["batch0.logits"];
    let error = (&logits - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
    // Eight bits of mantissa, and not bit for bit the f32 result.
    assert!(error < 0.1 && error > 1e-6, "bf16 logits differ by {error:e}");
    loss.backward();
    assert!(model.parameters.values().all(|parameter| parameter.grad().isfinite().all().double_value(&[]) == 1.0));
}
