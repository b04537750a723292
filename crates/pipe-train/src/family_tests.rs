//! Every family against transformers, and what files of a model may look like. The models and what transformers computes
//! with them are in `tests/fixtures/families`; tolerances are those of `parity_tests`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_core::config::{Base, NewModel, Scratch, TrainConfig};
use pipe_core::{Batch, Labels, Silent, Task};
use pipe_model::{Head, ModelConfig};
use serde_json::{Value, json};
use tch::{Device, Kind, Reduction, Tensor};

use crate::kernels;
use crate::model::Model;
use crate::testing::{alone, batch, check_gradients, check_outputs, classes, drop_as_transformers, fixture, norm, sample_tokens, tensors};
use crate::trainer::{TrainPaths, train};
use crate::weights;

const CLASSIFIERS: [&str; 7] = ["roberta", "xlm-roberta", "distilbert", "gpt2", "llama", "llama-bias", "mistral"];
const LANGUAGE_MODELS: [&str; 5] = ["gpt2-lm", "llama-lm", "qwen2-lm", "mistral-lm", "llama-bias-lm"];

fn labels() -> Vec<String> {
    ["negative", "neutral", "positive"].map(String::from).to_vec()
}

fn open(folder: &Path) -> pipe_core::Result<Model> {
    let config = ModelConfig::read(folder)?;
    if config.labels().is_some() { Model::open(folder, Device::Cpu, false) } else { Model::open_causal_lm(folder, Device::Cpu, false) }
}

fn case(name: &str) -> (Model, BTreeMap<String, Tensor>) {
    let folder = fixture("families").join(name);
    (open(&folder).unwrap(), tensors(&folder.join("reference.safetensors")))
}

/// The mean over rows, or over the tokens that come next.
fn loss(logits: &Tensor, batch: &Batch) -> Tensor {
    let labels = Tensor::from_slice(classes(batch));
    let (logits, labels) = match logits.size()[..] {
        [rows, length, vocabulary] => {
            let next = labels.view([rows, length]).narrow(1, 1, length - 1).reshape([-1]);
            (logits.narrow(1, 0, length - 1).reshape([-1, vocabulary]), next)
        }
        _ => (logits.shallow_clone(), labels),
    };
    logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0)
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    for name in CLASSIFIERS.iter().chain(&LANGUAGE_MODELS) {
        let (model, reference) = case(name);
        compare(name, &model, &reference);
    }
}

/// Two batches, and the gradients of the sum of their losses.
fn compare(name: &str, model: &Model, reference: &BTreeMap<String, Tensor>) {
    for parameter in model.parameters.values() {
        let _ = parameter.set_requires_grad(true);
    }
    for prefix in ["batch0", "batch1"] {
        let batch = batch(reference, prefix);
        let logits = model.forward(&batch, true).unwrap();
        let loss = loss(&logits, &batch);
        // Rows of padding alone have no meaning, and differ.
        let kept = Tensor::from_slice(&batch.attention_mask).view([batch.rows.len() as i64, -1, 1]);
        let mut reference = reference.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect::<BTreeMap<_, _>>();
        let logits = if model.head == Head::CausalLm {
            let expected = reference.get_mut(&format!("{prefix}.logits")).unwrap();
            *expected = &*expected * &kept;
            logits * kept
        } else {
            logits
        };
        check_outputs(&logits, &loss, &reference, prefix, name);
        loss.backward();
    }
    check_gradients(model, reference, name);
}

/// `tests/parity/make_real.py` has the commands.
#[test]
#[ignore = "needs real models and what transformers computes with them; its doc comment says which script has the commands"]
fn real_models_have_the_gradients_of_transformers() {
    let _alone = alone();
    let folder = PathBuf::from(std::env::var_os("PIPE_REAL").expect("PIPE_REAL names what make_real.py wrote"));
    let minilm = Model::open(&folder.join("minilm"), Device::Cpu, false).unwrap();
    compare("minilm", &minilm, &tensors(&folder.join("minilm/reference.safetensors")));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/smollm2-135m");
    let smollm2 = Model::open_causal_lm(&data, Device::Cpu, false).unwrap();
    compare("smollm2", &smollm2, &tensors(&folder.join("smollm2/reference.safetensors")));
}

/// The generator of libtorch's dropout draws the same numbers only if the same things are dropped in the same order.
#[test]
fn dropout_is_where_transformers_has_it() {
    let _alone = alone();
    for name in CLASSIFIERS.iter().chain(&LANGUAGE_MODELS) {
        let (mut model, reference) = case(name);
        drop_as_transformers(&mut model);
        let batch = batch(&reference, "batch0");
        let expected = &reference["dropout.logits"];
        tch::manual_seed(7);
        let mut difference = kernels::with_libtorch_alone(|| model.forward(&batch, true)).unwrap() - expected;
        if model.head == Head::CausalLm {
            difference *= Tensor::from_slice(&batch.attention_mask).view([batch.rows.len() as i64, -1, 1]);
        }
        let error = difference.abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
        assert!(error < 1e-5, "{name}: {error:e}");
    }
}

/// A case's folder with its weights as `change` leaves them.
fn changed(name: &str, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> tempfile::TempDir {
    let (folder, from) = (tempfile::tempdir().unwrap(), fixture("families").join(name));
    std::fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut weights = tensors(&from.join("model.safetensors"));
    change(&mut weights);
    weights::save(&weights, &folder.path().join("model.safetensors")).unwrap();
    folder
}

fn renamed(weights: &mut BTreeMap<String, Tensor>, new: impl Fn(&str) -> String) {
    *weights = std::mem::take(weights).into_iter().map(|(name, tensor)| (new(&name), tensor)).collect();
}

/// The largest difference of any logit of the first batch from the reference, relative to the largest logit.
fn difference(model: &Model, name: &str) -> f64 {
    let reference = tensors(&fixture("families").join(name).join("reference.safetensors"));
    let expected = &reference["batch0.logits"];
    let logits = model.forward(&batch(&reference, "batch0"), false).unwrap();
    (logits - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

fn set(folder: &Path, key: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
}

#[test]
fn base_models_load_without_their_prefix_and_with_heads_of_other_tasks() {
    let _alone = alone();
    for (name, prefix, new, other) in [
        ("roberta", "roberta.", ["classifier.dense", "classifier.out_proj"].as_slice(), "lm_head.dense.weight"),
        ("distilbert", "distilbert.", &["classifier", "pre_classifier"], "vocab_projector.bias"),
        ("gpt2", "transformer.", &["score"], "lm_head.weight"),
        ("llama", "model.", &["score"], "lm_head.weight"),
    ] {
        let bare = changed(name, |weights| {
            weights.retain(|name, _| name.starts_with(prefix));
            renamed(weights, |name| {
                name.replacen(prefix, "", 1).replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            });
            weights.insert(other.to_owned(), Tensor::zeros([3], (Kind::Float, Device::Cpu)));
            if name == "gpt2" {
                weights.insert("h.0.attn.bias".into(), Tensor::zeros([1, 1, 16, 16], (Kind::Float, Device::Cpu)));
            }
        });
        let (model, loaded) = Model::for_training(bare.path(), Task::SequenceClassification, &labels(), Device::Cpu, false, 1).unwrap();
        assert_eq!(loaded.new_modules.iter().map(String::as_str).collect::<Vec<_>>(), new, "{name}");
        for (parameter, expected) in tensors(&fixture("families").join(name).join("model.safetensors")) {
            assert_eq!(model.parameters[&parameter] == expected, parameter.starts_with(prefix), "{name}: {parameter}");
        }
        let error = open(bare.path()).err().unwrap();
        assert!(error.message.contains("lack `"), "{name}: a head is needed to evaluate: {error}");
    }
}

#[test]
fn classes_of_another_task_are_drawn_anew_and_what_is_below_is_kept() {
    let _alone = alone();
    let four = ["a", "b", "c", "d"].map(String::from);
    for (name, new) in [("roberta", "classifier.out_proj"), ("distilbert", "classifier"), ("gpt2", "score")] {
        let (model, loaded) =
            Model::for_training(&fixture("families").join(name), Task::SequenceClassification, &four, Device::Cpu, false, 1).unwrap();
        assert_eq!(loaded.new_modules.iter().map(String::as_str).collect::<Vec<_>>(), [new], "{name}");
        assert_eq!(model.parameters[&format!("{new}.weight")].size()[0], 4);
    }
}

#[test]
fn shards_half_precision_and_a_tied_copy_give_the_same_model() {
    let sharded = changed("llama-lm", |weights| {
        // Older versions of transformers saved the tied head too.
        weights.insert("lm_head.weight".into(), weights["model.embed_tokens.weight"].shallow_clone());
    });
    let mut weights = tensors(&sharded.path().join("model.safetensors"));
    let second = weights.split_off("model.layers.1");
    std::fs::remove_file(sharded.path().join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (file, weights) in [("model-00001-of-00002.safetensors", &weights), ("model-00002-of-00002.safetensors", &second)] {
        weights::save(weights, &sharded.path().join(file)).unwrap();
        map.extend(weights.keys().map(|name| (name.clone(), file.into())));
    }
    let index = sharded.path().join("model.safetensors.index.json");
    std::fs::write(&index, serde_json::to_vec(&json!({"metadata": {}, "weight_map": map})).unwrap()).unwrap();
    assert!(difference(&open(sharded.path()).unwrap(), "llama-lm") < 1e-5);
    std::fs::remove_file(sharded.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(open(sharded.path()).err().unwrap().message.contains("model-00002-of-00002"));
    std::fs::write(&index, r#"{"weight_map": {"x": "../model.safetensors"}}"#).unwrap();
    assert!(open(sharded.path()).err().unwrap().message.contains("files of this folder"));

    for kind in [Kind::Half, Kind::BFloat16] {
        let half = changed("gpt2", |_| ());
        write_half(&half.path().join("model.safetensors"), kind);
        let model = open(half.path()).unwrap();
        assert!(model.parameters.values().all(|tensor| tensor.kind() == Kind::Float));
        let difference = difference(&model, "gpt2");
        assert!(difference < 0.05 && difference > 1e-6, "{kind:?}: {difference:e}");
    }
}

fn write_half(path: &Path, kind: Kind) {
    let dtype = if kind == Kind::Half { safetensors::Dtype::F16 } else { safetensors::Dtype::BF16 };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors(path)
        .into_iter()
        .map(|(name, tensor)| {
            let (tensor, mut data) = (tensor.to_kind(kind), vec![0; tensor.numel() * 2]);
            tensor.copy_data_u8(&mut data, tensor.numel());
            (name, tensor.size().iter().map(|&size| size as usize).collect(), data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| (name, safetensors::tensor::TensorView::new(dtype, shape.clone(), data).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |folder: &Path, what: &str| {
        let error = open(folder).err().unwrap();
        assert!(error.message.contains(what), "{error}");
    };
    let query = "model.layers.1.self_attn.q_proj.weight";
    refused(changed("llama", |weights| _ = weights.remove(query)).path(), &format!("lack `{query}`"));
    let further = "model.layers.2.mlp.up_proj.weight";
    refused(changed("llama", |weights| _ = weights.insert(further.into(), Tensor::zeros([24, 16], (Kind::Float, Device::Cpu)))).path(), further);
    let narrow = changed("llama", |weights| _ = weights.insert(query.into(), Tensor::zeros([8, 16], (Kind::Float, Device::Cpu))));
    refused(narrow.path(), &format!("`{query}` in "));
    refused(narrow.path(), "has the shape [8, 16], config.json asks for [16, 16]");
    let twice = changed("gpt2", |weights| _ = weights.insert("wte.weight".into(), weights["transformer.wte.weight"].copy()));
    refused(twice.path(), "a second time");
    let cut = changed("gpt2", |_| ());
    let path = cut.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        refused(cut.path(), "not a whole safetensors file");
    }
    // Untied by the config, so that a head of its own must be there.
    let untied = changed("llama-lm", |_| ());
    set(untied.path(), "tie_word_embeddings", false.into());
    refused(untied.path(), "lack `lm_head.weight`");
}

#[test]
fn a_row_longer_than_the_positions_is_refused() {
    for (name, most) in [("roberta", 14), ("xlm-roberta", 13), ("distilbert", 16), ("gpt2", 16), ("llama", 32)] {
        let (model, _) = case(name);
        let row = |length: usize| Batch {
            length,
            rows: vec![0],
            input_ids: vec![7; length],
            attention_mask: vec![1; length],
            token_type_ids: vec![0; length],
            labels: Labels::None,
            slots: None,
        };
        assert_eq!(model.forward(&row(most), false).unwrap().size(), [1, 3]);
        let error = model.forward(&row(most + 1), false).unwrap_err();
        assert!(error.message.contains(&format!("{} tokens, the model has {most}", most + 1)), "{name}: {error}");
        assert!(model.check_rows(&[most as u32 + 1], 10).is_err() && model.check_rows(&[most as u32], 10).is_ok());
    }
}

/// The folder that `PIPE_FAMILIES` names keeps what is saved, for `tests/parity/roundtrip.py`.
fn kept(name: &str, temporary: &tempfile::TempDir) -> PathBuf {
    let folder = std::env::var_os("PIPE_FAMILIES").map_or_else(|| temporary.path().to_owned(), PathBuf::from).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_saved_folder_gives_the_same_logits_and_says_what_it_is() {
    let temporary = tempfile::tempdir().unwrap();
    for (name, class) in [
        ("roberta", "RobertaForSequenceClassification"),
        ("xlm-roberta", "XLMRobertaForSequenceClassification"),
        ("distilbert", "DistilBertForSequenceClassification"),
        ("gpt2", "GPT2ForSequenceClassification"),
        ("gpt2-lm", "GPT2LMHeadModel"),
        ("llama", "LlamaForSequenceClassification"),
        ("llama-lm", "LlamaForCausalLM"),
        ("llama-bias", "LlamaForSequenceClassification"),
        ("mistral", "MistralForSequenceClassification"),
        ("qwen2-lm", "Qwen2ForCausalLM"),
    ] {
        let (model, _) = case(name);
        let (folder, original) = (kept(&format!("saved-{name}"), &temporary), fixture("families").join(name));
        weights::save(&model.parameters, &folder.join("model.safetensors")).unwrap();
        let config = if model.head == Head::CausalLm {
            model.config.with_head(model.head)
        } else {
            let config = model.config.with_task(Task::SequenceClassification, &labels());
            assert_eq!((&config["id2label"]["1"], &config["label2id"]["neutral"]), (&json!("neutral"), &json!(1)));
            config
        };
        assert_eq!(config["architectures"], json!([class]));
        std::fs::write(folder.join("config.json"), serde_json::to_vec(&Value::Object(config)).unwrap()).unwrap();
        std::fs::copy(original.join("reference.safetensors"), folder.with_extension("reference.safetensors")).unwrap();
        assert!(difference(&open(&folder).unwrap(), name) < 1e-5, "{name}");
        let names: Vec<String> = tensors(&original.join("model.safetensors")).into_keys().collect();
        assert_eq!(model.parameters.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>(), "{name}: the names of transformers");
    }
}

#[test]
fn without_a_padding_token_the_mask_finds_the_last_token_and_a_tokenizer_s_is_taken_up() {
    let (mut model, _) = case("gpt2");
    model.config.pad_token_id = None;
    assert!(difference(&model, "gpt2") < 1e-5);
    model.config.pad_with(5).unwrap();
    assert!(difference(&model, "gpt2") < 1e-5);
    assert_eq!(model.config.with_task(Task::SequenceClassification, &labels())["pad_token_id"], 5);
    let (mut roberta, _) = case("roberta");
    assert!(roberta.config.pad_with(0).unwrap_err().message.contains("pads with token 0, the model's `pad_token_id` is 1"));
    roberta.config.pad_with(1).unwrap();
}

#[test]
fn bf16_stays_close_to_f32() {
    for name in ["roberta", "distilbert", "gpt2", "llama"] {
        let (mut model, _) = case(name);
        model.bf16 = true;
        let difference = difference(&model, name);
        assert!(difference < 0.1 && difference > 1e-6, "{name}: bf16 logits differ by {difference:e}");
    }
}

#[test]
fn weights_from_scratch_are_drawn_as_transformers_does() {
    let _alone = alone();
    for name in CLASSIFIERS {
        let folder = fixture("families").join(name);
        let mut config = ModelConfig::read(&folder).unwrap();
        config.initializer_range = 0.05;
        let head = Head::SequenceClassification { classes: 3 };
        let drawn = weights::fresh(&config, head, 7, Device::Cpu).unwrap();
        assert_eq!(drawn.keys().collect::<Vec<_>>(), tensors(&folder.join("model.safetensors")).keys().collect::<Vec<_>>());
        for (parameter, tensor) in &drawn {
            let deviation = norm(tensor) / (tensor.numel() as f64).sqrt();
            let expected = match parameter.as_str() {
                bias if bias.ends_with(".bias") => 0.0,
                norm if tensor.size().len() == 1 && norm.ends_with(".weight") => 1.0,
                // Of four residual additions.
                residual if residual.ends_with("c_proj.weight") => 0.025,
                _ => 0.05,
            };
            assert!((deviation - expected).abs() <= 0.3 * expected, "{name}: {parameter} has {deviation}");
        }
        let table = match name {
            "gpt2" => None,
            "roberta" | "xlm-roberta" => Some("roberta.embeddings.position_embeddings.weight"),
            "distilbert" => Some("distilbert.embeddings.word_embeddings.weight"),
            _ => Some("model.embed_tokens.weight"),
        };
        if let Some(table) = table {
            assert_eq!(norm(&drawn[table].get(config.pad_token_id.unwrap())), 0.0, "{name}: {table}");
        }
        assert!(drawn.iter().all(|(name, tensor)| *tensor == weights::fresh(&config, head, 7, Device::Cpu).unwrap()[name]));
    }
}

/// The reference has the weights as the package `gguf` dequantises them, and computes with transformers.
#[test]
fn a_gguf_file_is_a_model_folder() {
    for name in ["llama3-gguf", "llama-gguf"] {
        let folder = fixture("families").join(name);
        let reference = tensors(&folder.join("reference.safetensors"));
        let model = Model::open_causal_lm(&folder, Device::Cpu, false).unwrap();
        let batch = batch(&reference, "batch0");
        let logits = model.forward(&batch, false).unwrap();
        let kept = Tensor::from_slice(&batch.attention_mask).view([3, 8, 1]);
        let mut expected = BTreeMap::from([("batch0.logits".to_owned(), &reference["batch0.logits"] * &kept)]);
        expected.insert("batch0.loss".into(), reference["batch0.loss"].shallow_clone());
        check_outputs(&(&logits * kept), &loss(&logits, &batch), &expected, "batch0", name);
    }

    let _alone = alone();
    let folder = fixture("families/llama-gguf");
    let (_, loaded) = Model::for_training(&folder, Task::SequenceClassification, &labels(), Device::Cpu, false, 1).unwrap();
    assert_eq!(loaded.new_modules.iter().map(String::as_str).collect::<Vec<_>>(), ["score"]);

    let two = tempfile::tempdir().unwrap();
    for name in ["a.gguf", "b.gguf"] {
        std::fs::copy(folder.join("model.gguf"), two.path().join(name)).unwrap();
    }
    assert!(Model::open_causal_lm(two.path(), Device::Cpu, false).err().unwrap().message.contains("could be the model"));
}

/// Each family drawn, trained for three steps and saved, as `train` does it; what it scores is written beside it.
#[test]
fn every_family_trains_from_scratch_and_its_folder_opens() {
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(temporary.path());
    for (name, model) in [
        ("bert", json!({"model_type": "bert"})),
        ("roberta", json!({"model_type": "roberta", "type_vocab_size": 1, "max_position_embeddings": 129})),
        ("distilbert", json!({"model_type": "distilbert"})),
        ("gpt2", json!({"model_type": "gpt2", "hidden_act": "gelu_new"})),
        ("llama", json!({"model_type": "llama", "num_key_value_heads": 2, "rope_theta": 500.0})),
    ] {
        let mut shape = json!({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48});
        shape["max_position_embeddings"] = 128.into();
        shape.as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
        let new = NewModel::Inline(Box::new(serde_json::from_value(shape).unwrap()));
        let config = TrainConfig {
            model: Base::Scratch(Box::new(Scratch { config: Some(new), train_tokenizer: None })),
            max_steps: 3,
            learning_rate: 1e-2,
            ..TrainConfig::default()
        };
        let out = kept(name, &temporary);
        let [scratch, record] = ["scratch", "record"].map(|part| temporary.path().join(part).join(name));
        std::fs::create_dir_all(&scratch).unwrap();
        let paths = TrainPaths { model: None, tokens: &tokens, out: &out, scratch: &scratch, record: &record };
        train(&config, &paths, Device::Cpu, &Silent).unwrap();
        let mut model = Model::open(&out, Device::Cpu, false).unwrap();
        let reference = out.with_extension("reference.safetensors");
        crate::reference::write(&mut model, &tokens, "validation", 24, &reference, &scratch).unwrap();
        let logits = &tensors(&reference)["batch0.logits"];
        assert!(logits.isfinite().all().double_value(&[]) == 1.0 && logits.std(false).double_value(&[]) > 1e-3, "{name}");
        assert_eq!(ModelConfig::read(&out).unwrap().pad_token_id, Some(0), "{name}: the tokenizer's padding");
    }
}
