//! `pipe describe`: what is in a stage's rows, in numbers.

use std::collections::BTreeSet;

use pipe_core::{Error, Result};
use pipe_sql::{ColumnFacts, Facts, Spread, Table};
use serde_json::{Map, Value, json};

use super::commands::{Outputs, table_name};
use super::print::{shown, table};
use super::tables;
use crate::cli::DescribeArgs;
use crate::status::Look;
use crate::terminal::print_result;

pub(crate) fn command(args: &DescribeArgs) -> Result<u8> {
    let look = Look::open(&args.file)?;
    let plan = look.plan()?;
    let name = table_name(&args.table)?;
    let mut outputs = Outputs::new(&look, &plan, &args.file);
    let whole = outputs.table(&name)?;
    let artifact = outputs.artifact(&name.stage)?;
    // Each split by itself, whose name then is no column.
    let parts: Vec<(Option<String>, Table)> = match &name.part {
        Some(part) => vec![(Some(part.clone()), whole)],
        None if whole.parts.iter().any(|(split, _)| split.is_some()) => {
            let splits = artifact.manifest.splits.keys();
            splits.filter_map(|split| Some((Some(split.clone()), tables::part(&artifact, split)?))).collect()
        }
        None => vec![(None, whole)],
    };
    let facts = parts.iter().map(|(split, table)| Ok((split.as_deref(), pipe_sql::describe(table)?))).collect::<Result<Vec<_>>>()?;
    let text = if args.json {
        let splits: Vec<Value> = facts.iter().map(|(split, facts)| json_of(*split, facts)).collect();
        let rows: u64 = facts.iter().map(|(_, facts)| facts.rows).sum();
        let document = json!({"stage": name.stage, "artifact": artifact.manifest.content, "rows": rows, "splits": splits});
        serde_json::to_string_pretty(&document).map_err(|e| Error::internal(e.to_string()))?
    } else {
        readable(&facts)
    };
    print_result(&text);
    Ok(0)
}

fn json_of(split: Option<&str>, facts: &Facts) -> Value {
    let column = |column: &ColumnFacts| {
        let mut told = json!({"name": column.name, "type": column.data_type, "nulls": column.nulls});
        if let Some(Spread { of, min, mean, p50, p95, max }) = &column.spread {
            told["spread"] = json!({"of": of, "min": min, "mean": mean, "p50": p50, "p95": p95, "max": max});
        }
        if let Some(classes) = &column.classes {
            told["classes"] = classes.iter().map(|(class, rows)| (class.clone(), json!(rows))).collect::<Map<_, _>>().into();
            if column.other_classes > 0 {
                told["other_classes"] = json!(column.other_classes);
            }
        }
        told
    };
    json!({"split": split, "rows": facts.rows, "columns": facts.columns.iter().map(column).collect::<Vec<_>>()})
}

/// Rows by split, then each column, then the classes.
fn readable(facts: &[(Option<&str>, Facts)]) -> String {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    let total: u64 = facts.iter().map(|(_, facts)| facts.rows).sum();
    let mut blocks = Vec::new();
    let mut rows = vec![words(&["split", "rows"])];
    rows.extend(facts.iter().map(|(split, facts)| vec![split.unwrap_or("all").to_owned(), facts.rows.to_string()]));
    if facts.len() > 1 {
        rows.push(vec!["all".to_owned(), total.to_string()]);
    }
    blocks.push(table(&rows, &[false, true]));

    let mut rows = vec![words(&["column", "split", "type", "nulls", "of", "min", "mean", "p50", "p95", "max"])];
    for column in names(facts) {
        let mut name = shown(&column);
        for (split, column) in facts.iter().filter_map(|(split, facts)| Some((split, facts.columns.iter().find(|found| found.name == column)?))) {
            let mut row = vec![std::mem::take(&mut name), split.unwrap_or("all").to_owned(), column.data_type.clone(), column.nulls.to_string()];
            if let Some(Spread { of, min, mean, p50, p95, max }) = &column.spread {
                row.push((*of).to_owned());
                row.extend([min, mean, p50, p95, max].map(|value| figure(*value)));
            }
            rows.push(row);
        }
    }
    blocks.push(table(&rows, &[false, false, false, true, false, true, true, true, true, true]));

    for column in names(facts) {
        let found: Vec<Option<&ColumnFacts>> = facts.iter().map(|(_, facts)| facts.columns.iter().find(|found| found.name == column)).collect();
        let classes: BTreeSet<&String> =
            found.iter().flatten().filter_map(|column| column.classes.as_ref()).flat_map(|classes| classes.keys()).collect();
        if classes.is_empty() {
            continue;
        }
        let mut rows = vec![vec![shown(&column)]];
        rows[0].extend(facts.iter().map(|(split, _)| split.unwrap_or("rows").to_owned()));
        let counted = |class: &String| {
            found.iter().map(|column| column.and_then(|column| column.classes.as_ref()?.get(class)).copied().unwrap_or(0)).collect::<Vec<u64>>()
        };
        let line = |name: String, counts: Vec<u64>| [vec![name], counts.iter().map(u64::to_string).collect()].concat();
        rows.extend(classes.iter().map(|class| line(shown(class), counted(class))));
        let others: Vec<u64> = found.iter().map(|column| column.map_or(0, |column| column.other_classes)).collect();
        if others.iter().any(|rows| *rows > 0) {
            rows.push(line("(others)".to_owned(), others));
        }
        blocks.push(table(&rows, &[vec![false], vec![true; facts.len()]].concat()));
    }
    blocks.join("\n\n")
}

/// All columns, in the order in which they come.
fn names(facts: &[(Option<&str>, Facts)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for column in facts.iter().flat_map(|(_, facts)| &facts.columns) {
        if !names.contains(&column.name) {
            names.push(column.name.clone());
        }
    }
    names
}

/// A whole number as it is, any other with a few digits.
fn figure(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    match value.abs() {
        small if small < 1.0 => format!("{value:.4}"),
        middling if middling < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}
