//! `cargo xtask test` and `cargo xtask ci`: every test, and every check that a change must pass.

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::error::Result;
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
    for mut command in [build(workspace), cargo_test(workspace, args.into_rest())] {
        let status = workspace::run(&mut command)?;
        if !status.success() {
            return Ok(workspace::exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
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
        let status = workspace::run(&mut command)?;
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
