//! `pipe predict`: scores one file with an exported model, without a pipeline.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pipe_core::config::{ColumnsConfig, RejectsConfig, SourceConfig, SourceFormat};
use pipe_core::generate::GenerationConfig;
use pipe_core::native::NativeLibraries;
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Result, Task};
use pipe_data::predict::{Engine, ScrubAccess, TextPipeline, file_rows, predict};
use pipe_data::scrub::ScrubKey;
use pipe_onnx::{OrtGenerator, OrtPredictor};

use crate::cli::PredictArgs;
use crate::events::Reporter;
use crate::names;
use crate::signals::Signals;
use crate::terminal::print_result;

/// As large as the stage's default: caps memory.
const TOKENS_PER_BATCH: usize = 1024;

pub(crate) fn command(args: &PredictArgs) -> Result<u8> {
    let signals = Signals::install()?;
    let reporter = Reporter::new(args.log_format);
    let progress = reporter.stage("predict", "reading the model", &signals);
    if !args.input.is_file() {
        return Err(Error::input(format!("there is no file {}", args.input.display())));
    }
    if args.model.join("model.safetensors").exists() && !args.model.join("model.onnx").exists() {
        return Err(Error::input(format!("{} is a trained model, not an export", args.model.display()))
            .hint("run the pipeline's export stage and give the folder with model.onnx"));
    }
    let format = SourceFormat::of_path(&args.input).ok_or_else(|| {
        Error::input(format!("cannot tell the format of {} from its name", args.input.display()))
            .hint("name it .csv, .tsv, .jsonl, .json, .parquet or .arrow")
    })?;
    let source = SourceConfig { encoding: args.encoding.clone(), ..SourceConfig::default() };
    let columns = ColumnsConfig { text: args.text.clone(), text_pair: args.text_pair.clone(), id: args.id.clone(), ..ColumnsConfig::default() };
    let native = NativeLibraries::locate()?;
    let access = ScrubAccess {
        key: args.key_file.as_deref().map(ScrubKey::from_file).transpose()?,
        names: args.ner.as_deref().map(|folder| names::open(folder, &native)).transpose()?,
    };
    let pipeline = TextPipeline::open(&args.model, (!args.no_scrub).then_some(&access), None, TOKENS_PER_BATCH)?;
    if let task @ (Task::TokenClassification | Task::QuestionAnswering) = pipeline.task() {
        return Err(Error::usage(format!("the model was trained for {}, which reads more than texts", task.name()))
            .hint("answer such rows in a predict stage of a pipeline: see docs/tasks.md"));
    }
    let generation = GenerationConfig { max_new_tokens: args.max_new_tokens, ..GenerationConfig::default() };
    let (mut predictor, mut writer);
    let engine = if pipeline.task() == Task::CausalLm {
        writer = OrtGenerator::open(&args.model, &native, args.threads)?;
        Engine::Writes { model: &mut writer, generation: &generation }
    } else {
        predictor = OrtPredictor::open(&args.model, &native, args.threads)?;
        Engine::Scores(&mut predictor)
    };
    let mut rejected = 0;
    let file = SourceFile::new(args.input.clone(), format);
    if same_file(&args.input, &args.output) {
        return Err(Error::usage(format!("the output is the input: {}", args.output.display())).hint("give --output another name"));
    }
    // Written aside: a reader of the output sees all rows or none.
    let name = args.output.file_name().ok_or_else(|| Error::usage("--output names no file"))?.to_string_lossy();
    let aside = args.output.with_file_name(format!(".{name}.{}.part", ulid::Ulid::generate()));
    let rows = file_rows(&file, &source, &columns, &mut rejected)?;
    let counts = predict(&pipeline, engine, rows, 0, &aside, &progress);
    drop(progress);
    reporter.terminal.finish();
    let written = counts.and_then(|counts| {
        check_rejects(&args.input, counts.rows, rejected)?;
        std::fs::rename(&aside, &args.output).doing("write", &args.output)?;
        Ok(counts)
    });
    let counts = written.inspect_err(|_| {
        let _ = std::fs::remove_file(&aside);
    })?;
    let mut notes = Vec::new();
    for (count, what) in [(rejected, "rejected"), (counts.truncated, "truncated"), (counts.entities, "entities scrubbed")] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    print_result(&format!("{}: {} rows scored{notes}", args.output.display(), counts.rows));
    Ok(0)
}

/// Whether two paths lead to one file.
fn same_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|stat| (stat.dev(), stat.ino())).ok();
    identity(a).is_some_and(|a| Some(a) == identity(b))
}

/// Nothing scored, or many rows left out, is no success: a nightly job would not notice.
fn check_rejects(input: &Path, scored: u64, rejected: u64) -> Result<()> {
    let read = scored + rejected;
    if read == 0 {
        return Err(Error::input(format!("{} holds no rows", input.display())).hint("is the file complete?"));
    }
    if rejected as f64 > RejectsConfig::default().max_ratio * read as f64 {
        return Err(Error::input(format!("{rejected} of {read} rows of {} were rejected", input.display()))
            .hint("is --encoding right, and --text the column of the text?"));
    }
    Ok(())
}
