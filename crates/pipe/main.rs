//! `pipe`: fine-tuning as a data pipeline. The command line, and the walk through a pipeline's stages.

mod cli;
mod completions;
mod events;
mod explain;
mod gc;
mod init;
mod keygen;
mod keys;
mod names;
mod notify;
mod predict;
mod publish;
mod record;
mod run;
mod runs;
mod schema;
mod signals;
mod sources;
mod spool;
mod sql;
mod stages;
mod status;
mod terminal;
mod unseal;
mod verify;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use pipe_core::{Error, Result};

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_) | Command::Verify(_) | Command::Sql(_) | Command::Head(_) | Command::Describe(_)) {
        // SAFETY: nothing here has started a thread yet.
        unsafe { pipe_sql::one_thread() };
    }
    pipe_core::hide_panics();
    let result = std::panic::catch_unwind(|| dispatch(&cli.command).and_then(|code| terminal::check_results().map(|()| code)))
        .unwrap_or_else(|_| Err(Error::internal("pipe met a fault of its own")));
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
        Command::Explain(args) => explain::command(args),
        Command::Ls(args) => runs::ls(args),
        Command::Show(args) => runs::show(args),
        Command::Diff(args) => runs::diff(args),
        Command::Logs(args) => runs::logs(args),
        Command::Path(args) => status::path(args),
        Command::Sql(args) => sql::sql(args),
        Command::Head(args) => sql::head(args),
        Command::Describe(args) => sql::describe(args),
        Command::Gc(args) => gc::command(args),
        Command::Pin(args) => gc::pin(args),
        Command::Unpin(args) => gc::unpin(args),
        Command::Verify(args) => verify::command(args),
        Command::Rollback(args) => publish::rollback(args),
        Command::Validate(args) => status::validate(args),
        Command::Predict(args) => predict::command(args),
        Command::Keygen(args) => keygen::command(args),
        Command::Unseal(args) => unseal::command(args),
        Command::Schema => schema::command(),
        Command::Completions(args) => completions::command(args),
        Command::Init(args) => init::command(args),
    }
}
