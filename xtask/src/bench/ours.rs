//! Our side of the benchmark: the example pipeline through the real binary, timed by its own run records.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::Scratch;
use super::report::{Measure, Report, US};
use crate::error::{Error, Result};
use crate::files;
use crate::json::Json;
use crate::wheels::TWEETS;
use crate::workspace::Workspace;

pub(super) struct Ours {
    root: PathBuf,
    pipe: PathBuf,
    cache: PathBuf,
}

impl Ours {
    pub(super) fn new(workspace: &Workspace, built: &Path, scratch: &Scratch) -> Self {
        Self { root: workspace.root().to_owned(), pipe: built.join("pipe"), cache: scratch.path("cache") }
    }

    /// The whole pipeline with an empty cache.
    pub(super) fn measure(&self, scratch: &Scratch, report: &mut Report) -> Result<()> {
        files::remove_dir(&self.cache)?;
        scratch.run(&mut self.command())?;
        let record = RunRecord::latest(&self.cache)?;
        let ingest = record.stage("ingest")?;
        report.add(Measure::Ingest, US, self.megabytes()? / ingest.seconds()?);
        report.add(Measure::Tokenize, US, record.stage("tokenize")?.rows_per_second()?);
        // The stage also evaluates and saves, so the trainer's own figure is the one to compare.
        let train = record.stage("train")?;
        report.add(Measure::Train, US, train.figure("train", "train_samples_per_second")?);
        report.add(Measure::Predict, US, record.stage("predict")?.rows_per_second()?);
        let metrics = self.artifact("evaluate", &["metrics.json"])?.join("metrics.json");
        if let Some(accuracy) = Json::parse(&files::read(&metrics)?)?.get("metrics").and_then(|metrics| metrics.number("accuracy")) {
            report.add(Measure::Accuracy, US, accuracy);
        }
        Ok(())
    }

    /// The whole program, from start to exit, when there is nothing to do.
    pub(super) fn measure_cached(&self, scratch: &Scratch, report: &mut Report) -> Result<()> {
        let start = Instant::now();
        scratch.run(&mut self.command())?;
        report.add(Measure::Cached, US, start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut pipe = Command::new(&self.pipe);
        pipe.arg("run").arg(self.root.join("pipelines/classify.yaml")).arg("--cache-dir").arg(&self.cache);
        pipe
    }

    /// The source data: what ingest reads.
    pub(super) fn source(&self) -> PathBuf {
        self.root.join(TWEETS.folder).join("tweets.csv")
    }

    /// Size of the source, in millions of bytes.
    pub(super) fn megabytes(&self) -> Result<f64> {
        let source = self.source();
        let meta = source.metadata().map_err(|cause| Error::io("read", &source, &cause))?;
        Ok(meta.len() as f64 / 1e6)
    }

    /// The artifact of the last run that holds these files or folders. Artifacts are named by their content alone; with
    /// a cache of one run, what is in them tells them apart.
    pub(super) fn artifact(&self, stage: &str, holds: &[&str]) -> Result<PathBuf> {
        let found = files::entries(&self.cache.join("artifacts"))?
            .into_iter()
            .map(|entry| entry.path())
            .find(|artifact| holds.iter().all(|name| artifact.join(name).exists()));
        found.ok_or_else(|| Error::new(format!("no artifact of {stage} holds {}", holds.join(", "))))
    }
}

/// `run.json`, of which only the stages are read.
struct RunRecord {
    record: Json,
    path: PathBuf,
}

impl RunRecord {
    /// Run folders are named by ULID, so the last name is the last run.
    fn latest(cache: &Path) -> Result<Self> {
        let runs = cache.join("runs");
        let last = files::entries(&runs)?.pop();
        let path = last.ok_or_else(|| Error::new(format!("there is no run in {}", runs.display())))?;
        let path = path.path().join("run.json");
        let record = Json::parse(&files::read(&path)?)?;
        Ok(Self { record, path })
    }

    fn stage(&self, name: &'static str) -> Result<Stage<'_>> {
        let stages = self.record.array("stages");
        match stages.iter().find(|stage| stage.string("name") == Some(name)) {
            Some(record) if record.string("status") == Some("ran") => Ok(Stage { name, record }),
            Some(_) => Err(Error::new(format!("stage {name} did not run, says {}", self.path.display()))),
            None => Err(Error::new(format!("there is no stage {name} in {}", self.path.display()))),
        }
    }
}

struct Stage<'a> {
    name: &'static str,
    record: &'a Json,
}

impl Stage<'_> {
    fn seconds(&self) -> Result<f64> {
        self.number(self.record, "seconds")
    }

    fn rows_per_second(&self) -> Result<f64> {
        Ok(self.number(self.record, "rows")? / self.seconds()?)
    }

    fn figure(&self, of: &str, name: &str) -> Result<f64> {
        let figures = self.record.get("figures").and_then(|figures| figures.get(of));
        self.number(figures.unwrap_or(&Json::Null), name)
    }

    fn number(&self, of: &Json, name: &str) -> Result<f64> {
        of.number(name).ok_or_else(|| Error::new(format!("the run record has no {name} for stage {}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_latest_record_is_read() {
        let cache = tempfile::tempdir().unwrap();
        for (run, rows) in [("01JA", 1), ("01JB", 300)] {
            let folder = cache.path().join("runs").join(run);
            fs::create_dir_all(&folder).unwrap();
            let stage = format!(r#"{{"name": "train", "status": "ran", "seconds": 2, "rows": {rows},"#);
            let record = format!(r#"{{"stages": [{stage} "figures": {{"train": {{"train_samples_per_second": 180.5}}}}}}]}}"#);
            fs::write(folder.join("run.json"), record).unwrap();
        }
        let record = RunRecord::latest(cache.path()).unwrap();
        let train = record.stage("train").unwrap();
        assert_eq!(train.rows_per_second().unwrap(), 150.0);
        assert_eq!(train.figure("train", "train_samples_per_second").unwrap(), 180.5);
        let error = record.stage("predict").err().unwrap().to_string();
        assert!(error.contains("there is no stage predict"), "{error}");
    }
}
