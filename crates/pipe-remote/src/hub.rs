//! `hf://`: repositories of the Hugging Face hub, or of anything that speaks its API.
//!
//! `GET {endpoint}/api/{models|datasets}/{repo}/revision/{rev}?blobs=true` answers with the commit and its files;
//! `GET {endpoint}/[datasets/]{repo}/resolve/{commit}/{file}` with one file, often through a redirect.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pipe_core::{Error, Result};
use reqwest::Client;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::client::Variables;
use crate::http::Request;
use crate::mirror::{Entry, Listing};
use crate::retry::Fault;
use crate::url::{HubKind, HubPath, stays_inside};

const ENDPOINT: &str = "https://huggingface.co";

/// What stays as it is in a part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

const ACCESS: &str = "set HF_TOKEN to a token that may read it, and accept the repository's terms if it has some; \
                      the hub answers so for a repository that does not exist, too";

#[derive(Debug)]
pub(crate) struct Hub {
    endpoint: String,
    authorization: Option<HeaderValue>,
    pub(crate) offline: bool,
}

/// The parts of the hub's answer that are used.
#[derive(Debug, Deserialize)]
struct Revision {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
}

impl Hub {
    pub(crate) fn new(variables: &Variables) -> Result<Hub> {
        let endpoint = variables.get("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let authorization = variables.get("HF_TOKEN").map(|token| {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::input("HF_TOKEN holds characters that no token has"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let offline = variables.says_yes("HF_HUB_OFFLINE");
        Ok(Hub { endpoint: endpoint.trim_end_matches('/').to_owned(), authorization: authorization.transpose()?, offline })
    }

    /// The URL at which a revision is asked for; also what its listing is found by.
    pub(crate) fn revision_url(&self, path: &HubPath) -> String {
        let kind = if path.kind == HubKind::Dataset { "datasets" } else { "models" };
        format!("{}/api/{kind}/{}/revision/{}?blobs=true", self.endpoint, path.repo, utf8_percent_encode(&path.revision, PART))
    }

    fn file_url(&self, path: &HubPath, at: &str, file: &str) -> String {
        let kind = if path.kind == HubKind::Dataset { "datasets/" } else { "" };
        let mut url = format!("{}/{kind}{}/resolve/{}", self.endpoint, path.repo, utf8_percent_encode(at, PART));
        for part in file.split('/') {
            write!(url, "/{}", utf8_percent_encode(part, PART)).expect("writing to a string");
        }
        url
    }

    /// What the record of a file is found by. A commit that leaves a file as it is leaves this as it is too.
    pub(crate) fn file_id(&self, path: &HubPath, entry: &Entry) -> String {
        self.file_url(path, entry.validator.as_deref().unwrap_or_default(), &entry.name)
    }

    pub(crate) fn file(&self, path: &HubPath, commit: &str, file: &str) -> Request {
        self.request(self.file_url(path, commit, file), path.name_of(file))
    }

    fn request(&self, url: String, name: String) -> Request {
        Request { url, name, authorization: self.authorization.clone(), access: ACCESS }
    }

    /// The files of the revision that `path` names.
    pub(crate) async fn list(&self, client: &Client, path: &HubPath) -> Result<Listing, Fault> {
        let name = path.name_of("");
        let body = self.request(self.revision_url(path), name.clone()).body(client).await?;
        let other = || Error::input(format!("cannot read {name}: what answers is not the hub's API")).hint("check HF_ENDPOINT");
        let revision: Revision = serde_json::from_slice(&body).map_err(|_| other())?;
        if revision.sha.is_empty() || !revision.sha.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(other().into());
        }
        let entry = |sibling: Sibling| {
            let sha256 = sibling.lfs.map(|lfs| lfs.sha256);
            // The narrowest that is known: a content's own digest outlives the commit.
            let validator = match (&sha256, sibling.blob_id) {
                (Some(sha256), _) => format!("sha256-{sha256}"),
                (None, Some(blob)) => format!("blob-{blob}"),
                (None, None) => format!("commit-{}", revision.sha),
            };
            Entry { name: sibling.rfilename, validator: Some(validator), size: sibling.size, sha256 }
        };
        let siblings = revision.siblings.into_iter().filter(|sibling| stays_inside(&sibling.rfilename));
        let entries = siblings.map(entry).collect();
        Ok(Listing::new(&name, Some(revision.sha), entries))
    }
}
