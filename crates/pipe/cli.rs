//! The command line, in one place.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pipe_core::file::Overrides;

/// Fine-tuning as a data pipeline: ingest, scrub, tokenize, train, evaluate, export, predict.
#[derive(Debug, Parser)]
#[command(name = "pipe", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done · 1 a fault of pipe's own · 2 wrong command line or pipeline file · 3 something is stale (status --exit-code) · \
10 a stage failed · 11 a gate was not met · 12 an input is missing or too many rows are bad · 20 skipped, another run is at work · \
130/143 interrupted, the next run goes on";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline: what is up to date is reused, the rest is made
    Run(RunArgs),
    /// Show which stages are up to date, and why the others are not
    Status(StatusArgs),
    /// Print the folder of a stage's output
    Path(PathArgs),
    /// Check a pipeline file without running anything
    Validate(FileArgs),
    /// Score a CSV, JSONL or Parquet file with an exported model, without a pipeline
    Predict(PredictArgs),
    /// Print the JSON Schema of the pipeline file, for editors
    Schema,
    /// Print completions for a shell
    Completions(crate::completions::CompletionsArgs),
    /// Look at a data file and write a pipeline file for it
    Init(crate::init::InitArgs),
}

impl Command {
    pub(crate) fn log_format(&self) -> LogFormat {
        match self {
            Command::Run(args) => args.log_format,
            Command::Predict(args) => args.log_format,
            _ => LogFormat::Text,
        }
    }
}

/// How progress is told on standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Bars on a terminal, JSON lines elsewhere
    #[default]
    Auto,
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The pipeline file, for example pipelines/classify.yaml
    pub(crate) file: PathBuf,
    /// Change a variable of the file's `vars:`, for example max_length=64
    #[arg(long = "var", value_name = "NAME=VALUE")]
    vars: Vec<String>,
    /// Change variables by a YAML file of names and values; --var goes before it
    #[arg(long = "vars", value_name = "FILE")]
    var_files: Vec<PathBuf>,
    /// Change a setting, for example train.with.learning_rate=3e-5
    #[arg(long = "set", value_name = "STAGE.with.KEY=VALUE")]
    sets: Vec<String>,
    /// Where finished outputs are kept [default: .pipe under the pipeline's root]
    #[arg(long, value_name = "DIR", env = "PIPE_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
}

impl FileArgs {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { vars: self.vars.clone(), var_files: self.var_files.clone(), sets: self.sets.clone() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Only these stages and what they need
    #[arg(value_name = "STAGE", conflicts_with_all = ["from", "until", "only"])]
    pub(crate) stages: Vec<String>,
    /// This stage and what follows it, with all they need
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["only"])]
    pub(crate) from: Option<String>,
    /// This stage and what it needs
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["only"])]
    pub(crate) until: Option<String>,
    /// This stage alone; fails if something it needs is not up to date
    #[arg(long, value_name = "STAGE")]
    pub(crate) only: Option<String>,
    /// Make this stage's output anew even if it is up to date
    #[arg(long, value_name = "STAGE")]
    pub(crate) force: Vec<String>,
    /// Make everything anew
    #[arg(long)]
    pub(crate) force_all: bool,
    /// Say what would run, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What to do when another run of this pipeline is at work
    #[arg(long, value_enum, default_value_t = Overlap::Fail)]
    pub(crate) overlap: Overlap,
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overlap {
    /// End with exit code 10
    Fail,
    /// Wait until it has ended
    Wait,
    /// End with exit code 20
    Skip,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// End with exit code 3 if a stage is not up to date
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    pub(crate) stage: String,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// A folder made by the export stage
    pub(crate) model: PathBuf,
    /// A CSV, TSV, JSONL or Parquet file
    pub(crate) input: PathBuf,
    /// The Parquet file to write: id, label, score and one probability per class
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The column that holds the text
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub(crate) text: String,
    /// The column that holds the second text, for models of text pairs
    #[arg(long, value_name = "COLUMN")]
    pub(crate) text_pair: Option<String>,
    /// The column that holds each row's id [default: digest of the file and record number]
    #[arg(long, value_name = "COLUMN")]
    pub(crate) id: Option<String>,
    /// The file's encoding
    #[arg(long, default_value = "utf-8")]
    pub(crate) encoding: String,
    /// Do not scrub texts as the model's training data was scrubbed
    #[arg(long)]
    pub(crate) no_scrub: bool,
    /// Threads of ONNX Runtime [default: one per core]
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}
