//! `pipe sql` and `pipe head`: the rows that stages left, on standard output.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use pipe_core::cache::{Artifact, Cache};
use pipe_core::file::suggestion;
use pipe_core::{Error, Plan, Result};
use pipe_sql::{Query, Table, TableName};

use super::print::Printer;
use super::tables;
use crate::cli::{FileArgs, HeadArgs, SqlArgs};
use crate::status::{Look, State};
use crate::terminal::print_note;

/// A person reads no more; what reads a pipe wants all.
const TERMINAL_ROWS: usize = 100;

pub(crate) fn sql(args: &SqlArgs) -> Result<u8> {
    let query = Query::parse(&args.query)?;
    let look = Look::open(&args.file)?;
    let plan = look.plan()?;
    let mut outputs = Outputs::new(&look, &plan, &args.file);
    let mut bound = BTreeMap::new();
    for (name, place) in query.tables() {
        let table = outputs.table(name).map_err(|error| Error { message: format!("{} ({place})", error.message), ..error })?;
        bound.insert(name.clone(), table);
    }
    let prepared = query.prepare(&bound)?;
    let limit = match args.limit {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => std::io::stdout().is_terminal().then_some(TERMINAL_ROWS),
    };
    let mut printer = Printer::new(args.format, prepared.columns());
    let more = prepared.rows(limit, |rows| printer.rows(rows))?;
    printer.finish()?;
    if let Some(limit) = limit.filter(|_| more && args.limit.is_none()) {
        print_note(&format!("only the first {limit} rows are shown; --limit 0 shows all"));
    }
    Ok(0)
}

pub(crate) fn head(args: &HeadArgs) -> Result<u8> {
    let look = Look::open(&args.file)?;
    let plan = look.plan()?;
    let name = table_name(&args.table)?;
    let table = Outputs::new(&look, &plan, &args.file).table(&name)?;
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let from = name.part.as_ref().map_or_else(|| quoted(&name.stage), |part| format!("{}.{}", quoted(&name.stage), quoted(part)));
    let prepared = Query::parse(&format!("SELECT * FROM {from}"))?.prepare(&BTreeMap::from([(name, table)]))?;
    let mut printer = Printer::new(args.format, prepared.columns());
    prepared.rows(Some(args.rows), |rows| printer.rows(rows))?;
    printer.finish()?;
    Ok(0)
}

/// `stage`, `stage.split`, `stage[axis=0.5].split`.
pub(super) fn table_name(text: &str) -> Result<TableName> {
    let after = text.rfind(']').map_or(0, |end| end + 1);
    let (stage, part) = match text[after..].find('.') {
        Some(dot) => (&text[..after + dot], Some(text[after + dot + 1..].to_owned())),
        None => (text, None),
    };
    if stage.is_empty() || part.as_ref().is_some_and(String::is_empty) {
        return Err(Error::usage(format!("`{text}` names no stage")).hint("write `ingest`, or one split of it: `ingest.train`"));
    }
    Ok(TableName { stage: stage.to_owned(), part })
}

/// What the stages of a pipeline left: what is up to date, or else what there was last.
pub(super) struct Outputs<'l> {
    look: &'l Look,
    plan: &'l Plan<'l>,
    args: &'l FileArgs,
    /// Looked up with the first table.
    states: Option<Vec<State>>,
    /// Held while they are read.
    pub(super) leased: BTreeMap<String, Artifact>,
}

impl<'l> Outputs<'l> {
    pub(super) fn new(look: &'l Look, plan: &'l Plan<'l>, args: &'l FileArgs) -> Self {
        Outputs { look, plan, args, states: None, leased: BTreeMap::new() }
    }

    pub(super) fn table(&mut self, name: &TableName) -> Result<Table> {
        let artifact = self.artifact(&name.stage)?;
        let found = match &name.part {
            None => tables::rows(&artifact, None),
            Some(part) => tables::part(&artifact, part),
        };
        found.ok_or_else(|| match &name.part {
            None => Error::usage(format!("the output of `{}` is not rows", name.stage)),
            Some(part) => {
                let known = tables::parts(&artifact);
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                let hint = suggestion(part, &names).unwrap_or_else(|| format!("it has: {}", known.join(", ")));
                Error::usage(format!("`{}` has no table `{part}`", name.stage)).hint(hint)
            }
        })
    }

    /// The output of a stage, kept from being swept away while this lives.
    pub(super) fn artifact(&mut self, stage: &str) -> Result<Artifact> {
        if let Some(artifact) = self.leased.get(stage) {
            return Ok(artifact.clone());
        }
        let at = self.plan.find_one(stage)?;
        if self.states.is_none() {
            self.states = Some(self.look.states(self.plan)?);
        }
        let state = &self.states.as_ref().expect("filled above")[at];
        let artifact = match state {
            State::Fresh { artifact, .. } => artifact.as_ref().clone(),
            State::Stale { reasons, .. } => {
                let last = self.look.last_output(stage)?;
                let why = reasons.join(", ");
                let run = format!("pipe run {} {stage}", self.args.file.display());
                let Some(last) = last else {
                    return Err(Error::input(format!("stage `{stage}` has no output yet: {why}")).hint(run));
                };
                print_note(&format!("`{stage}` is stale ({why}); this is its last output. {run}"));
                last
            }
        };
        // Without a lease where the cache cannot be written to: then nobody sweeps it either.
        let content = &artifact.manifest.content;
        let leased = match Cache::open(self.look.cache.dir()).and_then(|cache| cache.artifact(content)) {
            Ok(Some(leased)) => leased,
            Ok(None) => return Err(Error::input(format!("the output of `{stage}` was just removed")).hint("run it again")),
            Err(_) => artifact,
        };
        self.leased.insert(stage.to_owned(), leased.clone());
        Ok(leased)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_a_matrix_value_ends_no_stage() {
        let parsed = |text: &str| table_name(text).map(|name| (name.stage, name.part)).map_err(|error| error.message);
        assert_eq!(parsed("ingest"), Ok(("ingest".into(), None)));
        assert_eq!(parsed("ingest.train"), Ok(("ingest".into(), Some("train".into()))));
        assert_eq!(parsed("tokenize[rate=0.5].test"), Ok(("tokenize[rate=0.5]".into(), Some("test".into()))));
        assert!(parsed("ingest.").is_err() && parsed(".train").is_err() && parsed("").is_err());
    }
}
