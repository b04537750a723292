//! The output of a query: from the query engine's own Parquet to an artifact like ingest's.
//!
//! ```text
//! train/part-00000.parquet …   the columns that the query gave, in its order
//! labels.json                  class names, sorted; none where the rows are not classified texts
//! scrub.json                   the policy that the input's texts went through
//! report.json                  rows in and out
//! ```
//!
//! What the engine writes is read as Parquet and written anew as all artifacts are: one `created_by`, no statistics, text that
//! every reader here takes for text. Parts end where the digest of a row's id says so, so that what reads them keeps most of its
//! work when rows come and go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};
use pipe_core::cache::Artifact;
use pipe_core::config::StageKind;
use pipe_core::provenance::Provenance;
use pipe_core::{Error, IoContext, Progress, Result};
use serde::Serialize;

use crate::ingest::{Classes, Cuts, Labels};
use crate::parquet_io::{TableReader, TableWriter};
use crate::scrub::ScrubPolicy;
use crate::tokenize::read_json;

/// Rows per part, about.
const PART_ROWS: usize = 32_768;

/// An artifact of queried rows while it is written.
pub struct TableArtifact<'o> {
    out: &'o Path,
    labels: Labels,
    report: TableReport,
}

/// `report.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableReport {
    /// By split of the output.
    pub splits: BTreeMap<String, TableRows>,
    /// Name → Arrow type.
    pub columns: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableRows {
    /// Of the first input; absent where that is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_in: Option<u64>,
    pub rows: u64,
}

impl<'o> TableArtifact<'o> {
    pub fn new(out: &'o Path) -> TableArtifact<'o> {
        TableArtifact { out, labels: Labels::new("label"), report: TableReport::default() }
    }

    /// Adds a split with the rows of the Parquet file `result`, in their order.
    pub fn add(&mut self, split: &str, result: &Path, rows_in: Option<u64>, progress: &dyn Progress) -> Result<()> {
        let reader = TableReader::open_plain(result)?;
        let (schema, total) = (reader.schema(), reader.rows);
        let classes = column_of_classes(&schema);
        let mut parts = Parts::new(self.out.join(split), Arc::clone(&schema), PART_ROWS)?;
        for batch in reader {
            progress.check()?;
            let batch = batch?;
            if let Some(classes) = classes.and_then(|at| Classes::of(batch.column(at))) {
                for class in (0..batch.num_rows()).flat_map(|row| classes.of_row(row)) {
                    self.labels.id_of(class)?;
                }
            }
            parts.write(&batch)?;
            progress.advance(parts.rows, total, "rows", split);
        }
        let rows = parts.finish()?;
        self.report.columns = schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect();
        self.report.splits.insert(split.to_owned(), TableRows { rows_in, rows });
        Ok(())
    }

    /// Writes what goes with the rows. `inputs` are what the query read.
    pub fn finish(self, inputs: &[&Artifact]) -> Result<TableReport> {
        let write = |name: &str, json: serde_json::Result<Vec<u8>>| {
            let path = self.out.join(name);
            std::fs::write(&path, json.expect("plain data")).doing("write", &path)
        };
        if let Some(policy) = scrub_policy(inputs)? {
            write("scrub.json", serde_json::to_vec_pretty(&policy))?;
        }
        let rows = self.report.splits.values().map(|split| split.rows).sum();
        let labels = self.labels.finish(rows, None, |_| true)?;
        write("labels.json", serde_json::to_vec_pretty(&labels))?;
        write("report.json", serde_json::to_vec_pretty(&self.report))?;
        Ok(self.report)
    }
}

/// Where the names of classes are: in `label` or `labels` beside texts, or in `tags` beside words.
fn column_of_classes(schema: &Schema) -> Option<usize> {
    let is_text = |of: &DataType| *of == DataType::Utf8;
    let is_texts = |of: &DataType| matches!(of, DataType::List(item) if is_text(item.data_type()));
    let has = |name: &str, is: &dyn Fn(&DataType) -> bool| schema.index_of(name).ok().filter(|at| is(schema.field(*at).data_type()));
    has("id", &is_text)?;
    let of_texts = has("text", &is_text).and_then(|_| has("label", &is_text).or_else(|| has("labels", &is_texts)));
    of_texts.or_else(|| has("tokens", &is_texts).and_then(|_| has("tags", &is_texts)))
}

/// The one policy that the texts of all inputs went through; absent where no input has texts.
fn scrub_policy(inputs: &[&Artifact]) -> Result<Option<ScrubPolicy>> {
    let mut found: Option<ScrubPolicy> = None;
    for input in inputs {
        let file = input.path.join("scrub.json");
        let policy: ScrubPolicy = match input.manifest.kind {
            StageKind::Tokenize => ScrubPolicy::from_json(&Provenance::read(&input.path)?.scrub)?,
            _ if file.is_file() => read_json(&file)?,
            _ => continue,
        };
        if found.as_ref().is_some_and(|other| other.digest() != policy.digest()) {
            return Err(Error::usage("the stages that the query reads were scrubbed by different policies, and its output can name only one")
                .hint("give their ingest stages the same `scrub:`"));
        }
        found = Some(policy);
    }
    Ok(found)
}

/// One split's folder of parts.
struct Parts {
    folder: PathBuf,
    schema: SchemaRef,
    cuts: Cuts,
    writer: Option<TableWriter>,
    part_rows: u64,
    parts: usize,
    rows: u64,
}

impl Parts {
    fn new(folder: PathBuf, schema: SchemaRef, part_rows: usize) -> Result<Parts> {
        let mut parts = Parts { folder, schema, cuts: Cuts::new(part_rows), writer: None, part_rows: 0, parts: 0, rows: 0 };
        // A split without rows has one part without rows.
        parts.open()?;
        Ok(parts)
    }

    fn open(&mut self) -> Result<&mut TableWriter> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let path = self.folder.join(format!("part-{:05}.parquet", self.parts));
                self.parts += 1;
                TableWriter::create(&path, Arc::clone(&self.schema), &["id", "text", "text_pair"])?
            }
        };
        Ok(self.writer.insert(writer))
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let ids = batch.column_by_name("id").and_then(|ids| ids.as_string_opt::<i32>());
        let mut start = 0;
        for row in 0..batch.num_rows() {
            self.part_rows += 1;
            // Rows without ids are cut by their number alone.
            let digest = ids.filter(|ids| ids.is_valid(row)).map_or(u64::MAX, |ids| low_digest(ids.value(row)));
            if self.cuts.ends_at(self.part_rows, digest) {
                self.put(&batch.slice(start, row + 1 - start))?;
                self.end_part()?;
                start = row + 1;
            }
        }
        if start < batch.num_rows() { self.put(&batch.slice(start, batch.num_rows() - start)) } else { Ok(()) }
    }

    fn put(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        let schema = Arc::clone(&self.schema);
        self.open()?.write(batch.columns().to_vec(), &schema)
    }

    fn end_part(&mut self) -> Result<()> {
        self.part_rows = 0;
        self.writer.take().map_or(Ok(()), |writer| writer.finish().map(drop))
    }

    fn finish(mut self) -> Result<u64> {
        self.end_part()?;
        Ok(self.rows)
    }
}

fn low_digest(id: &str) -> u64 {
    let bytes = *blake3::hash(id.as_bytes()).as_bytes();
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, StringArray};
    use pipe_core::Silent;

    use super::*;
    use crate::parquet_io::files_of;

    /// A file in which each row has one value in all of `columns`.
    fn result(path: &Path, columns: &[&str], values: &[String]) {
        let array: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        let batch = RecordBatch::try_from_iter(columns.iter().map(|column| (*column, Arc::clone(&array)))).unwrap();
        let mut writer = TableWriter::create(path, batch.schema(), &[]).unwrap();
        let schema = batch.schema();
        writer.write(batch.columns().to_vec(), &schema).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn parts_near_a_row_that_goes_change_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let parts = |name: &str, ids: &[String]| -> Vec<String> {
            let ids: ArrayRef = Arc::new(StringArray::from(ids.to_vec()));
            let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
            let out = folder.path().join(name);
            let mut parts = Parts::new(out.clone(), batch.schema(), 500).unwrap();
            parts.write(&batch).unwrap();
            assert_eq!(parts.finish().unwrap(), batch.num_rows() as u64);
            files_of(&out).unwrap().iter().map(|path| pipe_core::digest::of_file(path).unwrap()).collect()
        };
        let mut ids: Vec<String> = (0..10_000).map(|id| format!("row-{id}")).collect();
        let before = parts("before", &ids);
        ids.remove(5000);
        let after = parts("after", &ids);
        let kept = before.iter().filter(|part| after.contains(part)).count();
        assert!(before.len() > 10 && kept + 4 >= before.len(), "{kept} of {} parts are as before", before.len());
    }

    #[test]
    fn classes_are_those_of_the_rows_and_rows_may_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let (file, none, out) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"), folder.path().join("out"));
        let columns = ["id", "text", "label"];
        result(&file, &columns, &["10".to_owned(), "9".to_owned(), "10".to_owned()]);
        result(&none, &columns, &[]);
        let mut table = TableArtifact::new(&out);
        table.add("train", &file, Some(5), &Silent).unwrap();
        table.add("test", &none, Some(1), &Silent).unwrap();
        let report = table.finish(&[]).unwrap();
        assert_eq!((report.splits["train"].rows, report.splits["test"].rows), (3, 0));
        assert_eq!(read_json::<Vec<String>>(&out.join("labels.json")).unwrap(), ["9", "10"]);
        assert_eq!(files_of(&out.join("test")).unwrap().len(), 1);
        assert!(!out.join("scrub.json").exists());
    }

    #[test]
    fn classes_stand_in_lists_too() {
        use arrow_array::builder::{ListBuilder, StringBuilder};
        let folder = tempfile::tempdir().unwrap();
        let lists = |rows: &[Option<&[&str]>]| -> ArrayRef {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for row in rows {
                row.unwrap_or_default().iter().for_each(|item| lists.values().append_value(item));
                lists.append(row.is_some());
            }
            Arc::new(lists.finish())
        };
        let labels = |columns: Vec<(&str, ArrayRef)>| -> Vec<String> {
            let file = folder.path().join("rows.parquet");
            let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
            let mut writer = TableWriter::create(&file, batch.schema(), &[]).unwrap();
            writer.write(batch.columns().to_vec(), &batch.schema()).unwrap();
            writer.finish().unwrap();
            let out = folder.path().join("out");
            let mut table = TableArtifact::new(&out);
            table.add("train", &file, None, &Silent).unwrap();
            table.finish(&[]).unwrap();
            read_json(&out.join("labels.json")).unwrap()
        };
        let text: ArrayRef = Arc::new(StringArray::from(vec!["1", "2", "3"]));
        let classes = lists(&[Some(&["b", "a"]), None, Some(&["c", "a"])]);
        let beside = |others: &[(&'static str, &ArrayRef)]| {
            let id = std::iter::once(("id", Arc::clone(&text)));
            id.chain(others.iter().map(|(name, array)| (*name, Arc::clone(array)))).collect::<Vec<_>>()
        };
        assert_eq!(labels(beside(&[("text", &text), ("labels", &classes)])), ["a", "b", "c"]);
        assert_eq!(labels(beside(&[("tokens", &classes), ("tags", &classes)])), ["a", "b", "c"]);
        assert_eq!(labels(beside(&[("text", &text), ("label", &text), ("labels", &classes)])), ["1", "2", "3"]);
        // No rows to be classified.
        assert!(labels(beside(&[("labels", &classes)])).is_empty());
        assert!(labels(beside(&[("text", &text), ("tags", &classes)])).is_empty());
        assert!(labels(beside(&[("text", &text), ("labels", &text)])).is_empty());
    }
}
