//! A model in libtorch: parameters, config, device; forward with and without gradients.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use pipe_core::{Batch, Error, Labels, Logits, Predictor, Result, Task, TokenScores};
use pipe_model::{Head, ModelConfig, ModelInputs, Part, parameters, saved_name, word_table};
use tch::{Device, Kind, Tensor};

use crate::backend::{Parameters, TorchBackend, TrainingOptions, torch_error};
use crate::step::Marks;
use crate::weights::{self, Absent, Loaded};

/// A model with the head of its task, on one device.
pub struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) head: Head,
    pub(crate) parameters: Parameters,
    pub(crate) device: Device,
    pub(crate) bf16: bool,
    /// Set by training alone.
    pub(crate) options: TrainingOptions,
    /// Which rows of its table of words learn.
    pub(crate) marks: Marks,
}

impl Model {
    pub(crate) fn new(config: ModelConfig, head: Head, parameters: Parameters, device: Device, bf16: bool) -> Model {
        let marks = Marks::new(&parameters, word_table(&config, head));
        Model { config, head, parameters, device, bf16, options: TrainingOptions::default(), marks }
    }

    /// For fine-tuning: a head that is missing, or of another task or other classes than `labels`, starts anew.
    pub(crate) fn for_training(folder: &Path, task: Task, labels: &[String], device: Device, bf16: bool, seed: u64) -> Result<(Model, Loaded)> {
        let config = ModelConfig::read(folder)?;
        let same_classes = !task.has_classes() || config.labels().is_some_and(|known| known == labels);
        let keep = same_classes && config.task().is_none_or(|known| known == task);
        let head = head_of(&config, task, labels.len())?;
        let (parameters, loaded) = weights::load(folder, &config, head, Absent::Drawn { seed: seed as i64, keep }, device)?;
        for parameter in parameters.values() {
            let _ = parameter.set_requires_grad(true);
        }
        Ok((Model::new(config, head, parameters, device, bf16), loaded))
    }

    /// A model of `task` over `labels` whose weights are drawn with `seed`.
    pub(crate) fn from_scratch(config: ModelConfig, task: Task, labels: &[String], device: Device, bf16: bool, seed: u64) -> Result<Model> {
        let head = head_of(&config, task, labels.len())?;
        let parameters = weights::fresh(&config, head, seed as i64, device)?;
        for parameter in parameters.values() {
            let _ = parameter.set_requires_grad(true);
        }
        Ok(Model::new(config, head, parameters, device, bf16))
    }

    /// How many numbers its parameters are.
    pub(crate) fn size(&self) -> usize {
        self.parameters.values().map(Tensor::numel).sum()
    }

    /// A finished model, for evaluation.
    pub fn open(folder: &Path, device: Device, bf16: bool) -> Result<Model> {
        let config = ModelConfig::read(folder)?;
        let unknown = || Error::input(format!("{} names no task that is known here (architectures)", folder.join("config.json").display()));
        let task = config.task().ok_or_else(unknown)?;
        let labels = config.labels().unwrap_or_default();
        if task.has_classes() && labels.is_empty() {
            return Err(Error::input(format!("{} names no classes (id2label)", folder.join("config.json").display())));
        }
        let head = head_of(&config, task, labels.len())?;
        let (parameters, _) = weights::load(folder, &config, head, Absent::Refused, device)?;
        Ok(Model::new(config, head, parameters, device, bf16))
    }

    /// A decoder with the head that it was pretrained with.
    pub(crate) fn open_causal_lm(folder: &Path, device: Device, bf16: bool) -> Result<Model> {
        let config = ModelConfig::read(folder)?;
        let head = Head::CausalLm;
        let (parameters, _) = weights::load(folder, &config, head, Absent::Refused, device)?;
        Ok(Model::new(config, head, parameters, device, bf16))
    }

    /// The names of the classifier's parameters: all of the head but BERT's pooler, which is pretrained.
    pub(crate) fn head_names(&self) -> BTreeSet<String> {
        let of_head = parameters(&self.config, self.head).into_iter().filter(|spec| spec.part != Part::Base && !spec.name.contains(".pooler."));
        of_head.map(|spec| spec.name).collect()
    }

    /// Writes the parameters by the names that transformers' class of the model has for them.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let named = |(name, tensor): (&String, &Tensor)| (saved_name(&self.config, self.head, name), tensor.shallow_clone());
        weights::save(&self.parameters.iter().map(named).collect(), path)
    }

    /// A batch as tensors on the model's device.
    pub(crate) fn inputs(&self, batch: &Batch) -> Result<ModelInputs<Rc<Tensor>>> {
        self.config.check_length(batch.length)?;
        let shape = [batch.rows.len() as i64, batch.length as i64];
        let matrix = |values: &[i64]| {
            Tensor::f_from_slice(values)
                .and_then(|flat| flat.f_view(shape))
                .and_then(|matrix| matrix.f_to_device(self.device))
                .map(Rc::new)
                .map_err(torch_error)
        };
        Ok(ModelInputs {
            input_ids: matrix(&batch.input_ids)?,
            attention_mask: matrix(&batch.attention_mask)?,
            token_type_ids: if self.config.reads_token_types() { Some(matrix(&batch.token_type_ids)?) } else { None },
            slots: batch
                .slots
                .as_ref()
                .map(|slots| Tensor::f_from_slice(slots).and_then(|slots| slots.f_to_device(self.device)).map(Rc::new).map_err(torch_error))
                .transpose()?,
            position_ids: positions_in_documents(batch).map(|positions| matrix(&positions)).transpose()?,
        })
    }

    /// What computes this model. `training` switches dropout on.
    pub(crate) fn backend(&self, training: bool) -> TorchBackend<'_> {
        TorchBackend::new(&self.parameters, &self.marks, training, self.bf16).with(self.options)
    }

    /// Scores in f32, of the shape that [`Head::forward`] gives. `training` switches dropout on.
    pub(crate) fn forward(&self, batch: &Batch, training: bool) -> Result<Tensor> {
        let logits = self.head.forward(&self.backend(training), &self.config, &self.inputs(batch)?)?;
        logits.f_to_kind(Kind::Float).map_err(torch_error)
    }

    /// Rows that the model cannot take are refused before any work.
    pub(crate) fn check_rows(&self, lengths: &[u32], vocab_size: usize) -> Result<()> {
        self.config.check_length(lengths.iter().copied().max().unwrap_or(0) as usize)?;
        if vocab_size as i64 > self.config.vocab_size {
            return Err(Error::input(format!("the tokenizer has {vocab_size} tokens, the model knows {}", self.config.vocab_size))
                .hint("tokenize with the tokenizer of the same model folder"));
        }
        Ok(())
    }
}

/// Where rows hold several documents: the place of each token in its own.
fn positions_in_documents(batch: &Batch) -> Option<Vec<i64>> {
    if batch.attention_mask.iter().all(|&number| number <= 1) {
        return None;
    }
    let mut positions = Vec::with_capacity(batch.attention_mask.len());
    for row in batch.attention_mask.chunks(batch.length) {
        let mut first = 0;
        for (at, number) in row.iter().enumerate() {
            if at > 0 && row[at - 1] != *number {
                first = at;
            }
            positions.push((at - first) as i64);
        }
    }
    Some(positions)
}

/// The head of a task, on a model that can have it.
fn head_of(config: &ModelConfig, task: Task, classes: usize) -> Result<Head> {
    if task == Task::CausalLm {
        config.check_generates()?;
    }
    Ok(Head::of(task, classes))
}

/// Scores of a vocabulary are turned to probabilities for this many tokens at a time.
const TOKENS_AT_ONCE: usize = 512;

impl Predictor for Model {
    fn token_scores(&mut self, batch: &Batch) -> Result<TokenScores> {
        let (Labels::Classes(classes), Some(slots)) = (&batch.labels, &batch.slots) else {
            return Err(Error::internal("tokens to be scored without labels"));
        };
        if slots.is_empty() {
            return Ok(TokenScores::default());
        }
        let run = |logits: &Tensor| {
            let mut scores = TokenScores::default();
            for (logits, classes) in logits.f_split(TOKENS_AT_ONCE as i64, 0)?.iter().zip(classes.chunks(TOKENS_AT_ONCE)) {
                let classes = Tensor::f_from_slice(classes)?.f_to_device(logits.device())?;
                let of_class = logits.f_log_softmax(-1, Kind::Float)?.f_gather(1, &classes.f_unsqueeze(1)?, false)?;
                scores.log_probabilities.extend(Vec::<f32>::try_from(of_class.f_view(-1)?)?);
                scores.hits.extend(Vec::<bool>::try_from(logits.f_argmax(-1, false)?.f_eq_tensor(&classes)?)?);
            }
            Ok(scores)
        };
        let logits = tch::no_grad(|| self.forward(batch, false))?;
        run(&logits).map_err(torch_error)
    }

    fn predict(&mut self, batch: &Batch) -> Result<Logits> {
        let logits = tch::no_grad(|| self.forward(batch, false))?;
        let classes = logits.size().last().map_or(0, |&classes| classes as usize);
        let values: Vec<f32> = Vec::try_from(logits.f_contiguous().and_then(|x| x.f_view(-1)).map_err(torch_error)?).map_err(torch_error)?;
        Ok(Logits { classes, values })
    }
}
