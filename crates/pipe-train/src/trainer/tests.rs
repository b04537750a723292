//! Trainings of the sample: what they give, however they are cut, stopped and gone on with.

use std::collections::BTreeMap;
use std::path::Path;

use pipe_core::Silent;
use pipe_core::config::{
    ClassWeights, FreezeConfig, IntervalStrategy, OptimizerArgs, OptimizerName, SamplingStrategy, SaveStrategy, SchedulerType, TrainConfig,
};
use tch::Tensor;

use crate::testing::{Interruption, alone, attempt, checkpoints, files, fixture, interrupted, log, norm, read_json, sample_tokens, tensors, trained};

/// A tenth of the sample's rows per step, dropout off.
fn exact() -> TrainConfig {
    TrainConfig { learning_rate: 1e-3, weight_decay: 0.01, num_train_epochs: 2.0, dropout: Some(0.0), logging_steps: 1.0, ..TrainConfig::default() }
}

/// A key's bias shifts all scores of a row alike: its true gradient is zero, and Adam steps on its rounding noise.
fn assert_close(found: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>, what: &str) {
    for (name, expected) in expected.iter().filter(|(name, _)| !name.ends_with("attention.self.key.bias")) {
        let error = norm(&(&found[name] - expected)) / (norm(expected) + 1e-3);
        assert!(error < 1e-4, "{what}: {name} differs by {error:e}");
    }
}

#[test]
fn a_delay_beyond_the_end_is_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let late = TrainConfig { eval_strategy: IntervalStrategy::Epoch, eval_delay: 3.0, ..exact() };
    let error = attempt(&tokens, &folder.path().join("late"), &late, &Silent).unwrap_err();
    assert!(error.message.contains("`eval_delay` is 3, and the training ends before that"), "{error}");
}

#[test]
fn accumulation_equals_the_full_batch() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let weights = ClassWeights::PerLabel([("negative".to_owned(), 2.5), ("positive".to_owned(), 0.5)].into());
    let losses = [
        ("plain", exact()),
        ("grouped", TrainConfig { train_sampling_strategy: SamplingStrategy::GroupByLength, ..exact() }),
        ("weighted", TrainConfig { class_weights: Some(weights), label_smoothing_factor: 0.1, ..exact() }),
        ("focal", TrainConfig { class_weights: Some(ClassWeights::Balanced), focal_gamma: 2.0, ..exact() }),
    ];
    for (name, config) in losses {
        let run = |per_device_train_batch_size, gradient_accumulation_steps| {
            let config = TrainConfig { per_device_train_batch_size, gradient_accumulation_steps, ..config.clone() };
            trained(&tokens, &folder.path().join(format!("{name}-{per_device_train_batch_size}")), &config)
        };
        let (full_losses, full) = run(16, 1);
        // The last effective batch of an epoch is smaller, and its micro-batches are uneven.
        for (batch, accumulate) in [(4, 4), (8, 2)] {
            let (losses, weights) = run(batch, accumulate);
            assert_eq!(losses.len(), full_losses.len());
            for (step, (ours, theirs)) in losses.iter().zip(&full_losses).enumerate() {
                assert!((ours - theirs).abs() < 1e-5, "{name} {batch} × {accumulate}, step {step}: loss {ours} and {theirs}");
            }
            assert_close(&weights, &full, name);
            // Before the first update the gradients are of the same weights.
            let norm = |batch: usize| log(&folder.path().join(format!("{name}-{batch}")))[0]["grad_norm"].as_f64().unwrap();
            assert!((norm(batch) / norm(16) - 1.0).abs() < 1e-5, "{name} {batch} × {accumulate}: ratio {}", norm(batch) / norm(16));
        }
    }
}

#[test]
fn dropout_changes_training_and_the_same_seed_repeats_it() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let config = |seed, dropout| TrainConfig { seed, dropout, max_steps: 4, logging_steps: 1.0, learning_rate: 1e-3, ..TrainConfig::default() };
    let noisy = TrainConfig { neftune_noise_alpha: Some(5.0), ..config(1, Some(0.0)) };
    let reordered = TrainConfig { data_seed: Some(9), ..config(1, Some(0.0)) };
    let mut runs = Vec::new();
    for (at, config) in [config(1, None), config(1, None), config(1, Some(0.0)), config(2, None), noisy.clone(), noisy, reordered].iter().enumerate()
    {
        runs.push(trained(&tokens, &folder.path().join(at.to_string()), config).0);
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[4], runs[5]);
    let others = [0, 2, 3, 4, 6];
    for (at, &one) in others.iter().enumerate() {
        assert!(others[at + 1..].iter().all(|&other| runs[one] != runs[other]));
    }
}

#[test]
fn recomputed_layers_give_the_bytes_of_kept_ones() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    for (name, config) in [
        ("dropout", TrainConfig::default()),
        ("bf16", TrainConfig { bf16: true, neftune_noise_alpha: Some(5.0), ..TrainConfig::default() }),
        ("frozen", TrainConfig { freeze: FreezeConfig { embeddings: true, layers: 1, ..FreezeConfig::default() }, ..TrainConfig::default() }),
    ] {
        let config = TrainConfig { max_steps: 4, logging_steps: 1.0, learning_rate: 1e-3, gradient_accumulation_steps: 2, ..config };
        let run = |gradient_checkpointing| {
            let folder = folder.path().join(format!("{name}-{gradient_checkpointing}"));
            attempt(&tokens, &folder, &TrainConfig { gradient_checkpointing, ..config.clone() }, &Silent).unwrap();
            files(&folder)
        };
        assert!(run(true) == run(false), "{name}");
    }
}

/// Of every kind of state: moments, a plateau, windows of the log that a checkpoint falls into, the best model.
fn eventful(optim: OptimizerName) -> TrainConfig {
    let optim_args =
        if optim == OptimizerName::Sgd { OptimizerArgs { momentum: Some(0.9), ..OptimizerArgs::default() } } else { OptimizerArgs::default() };
    TrainConfig {
        optim,
        optim_args,
        learning_rate: 1e-3,
        max_steps: 12,
        per_device_train_batch_size: 4,
        gradient_accumulation_steps: 2,
        train_sampling_strategy: SamplingStrategy::GroupByLength,
        logging_steps: 5.0,
        lr_scheduler_type: SchedulerType::ReduceLrOnPlateau,
        lr_scheduler_kwargs: pipe_core::config::SchedulerArgs { patience: Some(0), threshold: Some(0.2), ..Default::default() },
        eval_strategy: IntervalStrategy::Steps,
        eval_steps: Some(3.0),
        save_strategy: Some(SaveStrategy::Steps),
        save_steps: Some(2.0),
        load_best_model_at_end: true,
        metric_for_best_model: Some("f1_macro".into()),
        ..TrainConfig::default()
    }
}

#[test]
fn a_killed_or_stopped_training_goes_on_to_the_same_bytes_with_every_optimizer() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    use OptimizerName::{Adafactor, Adamw8bit, AdamwTorch, Lion, Sgd};
    for optim in [AdamwTorch, Adamw8bit, Adafactor, Sgd, Lion] {
        let config = eventful(optim);
        let whole = folder.path().join(format!("{optim:?}"));
        attempt(&tokens, &whole, &config, &Silent).unwrap();
        let expected = files(&whole);
        // Step 6 is evaluated, and stopped in the middle of that.
        let interruptions = [
            Interruption::KilledAt(1),
            Interruption::KilledAt(5),
            Interruption::stopped_at(6),
            Interruption::stopped_at(7),
            Interruption::KilledAt(11),
        ];
        for (at, interruption) in interruptions.iter().enumerate() {
            let again = folder.path().join(format!("{optim:?}-{at}"));
            interrupted(&tokens, &again, &config, interruption);
            let saved = checkpoints(&again).into_keys().last();
            assert_eq!(saved, [None, Some(4), Some(6), Some(7), Some(10)][at], "{optim:?}");
            let summary = attempt(&tokens, &again, &config, &Silent).unwrap();
            assert_eq!(summary.figures["train"]["resumed_at_step"], saved.unwrap_or(0));
            assert!(files(&again) == expected, "{optim:?}, interruption {at}");
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let config = TrainConfig { save_total_limit: Some(3), load_best_model_at_end: false, ..eventful(OptimizerName::AdamwTorch) };
    let whole = folder.path().join("whole");
    attempt(&tokens, &whole, &config, &Silent).unwrap();
    let expected = files(&whole);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("model cut short", |folder| cut(&folder.join("model.safetensors"))),
        ("optimizer flipped", |folder| flip(&folder.join("optimizer.safetensors"))),
        ("state cut short", |folder| cut(&folder.join("state.json"))),
        ("state flipped", |folder| flip(&folder.join("state.json"))),
        ("model missing", |folder| std::fs::remove_file(folder.join("model.safetensors")).unwrap()),
        ("all missing", |folder| std::fs::read_dir(folder).unwrap().for_each(|file| std::fs::remove_file(file.unwrap().path()).unwrap())),
    ];
    for (what, damage) in damages {
        let again = folder.path().join(what);
        interrupted(&tokens, &again, &config, &Interruption::KilledAt(9));
        let saved = checkpoints(&again);
        assert!(saved.keys().copied().eq([4, 6, 8]), "{what}: {saved:?}");
        damage(&saved[&8]);
        let summary = attempt(&tokens, &again, &config, &Silent).unwrap();
        assert_eq!(summary.figures["train"]["resumed_at_step"], 6, "{what}");
        assert!(files(&again) == expected, "{what}");
    }
}

fn cut(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn neither_the_best_nor_the_last_checkpoint_is_deleted() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    // A rate this high makes it worse after the first evaluation, sooner or later.
    let config = TrainConfig {
        save_total_limit: Some(1),
        eval_steps: Some(1.0),
        save_steps: Some(1.0),
        learning_rate: 0.05,
        ..eventful(OptimizerName::AdamwTorch)
    };
    attempt(&tokens, &folder.path().join("run"), &config, &Silent).unwrap();
    let run = folder.path().join("run");
    let best = read_json(&run.join("out/trainer_state.json"))["best_global_step"].as_u64().unwrap();
    let kept: Vec<u64> = checkpoints(&run).into_keys().collect();
    assert!(best < 12, "the last model is the best");
    assert_eq!(kept, [best, 12]);
    // What is kept is the best model.
    assert_eq!(std::fs::read(run.join("out/model.safetensors")).unwrap(), std::fs::read(checkpoints(&run)[&best].join("model.safetensors")).unwrap());
}

#[test]
fn what_is_frozen_stays_and_rates_differ_by_layer() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let before = tensors(&fixture("tiny-bert/model.safetensors"));
    let moved = |weights: &BTreeMap<String, Tensor>, name: &str| norm(&(&weights[&format!("bert.{name}")] - &before[name]));
    let freeze = FreezeConfig { embeddings: true, layers: 1, patterns: vec!["*.pooler.*".into()] };
    let config = TrainConfig { freeze, max_steps: 3, learning_rate: 1e-3, ..TrainConfig::default() };
    let (_, weights) = trained(&tokens, &folder.path().join("frozen"), &config);
    for name in ["embeddings.word_embeddings.weight", "embeddings.LayerNorm.bias", "encoder.layer.0.output.dense.weight", "pooler.dense.weight"] {
        assert_eq!(moved(&weights, name), 0.0, "{name}");
    }
    assert!(moved(&weights, "encoder.layer.1.output.dense.weight") > 0.0);
    // Adam's first step moves every weight by its rate.
    let config = TrainConfig { layerwise_lr_decay: Some(0.5), max_steps: 1, learning_rate: 1e-3, ..TrainConfig::default() };
    let (_, weights) = trained(&tokens, &folder.path().join("layerwise"), &config);
    let step = |name: &str| f64::try_from((&weights[&format!("bert.{name}")] - &before[name]).abs().max()).unwrap();
    for (name, rate) in
        [("pooler.dense.weight", 1e-3), ("encoder.layer.1.output.dense.weight", 5e-4), ("encoder.layer.0.output.dense.weight", 2.5e-4)]
    {
        assert!((step(name) - rate).abs() < 0.05 * rate, "{name} moved by {}", step(name));
    }
}

#[test]
fn intervals_log_and_evaluate_as_asked() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let config = TrainConfig {
        max_steps: 8,
        logging_steps: 0.5,
        logging_first_step: true,
        eval_strategy: IntervalStrategy::Steps,
        eval_steps: Some(2.0),
        eval_on_start: true,
        eval_delay: 5.0,
        ..TrainConfig::default()
    };
    let run = folder.path().join("run");
    let summary = attempt(&tokens, &run, &config, &Silent).unwrap();
    let steps = |name: &str| log(&run).iter().filter(|row| row.get(name).is_some()).map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(steps("loss"), [1, 4, 8]);
    assert_eq!(steps("eval_f1_macro"), [0, 6, 8]);
    assert_eq!(steps("train_loss"), [8]);
    // Not a time in what is beside the model; all of them in the run's record.
    let state = String::from_utf8(std::fs::read(run.join("out/trainer_state.json")).unwrap()).unwrap();
    assert!(!state.contains("runtime") && !state.contains("per_second"));
    let all = read_json(&run.join("out/all_results.json"));
    for name in ["epoch", "total_flos", "train_loss", "train_samples", "eval_loss", "eval_accuracy"] {
        assert!(all[name].is_number(), "{name}");
    }
    assert!(std::fs::read_to_string(run.join("out/training.svg")).unwrap().contains("class=\"eval\""));
    let record = read_json(&run.join("record/train.json"));
    assert_eq!(record["evaluations"].as_array().unwrap().len(), 3);
    assert!(record["train_runtime"].is_number() && record["train_steps_per_second"].is_number());
    let ledger = &summary.figures["train"]["ledger"];
    let (tokens, slots) = (ledger["tokens"].as_u64().unwrap(), ledger["slots"].as_u64().unwrap());
    assert!(tokens < slots && ledger["rows"] == 64 && ledger["truncated_rows"].is_number());
    assert!((ledger["padding"].as_f64().unwrap() - (1.0 - tokens as f64 / slots as f64)).abs() < 1e-12);
    assert!(std::fs::read_dir(run.join("record/tensorboard")).unwrap().count() == 1);
}

#[test]
fn what_cannot_be_is_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let unknown = ClassWeights::PerLabel([("angry".to_owned(), 2.0)].into());
    let frozen =
        |patterns: &[&str]| FreezeConfig { patterns: patterns.iter().map(|&pattern| pattern.to_owned()).collect(), ..FreezeConfig::default() };
    for (config, message) in [
        (TrainConfig { fp16: true, ..TrainConfig::default() }, "needs a GPU"),
        (TrainConfig { tf32: true, ..TrainConfig::default() }, "needs a GPU"),
        (TrainConfig { class_weights: Some(unknown), ..TrainConfig::default() }, "no label of the data"),
        (TrainConfig { freeze: frozen(&["roberta.*"]), ..TrainConfig::default() }, "no parameter of this model"),
        (TrainConfig { freeze: frozen(&["bert.*", "classifier.*"]), ..TrainConfig::default() }, "every weight"),
        (TrainConfig { freeze: FreezeConfig { layers: 9, ..FreezeConfig::default() }, ..TrainConfig::default() }, "the model has 2 layers"),
        (TrainConfig { dataloader_drop_last: true, gradient_accumulation_steps: 5000, ..TrainConfig::default() }, "leaves nothing"),
        (TrainConfig { learning_rate: 1e30, max_steps: 5, ..TrainConfig::default() }, "is not a number at step"),
    ] {
        let error = attempt(&tokens, &folder.path().join("run"), &config, &Silent).unwrap_err();
        assert!(error.message.contains(message), "{}", error.message);
        assert!(error.hint.is_some() || message.contains("layers") || message.contains("every weight"), "{}", error.message);
    }
}

#[test]
fn a_label_that_the_data_do_not_name_is_refused_with_its_row() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let path = tokens.join("pipe.json");
    let mut provenance = read_json(&path);
    provenance["labels"] = serde_json::json!(["negative", "neutral"]);
    std::fs::write(&path, provenance.to_string()).unwrap();
    let error = attempt(&tokens, &folder.path().join("run"), &TrainConfig::default(), &Silent).unwrap_err();
    assert!(error.message.starts_with("row ") && error.message.ends_with("has the label id 2, the model knows 0 to 1"), "{}", error.message);
}
