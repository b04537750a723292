//! Tensors of a safetensors file, read in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use pipe_core::{Error, IoContext, Result};
use pipe_model::{Head, ModelConfig};
use safetensors::{Dtype, SafeTensors};

/// Maps a file into memory.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).doing("open", path)?;
    // SAFETY: the file belongs to a finished artifact or to the stage's own scratch folder, which nothing changes
    // while it is read; pipe never writes in place.
    unsafe { Mmap::map(&file) }.doing("read", path)
}

/// Reads the header of a safetensors file.
pub(crate) fn parse<'m>(bytes: &'m [u8], path: &Path) -> Result<SafeTensors<'m>> {
    SafeTensors::deserialize(bytes).map_err(|e| Error::stage(format!("{} is not a whole safetensors file: {e}", path.display())))
}

/// The parameters of a model by their canonical names.
#[derive(Debug)]
pub(crate) struct Weights<'m> {
    path: PathBuf,
    tensors: BTreeMap<String, Weight<'m>>,
}

/// One parameter: little-endian f32, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Weight<'m> {
    pub(crate) shape: Vec<i64>,
    pub(crate) data: &'m [u8],
}

impl<'m> Weights<'m> {
    /// Every parameter of the model with `head` from the mapped file, with the shape it must have. What else the file
    /// holds is left alone.
    pub(crate) fn load(bytes: &'m [u8], path: &Path, config: &ModelConfig, head: Head) -> Result<Weights<'m>> {
        let file = parse(bytes, path)?;
        let views: BTreeMap<String, _> = file.iter().filter_map(|(name, view)| Some((pipe_model::canonical_name(config, name)?, view))).collect();
        let mut tensors = BTreeMap::new();
        for spec in pipe_model::parameters(config, head) {
            let fault =
                |what: String| Err(Error::stage(format!("{}: the tensor {} {what}", path.display(), spec.name)).hint("run the train stage again"));
            let Some(view) = views.get(&spec.name) else {
                return fault("is missing".into());
            };
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            if shape != spec.shape {
                return fault(format!("has the shape {shape:?}, config.json asks for {:?}", spec.shape));
            }
            if view.dtype() != Dtype::F32 {
                return fault(format!("is {}, a trained model holds F32", view.dtype()));
            }
            tensors.insert(spec.name, Weight { shape, data: view.data() });
        }
        Ok(Weights { path: path.to_owned(), tensors })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Weight<'m>> {
        self.tensors.get(name)
    }

    pub(crate) fn require(&self, name: &str) -> Result<&Weight<'m>> {
        self.get(name).ok_or_else(|| Error::stage(format!("{}: the tensor {name} is missing", self.path.display())))
    }
}
