//! ONNX: [`export::run`] records the forward pass of `pipe-model` as a graph and compares the file with the trained
//! model, [`OrtPredictor`] runs it, [`TokenClassifier`] one that scores tokens. The only home of the ONNX protobuf and of ONNX Runtime.

mod backend;
pub mod export;
mod graph;
mod metadata;
mod parity;
mod proto;
mod session;
#[cfg(test)]
mod testing;
mod token_classifier;
mod weights;
mod write;

pub use session::OrtPredictor;
pub use token_classifier::TokenClassifier;
