//! Each architecture written once, generic over [`Backend`]: libtorch computes (and differentiates) it, the ONNX
//! exporter records it, so training and export cannot drift apart.
//!
//! Module names are Hugging Face's, so that a model folder loads without a mapping table.

mod backend;
mod config;
mod encoder;
mod heads;
mod names;

pub use backend::{Activation, AttentionSpec, Backend, EncoderInputs};
pub use config::{Architecture, ModelConfig};
pub use encoder::encode;
pub use heads::sequence_classification;
pub use names::{ParameterSpec, canonical_name, head_parameters, parameters};
