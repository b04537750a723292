//! Which records an ingest stage reads.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::source::STANDARD_INPUT;

use super::{Complaint, HumanDuration};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// Files or glob patterns, relative to the pipeline's root; `file://`, `http(s)://`, `s3://` and `hf://` URLs; or `-`, the standard input.
    pub paths: Vec<String>,
    /// Records written right here, instead of files.
    pub rows: Vec<BTreeMap<String, Value>>,
    /// Absent: by the file's extension.
    pub format: Option<SourceFormat>,
    /// How the files are compressed.
    pub compression: Compression,
    /// A WHATWG label (`utf-8`, `utf-16le`, `gb18030`, `big5`, `windows-1252`, …), `mac-roman`, or `auto`: found out for each record.
    pub encoding: String,
    /// CSV and TSV: one byte; absent: `,` for CSV and tab for TSV.
    pub delimiter: Option<String>,
    /// Refuses files that were written to less than this long ago: they may still be arriving.
    pub settle: Option<HumanDuration>,
    /// Refuses to start with fewer files than this.
    pub min_files: Option<usize>,
}

impl Default for SourceConfig {
    fn default() -> Self {
        SourceConfig {
            paths: Vec::new(),
            rows: Vec::new(),
            format: None,
            compression: Compression::Auto,
            encoding: "utf-8".into(),
            delimiter: None,
            settle: None,
            min_files: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    Csv,
    Tsv,
    /// One JSON object per line.
    Jsonl,
    /// One array of JSON objects.
    Json,
    Parquet,
    /// Arrow IPC, as file (Feather) or stream.
    Arrow,
    /// Each line is a text; the column is called `text`.
    Lines,
    /// Each file is a text; the column is called `text`.
    Text,
}

impl SourceFormat {
    /// By extension, one of a compression (`.gz`, `.zst`, `.bz2`, `.xz`) left aside; what `pipe predict` and a source without `format:` go by.
    pub fn of_path(path: &std::path::Path) -> Option<Self> {
        let extension = |path: &std::path::Path| Some(path.extension()?.to_str()?.to_ascii_lowercase());
        let mut last = extension(path)?;
        if Compression::of_extension(&last).is_some() {
            last = extension(std::path::Path::new(path.file_stem()?))?;
        }
        match last.as_str() {
            "csv" => Some(SourceFormat::Csv),
            "tsv" => Some(SourceFormat::Tsv),
            "jsonl" | "ndjson" => Some(SourceFormat::Jsonl),
            "json" => Some(SourceFormat::Json),
            "parquet" => Some(SourceFormat::Parquet),
            "arrow" | "arrows" | "feather" | "ipc" => Some(SourceFormat::Arrow),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// By the first bytes of each file.
    #[default]
    Auto,
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "gz" | "gzip" => Some(Compression::Gzip),
            "zst" | "zstd" => Some(Compression::Zstd),
            "bz2" => Some(Compression::Bzip2),
            "xz" => Some(Compression::Xz),
            _ => None,
        }
    }
}

impl SourceConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        if self.paths.is_empty() && self.rows.is_empty() {
            return Err(Complaint::missing("source", "{ paths: [\"data/*.csv\"] }"));
        }
        if !self.paths.is_empty() && !self.rows.is_empty() {
            return Err(Complaint::new("source.rows", "records come from `paths` or from `rows`, not from both"));
        }
        if let Some(delimiter) = &self.delimiter
            && (delimiter.len() != 1 || ["\"", "\n", "\r"].contains(&delimiter.as_str()))
        {
            return Err(Complaint::new("source.delimiter", "the delimiter must be one ASCII character, and no quote or line end"));
        }
        let inputs = self.paths.iter().filter(|path| *path == STANDARD_INPUT).count();
        if inputs > 1 {
            return Err(Complaint::new("source.paths", "the standard input can be read once"));
        }
        if inputs == 1 && self.format.is_none() {
            return Err(
                Complaint::new("source.format", "the standard input has no name to tell its format from").hint("add `format: jsonl`, or another")
            );
        }
        let of_files = self.format.is_some() || self.delimiter.is_some() || self.compression != Compression::Auto;
        if !self.rows.is_empty() && (of_files || !["utf-8", "auto"].contains(&self.encoding.as_str())) {
            return Err(Complaint::new("source.rows", "rows written here have no format, compression, delimiter or encoding"));
        }
        Ok(())
    }
}
