//! `cargo xtask run`: from a fresh checkout to a pipeline that runs.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::args::Args;
use crate::error::{Error, Result};
use crate::setup;
use crate::workspace::Workspace;

const HELP: &str = "\
Sets up, builds `pipe` and its worker in release mode, and runs `pipe run` with the arguments given.

usage: cargo xtask run FILE [ARGUMENTS OF `pipe run`]...
";

pub(crate) fn command(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    if args.help(HELP) {
        return Ok(ExitCode::SUCCESS);
    }
    let args: Vec<OsString> = args.into_rest().collect();
    // Options may come before the file.
    let file = args.iter().map(Path::new).find(|path| path.is_file());
    setup::run_for(workspace, file.unwrap_or(Path::new("")))?;
    let pipe = match workspace.build_release()? {
        Ok(folder) => folder.join("pipe"),
        Err(failed) => return Ok(failed),
    };
    // In place of this process, so that signals and the exit code are pipe's own.
    let cause = Command::new(&pipe).arg("run").args(args).exec();
    Err(Error::io("start", &pipe, &cause))
}
