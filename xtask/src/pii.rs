//! `cargo xtask pii-report`: how well the detectors of personal data do on labelled texts.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::Args;
use crate::error::{Error, Result};
use crate::workspace::{self, Workspace};

const HELP: &str = "\
Runs the detectors over every .json file below a folder of labelled texts (the formats of presidio-research and argus-redact),
and prints recall and precision by type, by exact and by overlapping spans, and each exception by its file and id. Never a text.

usage: cargo xtask pii-report DIR [POLICY]
       cargo xtask pii-report --speed

  POLICY    standard (the default) or strict
  --speed   time the detectors on generated text instead, on one thread
";

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    if args.help(HELP) {
        return Ok(ExitCode::SUCCESS);
    }
    let example = if args.flag("--speed") { "scrub_speed" } else { "pii_report" };
    let rest: Vec<OsString> = args.into_rest().collect();
    // Before the build, which takes minutes.
    if example == "pii_report" && rest.is_empty() {
        return Err(Error::usage("pii-report needs a folder of labelled texts"));
    }
    let mut cargo = workspace.cargo("run");
    cargo.args(["--release", "--quiet", "--package", "pipe-data", "--example", example, "--"]).args(rest);
    let status = workspace::run(&mut cargo)?;
    if status.code().is_none() {
        return Err(Error::new("the report was stopped"));
    }
    Ok(workspace::exit_code(status))
}
