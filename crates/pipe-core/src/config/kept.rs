//! Columns that stages carry along: `keep_columns`, and `by`, which reads them.

use super::{Complaint, ROLES};

/// Roles that say something of a row and are not what a model reads or learns.
const DESCRIBING: [&str; 2] = ["group", "time"];

/// Each column once.
pub(super) fn distinct_columns(setting: &str, columns: &[String]) -> Result<(), Complaint> {
    for (at, column) in columns.iter().enumerate() {
        if column.is_empty() {
            return Err(Complaint::new(setting, format!("`{setting}` names a column without a name")));
        }
        if columns[..at].contains(column) {
            return Err(Complaint::new(setting, format!("`{setting}` names `{column}` twice")));
        }
    }
    Ok(())
}

/// What `keep_columns` may name, as far as the setting alone says.
pub(super) fn kept_columns(columns: &[String]) -> Result<(), Complaint> {
    distinct_columns("keep_columns", columns)?;
    match columns.iter().find(|column| *column == "id" || (ROLES.contains(&column.as_str()) && !DESCRIBING.contains(&column.as_str()))) {
        Some(column) => Err(Complaint::new("keep_columns", format!("`keep_columns` names `{column}`, which the stage reads itself"))
            .hint("it is for `group`, `time` and columns of `columns.extra`; copy a role there under another name to keep it")),
        None => Ok(()),
    }
}
