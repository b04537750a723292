//! `cargo xtask bench`: how fast the stages are on the example data, alone or against other programs.
//!
//! ```text
//! target/bench/cache/    our cache, made anew in every round
//! target/bench/peers/    what the peers write
//! target/bench/log.txt   what every program said
//! ```
//!
//! Ours and the peers run in turn (A B A B …), so that a machine which others use slows both down alike, and medians are
//! compared. The peers read the rows that our ingest made of the data, so both sides have the very same ones.

mod engine;
mod ingest;
mod ours;
pub(crate) mod peers;
mod report;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::args::Args;
use crate::error::{Error, Result};
use crate::files;
use crate::setup;
use crate::workspace::Workspace;
use ours::Ours;
use peers::Peers;
use report::Report;

const HELP: &str = "\
Times ingest, tokenize, train and predict of pipelines/classify.yaml, and a run in which all is cached. Takes about three
minutes a round on two cores, and about as long again with --peers.

usage: cargo xtask bench [--peers VENV] [--quick]
       cargo xtask bench --engine [--dvc PROGRAM]
       cargo xtask bench --ingest [--megabytes N] [--python PROGRAM] [--quick]

  --peers VENV    also time benches/peers/*.py in this virtual environment, in turn with ours, and print the ratios;
                  `cargo xtask setup --peers VENV` makes it
  --quick         one round instead of three
  --engine        time runs in which nothing is to be done instead
  --ingest        time generated text to scrubbed Parquet instead, with peak memory
  --megabytes N   of each generated text; 2048 unless told
  --python PROGRAM  against polars and pandas, which do not scrub, and Presidio on a sample, in this Python with
                  benches/peers/requirements-ingest.txt installed
  --dvc PROGRAM   against `dvc repro` on the same shape, in turn with ours; `pip install dvc==3.67.1` gives the program
";

/// Runs of the whole program with everything cached: short enough to do many, and to need many.
const CACHED_RUNS: usize = 20;

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    if args.help(HELP) {
        return Ok(ExitCode::SUCCESS);
    }
    let venv = args.path("--peers")?;
    let rounds = if args.flag("--quick") { 1 } else { 3 };
    let (engine, dvc) = (args.flag("--engine"), args.path("--dvc")?);
    let (ingest, python) = (args.flag("--ingest"), args.path("--python")?);
    let megabytes = args.number("--megabytes")?.unwrap_or(2048);
    args.finish()?;
    // Before the build, which takes minutes.
    let peers = venv.map(|venv| Peers::find(workspace, &venv)).transpose()?;
    setup::run(workspace)?;
    let built = match workspace.build_release()? {
        Ok(folder) => folder,
        Err(failed) => return Ok(failed),
    };
    let scratch = Scratch::create(workspace.target_dir()?.join("bench"))?;
    if engine {
        engine::measure(workspace, &built, &scratch, dvc.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    if ingest {
        ingest::measure(workspace, &built, &scratch, megabytes, rounds, python.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    let ours = Ours::new(workspace, &built, &scratch);
    let mut report = Report::new(rounds);
    for round in 1..=rounds {
        eprintln!("bench: round {round} of {rounds}: pipe");
        ours.measure(&scratch, &mut report)?;
        if let Some(peers) = &peers {
            peers.measure(&ours, &scratch, &mut report)?;
        }
    }
    eprintln!("bench: {CACHED_RUNS} runs with everything cached");
    for _ in 0..CACHED_RUNS {
        ours.measure_cached(&scratch, &mut report)?;
    }
    print!("{report}");
    Ok(ExitCode::SUCCESS)
}

/// Where a benchmark writes.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn create(folder: PathBuf) -> Result<Self> {
        files::remove_dir(&folder)?;
        files::create_dir(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a program to its end and returns its standard output; what it says on standard error goes to the log.
    fn run(&self, command: &mut Command) -> Result<String> {
        let log = self.path("log.txt");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(|cause| Error::io("open", &log, &cause))?;
        let program = Path::new(command.get_program()).to_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).spawn();
        let output = child.and_then(std::process::Child::wait_with_output).map_err(|cause| Error::io("start", &program, &cause))?;
        if !output.status.success() {
            let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
            return Err(Error::new(format!("failed: {} {} ({})", program.display(), args.join(" "), output.status))
                .hint(format!("what it said is at the end of {}", log.display())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
