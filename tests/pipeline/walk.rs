//! The whole walk, from raw rows to predictions: what a user gets, and that nothing personal comes along.

use std::collections::BTreeSet;
use std::path::Path;

use crate::project::{Project, STAGES, files_below, read_json};
use crate::sample;
use crate::table::Table;

#[test]
fn raw_rows_become_a_model_and_its_predictions() {
    let project = Project::new();
    let outcome = project.run(&[]).code(0).prints(&["accuracy", "predicted", "6 stages ran"]);
    sample::assert_quotes_no_row(&outcome.stdout);
    sample::assert_quotes_no_row(&outcome.stderr);
    assert_eq!(project.last_run().ran(), STAGES);

    report_adds_up(&project.artifact("ingest"));
    model_folder_is_complete(&project.artifact("train"));
    let accuracy = metrics_add_up(&project.artifact("evaluate"));
    predictions_follow_the_rows(&project, accuracy);
    nothing_personal_is_left(&project);
}

fn report_adds_up(ingest: &Path) {
    let (report, expected) = (read_json(&ingest.join("report.json")), sample::counts());
    let rows = |name: &str| report["rows"][name].as_u64().unwrap();
    assert_eq!(rows("read"), rows("out") + rows("rejected") + rows("duplicates"));
    assert_eq!(rows("read"), expected["rows"]);
    assert_eq!(rows("out"), expected["unique_texts"]);
    assert_eq!(rows("duplicates"), expected["duplicate_rows"]);
    assert_eq!(rows("rejected"), 0);
    assert_eq!(report["rows_together"]["conflicting_texts"], expected["texts_with_two_labels"]);
    let written: usize = ["train", "validation", "test"].iter().map(|split| Table::of_split(ingest, split).rows()).sum();
    assert_eq!(written as u64, rows("out"));
    for (entity, count) in expected["entities_in_unique_texts"].as_object().unwrap() {
        let of_type = report["entities"]["text"].as_array().unwrap().iter().filter(|cell| cell["entity"] == entity.as_str());
        assert_eq!(of_type.map(|cell| cell["count"].as_u64().unwrap()).sum::<u64>(), count.as_u64().unwrap(), "{entity}");
    }
}

fn model_folder_is_complete(model: &Path) {
    let config = read_json(&model.join("config.json"));
    for (id, label) in ["negative", "neutral", "positive"].iter().enumerate() {
        assert_eq!(config["id2label"][id.to_string()], *label);
        assert_eq!(config["label2id"][*label], id);
    }
    assert_eq!(config["architectures"][0], "BertForSequenceClassification");
    let state = read_json(&model.join("trainer_state.json"));
    assert_eq!(state["global_step"], state["max_steps"]);
    assert!(state["log_history"].as_array().is_some_and(|log| log.iter().any(|entry| entry["eval_loss"].is_number())));
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "pipe.json", "all_results.json", "training.svg"] {
        assert!(model.join(name).is_file(), "{name}");
    }
}

/// The accuracy, which must be what the confusion matrix says, and above chance.
fn metrics_add_up(evaluation: &Path) -> f64 {
    let metrics = read_json(&evaluation.join("metrics.json"));
    let accuracy = metrics["metrics"]["accuracy"].as_f64().unwrap();
    let matrix: Vec<Vec<u64>> = serde_json::from_value(metrics["confusion_matrix"].clone()).unwrap();
    let right: u64 = matrix.iter().enumerate().map(|(class, row)| row[class]).sum();
    let all: u64 = matrix.iter().flatten().sum();
    assert_eq!(metrics["rows"], all);
    assert!((accuracy - right as f64 / all as f64).abs() < 1e-9);
    assert!(accuracy > 0.6, "no better than chance: {accuracy}");
    accuracy
}

fn predictions_follow_the_rows(project: &Project, accuracy: f64) {
    let predictions = Table::read(&project.artifact("predict").join("predictions.parquet"));
    let rows = Table::of_split(&project.artifact("ingest"), "test");
    assert_eq!(predictions.columns, ["id", "label", "score", "prob_negative", "prob_neutral", "prob_positive"]);
    assert_eq!(predictions.strings("id"), rows.strings("id"));
    let labels = predictions.strings("label");
    let classes = ["negative", "neutral", "positive"];
    let probabilities = classes.map(|class| predictions.floats(&format!("prob_{class}")));
    for (at, score) in predictions.floats("score").into_iter().enumerate() {
        let row = probabilities.each_ref().map(|column| column[at]);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
        let best = (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        assert_eq!((classes[best], row[best]), (labels[at].as_str(), score));
    }
    // These went through ONNX Runtime, the evaluation through libtorch.
    let right = labels.iter().zip(rows.strings("label")).filter(|(predicted, label)| *predicted == label).count();
    assert!((right as f64 / labels.len() as f64 - accuracy).abs() < 1e-9);
    // What is published is what was made.
    let published = std::fs::read(project.path("out/predictions/predictions.parquet")).unwrap();
    assert_eq!(published, std::fs::read(project.artifact("predict").join("predictions.parquet")).unwrap());
    assert!(project.path("out/model/model.onnx").is_file());
}

/// Searches every file that the run left, Parquet in its decoded columns too.
fn nothing_personal_is_left(project: &Project) {
    let planted = sample::planted("tweets-sample.csv");
    for part in ["4111", "555", "192.0.2.", "@example.", "@mail.example.", "://", "@tiny_bert"] {
        assert!(planted.iter().any(|value| value.contains(part)), "the sample has no {part}");
    }
    let mut searched = BTreeSet::new();
    for file in files_below(&project.cache()).into_iter().chain(files_below(&project.path("out"))) {
        let bytes = std::fs::read(&file).unwrap();
        let mut contents = vec![String::from_utf8_lossy(&bytes).into_owned()];
        if file.extension().is_some_and(|extension| extension == "parquet") {
            contents.push(Table::read(&file).all_texts().join("\n"));
        }
        for value in &planted {
            assert!(!contents.iter().any(|content| content.contains(value.as_str())), "{value} is in {}", file.display());
        }
        searched.insert(file.file_name().unwrap().to_string_lossy().into_owned());
    }
    for name in ["part-00000.parquet", "rejects.parquet", "predictions.parquet", "run.json", "manifest.json", "model.onnx", "worker.log"] {
        assert!(searched.contains(name), "{name} was not searched");
    }
    // The placeholders show that the search above looked at the texts.
    let texts = Table::of_split(&project.artifact("ingest"), "train").strings("text").join("\n");
    for placeholder in ["<EMAIL>", "<PHONE>", "<URL>"] {
        assert!(texts.contains(placeholder), "{placeholder}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let mut project = Project::finished();
    let first = project.last_run().artifacts();
    project.cache_dir = Some(project.path("another-cache"));
    project.run(&[]).code(0);
    assert_eq!(project.last_run().ran(), STAGES);
    // A content id covers every byte of an output, model.safetensors included.
    assert_eq!(project.last_run().artifacts(), first);
    project.run(&["--set", "train.with.seed=7", "--until", "train"]).code(0);
    assert_ne!(project.last_run().artifact("train"), first["train"]);
}
