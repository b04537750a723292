//! ONNX: [`export::run`] records the forward pass of `pipe-model` as a graph and compares the file with the trained
//! model, [`OrtPredictor`] runs it, [`TokenClassifier`] one that scores tokens, [`OrtGenerator`] one that generates
//! ([`export::run_causal_lm`]). The only home of the ONNX protobuf and of ONNX Runtime.

mod backend;
mod causal_lm;
pub mod export;
mod graph;
mod metadata;
mod parity;
mod positions;
mod proto;
mod scores;
mod session;
#[cfg(test)]
mod task_tests;
#[cfg(test)]
mod testing;
mod token_classifier;
mod weights;
mod write;

pub use causal_lm::OrtGenerator;
pub use session::OrtPredictor;
pub use token_classifier::TokenClassifier;
