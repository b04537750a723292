//! Any exported token-classification model through ONNX Runtime: scores per token and tag.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{TensorElementType, TensorRef};
use pipe_core::native::NativeLibraries;
use pipe_core::{Batch, Error, Logits, Result};

use crate::session::{Input, inputs, load, reason, runtime};
use crate::write::MODEL_FILE;

/// A model of tokens, loaded. Shared by all threads: each computes alone, so that a score depends on its batch and on
/// nothing else.
pub struct TokenClassifier {
    environment: &'static Environment,
    path: PathBuf,
    inputs: Vec<Input>,
    labels: usize,
    /// Those that no thread uses now. One more is loaded where there is none.
    idle: Mutex<Vec<Session>>,
}

impl TokenClassifier {
    /// Loads `folder/model.onnx`, which scores `labels` tags.
    pub fn open(folder: &Path, native: &NativeLibraries, labels: usize) -> Result<TokenClassifier> {
        let path = folder.join(MODEL_FILE);
        let environment = runtime(native)?;
        let session = session(environment, &path)?;
        let inputs = inputs(&session, &path)?;
        let output = session.outputs().iter().find(|outlet| outlet.name() == "logits");
        let Some(output) = output.filter(|outlet| outlet.dtype().tensor_type() == Some(TensorElementType::Float32)) else {
            return Err(Error::input(format!("{} gives no float32 output `logits`", path.display())));
        };
        match output.dtype().tensor_shape().map(|shape| &shape[..]) {
            // Below zero is a symbolic axis.
            Some(&[_, _, tags]) if tags < 0 || tags == labels as i64 => {}
            Some(&[_, _, tags]) => {
                return Err(Error::input(format!("{} scores {tags} tags, config.json names {labels}", path.display())));
            }
            _ => {
                return Err(Error::input(format!("{}: `logits` is not [rows, tokens, tags]", path.display()))
                    .hint("the model must be one for token classification"));
            }
        }
        Ok(TokenClassifier { environment, path, inputs, labels, idle: Mutex::new(vec![session]) })
    }

    /// One row of scores for each token slot of `batch`, padding included, row by row.
    pub fn score(&self, batch: &Batch) -> Result<Logits> {
        let (rows, length) = (batch.rows.len(), batch.length);
        if rows == 0 || length == 0 {
            return Err(Error::internal("an empty batch was to be scored"));
        }
        let idle = self.idle.lock().expect("no panic while locked").pop();
        let mut session = idle.map_or_else(|| session(self.environment, &self.path), Ok)?;
        let failed = |e: ort::Error| Error::stage(format!("ONNX Runtime failed on {rows} rows of {length} tokens: {}", reason(&e.to_string())));
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            values.push((input.name(), TensorRef::from_array_view(([rows, length], input.of(batch))).map_err(failed)?.into()));
        }
        let outputs = session.run(values).map_err(failed)?;
        let (shape, logits) = outputs["logits"].try_extract_tensor::<f32>().map_err(failed)?;
        if shape[..] != [rows as i64, length as i64, self.labels as i64] {
            return Err(Error::stage(format!("the model gave scores of shape {shape} for {rows} rows of {length} tokens and {} tags", self.labels)));
        }
        let scores = Logits { classes: self.labels, values: logits.to_vec() };
        drop(outputs);
        self.idle.lock().expect("no panic while locked").push(session);
        Ok(scores)
    }
}

fn session(environment: &Environment, path: &Path) -> Result<Session> {
    load(environment, path, 1).map_err(|e| {
        Error::input(format!("{} cannot be loaded: {}", path.display(), reason(&e.to_string())))
            .hint("the file is damaged or was made for another runtime; export the model again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Dim, Graph, Initializer};
    use crate::proto::DataType;
    use crate::testing::native;
    use crate::write::{INLINE_LIMIT, write};

    /// Tags of the words of `tests/fixtures/tiny-ner/tokenizer.json`: O, B-PER, I-PER, B-LOC.
    const TAGS: [usize; 12] = [0, 0, 0, 0, 1, 2, 3, 1, 2, 0, 0, 0];
    const LABELS: usize = 4;

    /// A model that tags each word by itself: one look-up.
    fn look_up(folder: &Path) {
        let mut graph = Graph::default();
        let (rows, tokens) = (Dim::Symbol("batch_size"), Dim::Symbol("sequence_length"));
        let ids = graph.input("input_ids", DataType::Int64, &[rows, tokens]);
        graph.input("attention_mask", DataType::Int64, &[rows, tokens]);
        let scores: Vec<f32> = TAGS.iter().flat_map(|tag| (0..LABELS).map(move |at| if at == *tag { 4.0 } else { 0.0 })).collect();
        let table = graph.initializer("tags", || Initializer {
            name: "tags".into(),
            kind: DataType::Float,
            dims: vec![TAGS.len() as i64, LABELS as i64],
            data: scores.iter().flat_map(|score| score.to_le_bytes()).collect(),
            transposed: false,
        });
        let logits = graph.node("Gather", "look_up", &[&table, &ids.name], vec![], DataType::Float, &[rows, tokens, Dim::Size(LABELS as i64)]);
        graph.output(&logits, "logits").unwrap();
        let (graph, initializers) = graph.finish("tiny-ner");
        write(folder, &graph, &initializers, &[], INLINE_LIMIT).unwrap();
    }

    /// `PIPE_WRITE_FIXTURES=1` writes it.
    #[test]
    fn the_fixture_is_this_model() {
        let folder = tempfile::tempdir().unwrap();
        look_up(folder.path());
        let made = std::fs::read(folder.path().join(MODEL_FILE)).unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny-ner").join(MODEL_FILE);
        if std::env::var_os("PIPE_WRITE_FIXTURES").is_some() {
            std::fs::write(&fixture, &made).unwrap();
        }
        assert!(std::fs::read(&fixture).unwrap() == made, "{} is another model", fixture.display());
    }

    #[test]
    fn every_token_gets_its_scores_whatever_is_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        look_up(folder.path());
        let classifier = TokenClassifier::open(folder.path(), &native(), LABELS).unwrap();
        let score = |ids: Vec<Vec<i64>>| {
            let batch = Batch {
                length: ids[0].len(),
                rows: (0..ids.len()).collect(),
                attention_mask: ids.iter().flatten().map(|_| 1).collect(),
                token_type_ids: ids.iter().flatten().map(|_| 0).collect(),
                input_ids: ids.into_iter().flatten().collect(),
                ..Batch::default()
            };
            classifier.score(&batch)
        };
        let scores = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| score(vec![vec![2, 4, 5], vec![6, 9, 0]]).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(scores.iter().all(|each| *each == scores[0]));
        let best: Vec<usize> = scores[0].rows().map(pipe_core::argmax).collect();
        assert_eq!(best, [0, 1, 2, 3, 0, 0]);
        // A token outside the vocabulary is an error, and the session after it works.
        assert!(score(vec![vec![99]]).is_err());
        assert!(score(vec![vec![4]]).is_ok());
    }

    #[test]
    fn a_model_of_other_tags_or_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        look_up(folder.path());
        let open = |labels| TokenClassifier::open(folder.path(), &native(), labels).err().unwrap().message;
        assert!(open(3).contains("scores 4 tags, config.json names 3"));
        std::fs::write(folder.path().join(MODEL_FILE), "no graph").unwrap();
        assert!(open(LABELS).contains("cannot be loaded"));
    }
}
