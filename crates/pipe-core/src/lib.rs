//! The core of pipe: from a pipeline file to typed settings, a plan, keys and a cache; and the types that carry
//! rows between stages: [`Batch`], [`Predictor`], [`metrics`]; and [`generate`], which asks a language model for texts.
//!
//! Nothing here links a native library, so a machine without libtorch validates, plans and explains every file.

mod answers;
mod batch;
pub mod cache;
pub mod config;
pub mod digest;
mod error;
mod evaluate;
mod failpoint;
pub mod file;
pub mod generate;
pub mod key;
pub mod metrics;
pub mod native;
mod plan;
mod plan_columns;
mod plan_tasks;
mod progress;
pub mod provenance;
mod random;
mod report;
pub mod schema;
pub mod source;
mod task;
pub mod worker;

pub use answers::{AnswerSearch, FoundAnswer, characters};
pub use batch::{Batch, BatchSource, Labels, Logits, Predictor, Question, TokenScores, Window, argmax, batches_by_length, softmax};
pub use error::{Class, Error, IoContext, Result, catch_panic, hide_panics};
pub use evaluate::{Confidence, Evaluation, Slice, SliceColumn, add_parts, evaluate, unknown_label, unlabelled};
pub use failpoint::failpoint;
pub use plan::{Input, Plan, Step};
pub use progress::{Progress, Silent};
pub use random::SplitMix;
pub use report::Report;
pub use task::Task;
pub use worker::Summary;

/// Stamped into both programs: a worker of another build is refused.
pub const BUILD_ID: &str = env!("PIPE_BUILD_ID");
