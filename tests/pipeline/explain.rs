//! What `pipe explain` says of each kind of change. One snapshot of all of them: `INSTA_UPDATE=always cargo test --test
//! pipeline explain` writes it anew.

use std::fmt::Write;

use serde_json::Value;

use crate::project::{Project, command, copy_folder, entries, pipe, read_json};

/// Collects what is said, with what differs from run to run taken out.
#[derive(Default)]
struct Transcript(String);

impl Transcript {
    /// What `explain STAGE` says after a change.
    fn explain(&mut self, change: &str, project: &Project, arguments: &[&str]) {
        self.explain_with(change, project, arguments, &[]);
    }

    fn explain_with(&mut self, change: &str, project: &Project, arguments: &[&str], environment: &[(&str, &str)]) {
        let mut explain = command(pipe(), &project.root);
        explain.args([&["explain", "pipeline.yaml"], arguments].concat()).envs(environment.iter().copied());
        let output = explain.output().unwrap();
        assert!(output.status.success(), "{change}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        crate::sample::assert_quotes_no_row(&said);
        writeln!(self.0, "# {change}\n$ pipe explain pipeline.yaml {}\n{}", arguments.join(" "), without_times(&said, project)).unwrap();
    }
}

/// Names of runs, times and the project's own folder say nothing of the change.
fn without_times(text: &str, project: &Project) -> String {
    let text = text.replace(&*project.root.to_string_lossy(), "ROOT");
    let word = |word: &str| {
        let ulid = word.len() == 26 && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        let time = word.len() >= 8 && word.trim_end_matches(':').chars().all(|c| c.is_ascii_digit() || c == ':' || c == '-');
        if ulid {
            "RUN".to_owned()
        } else if time && word.contains(['-', ':']) {
            word.replace(|c: char| c.is_ascii_digit(), "0")
        } else {
            word.to_owned()
        }
    };
    text.split('\n').map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

fn append(project: &Project, name: &str, text: &str) {
    let bytes = std::fs::read(project.path(name)).unwrap();
    project.write(name, [bytes, text.as_bytes().to_vec()].concat());
}

#[test]
fn every_kind_of_change_is_named() {
    let mut said = Transcript::default();
    let project = Project::finished();
    said.explain("nothing changed", &project, &["train"]);
    said.explain("a setting", &project, &["train", "--set", "train.with.learning_rate=5e-5"]);
    said.explain("a setting that had its default", &project, &["train", "--set", "train.with.weight_decay=0.1"]);
    project.edit("      num_train_epochs: 4\n", "");
    said.explain("a setting that has its default again", &project, &["train"]);
    project.edit("learning_rate: 3.0e-3", "learning_rate: 3.0e-3\n      num_train_epochs: 4");
    said.explain("a setting that decides nothing", &project, &["train", "--set", "train.with.torch_threads=2"]);
    said.explain("a setting within another", &project, &["ingest", "--set", "ingest.with.split.seed=7"]);
    said.explain("a list", &project, &["ingest", "--set", "ingest.with.scrub.entities=[email, phone]"]);
    said.explain("a variable", &project, &["tokenize", "--var", "max_length=24"]);
    said.explain("something before it", &project, &["predict", "--var", "max_length=24"]);

    let rows = std::fs::read(project.path("tweets.csv")).unwrap();
    append(&project, "tweets.csv", "neutral,1,the museum opens at ten\nneutral,1,the museum opens at eleven\n");
    said.explain("rows added to a source", &project, &["ingest"]);
    let mut edited = rows.clone();
    let last = edited.iter().rposition(u8::is_ascii_alphabetic).unwrap();
    edited[last] = if edited[last] == b'x' { b'y' } else { b'x' };
    project.write("tweets.csv", &edited);
    said.explain("a byte of a source", &project, &["ingest"]);
    project.write("tweets.csv", &rows);
    project.edit("paths: [tweets.csv]", "paths: [\"*.csv\"]");
    std::fs::remove_file(project.path("new-rows.csv")).unwrap();
    said.explain("the same source found by a pattern", &project, &["ingest"]);
    project.write("more.csv", "sentiment,confidence,text\nneutral,1,the museum is closed on mondays\n");
    said.explain("a source added", &project, &["ingest"]);
    project.run(&["ingest"]).code(0);
    said.explain("what it reads was made anew", &project, &["tokenize"]);
    std::fs::rename(project.path("more.csv"), project.path("moved.csv")).unwrap();
    said.explain("a source renamed", &project, &["ingest"]);
    std::fs::rename(project.path("moved.csv"), project.path("z-last.csv")).unwrap();
    said.explain("the order of the sources", &project, &["ingest"]);
    project.write("third.csv", "sentiment,confidence,text\nneutral,1,the museum has a garden\nneutral,1,the museum has a shop\n");
    project.run(&["ingest"]).code(0);
    std::fs::remove_file(project.path("z-last.csv")).unwrap();
    said.explain("a source gone", &project, &["ingest"]);
    std::fs::remove_file(project.path("third.csv")).unwrap();
    said.explain("back to what was there before", &project, &["ingest"]);
    std::fs::rename(project.path("tweets.csv"), project.path("tweets.txt")).unwrap();
    said.explain("all sources gone", &project, &["ingest"]);

    let project = Project::finished();
    said.explain("the record of an older run", &project, &["train", "--vs", "latest"]);
    append(&project, "model/vocab.txt", "\n");
    said.explain("a tokenizer file", &project, &["tokenize"]);
    let project = Project::finished();
    let weights = std::fs::read(project.path("model/model.safetensors")).unwrap();
    project.write("model/model.safetensors", weights.iter().rev().copied().collect::<Vec<u8>>());
    said.explain("the weights of the model", &project, &["train"]);
    project.write("model/model.safetensors", weights);
    std::fs::remove_file(project.artifact("train").join("config.json")).unwrap();
    said.explain("a file of its output is gone", &project, &["train"]);

    let project = Project::finished();
    project.edit("  predict:", "  score:");
    said.explain("the stage has another name", &project, &["score"]);
    project.edit("uses: predict, from: [export, ingest.test]", "uses: predict, from: [export, ingest.validation]");
    said.explain("another split under another name", &project, &["score"]);
    project.edit("  score:", "  predict:");
    said.explain("another split", &project, &["predict"]);

    let project = Project::finished();
    other_runtime(&project);
    let native = project.path("native");
    said.explain_with("another version of a library", &project, &["export"], &[("PIPE_NATIVE", native.to_str().unwrap())]);
    as_an_older_pipe_left_it(&project, "tokenize");
    said.explain("another version of pipe's own stage", &project, &["tokenize"]);

    let project = Project::finished();
    project.edit("  train:\n    uses: train", "  train:\n    uses: train\n    matrix: { lr: [3.0e-3, 1.0e-3] }");
    project.edit("learning_rate: 3.0e-3", "learning_rate: \"${matrix.lr}\"");
    project.edit("export: { uses: export, from: [train, ", "export: { uses: export, from: [\"train[lr=3e-3]\", ");
    said.explain("a matrix in the place of a value", &project, &["train"]);

    let project = Project::finished();
    project.run(&["train", "--set", "train.with.num_train_epochs=1"]).code(0);
    project.run(&["train", "--set", "train.with.num_train_epochs=1", "--force", "train"]).code(0);
    said.explain("made anew by force", &project, &["train", "--set", "train.with.num_train_epochs=1"]);
    said.explain("against the last run", &project, &["train", "--vs", "latest"]);
    said.explain("against the run of last month", &project, &["train", "--vs", "latest~2", "--set", "train.with.num_train_epochs=1"]);
    let text = said.0;
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, { insta::assert_snapshot!("explain", text) });
}

/// Native libraries that say they are of another version.
fn other_runtime(project: &Project) {
    let own = std::env::var_os("PIPE_NATIVE").map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/.native").into(), std::path::PathBuf::from);
    for library in ["libtorch", "onnxruntime"] {
        std::fs::create_dir_all(project.path("native").join(library)).unwrap();
        std::fs::copy(own.join(library).join("versions.json"), project.path("native").join(library).join("versions.json")).unwrap();
    }
    project.write("native/onnxruntime/versions.json", "{\"onnxruntime\": \"9.9.9\"}");
}

/// Rewrites the record of a stage as one that an older version of the stage left.
fn as_an_older_pipe_left_it(project: &Project, stage: &str) {
    let path = project.cache().join("latest/sample.json");
    let mut latest: Value = read_json(&path);
    let key = latest["stages"][stage].as_str().unwrap().to_owned();
    let record_path = project.cache().join("keys").join(&key[..2]).join(format!("{key}.json"));
    let mut record = read_json(&record_path);
    let older = "0".repeat(key.len());
    record["components"]["version"] = 0.into();
    record["key"] = older.clone().into();
    latest["stages"][stage] = older.clone().into();
    std::fs::create_dir_all(project.cache().join("keys/00")).unwrap();
    std::fs::write(project.cache().join(format!("keys/00/{older}.json")), record.to_string()).unwrap();
    std::fs::write(&path, latest.to_string()).unwrap();
    std::fs::remove_file(record_path).unwrap();
}

/// Every key of a finished project, by stage.
fn keys(project: &Project, arguments: &[&str]) -> Vec<(String, Option<String>)> {
    let outcome = project.pipe(&[&["status", "pipeline.yaml", "--json"], arguments].concat()).code(0);
    let stages: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    stages.iter().map(|stage| (stage["stage"].as_str().unwrap().to_owned(), stage["key"].as_str().map(str::to_owned))).collect()
}

#[test]
fn what_decides_no_byte_keeps_every_key() {
    let project = Project::finished();
    let before: Vec<Option<String>> = keys(&project, &[]).into_iter().map(|(_, key)| key).collect();
    assert!(before.iter().all(Option::is_some));
    let same = |project: &Project, arguments: &[&str], what: &str| {
        let mut now: Vec<Option<String>> = keys(project, arguments).into_iter().map(|(_, key)| key).collect();
        let mut before = before.clone();
        now.sort();
        before.sort();
        assert_eq!(now, before, "{what}");
    };
    same(&project, &["--set", "train.with.torch_threads=2", "--set", "predict.with.threads=2", "--set", "evaluate.with.torch_threads=2"], "workers");
    same(&project, &["--set", "evaluate.with.gate={accuracy: '>= 0.1'}", "--set", "ingest.with.source.min_files=1"], "gates and arrival");
    same(&project, &["--set", "train.with.weight_decay=0", "--set", "tokenize.with.padding=longest"], "defaults spelled out");
    project.edit("name: sample", "name: other\nrun: { overlap: wait, cpus: 1, keep_going: true }");
    project.edit("publish: out/model", "publish: elsewhere/model, resources: { cpus: 1 }");
    same(&project, &[], "the pipeline's name, how it runs, where it publishes");
    // Every stage under another name, and the file's keys in another order.
    let text = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    let renamed = ["ingest", "tokenize", "train", "evaluate", "export", "predict"].iter().fold(text, |text, name| {
        let text = text.replace(&format!("  {name}:"), &format!("  my_{name}:")).replace(&format!("from: {name}"), &format!("from: my_{name}"));
        text.replace(&format!("[{name}"), &format!("[my_{name}")).replace(&format!(", {name}"), &format!(", my_{name}"))
    });
    project.write(
        "pipeline.yaml",
        renamed
            .replace("      dedup: exact\n", "")
            .replace("      scrub: { policy: standard }", "      dedup: exact\n      scrub: { policy: standard }"),
    );
    assert_eq!(keys(&project, &[])[0].0, "my_ingest");
    same(&project, &[], "names and order");
    // The project, in another folder; the source file newly written.
    let moved = Project::new();
    copy_folder(&project.root, &moved.root);
    same(&moved, &[], "the folder");
    let files = entries(&moved.root).len();
    assert!(files > 3);
}

#[test]
fn what_decides_a_byte_changes_the_key_of_its_stage() {
    let project = Project::finished();
    let key = |project: &Project, stage: &str, arguments: &[&str]| {
        let keys = keys(project, arguments);
        keys.into_iter().find(|(name, _)| name == stage).unwrap().1.unwrap_or_else(|| panic!("{stage} has no key"))
    };
    let flip = |project: &Project, name: &str| {
        let mut bytes = std::fs::read(project.path(name)).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        project.write(name, bytes);
    };
    for (stage, file) in [
        ("ingest", "tweets.csv"),
        ("tokenize", "model/tokenizer.json"),
        ("tokenize", "model/vocab.txt"),
        ("tokenize", "model/config.json"),
        ("train", "model/model.safetensors"),
    ] {
        let before = key(&project, stage, &[]);
        flip(&project, file);
        assert_ne!(key(&project, stage, &[]), before, "{stage} reads {file}");
        flip(&project, file);
        assert_eq!(key(&project, stage, &[]), before, "{stage}: the same again");
    }
    for (stage, set) in [
        ("ingest", "dedup=none"),
        ("ingest", "shard_rows=64"),
        ("tokenize", "padding=max_length"),
        ("train", "bf16=true"),
        ("evaluate", "per_device_eval_batch_size=4"),
        ("export", "parity={rows: 3}"),
        ("predict", "scrub=false"),
    ] {
        assert_ne!(key(&project, stage, &["--set", &format!("{stage}.with.{set}")]), key(&project, stage, &[]), "{stage}: {set}");
    }
}
