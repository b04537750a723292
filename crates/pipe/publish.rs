//! `publish:` copies a finished output to where people look for it, swaps it in whole, and keeps what was there before for
//! `pipe rollback`.
//!
//! ```text
//! out/model                 what readers see: the old folder or the new one, never a mixture
//! out/.model.new            the next one while it is copied
//! out/.model.previous       the one before
//! .pipe/published/….json    which artifact is where, and which was rolled back
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::ZonedDateTime;
use pipe_core::cache::{Artifact, Cache, Manifest, files_below, sync_dir, write_atomically};
use pipe_core::file::{PipelineFile, fill_run_names};
use pipe_core::{Error, IoContext, Plan, Result, digest, failpoint};
use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};

use crate::cli::RollbackArgs;
use crate::run::cache_dir;
use crate::terminal::print_result;

/// In every published folder, so that a later run knows it for pipe's own.
const MANIFEST: &str = "manifest.json";
/// On-disk version of the markers.
const VERSION: u32 = 1;

/// Publishes the outputs of one run.
pub(crate) struct Publisher<'p> {
    cache: &'p Cache,
    root: &'p Path,
    names: RunNames,
    pipeline: &'p str,
}

/// What publishing led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    Now,
    /// It was there.
    Unchanged,
    /// It was rolled back before.
    HeldBack,
}

/// `published/<digest of the target's path>.json`
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    version: u32,
    target: PathBuf,
    pipeline: String,
    stage: String,
    /// Content id of what readers see.
    current: String,
    /// Content id of what the last rollback took away: not published again.
    rolled_back: Option<String>,
}

/// What `${run.…}` stands for: the same in all of a run, however long it takes.
#[derive(Debug, Clone)]
pub(crate) struct RunNames {
    id: String,
    started: ZonedDateTime,
}

impl RunNames {
    pub(crate) fn now(id: &str) -> RunNames {
        RunNames { id: id.to_owned(), started: ZonedDateTime::now() }
    }

    pub(crate) fn value(&self, name: &str) -> String {
        match name {
            "id" => self.id.clone(),
            "date" => self.started.strftime("%Y-%m-%d").to_string(),
            "time" => self.started.strftime("%H-%M-%S").to_string(),
            _ => String::new(),
        }
    }
}

impl<'p> Publisher<'p> {
    pub(crate) fn new(cache: &'p Cache, file: &'p PipelineFile, names: RunNames) -> Publisher<'p> {
        Publisher { cache, root: &file.root, names, pipeline: &file.name }
    }

    /// Where `publish: …` of the file leads, in this run.
    pub(crate) fn target(&self, text: &Path) -> PathBuf {
        self.root.join(fill_run_names(&text.to_string_lossy(), |name| self.names.value(name)))
    }

    /// Makes `target` hold what `artifact` holds.
    pub(crate) fn publish(&self, target: &Path, stage: &str, artifact: &Artifact) -> Result<Published> {
        let content = &artifact.manifest.content;
        let marker = Marker::read(self.cache, target);
        // Until somebody removes the folder: then nothing is there to be kept as it is.
        if target.exists() && marker.as_ref().is_some_and(|marker| marker.rolled_back.as_ref() == Some(content)) {
            return Ok(Published::HeldBack);
        }
        let places = Places::of(target)?;
        if Manifest::read(target).is_some_and(|shown| shown.content == *content && shown.sizes_match(target)) {
            if marker.as_ref().is_some_and(|marker| marker.current == *content) {
                return Ok(Published::Unchanged);
            }
            // A run that was killed before it could note what it had published.
            finish_interrupted(&places, marker.as_ref())?;
            self.mark(target, stage, content)?;
            return Ok(Published::Now);
        }
        finish_interrupted(&places, marker.as_ref())?;
        refuse_foreign(target)?;
        // What is shown now is to be known as such when it has given way: a project may have been moved since.
        if let Some(shown) = Manifest::read(target)
            && marker.as_ref().is_none_or(|marker| marker.current != shown.content)
        {
            self.mark(target, stage, &shown.content)?;
        }
        std::fs::create_dir_all(places.folder).doing("make the folder", places.folder)?;
        let mut files: Vec<PathBuf> = artifact.manifest.files.iter().map(|file| PathBuf::from(&file.path)).collect();
        // Last: a folder that has one is whole.
        files.push(MANIFEST.into());
        for file in &files {
            let (from, to) = (artifact.path.join(file), places.fresh.join(file));
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).doing("make the folder", parent)?;
            }
            std::fs::copy(&from, &to).and_then(|_| std::fs::File::open(&to)?.sync_all()).doing("publish", &to)?;
        }
        if let Some(damaged) = artifact.manifest.damaged(&places.fresh)?.first() {
            return Err(Error::stage(format!("the cached output is damaged: {damaged} in {}", artifact.path.display()))
                .hint("`pipe verify` moves it away, and the next run makes it again; what was published before is still there"));
        }
        sync_dir(&places.fresh).doing("publish", &places.fresh)?;
        failpoint("publish.copied");
        places.swap_in()?;
        failpoint("publish.swapped");
        self.mark(target, stage, content)?;
        Ok(Published::Now)
    }

    fn mark(&self, target: &Path, stage: &str, content: &str) -> Result<()> {
        let marker = Marker {
            version: VERSION,
            target: target.to_owned(),
            pipeline: self.pipeline.to_owned(),
            stage: stage.to_owned(),
            current: content.to_owned(),
            rolled_back: None,
        };
        marker.write(self.cache)
    }
}

impl Marker {
    fn path(cache: &Cache, target: &Path) -> PathBuf {
        cache.dir().join("published").join(format!("{}.json", digest::of_bytes(target.as_os_str().as_encoded_bytes())))
    }

    fn read(cache: &Cache, target: &Path) -> Option<Marker> {
        let marker: Marker = serde_json::from_slice(&std::fs::read(Marker::path(cache, target)).ok()?).ok()?;
        (marker.version == VERSION && marker.target == target).then_some(marker)
    }

    fn write(&self, cache: &Cache) -> Result<()> {
        let path = Marker::path(cache, &self.target);
        write_atomically(&path, &serde_json::to_vec_pretty(self).expect("plain data")).doing("write", &path)
    }
}

/// Folders that are published from a cache, each with its stage; those that were removed are left out.
pub(crate) fn published(cache: &Cache) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(cache.dir().join("published")).into_iter().flatten().flatten();
    let marker = |entry: std::fs::DirEntry| serde_json::from_slice::<Marker>(&std::fs::read(entry.path()).ok()?).ok();
    let markers = entries.filter_map(marker).filter(|marker| marker.version == VERSION && marker.target.exists());
    markers.map(|marker| (marker.target, marker.stage)).collect()
}

/// The folders that publishing to one target works with.
struct Places<'t> {
    folder: &'t Path,
    target: &'t Path,
    fresh: PathBuf,
    previous: PathBuf,
}

impl Places<'_> {
    fn of(target: &Path) -> Result<Places<'_>> {
        match (target.parent(), target.file_name()) {
            (Some(folder), Some(name)) => {
                let beside = |suffix: &str| folder.join(format!(".{}.{suffix}", name.to_string_lossy()));
                Ok(Places { folder, target, fresh: beside("new"), previous: beside("previous") })
            }
            _ => Err(Error::usage(format!("`publish: {}` names no folder", target.display()))),
        }
    }

    /// Puts `fresh` in the place of `target` in one step, so that a reader sees the old folder or the new one.
    fn swap_in(&self) -> Result<()> {
        if self.target.exists() {
            exchange(&self.fresh, self.target)?;
            failpoint("publish.exchanged");
            // What was published before now has the other name.
            self.keep_previous()?;
        } else {
            std::fs::rename(&self.fresh, self.target).doing("publish", self.target)?;
        }
        sync_dir(self.folder).doing("publish", self.folder)
    }

    /// What `fresh` now names is the one before.
    fn keep_previous(&self) -> Result<()> {
        if self.previous.exists() {
            std::fs::remove_dir_all(&self.previous).doing("remove", &self.previous)?;
        }
        std::fs::rename(&self.fresh, &self.previous).doing("keep the previous", &self.previous)
    }
}

fn exchange(a: &Path, b: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(std::io::Error::from).doing("publish", b)
}

/// A run that was killed between the exchange and the keeping of the previous one left that under the name of the next, and
/// no mark of what it published. Anything else under that name is a copy that was never shown, and of no use.
fn finish_interrupted(places: &Places<'_>, marker: Option<&Marker>) -> Result<()> {
    if !places.fresh.exists() {
        return Ok(());
    }
    let shown_before = Manifest::read(&places.fresh)
        .is_some_and(|left| left.sizes_match(&places.fresh) && marker.is_some_and(|marker| marker.current == left.content) && places.target.exists());
    if shown_before {
        return places.keep_previous();
    }
    std::fs::remove_dir_all(&places.fresh).doing("clear", &places.fresh)
}

/// What is published replaces what was: only a folder that pipe itself filled may be replaced.
fn refuse_foreign(target: &Path) -> Result<()> {
    let own = || -> Option<BTreeSet<PathBuf>> {
        let manifest = Manifest::read(target)?;
        Some(manifest.files.iter().map(|file| PathBuf::from(&file.path)).chain([PathBuf::from(MANIFEST)]).collect())
    };
    let is_empty = || std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    let refused = |what: String| {
        let error = Error::stage(format!("will not publish over {}: {what}", target.display()));
        Err(error.hint("publishing replaces the whole folder: give one that only pipe writes to, or move what is in it away"))
    };
    if !target.exists() || is_empty() {
        return Ok(());
    }
    let Some(own) = own() else { return refused("pipe did not make it".into()) };
    let found = files_below(target)?;
    match found.iter().find(|file| !own.contains(*file)) {
        Some(foreign) => refused(format!("it holds {}, which pipe did not put there", foreign.display())),
        None => Ok(()),
    }
}

/// `pipe rollback`: shows the previous output again, until the pipeline makes another one.
pub(crate) fn rollback(args: &RollbackArgs) -> Result<u8> {
    let file = PipelineFile::load(&args.file.file, &args.file.overrides())?;
    let plan = Plan::new(&file)?;
    let chosen = match &args.stage {
        Some(name) => plan.find(name)?,
        None => (0..plan.steps.len()).filter(|at| plan.steps[*at].stage.publish.is_some()).collect(),
    };
    let cache = Cache::open(&cache_dir(&args.file, &file))?;
    let _lock = match cache.lock_pipeline(&crate::run::pipeline_id(&file, cache.dir()), "") {
        Ok(lock) => lock,
        Err(pipe_core::cache::LockError::Held(holder)) => {
            return Err(Error::stage(format!("a run of `{}` is at work ({holder})", file.name)).hint("roll back once it has ended"));
        }
        Err(pipe_core::cache::LockError::Failed(error)) => return Err(error),
    };
    let publisher = Publisher::new(&cache, &file, RunNames::now(""));
    let mut targets = Vec::new();
    for at in chosen {
        let stage = plan.steps[at].stage;
        let Some(text) = &stage.publish else {
            return Err(Error::usage(format!("stage `{}` has no `publish:`", stage.name)));
        };
        let target = publisher.target(text);
        let places = Places::of(&target)?;
        finish_interrupted(&places, Marker::read(&cache, &target).as_ref())?;
        let (shown, before) = (Manifest::read(&target), Manifest::read(&places.previous));
        let (Some(shown), Some(before)) = (shown, before) else {
            return Err(Error::input(format!("there is no previous output beside {}", target.display()))
                .hint("a folder of its own for every run, as with `${run.date}` in `publish:`, has nothing to go back to; nothing was changed"));
        };
        targets.push((stage.name.clone(), target.clone(), shown.content, before.content));
    }
    if targets.is_empty() {
        return Err(Error::usage(format!("no stage of {} has a `publish:`", file.path.display())));
    }
    // Only now, when all can be rolled back.
    for (stage, target, shown, before) in targets {
        exchange(&Places::of(&target)?.previous, &target)?;
        let marker = Marker {
            version: VERSION,
            target: target.clone(),
            pipeline: file.name.clone(),
            stage,
            current: before.clone(),
            rolled_back: Some(shown.clone()),
        };
        marker.write(&cache)?;
        print_result(&format!("{}: {} → {}", target.display(), &shown[..8], &before[..8]));
    }
    print_result("rolled back; a run publishes again once it makes another output");
    Ok(0)
}
