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
