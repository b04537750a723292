//! How fast a JSON lines file becomes scrubbed Parquet, in one process and nothing else: `ingest_speed FILE [exact|near]`.

use std::path::Path;
use std::time::Instant;

use pipe_core::Silent;
use pipe_core::cache::{Cache, Shards};
use pipe_core::config::{ColumnsConfig, Dedup, IngestConfig, SourceFormat, SplitConfig};
use pipe_core::source::SourceFile;
use pipe_data::ingest::{IngestPlaces, IngestSource, run};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let path = Path::new(&arguments[1]).to_owned();
    let folder = Path::new(&arguments[1]).with_extension("work");
    let _ = std::fs::remove_dir_all(&folder);
    let (out, scratch) = (folder.join("out"), folder.join("scratch"));
    for folder in [&out, &scratch] {
        std::fs::create_dir_all(folder).expect("a folder beside the file");
    }
    let split: SplitConfig = serde_json::from_value(serde_json::json!({"train": 0.8, "validation": 0.1, "test": 0.1})).expect("a split");
    let dedup = if arguments.get(2).is_some_and(|word| word == "near") { Dedup::Near } else { Dedup::Exact };
    let columns = ColumnsConfig { label: Some("label".into()), ..ColumnsConfig::default() };
    let config = IngestConfig { columns, split: Some(split), dedup, ..IngestConfig::default() };
    let bytes = std::fs::metadata(&path).expect("a file").len();
    let start = Instant::now();
    let digest = pipe_core::digest::of_file(&path).expect("a file");
    let hashed = start.elapsed().as_secs_f64();
    let source = IngestSource { file: SourceFile::new(path, SourceFormat::Jsonl), digest };
    let shards = Shards::new(Cache::open(&folder.join("cache")).expect("a cache").shards(), true);
    let places = IngestPlaces { root: Path::new(""), out: &out, scratch: &scratch, shards: &shards, names: None };
    let summary = run(&config, &places, &[source], &Silent).unwrap_or_else(|error| panic!("{}", error.message));
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0);
    println!("{}", summary.line);
    println!("{:.1} MB/s ({seconds:.1} s, of which {hashed:.1} s hashing the source), peak {} MiB", bytes as f64 / 1e6 / seconds, peak / 1024);
    let _ = std::fs::remove_dir_all(&folder);
}
