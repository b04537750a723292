//! Keys of the `metadata_props` in `model.onnx`: what a program that has only this file must know.

/// Class names in the order of the logits, as a JSON list.
pub(crate) const LABELS: &str = "labels";
/// What the model does, such as `sequence-classification`.
pub(crate) const TASK: &str = "task";
/// Tokens per row, special ones included, that the model was trained on.
pub(crate) const MAX_LENGTH: &str = "max_length";
/// `right`: padding follows the tokens.
pub(crate) const PADDING_SIDE: &str = "padding_side";
/// Digest of the tokenizer's files.
pub(crate) const TOKENIZER: &str = "tokenizer";
/// Digest of the scrub policy.
pub(crate) const SCRUB: &str = "scrub";
/// BLAKE3 of the trained model's `model.safetensors`.
pub(crate) const WEIGHTS: &str = "weights";
/// The content of `parity.json`: how far the file is from the trained model.
pub(crate) const PARITY: &str = "parity";
