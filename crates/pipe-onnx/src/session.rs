//! Asks an exported model through ONNX Runtime.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{TensorElementType, TensorRef};
use pipe_core::native::NativeLibraries;
use pipe_core::provenance::{self, Provenance};
use pipe_core::{Batch, Error, Logits, Predictor, Result};

use crate::metadata;
use crate::scores::Scores;
use crate::write::MODEL_FILE;

/// An exported model, loaded.
///
/// A folder is refused where its `model.onnx` and its `pipe.json` name different tasks, labels, tokenizers or scrub
/// policies: every score would look right and mean something else.
pub struct OrtPredictor {
    session: Session,
    /// What the graph reads, in its order.
    inputs: Vec<Input>,
    scores: Scores,
    provenance: Provenance,
    /// For a run that gives memory back.
    shrink: RunOptions,
    /// Slots (rows × length) of the largest batch whose memory is still held.
    held_slots: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Ids,
    Mask,
    Types,
}

impl Input {
    fn named(name: &str) -> Option<Input> {
        [Input::Ids, Input::Mask, Input::Types].into_iter().find(|input| input.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Input::Ids => "input_ids",
            Input::Mask => "attention_mask",
            Input::Types => "token_type_ids",
        }
    }

    pub(crate) fn of(self, batch: &Batch) -> &[i64] {
        match self {
            Input::Ids => &batch.input_ids,
            Input::Mask => &batch.attention_mask,
            Input::Types => &batch.token_type_ids,
        }
    }
}

/// Loads ONNX Runtime the first time, and says the same every time after.
pub(crate) fn runtime(native: &NativeLibraries) -> Result<&'static Environment> {
    static RUNTIME: OnceLock<Result<Environment, String>> = OnceLock::new();
    let library = native.onnxruntime_library()?;
    let loaded = RUNTIME.get_or_init(|| {
        let builder = ort::init_from(&library).map_err(|e| e.to_string())?;
        let environment = builder.with_name("pipe").with_telemetry(false).build().map_err(|e| e.to_string())?;
        // What goes wrong comes back as an error; it is not also printed.
        environment.set_log_level(LogLevel::Fatal);
        Ok(environment)
    });
    loaded.as_ref().map_err(|e| Error::stage(format!("ONNX Runtime cannot be loaded: {}", reason(e))).hint("in a checkout run `cargo xtask setup`"))
}

impl OrtPredictor {
    /// Loads `folder/model.onnx`, to compute with `threads` threads (absent: one per core that this process may use).
    pub fn open(folder: &Path, native: &NativeLibraries, threads: Option<usize>) -> Result<OrtPredictor> {
        let predictor = OrtPredictor::open_unchecked(folder, native, threads)?;
        // Export adds it last, once the file was read back and compared.
        if predictor.metadata(metadata::PARITY)?.is_none() {
            return Err(Error::input(format!("{} was never compared with the trained model", folder.join(MODEL_FILE).display()))
                .hint("the file was cut short or its export did not end; export again"));
        }
        Ok(predictor)
    }

    /// As [`open`](OrtPredictor::open), for the export that compares the model before it says so in it.
    pub(crate) fn open_unchecked(folder: &Path, native: &NativeLibraries, threads: Option<usize>) -> Result<OrtPredictor> {
        let path = folder.join(MODEL_FILE);
        if !path.is_file() {
            return Err(Error::input(format!("{} has no {MODEL_FILE}", folder.display())).hint("give a folder that pipe's export stage made"));
        }
        let provenance = Provenance::read(folder)?;
        let scores = Scores::of(&provenance)?;
        let environment = runtime(native)?;
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let session = load(environment, &path, threads).map_err(|e| {
            Error::input(format!("{} cannot be loaded: {}", path.display(), reason(&e.to_string())))
                .hint("the file is damaged or was made for another runtime; export the model again")
        })?;
        let inputs = inputs(&session, &path)?;
        check_task(&session, &path, &provenance)?;
        scores.check(&session, &path)?;
        let mut shrink = RunOptions::new().map_err(internal)?;
        shrink.set("memory.enable_memory_arena_shrinkage", "cpu:0").map_err(internal)?;
        let predictor = OrtPredictor { session, inputs, scores, provenance, shrink, held_slots: 0 };
        predictor.check_provenance(&path)?;
        Ok(predictor)
    }

    pub(crate) fn scores(&self) -> Scores {
        self.scores
    }

    /// How texts are scrubbed and cut for this model, and its labels.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    fn metadata(&self, key: &str) -> Result<Option<String>> {
        Ok(self.session.metadata().map_err(internal)?.custom(key))
    }

    fn check_provenance(&self, path: &Path) -> Result<()> {
        let labels = serde_json::to_string(&self.provenance.labels).expect("plain data");
        let task = self.provenance.task.name().to_owned();
        let expected = [
            (metadata::TASK, &task, "tasks"),
            (metadata::LABELS, &labels, "labels"),
            (metadata::TOKENIZER, &self.provenance.tokenize.tokenizer, "tokenizers"),
            (metadata::SCRUB, &self.provenance.scrub_digest, "scrub policies"),
        ];
        for (key, ours, what) in expected {
            let error = match self.metadata(key)? {
                Some(value) if value == *ours => continue,
                Some(_) => format!("{} and the {} beside it name different {what}", path.display(), provenance::FILE_NAME),
                None => format!("{} does not say its {what}", path.display()),
            };
            return Err(Error::input(error).hint("give a folder as pipe's export stage made it, or export again"));
        }
        Ok(())
    }
}

/// Before anything else of the graph is looked at: what follows from another task would be a riddle.
fn check_task(session: &Session, path: &Path, provenance: &Provenance) -> Result<()> {
    match session.metadata().map_err(internal)?.custom(metadata::TASK) {
        Some(task) if task != provenance.task.name() => Err(Error::input(format!(
            "{} is a model for {task}, the {} beside it is of one for {}",
            path.display(),
            provenance::FILE_NAME,
            provenance.task.name()
        ))
        .hint("give a folder as pipe's export stage made it, or export again")),
        _ => Ok(()),
    }
}

pub(crate) fn load(environment: &Environment, path: &Path, threads: usize) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_log_level(LogLevel::Fatal)?
        .with_intra_threads(threads)?
        // The fused kernel is slower than the two it replaces: 6 to 10 % of a whole run on the CPU, with 1.30.
        .with_disabled_optimizers("SkipLayerNormFusion")?
        .with_no_environment_execution_providers()?
        .commit_from_file(path)
}

/// What the graph reads; an error if there is anything that a [`Batch`] has not.
pub(crate) fn inputs(session: &Session, path: &Path) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for outlet in session.inputs() {
        let known = Input::named(outlet.name()).filter(|_| outlet.dtype().tensor_type() == Some(TensorElementType::Int64));
        let Some(input) = known else {
            return Err(Error::input(format!(
                "{} reads `{}` as {}, which is no input of a text encoder",
                path.display(),
                outlet.name(),
                outlet.dtype()
            ))
            .hint("int64 input_ids, attention_mask and token_type_ids are known"));
        };
        inputs.push(input);
    }
    match [Input::Ids, Input::Mask].into_iter().find(|input| !inputs.contains(input)) {
        Some(missing) => Err(Error::input(format!("{} has no input `{}`", path.display(), missing.name()))),
        None => Ok(inputs),
    }
}

impl Predictor for OrtPredictor {
    fn predict(&mut self, batch: &Batch) -> Result<Logits> {
        let rows = batch.rows.len();
        if rows == 0 || batch.length == 0 {
            return Err(Error::internal("an empty batch was to be predicted"));
        }
        let failed =
            |e: ort::Error| Error::stage(format!("ONNX Runtime failed on {rows} rows of {} tokens: {}", batch.length, reason(&e.to_string())));
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            values.push((input.name(), TensorRef::from_array_view(([rows, batch.length], input.of(batch))).map_err(failed)?.into()));
        }
        // ONNX Runtime keeps the most memory that any batch took. Giving it back after each costs 3 to 17 % (its pages
        // come anew for the next), so that is done once batches have become much smaller.
        let slots = rows * batch.length;
        let shrinks = slots <= self.held_slots / 4;
        self.held_slots = if shrinks { slots } else { self.held_slots.max(slots) };
        let outputs = if shrinks { self.session.run_with_options(values, &self.shrink) } else { self.session.run(values) }.map_err(failed)?;
        self.scores.read(&outputs, batch)
    }
}

fn internal(error: ort::Error) -> Error {
    Error::internal(format!("ONNX Runtime: {}", reason(&error.to_string())))
}

/// What ONNX Runtime says, without the file's name, the place in its own source and a stack trace.
pub(crate) fn reason(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split_once(" failed:").map_or(line, |(_, reason)| reason);
    let line = if line.starts_with('/') { line.rsplit_once(") ").map_or(line, |(_, reason)| reason) } else { line };
    line.trim()
}

impl fmt::Debug for OrtPredictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrtPredictor").field("inputs", &self.inputs).field("labels", &self.provenance.labels).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tiny, native, provenance};
    use pipe_core::Task;

    #[test]
    fn a_batch_of_one_and_padded_batches_score_as_the_plain_loops_do() {
        for activation in ["gelu", "gelu_new", "relu", "silu"] {
            let tiny = Tiny::new(activation);
            tiny.export(&tiny.out()).unwrap();
            let mut predictor = OrtPredictor::open(&tiny.out(), &native(), Some(1)).unwrap();
            for batch in &tiny.batches {
                let logits = predictor.predict(batch).unwrap();
                assert_eq!((logits.classes, logits.rows().count()), (3, batch.rows.len()));
                for (ours, theirs) in logits.values.iter().zip(tiny.logits(batch)) {
                    assert!((f64::from(*ours) - theirs).abs() < 1e-5, "{activation}, length {}: {ours} {theirs}", batch.length);
                }
            }
            assert!(predictor.predict(&Batch::default()).is_err());
        }
    }

    #[test]
    fn a_row_of_nothing_but_padding_is_still_a_number() {
        let tiny = Tiny::new("gelu");
        tiny.export(&tiny.out()).unwrap();
        let mut predictor = OrtPredictor::open(&tiny.out(), &native(), None).unwrap();
        let mut batch = tiny.batches[0].clone();
        batch.attention_mask.fill(0);
        assert!(predictor.predict(&batch).unwrap().values.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_an_error_of_one_line() {
        let tiny = Tiny::new("gelu");
        tiny.export(&tiny.out()).unwrap();
        let mut predictor = OrtPredictor::open(&tiny.out(), &native(), None).unwrap();
        let mut batch = tiny.batches[0].clone();
        batch.input_ids[0] = 1000;
        let error = predictor.predict(&batch).unwrap_err();
        assert!(error.message.starts_with("ONNX Runtime failed on 3 rows of 9 tokens: ") && !error.message.contains('\n'), "{error}");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_in_one_line() {
        let tiny = Tiny::new("gelu");
        tiny.export(&tiny.out()).unwrap();
        let path = tiny.out().join(MODEL_FILE);
        let whole = std::fs::read(&path).unwrap();
        let parity =
            serde_json::to_string(&serde_json::from_slice::<serde_json::Value>(&std::fs::read(tiny.out().join("parity.json")).unwrap()).unwrap())
                .unwrap();
        // Within the weights, within what was appended, just before that, and nothing at all.
        let before_parity = whole.len() - parity.len() - "parity".len() - 6;
        for len in [whole.len() / 2, whole.len() - 3, before_parity, 100, 0] {
            std::fs::write(&path, &whole[..len]).unwrap();
            let error = OrtPredictor::open(&tiny.out(), &native(), None).unwrap_err();
            assert_eq!(error.class, pipe_core::Class::Input);
            assert!(error.message.contains(MODEL_FILE) && !error.message.contains('\n') && !error.message.contains("::"), "{len}: {error}");
            assert_eq!(error.message.contains("never compared"), len == before_parity, "{len}: {error}");
        }
    }

    #[test]
    fn a_folder_put_together_from_two_models_is_refused() {
        let tiny = Tiny::new("gelu");
        tiny.export(&tiny.out()).unwrap();
        let opened = |change: fn(&mut Provenance)| {
            let mut other = provenance();
            change(&mut other);
            other.write(&tiny.out()).unwrap();
            OrtPredictor::open(&tiny.out(), &native(), None)
        };
        assert!(opened(|_| ()).is_ok());
        for (change, named) in [
            ((|p| p.labels.swap(0, 1)) as fn(&mut Provenance), "labels"),
            (|p| p.tokenize.tokenizer = "another".into(), "tokenizers"),
            (|p| p.scrub_digest = "another".into(), "scrub policies"),
            (|p| p.labels.truncate(2), "3 classes"),
            (
                |p| p.task = Task::MultiLabelClassification,
                "is a model for sequence-classification, the pipe.json beside it is of one for multi-label",
            ),
            (|p| p.task = Task::TokenClassification, "of one for token-classification"),
        ] {
            let error = opened(change).unwrap_err();
            assert!(error.class == pipe_core::Class::Input && error.message.contains(named), "{error}");
        }
        std::fs::remove_file(tiny.out().join(MODEL_FILE)).unwrap();
        assert!(opened(|_| ()).unwrap_err().message.contains("has no model.onnx"));
    }
}
