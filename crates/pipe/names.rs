//! The model that finds names, put together: tokens and tags by `pipe-data`, scores by `pipe-onnx`.

use std::path::Path;
use std::sync::Arc;

use pipe_core::Result;
use pipe_core::native::NativeLibraries;
use pipe_data::scrub::{EntityModel, ner};
use pipe_onnx::TokenClassifier;

/// Opens the token-classification model in `folder`.
pub(crate) fn open(folder: &Path, native: &NativeLibraries) -> Result<EntityModel> {
    ner::open(folder, native.onnxruntime_version()?, |labels| {
        let classifier = TokenClassifier::open(folder, native, labels)?;
        Ok(Arc::new(move |batch| classifier.score(batch)))
    })
}
