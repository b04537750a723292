//! The stage `sql`: its query over the artifacts that it reads, split by split or once.

use std::collections::BTreeMap;
use std::path::Path;

use pipe_core::config::{SqlConfig, SqlSplit};
use pipe_core::{Error, IoContext, Result, Summary};
use pipe_data::table::TableArtifact;
use pipe_sql::{Query, Table, TableName};
use serde_json::json;

use super::{input_of, no_such_part, tables};
use crate::stages::StageContext;

/// What rows that are not split are called, as ingest calls them.
const ALL: &str = "all";

pub(crate) fn run(config: &SqlConfig, context: &StageContext<'_>, out: &Path) -> Result<Summary> {
    let query = Query::parse(&config.query)?;
    let scratch = context.pending.scratch();
    std::fs::create_dir_all(&scratch).doing("make the folder", &scratch)?;
    let first = context.splits(0);
    let by_split = config.split == SqlSplit::Each && !first.is_empty();
    let rows_in = |split: &str| if by_split { first.get(split).copied() } else { Some(first.values().sum()).filter(|_| !first.is_empty()) };
    let splits: Vec<String> = if by_split { first.keys().cloned().collect() } else { vec![ALL.to_owned()] };
    let mut table = TableArtifact::new(out);
    for split in &splits {
        context.progress.check()?;
        let tables = bind(&query, context, by_split.then_some(split.as_str()))?;
        let result = scratch.join("result.parquet");
        let written = query.prepare(&tables)?.write_parquet(&result, context.progress);
        let added = written.and_then(|()| table.add(split, &result, rows_in(split), context.progress));
        // Also what a query that failed had written.
        let _ = std::fs::remove_file(&result);
        added?;
    }
    let report = table.finish(&context.inputs)?;
    let splits: BTreeMap<String, u64> = report.splits.iter().map(|(split, rows)| (split.clone(), rows.rows)).collect();
    let rows = splits.values().sum();
    let total: u64 = first.values().sum();
    let line = if total > 0 { format!("{rows} rows of {total}") } else { format!("{rows} rows") };
    let figures = BTreeMap::from([("report".to_owned(), json!(report))]);
    Ok(Summary { splits, rows, line, table: String::new(), figures })
}

/// What the tables of the query are while `split` is queried; absent: all rows.
fn bind(query: &Query, context: &StageContext<'_>, split: Option<&str>) -> Result<BTreeMap<TableName, Table>> {
    let names = context.step.tables();
    let mut bound = BTreeMap::new();
    for (name, place) in query.tables() {
        let at = input_of(&names, name).ok_or_else(|| Error::internal(format!("the query reads `{name}`, which is no input")))?;
        let (artifact, splits) = (context.inputs[at], context.step.inputs[at].splits.as_deref());
        let known: Vec<String> = context.splits(at).into_keys().collect();
        let table = match (&name.part, split) {
            (Some(part), _) if !known.contains(part) => return Err(no_such_part(name, place, &known)),
            (Some(part), _) => tables::part(artifact, part),
            // The same split of each stage that has it belongs together.
            (None, Some(split)) if known.iter().any(|known| known == split) => tables::part(artifact, split),
            (None, _) => tables::rows(artifact, splits),
        };
        bound.insert(name.clone(), table.ok_or_else(|| Error::internal(format!("the output of `{name}` has no rows")))?);
    }
    Ok(bound)
}
