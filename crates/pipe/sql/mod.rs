//! Queries: the stage `sql`, and `pipe sql`, `head` and `describe`, which read what stages left.

mod commands;
mod describe;
mod print;
mod stage;
mod tables;

use pipe_core::config::StageConfig;
use pipe_core::file::{PipelineFile, Problem, suggestion};
use pipe_core::{Error, Plan, Result};
use pipe_sql::{Query, TableName};

pub(crate) use commands::{head, sql};
pub(crate) use describe::command as describe;
pub(crate) use print::Format;
pub(crate) use stage::run;

/// The plan of a file whose queries were read too.
pub(crate) fn plan(file: &PipelineFile) -> Result<Plan<'_>> {
    let plan = Plan::new(file)?;
    let mut problems = Vec::new();
    for (at, step) in plan.steps.iter().enumerate() {
        if let StageConfig::Sql(config) = &step.stage.config
            && let Err(error) = check(&plan, at, &config.query)
        {
            let message = format!("stage `{}`: {}", step.stage.name, error.message);
            problems.push(Problem::new(step.stage.span, message).maybe_hint(error.hint));
        }
    }
    if problems.is_empty() { Ok(plan) } else { Err(file.sources.error(&problems)) }
}

/// Whether a stage's query is one, and its tables are what the stage reads.
fn check(plan: &Plan<'_>, at: usize, query: &str) -> Result<()> {
    let step = &plan.steps[at];
    for (table, place) in Query::parse(query)?.tables() {
        let Some(input) = input_of(&step.tables(), table) else {
            let known = step.tables();
            let error = Error::usage(format!("the query reads `{}` ({place}), which is not in the `from:` of the stage", table.stage));
            let exists = plan.steps.iter().any(|other| other.stage.base == table.stage);
            let add = || format!("add it: `from: [{}]`", [known.as_slice(), &[&table.stage]].concat().join(", "));
            return Err(if exists { error.hint(add()) } else { error.maybe_hint(suggestion(&table.stage, &known)) });
        };
        let input = &step.inputs[input];
        let splits = input.splits.clone().unwrap_or_else(|| plan.splits_of(input.steps[0]));
        if let Some(part) = &table.part
            && !splits.contains(part)
        {
            return Err(no_such_part(table, place, &splits));
        }
    }
    Ok(())
}

fn no_such_part(table: &TableName, place: &str, known: &[String]) -> Error {
    let error = Error::usage(format!("the query reads `{table}` ({place}), which there is not"));
    if table.part.as_deref() == Some(tables::REJECTS) {
        return error.hint("what was rejected is a report, which no stage reads; query it on the command line: pipe sql FILE \"SELECT …\"");
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let nearest = table.part.as_deref().and_then(|part| suggestion(part, &names));
    error.hint(nearest.unwrap_or_else(|| format!("`{}` has no such split", table.stage)))
}

/// Which input a table is, by its name.
fn input_of(names: &[&str], table: &TableName) -> Option<usize> {
    names.iter().position(|name| *name == table.stage)
}
