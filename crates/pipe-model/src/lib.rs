//! Each architecture written once, generic over [`Backend`]: libtorch computes (and differentiates) it, the ONNX
//! exporter records it, so training and export cannot drift apart.
//!
//! Module names are Hugging Face's, so that a model folder loads without a mapping table.

mod backend;
mod config;
mod decoder;
mod encoder;
mod generation;
pub mod gguf;
mod heads;
mod names;
mod parameters;
mod rotary;

pub use backend::{Activation, Angles, AttentionSpec, Backend, ModelInputs};
pub use config::{Architecture, DecoderConfig, ModelConfig};
pub use generation::{GENERATION_CONFIG_FILE, eos_token_ids};
pub use heads::{Head, next_token_logits, word_table};
pub use names::{canonical_name, is_of_a_head, saved_name};
pub use parameters::{Init, ParameterSpec, Part, parameters};
pub use rotary::Rotary;
