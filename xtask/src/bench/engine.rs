//! `cargo xtask bench --engine`: how long a run takes in which nothing is to be done, alone or against `dvc repro` on the same
//! shape: the six stages of the quick start, and one stage over 10,000 source files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::Scratch;
use crate::error::Result;
use crate::files;
use crate::workspace::Workspace;

/// Runs of each in turn; dvc takes a second a run.
const ROUNDS: usize = 9;
/// Source files of the second shape.
const FILES: usize = 10_000;

/// One pipeline in both programs' terms.
struct Shape {
    name: &'static str,
    pipe: Vec<String>,
    /// The folder with `dvc.yaml`.
    dvc: PathBuf,
}

pub(super) fn measure(workspace: &Workspace, built: &Path, scratch: &Scratch, dvc: Option<&Path>) -> Result<()> {
    let pipe = built.join("pipe");
    let shapes = [quick_start(workspace, &pipe, scratch)?, many_files(scratch)?];
    println!("{:<24} {:>10} {:>10} {:>8}", "nothing to do, ms", "pipe", "dvc", "ratio");
    for shape in &shapes {
        eprintln!("bench: {}: making everything once", shape.name);
        scratch.run(Command::new(&pipe).args(&shape.pipe))?;
        if let Some(dvc) = dvc {
            scratch.run(Command::new(dvc).args(["init", "--no-scm", "--force", "--quiet"]).current_dir(&shape.dvc))?;
            scratch.run(Command::new(dvc).args(["repro", "--quiet"]).current_dir(&shape.dvc))?;
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(timed(scratch, Command::new(&pipe).args(&shape.pipe))?);
            if let Some(dvc) = dvc {
                theirs.push(timed(scratch, Command::new(dvc).arg("repro").current_dir(&shape.dvc))?);
            }
        }
        let ours = median(ours);
        match theirs.is_empty() {
            true => println!("{:<24} {ours:>10.1}", shape.name),
            false => {
                let theirs = median(theirs);
                println!("{:<24} {ours:>10.1} {theirs:>10.1} {:>7.0}x", shape.name, theirs / ours);
            }
        }
    }
    Ok(())
}

/// From start to exit, in milliseconds.
fn timed(scratch: &Scratch, command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    scratch.run(command)?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The example pipeline in its own cache; for dvc, stages that copy what ours made, with the same inputs and outputs.
fn quick_start(workspace: &Workspace, pipe: &Path, scratch: &Scratch) -> Result<Shape> {
    let file = workspace.root().join("pipelines/classify.yaml");
    let run = vec!["run".to_owned(), file.display().to_string()];
    eprintln!("bench: quick start: the whole pipeline, if it has not run yet");
    scratch.run(Command::new(pipe).args(&run))?;
    let dvc = scratch.path("dvc-quick-start");
    files::create_dir(&dvc)?;
    let data = workspace.root().join("data");
    scratch.run(Command::new("cp").arg("-r").arg(data.join("tweets")).arg(data.join("models/minilm-l6")).arg(&dvc))?;
    let mut yaml = "stages:\n".to_owned();
    for (stage, inputs) in [
        ("ingest", &["tweets"][..]),
        ("tokenize", &["ingest", "minilm-l6"]),
        ("train", &["tokenize", "minilm-l6"]),
        ("evaluate", &["train", "tokenize"]),
        ("export", &["train", "tokenize"]),
        ("predict", &["export", "ingest"]),
    ] {
        let made = scratch.run(Command::new(pipe).arg("path").arg(&file).arg(stage))?;
        let list = |names: &[&str]| names.iter().map(|name| format!("      - {name}\n")).collect::<String>();
        yaml += &format!("  {stage}:\n    cmd: cp -r {} {stage}\n    deps:\n{}    outs:\n{}", made.trim(), list(inputs), list(&[stage]));
    }
    files::write(&dvc.join("dvc.yaml"), &yaml)?;
    Ok(Shape { name: "quick start, 6 stages", pipe: run, dvc })
}

fn many_files(scratch: &Scratch) -> Result<Shape> {
    let folder = scratch.path("many");
    files::create_dir(&folder.join("rows"))?;
    for number in 0..FILES {
        let rows: String = (0..5).map(|row| format!("{},file {number} says {row} times hello\n", ["good", "bad"][row % 2])).collect();
        files::write(&folder.join(format!("rows/{number:05}.csv")), &format!("label,text\n{rows}"))?;
    }
    let yaml = "version: 1\nstages:\n  ingest: { uses: ingest, with: { source: { paths: [\"rows/*.csv\"] }, columns: { label: label } } }\n";
    files::write(&folder.join("many.yaml"), yaml)?;
    files::write(
        &folder.join("dvc.yaml"),
        "stages:\n  ingest:\n    cmd: cat rows/*.csv > all.csv\n    deps:\n      - rows\n    outs:\n      - all.csv\n",
    )?;
    let run = vec!["run".to_owned(), folder.join("many.yaml").display().to_string()];
    Ok(Shape { name: "10,000 source files", pipe: run, dvc: folder })
}
