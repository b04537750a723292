//! Files named by URL, brought onto the local disk: [`Remotes`]. The only home of HTTP, S3 and the hub.
//!
//! | URL | what it names |
//! |---|---|
//! | `file:///PATH` | a local file, where it is |
//! | `http://…`, `https://…` | one file |
//! | `s3://BUCKET/KEY` | an object, or all that match a pattern; `s3://BUCKET/PREFIX/` as a folder |
//! | `hf://OWNER/NAME[@REV][/PATH]` | a model repository of the hub, a file or a pattern in it |
//! | `hf://datasets/OWNER/NAME[@REV]/PATH` | a file or a pattern in a data set repository |
//!
//! What is fetched stays in a mirror ([`RemoteOptions::mirror`]); a later call asks the server once whether it has
//! changed and downloads only what has. A repository at a full commit id is not even asked for.
//!
//! ```no_run
//! use pipe_remote::{Access, Found, RemoteOptions, Remotes};
//!
//! let remotes = Remotes::new(RemoteOptions::in_mirror(".pipe/remote"));
//! match remotes.files("hf://datasets/OWNER/NAME/data/*.parquet", Access::Fetch, &pipe_core::Silent)? {
//!     Found::Here(files) => files.iter().for_each(|file| println!("{} is {}", file.name, file.path.display())),
//!     Found::Stale(reasons) => unreachable!("only a look finds something stale: {reasons:?}"),
//! }
//! # Ok::<(), pipe_core::Error>(())
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, … | credentials; without them those of the machine's role |
//! | `AWS_SKIP_SIGNATURE` | `true` for public buckets |
//! | `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3` | where the store is; plain HTTP on this machine, else only with `AWS_ALLOW_HTTP` |
//! | `HF_TOKEN` | sent to the hub, never to a host that it redirects to |
//! | `HF_ENDPOINT` | the hub's address |
//! | `HF_HUB_OFFLINE` | `1`: as [`RemoteOptions::offline`], for the hub |

mod call;
mod client;
mod http;
mod hub;
mod mirror;
mod remotes;
mod retry;
mod s3;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transfer;
mod url;

use std::path::PathBuf;
use std::time::Duration;

pub use remotes::{Remotes, model_file};

/// Where fetched files are kept, and how hard to try.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// The folder of the mirror, such as `.pipe/remote`. Made when something is fetched.
    pub mirror: PathBuf,
    /// Tries after the first, for failures that may pass.
    pub retries: u32,
    /// The wait before the first of them. It doubles up to a minute, with jitter; a server's `Retry-After` goes before.
    pub backoff: Duration,
    /// Ask nobody: serve what was fetched last.
    pub offline: bool,
}

impl RemoteOptions {
    /// Online, with 5 retries from one second on: a server may be away for about half a minute.
    pub fn in_mirror(mirror: impl Into<PathBuf>) -> RemoteOptions {
        RemoteOptions { mirror: mirror.into(), retries: 5, backoff: Duration::from_secs(1), offline: false }
    }
}

/// What may be done to find a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Bring what is missing.
    Fetch,
    /// Ask, but download and write nothing: for read-only commands.
    Look,
}

/// A file that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// The URL for people: without user, password and query.
    pub name: String,
    /// The file, with the extension that it has at its source. What is there never changes; a changed URL gets another path.
    pub path: PathBuf,
}

/// What a URL of files was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Sorted by name.
    Here(Vec<RemoteFile>),
    /// [`Access::Look`] only: what would be downloaded and why, such as `https://…: changed since it was fetched`.
    Stale(Vec<String>),
}

/// A folder that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFolder {
    /// The URL for people.
    pub name: String,
    /// Holds the wanted files and nothing else, except for `file://`. What is there never changes.
    pub path: PathBuf,
    /// The wanted files, relative to `path`, sorted.
    pub files: Vec<String>,
}

/// What a URL of a folder was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundFolder {
    Here(RemoteFolder),
    /// As [`Found::Stale`].
    Stale(Vec<String>),
}
