//! The columns that are wanted of a source, and the ones that every source has: `$file`, `$stem`, `$folder`.

use std::path::Path;

use pipe_core::config::{ColumnsConfig, Compression};

/// What a source must have of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The column, of a type that holds text where the format has types.
    Text,
    /// The column, of any type.
    Any,
    /// Nothing: cells of a file without it are missing.
    Optional,
}

/// The source columns wanted, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    pub(super) columns: Vec<WantedColumn>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct WantedColumn {
    pub(super) name: String,
    /// Who asks for it, as pipeline files say it; for messages.
    pub(super) setting: String,
    pub(super) need: Need,
    pub(super) of_file: Option<OfFile>,
}

/// A column whose value is the same for all records of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfFile {
    Name,
    Stem,
    Folder,
}

impl Wanted {
    pub fn new(names: Vec<String>) -> Wanted {
        let mut wanted = Wanted::default();
        for name in names {
            wanted.push(&name, "columns", Need::Any);
        }
        wanted
    }

    /// Roles in their order, then the further columns that come from the source.
    pub fn of(columns: &ColumnsConfig) -> Wanted {
        let mut wanted = Wanted::default();
        for (role, name) in columns.roles() {
            let need = match role {
                "text" | "text_pair" | "question" | "context" | "prompt" | "completion" => Need::Text,
                _ => Need::Any,
            };
            wanted.push(name, &format!("columns.{role}"), need);
        }
        for (name, extra) in columns.extra.iter().filter(|(_, extra)| extra.value.is_none()) {
            let need = if extra.required { Need::Any } else { Need::Optional };
            wanted.push(extra.from.as_deref().unwrap_or(name), &format!("columns.extra.{name}"), need);
        }
        wanted
    }

    /// One more column, at the end. `setting` names it in messages.
    pub fn push(&mut self, name: &str, setting: &str, need: Need) {
        let of_file = match name {
            "$file" => Some(OfFile::Name),
            "$stem" => Some(OfFile::Stem),
            "$folder" => Some(OfFile::Folder),
            _ => None,
        };
        self.columns.push(WantedColumn { name: name.to_owned(), setting: setting.to_owned(), need, of_file });
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|wanted| wanted == name)
    }

    /// The values that the wanted columns have for a file that people call `name`, where they are the file's.
    pub fn of_file(&self, name: &str) -> Vec<String> {
        self.columns.iter().filter_map(|column| Some(column.of_file?.value(name))).collect()
    }

    /// Whether rows depend on what their file is called.
    pub fn has_file_names(&self) -> bool {
        self.columns.iter().any(|column| column.of_file.is_some())
    }
}

impl OfFile {
    /// Of the file that people call `name`: a path, or a URL.
    pub(super) fn value(self, name: &str) -> String {
        let name = if name.contains("://") { name.split(['?', '#']).next().unwrap_or(name) } else { name };
        let path = Path::new(name);
        let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
        match self {
            OfFile::Name => text(path.file_name()),
            OfFile::Stem => {
                let packed = path.extension().and_then(|extension| Compression::of_extension(&extension.to_str()?.to_ascii_lowercase()));
                let inner = if packed.is_some() { path.file_stem().map(Path::new) } else { Some(path) };
                text(inner.and_then(Path::file_stem))
            }
            OfFile::Folder => text(path.parent().and_then(Path::file_name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_name_its_stem_and_its_folder() {
        for (name, expected) in [
            ("data/pos/12.5.txt.gz", ["12.5.txt.gz", "12.5", "pos"]),
            ("a.csv", ["a.csv", "a", ""]),
            ("https://example.com/set/neg/1.txt?token=x/y", ["1.txt", "1", "neg"]),
            ("-", ["-", "-", ""]),
            ("rows", ["rows", "rows", ""]),
        ] {
            assert_eq!([OfFile::Name, OfFile::Stem, OfFile::Folder].map(|column| column.value(name)), expected, "{name}");
        }
    }
}
