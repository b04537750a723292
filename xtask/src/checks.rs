//! `cargo xtask test` and `cargo xtask ci`: every test, and every check that a change must pass.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::error::{Error, Result};
use crate::setup;
use crate::workspace::{self, Workspace};

const TEST_HELP: &str = "\
Sets up, builds `pipe` and its worker, and runs every test of the workspace.

usage: cargo xtask test [ARGUMENTS OF `cargo test`]...
";

const CI_HELP: &str = "\
Runs every check that a change must pass: rustfmt, clippy and rustdoc with warnings denied, and every test. Stops at the
first that fails, and prints how long each took.

usage: cargo xtask ci
";

pub(crate) fn test_command(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    if args.help(TEST_HELP) {
        return Ok(ExitCode::SUCCESS);
    }
    setup::run(workspace)?;
    let status = workspace::run(&mut build(workspace))?;
    if !status.success() {
        return Ok(workspace::exit_code(status));
    }
    Ok(workspace::exit_code(run_tests(&mut cargo_test(workspace, args.into_rest()))?))
}

/// Runs `cargo test`, which sums up every test binary on its own and ends with one that may hold no test, and adds a line
/// over all of them.
fn run_tests(command: &mut Command) -> Result<ExitStatus> {
    let failed = |cause: std::io::Error| Error::io("run", Path::new("cargo"), &cause);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut total = Counts::default();
    for line in BufReader::new(child.stdout.take().expect("piped above")).lines() {
        let line = line.map_err(failed)?;
        println!("{line}");
        total.add(&line);
    }
    let status = child.wait().map_err(failed)?;
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.ignored);
    Ok(status)
}

/// What the closing lines of libtest say.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// `test result: ok. 34 passed; 0 failed; 0 ignored; …`
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else { return };
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

pub(crate) fn ci_command(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    if args.help(CI_HELP) {
        return Ok(ExitCode::SUCCESS);
    }
    args.finish()?;
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let start = Instant::now();
    // Before clippy: the build script of torch-sys needs libtorch even when nothing is linked.
    setup::run(workspace)?;
    times.push(("setup", start.elapsed()));
    let steps = [
        ("fmt", fmt(workspace)),
        ("clippy", clippy(workspace)),
        ("doc", doc(workspace)),
        ("build", build(workspace)),
        ("test", cargo_test(workspace, std::iter::empty())),
    ];
    let mut outcome = ExitCode::SUCCESS;
    for (name, mut command) in steps {
        eprintln!("ci: {name}");
        let start = Instant::now();
        let status = if name == "test" { run_tests(&mut command)? } else { workspace::run(&mut command)? };
        times.push((name, start.elapsed()));
        if !status.success() {
            eprintln!("ci: {name} failed");
            outcome = workspace::exit_code(status);
            break;
        }
    }
    for (name, time) in times {
        eprintln!("ci: {name:8} {:6.1} s", time.as_secs_f64());
    }
    Ok(outcome)
}

fn fmt(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo("fmt");
    cargo.args(["--all", "--check"]);
    cargo
}

fn clippy(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo("clippy");
    cargo.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    cargo
}

fn doc(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo("doc");
    cargo.args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    cargo
}

/// Both binaries: the tests of one package find the other's binary beside their own, and `cargo test` builds only a
/// package's own.
fn build(workspace: &Workspace) -> Command {
    workspace.cargo("build")
}

fn cargo_test(workspace: &Workspace, args: impl Iterator<Item = OsString>) -> Command {
    let mut cargo = workspace.cargo("test");
    cargo.arg("--workspace").args(args);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut total = Counts::default();
        for line in [
            "test a::b ... ok",
            "test result: ok. 34 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.03s",
        ] {
            total.add(line);
        }
        assert_eq!(total, Counts { passed: 36, failed: 3, ignored: 1 });
    }
}
