//! End to end, through the `pipe` binary as a user would: a small made-up sample of tweets, a tiny random BERT, and
//! every stage for real.
//!
//! `cargo build` first: `cargo test` alone builds `pipe` but not the worker `pipe-train` that stands beside it. The tests
//! run in parallel, each in a folder of its own, and wait for what they need instead of for time to pass.

#[path = "pipeline/bad_input.rs"]
mod bad_input;
#[path = "pipeline/boundaries.rs"]
mod boundaries;
#[path = "pipeline/cache.rs"]
mod cache;
#[path = "pipeline/chinese_bert.rs"]
mod chinese_bert;
#[path = "pipeline/combining_marks.rs"]
mod combining_marks;
#[path = "pipeline/completions.rs"]
mod completions;
#[path = "pipeline/crash.rs"]
mod crash;
#[path = "pipeline/explain.rs"]
mod explain;
#[path = "pipeline/full_disk.rs"]
mod full_disk;
#[path = "pipeline/guide.rs"]
mod guide;
#[path = "pipeline/ingest.rs"]
mod ingest;
#[path = "pipeline/init.rs"]
mod init;
#[path = "pipeline/interrupted.rs"]
mod interrupted;
#[path = "pipeline/keeping.rs"]
mod keeping;
#[path = "pipeline/leak.rs"]
mod leak;
#[path = "pipeline/predict.rs"]
mod predict;
#[path = "pipeline/project.rs"]
mod project;
#[path = "pipeline/remote.rs"]
mod remote;
#[path = "pipeline/rows.rs"]
mod rows;
#[path = "pipeline/sample.rs"]
mod sample;
#[path = "pipeline/schema.rs"]
mod schema;
#[path = "pipeline/scratch.rs"]
mod scratch;
#[path = "pipeline/scrub.rs"]
mod scrub;
#[path = "pipeline/shards.rs"]
mod shards;
#[path = "pipeline/slices.rs"]
mod slices;
#[path = "pipeline/sources.rs"]
mod sources;
#[path = "pipeline/sql.rs"]
mod sql;
#[path = "pipeline/table.rs"]
mod table;
#[path = "pipeline/tasks.rs"]
mod tasks;
#[path = "pipeline/tokens.rs"]
mod tokens;
#[path = "pipeline/training.rs"]
mod training;
#[path = "pipeline/unattended.rs"]
mod unattended;
#[path = "pipeline/walk.rs"]
mod walk;
