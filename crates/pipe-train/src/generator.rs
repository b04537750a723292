//! [`TorchGenerator`]: a language model that generates in libtorch, with a cache of keys and values.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use pipe_core::generate::{LanguageModel, PaddedPrompts, Slots};
use pipe_core::{Error, Logits, Result};
use pipe_model::{ModelInputs, eos_token_ids, next_token_logits};
use tch::{Device, Kind, Tensor};

use crate::backend::{GenerationState, Parameters, torch_error};
use crate::cache::KvCache;
use crate::model::Model;

/// Tokens, padding included, that one pass reads: longer prompts are read piece by piece, so that attention's scores do not
/// take memory with the square of their length.
const TOKENS_PER_PASS: usize = 4096;

/// A causal language model with what it read last.
pub struct TorchGenerator {
    model: Model,
    eos_token_ids: Vec<u32>,
    /// Parameters of matrix products in bfloat16; empty where those are computed in f32.
    cast: Parameters,
    cache: RefCell<KvCache>,
    slots: Slots,
    tokens_per_pass: usize,
}

impl TorchGenerator {
    /// Loads a decoder with its language model's head. `bf16` computes matrix products in bfloat16, and keeps the cache in it.
    pub fn open(folder: &Path, device: Device, bf16: bool) -> Result<TorchGenerator> {
        let model = Model::open_causal_lm(folder, device, bf16)?;
        let eos_token_ids = eos_token_ids(folder, &model.config)?;
        TorchGenerator::new(model, eos_token_ids)
    }

    /// Of a model that is loaded, whose texts `eos_token_ids` end.
    pub(crate) fn new(model: Model, eos_token_ids: Vec<u32>) -> Result<TorchGenerator> {
        let mut cast = Parameters::new();
        if model.bf16 {
            // Of tables that are looked up in f32, the head alone is multiplied with too.
            let is_table = |name: &str| name.ends_with("wpe.weight") || (!model.config.decoder.tied_embeddings && is_words(name));
            for (name, tensor) in model.parameters.iter().filter(|(name, tensor)| tensor.dim() == 2 && !is_table(name)) {
                cast.insert(name.clone(), tensor.detach().f_to_kind(Kind::BFloat16).map_err(torch_error)?);
            }
        }
        Ok(TorchGenerator { model, eos_token_ids, cast, cache: RefCell::default(), slots: Slots::default(), tokens_per_pass: TOKENS_PER_PASS })
    }

    #[cfg(test)]
    pub(crate) fn set_tokens_per_pass(&mut self, tokens: usize) {
        self.tokens_per_pass = tokens;
    }

    /// The scores after `ids`, the tokens at the places `begin..end` of each row, which go into the cache.
    fn pass(&self, ids: &[i64], begin: usize, end: usize) -> Result<Tensor> {
        let rows = self.slots.rows() as i64;
        let matrix = |values: &[i64]| {
            let flat = Tensor::f_from_slice(values)?;
            flat.f_view([rows, -1])?.f_to_device(self.model.device).map(Rc::new)
        };
        let inputs = ModelInputs {
            input_ids: matrix(ids).map_err(torch_error)?,
            attention_mask: matrix(&self.slots.attention_mask(end)).map_err(torch_error)?,
            token_type_ids: None,
            slots: None,
            position_ids: Some(matrix(&self.slots.position_ids(begin, end)).map_err(torch_error)?),
        };
        let backend = self.model.backend(false).generating(GenerationState { cache: &self.cache, cast: &self.cast });
        let logits = tch::no_grad(|| next_token_logits(&backend, &self.model.config, &inputs))?;
        self.cache.borrow_mut().advance((end - begin) as i64);
        Ok(logits.shallow_clone())
    }
}

fn is_words(name: &str) -> bool {
    ["wte.weight", "embed_tokens.weight"].iter().any(|table| name.ends_with(table))
}

fn to_logits(logits: &Tensor) -> Result<Logits> {
    let classes = logits.size().last().map_or(0, |&classes| classes as usize);
    let flat = logits.f_to_kind(Kind::Float).and_then(|x| x.f_to_device(Device::Cpu)?.f_contiguous()?.f_view(-1)).map_err(torch_error)?;
    Ok(Logits { classes, values: Vec::try_from(flat).map_err(torch_error)? })
}

impl LanguageModel for TorchGenerator {
    fn max_length(&self) -> usize {
        self.model.config.max_length() as usize
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    fn begin(&mut self, prompts: &PaddedPrompts) -> Result<Logits> {
        self.cache = RefCell::default();
        self.slots = prompts.slots.clone();
        let mut logits = None;
        for (begin, end, ids) in prompts.pieces(self.tokens_per_pass) {
            logits = Some(self.pass(&ids, begin, end)?);
        }
        to_logits(&logits.ok_or_else(|| Error::internal("a batch of no tokens"))?)
    }

    fn advance(&mut self, next: &[u32]) -> Result<Logits> {
        let begin = self.slots.length();
        self.slots.push();
        let ids: Vec<i64> = next.iter().map(|&id| id.into()).collect();
        to_logits(&self.pass(&ids, begin, begin + 1)?)
    }

    fn keep(&mut self, rows: &[usize]) -> Result<()> {
        self.slots.keep(rows);
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let kept = Tensor::f_from_slice(&rows).and_then(|rows| rows.f_to_device(self.model.device));
        tch::no_grad(|| kept.and_then(|rows| self.cache.get_mut().keep(&rows))).map_err(torch_error)
    }
}
