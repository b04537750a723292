//! What follows once a step's output is there, made now or before: it is noted, judged, and published.

use std::path::PathBuf;

use pipe_core::Result;
use pipe_core::cache::Artifact;
use pipe_core::config::StageConfig;
use pipe_core::key::Key;

use super::gate;
use super::step::Walk;
use crate::publish::Published;
use crate::record::StageRecord;

impl Walk<'_> {
    /// Notes a step's success for later runs.
    pub(super) fn remember(&self, stage: &str, record: &StageRecord) -> Result<()> {
        let Some(key) = &record.key else { return Ok(()) };
        let memory = record.figures.get("peak_memory_bytes").and_then(serde_json::Value::as_u64);
        let mut latest = self.latest.lock().expect("no panic while locked");
        if latest.stages.get(stage) == Some(key) && memory.is_none() {
            return Ok(());
        }
        latest.stages.insert(stage.to_owned(), key.clone());
        latest.memory.extend(memory.map(|bytes| (stage.to_owned(), bytes)));
        self.cache.set_latest(&self.pipeline, &latest)
    }

    /// The gates of an evaluation, and the drift of an ingest.
    pub(super) fn judge(&self, at: usize, artifact: &Artifact, key: &Key) -> Result<()> {
        let stage = self.plan.steps[at].stage;
        match &stage.config {
            StageConfig::Evaluate(config) => gate::check_metrics(config, artifact),
            StageConfig::Ingest(config) => {
                let good = self.latest.lock().expect("no panic while locked").good.get(&stage.name).cloned();
                let before = good.filter(|good| good != key).and_then(|key| self.cache.lookup(&key).ok().flatten());
                let Some(before) = before else { return Ok(()) };
                let found = gate::drift(&config.drift, artifact, &before);
                for text in &found {
                    self.reporter.note(Some(&stage.name), text);
                }
                gate::drift_error(&config.drift, &found)
            }
            _ => Ok(()),
        }
    }

    /// Whether the output of a step is at hand, made now or before.
    pub(super) fn is_known(&self, at: usize) -> bool {
        self.artifacts.lock().expect("no panic while locked").contains_key(&at)
    }

    /// Publishes a step's output. Where to; absent where it is held back.
    pub(super) fn publish(&self, at: usize) -> Result<Option<PathBuf>> {
        let stage = self.plan.steps[at].stage;
        let artifact = self.artifacts.lock().expect("no panic while locked").get(&at).cloned();
        let (Some(text), Some(artifact)) = (&stage.publish, artifact) else { return Ok(None) };
        let target = self.publisher.target(text);
        let shown = super::from_here(&target);
        match self.publisher.publish(&target, &stage.name, &artifact)? {
            Published::Unchanged => {}
            Published::Now => self.reporter.note(Some(&stage.name), &format!("published {shown}")),
            Published::HeldBack => {
                let text = format!("{shown} stays as the rollback left it: this output was rolled back; remove the folder to publish it again");
                self.reporter.note(Some(&stage.name), &text);
                return Ok(None);
            }
        }
        Ok(Some(target))
    }
}
