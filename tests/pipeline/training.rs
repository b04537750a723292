//! Settings of `train` through `pipe`: what is refused, what is left, and what does not make it run again.

use crate::project::{Project, entries, read_json};

/// Settings of every kind, on the sample.
fn eventful() -> Project {
    let project = Project::new();
    project.edit(
        "eval_strategy: epoch",
        "eval_strategy: steps\n      eval_steps: 0.25\n      eval_on_start: true\n      metric_for_best_model: f1_macro\n      \
         load_best_model_at_end: true\n      logging_steps: 10\n      lr_scheduler_type: warmup_stable_decay\n      \
         lr_scheduler_kwargs: { num_decay_steps: 20, decay_type: 1-sqrt }\n      warmup_steps: 0.1\n      optim: adamw_8bit\n      \
         class_weights: balanced\n      label_smoothing_factor: 0.05\n      layerwise_lr_decay: 0.95\n      freeze: { patterns: [\"*.pooler.*\"] }",
    );
    project
}

#[test]
fn a_training_leaves_its_state_its_results_and_a_picture() {
    let project = eventful();
    let told = project.run(&["train"]).code(0).stderr;
    assert!(told.contains("best f1_macro"), "{told}");
    let model = project.artifact("train");
    let state = read_json(&model.join("trainer_state.json"));
    let results = read_json(&model.join("all_results.json"));
    assert_eq!(results["eval_f1_macro"], state["best_metric"]);
    assert!(state["log_history"][0]["eval_loss"].is_number() && state["log_history"][0]["step"] == 0);
    assert!(std::fs::read_to_string(model.join("training.svg")).unwrap().starts_with("<svg"));
    assert!(read_json(&model.join("train_results.json"))["train_loss"].is_number());
    let newest = entries(&project.cache().join("runs")).into_iter().max().unwrap();
    assert_eq!(entries(&newest.join("train/tensorboard")).len(), 1);
    let ledger = &read_json(&newest.join("train/train.json"))["ledger"];
    assert!(ledger["padding"].as_f64().is_some_and(|share| share > 0.0 && share < 1.0));
    assert!(ledger["truncated_rows"].is_number());
    assert_eq!(&project.last_run().stage("train")["figures"]["train"]["ledger"], ledger);
}

#[test]
fn what_changes_no_byte_makes_nothing_run_again() {
    let project = Project::finished();
    let more = ["--set", "train.with.gradient_checkpointing=true", "--set", "train.with.save_total_limit=1"];
    let before = project.artifact("train");
    project.run(&[&["train"], more.as_slice()].concat()).code(0).prints(&["3 stages up to date"]);
    project.run(&[&["train", "--force", "train"], more.as_slice()].concat()).code(0);
    assert_eq!(project.last_run().ran(), ["train"]);
    assert_eq!(project.artifact("train"), before, "recomputed layers give another model");
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let project = Project::new();
    for (setting, words) in [
        ("fp16=true", ["`fp16` is of GPUs", "bf16: true"]),
        ("optim=adam", ["not one of the possible values", "optim"]),
        ("lr_scheduler_kwargs={ num_cycles: 2 }", ["the schedule `linear` has no `num_cycles`", "it takes none"]),
        ("early_stopping_patience=0", ["`early_stopping_patience` must be at least 1", "early_stopping_patience"]),
        ("class_weights={ negative: -1 }", ["at least 0", "class_weights"]),
    ] {
        project.run(&["--set", &format!("train.with.{setting}")]).fails(2, &words);
        assert!(project.keys().is_empty(), "a stage ran before the settings were checked");
    }
    project.run(&["train", "--set", "train.with.class_weights={ angry: 2 }"]).fails(2, &["`angry`", "no label of the data", "negative"]);
}
