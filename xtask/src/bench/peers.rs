//! The other side of the benchmark: `benches/peers/*.py`, what one would run instead, in a virtual environment.
//!
//! Each script does one job on given files, with all cores, and prints one JSON line,
//! `{"peer": NAME, "rows": N, "seconds": S, …}`. The seconds are those of the job, without starting Python and importing.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Scratch;
use super::ours::Ours;
use super::report::{Measure, Report};
use crate::error::{Error, Result};
use crate::files;
use crate::json::Json;
use crate::python::Python;
use crate::wheels::MINILM;
use crate::workspace::{self, Workspace};

const REQUIREMENTS: &str = "requirements.txt";

pub(crate) struct Peers {
    scripts: PathBuf,
    model: PathBuf,
    python: Python,
}

/// `cargo xtask setup --peers VENV`.
pub(crate) fn install(workspace: &Workspace, venv: &Path) -> Result<()> {
    if Peers::find(workspace, venv).is_ok() {
        return Ok(());
    }
    if !interpreter(venv).exists() {
        let mut make = Python::find()?.command();
        expect_success(make.args(["-m", "venv"]).arg(venv), "make a virtual environment")?;
    }
    let mut pip = Python::at(interpreter(venv))?.command();
    pip.args(["-m", "pip", "install", "--requirement"]).arg(scripts(workspace).join(REQUIREMENTS));
    expect_success(&mut pip, "install the peers")?;
    Peers::find(workspace, venv).map(drop)
}

fn expect_success(command: &mut Command, doing: &str) -> Result<()> {
    let status = workspace::run(command)?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("failed to {doing} ({status})"))) }
}

fn interpreter(venv: &Path) -> PathBuf {
    venv.join("bin/python")
}

fn scripts(workspace: &Workspace) -> PathBuf {
    workspace.root().join("benches/peers")
}

impl Peers {
    /// Once it is known that the environment has the pinned packages: other versions would give other figures.
    pub(crate) fn find(workspace: &Workspace, venv: &Path) -> Result<Self> {
        let make_it = || format!("`cargo xtask setup --peers {}` makes it", venv.display());
        if !interpreter(venv).exists() {
            return Err(Error::new(format!("{} is no virtual environment", venv.display())).hint(make_it()));
        }
        let python = Python::at(interpreter(venv))?;
        let scripts = scripts(workspace);
        let mut check = python.command();
        check.args(["-c", include_str!("check_packages.py")]).arg(scripts.join(REQUIREMENTS));
        let output = check.output().map_err(|cause| Error::io("start", &interpreter(venv), &cause))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let what = format!("{} is not what benches/peers/{REQUIREMENTS} asks for:\n{}", venv.display(), said.trim_end());
            return Err(Error::new(what).hint(make_it()));
        }
        Ok(Self { scripts, model: workspace.root().join(MINILM.folder), python })
    }

    /// Every peer once, on the rows that our last run made of the source data.
    pub(super) fn measure(&self, ours: &Ours, scratch: &Scratch, report: &mut Report) -> Result<()> {
        let out = scratch.path("peers");
        files::remove_dir(&out)?;
        files::create_dir(&out)?;
        let ingested = ours.artifact("ingest", &["report.json", "train", "test"])?;
        let exported = ours.artifact("export", &["model.onnx"])?;
        let (train, test) = (ingested.join("train"), ingested.join("test"));
        let trained = out.join("model");

        let mut ingest = self.script("ingest.py");
        ingest.arg(ours.source()).arg(out.join("rows.parquet"));
        let job = Job::run(&mut ingest, scratch)?;
        report.add(Measure::Ingest, job.peer()?, ours.megabytes()? / job.seconds()?);

        let mut tokenize = self.script("tokenize_rows.py");
        tokenize.arg(&self.model).arg(&ingested).arg(out.join("tokens.parquet"));
        let job = Job::run(&mut tokenize, scratch)?;
        report.add(Measure::Tokenize, job.peer()?, job.rows_per_second()?);

        let mut trainer = self.script("trainer.py");
        trainer.arg(&self.model).arg(&train).arg(&test).arg(&trained);
        let job = Job::run(&mut trainer, scratch)?;
        report.add(Measure::Train, job.peer()?, job.rows_per_second()?);
        report.add(Measure::Accuracy, job.peer()?, job.number("accuracy")?);

        for onnx in [None, Some(exported.join("model.onnx"))] {
            let mut predict = self.script("predict.py");
            predict.arg(&trained).arg(&test).arg(out.join("predictions.parquet")).args(onnx);
            let job = Job::run(&mut predict, scratch)?;
            report.add(Measure::Predict, job.peer()?, job.rows_per_second()?);
        }
        Ok(())
    }

    fn script(&self, name: &str) -> Command {
        eprintln!("bench: {name}");
        let mut command = self.python.command();
        command.arg(self.scripts.join(name));
        command
    }
}

/// What a script printed about its work.
struct Job {
    result: Json,
}

impl Job {
    fn run(command: &mut Command, scratch: &Scratch) -> Result<Self> {
        let said = scratch.run(command)?;
        // Libraries print to standard output too; the result is the last line.
        Ok(Self { result: Json::parse(said.trim_end().lines().last().unwrap_or_default())? })
    }

    fn peer(&self) -> Result<&str> {
        self.result.string("peer").ok_or_else(|| Error::new("a peer script did not say which program it is"))
    }

    fn seconds(&self) -> Result<f64> {
        self.number("seconds")
    }

    fn rows_per_second(&self) -> Result<f64> {
        Ok(self.number("rows")? / self.seconds()?)
    }

    fn number(&self, name: &str) -> Result<f64> {
        let number = self.result.number(name);
        number.ok_or_else(|| Error::new(format!("a peer script printed no {name}")))
    }
}
