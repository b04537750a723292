//! Model weights: from safetensors (one file or shards) or GGUF to parameters, and back to safetensors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use pipe_core::{Error, IoContext, Result};
use pipe_model::gguf::GgufFile;
use pipe_model::{Head, Init, ModelConfig, ParameterSpec, Part, canonical_name, is_of_a_head, parameters};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor};

use crate::backend::{Parameters, torch_error};

/// What loading found beside the weights.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Loaded {
    /// Modules that the file has not and that start anew.
    pub new_modules: BTreeSet<String>,
}

/// What to do about a head that the file has not got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// An error: for evaluation.
    Refused,
    /// A new one is drawn with this seed; also in the place of one of other classes, unless `keep`.
    Drawn { seed: i64, keep: bool },
}

/// Reads all parameters of the model in `folder` as f32 on `device`.
pub(crate) fn load(folder: &Path, config: &ModelConfig, head: Head, absent: Absent, device: Device) -> Result<(Parameters, Loaded)> {
    let specs = parameters(config, head);
    let mut found = Found {
        config,
        wanted: specs.iter().map(|spec| (spec.name.as_str(), spec)).collect(),
        replaces_classes: matches!(absent, Absent::Drawn { keep: false, .. }),
        draws: absent != Absent::Refused,
        device,
        parameters: Parameters::new(),
    };
    match GgufFile::of_folder(folder)? {
        Some(file) => {
            for parameter in file.read()?.parameters(config)? {
                let tensor = || Tensor::f_from_slice(&parameter.to_f32()).and_then(|flat| flat.f_view(parameter.shape())).map_err(torch_error);
                found.take(&parameter.name, parameter.shape(), file.path(), tensor)?;
            }
        }
        None => weight_files(folder)?.iter().try_for_each(|path| read_safetensors(path, &mut found))?,
    }
    found.complete(&specs, folder, absent)
}

fn read_safetensors(path: &Path, found: &mut Found<'_>) -> Result<()> {
    let file = File::open(path).doing("open", path)?;
    // SAFETY: the mapping lives for this function; a model folder that changes under it is a damaged model.
    let map = unsafe { Mmap::map(&file) }.doing("map", path)?;
    let tensors = SafeTensors::deserialize(&map).map_err(|e| {
        Error::input(format!("{} is not a whole safetensors file: {e}", path.display())).hint("it may be cut short: fetch or copy it again")
    })?;
    for (name, view) in tensors.iter() {
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        found.take(name, &shape, path, || tensor(&view, path))?;
    }
    Ok(())
}

/// Parameters on their way from files to the model.
struct Found<'s> {
    config: &'s ModelConfig,
    wanted: BTreeMap<&'s str, &'s ParameterSpec>,
    replaces_classes: bool,
    /// What is missing is drawn.
    draws: bool,
    device: Device,
    parameters: Parameters,
}

impl Found<'_> {
    /// Takes the tensor `name` of the file `path`, unless the model has no use for it.
    fn take(&mut self, name: &str, shape: &[i64], path: &Path, tensor: impl FnOnce() -> Result<Tensor>) -> Result<()> {
        let Some(canonical) = canonical_name(self.config, name) else { return Ok(()) };
        let spec = match self.wanted.get(canonical.as_str()) {
            // A head of another shape can be none of this task.
            Some(spec) if spec.part == Part::Classes && (self.replaces_classes || self.draws && shape != spec.shape) => return Ok(()),
            Some(spec) => spec,
            None if is_of_a_head(self.config, &canonical) => return Ok(()),
            None => {
                let model = self.config.raw["model_type"].as_str().unwrap_or("model");
                return Err(Error::input(format!("{} holds a tensor `{name}` that a {model} has not", path.display()))
                    .hint("is config.json of the same model?"));
            }
        };
        if shape != spec.shape {
            return Err(Error::input(format!("`{name}` in {} has the shape {shape:?}, config.json asks for {:?}", path.display(), spec.shape)));
        }
        if self.parameters.insert(canonical, tensor()?.to_device(self.device)).is_some() {
            return Err(Error::input(format!("{} holds `{}` a second time, as `{name}`", path.display(), spec.name)));
        }
        Ok(())
    }

    /// Draws what may be missing.
    fn complete(mut self, specs: &[ParameterSpec], folder: &Path, absent: Absent) -> Result<(Parameters, Loaded)> {
        let mut loaded = Loaded::default();
        if let Absent::Drawn { seed, .. } = absent {
            tch::manual_seed(seed);
        }
        for spec in specs {
            if self.parameters.contains_key(&spec.name) {
                continue;
            }
            if spec.part == Part::Base || absent == Absent::Refused {
                return Err(Error::input(format!("the weights in {} lack `{}`", folder.display(), spec.name))
                    .hint("is config.json of the same model, and are all shards there?"));
            }
            self.parameters.insert(spec.name.clone(), drawn(spec)?.to_device(self.device));
            let module = spec.name.rsplit_once('.').map_or(spec.name.as_str(), |(module, _)| module);
            loaded.new_modules.insert(module.to_owned());
        }
        Ok((self.parameters, loaded))
    }
}

/// Draws all parameters of a model from scratch.
pub(crate) fn fresh(config: &ModelConfig, head: Head, seed: i64, device: Device) -> Result<Parameters> {
    tch::manual_seed(seed);
    parameters(config, head).into_iter().map(|spec| drawn(&spec).map(|tensor| (spec.name, tensor.to_device(device)))).collect()
}

/// The first values of a parameter, on the CPU, so that a seed gives the same on every device.
fn drawn(spec: &ParameterSpec) -> Result<Tensor> {
    let mut new = Tensor::f_zeros(spec.shape.as_slice(), (Kind::Float, Device::Cpu)).map_err(torch_error)?;
    match spec.init {
        Init::Zeros => {}
        Init::Ones => _ = new.fill_(1.0),
        Init::Normal { std, zero_row } => {
            new = new.normal_(0.0, std);
            if let Some(row) = zero_row {
                let _ = new.get(row).zero_();
            }
        }
    }
    Ok(new)
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join("model.safetensors.index.json");
    if index.is_file() {
        let bytes = std::fs::read(&index).doing("read", &index)?;
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::input(format!("{} is not valid JSON: {e}", index.display())))?;
        let files: BTreeSet<&str> = json["weight_map"].as_object().into_iter().flatten().filter_map(|(_, file)| file.as_str()).collect();
        // Shards stand beside the index; a name that leads elsewhere is not followed.
        if files.is_empty() || files.iter().any(|file| Path::new(file).file_name() != Some(file.as_ref())) {
            return Err(Error::input(format!("{}: `weight_map` does not name files of this folder", index.display())));
        }
        return Ok(files.into_iter().map(|file| folder.join(file)).collect());
    }
    let error = Error::input(format!("{} has no model.safetensors", folder.display()));
    Err(if folder.join("pytorch_model.bin").is_file() {
        error.hint("its pytorch_model.bin is a pickle file, which can run code when it is read: save the model with transformers' `save_pretrained`, which writes safetensors")
    } else {
        error.hint("give a Hugging Face model folder with config.json, model.safetensors and tokenizer.json")
    })
}

fn tensor(view: &TensorView<'_>, path: &Path) -> Result<Tensor> {
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F64 => Kind::Double,
        // Of optimizers, in checkpoints.
        Dtype::U8 => Kind::Uint8,
        other => return Err(Error::input(format!("{} holds weights of type {other:?}, which is not supported", path.display()))),
    };
    Tensor::f_from_data_size(view.data(), &shape, kind).map(|tensor| tensor.to_kind(Kind::Float)).map_err(torch_error)
}

/// A tensor as safetensors writes it: on the CPU, its numbers one after the other.
struct Saved {
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Saved {
    fn new(tensor: &Tensor) -> Result<Saved> {
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Int64 => Dtype::I64,
            Kind::Uint8 => Dtype::U8,
            other => return Err(Error::internal(format!("a tensor of kind {other:?} is not saved"))),
        };
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        Ok(Saved { tensor, dtype, shape })
    }
}

impl safetensors::View for &Saved {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        // SAFETY: a contiguous tensor on the CPU, which lives as long as the slice and which nobody writes to while it is saved.
        // No copy of a whole model is made beside the model.
        unsafe { std::slice::from_raw_parts(self.tensor.data_ptr().cast::<u8>(), self.data_len()) }.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.dtype.bitsize() / 8
    }
}

/// Writes tensors with the metadata that transformers expects. The file's bytes depend on the tensors alone.
pub(crate) fn save(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let data: Vec<(&str, Saved)> = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), Saved::new(tensor)?))).collect::<Result<_>>()?;
    let views = data.iter().map(|(name, saved)| (*name, saved));
    // One key only: several are written in random order.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(error) => Error::io("write", path, error),
        other => Error::stage(format!("cannot write {}: {other}", path.display())),
    })?;
    // It makes the file readable by its owner alone, unlike the files that stand beside it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).doing("write", path)
}

/// Reads a file that [`save`] wrote.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let content = std::fs::read(path).doing("read", path)?;
    let tensors = SafeTensors::deserialize(&content).map_err(|e| Error::stage(format!("{} is damaged: {e}", path.display())))?;
    tensors.iter().map(|(name, view)| Ok((name.to_owned(), tensor(&view, path)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HEAD: Head = Head::SequenceClassification { classes: 3 };

    #[test]
    fn weights_from_scratch_are_bert_s_and_follow_from_the_seed() {
        let _alone = crate::testing::alone();
        let raw = json!({
            "model_type": "bert", "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": 40, "initializer_range": 0.05, "pad_token_id": 3,
        });
        let serde_json::Value::Object(raw) = raw else { unreachable!() };
        let config = ModelConfig::from_json(raw).unwrap();
        let drawn = fresh(&config, HEAD, 7, Device::Cpu).unwrap();
        let shapes: BTreeMap<&str, Vec<i64>> = drawn.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
        let specs = parameters(&config, HEAD);
        assert_eq!(shapes, specs.iter().map(|spec| (spec.name.as_str(), spec.shape.clone())).collect());
        for (name, tensor) in &drawn {
            let values: Vec<f32> = Vec::try_from(tensor.reshape(-1)).unwrap();
            let deviation = (values.iter().map(|x| f64::from(x * x)).sum::<f64>() / values.len() as f64).sqrt();
            match name.as_str() {
                name if name.ends_with(".bias") => assert!(deviation == 0.0, "{name}"),
                name if name.ends_with("LayerNorm.weight") => assert!(values.iter().all(|x| *x == 1.0), "{name}"),
                name => assert!((0.03..0.07).contains(&deviation), "{name}: {deviation}"),
            }
        }
        let words = &drawn["bert.embeddings.word_embeddings.weight"];
        let is_zero = |row: i64| words.get(row).abs().sum(Kind::Float).double_value(&[]) == 0.0;
        assert!(is_zero(3) && !is_zero(0) && !is_zero(2));
        let again = fresh(&config, HEAD, 7, Device::Cpu).unwrap();
        assert!(drawn.iter().all(|(name, tensor)| *tensor == again[name]));
        assert!(*words != fresh(&config, HEAD, 8, Device::Cpu).unwrap()["bert.embeddings.word_embeddings.weight"]);
    }
}
