//! `pipe`: fine-tuning as a data pipeline. The command line, and the walk through a pipeline's stages.

mod cli;
mod completions;
mod init;
mod keys;
mod predict;
mod publish;
mod record;
mod run;
mod schema;
mod signals;
mod stages;
mod status;
mod terminal;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use pipe_core::{Error, Result};

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    pipe_core::hide_panics();
    let result = std::panic::catch_unwind(|| dispatch(&cli.command)).unwrap_or_else(|_| Err(Error::internal("pipe met a fault of its own")));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            terminal::print_error(&error, cli.command.log_format());
            ExitCode::from(error.class.exit_code())
        }
    }
}

fn dispatch(command: &Command) -> Result<u8> {
    match command {
        Command::Run(args) => run::command(args),
        Command::Status(args) => status::command(args),
        Command::Path(args) => status::path(args),
        Command::Validate(args) => status::validate(args),
        Command::Predict(args) => predict::command(args),
        Command::Schema => schema::command(),
        Command::Completions(args) => completions::command(args),
        Command::Init(args) => init::command(args),
    }
}
