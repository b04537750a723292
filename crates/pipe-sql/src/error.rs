//! What polars complains about, as errors of pipe.

use pipe_core::{Error, file::suggestion};
use polars::prelude::PolarsError;
use sqlparser::parser::ParserError;

/// Longer messages hold whole plans.
const MAX_MESSAGE: usize = 300;

/// Of the parser: quotes words of the query.
pub(crate) fn of_syntax(error: &ParserError) -> Error {
    let message = match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message.as_str(),
        ParserError::RecursionLimitExceeded => "it is nested too deeply",
    };
    let message = message.replace(" at Line: ", " at line ").replace(", Column: ", ", column ");
    Error::usage(format!("the query is not valid SQL: {}", short(&message)))
}

/// Of a query that is put together but has not read a row: quotes the query and names of columns at most.
/// `columns` are those of all its tables.
pub(crate) fn while_planning(error: &PolarsError, columns: &[String], position: impl Fn(&str) -> Option<String>) -> Error {
    let error = innermost(error);
    let missing = match error {
        PolarsError::ColumnNotFound(message) | PolarsError::SchemaFieldNotFound(message) => quoted(message),
        _ => None,
    };
    let Some(missing) = missing else {
        return Error::usage(format!("the query cannot be done: {}", short(&message_of(error))));
    };
    let place = position(missing).map(|place| format!(" ({place})")).unwrap_or_default();
    let known: Vec<&str> = columns.iter().map(String::as_str).collect();
    let error = Error::usage(format!("no table of the query has a column `{missing}`{place}"));
    error.maybe_hint(suggestion(missing, &known))
}

/// Of a query that reads rows: its own words may quote them.
pub(crate) fn while_running(error: PolarsError) -> Error {
    match innermost(&error) {
        PolarsError::IO { error, .. } => {
            let e = Error::stage(format!("a file cannot be read or written: {}", std::io::Error::from(error.kind())));
            let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
            if full { e.hint("free some space or point --cache-dir at a larger disk") } else { e }
        }
        PolarsError::InvalidOperation(_) => Error::usage("a value cannot be made what the query asks for")
            .hint("TRY_CAST gives NULL where CAST fails; a WHERE can leave such rows out"),
        PolarsError::OutOfBounds(_) => Error::usage("the query takes an element that is not there"),
        PolarsError::ShapeMismatch(_) => {
            Error::usage("the query puts columns of different lengths side by side").hint("a column beside an aggregate has to be in GROUP BY")
        }
        PolarsError::SchemaMismatch(_) | PolarsError::ColumnNotFound(_) | PolarsError::SchemaFieldNotFound(_) | PolarsError::Duplicate(_) => {
            Error::usage("the columns of the query do not fit together").hint("do all files of the table have the same columns?")
        }
        _ => {
            Error::stage("the query failed while it was computed").hint("what failed is not told, since it may quote a row; try a part of the query")
        }
    }
}

fn innermost(error: &PolarsError) -> &PolarsError {
    match error {
        PolarsError::Context { error, .. } | PolarsError::ExprContext { error, .. } => innermost(error),
        error => error,
    }
}

/// Without the kind of error that polars puts first.
fn message_of(error: &PolarsError) -> String {
    match error {
        PolarsError::AssertionError(message)
        | PolarsError::ColumnNotFound(message)
        | PolarsError::ComputeError(message)
        | PolarsError::Duplicate(message)
        | PolarsError::InvalidOperation(message)
        | PolarsError::NoData(message)
        | PolarsError::OutOfBounds(message)
        | PolarsError::SchemaFieldNotFound(message)
        | PolarsError::SchemaMismatch(message)
        | PolarsError::ShapeMismatch(message)
        | PolarsError::SQLInterface(message)
        | PolarsError::SQLSyntax(message)
        | PolarsError::StringCacheMismatch(message)
        | PolarsError::StructFieldNotFound(message) => message.to_string(),
        other => other.to_string(),
    }
}

/// The first line, as far as it is for people: without the tree of the query that polars shows of what it does not know.
fn short(message: &str) -> String {
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason is given").trim();
    if let Some((known, _)) = line.split_once(" { ") {
        return format!("{} is not supported", known.trim());
    }
    if line.chars().count() <= MAX_MESSAGE { line.to_owned() } else { line.chars().take(MAX_MESSAGE).chain("…".chars()).collect() }
}

/// The name in a message: between quotes, or the whole of it.
fn quoted(message: &str) -> Option<&str> {
    let inner = |quote: char| message.split(quote).nth(1).filter(|name| !name.is_empty());
    let plain = || Some(message.trim()).filter(|name| !name.is_empty() && !name.contains(char::is_whitespace));
    ['"', '\'', '`'].into_iter().filter(|quote| message.contains(*quote)).min_by_key(|quote| message.find(*quote)).map_or_else(plain, inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_in_what_polars_says() {
        let said = ["unable to find column \"lable\"; valid columns: [\"id\", \"label\"]", "'lable' not found", "lable"];
        assert!(said.into_iter().all(|message| quoted(message) == Some("lable")));
        assert_eq!(quoted("something else"), None);
    }

    #[test]
    fn what_is_said_while_rows_are_read_is_not_passed_on() {
        for error in [
            PolarsError::InvalidOperation("conversion from `str` to `i64` failed for value \"secret\"".into()),
            PolarsError::ComputeError("secret".into()),
            PolarsError::OutOfBounds("secret".into()),
        ] {
            let error = while_running(PolarsError::Context { error: Box::new(error), msg: "secret".into() });
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
