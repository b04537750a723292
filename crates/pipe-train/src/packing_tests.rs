//! Documents that share a row: each must be scored, and learned, as if it were alone.

use std::collections::BTreeMap;

use pipe_core::config::TrainConfig;
use pipe_core::{Batch, Labels, Predictor, Task};
use tch::{Device, Tensor};

use crate::loss::Loss;
use crate::model::Model;
use crate::testing::{fixture, norm};

const FAMILIES: [&str; 5] = ["gpt2-lm", "llama-lm", "llama-bias-lm", "mistral-lm", "qwen2-lm"];

/// Documents one after the other in one row, padded to `length`; every token but the first of each is to be predicted.
fn packed(documents: &[Vec<i64>], length: usize) -> Batch {
    let mut batch = Batch { length, rows: vec![0], ..Batch::default() };
    let (mut slots, mut labels) = (Vec::new(), Vec::new());
    for (number, document) in documents.iter().enumerate() {
        let first = batch.input_ids.len();
        slots.extend((first..first + document.len() - 1).map(|at| at as i64));
        labels.extend(&document[1..]);
        batch.input_ids.extend(document);
        batch.attention_mask.extend(std::iter::repeat_n(number as i64 + 1, document.len()));
    }
    batch.input_ids.resize(length, 0);
    batch.attention_mask.resize(length, 0);
    batch.token_type_ids.resize(length, 0);
    (batch.slots, batch.labels) = (Some(slots), Labels::Classes(labels));
    batch
}

fn documents() -> Vec<Vec<i64>> {
    [4usize, 2, 5, 3].iter().enumerate().map(|(nr, &length)| (0..length).map(|at| ((nr * 7 + at * 5) % 19 + 3) as i64).collect()).collect()
}

fn model(name: &str) -> Model {
    let mut model = Model::open(&fixture("families").join(name), Device::Cpu, false).unwrap();
    model.config.set_dropout(0.0);
    model
}

#[test]
fn tokens_of_a_packed_row_are_scored_as_in_their_document_alone() {
    for name in FAMILIES {
        let mut model = model(name);
        let documents = documents();
        let together = model.token_scores(&packed(&documents, 16)).unwrap();
        let alone: Vec<f32> = documents
            .iter()
            .flat_map(|document| model.token_scores(&packed(std::slice::from_ref(document), document.len())).unwrap().log_probabilities)
            .collect();
        assert_eq!(together.log_probabilities.len(), alone.len());
        let worst = together.log_probabilities.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{name}: {worst:e}");
        // With one number for all, documents would see one another.
        let mut leaking = packed(&documents, 16);
        leaking.attention_mask.iter_mut().for_each(|number| *number = (*number).min(1));
        let leaked = model.token_scores(&leaking).unwrap();
        assert!(leaked.log_probabilities.iter().zip(&alone).any(|(a, b)| (a - b).abs() > 1e-3), "{name}: the test sees no leak");
    }
}

#[test]
fn a_packed_row_gives_the_gradients_of_its_documents() {
    for name in FAMILIES {
        let gradients = |batches: &[Batch]| -> BTreeMap<String, Tensor> {
            let model = model(name);
            for parameter in model.parameters.values() {
                let _ = parameter.set_requires_grad(true);
            }
            let loss = Loss::new(&TrainConfig::default(), Task::CausalLm, &[], &[]).unwrap();
            for batch in batches {
                loss.sum(&model.forward(batch, true).unwrap(), batch).unwrap().backward();
            }
            model.parameters.iter().map(|(name, parameter)| (name.clone(), parameter.grad())).collect()
        };
        let documents = documents();
        let together = gradients(&[packed(&documents, 16)]);
        let alone = gradients(&documents.iter().map(|document| packed(std::slice::from_ref(document), document.len())).collect::<Vec<_>>());
        let all = alone.values().map(|gradient| norm(gradient).powi(2)).sum::<f64>().sqrt();
        for (parameter, expected) in &alone {
            let error = norm(&(&together[parameter] - expected));
            assert!(error <= 1e-4 * norm(expected) + 1e-6 * all, "{name}: {parameter} differs by {error:e}");
        }
    }
}
