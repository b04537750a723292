//! `runs/<ulid>/run.json`: what a run did, for people and for later runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pipe_core::cache::Cache;
use pipe_core::key::Key;
use pipe_core::{Error, IoContext, Result};
use serde::Serialize;
use serde_json::Value;

/// On-disk version of `run.json`.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub(crate) struct RunRecord {
    version: u32,
    pub(crate) run: String,
    pub(crate) pipeline: String,
    pipe: &'static str,
    cores: usize,
    pub(crate) seconds: f64,
    pub(crate) exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    pub(crate) stages: Vec<StageRecord>,
}

#[derive(Debug, Serialize)]
pub(crate) struct StageRecord {
    pub(crate) name: String,
    /// `ran`, `cached` or `failed`
    pub(crate) status: &'static str,
    /// Why it ran.
    pub(crate) reason: String,
    pub(crate) key: Option<Key>,
    pub(crate) artifact: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) rows: u64,
    pub(crate) summary: String,
    pub(crate) figures: BTreeMap<String, Value>,
}

impl RunRecord {
    pub(crate) fn new(run: String, pipeline: &str) -> RunRecord {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        RunRecord {
            version: VERSION,
            run,
            pipeline: pipeline.to_owned(),
            pipe: pipe_core::BUILD_ID,
            cores,
            seconds: 0.0,
            exit_code: 0,
            error: None,
            stages: Vec::new(),
        }
    }

    /// The folder of this run's timed records.
    pub(crate) fn folder(&self, cache: &Cache) -> PathBuf {
        cache.run_dir(&self.run)
    }

    pub(crate) fn end(&mut self, seconds: f64, result: &Result<()>) {
        self.seconds = seconds;
        if let Err(error) = result {
            self.exit_code = error.class.exit_code();
            self.error = Some(error.message.clone());
        }
    }

    /// Writes `run.json`. Not synced: it describes, nothing depends on it.
    pub(crate) fn write(&self, cache: &Cache) -> Result<()> {
        let folder = self.folder(cache);
        std::fs::create_dir_all(&folder).doing("make the folder", &folder)?;
        let path = folder.join("run.json");
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::internal(e.to_string()))?;
        std::fs::write(&path, bytes).doing("write", &path)
    }
}
