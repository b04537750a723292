//! What a run does when nobody watches: it refuses input that is not all there, stops in time, tells who is to be told, keeps
//! what was published before, and one failure does not take the rest with it.

use std::time::Duration;

use serde_json::Value;

use crate::interrupted::{Background, long_training, undisturbed, wait_for};
use crate::project::{Outcome, Project, command, entries, has_failpoints, pipe, read_json};

/// A pipeline of two independent halves after one ingest.
const TWO_MODELS: &str = r#"version: 1
name: two
stages:
  ingest:
    uses: ingest
    with:
      source: { paths: [tweets.csv], format: csv, encoding: mac-roman }
      columns: { text: text, label: sentiment }
      split: { train: 0.7, validation: 0.15, test: 0.15, seed: 42 }
  tokenize: { uses: tokenize, from: ingest, with: { tokenizer: model, max_length: 48 } }
  train:
    uses: train
    from: tokenize
    matrix: { lr: [1.0e-3, 3.0e-3] }
    with: { model: model, learning_rate: "${matrix.lr}", num_train_epochs: 3, eval_strategy: epoch, metric_for_best_model: accuracy, device: cpu, torch_threads: 1 }
  evaluate: { uses: evaluate, from: [train, tokenize.test], with: { device: cpu, torch_threads: 1 } }
  export: { uses: export, from: ["train[best]", tokenize.validation], publish: out/model }
"#;

#[test]
fn a_matrix_is_run_side_by_side_and_its_best_goes_on() {
    let project = Project::new();
    project.write("pipeline.yaml", TWO_MODELS);
    project.run(&["--cpus", "2"]).code(0);
    let run = project.last_run();
    let time = |stage: &str| {
        let record = run.stage(stage);
        let start = record["started_seconds"].as_f64().unwrap();
        (start, start + record["seconds"].as_f64().unwrap())
    };
    let (one, two) = (time("train[lr=0.001]"), time("train[lr=0.003]"));
    assert!(one.0 < two.1 && two.0 < one.1, "both at once: {one:?} {two:?}");
    let accuracy = |stage: &str| {
        let state = read_json(&project.cache().join("artifacts").join(run.artifact(stage)).join("trainer_state.json"));
        let log = state["log_history"].as_array().unwrap().clone();
        log.iter().rev().find_map(|row| row["eval_accuracy"].as_f64()).unwrap()
    };
    let best = if accuracy("train[lr=0.003]") > accuracy("train[lr=0.001]") { "train[lr=0.003]" } else { "train[lr=0.001]" };
    assert_eq!(run.stage("export")["inputs"][0]["stage"], best);
    assert_eq!(run.stage("evaluate[lr=0.003]")["inputs"][0]["stage"], "train[lr=0.003]");

    // One core at a time gives the same, and one cell can be asked for.
    let alone = Project::new();
    alone.write("pipeline.yaml", TWO_MODELS);
    alone.run(&["--cpus", "1", "train[lr=0.003]"]).code(0);
    assert_eq!(alone.last_run().ran(), ["ingest", "tokenize", "train[lr=0.003]"]);
    alone.run(&["--cpus", "1"]).code(0);
    let times: Vec<(f64, f64)> = ["evaluate[lr=0.001]", "evaluate[lr=0.003]"]
        .map(|stage| {
            let record = alone.last_run().stage(stage).clone();
            (record["started_seconds"].as_f64().unwrap(), record["seconds"].as_f64().unwrap())
        })
        .to_vec();
    assert!(times.iter().all(|(_, seconds)| *seconds > 0.0));
    assert_eq!(alone.last_run().artifacts(), run.artifacts());
    project.pipe(&["path", "pipeline.yaml", "train[lr=1e-3]"]).code(0);
    project.pipe(&["path", "pipeline.yaml", "train"]).fails(2, &["`train` stands for 2 stages", "train[lr=0.001]"]);
    project.edit("\"train[best]\"", "\"train[lr=0.002]\"");
    project.pipe(&["validate", "pipeline.yaml"]).fails(2, &["the axis `lr` of `train` has no value `0.002`", "possible here: 0.001, 0.003"]);
}

#[test]
fn a_failed_stage_keeps_the_results_of_the_others() {
    let project = Project::new();
    project.write("pipeline.yaml", TWO_MODELS.replace("[1.0e-3, 3.0e-3]", "[1.0e-3, 1.0e30]"));
    let failed = project.run(&["--keep-going", "--cpus", "1"]);
    assert!(failed.stderr.contains("blocked: it needs `train[lr=1e30]`, which failed"), "{}", failed.stderr);
    failed.fails(10, &["stage `train[lr=1e30]`", "is not a number", "lower `learning_rate`"]);
    let statuses = project.last_run().statuses();
    // The best of what is left goes on.
    for status in ["train[lr=0.001] ran", "train[lr=1e30] failed", "evaluate[lr=0.001] ran", "evaluate[lr=1e30] blocked", "export ran"] {
        assert!(statuses.contains(&status.to_owned()), "{status} is not in {statuses:?}");
    }
    // Without it, nothing new begins after the failure.
    let project = Project::new();
    project.write("pipeline.yaml", TWO_MODELS.replace("[1.0e-3, 3.0e-3]", "[1.0e30, 1.0e-3]"));
    project.run(&["--cpus", "1"]).code(10);
    let statuses = project.last_run().statuses();
    assert!(statuses.contains(&"export blocked".to_owned()) && statuses.contains(&"evaluate[lr=0.001] blocked".to_owned()), "{statuses:?}");
}

#[test]
fn a_run_stops_at_its_deadline_and_the_next_goes_on() {
    // Longer than the deadline on any machine.
    let longer = || {
        let project = long_training();
        project.edit("num_train_epochs: 12", "num_train_epochs: 120");
        project
    };
    let project = longer();
    // A busy machine may not get to the training in time; what it did until then is kept, so the next try gets further.
    for deadline in ["1500ms", "3s", "6s", "12s"] {
        project.run(&["train", "--deadline", deadline]).fails(75, &["stopped at the deadline of ", "run the same command to go on"]);
        let scratch = entries(&project.cache().join("work")).into_iter().flat_map(|key| entries(&key.join("scratch")));
        if scratch.into_iter().any(|path| path.to_string_lossy().contains("checkpoint-")) {
            break;
        }
    }
    let record = &project.last_run().0;
    assert_eq!((record["exit_code"].as_u64(), record["outcome"].as_str()), (Some(75), Some("stopped")));
    project.run(&["train"]).code(0);
    assert!(project.last_run().resumed_at() > 0);
    let undisturbed = longer();
    undisturbed.run(&["train"]).code(0);
    assert_eq!(project.last_run().artifact("train"), undisturbed.last_run().artifact("train"));
    // A deadline in the file counts too, and one that has passed begins nothing.
    project.edit("name: sample", "name: sample\nrun: { deadline: 1ms }");
    project.run(&["--force", "ingest"]).code(75);
}

/// A program that keeps what it is told, and the documents it was given.
fn with_notify(project: &Project, on: &str) {
    let hook = "run:\n  notify: { command: [sh, -c, 'cat > told-$0.json', \"${run.outcome}\"], on: ON }".replace("ON", on);
    project.edit("name: sample", &format!("name: sample\n{hook}"));
}

fn told(project: &Project, outcome: &str) -> Option<Value> {
    let path = project.path(&format!("told-{outcome}.json"));
    let document = path.exists().then(|| read_json(&path));
    let _ = std::fs::remove_file(path);
    document
}

#[test]
fn whoever_is_to_be_told_gets_the_record_of_the_run() {
    let project = Project::new();
    with_notify(&project, "[success, unchanged, failure, skipped]");
    project.run(&["tokenize"]).code(0);
    let document = told(&project, "success").expect("told of success");
    assert_eq!(document, project.last_run().0, "the same document as run.json");
    assert_eq!((document["exit_code"].as_u64(), document["stages"][0]["status"].as_str()), (Some(0), Some("ran")));
    project.run(&["tokenize"]).code(0);
    assert_eq!(told(&project, "unchanged").unwrap()["exit_code"], 0);
    std::fs::rename(project.path("tweets.csv"), project.path("gone.csv")).unwrap();
    project.run(&["tokenize"]).code(12);
    let document = told(&project, "failure").expect("told of a failure");
    assert_eq!((&document["exit_code"], &document["error"]["class"]), (&12.into(), &"input".into()));
    std::fs::rename(project.path("gone.csv"), project.path("tweets.csv")).unwrap();
    assert!(told(&project, "success").is_none());
    // A program that fails changes nothing about the run.
    project.edit("command: [sh, -c, 'cat > told-$0.json', \"${run.outcome}\"]", "command: [no-such-program]");
    let outcome = project.run(&["tokenize"]).code(0);
    assert!(outcome.stderr.contains("run.notify failed: cannot start no-such-program"), "{}", outcome.stderr);
}

#[test]
fn input_that_is_still_arriving_is_refused() {
    let project = Project::new();
    project.edit("encoding: mac-roman }", "encoding: mac-roman, settle: 10m, min_files: 1 }");
    project.run(&[]).fails(12, &["tweets.csv was written to", "`settle` asks for 10m of rest", "run again later"]);
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().append(true).open(project.path("tweets.csv")).unwrap().set_modified(hour_ago).unwrap();
    project.run(&["ingest"]).code(0);
    project.edit("min_files: 1", "min_files: 2");
    // What is there was read before: it is still the same, and all there was.
    project.run(&["ingest"]).code(0);
    project.run(&["ingest", "--force", "ingest"]).fails(12, &["1 source files are there, `min_files` asks for 2"]);
}

#[test]
fn drift_is_told_or_ends_the_run() {
    let project = Project::new();
    let rows = |count: usize, more: &str| {
        let lines = (0..count).map(|id| format!("{},the museum number {id}{more}\n", ["good", "bad"][id % 2]));
        format!("sentiment,text{}\n", if more.is_empty() { "" } else { ",source" }) + &lines.collect::<String>()
    };
    project.write("tweets.csv", rows(200, ""));
    project.run(&["ingest"]).code(0);
    project.write("tweets.csv", rows(60, ""));
    let outcome = project.run(&["ingest"]).code(0);
    assert!(outcome.stderr.contains("60 rows, the last good run had 200"), "{}", outcome.stderr);
    // That was accepted, so it is what the next is held against.
    project.edit("dedup: exact", "dedup: exact\n      drift: { max_row_change: 0.2, action: gate }");
    project.write("tweets.csv", rows(80, ""));
    for _ in 0..2 {
        project.run(&["tokenize"]).fails(11, &["stage `ingest`", "80 rows, the last good run had 60", "drift.action=warn"]);
        assert_eq!(project.last_run().statuses()[1], "tokenize blocked");
    }
    project.run(&["tokenize", "--set", "ingest.with.drift.action=warn"]).code(0);
    project.run(&["tokenize"]).code(0);
    project.write("tweets.csv", rows(80, ",museum"));
    project.run(&["tokenize"]).fails(11, &["columns new since the last good run: `source`"]);
}

#[test]
fn what_was_published_before_comes_back() {
    let project = Project::finished();
    let shown = || read_json(&project.path("out/model/manifest.json"))["content"].as_str().unwrap().to_owned();
    let first = shown();
    project.pipe(&["rollback", "pipeline.yaml"]).fails(12, &["there is no previous output beside", "nothing was changed"]);
    project.run(&["--set", "train.with.num_train_epochs=1"]).code(0);
    let second = shown();
    assert_ne!(first, second);
    project.pipe(&["rollback", "pipeline.yaml"]).code(0).prints(&["out/model", "out/predictions", "rolled back"]);
    assert_eq!(shown(), first);
    // A run that makes the same again does not bring back what was rolled back; another output is published.
    project.run(&["--set", "train.with.num_train_epochs=1"]).code(0);
    assert_eq!(shown(), first);
    project.run(&["--set", "train.with.num_train_epochs=2"]).code(0);
    assert!(shown() != first && shown() != second);
    // A day's own folder.
    project.edit("publish: out/predictions", "publish: \"out/${run.date}/predictions\"");
    project.run(&[]).code(0);
    let days: Vec<_> =
        entries(&project.path("out")).into_iter().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("20")).collect();
    assert!(days.len() == 1 && days[0].join("predictions/predictions.parquet").is_file(), "{days:?}");
}

#[test]
fn the_overlap_rule_of_the_file_holds_for_every_run() {
    let project = long_training();
    project.edit("name: sample", "name: sample\nrun: { overlap: skip }");
    let mut first = Background::start(&project, &[]);
    first.wait_for_checkpoint();
    project.run(&[]).fails(20, &["another run of `sample` is at work: skipped"]);
    project.run(&["--overlap", "fail"]).fails(10, &["another run of `sample` is at work", "run ", "since 20"]);
    // Commands that only look do not wait.
    project.pipe(&["status", "pipeline.yaml"]).code(0).prints(&["train       stale"]);
    project.pipe(&["explain", "pipeline.yaml", "train"]).code(0).prints(&["train: stale"]);
    project.pipe(&["ls", "--file", "pipeline.yaml"]).code(0).prints(&["running", "skipped (20)", "failed (10)"]);
    project.pipe(&["logs", "latest"]).code(0).prints(&["\"stage\":\"train\""]);
    // Nor does sweeping take away what the run uses.
    project.pipe(&["gc", "--older-than", "0s", "--keep-runs", "0"]).code(0);
    rustix::process::kill_process(first.pid(), rustix::process::Signal::TERM).unwrap();
    first.end().code(143);
    wait_for("the lock to be free", || (project.run(&["train"]).succeeded()).then_some(()));
    assert_eq!(project.last_run().artifact("train"), undisturbed());
}

#[test]
fn a_second_interrupt_ends_at_once_and_breaks_nothing() {
    let project = long_training();
    let mut run = Background::start(&project, &[]);
    run.wait_for_checkpoint();
    rustix::process::kill_process(run.pid(), rustix::process::Signal::INT).unwrap();
    rustix::process::kill_process(run.pid(), rustix::process::Signal::INT).unwrap();
    run.end().code(130);
    wait_for("the worker to end", || project.run(&["train"]).succeeded().then_some(()));
    assert_eq!(project.last_run().artifact("train"), undisturbed());
}

#[test]
fn a_run_that_cannot_fit_on_the_disk_begins_nothing() {
    let project = Project::finished();
    // As if the last run had written more than any disk holds.
    let artifact = project.artifact("tokenize");
    let manifest = std::fs::read_to_string(artifact.join("manifest.json")).unwrap();
    let size = read_json(&artifact.join("manifest.json"))["files"][0]["size"].to_string();
    std::fs::write(artifact.join("manifest.json"), manifest.replacen(&format!("\"size\": {size}"), "\"size\": 9000000000000000", 1)).unwrap();
    let before = project.keys();
    project.run(&["--set", "ingest.with.split.seed=7"]).fails(10, &["not enough space", "this run needs about 9000.0 TB", "pipe gc"]);
    assert_eq!(project.keys(), before);
}

#[test]
fn a_fault_of_pipe_itself_is_told_as_one() {
    if !has_failpoints() {
        return;
    }
    let project = Project::new();
    let outcome = Outcome::of(command(pipe(), &project.root).args(project.run_arguments(&[])).env("PIPE_FAILPOINT", "commit.synced=panic"));
    outcome.fails(1, &["stage `ingest`: pipe met a fault of its own"]);
    assert_eq!(project.last_run().0["exit_code"], 1);
    assert!(project.keys().is_empty());
    project.run(&["ingest"]).code(0);
    // While publishing, too: the run is recorded, and what was made is kept.
    let outcome = Outcome::of(command(pipe(), &project.root).args(project.run_arguments(&[])).env("PIPE_FAILPOINT", "publish.copied=panic"));
    outcome.fails(1, &["stage `export`: pipe met a fault of its own while it published"]);
    assert_eq!(project.last_run().0["outcome"], "failure");
    project.run(&[]).code(0);
    assert!(project.path("out/model/model.onnx").is_file());
}

#[test]
fn a_run_that_was_told_to_ignore_a_closed_terminal_does() {
    let project = long_training();
    let mut run = Background::start_with(&project, &["train"], "trap '' HUP");
    run.wait_for_checkpoint();
    rustix::process::kill_process(run.pid(), rustix::process::Signal::HUP).unwrap();
    run.end().code(0);
    let project = long_training();
    let mut run = Background::start(&project, &["train"]);
    run.wait_for_checkpoint();
    rustix::process::kill_process(run.pid(), rustix::process::Signal::HUP).unwrap();
    run.end().fails(143, &["SIGHUP"]);
}

#[test]
fn every_failure_is_told() {
    let project = Project::new();
    let text = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    let other = "  other: { uses: ingest, with: { source: { paths: [tweets.csv], encoding: mac-roman }, columns: { text: txt } } }\n";
    project.write("pipeline.yaml", text.replace("paths: [tweets.csv], format", "paths: [none.csv], format") + other);
    let outcome = project.run(&["--keep-going"]);
    for words in ["no file matches `none.csv`", "has no column `txt`"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    outcome.fails(12, &["stage `ingest`", "`other` failed too"]);
}

#[test]
fn what_left_the_file_is_swept_away() {
    let project = Project::new();
    project.write("pipeline.yaml", TWO_MODELS);
    project.run(&[]).code(0);
    let dropped = project.last_run().artifact("train[lr=0.001]");
    project.edit("[1.0e-3, 3.0e-3]", "[3.0e-3]");
    project.run(&[]).code(0);
    project.pipe(&["gc", "--file", "pipeline.yaml", "--older-than", "0s", "--keep-runs", "1"]).code(0);
    assert!(!project.cache().join("artifacts").join(dropped).exists());
    project.run(&[]).code(0).prints(&["5 stages up to date"]);
}

/// The sample's pipeline with an evaluation of the export, gated, and listed last.
fn with_gated_export(project: &Project, gate: &str) {
    let text = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    let check =
        format!("  check: {{ uses: evaluate, from: [export, tokenize.test], with: {{ torch_threads: 1, gate: {{ accuracy: \"{gate}\" }} }} }}\n");
    project.write("pipeline.yaml", text + &check);
}

#[test]
fn a_gate_holds_back_what_reads_the_model_and_what_is_published_of_it() {
    let project = Project::new();
    with_gated_export(&project, ">= 0.9999");
    // Wherever it stands in the file, and also where only the published stage is asked for.
    for arguments in [&[][..], &["export"], &["predict"]] {
        let outcome = project.run(arguments);
        assert!(outcome.stderr.contains("export: not published: the gate of `check` was not met"), "{}", outcome.stderr);
        outcome.fails(11, &["stage `check`", "accuracy is 0.", "nothing that reads this model was run or published"]);
        assert!(!project.path("out").exists(), "published past a gate");
    }
    assert!(project.last_run().statuses().contains(&"predict blocked".to_owned()));
    // Nor by running a stage alone, and looking says so too.
    project.run(&["--only", "predict"]).fails(11, &["stage `check`", "the gate is >= 0.9999"]);
    let outcome = project.run(&["--only", "export"]).code(0);
    assert!(outcome.stderr.contains("export: not published: --only runs nothing else, and the gate of `check` comes first"), "{}", outcome.stderr);
    assert!(!project.path("out").exists(), "published past a gate");
    project.run(&["--dry-run"]).fails(11, &["stage `check`"]);
    project.pipe(&["status", "pipeline.yaml"]).code(0).prints(&["gate not met: accuracy is 0."]);
    project.edit(">= 0.9999", ">= 0.1");
    project.run(&["predict"]).code(0);
    assert!(project.path("out/model/model.onnx").is_file() && project.path("out/predictions/predictions.parquet").is_file());
}

#[test]
fn the_best_is_chosen_among_those_whose_gates_were_met() {
    let project = Project::new();
    let gated =
        TWO_MODELS.replace("with: { device: cpu, torch_threads: 1 } }", "with: { device: cpu, torch_threads: 1, gate: { accuracy: \">= 0.5\" } } }");
    project.write("pipeline.yaml", gated.replace("[1.0e-3, 3.0e-3]", "[1.0e-9, 3.0e-3]").replace("num_train_epochs: 3", "num_train_epochs: 6"));
    let outcome = project.run(&["--keep-going"]);
    outcome.fails(11, &["stage `evaluate[lr=1e-9]`", "the gate is >= 0.5"]);
    let run = project.last_run();
    assert_eq!(run.stage("export")["inputs"][0]["stage"], "train[lr=0.003]");
    assert!(project.path("out/model/model.onnx").is_file(), "the best one's gate was met");
    // The best itself was judged and found wanting: a worse one, judged by nobody, is no way out.
    let project = Project::new();
    let of_best = TWO_MODELS
        .replace("from: [train, tokenize.test], with: {", "from: [\"train[best]\", tokenize.test], with: { gate: { accuracy: \">= 0.9999\" },");
    project.write("pipeline.yaml", of_best);
    project.run(&["--keep-going"]).fails(11, &["stage `evaluate`"]);
    assert!(project.last_run().statuses().contains(&"export blocked".to_owned()) && !project.path("out").exists());
}

#[test]
fn a_failure_is_no_less_one_because_the_time_ran_out_too() {
    let project = long_training();
    let text = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    project.write("pipeline.yaml", text + "  other: { uses: ingest, with: { source: { paths: [none.csv] } } }\n");
    let run = Background::start(&project, &["--deadline", "4s"]);
    let outcome = run.end();
    assert!(outcome.stderr.contains("other: no file matches `none.csv`") || outcome.stderr.contains("stage `other`"), "{}", outcome.stderr);
    outcome.fails(12, &["stage `other`", "no file matches `none.csv`"]);
    assert_eq!(project.last_run().0["outcome"], "failure");
}

#[test]
fn a_dry_run_neither_waits_nor_is_waited_for() {
    let project = long_training();
    let mut run = Background::start(&project, &[]);
    run.wait_for_checkpoint();
    let outcome = project.run(&["--dry-run"]).code(0);
    assert!(outcome.stderr.contains("train would run: never run before"), "{}", outcome.stderr);
    rustix::process::kill_process(run.pid(), rustix::process::Signal::TERM).unwrap();
    run.end().code(143);
}

#[test]
fn a_rollback_survives_a_publishing_that_was_killed() {
    if !has_failpoints() {
        return;
    }
    let project = Project::finished();
    project.run(&[]).code(0);
    let shown = || read_json(&project.path("out/model/manifest.json"))["content"].as_str().unwrap().to_owned();
    let first = shown();
    project.run(&["--set", "train.with.num_train_epochs=1"]).code(0);
    let second = shown();
    let mut run = command(pipe(), &project.root);
    run.args(project.run_arguments(&["--set", "train.with.num_train_epochs=2"])).env("PIPE_FAILPOINT", "publish.copied=kill");
    assert!(!run.output().unwrap().status.success());
    assert_eq!(shown(), second, "the copy was not swapped in");
    project.pipe(&["rollback", "pipeline.yaml", "export"]).code(0);
    assert_eq!(shown(), first, "not to the copy that was never shown");
    // What was rolled back is held back, until somebody removes the folder.
    let outcome = project.run(&["export", "--set", "train.with.num_train_epochs=1"]).code(0);
    assert!(outcome.stderr.contains("out/model stays as the rollback left it"), "{}", outcome.stderr);
    assert!(project.last_run().stage("export")["published"].is_null());
    std::fs::remove_dir_all(project.path("out/model")).unwrap();
    project.run(&["export", "--set", "train.with.num_train_epochs=1"]).code(0);
    assert_eq!(shown(), second);
    // A published folder that somebody changed is found.
    project.write("out/model/model.onnx", vec![0; std::fs::metadata(project.path("out/model/model.onnx")).unwrap().len() as usize]);
    let outcome = project.pipe(&["verify", "--file", "pipeline.yaml"]);
    assert!(outcome.stdout.contains("out/model (published by export) is not what was published: model.onnx"), "{}", outcome.stdout);
    outcome.code(10);
}

#[test]
fn places_to_publish_to_are_checked_before_any_work() {
    let project = Project::new();
    for (from, to, word) in [
        ("out/model", "..", "which is no folder of its own"),
        ("..", "./out/predictions/", "publish to the same folder"),
        ("./out/predictions/", "out", "to one within the other"),
    ] {
        project.edit(&format!("publish: {from} }}\n  predict"), &format!("publish: {to} }}\n  predict"));
        project.run(&[]).fails(2, &[word]);
    }
    project.edit("publish: out }", "publish: tweets.csv/model }");
    project.run(&[]).fails(10, &["stage `export` cannot publish to", "tweets.csv cannot be written to", "nothing was run"]);
    assert!(project.keys().is_empty());
}
