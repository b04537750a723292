//! What reruns and what does not: keys, early cut-off, choosing stages, and the commands that only look.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use pipe_core::config::StageKind;

use crate::project::{PIPELINE, Project, STAGES, command, entries, files_below, pipe, read_json};

/// When each committed or published file was last written.
fn written(project: &Project) -> BTreeMap<PathBuf, SystemTime> {
    let folders = [project.cache().join("artifacts"), project.cache().join("keys"), project.path("out")];
    let files = folders.iter().flat_map(|folder| files_below(folder));
    files.map(|file| (file.clone(), std::fs::metadata(&file).unwrap().modified().unwrap())).collect()
}

/// Asserts that a run has exactly these stages, and that exactly those marked with `!` ran.
#[track_caller]
fn assert_stages(project: &Project, expected: &[&str]) {
    let status = |stage: &&str| stage.strip_prefix('!').map_or_else(|| format!("{stage} cached"), |name| format!("{name} ran"));
    assert_eq!(project.last_run().statuses(), expected.iter().map(status).collect::<Vec<_>>());
}

#[test]
fn a_rerun_reuses_everything_and_says_so_in_one_line() {
    let project = Project::new();
    project.run(&[]).code(0);
    let before = written(&project);
    let outcome = project.run(&[]).code(0).prints(&["6 stages up to date"]);
    assert_eq!(outcome.stdout.lines().count(), 1, "{}", outcome.stdout);
    assert_eq!(outcome.stderr, "");
    assert_stages(&project, &STAGES);
    assert_eq!(written(&project), before);
    assert_eq!(project.pipe(&["status", "pipeline.yaml", "--exit-code"]).code(0).stdout.matches("up to date").count(), 6);
}

#[test]
fn a_changed_setting_reruns_its_stage_and_what_follows() {
    let project = Project::finished();
    let set = ["--set", "train.with.learning_rate=2e-3"];
    project
        .pipe(&[&["status", "pipeline.yaml", "--exit-code"][..], &set].concat())
        .code(3)
        .prints(&["with.learning_rate: 0.003 → 0.002", "train is stale"]);
    project.run(&set).code(0).prints(&["4 stages ran, 2 reused"]);
    assert_stages(&project, &["ingest", "tokenize", "!train", "!evaluate", "!export", "!predict"]);
    // Both outputs are kept: going back costs nothing.
    project.run(&[]).code(0);
    assert_stages(&project, &STAGES);

    project.run(&["--var", "max_length=24", "--until", "tokenize"]).code(0);
    assert_stages(&project, &["ingest", "!tokenize"]);
    // The number of threads, and a default that is spelled out, decide no byte of the output.
    project.run(&["--set", "predict.with.threads=2", "--set", "train.with.weight_decay=0"]).code(0);
    assert_stages(&project, &STAGES);
}

/// A source of rows with ids of their own, so that rows are the same in another file.
fn write_rows(project: &Project, rows: impl Iterator<Item = (usize, String)>) {
    let lines = rows.map(|(id, text)| format!("r{id},{},{text}\n", ["good", "bad"][id % 2]));
    project.write("tweets.csv", std::iter::once("id,sentiment,text\n".to_owned()).chain(lines).collect::<String>());
}

#[test]
fn a_changed_source_reruns_what_reads_the_rows_that_changed() {
    let project = Project::new();
    project.edit("label: sentiment", "label: sentiment, id: id");
    let texts = |rows: usize| (0..rows).map(|id| (id, format!("the {} number {id}", ["song", "queue"][id % 2])));
    write_rows(&project, texts(100));
    project.run(&[]).code(0);
    // A duplicate changes the report of ingest, and no row that a later stage reads.
    write_rows(&project, texts(100).chain([(100, "the song number 0".to_owned())]));
    project
        .pipe(&["status", "pipeline.yaml"])
        .code(0)
        .prints(&["ingest      stale: source tweets.csv: content changed, +1 row", "tokenize    stale: ingest is stale"]);
    project.run(&[]).code(0);
    assert_stages(&project, &["!ingest", "tokenize", "train", "evaluate", "export", "predict"]);
    // New rows for training and for testing: all there is to rerun.
    write_rows(&project, texts(140));
    project.run(&["evaluate"]).code(0);
    assert_stages(&project, &["!ingest", "!tokenize", "!train", "!evaluate"]);
}

#[test]
fn forcing_a_stage_repeats_it_and_nothing_after_it() {
    let project = Project::finished();
    let before = project.last_run().artifacts();
    project.run(&["--force", "train"]).code(0);
    assert_stages(&project, &["ingest", "tokenize", "!train", "evaluate", "export", "predict"]);
    assert_eq!(project.last_run().artifacts(), before);
    project.run(&["--force-all", "tokenize"]).code(0);
    assert_stages(&project, &["!ingest", "!tokenize"]);
    assert!(project.last_run().artifacts().iter().all(|(stage, artifact)| before[stage] == *artifact));
}

#[test]
fn naming_stages_runs_them_with_all_they_need() {
    let project = Project::new();
    project.run(&["--until", "tokenize"]).code(0);
    assert_stages(&project, &["!ingest", "!tokenize"]);
    project.run(&["--only", "evaluate"]).fails(12, &["`train` is not up to date", "--only"]);
    project.run(&["evaluate"]).code(0);
    assert_stages(&project, &["ingest", "tokenize", "!train", "!evaluate"]);
    assert!(!project.path("out").exists());

    project.run(&["--only", "evaluate"]).code(0);
    assert_stages(&project, &["evaluate"]);
    project.run(&["--only", "evaluate", "--set", "train.with.learning_rate=1e-3"]).fails(12, &["`train` is not up to date"]);
    project.run(&["--only", "evaluate", "--set", "evaluate.with.per_device_eval_batch_size=4"]).code(0);
    assert_stages(&project, &["!evaluate"]);

    // The evaluation is no need of the export and what follows it.
    project.run(&["--from", "export", "--set", "evaluate.with.per_device_eval_batch_size=2"]).code(0);
    assert_stages(&project, &["ingest", "tokenize", "train", "!export", "!predict"]);
    project.run(&["--from", "train", "--until", "evaluate", "--set", "train.with.num_train_epochs=1"]).code(0);
    assert_stages(&project, &["ingest", "tokenize", "!train", "!evaluate"]);

    project.run(&["evalute"]).fails(2, &["no stage `evalute`", "did you mean `evaluate`?"]);
    project.run(&["evaluate", "--only", "train"]).code(2);
}

#[test]
fn a_dry_run_makes_nothing() {
    let project = Project::new();
    let outcome = project.run(&["--dry-run"]).code(0).prints(&["6 stages would run"]);
    for stage in STAGES {
        assert!(outcome.stderr.contains(&format!("{stage} would run")), "{}", outcome.stderr);
    }
    for folder in ["artifacts", "keys", "runs", "work"] {
        assert_eq!(entries(&project.cache().join(folder)), Vec::<PathBuf>::new());
    }
    assert!(!project.path("out").exists());

    let project = Project::finished();
    let before = written(&project);
    let outcome = project.run(&["--dry-run", "--set", "train.with.seed=7"]).code(0).prints(&["4 stages would run, 2 up to date"]);
    assert!(outcome.stderr.contains("train would run: with.seed: 42 (default) → 7"), "{}", outcome.stderr);
    assert_eq!(written(&project), before);
}

#[test]
fn commands_that_look_make_nothing() {
    let project = Project::new();
    project.pipe(&["validate", "pipeline.yaml"]).code(0).prints(&["valid", "ingest → tokenize → train → evaluate → export → predict"]);
    project.pipe(&["status", "pipeline.yaml"]).code(0).prints(&["ingest      stale: never run"]);
    project.pipe(&["status", "pipeline.yaml", "--exit-code"]).code(3);
    project.pipe(&["path", "pipeline.yaml", "ingest"]).fails(12, &["not up to date", "pipe run pipeline.yaml ingest"]);
    assert!(!project.cache().exists());
    project.run(&["ingest"]).code(0);
    let folder = project.pipe(&["path", "pipeline.yaml", "ingest"]).code(0).stdout;
    assert_eq!(PathBuf::from(folder.trim_end()), project.artifact("ingest").canonicalize().unwrap());
}

#[test]
fn a_reader_that_leaves_early_is_no_fault() {
    let project = Project::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(pipe(), &project.root).args(["status", "pipeline.yaml"]).stdout(writer).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn names_and_places_are_no_part_of_a_key() {
    let mut project = Project::finished();
    // Another name for a stage and for the pipeline, another folder for the model and for the source.
    project.edit("  train:\n", "  teach:\n");
    project.edit("from: [train,", "from: [teach,");
    project.edit("name: sample", "name: renamed");
    project.edit("base: model", "base: models/tiny");
    project.edit("tweets.csv", "data/*.csv");
    for folder in ["models", "data"] {
        std::fs::create_dir(project.path(folder)).unwrap();
    }
    std::fs::rename(project.path("model"), project.path("models/tiny")).unwrap();
    std::fs::rename(project.path("tweets.csv"), project.path("data/tweets.csv")).unwrap();
    project.run(&[]).code(0);
    assert_stages(&project, &["ingest", "tokenize", "teach", "evaluate", "export", "predict"]);

    let elsewhere = project.root.with_file_name("moved");
    std::fs::rename(&project.root, &elsewhere).unwrap();
    project.root = elsewhere;
    project.run(&[]).code(0).prints(&["6 stages up to date"]);
    project.write("pipeline.yaml", PIPELINE.replace("base: model", "base: models/tiny").replace("tweets.csv", "data/tweets.csv"));
    project.run(&[]).code(0).prints(&["6 stages up to date"]);
}

#[test]
fn publishing_replaces_what_pipe_published_and_nothing_else() {
    let project = Project::new();
    project.edit("    uses: ingest\n", "    uses: ingest\n    publish: out/rows\n");
    project.run(&["ingest"]).code(0);
    // Published earlier, by a cache that is gone.
    std::fs::remove_dir_all(project.cache()).unwrap();
    project.run(&["ingest", "--set", "ingest.with.split.seed=7"]).code(0);
    assert_eq!(read_json(&project.path("out/rows/report.json")), read_json(&project.artifact("ingest").join("report.json")));
    // A folder of the user's own, named by mistake.
    std::fs::create_dir(project.path("notes")).unwrap();
    project.write("notes/mine.txt", "mine");
    project.edit("publish: out/rows", "publish: notes");
    let outcome = project.run(&["ingest"]);
    assert_eq!(std::fs::read_to_string(project.path("notes/mine.txt")).ok().as_deref(), Some("mine"), "the user's file is gone");
    assert!(!outcome.succeeded() && outcome.stderr.contains("notes"), "{}", outcome.stderr);
}

#[test]
fn a_damaged_output_is_made_again() {
    let project = Project::finished();
    let (model, before) = (project.artifact("train").join("model.safetensors"), project.last_run().artifacts());
    let whole = std::fs::read(&model).unwrap();
    std::fs::write(&model, &whole[..whole.len() / 2]).unwrap();
    project.pipe(&["status", "pipeline.yaml"]).code(0).prints(&["train       stale: its output is gone or damaged"]);
    project.run(&[]).code(0);
    assert_stages(&project, &["ingest", "tokenize", "!train", "evaluate", "export", "predict"]);
    assert_eq!(project.last_run().artifacts(), before);
    assert_eq!(std::fs::read(&model).unwrap(), whole);
    // What was published and then deleted comes back without any stage running.
    std::fs::remove_dir_all(project.path("out/predictions")).unwrap();
    project.run(&[]).code(0);
    assert_stages(&project, &STAGES);
    assert!(project.path("out/predictions/predictions.parquet").is_file());
}

/// Stage, its version, and the content id of what it makes of the sample. Where the last changes, the version must be bumped
/// first (`StageKind::version`): caches in the field hold what the old one made. Only stages whose bytes do not depend on the
/// processor are here.
const GOLDEN: [(StageKind, u32, &str); 2] =
    [(StageKind::Ingest, 4, "701966a6ac210bb736b6e11f68748aa5"), (StageKind::Tokenize, 5, "4db68398bbe207aa6d1a7b3d7b0aecaf")];

#[test]
fn other_bytes_come_with_another_version_of_their_stage() {
    let artifacts = Project::finished().last_run().artifacts();
    for (kind, version, content) in GOLDEN {
        assert_eq!((kind.version(), artifacts[kind.name()].as_str()), (version, content), "{}: bump its version, then note both here", kind.name());
    }
}
