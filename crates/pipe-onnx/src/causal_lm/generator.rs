//! [`OrtGenerator`]: a language model that generates in ONNX Runtime, with a cache of keys and values.

use std::path::Path;

use ort::memory::Allocator;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType, TensorRef};
use pipe_core::generate::{LanguageModel, PaddedPrompts, Slots};
use pipe_core::native::NativeLibraries;
use pipe_core::provenance::{self, Provenance};
use pipe_core::{Error, Logits, Result};
use pipe_model::{ModelConfig, eos_token_ids};

use super::record::{past_name, present_name};
use crate::metadata;
use crate::session::{load, reason, runtime};
use crate::write::MODEL_FILE;

/// Scores that one pass may give. The graph has those of every token, of which generation needs the last; longer prompts are read
/// piece by piece. 64 MiB.
const SCORES_PER_PASS: usize = 1 << 24;

/// Tokens, padding included, that one pass reads, for the scores of attention.
const TOKENS_PER_PASS: usize = 4096;

/// An exported causal language model with what it read last.
pub struct OrtGenerator {
    session: Session,
    config: ModelConfig,
    provenance: Provenance,
    eos_token_ids: Vec<u32>,
    /// What the graph calls the keys and values of each layer, as inputs and as outputs.
    names: Vec<(String, String)>,
    /// Their tensors, in that order, as the last pass gave them: they go into the next one as they are.
    past: Vec<DynValue>,
    slots: Slots,
    tokens_per_pass: usize,
}

impl OrtGenerator {
    /// Loads what [`run_causal_lm`](crate::export::run_causal_lm) wrote into `folder`, to compute with `threads` threads (absent: one
    /// per core that this process may use).
    pub fn open(folder: &Path, native: &NativeLibraries, threads: Option<usize>) -> Result<OrtGenerator> {
        let generator = OrtGenerator::open_unchecked(folder, native, threads)?;
        // Export adds it last, once the file was read back and compared.
        if generator.metadata(metadata::PARITY)?.is_none() {
            return Err(Error::input(format!("{} was never compared with the trained model", folder.join(MODEL_FILE).display()))
                .hint("the file was cut short or its export did not end; export again"));
        }
        Ok(generator)
    }

    /// As [`open`](OrtGenerator::open), for the export that compares the model before it says so in it.
    pub(super) fn open_unchecked(folder: &Path, native: &NativeLibraries, threads: Option<usize>) -> Result<OrtGenerator> {
        let path = folder.join(MODEL_FILE);
        if !path.is_file() {
            return Err(Error::input(format!("{} has no {MODEL_FILE}", folder.display())).hint("give a folder that pipe's export stage made"));
        }
        let (config, provenance) = (ModelConfig::read(folder)?, Provenance::read(folder)?);
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let session = load(runtime(native)?, &path, threads).map_err(|e| {
            Error::input(format!("{} cannot be loaded: {}", path.display(), reason(&e.to_string())))
                .hint("the file is damaged or was made for another runtime; export the model again")
        })?;
        let parts = (0..config.layers).flat_map(|layer| ["key", "value"].map(|part| (past_name(layer, part), present_name(layer, part))));
        let names: Vec<(String, String)> = parts.collect();
        check_names(&session, &names, &path)?;
        let eos_token_ids = eos_token_ids(folder, &config)?;
        let (past, slots) = (Vec::new(), Slots::default());
        let generator = OrtGenerator { session, config, provenance, eos_token_ids, names, past, slots, tokens_per_pass: TOKENS_PER_PASS };
        generator.check_provenance(&path)?;
        Ok(generator)
    }

    /// How texts are scrubbed and cut for this model.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    fn metadata(&self, key: &str) -> Result<Option<String>> {
        Ok(self.session.metadata().map_err(internal)?.custom(key))
    }

    /// A folder put together from two models would generate, and mean something else.
    fn check_provenance(&self, path: &Path) -> Result<()> {
        let expected = [
            (metadata::TOKENIZER, &self.provenance.tokenize.tokenizer, "tokenizers"),
            (metadata::SCRUB, &self.provenance.scrub_digest, "scrub policies"),
        ];
        for (key, ours, what) in expected {
            if self.metadata(key)?.is_none_or(|value| value != *ours) {
                return Err(Error::input(format!("{} and the {} beside it name different {what}", path.display(), provenance::FILE_NAME))
                    .hint("give a folder as pipe's export stage made it, or export again"));
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn set_tokens_per_pass(&mut self, tokens: usize) {
        self.tokens_per_pass = tokens;
    }

    /// The scores after `ids`, the tokens at the places `begin..end` of each row, whose keys and values become the past.
    fn pass(&mut self, ids: &[i64], begin: usize, end: usize) -> Result<Logits> {
        let (rows, length) = (self.slots.rows(), end - begin);
        let failed = |e: ort::Error| Error::stage(format!("ONNX Runtime failed on {rows} rows of {end} tokens: {}", reason(&e.to_string())));
        let (mask, positions) = (self.slots.attention_mask(end), self.slots.position_ids(begin, end));
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(3 + self.past.len());
        for (name, length, matrix) in [("input_ids", length, ids), ("attention_mask", end, &mask), ("position_ids", length, &positions)] {
            values.push((name, TensorRef::from_array_view(([rows, length], matrix)).map_err(failed)?.into()));
        }
        values.extend(self.names.iter().zip(std::mem::take(&mut self.past)).map(|((past, _), value)| (past.as_str(), value.into())));
        let mut outputs = self.session.run(values).map_err(failed)?;
        for (_, present) in &self.names {
            let value = outputs.remove(present).ok_or_else(|| Error::internal(format!("ONNX Runtime gave no {present}")))?;
            self.past.push(value);
        }
        let (shape, logits) = outputs["logits"].try_extract_tensor::<f32>().map_err(failed)?;
        let classes = self.config.vocab_size as usize;
        if shape[..] != [rows as i64, length as i64, classes as i64] {
            return Err(Error::stage(format!("the model gave scores of shape {shape} for {rows} rows of {length} tokens")));
        }
        let last = logits.chunks_exact(length * classes).flat_map(|row| &row[(length - 1) * classes..]);
        Ok(Logits { classes, values: last.copied().collect() })
    }
}

/// The graph of another task, or of other layers, would fail at its first use with less to say.
fn check_names(session: &Session, names: &[(String, String)], path: &Path) -> Result<()> {
    let floats = [TensorElementType::Float32];
    let integers = [TensorElementType::Int64];
    let inputs = ["input_ids", "attention_mask", "position_ids"].map(|name| (name, &integers));
    let inputs = inputs.into_iter().chain(names.iter().map(|(past, _)| (past.as_str(), &floats)));
    let outputs = std::iter::once("logits").chain(names.iter().map(|(_, present)| present.as_str()));
    for (name, kinds) in inputs {
        let found = session.inputs().iter().find(|outlet| outlet.name() == name);
        if found.and_then(|outlet| outlet.dtype().tensor_type()).is_none_or(|kind| !kinds.contains(&kind)) {
            return Err(not_generating(path, &format!("has no input `{name}` of the right type")));
        }
    }
    if session.inputs().len() != 3 + names.len() {
        return Err(not_generating(path, &format!("reads {} values where {} are known", session.inputs().len(), 3 + names.len())));
    }
    for name in outputs {
        let found = session.outputs().iter().find(|outlet| outlet.name() == name);
        if found.and_then(|outlet| outlet.dtype().tensor_type()) != Some(TensorElementType::Float32) {
            return Err(not_generating(path, &format!("gives no float32 output `{name}`")));
        }
    }
    Ok(())
}

fn not_generating(path: &Path, what: &str) -> Error {
    Error::input(format!("{} {what}", path.display()))
        .hint("give a causal language model as pipe's export stage writes it, with the config.json beside it")
}

impl LanguageModel for OrtGenerator {
    fn max_length(&self) -> usize {
        self.config.max_length() as usize
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    fn begin(&mut self, prompts: &PaddedPrompts) -> Result<Logits> {
        self.slots = prompts.slots.clone();
        let nothing = [prompts.rows() as i64, self.config.decoder.kv_heads, 0, self.config.head_dim];
        let empty = |_: &(String, String)| Ok(Tensor::<f32>::new(&Allocator::default(), nothing).map_err(internal)?.into_dyn());
        self.past = self.names.iter().map(empty).collect::<Result<_>>()?;
        let slots = self.tokens_per_pass.min(SCORES_PER_PASS / self.config.vocab_size as usize);
        let mut logits = Logits { classes: self.config.vocab_size as usize, values: Vec::new() };
        for (begin, end, ids) in prompts.pieces(slots) {
            logits = self.pass(&ids, begin, end)?;
        }
        Ok(logits)
    }

    fn advance(&mut self, next: &[u32]) -> Result<Logits> {
        let begin = self.slots.length();
        self.slots.push();
        let ids: Vec<i64> = next.iter().map(|&id| id.into()).collect();
        self.pass(&ids, begin, begin + 1)
    }

    fn keep(&mut self, rows: &[usize]) -> Result<()> {
        self.slots.keep(rows);
        for past in &mut self.past {
            let (shape, values) = past.try_extract_tensor::<f32>().map_err(internal)?;
            let size = shape[1..].iter().product::<i64>() as usize;
            let kept: Vec<f32> = rows.iter().flat_map(|&row| &values[row * size..(row + 1) * size]).copied().collect();
            let shape = [rows.len() as i64, shape[1], shape[2], shape[3]];
            *past = Tensor::from_array((shape, kept)).map_err(internal)?.into_dyn();
        }
        Ok(())
    }
}

fn internal(error: ort::Error) -> Error {
    Error::internal(format!("ONNX Runtime: {}", reason(&error.to_string())))
}

impl std::fmt::Debug for OrtGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrtGenerator").field("layers", &self.config.layers).finish_non_exhaustive()
    }
}
