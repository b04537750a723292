//! Which position of a record plays which role.

use std::path::Path;

use pipe_core::config::ColumnsConfig;
use pipe_core::file::nearest;
use pipe_core::{Error, Result};

use super::roles;

/// Positions of the mapped columns in a header.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnMap {
    /// Fields in the header.
    pub width: usize,
    pub text: usize,
    pub text_pair: Option<usize>,
    pub label: Option<usize>,
    pub id: Option<usize>,
    /// Names of the columns that no role takes.
    pub dropped: Vec<String>,
}

impl ColumnMap {
    /// For a look at a file of which nothing is known: no column has a role.
    pub(super) fn unmapped(header: &[String]) -> ColumnMap {
        ColumnMap { width: header.len(), text: 0, text_pair: None, label: None, id: None, dropped: header.to_vec() }
    }

    /// Finds every mapped column in the header of `path`.
    pub fn of_header(columns: &ColumnsConfig, header: &[String], path: &Path) -> Result<ColumnMap> {
        let find = |role: &str, name: &str| {
            header.iter().position(|column| column == name).ok_or_else(|| {
                let error = Error::input(format!("{} has no column `{name}` (named by `columns.{role}`)", path.display()));
                // Only a name close to the one asked for is shown: without a header line, the "names" would be a row.
                match nearest(name, header.iter().map(String::as_str)) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(format!("its first line has {} fields; is that a header, and are format and delimiter right?", header.len())),
                }
            })
        };
        let mut map = ColumnMap { width: header.len(), text: 0, text_pair: None, label: None, id: None, dropped: Vec::new() };
        for (role, name) in roles(columns) {
            let at = find(role, name)?;
            match role {
                "text" => map.text = at,
                "text_pair" => map.text_pair = Some(at),
                "label" => map.label = Some(at),
                _ => map.id = Some(at),
            }
        }
        let taken: Vec<&str> = roles(columns).into_iter().map(|(_, name)| name).collect();
        map.dropped = header.iter().filter(|name| !taken.contains(&name.as_str())).cloned().collect();
        Ok(map)
    }
}
