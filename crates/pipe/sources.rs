//! Source files of an ingest stage: patterns and URLs to files on this disk; is all there that should be, and has it arrived?

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use pipe_core::cache::SourceNote;
use pipe_core::config::{HumanDuration, RunConfig, SourceConfig, SourceFormat};
use pipe_core::source::{self, SourceFile};
use pipe_core::{Error, IoContext, Progress, Result};
use pipe_remote::{Access, Found, FoundFolder, RemoteFile, RemoteOptions, Remotes};

use crate::spool::Spool;

/// A source file and what people call it: its path from the pipeline's root, or its URL.
pub(crate) struct NamedSource {
    pub(crate) name: String,
    pub(crate) file: SourceFile,
}

/// What the sources of a stage are.
pub(crate) enum Sources {
    Here(Vec<NamedSource>),
    /// Some would have to be fetched first, each with the reason.
    Stale(Vec<String>),
}

/// What URLs name, each asked for once in a run: what a stage read is what its key was made of.
pub(crate) struct Fetched {
    remotes: Remotes,
    access: Access,
    /// The cache's folder.
    folder: PathBuf,
    spool: Spool,
    files: Mutex<BTreeMap<String, Vec<RemoteFile>>>,
    folders: Mutex<BTreeMap<(String, &'static str), PathBuf>>,
}

impl Fetched {
    /// For a run, which brings what is missing.
    pub(crate) fn new(cache: &Path, config: &RunConfig, access: Access) -> Fetched {
        // A command that only looks does not wait long for a server.
        let retries = if access == Access::Fetch { config.retries } else { config.retries.min(1) };
        let options = RemoteOptions { mirror: cache.join("remote"), retries, backoff: config.backoff.0, offline: config.offline };
        Fetched {
            remotes: Remotes::new(options),
            access,
            folder: cache.to_owned(),
            spool: Spool::default(),
            files: Mutex::default(),
            folders: Mutex::default(),
        }
    }

    fn files(&self, url: &str, progress: &dyn Progress) -> Result<Result<Vec<RemoteFile>, Vec<String>>> {
        if let Some(found) = self.files.lock().expect("no panic while locked").get(url) {
            return Ok(Ok(found.clone()));
        }
        Ok(match self.remotes.files(url, self.access, progress)? {
            Found::Here(found) => {
                self.files.lock().expect("no panic while locked").insert(url.to_owned(), found.clone());
                Ok(found)
            }
            Found::Stale(reasons) => Err(reasons),
        })
    }

    /// The local folder with the files of a model or another folder that `wanted` says. The inner error: why it would have
    /// to be fetched.
    pub(crate) fn folder(
        &self,
        url: &str,
        what: &'static str,
        wanted: &dyn Fn(&str) -> bool,
        progress: &dyn Progress,
    ) -> Result<Result<PathBuf, Vec<String>>> {
        let name = (url.to_owned(), what);
        if let Some(found) = self.folders.lock().expect("no panic while locked").get(&name) {
            return Ok(Ok(found.clone()));
        }
        Ok(match self.remotes.folder(url, wanted, self.access, progress)? {
            FoundFolder::Here(found) => {
                self.folders.lock().expect("no panic while locked").insert(name, found.path.clone());
                Ok(found.path)
            }
            FoundFolder::Stale(reasons) => Err(reasons),
        })
    }
}

/// All files that `config` names, in the order of its patterns and sorted within each; none twice.
pub(crate) fn resolve(root: &Path, config: &SourceConfig, fetched: &Fetched, progress: &dyn Progress) -> Result<Sources> {
    let (mut files, mut stale) = (Vec::new(), Vec::new());
    let mut met = HashSet::new();
    if !config.rows.is_empty() {
        let file = SourceFile { path: fetched.spool.rows(config)?, format: SourceFormat::Jsonl, name: source::INLINE_ROWS.to_owned() };
        files.push(NamedSource { name: file.name.clone(), file });
    }
    for pattern in &config.paths {
        let found: Vec<(String, PathBuf)> = if Remotes::is_remote(pattern) {
            match fetched.files(pattern, progress)? {
                Ok(found) => found.into_iter().map(|file| (file.name, file.path)).collect(),
                Err(reasons) => {
                    stale.extend(reasons.into_iter().map(|reason| format!("source {reason}")));
                    continue;
                }
            }
        } else if pattern == source::STANDARD_INPUT {
            if fetched.access == Access::Look {
                stale.push("source the standard input is read by a run alone".to_owned());
                continue;
            }
            vec![(pattern.clone(), fetched.spool.standard_input(&fetched.folder, progress)?)]
        } else {
            let name = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).display().to_string();
            source::expand(root, pattern)?.into_iter().map(|path| (name(&path), path)).collect()
        };
        for (name, path) in found {
            if met.insert(path.clone()) {
                let file = SourceFile { name: name.clone(), ..source::with_format(path, config)? };
                files.push(NamedSource { name, file });
            }
        }
    }
    Ok(if stale.is_empty() { Sources::Here(files) } else { Sources::Stale(stale) })
}

/// Refuses input that is still arriving: too few files, or files written to a moment ago.
pub(crate) fn check_arrival(config: &SourceConfig, sources: &[SourceFile], notes: &[SourceNote]) -> Result<()> {
    if let Some(least) = config.min_files.filter(|least| sources.len() < *least) {
        let found = sources.len();
        return Err(Error::input(format!("{found} source files are there, `min_files` asks for {least}"))
            .hint("run again once all have arrived; nothing was run"));
    }
    let Some(HumanDuration(settle)) = config.settle else { return Ok(()) };
    let now = SystemTime::now();
    // What was fetched is as old as its fetching, which says nothing.
    let local = |note: &SourceNote| {
        let in_no_file = [source::STANDARD_INPUT, source::INLINE_ROWS].contains(&note.name.as_str());
        !in_no_file && (!Remotes::is_remote(&note.name) || note.name.starts_with("file:"))
    };
    for (source, note) in sources.iter().zip(notes).filter(|(_, note)| local(note)) {
        let written = std::fs::metadata(&source.path).and_then(|stat| stat.modified()).doing("read", &source.path)?;
        // A time in the future is a clock that differs, and says nothing of rest.
        let rested = now.duration_since(written).unwrap_or_default();
        if rested < settle {
            let (since, settle) = (rested.as_secs(), HumanDuration(settle));
            return Err(Error::input(format!("{} was written to {since} s ago, `settle` asks for {settle} of rest", note.name))
                .hint("it may still be arriving: run again later; nothing was run"));
        }
    }
    Ok(())
}
