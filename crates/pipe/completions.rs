//! `pipe completions`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use pipe_core::Result;

use crate::cli::Cli;
use crate::terminal::print_result;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For bash: pipe completions bash > ~/.local/share/bash-completion/completions/pipe
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

pub(crate) fn command(args: &CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pipe", &mut script);
    print_result(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}
