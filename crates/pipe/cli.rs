//! The command line, in one place.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use pipe_core::config::{ByteSize, HumanDuration, Overlap};
use pipe_core::file::Overrides;

use crate::sql::Format;

/// Fine-tuning as a data pipeline: ingest, scrub, tokenize, train, evaluate, export, predict.
#[derive(Debug, Parser)]
#[command(name = "pipe", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done · 1 a fault of pipe's own · 2 wrong command line or pipeline file · 3 something is stale (status --exit-code) · \
10 a stage failed · 11 a gate was not met · 12 an input is missing or too many rows are bad · 20 skipped, another run is at work · \
75 stopped at the deadline, the next run goes on · 130/143 interrupted, the next run goes on";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline: what is up to date is reused, the rest is made
    Run(RunArgs),
    /// Show which stages are up to date, and why the others are not
    Status(StatusArgs),
    /// Say why a stage is stale, or why it ran, by the parts of its key
    Explain(ExplainArgs),
    /// List runs, or what the cache holds
    Ls(LsArgs),
    /// Show a run, or the files of an artifact
    Show(ShowArgs),
    /// Say what differs between two runs
    Diff(DiffArgs),
    /// Print what a run said
    Logs(LogsArgs),
    /// Print the folder of a stage's output
    Path(PathArgs),
    /// Query what stages left, with SQL
    Sql(SqlArgs),
    /// Print the first rows that a stage left
    Head(HeadArgs),
    /// Describe the rows that a stage left: nulls, lengths, classes
    Describe(DescribeArgs),
    /// Remove from the cache what nobody needs
    Gc(GcArgs),
    /// Keep an artifact, or all outputs of a run, from being removed
    Pin(PinArgs),
    /// Undo `pin`
    Unpin(PinArgs),
    /// Read every cached byte again; or make a stage again and compare
    Verify(VerifyArgs),
    /// Show the outputs published before the present ones again
    Rollback(RollbackArgs),
    /// Check a pipeline file without running anything
    Validate(FileArgs),
    /// Score a CSV, JSONL or Parquet file with an exported model, without a pipeline
    Predict(PredictArgs),
    /// Make a key for tokens, surrogates and sealed values; or a pair of keys for rejected records
    Keygen(KeygenArgs),
    /// Put sealed values in the place of their tokens again, with the key that sealed them
    Unseal(UnsealArgs),
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
    /// For commands that take no variables.
    pub(crate) fn of(file: &std::path::Path, cache_dir: Option<&std::path::Path>) -> FileArgs {
        FileArgs { file: file.to_owned(), vars: Vec::new(), var_files: Vec::new(), sets: Vec::new(), cache_dir: cache_dir.map(Into::into) }
    }

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
    /// Go on with all that does not need a failed stage [default: the file's `run: { keep_going: … }`]
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// What to do when another run of this pipeline is at work [default: the file's `run: { overlap: … }`, else fail]
    #[arg(long, value_enum)]
    pub(crate) overlap: Option<OverlapArg>,
    /// Stop after this long (90s, 10m, 2h), keep what was done, and end with exit code 75
    #[arg(long, value_name = "DURATION")]
    pub(crate) deadline: Option<HumanDuration>,
    /// Cores that stages side by side may use together [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(crate) cpus: Option<usize>,
    /// Use what was fetched before, ask no server
    #[arg(long)]
    pub(crate) offline: bool,
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverlapArg {
    /// End with exit code 10
    Fail,
    /// Wait until it has ended
    Wait,
    /// End with exit code 20
    Skip,
}

impl From<OverlapArg> for Overlap {
    fn from(overlap: OverlapArg) -> Overlap {
        match overlap {
            OverlapArg::Fail => Overlap::Fail,
            OverlapArg::Wait => Overlap::Wait,
            OverlapArg::Skip => Overlap::Skip,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// End with exit code 3 if a stage is not up to date
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// One JSON document, with keys and artifacts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    pub(crate) stage: String,
    /// Compare with this run instead of the last success: its name or part of it, `latest`, `latest~1`
    #[arg(long, value_name = "RUN")]
    pub(crate) vs: Option<String>,
    /// One JSON document, with the key and its components
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which cache a command is about.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// The pipeline file whose cache (and runs) it is about [default: the nearest .pipe, all pipelines]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The cache itself
    #[arg(long, value_name = "DIR", env = "PIPE_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// What the cache holds, instead of runs
    #[arg(long)]
    pub(crate) artifacts: bool,
    /// Show this many of the newest runs
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A run (`latest`, `latest~1`, its name or part of it) or the beginning of an artifact's name
    #[arg(value_name = "RUN|ARTIFACT", default_value = "latest")]
    pub(crate) what: String,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[arg(value_name = "RUN", default_value = "latest~1")]
    pub(crate) old: String,
    #[arg(value_name = "RUN", default_value = "latest")]
    pub(crate) new: String,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[arg(value_name = "RUN", default_value = "latest")]
    pub(crate) run: String,
    /// Only what is about this stage
    pub(crate) stage: Option<String>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// What was used within this time stays
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    pub(crate) older_than: HumanDuration,
    /// The outputs of this many newest runs of each pipeline stay
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep_runs: usize,
    /// Remove the least recently used until all outputs take no more than this (20GB, 500MB)
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<ByteSize>,
    /// Records of older runs and keys, which `explain` and `diff` read, go after this time
    #[arg(long, value_name = "DURATION", default_value = "365d")]
    pub(crate) records_older_than: HumanDuration,
    /// Say what would go, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// The beginning of an artifact's name, or a run
    #[arg(value_name = "ARTIFACT|RUN")]
    pub(crate) what: String,
    /// For those who wonder later
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Make this stage again in a scratch folder, and compare the bytes; needs --file
    #[arg(long, value_name = "STAGE")]
    pub(crate) replay: Option<String>,
    /// Say what is damaged, and move nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Only this stage's [default: all that are published]
    pub(crate) stage: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    pub(crate) stage: String,
}

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// One SELECT; its tables are stages (ingest), their splits (ingest.train) and ingest.rejects
    #[arg(value_name = "QUERY")]
    pub(crate) query: String,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print this many rows; 0: all [default: 100 on a terminal, else all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct HeadArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// A stage, or one split of it
    #[arg(value_name = "STAGE[.SPLIT]")]
    pub(crate) table: String,
    /// How many rows
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub(crate) rows: usize,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// A stage, or one split of it
    #[arg(value_name = "STAGE[.SPLIT]")]
    pub(crate) table: String,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// A folder made by the export stage
    pub(crate) model: PathBuf,
    /// A CSV, TSV, JSONL, JSON, Parquet or Arrow file; the text formats also compressed
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
    /// The file's encoding, or auto
    #[arg(long, default_value = "utf-8")]
    pub(crate) encoding: String,
    /// Do not scrub texts as the model's training data was scrubbed
    #[arg(long)]
    pub(crate) no_scrub: bool,
    /// The key that the model's scrub policy needs, made by `pipe keygen`
    #[arg(long, value_name = "FILE", conflicts_with = "no_scrub")]
    pub(crate) key_file: Option<PathBuf>,
    /// The model that the scrub policy finds names with: the folder that `scrub.ner.model` named
    #[arg(long, value_name = "DIR", conflicts_with = "no_scrub")]
    pub(crate) ner: Option<PathBuf>,
    /// The most tokens that a language model writes for each row
    #[arg(long, default_value_t = 256)]
    pub(crate) max_new_tokens: usize,
    /// Threads of ONNX Runtime [default: one per core]
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The file to write, which its owner alone can read; one that exists is left as it is
    pub(crate) file: PathBuf,
    /// Make a pair of keys for sealed rejected records: the secret one is written, the public one printed
    #[arg(long)]
    pub(crate) recipient: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnsealArgs {
    /// A Parquet file or a folder of them, lines of JSON or of text, or `-` for standard input
    pub(crate) file: PathBuf,
    /// The key that sealed the values, made by `pipe keygen`
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    pub(crate) key_file: Option<PathBuf>,
    /// The secret key that opens rejected records, made by `pipe keygen --recipient`
    #[arg(long, value_name = "FILE", conflicts_with = "columns")]
    pub(crate) secret: Option<PathBuf>,
    /// Only in this column; may be given more than once
    #[arg(long = "column", short, value_name = "COLUMN")]
    pub(crate) columns: Vec<String>,
    /// The file to write: `.parquet` from Parquet, else lines [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
