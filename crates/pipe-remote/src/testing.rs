//! A server on the loopback interface that stands in for a web server, an S3 store and the hub, with faults on demand.
//! For tests, here and (with the feature `testing`) in other packages.
//!
//! ```
//! use pipe_remote::testing::{Fault, Server};
//!
//! let server = Server::start();
//! server.put("/data/a.csv", b"a,b\n");              // http://…/data/a.csv, and s3://data/a.csv
//! server.fail("/data/a.csv", [Fault::Status(503)]);  // the next request for it
//! assert_eq!(server.count("GET", "/data/a.csv"), 0);
//! ```

mod answer;
mod exchange;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// This status and no content.
    Status(u16),
    /// This status, with a `Retry-After`.
    RetryAfter(u16, String),
    /// Everything is announced; so many bytes of the body come, then the connection ends.
    Short(usize),
    /// So many bytes of the body come, then nothing until the server is dropped.
    Stall(usize),
    /// The connection ends without an answer.
    Hangup,
}

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Percent-decoded, without the query.
    pub path: String,
    /// As sent, without `?`.
    pub query: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// How a file lets a client know that it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Says {
    /// `ETag` and `Last-Modified`.
    #[default]
    Everything,
    /// `Last-Modified` alone.
    Modified,
    Nothing,
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Vec<u8>,
    modified: SystemTime,
    says: Says,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Stored>,
    redirects: BTreeMap<String, String>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    always: BTreeMap<String, Fault>,
    requests: Vec<Request>,
    /// The path of a revision's API → its answer.
    revisions: BTreeMap<String, String>,
    token: Option<String>,
    no_head: bool,
    /// Pages of an S3 listing hold no more objects.
    page: usize,
    stopped: bool,
}

impl Server {
    /// Listens on a port that the system chooses.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State { page: 2, ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || exchange::accept(&listener, &shared));
        Server { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// `http://127.0.0.1:PORT`; also what `AWS_ENDPOINT_URL` and `HF_ENDPOINT` are set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A file at `/path`, which is also the object `s3://path`.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.put_saying(path, bytes, Says::Everything);
    }

    /// As [`Server::put`], with less said of it.
    pub fn put_saying(&self, path: &str, bytes: &[u8], says: Says) {
        let stored = Stored { bytes: bytes.to_owned(), modified: SystemTime::now(), says };
        self.state().files.insert(path.to_owned(), stored);
    }

    /// Answers requests for `path` with a redirect to `url`.
    pub fn redirect(&self, path: &str, url: &str) {
        self.state().redirects.insert(path.to_owned(), url.to_owned());
    }

    /// The next requests for `path` fail like this, one after another.
    pub fn fail(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.entry(path.to_owned()).or_default().extend(faults);
    }

    /// Every request for `path` fails like this.
    pub fn always(&self, path: &str, fault: Fault) {
        self.state().always.insert(path.to_owned(), fault);
    }

    /// Answers every `HEAD` with 405.
    pub fn refuse_head(&self) {
        self.state().no_head = true;
    }

    /// Refuses every request without this bearer token.
    pub fn require_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// A commit of a hub repository: `repo` is `models/OWNER/NAME` or `datasets/OWNER/NAME`; `branch` points to it from
    /// now on. Returns its id. With `blobs`, the API tells size and digest of each file, as the hub does.
    pub fn commit(&self, repo: &str, branch: &str, files: &[(&str, &[u8])], blobs: bool) -> String {
        let commit = answer::commit_id(files);
        let body = answer::revision(&commit, files, blobs);
        let mut state = self.state();
        for revision in [branch, &commit] {
            state.revisions.insert(format!("/api/{repo}/revision/{revision}"), body.clone());
        }
        drop(state);
        let folder = repo.strip_prefix("models/").unwrap_or(repo);
        for (name, bytes) in files {
            self.put(&format!("/{folder}/resolve/{commit}/{name}"), bytes);
        }
        commit
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How many requests of this method there were for paths that begin with `path`.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.state().requests.iter().filter(|request| request.method == method && request.path.starts_with(path)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state().stopped = true;
        // Wakes the thread that waits for a connection.
        let _ = std::net::TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
