//! GGUF: llama.cpp's files of one model, its settings and its tokenizer.
//!
//! ```text
//! "GGUF"  version u32 (2, 3)  tensors u64  settings u64
//! settings  each: key, kind u32, value         text: length u64, UTF-8   list: kind u32, length u64, values
//! tensors   each: name, axes u32, sizes u64 …, kind u32, offset u64      the innermost axis first
//! padding up to a multiple of `general.alignment`, then the tensors' data at their offsets
//! ```
//!
//! All numbers are little-endian. Whatever the bytes, reading them ends with an error or a whole model: every length is held
//! against what is left of the file before anything is taken from it.

mod llama;
mod quantised;
mod reader;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use pipe_core::{Error, IoContext, Result};

pub use llama::GgufParameter;
pub use quantised::TensorKind;

/// A file in memory.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
}

impl GgufFile {
    /// The GGUF file that `folder` is a model by: the only one, where there are no safetensors.
    pub fn of_folder(folder: &Path) -> Result<Option<GgufFile>> {
        if ["model.safetensors", "model.safetensors.index.json"].iter().any(|name| folder.join(name).exists()) {
            return Ok(None);
        }
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "gguf")).collect();
        paths.sort();
        match paths.as_slice() {
            [] => Ok(None),
            [path] => GgufFile::open(path).map(Some),
            [first, second, ..] => Err(Error::input(format!("both {} and {} could be the model", first.display(), second.display()))
                .hint("give a folder with one of them, whole: a model in several files is not supported")),
        }
    }

    pub fn open(path: &Path) -> Result<GgufFile> {
        let file = File::open(path).doing("open", path)?;
        // SAFETY: nothing writes to a model while it is in use; one that changes under the mapping is a damaged model.
        let map = unsafe { Mmap::map(&file) }.doing("map", path)?;
        Ok(GgufFile { path: path.to_owned(), map })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its settings and tensors, in place.
    pub fn read(&self) -> Result<Gguf<'_>> {
        Gguf::parse(&self.map).map_err(|e| Error { message: format!("{}: {}", self.path.display(), e.message), ..e })
    }
}

/// What a file says.
#[derive(Debug)]
pub struct Gguf<'m> {
    settings: BTreeMap<&'m str, Setting<'m>>,
    tensors: BTreeMap<&'m str, Tensor<'m>>,
}

/// A setting's value. Lists are of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting<'m> {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'m str),
    Texts(Vec<&'m str>),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
}

/// A tensor in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<'m> {
    /// The innermost axis last.
    pub shape: Vec<i64>,
    pub kind: TensorKind,
    data: &'m [u8],
}

impl Tensor<'_> {
    /// Its values, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        self.kind.to_f32(self.data)
    }
}

impl<'m> Gguf<'m> {
    /// A setting, of the kind that `take` accepts.
    fn find<T>(&self, key: &str, what: &str, take: impl FnOnce(&Setting<'m>) -> Option<T>) -> Result<Option<T>> {
        self.settings.get(key).map(|setting| take(setting).ok_or_else(|| Error::input(format!("`{key}` must be {what}")))).transpose()
    }

    pub fn text(&self, key: &str) -> Result<Option<&'m str>> {
        self.find(key, "a text", |setting| if let Setting::Text(text) = setting { Some(*text) } else { None })
    }

    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.find(key, "a whole number", |setting| if let Setting::Integer(number) = setting { Some(*number) } else { None })
    }

    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.find(key, "a number", |setting| match setting {
            Setting::Float(number) => Some(*number),
            Setting::Integer(number) => Some(*number as f64),
            _ => None,
        })
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.find(key, "true or false", |setting| if let Setting::Bool(flag) = setting { Some(*flag) } else { None })
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'m str>>> {
        self.find(key, "a list of texts", |setting| if let Setting::Texts(texts) = setting { Some(texts.clone()) } else { None })
    }

    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.find(key, "a list of whole numbers", |setting| if let Setting::Integers(numbers) = setting { Some(numbers.clone()) } else { None })
    }

    /// Every tensor by its name in the file.
    pub fn tensors(&self) -> impl Iterator<Item = (&'m str, &Tensor<'m>)> {
        self.tensors.iter().map(|(name, tensor)| (*name, tensor))
    }
}
