//! The data side of pipe: readers, privacy scrub, deduplication, splits, tokenization, batches and predictions.
//! The only home of Arrow, Parquet and tokenizers.

pub mod ingest;
pub mod inspect;
mod kept;
pub mod parquet_io;
mod parts;
pub mod predict;
pub mod read;
pub mod scrub;
pub mod table;
pub mod tokenize;
mod tokens;

pub use tokens::TokenSource;
