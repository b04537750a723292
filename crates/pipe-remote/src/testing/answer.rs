//! What the server answers, without any fault: files, an S3 listing, the hub's API.

use std::fmt::Write;

use percent_encoding::percent_decode_str;
use pipe_core::digest::of_bytes;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{Request, Says, State, Stored};

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn header(mut self, name: &'static str, value: String) -> Answer {
        self.headers.push((name, value));
        self
    }

    fn body(mut self, body: Vec<u8>) -> Answer {
        self.body = body;
        self
    }
}

pub(super) fn answer(state: &State, request: &Request) -> Answer {
    if let Some(token) = &state.token
        && request.headers.get("authorization") != Some(&format!("Bearer {token}"))
    {
        return Answer::status(401);
    }
    if state.no_head && request.method == "HEAD" {
        return Answer::status(405);
    }
    if let Some(url) = state.redirects.get(&request.path) {
        return Answer::status(302).header("Location", url.clone());
    }
    if let Some(body) = state.revisions.get(&request.path) {
        return Answer::status(200).header("Content-Type", "application/json".to_owned()).body(body.clone().into_bytes());
    }
    if request.query.split('&').any(|pair| pair == "list-type=2") {
        return list(state, request);
    }
    match state.files.get(&request.path) {
        Some(stored) => file(stored),
        None => Answer::status(404),
    }
}

fn file(stored: &Stored) -> Answer {
    let mut answer = Answer::status(200).body(stored.bytes.clone());
    if stored.says == Says::Everything {
        answer = answer.header("ETag", format!("\"{}\"", of_bytes(&stored.bytes)));
    }
    if stored.says != Says::Nothing {
        answer = answer.header("Last-Modified", httpdate::fmt_http_date(stored.modified));
    }
    answer
}

/// `ListObjectsV2`, with the last key of a page as its continuation token.
fn list(state: &State, request: &Request) -> Answer {
    let parameter = |name: &str| {
        let value = request.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        percent_decode_str(&value.unwrap_or_default().replace('+', " ")).decode_utf8_lossy().into_owned()
    };
    let bucket = format!("{}/", request.path.trim_end_matches('/'));
    let (prefix, after) = (parameter("prefix"), parameter("continuation-token"));
    let keys = state.files.iter().filter_map(|(path, stored)| Some((path.strip_prefix(&bucket)?, stored)));
    let mut keys = keys.filter(|(key, _)| key.starts_with(&prefix) && *key > after.as_str()).peekable();
    if keys.peek().is_none() && !state.files.keys().any(|path| path.starts_with(&bucket)) {
        let body = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><AWSAccessKeyId>key-id</AWSAccessKeyId></Error>";
        return Answer::status(404).body(body.as_bytes().to_owned());
    }
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    let mut last = "";
    for (key, stored) in keys.by_ref().take(state.page) {
        last = key;
        // The date's form in a listing, unlike that of a header, is that of ISO 8601; nobody compares it here.
        let (tag, size) = (of_bytes(&stored.bytes), stored.bytes.len());
        write!(
            xml,
            "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>&quot;{tag}&quot;</ETag><Size>{size}</Size></Contents>"
        )
        .expect("writing to a string");
    }
    let more = keys.peek().is_some();
    write!(xml, "<IsTruncated>{more}</IsTruncated>").expect("writing to a string");
    if more {
        write!(xml, "<NextContinuationToken>{last}</NextContinuationToken>").expect("writing to a string");
    }
    xml.push_str("</ListBucketResult>");
    Answer::status(200).header("Content-Type", "application/xml".to_owned()).body(xml.into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 40 hex digits, the same for the same files.
pub(super) fn commit_id(files: &[(&str, &[u8])]) -> String {
    let all: Vec<u8> = files.iter().flat_map(|(name, bytes)| [name.as_bytes(), b"\0", bytes, b"\0"].concat()).collect();
    hex(digest(&SHA256, &all).as_ref())[..40].to_owned()
}

/// The hub's answer for a revision. Files that end in `.safetensors` or `.parquet` are kept in LFS.
pub(super) fn revision(commit: &str, files: &[(&str, &[u8])], blobs: bool) -> String {
    let sibling = |(name, bytes): &(&str, &[u8])| -> Value {
        if !blobs {
            return json!({"rfilename": name});
        }
        let mut sibling = json!({"rfilename": name, "size": bytes.len(), "blobId": &hex(digest(&SHA256, bytes).as_ref())[..40]});
        if name.ends_with(".safetensors") || name.ends_with(".parquet") {
            sibling["lfs"] = json!({"sha256": hex(digest(&SHA256, bytes).as_ref()), "size": bytes.len(), "pointerSize": 134});
        }
        sibling
    };
    json!({"sha": commit, "siblings": files.iter().map(sibling).collect::<Vec<_>>()}).to_string()
}
