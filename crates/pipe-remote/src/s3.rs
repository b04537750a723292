//! `s3://`: objects of a bucket, of AWS or of anything that speaks its API. Settings come from the `AWS_…` variables.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use pipe_core::{Error, Result};
use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode, Url};

use crate::client::{Incoming, Variables, broken, causes, refused};
use crate::mirror::Entry;
use crate::retry::Fault;
use crate::url::stays_inside;

const ACCESS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, AWS_REGION where needed), \
                      or AWS_SKIP_SIGNATURE=true for a public bucket";

/// A machine that has a role gets its credentials in milliseconds; on any other, nobody answers.
const SIGN_IN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Bucket {
    store: AmazonS3,
    name: String,
    /// As set, for ids: the same bucket name at another endpoint is another bucket.
    endpoint: String,
    signs: bool,
    answered: Answered,
}

/// The status and head of the last answer.
type Answered = Arc<Mutex<Option<(StatusCode, HeaderMap)>>>;

/// Our client as the store's. It keeps the last answer, since the store's errors tell neither status nor `Retry-After`.
#[derive(Debug, Clone)]
struct Watched {
    http: Client,
    answered: Answered,
}

impl HttpConnector for Watched {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let keep = |answer| *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        keep(None);
        let response = HttpService::call(&self.http, request).await?;
        keep(Some((response.status(), response.headers().clone())));
        Ok(response)
    }
}

impl Bucket {
    /// Asks nothing yet.
    pub(crate) fn new(http: &Client, name: &str, variables: &Variables) -> Result<Bucket> {
        let endpoint = variables.get("AWS_ENDPOINT_URL_S3").or_else(|| variables.get("AWS_ENDPOINT_URL")).unwrap_or_default();
        let plain = Url::parse(&endpoint).ok().filter(|url| url.scheme() == "http");
        if plain.is_some_and(|url| !url.host_str().is_some_and(is_loopback)) && !variables.says_yes("AWS_ALLOW_HTTP") {
            let hint = "use https, or set AWS_ALLOW_HTTP=true where the network can be trusted";
            return Err(Error::input("AWS_ENDPOINT_URL is plain HTTP to another machine").hint(hint));
        }
        let mut builder = AmazonS3Builder::new();
        for (variable, value) in variables.starting("AWS_") {
            // Variables that only other programs know are theirs.
            if let Ok(key) = variable.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let answered = Answered::default();
        // The tries are counted, told and interrupted by us.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let watched = Watched { http: http.clone(), answered: Arc::clone(&answered) };
        let store = builder.with_bucket_name(name).with_retry(retry).with_http_connector(watched).build().map_err(|_| {
            // The library's message could quote a value.
            Error::input(format!("cannot reach s3://{name}: the AWS_… variables do not fit together")).hint(ACCESS)
        })?;
        Ok(Bucket { store, name: name.to_owned(), endpoint, signs: !variables.says_yes("AWS_SKIP_SIGNATURE"), answered })
    }

    /// The URL of `key`, for people.
    pub(crate) fn name_of(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// What the record of `key` is found by.
    pub(crate) fn id(&self, key: &str) -> String {
        format!("{}|{}", self.endpoint, self.name_of(key))
    }

    fn path(&self, key: &str) -> Result<Path> {
        Path::parse(key).map_err(|_| Error::input(format!("{} is no key that can be read: it has an empty part", self.name_of(key))))
    }

    /// Without this, a machine that has no credentials would look like a network that is down.
    async fn sign_in(&self) -> Result<()> {
        if self.signs {
            let credential = tokio::time::timeout(SIGN_IN, self.store.credentials().get_credential()).await;
            if !matches!(credential, Ok(Ok(_))) {
                return Err(Error::input(format!("there are no AWS credentials for s3://{}", self.name)).hint(ACCESS));
            }
        }
        Ok(())
    }

    /// What the store says of one object.
    pub(crate) async fn ask(&self, key: &str) -> Result<Entry, Fault> {
        let path = self.path(key)?;
        self.sign_in().await?;
        let meta = self.store.head(&path).await.map_err(|e| self.fault(&e, key))?;
        Ok(entry(&meta))
    }

    /// All objects below `folder` (all of the bucket where it is empty), in the store's order.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<Entry>, Fault> {
        let path = self.path(folder)?;
        self.sign_in().await?;
        let prefix = (!folder.is_empty()).then_some(&path);
        let found: Vec<ObjectMeta> = self.store.list(prefix).try_collect().await.map_err(|e| self.fault(&e, folder))?;
        Ok(found.iter().map(entry).filter(|entry| stays_inside(&entry.name)).collect())
    }

    /// Starts to fetch one object.
    pub(crate) async fn open(&self, key: &str) -> Result<Incoming, Fault> {
        let path = self.path(key)?;
        self.sign_in().await?;
        let found = self.store.get(&path).await.map_err(|e| self.fault(&e, key))?;
        let (validator, length, name) = (validator(&found.meta), Some(found.meta.size), self.name_of(key));
        // The head of this answer was fine, so what fails now is the connection.
        let chunks = found.into_stream().map_err(move |e| broken(&e, &name));
        Ok(Incoming { validator, length, chunks: Box::pin(chunks) })
    }

    /// The store's own messages quote the server's answer, in which a key id can stand: only its kind is passed on.
    fn fault(&self, error: &object_store::Error, key: &str) -> Fault {
        let name = self.name_of(key);
        match self.answered.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((status, _)) if status.is_redirection() || status == StatusCode::BAD_REQUEST => {
                let hint = "set AWS_REGION to the region of the bucket, and check AWS_ENDPOINT_URL";
                Error::input(format!("cannot read {name}: the server answers {status}")).hint(hint).into()
            }
            Some((status, headers)) if !status.is_success() => refused(status, &headers, &name, ACCESS),
            _ if causes(error).any(|cause| cause.is::<HttpError>()) => broken(error, &name),
            _ => Error::input(format!("cannot read {name}: what answers does not speak S3")).hint("check AWS_ENDPOINT_URL").into(),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn validator(meta: &ObjectMeta) -> Option<String> {
    Some(match &meta.e_tag {
        Some(tag) => format!("etag {tag}"),
        None => format!("modified {} length {}", meta.last_modified.to_rfc3339(), meta.size),
    })
}

fn entry(meta: &ObjectMeta) -> Entry {
    Entry { name: meta.location.to_string(), validator: validator(meta), size: Some(meta.size), sha256: None }
}
