//! The guide that pipe re-creates: its example is `pipelines/guide.yaml`, and runs as it stands there.

use std::path::{Path, PathBuf};

use pipe_core::config::{
    ColumnsConfig, IngestConfig, IntervalStrategy, Padding, SaveStrategy, SourceConfig, SplitBy, SplitConfig, StageConfig, TokenizeConfig,
    TrainConfig, Truncation,
};
use pipe_core::file::{Overrides, PipelineFile, Stage};
use pipe_remote::testing::Server;
use serde_json::{Value, json};

use crate::chinese_bert;
use crate::project::{Outcome, Project, command, pipe, read_json};
use crate::table::Table;

const BASE: &str = "hf://google-bert/bert-base-chinese";
/// In the vocabulary of `bert-base-chinese`.
const UNKNOWN: i32 = 100;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/guide.yaml")
}

fn rows(rows: Value) -> SourceConfig {
    SourceConfig { rows: serde_json::from_value(rows).unwrap(), ..SourceConfig::default() }
}

#[test]
fn the_file_has_the_settings_of_the_guide_and_no_others() {
    let file = PipelineFile::load(&file(), &Overrides::default()).unwrap();
    let config = |stage: &str| &file.stage(stage).unwrap().config;
    let examples = json!([
        {"text": "这是一部很棒的电影!", "label": 1},
        {"text": "我真的很喜欢这本书。", "label": 1},
        {"text": "食物太糟糕了。", "label": 0},
        {"text": "我有一个糟糕的经历。", "label": 0},
    ]);
    let ingest = IngestConfig {
        source: rows(examples),
        columns: ColumnsConfig { label: Some("label".into()), ..ColumnsConfig::default() },
        split: Some(SplitConfig { train: 0.8, validation: 0.2, test: 0.0, seed: 42, by: SplitBy::Stratified, files: [].into() }),
        ..IngestConfig::default()
    };
    assert_eq!(*config("ingest"), StageConfig::Ingest(Box::new(ingest)));
    let tokenize = TokenizeConfig {
        tokenizer: BASE.into(),
        train_tokenizer: None,
        max_length: None,
        padding: Padding::MaxLength,
        truncation: Truncation::LongestFirst,
        ..TokenizeConfig::default()
    };
    assert_eq!(*config("tokenize"), StageConfig::Tokenize(tokenize));
    let train = TrainConfig {
        model: BASE.into(),
        learning_rate: 2e-5,
        per_device_train_batch_size: 16,
        per_device_eval_batch_size: 16,
        num_train_epochs: 3.0,
        weight_decay: 0.01,
        eval_strategy: IntervalStrategy::Epoch,
        save_strategy: Some(SaveStrategy::Epoch),
        load_best_model_at_end: true,
        metric_for_best_model: Some("accuracy".into()),
        ..TrainConfig::default()
    };
    assert_eq!(*config("train"), StageConfig::Train(Box::new(train)));
    let new = IngestConfig { source: rows(json!([{"text": "这个产品太棒了!我强烈推荐它。"}])), ..IngestConfig::default() };
    assert_eq!(*config("new"), StageConfig::Ingest(Box::new(new)));
}

#[test]
fn the_readme_shows_the_file_as_it_is() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## The smallest whole pipeline\n").unwrap();
    let (shown, _) = section.split_once("```yaml\n").unwrap().1.split_once("```").unwrap();
    let shown =
        PipelineFile::parse(&format!("version: 1\n{shown}"), Path::new("README.md"), Path::new(env!("CARGO_MANIFEST_DIR")), &Overrides::default());
    let (shown, file) = (shown.unwrap(), PipelineFile::load(&file(), &Overrides::default()).unwrap());
    let stages = |file: &PipelineFile| {
        let from = |stage: &Stage| stage.from.iter().map(|reference| (reference.target.clone(), reference.split.clone())).collect::<Vec<_>>();
        let stage = |stage: &Stage| (stage.name.clone(), stage.config.clone(), from(stage), stage.publish.clone());
        file.stages.iter().map(stage).collect::<Vec<_>>()
    };
    assert_eq!(stages(&shown), stages(&file));
}

/// The file in a project of its own, and a hub that has its model.
struct Guide {
    project: Project,
    hub: Server,
    commit: String,
}

impl Guide {
    fn new() -> Guide {
        let (project, hub) = (Project::new(), Server::start());
        std::fs::create_dir(project.path("pipelines")).unwrap();
        std::fs::copy(file(), project.path("pipelines/guide.yaml")).unwrap();
        let files = chinese_bert::files();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let commit = hub.commit("models/google-bert/bert-base-chinese", "main", &files, true);
        Guide { project, hub, commit }
    }

    fn pipe(&self, arguments: &[&str]) -> Outcome {
        let mut run = command(pipe(), &self.project.root);
        Outcome::of(run.args(arguments).env("HF_ENDPOINT", self.hub.url()).env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE"))
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.pipe(&[&["run", "pipelines/guide.yaml", "--log-format", "text"], arguments].concat())
    }

    /// How often files whose names begin so were asked for.
    fn fetched(&self, name: &str) -> usize {
        self.hub.count("GET", &format!("/google-bert/bert-base-chinese/resolve/{}/{name}", self.commit))
    }
}

#[test]
fn the_example_runs_as_it_stands_there() {
    let guide = Guide::new();
    let project = &guide.project;
    let outcome = guide.run(&[]).code(0);
    assert_eq!(project.last_run().ran(), ["ingest", "tokenize", "train", "evaluate", "export", "new", "predict"]);

    assert_eq!(guide.fetched("pytorch_model.bin"), 0, "of two sets of weights one is wanted");

    // Little, which is said, but something in both splits.
    assert!(outcome.stderr.contains("4 rows are few"), "{}", outcome.stderr);
    let splits = &read_json(&project.artifact("ingest").join("report.json"))["splits"];
    assert_eq!((&splits["train"]["rows"], &splits["validation"]["rows"]), (&json!(3), &json!(1)));
    for (split, texts) in [("train", 3), ("validation", 1)] {
        let ids = Table::of_split(&project.artifact("tokenize"), split).lists("input_ids");
        assert_eq!(ids.iter().map(Vec::len).collect::<Vec<_>>(), vec![512; texts], "padded to all that the model can read");
        assert!(!ids.concat().contains(&UNKNOWN), "a character is not in the vocabulary");
    }

    let model = project.path("out/guide/model");
    the_best_of_three_is_kept(&model, &read_json(&project.artifact("evaluate").join("metrics.json")));

    // Model and tokenizer, saved as they are loaded.
    let config = read_json(&model.join("config.json"));
    assert_eq!(config["architectures"], json!(["BertForSequenceClassification"]));
    assert_eq!(config["label2id"], json!({"0": 0, "1": 1}));
    let tensors = std::fs::read(model.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    assert_eq!(tensors.tensor("classifier.weight").unwrap().shape()[0], 2);
    for (name, content) in chinese_bert::files().into_iter().filter(|(name, _)| name.starts_with("tokenizer") || *name == "vocab.txt") {
        assert_eq!(std::fs::read(model.join(name)).unwrap(), content, "{name}");
    }

    let predictions = Table::read(&project.path("out/guide/predictions/predictions.parquet"));
    assert_eq!(predictions.columns, ["id", "label", "score", "prob_0", "prob_1"]);
    let labels = predictions.strings("label");
    assert!(labels == ["0"] || labels == ["1"], "{labels:?}");
    assert!((predictions.floats("prob_0")[0] + predictions.floats("prob_1")[0] - 1.0).abs() < 1e-6);
    let shown = guide.pipe(&["head", "pipelines/guide.yaml", "predict"]).code(0).prints(&["prob_0", "prob_1"]);
    assert!(shown.stdout.contains(&format!(" {} ", labels[0])), "{}", shown.stdout);

    let fetched = guide.fetched("");
    assert!(fetched > 0);
    guide.run(&[]).code(0).prints(&["guide: 7 stages up to date, nothing to do"]);
    assert!(project.last_run().ran().is_empty());
    assert_eq!(guide.fetched(""), fetched);
}

#[test]
fn a_split_that_so_few_rows_leave_empty_is_told() {
    let guide = Guide::new();
    let outcome = guide.run(&["train", "--set", "ingest.with.split.by=hash"]);
    assert!(outcome.stderr.contains("the split `validation` is empty"), "{}", outcome.stderr);
    outcome.fails(12, &["stage `train`", "a split to train or evaluate on is empty", "by: stratified"]);
}

/// One evaluation after each epoch; the model in the folder, of which `metrics` are, is that of the best, of equals the first.
fn the_best_of_three_is_kept(model: &Path, metrics: &Value) {
    let state = read_json(&model.join("trainer_state.json"));
    let evaluations: Vec<&Value> = state["log_history"].as_array().unwrap().iter().filter(|row| row["eval_accuracy"].is_number()).collect();
    let all = |name: &str| evaluations.iter().map(|row| row[name].as_f64().unwrap()).collect::<Vec<f64>>();
    assert_eq!(all("epoch"), [1.0, 2.0, 3.0]);
    let (accuracies, losses) = (all("eval_accuracy"), all("eval_loss"));
    let best = (0..3).rev().max_by(|a, b| accuracies[*a].total_cmp(&accuracies[*b])).unwrap();
    assert_eq!(state["best_global_step"], evaluations[best]["step"]);
    assert_eq!(state["best_metric"], evaluations[best]["eval_accuracy"]);
    assert_eq!((&metrics["rows"], &metrics["metrics"]["accuracy"]), (&json!(1), &state["best_metric"]));
    // Accuracies of one row are equal; losses tell the models apart.
    let loss = metrics["loss"].as_f64().unwrap();
    let nearest = (0..3).min_by(|a, b| (losses[*a] - loss).abs().total_cmp(&(losses[*b] - loss).abs())).unwrap();
    assert_eq!(nearest, best, "the model that was kept has a loss of {loss}, its epochs had {losses:?}");
}
