//! Values of a `config.json`, each error naming its field.

use pipe_core::{Error, Result};
use serde_json::{Map, Value};

use crate::Activation;

/// A mapping of settings, with the name it has in the file. `null` is the same as absent.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'r> {
    map: &'r Map<String, Value>,
    /// Of a nested mapping; empty for the file itself.
    path: &'r str,
}

/// Above every size there is, and low enough that no product of two overflows.
const LARGEST: i64 = 1 << 30;

const MOST_LAYERS: usize = 10_000;

impl<'r> Fields<'r> {
    pub(crate) fn new(map: &'r Map<String, Value>, path: &'r str) -> Self {
        Fields { map, path }
    }

    fn get(&self, name: &str) -> Option<&'r Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Not there at all, which some classes tell from `null`.
    pub(crate) fn is_absent(&self, name: &str) -> bool {
        !self.map.contains_key(name)
    }

    fn place(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn wrong(&self, name: &str, what: &str) -> Error {
        Error::input(format!("`{}` is {}, it must be {what}", self.place(name), self.map.get(name).unwrap_or(&Value::Null)))
    }

    /// For a value that transformers knows and pipe does not.
    pub(crate) fn unsupported(&self, name: &str, supported: &str) -> Error {
        Error::input(format!("`{}: {}` is not supported; supported: {supported}", self.place(name), self.map.get(name).unwrap_or(&Value::Null)))
    }

    pub(crate) fn required<T>(&self, value: Option<T>, name: &str) -> Result<T> {
        value.ok_or_else(|| Error::input(format!("`{}` is missing", self.place(name))))
    }

    /// The first of two names that is there.
    pub(crate) fn either(&self, name: &'static str, other: &'static str) -> &'static str {
        if self.get(name).is_none() && self.get(other).is_some() { other } else { name }
    }

    /// A whole number from 1 on.
    pub(crate) fn size(&self, name: &str, default: Option<i64>) -> Result<i64> {
        match self.get(name) {
            None => self.required(default, name),
            Some(value) => value.as_i64().filter(|size| (1..=LARGEST).contains(size)).ok_or_else(|| self.wrong(name, "a whole number above 0")),
        }
    }

    /// A number of layers: each takes memory before a file is seen to have it.
    pub(crate) fn layers(&self, name: &str, default: Option<i64>) -> Result<usize> {
        let layers = self.size(name, default)?;
        usize::try_from(layers).ok().filter(|layers| *layers <= MOST_LAYERS).ok_or_else(|| self.wrong(name, &format!("at most {MOST_LAYERS}")))
    }

    /// As [`size`](Fields::size), where absent means something.
    pub(crate) fn optional_size(&self, name: &str) -> Result<Option<i64>> {
        self.get(name).map(|_| self.size(name, None)).transpose()
    }

    /// A token id below `vocab_size`. Some files write -1 for none.
    pub(crate) fn token(&self, name: &str, vocab_size: i64) -> Result<Option<i64>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(-1) => Ok(None),
                Some(id) if (0..vocab_size).contains(&id) => Ok(Some(id)),
                _ => Err(self.wrong(name, "a token id below `vocab_size`")),
            },
        }
    }

    pub(crate) fn number(&self, name: &str, default: Option<f64>) -> Result<Option<f64>> {
        self.get(name).map_or(Ok(default), |value| value.as_f64().map(Some).ok_or_else(|| self.wrong(name, "a number")))
    }

    pub(crate) fn positive(&self, name: &str, default: Option<f64>) -> Result<Option<f64>> {
        let value = self.number(name, default)?;
        if value.is_some_and(|value| value <= 0.0) { Err(self.wrong(name, "above 0")) } else { Ok(value) }
    }

    /// An epsilon, a standard deviation: 0 or more.
    pub(crate) fn small(&self, name: &str, default: f64) -> Result<f64> {
        let value = self.number(name, None)?.unwrap_or(default);
        if value < 0.0 { Err(self.wrong(name, "0 or more")) } else { Ok(value) }
    }

    /// A rate of dropout.
    pub(crate) fn share(&self, name: &str, default: f64) -> Result<f64> {
        let value = self.number(name, None)?.unwrap_or(default);
        if (0.0..1.0).contains(&value) { Ok(value) } else { Err(self.wrong(name, "from 0 to below 1")) }
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        self.get(name).map_or(Ok(default), |value| value.as_bool().ok_or_else(|| self.wrong(name, "true or false")))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'r str>> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| self.wrong(name, "a text"))).transpose()
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<&'r [Value]>> {
        self.get(name).map(|value| value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(name, "a list"))).transpose()
    }

    pub(crate) fn mapping(&self, name: &'r str) -> Result<Option<Fields<'r>>> {
        self.get(name).map(|value| value.as_object().map(|map| Fields::new(map, name)).ok_or_else(|| self.wrong(name, "a mapping"))).transpose()
    }

    pub(crate) fn activation(&self, name: &str, default: Activation) -> Result<Activation> {
        Ok(match self.text(name)? {
            None => default,
            Some("gelu") => Activation::Gelu,
            Some("gelu_new" | "gelu_pytorch_tanh") => Activation::GeluTanh,
            Some("relu") => Activation::Relu,
            Some("silu" | "swish") => Activation::Silu,
            Some("tanh") => Activation::Tanh,
            Some(_) => return Err(self.unsupported(name, "gelu, gelu_new, gelu_pytorch_tanh, relu, silu, swish, tanh")),
        })
    }

    /// Refuses what is on and would change what is computed.
    pub(crate) fn must_be_off(&self, names: &[&str]) -> Result<()> {
        names.iter().try_for_each(|name| if self.flag(name, false)? { Err(self.unsupported(name, "false")) } else { Ok(()) })
    }
}
