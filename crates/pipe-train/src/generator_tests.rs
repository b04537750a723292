//! What is generated against transformers: `tests/fixtures/generation`, made by `tests/parity/make_generation.py`.

use std::collections::BTreeMap;
use std::path::Path;

use pipe_core::Silent;
use pipe_core::generate::{FinishReason, Generation, GenerationConfig, LanguageModel, PaddedPrompts, Prompt, generate};
use pipe_model::{Head, ModelConfig};
use tch::{Device, Kind, Tensor};

use crate::TorchGenerator;
use crate::model::Model;
use crate::testing::{alone, fixture, tensors};
use crate::weights;

const MODELS: [&str; 5] = ["gpt2-lm", "llama-lm", "qwen2-lm", "mistral-lm", "llama-bias-lm"];

struct Case {
    model: TorchGenerator,
    reference: BTreeMap<String, Tensor>,
    prompts: Vec<Prompt>,
}

impl Case {
    fn new(name: &str) -> Case {
        let reference = tensors(&fixture("generation").join(format!("{name}.safetensors")));
        let mut prompts = Vec::new();
        for row in 0..reference["input_ids"].size()[0] {
            let kept = reference["attention_mask"].get(row).to_kind(Kind::Bool);
            let ids = Vec::<i64>::try_from(reference["input_ids"].get(row).masked_select(&kept)).unwrap();
            prompts.push(Prompt { row: row as u64, ids: ids.into_iter().map(|id| id as u32).collect() });
        }
        Case { model: TorchGenerator::open(&fixture("families").join(name), Device::Cpu, false).unwrap(), reference, prompts }
    }

    fn padded(&self) -> PaddedPrompts {
        PaddedPrompts::new(self.prompts.iter().map(|prompt| prompt.ids.as_slice()))
    }

    /// Tokens of each row, up to the first -1.
    fn expected(&self, name: &str) -> Vec<Vec<u32>> {
        let rows = Vec::<Vec<i64>>::try_from(&self.reference[name]).unwrap();
        rows.into_iter().map(|row| row.into_iter().map_while(|id| u32::try_from(id).ok()).collect()).collect()
    }

    fn generate(&mut self, config: &GenerationConfig) -> Vec<Generation> {
        generate(&mut self.model, &self.prompts, config, &mut |_| String::new(), &Silent).unwrap()
    }
}

fn tokens(generations: Vec<Generation>) -> Vec<Vec<u32>> {
    generations.into_iter().map(|generation| generation.tokens).collect()
}

fn difference(ours: &[f32], theirs: &Tensor) -> f64 {
    let worst = (Tensor::from_slice(ours) - theirs.reshape([-1])).abs().max().double_value(&[]);
    assert!(!worst.is_nan());
    worst
}

fn greedy() -> GenerationConfig {
    GenerationConfig { max_new_tokens: 9, eos_token_id: Some(vec![]), ..GenerationConfig::default() }
}

#[test]
fn scores_of_every_step_are_those_of_transformers() {
    for name in MODELS {
        for tokens_per_pass in [4096, 8, 1] {
            let mut case = Case::new(name);
            case.model.set_tokens_per_pass(tokens_per_pass);
            let expected = case.expected("greedy.tokens");
            let mut logits = case.model.begin(&case.padded()).unwrap();
            let mut worst: f64 = 0.0;
            for step in 0..expected[0].len() {
                worst = worst.max(difference(&logits.values, &case.reference["greedy.logits"].select(1, step as i64)));
                let next: Vec<u32> = expected.iter().map(|row| row[step]).collect();
                assert_eq!(logits.rows().map(|row| pipe_core::argmax(row) as u32).collect::<Vec<_>>(), next, "{name}, step {step}");
                logits = case.model.advance(&next).unwrap();
            }
            println!("{name}, {tokens_per_pass} tokens a pass: {worst:.1e}");
            assert!(worst < 1e-4, "{name}: scores differ by {worst:e}");
        }
    }
}

#[test]
fn tokens_are_those_of_transformers() {
    for name in MODELS {
        let mut case = Case::new(name);
        assert_eq!(tokens(case.generate(&greedy())), case.expected("greedy.tokens"), "{name}");
        let penalty = GenerationConfig { repetition_penalty: 1.3, no_repeat_ngram_size: Some(2), ..greedy() };
        assert_eq!(tokens(case.generate(&penalty)), case.expected("penalty.tokens"), "{name}");

        let eos: Vec<u32> = Vec::<i64>::try_from(&case.reference["eos"]).unwrap().into_iter().map(|id| id as u32).collect();
        let ended = case.generate(&GenerationConfig { eos_token_id: Some(eos.clone()), ..greedy() });
        for generation in &ended {
            let reason = if eos.contains(generation.tokens.last().unwrap()) { FinishReason::Eos } else { FinishReason::Length };
            assert_eq!(generation.finish_reason, reason, "{name}");
        }
        assert!(ended.iter().any(|generation| generation.tokens.len() < 9), "{name}: no row ends early");
        assert_eq!(tokens(ended), case.expected("eos.tokens"), "{name}: what is left of the batch goes on as before");
    }
}

#[test]
fn a_cache_changes_nothing_and_neither_does_the_batch() {
    for name in MODELS {
        let mut case = Case::new(name);
        let expected = case.expected("greedy.tokens");
        for (row, prompt) in case.prompts.clone().iter().enumerate() {
            let alone = generate(&mut case.model, std::slice::from_ref(prompt), &greedy(), &mut |_| String::new(), &Silent).unwrap();
            assert_eq!(alone[0].tokens, expected[row], "{name}");
            // The whole row anew for each token, as training reads it: no cache, no positions given.
            let mut ids: Vec<i64> = prompt.ids.iter().map(|&id| id.into()).collect();
            let model = Model::open_causal_lm(&fixture("families").join(name), Device::Cpu, false).unwrap();
            for (step, token) in expected[row].iter().enumerate() {
                let batch = pipe_core::Batch {
                    length: ids.len(),
                    rows: vec![0],
                    attention_mask: vec![1; ids.len()],
                    token_type_ids: vec![0; ids.len()],
                    input_ids: ids.clone(),
                    ..Default::default()
                };
                let last = model.forward(&batch, false).unwrap().select(1, ids.len() as i64 - 1);
                let gap =
                    difference(&Vec::<f32>::try_from(last.view(-1)).unwrap(), &case.reference["greedy.logits"].get(row as i64).get(step as i64));
                assert!(gap < 1e-4, "{name}, row {row}, step {step}: {gap:e}");
                ids.push((*token).into());
            }
        }
    }
}

#[test]
fn a_cache_grows_and_rows_leave_it_in_any_order() {
    let mut case = Case::new("llama-lm");
    let expected = case.expected("greedy.tokens");
    case.model.begin(&case.padded()).unwrap();
    let next: Vec<u32> = expected.iter().map(|row| row[0]).collect();
    case.model.advance(&next).unwrap();
    case.model.keep(&[3, 1]).unwrap();
    let logits = case.model.advance(&[expected[3][1], expected[1][1]]).unwrap();
    for (ours, row) in logits.rows().zip([3, 1]) {
        assert!(difference(ours, &case.reference["greedy.logits"].get(row).get(2)) < 1e-4);
    }

    // Longer than a cache is made at first; the positions are more than the fixture has.
    let config = ModelConfig { max_positions: 1000, ..ModelConfig::read(&fixture("families/llama-lm")).unwrap() };
    let (parameters, _) = weights::load(&fixture("families/llama-lm"), &config, Head::CausalLm, weights::Absent::Refused, Device::Cpu).unwrap();
    let open = || {
        let parameters = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let model = Model::new(config.clone(), Head::CausalLm, parameters, Device::Cpu, false);
        TorchGenerator::new(model, vec![]).unwrap()
    };
    let prompt = Prompt { row: 0, ids: vec![7, 8] };
    let config = GenerationConfig { max_new_tokens: 200, ..greedy() };
    let text = generate(&mut open(), &[prompt], &config, &mut |_| String::new(), &Silent).unwrap().remove(0).tokens;
    let whole: Vec<u32> = [7, 8].into_iter().chain(text[..199].iter().copied()).collect();
    let at_once = open().begin(&PaddedPrompts::new(std::iter::once(whole.as_slice()))).unwrap();
    assert_eq!(pipe_core::argmax(&at_once.values) as u32, text[199]);
}

#[test]
fn bfloat16_scores_nearly_the_same() {
    for name in MODELS {
        let case = Case::new(name);
        let mut half = TorchGenerator::open(&fixture("families").join(name), Device::Cpu, true).unwrap();
        half.begin(&case.padded()).unwrap();
        let first: Vec<u32> = case.expected("greedy.tokens").iter().map(|row| row[0]).collect();
        let logits = half.advance(&first).unwrap();
        let expected = case.reference["greedy.logits"].select(1, 1);
        let gap = difference(&logits.values, &expected) / expected.abs().max().double_value(&[]);
        assert!(gap < 0.15 && gap > 1e-6, "{name}: {gap:e}");
    }
}

#[test]
fn an_encoder_cannot_generate() {
    let folder = fixture("tiny-bert");
    assert!(TorchGenerator::open(&folder, Device::Cpu, false).is_err());
}

#[test]
fn a_reference_holds_what_was_generated() {
    let mut case = Case::new("gpt2-lm");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("reference.safetensors");
    let prompts: Vec<Vec<u32>> = case.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let summary = crate::write_generation_reference(&mut case.model, &prompts, 9, &out).unwrap();
    assert_eq!(summary.rows, 4);
    let written = tensors(&out);
    // Sorted by length.
    let order = Tensor::from_slice(&[2i64, 1, 3, 0]);
    assert_eq!(written["batch0.tokens"], case.reference["greedy.tokens"].index_select(0, &order));
    let gap = (&written["batch0.logits"] - case.reference["greedy.logits"].index_select(0, &order)).abs().max().double_value(&[]);
    assert!(gap < 1e-4, "{gap:e}");
    assert!(written["batch0.attention_mask"] == case.reference["attention_mask"].index_select(0, &order));
    // Sixteen positions: one token fewer than asked for.
    crate::write_generation_reference(&mut case.model, &prompts[..1], 20, &out).unwrap();
    assert_eq!(tensors(&out)["batch0.tokens"].size(), [1, 11]);
}

/// Tokens per second of a model as SmolLM2-135M with random weights: `cargo test --release -p pipe-train --lib speed -- --ignored
/// --nocapture`. `PIPE_SPEED_MODEL=DIR` keeps the model and a reference, for the test of that name in `pipe-onnx`.
#[test]
#[ignore = "measures tokens per second and asserts nothing; its doc comment has the command"]
fn speed() {
    let _alone = alone();
    tch::set_num_threads(std::env::var("PIPE_SPEED_THREADS").map_or(2, |threads| threads.parse().unwrap()));
    let raw = serde_json::json!({
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "intermediate_size": 1536, "max_position_embeddings": 8192, "tie_word_embeddings": true, "rope_theta": 100000.0,
    });
    let config = ModelConfig::from_json(raw.as_object().unwrap().clone()).unwrap();
    let prompts = |rows: u32| -> Vec<Prompt> {
        let ids = |row| (0..64).map(|at| (row * 977 + at * 131) % 49152).collect();
        (0..rows).map(|row| Prompt { row: row.into(), ids: ids(row) }).collect()
    };
    for bf16 in [false, true] {
        let parameters = weights::fresh(&config, Head::CausalLm, 1, Device::Cpu).unwrap();
        if let Some(folder) = std::env::var_os("PIPE_SPEED_MODEL").filter(|_| !bf16) {
            std::fs::create_dir_all(&folder).unwrap();
            weights::save(&parameters, &Path::new(&folder).join("model.safetensors")).unwrap();
            std::fs::write(Path::new(&folder).join("config.json"), raw.to_string()).unwrap();
        }
        let model = Model::new(config.clone(), Head::CausalLm, parameters, Device::Cpu, bf16);
        let mut model = TorchGenerator::new(model, vec![]).unwrap();
        let run = |model: &mut TorchGenerator, rows, tokens| {
            let started = std::time::Instant::now();
            let config = GenerationConfig { max_new_tokens: tokens, ..greedy() };
            generate(model, &prompts(rows), &config, &mut |_| String::new(), &Silent).unwrap();
            started.elapsed().as_secs_f64()
        };
        run(&mut model, 8, 2);
        for rows in [1, 8] {
            let (prefill, all) = (run(&mut model, rows, 1), run(&mut model, rows, 65));
            println!("bf16 {bf16}, batch {rows}: prompts of 64 in {prefill:.2} s, {:.1} tokens/s", f64::from(rows) * 64.0 / (all - prefill));
        }
        if let Some(folder) = std::env::var_os("PIPE_SPEED_MODEL").filter(|_| !bf16) {
            let ids: Vec<Vec<u32>> = prompts(8).into_iter().enumerate().map(|(at, prompt)| prompt.ids[at * 7..].to_vec()).collect();
            crate::write_generation_reference(&mut model, &ids, 8, &Path::new(&folder).join("reference.safetensors")).unwrap();
        }
    }
}
