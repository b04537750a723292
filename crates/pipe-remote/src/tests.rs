//! Against the loopback server of [`crate::testing`]: what is asked, what is downloaded, what is said.

mod faults;
mod http;
mod hub;
mod s3;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pipe_core::{Class, Error, Progress, Result};
use tempfile::TempDir;

use crate::testing::Server;
use crate::{Access, Found, FoundFolder, RemoteFile, RemoteFolder, RemoteOptions, Remotes};

/// A server, a mirror, and what the environment would say.
struct Bench {
    server: Server,
    mirror: TempDir,
    variables: BTreeMap<String, String>,
    retries: u32,
    offline: bool,
}

impl Bench {
    fn new() -> Bench {
        let server = Server::start();
        let pairs = [
            ("HF_ENDPOINT", server.url()),
            ("AWS_ENDPOINT_URL", server.url()),
            ("AWS_ACCESS_KEY_ID", "key-id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret-key".to_owned()),
        ];
        let variables = pairs.map(|(name, value)| (name.to_owned(), value)).into();
        Bench { server, mirror: tempfile::tempdir().unwrap(), variables, retries: 2, offline: false }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// As a new process on the same mirror.
    fn remotes(&self) -> Remotes {
        let options =
            RemoteOptions { mirror: self.mirror.path().to_owned(), retries: self.retries, backoff: Duration::from_millis(2), offline: self.offline };
        Remotes::with_variables(options, self.variables.clone())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    fn files(&self, url: &str, access: Access) -> Result<Found> {
        self.remotes().files(url, access, &Noted::default())
    }

    fn fetch(&self, url: &str) -> Result<Vec<RemoteFile>> {
        match self.files(url, Access::Fetch)? {
            Found::Here(files) => Ok(files),
            Found::Stale(reasons) => panic!("a fetch found {reasons:?}"),
        }
    }

    /// The content of the one file of `url`.
    fn content(&self, url: &str) -> Vec<u8> {
        let files = self.fetch(url).unwrap();
        assert_eq!(files.len(), 1);
        std::fs::read(&files[0].path).unwrap()
    }

    fn folder(&self, url: &str, access: Access) -> Result<FoundFolder> {
        self.remotes().folder(url, &crate::model_file, access, &Noted::default())
    }

    fn fetch_folder(&self, url: &str) -> Result<RemoteFolder> {
        match self.folder(url, Access::Fetch)? {
            FoundFolder::Here(folder) => Ok(folder),
            FoundFolder::Stale(reasons) => panic!("a fetch found {reasons:?}"),
        }
    }

    /// Files of the mirror in which something is served, and those being written.
    fn objects_and_partial(&self) -> (usize, usize) {
        (count(&self.mirror.path().join("objects")), count(&self.mirror.path().join("partial")))
    }
}

fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

fn names(files: &[RemoteFile]) -> Vec<&str> {
    files.iter().map(|file| file.name.as_str()).collect()
}

/// All that is said in an error, for people.
fn said(error: &Error) -> String {
    format!("{}\n{}", error.message, error.hint.as_deref().unwrap_or_default())
}

/// Keeps notes, and stops once so many bytes have come.
struct Noted {
    notes: Mutex<Vec<String>>,
    bytes: AtomicU64,
    stop_after: u64,
}

impl Default for Noted {
    fn default() -> Noted {
        Noted { notes: Mutex::default(), bytes: AtomicU64::new(0), stop_after: u64::MAX }
    }
}

impl Progress for Noted {
    fn advance(&self, done: u64, _: u64, unit: &str, detail: &str) {
        assert_eq!(unit, "bytes");
        assert!(detail.contains("://") && !detail.contains("secret"), "{detail}");
        self.bytes.store(done, Ordering::Relaxed);
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }

    fn check(&self) -> Result<()> {
        if self.bytes.load(Ordering::Relaxed) >= self.stop_after { Err(Error::new(Class::Interrupted, "interrupted")) } else { Ok(()) }
    }
}

/// Stages on several threads share one.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Remotes>();
};
