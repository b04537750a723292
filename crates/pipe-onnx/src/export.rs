//! `export`: from a trained model folder to one that runs without libtorch.
//!
//! ```text
//! model.onnx [model.onnx_data]   the graph and its weights, opset 20, names as optimum gives them
//! config.json, tokenizer files   as they were
//! pipe.json                      what must be done to a text first
//! parity.json                    how far the graph is from the trained model
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use pipe_core::config::{ExportConfig, ExportFormat};
use pipe_core::native::NativeLibraries;
use pipe_core::provenance::{self, Provenance};
use pipe_core::{Error, IoContext, Progress, Result, Summary, Task, digest};
use pipe_model::{Head, ModelConfig};
use serde::Serialize;

use crate::backend::OnnxBackend;
pub use crate::causal_lm::export::run as run_causal_lm;
use crate::metadata;
use crate::parity::{self, Room};
use crate::scores::Scores;
use crate::session::OrtPredictor;
use crate::weights::{Weights, map};
use crate::write::{DATA_FILE, INLINE_LIMIT, MODEL_FILE, append_metadata, write};

/// What a tokenizer may consist of; `tokenizer.json` suffices, others serve other programs.
const TOKENIZER_FILES: [&str; 5] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "chat_template.jinja"];

/// Exports the folder `model` to `out` and compares the file that was written with the logits in `reference`
/// ([`Command::Reference`](pipe_core::worker::Command::Reference)); a difference above the tolerance is an error.
pub fn run(config: &ExportConfig, model: &Path, reference: &Path, native: &NativeLibraries, out: &Path, progress: &dyn Progress) -> Result<Summary> {
    match config.format {
        ExportFormat::Onnx => {}
    }
    let shape = ModelConfig::read(model)?;
    let provenance = Provenance::read(model)?;
    check(&shape, &provenance, model)?;

    write_model(&shape, &provenance, model, out, INLINE_LIMIT)?;
    copy_beside(model, out)?;

    // On the file that was written, read back: what is in memory here proves nothing about it.
    let mut predictor = OrtPredictor::open_unchecked(out, native, None)?;
    let tokenize = &provenance.tokenize;
    let room = Room {
        pad_token_id: tokenize.pad_token_id.into(),
        pad_token_type_id: tokenize.pad_token_type_id.into(),
        max_positions: shape.max_length() as usize,
    };
    let scores = predictor.scores();
    let parity = parity::compare(&mut predictor, reference, scores, &config.parity, room, progress)?;
    drop(predictor);
    note_parity(out, &parity)?;
    // The last bytes came after the comparison; that the file still loads is seen here and not at its first use.
    OrtPredictor::open(out, native, Some(1))?;
    Ok(summary(out, parity.rows, parity.max_abs_diff, &format!("{} rows", parity.rows)))
}

/// Writes down how far the graph is from the trained model, in a file of its own and in the model's.
pub(crate) fn note_parity(out: &Path, parity: &impl Serialize) -> Result<()> {
    let path = out.join("parity.json");
    std::fs::write(&path, serde_json::to_vec_pretty(parity).expect("plain data")).doing("write", &path)?;
    append_metadata(&out.join(MODEL_FILE), &[(metadata::PARITY, serde_json::to_string(parity).expect("plain data"))])
}

/// What is told of a finished export; `over` is what was compared.
pub(crate) fn summary(out: &Path, rows: usize, max_abs_diff: f64, over: &str) -> Summary {
    let size = |name: &str| std::fs::metadata(out.join(name)).map_or(0, |file| file.len());
    let bytes = size(MODEL_FILE) + size(DATA_FILE);
    Summary {
        rows: rows as u64,
        line: format!("{} MB, parity {max_abs_diff:.1e} over {over}", (bytes as f64 / 1e6).round()),
        figures: BTreeMap::from([("bytes".into(), bytes.into()), ("max_abs_diff".into(), max_abs_diff.into())]),
        ..Summary::default()
    }
}

/// Refuses a folder whose files are of two models.
fn check(shape: &ModelConfig, provenance: &Provenance, model: &Path) -> Result<()> {
    let fault = |what: String| Err(Error::input(format!("{}: {what}", model.display())).hint("run the train stage again"));
    let (task, file) = (provenance.task, provenance::FILE_NAME);
    if task == Task::CausalLm {
        return Err(Error::usage("language models are exported to generate, not to score rows"));
    }
    match shape.task() {
        Some(trained) if trained == task => {}
        Some(trained) => return fault(format!("config.json is of a model for {}, {file} of one for {}", trained.name(), task.name())),
        None => return fault("config.json names no task that is known here (architectures)".into()),
    }
    if task.has_classes() && shape.labels().as_ref() != Some(&provenance.labels) {
        return fault(format!("config.json and {file} name different labels"));
    }
    Ok(())
}

/// Records the forward pass and writes it into `out`.
fn write_model(shape: &ModelConfig, provenance: &Provenance, model: &Path, out: &Path, inline_limit: u64) -> Result<()> {
    let path = model.join("model.safetensors");
    let mapped = map(&path)?;
    let head = Head::of(provenance.task, provenance.labels.len());
    let weights = Weights::load(&mapped, &path, shape, head)?;
    let backend = OnnxBackend::new(&weights);
    let inputs = backend.inputs(shape.reads_token_types());
    let logits = head.forward(&backend, shape, &inputs)?;
    let outputs = match Scores::of(provenance)?.names() {
        &[start, end] => vec![(start, backend.column(&logits, 0)?), (end, backend.column(&logits, 1)?)],
        names => names.iter().map(|&name| (name, logits.clone())).collect(),
    };
    let (graph, initializers) = backend.finish(&outputs, shape.raw["model_type"].as_str().unwrap_or("model"))?;
    let metadata = [
        (metadata::LABELS, serde_json::to_string(&provenance.labels).expect("plain data")),
        (metadata::TASK, provenance.task.name().into()),
        (metadata::MAX_LENGTH, provenance.tokenize.max_length.to_string()),
        (metadata::PADDING_SIDE, "right".into()),
        (metadata::TOKENIZER, provenance.tokenize.tokenizer.clone()),
        (metadata::SCRUB, provenance.scrub_digest.clone()),
        (metadata::WEIGHTS, digest::of_file(&path)?),
    ];
    // Left there by an earlier try, it would stand beside a model that does not read it.
    let data = out.join(DATA_FILE);
    if data.exists() {
        std::fs::remove_file(&data).doing("remove", &data)?;
    }
    write(out, &graph, &initializers, &metadata, inline_limit)
}

pub(crate) fn copy_beside(model: &Path, out: &Path) -> Result<()> {
    for (name, needed) in
        [("config.json", true), (provenance::FILE_NAME, true)].into_iter().chain(TOKENIZER_FILES.map(|name| (name, name == "tokenizer.json")))
    {
        let (from, to) = (model.join(name), out.join(name));
        if needed || from.exists() {
            std::fs::copy(&from, &to).doing("copy", &from)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::ModelProto;
    use crate::testing::{Tiny, export, native, provenance};

    #[test]
    fn the_folder_has_all_that_is_needed_and_says_what_it_is() {
        let tiny = Tiny::new("gelu");
        let summary = tiny.export(&tiny.out()).unwrap();
        assert_eq!(summary.rows, 10);
        assert!(summary.line.starts_with("0 MB, parity ") && summary.line.ends_with(" over 10 rows"), "{}", summary.line);
        let mut names: Vec<_> = std::fs::read_dir(tiny.out()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["config.json", "model.onnx", "parity.json", "pipe.json", "tokenizer.json"]);

        let model = ModelProto::decode(&*std::fs::read(tiny.out().join(MODEL_FILE)).unwrap()).unwrap();
        let metadata: BTreeMap<_, _> = model.metadata_props.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
        assert_eq!(metadata["labels"], r#"["negative","neutral","positive"]"#);
        assert_eq!((metadata["task"], metadata["max_length"], metadata["padding_side"]), ("sequence-classification", "16", "right"));
        assert_eq!(metadata["weights"], digest::of_file(&tiny.model().join("model.safetensors")).unwrap());
        let parity: serde_json::Value = serde_json::from_str(metadata["parity"]).unwrap();
        assert_eq!(parity, serde_json::from_slice::<serde_json::Value>(&std::fs::read(tiny.out().join("parity.json")).unwrap()).unwrap());
        assert_eq!((&parity["rows"], &parity["lengths"]), (&10.into(), &serde_json::json!([1, 7, 9, 16])));
        assert!(parity["max_abs_diff"].as_f64().unwrap() < 1e-5);
    }

    #[test]
    fn the_graph_is_readable_and_every_edge_has_a_shape() {
        let tiny = Tiny::new("gelu");
        tiny.export(&tiny.out()).unwrap();
        let graph = ModelProto::decode(&*std::fs::read(tiny.out().join(MODEL_FILE)).unwrap()).unwrap().graph.unwrap();
        let mut nodes: Vec<_> = graph.node.iter().map(|node| &*node.name).collect();
        for name in [
            "bert.encoder.layer.1.attention.self.query/MatMul",
            "bert.encoder.layer.0.attention.self/Softmax",
            "bert.encoder.layer.0.intermediate/Gelu",
        ] {
            assert!(nodes.contains(&name), "{name} is not in {nodes:?}");
        }
        nodes.sort_unstable();
        assert!(nodes.is_sorted_by(|a, b| a < b), "two nodes share a name");
        let shaped: Vec<_> = graph.value_info.iter().chain(&graph.output).map(|value| &value.name).collect();
        assert!(graph.node.iter().flat_map(|node| &node.output).all(|output| shaped.contains(&output)));
        let names: Vec<_> = graph.initializer.iter().map(|tensor| &*tensor.name).collect();
        assert_eq!(names.iter().filter(|name| name.starts_with("bert.") || name.starts_with("classifier.")).count(), tiny.weights.len());
    }

    #[test]
    fn the_same_model_gives_the_same_bytes() {
        let tiny = Tiny::new("gelu");
        let again = tiny.folder.path().join("again");
        std::fs::create_dir(&again).unwrap();
        tiny.export(&tiny.out()).unwrap();
        tiny.export(&again).unwrap();
        for name in [MODEL_FILE, "parity.json"] {
            assert_eq!(std::fs::read(tiny.out().join(name)).unwrap(), std::fs::read(again.join(name)).unwrap(), "{name}");
        }
    }

    #[test]
    fn weights_in_a_file_of_their_own_score_the_same() {
        let tiny = Tiny::new("gelu");
        write_model(&tiny.config, &provenance(), &tiny.model(), &tiny.out(), 10_000).unwrap();
        copy_beside(&tiny.model(), &tiny.out()).unwrap();
        let data = std::fs::metadata(tiny.out().join(DATA_FILE)).unwrap().len();
        assert!(data > 0);
        let graph = ModelProto::decode(&*std::fs::read(tiny.out().join(MODEL_FILE)).unwrap()).unwrap().graph.unwrap();
        for tensor in graph.initializer.iter().filter(|tensor| !tensor.external_data.is_empty()) {
            let external: BTreeMap<_, _> = tensor.external_data.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
            assert_eq!(external["location"], DATA_FILE);
            let (offset, length): (u64, u64) = (external["offset"].parse().unwrap(), external["length"].parse().unwrap());
            assert!(offset % 4096 == 0 && offset + length <= data && tensor.raw_data.is_none());
        }
        let mut predictor = OrtPredictor::open_unchecked(&tiny.out(), &native(), None).unwrap();
        let room = Room { pad_token_id: 0, pad_token_type_id: 0, max_positions: 16 };
        let tolerance = pipe_core::config::ParityConfig { max_abs_diff: 1e-5, rows: 64 };
        let scores = predictor.scores();
        parity::compare(&mut predictor, &tiny.reference(), scores, &tolerance, room, &pipe_core::Silent).unwrap();
        // Exported again in one file, no second one stays behind.
        tiny.export(&tiny.out()).unwrap();
        assert!(!tiny.out().join(DATA_FILE).exists());
    }

    #[test]
    fn one_logit_off_by_a_hundredth_fails_and_is_named() {
        let tiny = Tiny::new("gelu");
        tiny.write_reference(1e-2);
        let error = tiny.export(&tiny.out()).unwrap_err();
        assert_eq!(error.class, pipe_core::Class::Stage);
        assert!(error.message.contains("up to 1.00e-2 (row 1 of batch 2"), "{error}");
        assert!(error.message.contains("the tolerance is 1.00e-5"), "{error}");
        // What failed does not pass for a finished export.
        assert!(OrtPredictor::open(&tiny.out(), &native(), None).is_err());
        tiny.write_reference(f32::NAN);
        assert!(tiny.export(&tiny.out()).unwrap_err().message.contains("no number"));
    }

    #[test]
    fn a_tensor_that_is_missing_or_has_another_shape_is_named() {
        let mut tiny = Tiny::new("gelu");
        let query = "bert.encoder.layer.1.attention.self.query.weight";
        let weight = tiny.weights.remove(query).unwrap();
        tiny.write_weights();
        let error = tiny.export(&tiny.out()).unwrap_err();
        assert!(error.class == pipe_core::Class::Stage && error.message.ends_with(&format!("the tensor {query} is missing")), "{error}");

        tiny.weights.insert(query.into(), weight);
        tiny.write_weights();
        let mut wider = tiny.config.raw.clone();
        wider.insert("vocab_size".into(), 32.into());
        std::fs::write(tiny.model().join("config.json"), serde_json::to_vec(&wider).unwrap()).unwrap();
        let error = tiny.export(&tiny.out()).unwrap_err();
        assert!(error.message.contains("word_embeddings.weight has the shape [31, 16], config.json asks for [32, 16]"), "{error}");
    }

    #[test]
    fn damaged_weights_are_said_to_be() {
        let tiny = Tiny::new("gelu");
        let path = tiny.model().join("model.safetensors");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let error = tiny.export(&tiny.out()).unwrap_err();
        assert!(error.message.contains("not a whole safetensors file"), "{error}");
    }

    /// Models of several shapes and activations, and what transformers computes with them: `tests/fixtures`.
    #[test]
    fn logits_are_those_of_transformers() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        for name in ["tiny-bert-cls", "tiny-bert-gelu-new", "tiny-bert-relu"] {
            let folder = tempfile::tempdir().unwrap();
            let (model, out) = (folder.path().join("model"), folder.path().join("out"));
            for dir in [&model, &out] {
                std::fs::create_dir(dir).unwrap();
            }
            std::fs::write(model.join("tokenizer.json"), "{}").unwrap();
            for file in std::fs::read_dir(fixtures.join(name)).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), model.join(file.file_name())).unwrap();
            }
            provenance().write(&model).unwrap();
            let summary = export(&model, &fixtures.join(format!("{name}.reference.safetensors")), &out).unwrap();
            assert_eq!(summary.rows, 7, "{name}");
        }
    }

    /// The same of every family, padded on the right and on the left.
    #[test]
    fn logits_of_every_family_are_those_of_transformers() {
        let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families");
        for name in ["roberta", "xlm-roberta", "distilbert", "gpt2", "llama", "llama-bias", "mistral"] {
            let folder = tempfile::tempdir().unwrap();
            let (model, out) = (folder.path().join("model"), folder.path().join("out"));
            for dir in [&model, &out] {
                std::fs::create_dir(dir).unwrap();
            }
            std::fs::write(model.join("tokenizer.json"), "{}").unwrap();
            for file in ["config.json", "model.safetensors"] {
                std::fs::copy(families.join(name).join(file), model.join(file)).unwrap();
            }
            let mut provenance = provenance();
            let mut config = ModelConfig::read(&model).unwrap();
            provenance.tokenize.pad_token_id = config.pad_token_id.unwrap() as u32;
            provenance.write(&model).unwrap();
            if name == "mistral" {
                // The last token is then found by the mask.
                config.raw.remove("pad_token_id");
                std::fs::write(model.join("config.json"), serde_json::to_vec(&config.raw).unwrap()).unwrap();
            }
            let summary = export(&model, &families.join(name).join("reference.safetensors"), &out).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(summary.rows, 7, "{name}");
            let graph = ModelProto::decode(&*std::fs::read(out.join(MODEL_FILE)).unwrap()).unwrap().graph.unwrap();
            let types = graph.input.iter().any(|input| input.name == "token_type_ids");
            assert_eq!(types, name == "xlm-roberta", "{name} reads token types only where there are several");
        }
    }
}
