//! Model weights: from safetensors (one file or shards) to parameters, and back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use pipe_core::{Error, IoContext, Result};
use pipe_model::{ModelConfig, ParameterSpec, canonical_name, head_parameters, parameters};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor};

use crate::backend::Parameters;

/// What loading found beside the weights.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Loaded {
    /// Modules that the file has not and that start anew.
    pub new_modules: BTreeSet<String>,
}

/// Whether a classifier in the file is used or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// Missing is an error: for evaluation.
    Required,
    /// Missing or of other classes: a new one is drawn with this seed.
    Fresh { seed: i64, keep: bool },
}

/// Reads all parameters of the model in `folder` as f32 on `device`.
pub(crate) fn load(folder: &Path, config: &ModelConfig, classes: usize, head: Head, device: Device) -> Result<(Parameters, Loaded)> {
    let specs = parameters(config, classes);
    let wanted: BTreeMap<&str, &ParameterSpec> = specs.iter().map(|spec| (spec.name.as_str(), spec)).collect();
    let head_names: BTreeSet<String> = head_parameters(config, classes).into_iter().map(|spec| spec.name).collect();
    let replace_head = matches!(head, Head::Fresh { keep: false, .. });
    let mut found = Parameters::new();
    for path in weight_files(folder)? {
        let file = File::open(&path).doing("open", &path)?;
        // SAFETY: the mapping lives for this loop; a model folder that changes under it is a damaged model.
        let map = unsafe { Mmap::map(&file) }.doing("map", &path)?;
        let tensors = SafeTensors::deserialize(&map).map_err(|e| {
            Error::input(format!("{} is not a whole safetensors file: {e}", path.display())).hint("it may be cut short: fetch or copy it again")
        })?;
        for (name, view) in tensors.iter() {
            let Some(canonical) = canonical_name(name) else { continue };
            if head_names.contains(&canonical) && replace_head {
                continue;
            }
            let Some(spec) = wanted.get(canonical.as_str()) else {
                return Err(Error::input(format!(
                    "{} holds a tensor `{name}` that a {} has not",
                    path.display(),
                    config.raw["model_type"].as_str().unwrap_or("model")
                ))
                .hint("is config.json of the same model?"));
            };
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            if shape != spec.shape {
                return Err(Error::input(format!("`{name}` in {} has the shape {shape:?}, config.json asks for {:?}", path.display(), spec.shape)));
            }
            found.insert(canonical, tensor(&view, &path)?.to_device(device));
        }
    }
    let mut loaded = Loaded::default();
    if let Head::Fresh { seed, .. } = head {
        tch::manual_seed(seed);
    }
    for spec in &specs {
        if found.contains_key(&spec.name) {
            continue;
        }
        // The pooler is what pretraining without next-sentence prediction leaves out.
        let may_be_new = head_names.contains(&spec.name) || spec.name.starts_with("bert.pooler.");
        if !may_be_new || head == Head::Required {
            return Err(Error::input(format!("the weights in {} lack `{}`", folder.display(), spec.name))
                .hint("is config.json of the same model, and are all shards there?"));
        }
        let mut new = Tensor::zeros(spec.shape.as_slice(), (Kind::Float, Device::Cpu));
        // As transformers does: normal weights, zero biases.
        let new = if spec.name.ends_with(".bias") { new } else { new.normal_(0.0, config.initializer_range) };
        found.insert(spec.name.clone(), new.to_device(device));
        let module = spec.name.rsplit_once('.').map_or(spec.name.as_str(), |(module, _)| module);
        loaded.new_modules.insert(module.to_owned());
    }
    Ok((found, loaded))
}

/// Draws all parameters of a model from scratch, as transformers' BERT does in its `_init_weights`: weights and embeddings normal
/// with `initializer_range`, biases zero, layer norms one, the embedding of padding zero.
pub(crate) fn fresh(config: &ModelConfig, classes: usize, seed: i64, device: Device) -> Result<Parameters> {
    // Drawn on the CPU, so that a seed gives the same weights on every device.
    tch::manual_seed(seed);
    let mut drawn = Parameters::new();
    for spec in parameters(config, classes) {
        let new = Tensor::f_zeros(spec.shape.as_slice(), (Kind::Float, Device::Cpu)).map_err(crate::backend::torch_error)?;
        let new = if spec.name.ends_with(".bias") {
            new
        } else if spec.name.ends_with("LayerNorm.weight") {
            new.ones_like()
        } else {
            let mut new = new;
            new.normal_(0.0, config.initializer_range)
        };
        if spec.name.ends_with("word_embeddings.weight") {
            let _ = new.get(config.pad_token_id).zero_();
        }
        drawn.insert(spec.name, new.to_device(device));
    }
    Ok(drawn)
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
    Tensor::f_from_data_size(view.data(), &shape, kind).map(|tensor| tensor.to_kind(Kind::Float)).map_err(crate::backend::torch_error)
}

/// A tensor's bytes as safetensors wants them.
struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl safetensors::View for &Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.data).into()
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

fn bytes(tensor: &Tensor) -> Result<Bytes> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let dtype = match tensor.kind() {
        Kind::Float => Dtype::F32,
        Kind::Int64 => Dtype::I64,
        Kind::Uint8 => Dtype::U8,
        other => return Err(Error::internal(format!("a tensor of kind {other:?} is not saved"))),
    };
    let width = dtype.bitsize() / 8;
    let mut data = vec![0; tensor.numel() * width];
    tensor.f_copy_data_u8(&mut data, tensor.numel()).map_err(crate::backend::torch_error)?;
    Ok(Bytes { dtype, shape: tensor.size().iter().map(|&size| size as usize).collect(), data })
}

/// Writes tensors with the metadata that transformers expects. The file's bytes depend on the tensors alone.
pub(crate) fn save(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let data: Vec<(&str, Bytes)> = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), bytes(tensor)?))).collect::<Result<_>>()?;
    let views = data.iter().map(|(name, bytes)| (*name, bytes));
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

    #[test]
    fn weights_from_scratch_are_bert_s_and_follow_from_the_seed() {
        let _alone = crate::testing::alone();
        let raw = json!({
            "model_type": "bert", "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": 40, "initializer_range": 0.05, "pad_token_id": 3,
        });
        let serde_json::Value::Object(raw) = raw else { unreachable!() };
        let config = ModelConfig::from_json(raw).unwrap();
        let drawn = fresh(&config, 3, 7, Device::Cpu).unwrap();
        let shapes: BTreeMap<&str, Vec<i64>> = drawn.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
        let specs = parameters(&config, 3);
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
        let again = fresh(&config, 3, 7, Device::Cpu).unwrap();
        assert!(drawn.iter().all(|(name, tensor)| *tensor == again[name]));
        assert!(*words != fresh(&config, 3, 8, Device::Cpu).unwrap()["bert.embeddings.word_embeddings.weight"]);
    }
}
