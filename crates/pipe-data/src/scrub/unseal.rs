//! Sealed tokens back to their values, for the holder of the key; and sealed rejected records for that of their secret.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{LargeStringBuilder, StringBuilder, StringViewBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeListArray, ListArray, RecordBatch, StructArray};
use arrow_json::LineDelimitedWriter;
use arrow_schema::DataType;
use pipe_core::{Error, IoContext, Result};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::key::{ScrubKey, read_secret, write_secret};
use super::operator::Sealer;
use super::token::{SEALED, TokenKind, tokens};
use crate::parquet_io::{TableReader, TableWriter};
use crate::read::seal::{generate_recipient, unseal_record};

/// The column of `rejects.parquet` that holds sealed records.
const RECORDS: &str = "sealed";

/// Opens the tokens that one key sealed.
pub struct Unsealer {
    sealer: Sealer,
    /// Only in these columns; empty: in all.
    columns: Vec<String>,
    opened: u64,
    refused: u64,
}

impl Unsealer {
    /// `columns`: where tokens are opened, of tables and JSON objects; empty: everywhere.
    pub fn new(key: &ScrubKey, columns: Vec<String>) -> Unsealer {
        Unsealer { sealer: Sealer::new(key), columns, opened: 0, refused: 0 }
    }

    /// Tokens that were opened so far.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Tokens that this key did not seal; they stay as they are.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// An error where this key opened none of the tokens that were met.
    pub fn check(&self) -> Result<()> {
        if self.opened == 0 && self.refused > 0 {
            return Err(Error::usage(format!("this key opens none of the {} sealed values; nothing was written", self.refused))
                .hint("`scrub.json` beside the rows, or `pipe.json` of a model, names the id of the key that sealed them"));
        }
        Ok(())
    }

    /// One text with its tokens opened. `json`: it is written in JSON, and so will be the values.
    fn text<'t>(&mut self, text: &'t str, json: bool) -> Cow<'t, str> {
        if !text.contains(SEALED) {
            return Cow::Borrowed(text);
        }
        let mut out = String::new();
        let mut from = 0;
        for (at, token) in tokens(text) {
            let TokenKind::Sealed(code) = token.kind else { continue };
            let Some(value) = self.sealer.open(token.label, code) else {
                self.refused += 1;
                continue;
            };
            self.opened += 1;
            out.push_str(&text[from..at.start]);
            if json {
                let quoted = Zeroizing::new(serde_json::to_string(&*value).expect("a text"));
                out.push_str(&quoted[1..quoted.len() - 1]);
            } else {
                out.push_str(&value);
            }
            from = at.end;
        }
        if from == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[from..]);
        Cow::Owned(out)
    }

    fn is_meant(&self, column: &str) -> bool {
        self.columns.is_empty() || self.columns.iter().any(|meant| meant == column)
    }

    /// Lines of text or of JSON. Bytes that are no UTF-8 pass as they are. `name` is for messages.
    pub fn lines(&mut self, mut input: impl BufRead, name: &Path, mut out: impl Write, out_name: &Path) -> Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line).doing("read", name)? == 0 {
                return out.flush().doing("write", out_name);
            }
            match std::str::from_utf8(&line) {
                Ok(text) => out.write_all(self.line(text).as_bytes()),
                Err(_) => out.write_all(&line),
            }
            .doing("write", out_name)?;
        }
    }

    fn line<'t>(&mut self, line: &'t str) -> Cow<'t, str> {
        let content = line.trim();
        if !line.contains(SEALED) {
            return Cow::Borrowed(line);
        }
        let json = content.starts_with(['{', '[', '"']) && serde_json::from_str::<&RawValue>(content).is_ok();
        if self.columns.is_empty() || !json {
            // Columns are meant, and there are none: every token stays.
            return if self.columns.is_empty() { self.text(line, json) } else { Cow::Borrowed(line) };
        }
        let Ok(Object(members)) = serde_json::from_str::<Object<'_>>(content) else { return Cow::Borrowed(line) };
        let mut out = String::with_capacity(line.len());
        out.push('{');
        for (at, (name, value)) in members.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::to_string(name).expect("a text"));
            out.push(':');
            out.push_str(&if self.is_meant(name) { self.text(value.get(), true) } else { Cow::Borrowed(value.get()) });
        }
        out.push('}');
        out.push_str(&line[line.trim_end().len()..]);
        Cow::Owned(out)
    }

    /// Parquet files of equal columns, to one Parquet file.
    pub fn table(&mut self, files: &[PathBuf], out: &Path) -> Result<()> {
        let mut writer: Option<(TableWriter, arrow_schema::SchemaRef)> = None;
        for file in files {
            for batch in TableReader::open(file)? {
                let batch = self.batch(&batch?)?;
                let (writer, schema) = match &mut writer {
                    Some(writer) => writer,
                    None => {
                        let columns: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
                        let plain: Vec<&str> = columns.iter().map(String::as_str).collect();
                        writer.insert((TableWriter::create(out, batch.schema(), &plain)?, batch.schema()))
                    }
                };
                if schema.fields() != batch.schema().fields() {
                    return Err(
                        Error::usage(format!("{} has other columns than the files before it", file.display())).hint("give the folder of one split")
                    );
                }
                writer.write(batch.columns().to_vec(), schema)?;
            }
        }
        match writer {
            Some((writer, _)) => writer.finish_durably().map(|_| ()),
            None => Err(Error::input("there are no rows to write")),
        }
    }

    /// Parquet files as lines of JSON.
    pub fn table_lines(&mut self, files: &[PathBuf], mut out: impl Write, out_name: &Path) -> Result<()> {
        for file in files {
            for batch in TableReader::open(file)? {
                let batch = self.batch(&batch?)?;
                let mut writer = LineDelimitedWriter::new(&mut out);
                // The library's message may quote a value.
                let cannot = |_| Error::stage(format!("cannot write {} as lines of JSON", out_name.display()));
                writer.write(&batch).map_err(cannot)?;
                writer.finish().map_err(cannot)?;
            }
        }
        out.flush().doing("write", out_name)
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        if let Some(missing) = self.columns.iter().find(|column| schema.index_of(column).is_err()) {
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::usage(format!("there is no column `{missing}`")).maybe_hint(pipe_core::file::suggestion(missing, &known)));
        }
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, column)| if self.is_meant(field.name()) { self.array(column) } else { Arc::clone(column) }).collect();
        RecordBatch::try_new(schema, columns).map_err(|_| Error::internal("an unsealed column has another type"))
    }

    /// A text, or a column's lists and structs as JSON, which they stay.
    fn cell<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        let json = text.starts_with(['{', '[']) && text.contains(SEALED) && serde_json::from_str::<&RawValue>(text).is_ok();
        self.text(text, json)
    }

    /// Texts at any depth of lists and structs.
    fn array(&mut self, array: &ArrayRef) -> ArrayRef {
        match array.data_type() {
            DataType::Utf8 => {
                let mut out = StringBuilder::new();
                array.as_string::<i32>().iter().for_each(|text| out.append_option(text.map(|text| self.cell(text))));
                Arc::new(out.finish())
            }
            DataType::LargeUtf8 => {
                let mut out = LargeStringBuilder::new();
                array.as_string::<i64>().iter().for_each(|text| out.append_option(text.map(|text| self.cell(text))));
                Arc::new(out.finish())
            }
            DataType::Utf8View => {
                let mut out = StringViewBuilder::new();
                array.as_string_view().iter().for_each(|text| out.append_option(text.map(|text| self.cell(text))));
                Arc::new(out.finish())
            }
            DataType::List(field) => {
                let list = array.as_list::<i32>();
                Arc::new(ListArray::new(Arc::clone(field), list.offsets().clone(), self.array(list.values()), list.nulls().cloned()))
            }
            DataType::LargeList(field) => {
                let list = array.as_list::<i64>();
                Arc::new(LargeListArray::new(Arc::clone(field), list.offsets().clone(), self.array(list.values()), list.nulls().cloned()))
            }
            DataType::Struct(fields) if !fields.is_empty() => {
                let columns = array.as_struct().columns().iter().map(|column| self.array(column)).collect();
                Arc::new(StructArray::new(fields.clone(), columns, array.nulls().cloned()))
            }
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                let values = self.array(dictionary.values());
                dictionary.with_values(values)
            }
            _ => Arc::clone(array),
        }
    }
}

/// A JSON object's members in their order.
struct Object<'o>(Vec<(String, &'o RawValue)>);

impl<'de: 'o, 'o> serde::Deserialize<'de> for Object<'o> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A new pair of keys for rejected records: the secret half goes to a new file that its owner alone can read, the public
/// half, for `rejects.recipient`, comes back.
pub fn new_recipient(path: &Path) -> Result<String> {
    let (secret, public) = generate_recipient();
    write_secret(path, &format!("{}\n", *Zeroizing::new(secret)))?;
    Ok(public)
}

/// What rejected records were: their raw bytes in the order of the file, a line end behind each that has none.
/// `secret` is a file that [`new_recipient`] wrote. The number of records.
pub fn open_records(rejects: &Path, secret: &Path, mut out: impl Write, out_name: &Path) -> Result<u64> {
    let secret = read_secret(secret)?;
    let mut records = 0;
    for batch in TableReader::open(rejects)? {
        let batch = batch?;
        let sealed = batch.column_by_name(RECORDS).ok_or_else(|| {
            Error::usage(format!("{} holds no sealed records", rejects.display()))
                .hint("records are dropped unless the ingest has `rejects: { recipient: … }`")
        })?;
        let sealed =
            sealed.as_binary_opt::<i32>().ok_or_else(|| Error::input(format!("the column `{RECORDS}` of {} is not binary", rejects.display())))?;
        for record in sealed.iter().flatten() {
            let raw = Zeroizing::new(unseal_record(secret.trim(), record)?);
            out.write_all(&raw).doing("write", out_name)?;
            if !raw.ends_with(b"\n") {
                out.write_all(b"\n").doing("write", out_name)?;
            }
            records += 1;
        }
    }
    out.flush().doing("write", out_name)?;
    Ok(records)
}

/// The Parquet files of `path`: itself, or those of an artifact's folder or of one split in it. Of equal columns.
pub fn parquet_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = BTreeSet::new();
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).doing("list", &folder)? {
            let path = entry.doing("list", &folder)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && depth == 0 {
                folders.push((path, 1));
            } else if name.ends_with(".parquet") && name != "rejects.parquet" {
                found.insert(path);
            }
        }
    }
    if found.is_empty() {
        return Err(Error::input(format!("{} holds no Parquet files", path.display())));
    }
    Ok(found.into_iter().collect())
}
