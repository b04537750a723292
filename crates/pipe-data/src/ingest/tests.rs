//! The stage on small files of every format: what comes from the store is byte for byte what was made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_schema::{DataType, Field, Schema};
use pipe_core::Silent;
use pipe_core::cache::{Cache, Shards};
use pipe_core::config::{ColumnsConfig, RejectsConfig, SourceFormat};
use serde_json::json;

use super::*;
use crate::parquet_io::TableWriter;

/// Sixty records, each seventh of them bad.
fn sources(folder: &Path) -> Vec<IngestSource> {
    let bad = |at: usize| at % 7 == 3;
    let text = |at: usize| format!("number {at}, mail{at}@example.com");
    let csv = |at: usize| if bad(at) { format!("{at}\r\n\r\n") } else { format!("\"{}\",{}\r\n", text(at), at % 2) };
    let jsonl = |at: usize| if bad(at) { "{\n\n".to_owned() } else { json!({"text": text(at), "label": at % 2}).to_string() + "\n" };
    let all = |record: &dyn Fn(usize) -> String| (0..60).map(record).collect::<String>();
    std::fs::write(folder.join("a.csv"), "text,label\r\n".to_owned() + &all(&csv)).unwrap();
    std::fs::write(folder.join("b.jsonl"), "\u{feff}".to_owned() + &all(&jsonl)).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true), Field::new("label", DataType::Utf8, true)]));
    let texts: ArrayRef = Arc::new((0..60).map(|at| (!bad(at)).then(|| text(at + 100))).collect::<StringArray>());
    let labels: ArrayRef = Arc::new((0..60).map(|at| Some((at % 2).to_string())).collect::<StringArray>());
    let mut writer = TableWriter::create(&folder.join("c.parquet"), Arc::clone(&schema), &[]).unwrap();
    writer.write(vec![texts, labels], &schema).unwrap();
    writer.finish().unwrap();
    let source = |(name, format): (&str, SourceFormat)| {
        let path = folder.join(name);
        IngestSource { digest: pipe_core::digest::of_file(&path).unwrap(), file: SourceFile::new(path, format) }
    };
    [("a.csv", SourceFormat::Csv), ("b.jsonl", SourceFormat::Jsonl), ("c.parquet", SourceFormat::Parquet)].map(source).into()
}

/// Runs the stage and gives the bytes of all that it wrote.
fn run_into(sources: &[IngestSource], out: PathBuf, shards: &Shards) -> BTreeMap<PathBuf, Vec<u8>> {
    let config = IngestConfig {
        columns: ColumnsConfig { label: Some("label".into()), ..ColumnsConfig::default() },
        rejects: RejectsConfig { max_ratio: 0.5, ..RejectsConfig::default() },
        shard_rows: 16,
        ..IngestConfig::default()
    };
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(&out).unwrap();
    run(&config, &IngestPlaces { root: Path::new(""), out: &out, scratch: scratch.path(), shards, names: None }, sources, &Silent).unwrap();
    let files = pipe_core::cache::files_below(&out).unwrap();
    files.into_iter().map(|file| (file.clone(), std::fs::read(out.join(file)).unwrap())).collect()
}

#[test]
fn what_is_reused_gives_the_same_bytes_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = sources(folder.path());
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let shards = || Shards::new(cache.shards(), true);
    let (made, reused) = (shards(), shards());
    let first = run_into(&sources, folder.path().join("first"), &made);
    assert_eq!(made.figures(), json!({"reused": 0, "made": 12}));
    assert_eq!(run_into(&sources, folder.path().join("second"), &reused), first);
    assert_eq!(reused.figures(), json!({"reused": 12, "made": 0}));

    // The same records behind others: known by their content, and placed by where they stand now.
    let path = &sources[0].file.path;
    let text = std::fs::read_to_string(path).unwrap();
    let head: String = (0..16).map(|at| format!("\"new {at}\",0\r\n")).collect();
    std::fs::write(path, text.replacen("text,label\r\n", &format!("text,label\r\n{head}"), 1)).unwrap();
    sources[0].digest = pipe_core::digest::of_file(path).unwrap();
    let (moved, anew) = (shards(), Shards::new(cache.shards(), false));
    let after = run_into(&sources, folder.path().join("third"), &moved);
    assert_eq!(moved.figures(), json!({"reused": 12, "made": 1}));
    assert_eq!(run_into(&sources, folder.path().join("fourth"), &anew), after);
    assert_ne!(after[Path::new("rejects.parquet")], first[Path::new("rejects.parquet")]);
}
