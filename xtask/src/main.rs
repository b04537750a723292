//! The workspace's own tool, started as `cargo xtask`: set-up, checks, installation and benchmarks.
//!
//! It has no dependencies, so that it starts within seconds on a machine where nothing is built yet.

mod args;
mod bench;
mod checks;
mod error;
mod files;
mod install;
mod json;
mod pii;
mod python;
mod run;
mod setup;
mod wheels;
mod workspace;

use std::env;
use std::process::ExitCode;

use args::Args;
use error::{Error, Result};
use workspace::Workspace;

const HELP: &str = "\
usage: cargo xtask COMMAND [ARGUMENTS]...

  setup      get the native libraries, the example model and the example data
  run        set up, build in release mode, and run a pipeline
  test       set up, and run every test
  ci         every check that a change must pass
  install    make a folder that works after the checkout is gone
  bench      time the example pipeline, alone or against other programs
  pii-report measure the detectors of personal data on labelled texts

`cargo xtask COMMAND --help` says more.
";

fn main() -> ExitCode {
    match dispatch(Args::new(env::args_os().skip(1))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(mut args: Args) -> Result<ExitCode> {
    let command = args.command();
    let workspace = Workspace::find()?;
    match command.as_ref().map(|command| command.to_string_lossy()).as_deref() {
        Some("setup") => setup::command(&workspace, args),
        Some("run") => run::command(&workspace, args),
        Some("test") => checks::test_command(&workspace, args),
        Some("ci") => checks::ci_command(&workspace, args),
        Some("install") => install::command(&workspace, args),
        Some("bench") => bench::command(&workspace, args),
        Some("pii-report") => pii::command(&workspace, args),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(unknown) => Err(Error::usage(format!("there is no command {unknown}"))),
        None => Err(Error::usage("no command given")),
    }
}
