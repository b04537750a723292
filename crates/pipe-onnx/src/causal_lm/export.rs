//! The export of a causal language model; the folder is that of [`export`](crate::export), with `generation_config.json` where the
//! model has one.

use std::path::Path;

use pipe_core::config::{ExportConfig, ExportFormat};
use pipe_core::native::NativeLibraries;
use pipe_core::provenance::Provenance;
use pipe_core::{IoContext, Progress, Result, Summary, digest};
use pipe_model::{GENERATION_CONFIG_FILE, Head, ModelConfig};

use super::generator::OrtGenerator;
use super::parity;
use crate::backend::OnnxBackend;
use crate::export::{copy_beside, note_parity, summary};
use crate::metadata;
use crate::weights::{Weights, map};
use crate::write::{DATA_FILE, INLINE_LIMIT, write};

/// Exports the folder `model` to `out` as optimum's `text-generation-with-past`, and compares the file that was written with what
/// libtorch generated: `reference` holds it, as `pipe_train::write_generation_reference` writes it. A score further off than the
/// tolerance is an error.
pub fn run(config: &ExportConfig, model: &Path, reference: &Path, native: &NativeLibraries, out: &Path, progress: &dyn Progress) -> Result<Summary> {
    match config.format {
        ExportFormat::Onnx => {}
    }
    let shape = ModelConfig::read(model)?;
    write_model(&shape, &Provenance::read(model)?, model, out)?;
    copy_beside(model, out)?;
    let generation = model.join(GENERATION_CONFIG_FILE);
    if generation.exists() {
        std::fs::copy(&generation, out.join(GENERATION_CONFIG_FILE)).doing("copy", &generation)?;
    }

    // On the file that was written, read back: what is in memory here proves nothing about it.
    let mut generator = OrtGenerator::open_unchecked(out, native, None)?;
    let parity = parity::compare(&mut generator, reference, &config.parity, progress)?;
    drop(generator);
    note_parity(out, &parity)?;
    // The last bytes came after the comparison; that the file still loads is seen here and not at its first use.
    OrtGenerator::open(out, native, Some(1))?;
    Ok(summary(out, parity.rows, parity.max_abs_diff, &format!("{} tokens", parity.tokens)))
}

/// Records the forward pass and writes it into `out`.
fn write_model(shape: &ModelConfig, provenance: &Provenance, model: &Path, out: &Path) -> Result<()> {
    shape.check_generates()?;
    let path = model.join("model.safetensors");
    let mapped = map(&path)?;
    let weights = Weights::load(&mapped, &path, shape, Head::CausalLm)?;
    let mut backend = OnnxBackend::new(&weights);
    let inputs = backend.cached_inputs(shape);
    let logits = Head::CausalLm.forward(&backend, shape, &inputs)?;
    let (graph, initializers) = backend.finish(&[("logits", logits)], shape.raw["model_type"].as_str().unwrap_or("model"))?;
    let metadata = [
        (metadata::TASK, "text-generation-with-past".into()),
        (metadata::MAX_LENGTH, provenance.tokenize.max_length.to_string()),
        (metadata::PADDING_SIDE, "left".into()),
        (metadata::TOKENIZER, provenance.tokenize.tokenizer.clone()),
        (metadata::SCRUB, provenance.scrub_digest.clone()),
        (metadata::WEIGHTS, digest::of_file(&path)?),
    ];
    // Left there by an earlier try, it would stand beside a model that does not read it.
    let data = out.join(DATA_FILE);
    if data.exists() {
        std::fs::remove_file(&data).doing("remove", &data)?;
    }
    write(out, &graph, &initializers, &metadata, INLINE_LIMIT)
}
