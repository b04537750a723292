//! Causal language models in ONNX: the graph with a cache, its export, and what generates with it.

pub(crate) mod export;
mod generator;
mod parity;
pub(crate) mod record;
#[cfg(test)]
mod tests;

pub use generator::OrtGenerator;
