//! Where the wanted columns of a file are.

use std::path::Path;

use pipe_core::config::{ColumnsConfig, SourceConfig};
use pipe_core::file::nearest;
use pipe_core::source::SourceFile;
use pipe_core::{Error, Result};

use super::wanted::{Need, OfFile, Wanted, WantedColumn};
use super::{CHUNK_RECORDS, Framer, KeyNames};

/// For each wanted column, where its values come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    /// Fields of a record.
    pub(super) width: usize,
    pub(super) slots: Vec<Slot>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Slot {
    /// The field at this position.
    At(usize),
    /// The value of a key.
    Key,
    /// The same for all records.
    OfFile(String),
    /// The file has no such column and need not have.
    Absent,
}

fn of_file(column: &WantedColumn, file: &SourceFile) -> Option<Slot> {
    column.of_file.map(|which: OfFile| Slot::OfFile(which.value(&file.name)))
}

fn missing(column: &WantedColumn, file: &SourceFile) -> Error {
    Error::input(format!("{} has no column `{}` (named by `{}`)", file.shown().display(), column.name, column.setting))
}

impl Header {
    fn find(wanted: &Wanted, names: &[String], file: &SourceFile, hint: impl Fn(&WantedColumn) -> String) -> Result<Header> {
        let mut slots = Vec::with_capacity(wanted.len());
        for column in &wanted.columns {
            let slot = match (of_file(column, file), names.iter().position(|name| *name == column.name)) {
                (Some(slot), _) => slot,
                (None, Some(at)) => Slot::At(at),
                (None, None) if column.need == Need::Optional => Slot::Absent,
                (None, None) => return Err(missing(column, file).hint(hint(column))),
            };
            slots.push(slot);
        }
        Ok(Header { width: names.len(), slots })
    }

    /// `names` are the fields of a first line that should hold names, and may hold a row: only a name close to the one
    /// asked for is shown.
    pub(super) fn of_first_line(wanted: &Wanted, names: &[String], file: &SourceFile) -> Result<Header> {
        Header::find(wanted, names, file, |column| match nearest(&column.name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its first line has {} fields; is that a header, and are format and delimiter right?", names.len()),
        })
    }

    /// `names` are those of a schema.
    pub(super) fn of_schema(wanted: &Wanted, names: &[String], file: &SourceFile) -> Result<Header> {
        Header::find(wanted, names, file, |column| match nearest(&column.name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its columns are {}", names.join(", ")),
        })
    }

    /// Every record names its columns itself.
    pub(super) fn of_keys(wanted: &Wanted, file: &SourceFile) -> Header {
        let slots: Vec<Slot> = wanted.columns.iter().map(|column| of_file(column, file).unwrap_or(Slot::Key)).collect();
        Header { width: 0, slots }
    }
}

/// Keys of the first records of a file, sorted.
pub(super) fn first_keys(file: &SourceFile, source: &SourceConfig) -> Result<Vec<String>> {
    let nothing = Wanted::default();
    let mut names = KeyNames::default();
    // What is wrong with the file is told by who reads it.
    if let Ok(Some(chunk)) = Framer::open(file, source, &nothing, CHUNK_RECORDS)?.next_chunk() {
        chunk.parse(&nothing, &mut names, &mut |_, _| Ok(()))?;
    }
    Ok(names.common().map(str::to_owned).collect())
}

/// Whether a file whose columns are `names` has those that `columns.required` lists and none of `columns.forbidden`.
pub fn check_columns(columns: &ColumnsConfig, names: &[String], path: &Path) -> Result<()> {
    if let Some(missing) = columns.required.iter().find(|name| !name.starts_with('$') && !names.contains(name)) {
        return Err(Error::input(format!("{} has no column `{missing}`, which `columns.required` lists", path.display()))
            .hint("is it the right file? or take the column off the list"));
    }
    if let Some(present) = columns.forbidden.iter().find(|name| names.contains(name)) {
        return Err(Error::input(format!("{} has the column `{present}`, which `columns.forbidden` lists", path.display()))
            .hint("ask whoever made the file to leave it out"));
    }
    Ok(())
}
