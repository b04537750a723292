//! What talks to the network: one runtime and one HTTP client, made when the first URL needs them; and which of its
//! failures are worth another try.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use pipe_core::{Error, Progress, Result};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use tokio::runtime::Runtime;

use crate::retry::{Fault, retry_after};

/// Until a connection stands.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two reads; there is none for a whole file, which may be large.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Nothing drives the runtime between two calls, so a connection that waited longer may have been closed unseen.
pub(crate) const POOL_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a wish to stop is heard while the network is silent.
const TICK: Duration = Duration::from_millis(100);

/// The body of an answer, with what its head says.
pub(crate) struct Incoming {
    pub(crate) validator: Option<String>,
    /// In bytes, as announced.
    pub(crate) length: Option<u64>,
    pub(crate) chunks: LocalBoxStream<'static, Result<Bytes, Fault>>,
}

/// Named settings, as the environment has them.
#[derive(Debug, Clone)]
pub(crate) enum Variables {
    Environment,
    These(BTreeMap<String, String>),
}

impl Variables {
    /// None where it is not set or empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            Variables::Environment => std::env::var(name).ok(),
            Variables::These(variables) => variables.get(name).cloned(),
        };
        value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Set to one of the words that the hub's own libraries take for yes.
    pub(crate) fn says_yes(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str()))
    }

    /// All whose name begins with `prefix`.
    pub(crate) fn starting(&self, prefix: &str) -> Vec<(String, String)> {
        let all: Vec<(String, String)> = match self {
            // Not `vars`, which panics at a variable that is not UTF-8, whatever its name.
            Variables::Environment => {
                std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
            }
            Variables::These(variables) => variables.clone().into_iter().collect(),
        };
        all.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect()
    }
}

#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    pub(crate) http: reqwest::Client,
}

impl Client {
    pub(crate) fn new() -> Result<Client> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::internal(format!("cannot start the network runtime: {e}")))?;
        // Fails where the process has chosen one before; then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .pool_idle_timeout(POOL_TIMEOUT)
                // It would tell the host that is redirected to the query of the URL before.
                .referer(false)
        };
        // A machine without root certificates can still speak plain HTTP; every TLS connection then fails.
        let http = builder().build().or_else(|_| builder().tls_certs_only([]).build());
        let http = http.map_err(|e| Error::internal(format!("cannot make an HTTP client: {}", innermost(&e))))?;
        Ok(Client { runtime, http })
    }

    /// Drives `work` to its end, or drops it as soon as `progress` says to stop.
    pub(crate) fn run<T>(&self, progress: &dyn Progress, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            loop {
                progress.check()?;
                if let Ok(done) = tokio::time::timeout(TICK, work.as_mut()).await {
                    return done;
                }
            }
        })
    }
}

/// What a server says of a file's content, by which a later answer is compared; none: it says nothing usable.
pub(crate) fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    match text("etag") {
        Some(tag) => Some(format!("etag {tag}")),
        None => Some(format!("modified {} length {}", text("last-modified")?, length(headers)?)),
    }
}

pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The fault that an answer other than success is. `name` is the URL for people; `access` says how one gets in.
pub(crate) fn refused(status: StatusCode, headers: &HeaderMap, name: &str, access: &str) -> Fault {
    let says = format!("the server answers {status}");
    match status.as_u16() {
        401 | 403 => Error::input(format!("cannot fetch {name}: {says}")).hint(access).into(),
        404 | 410 => Error::input(format!("there is no {name} ({says})")).hint("check the spelling of the URL").into(),
        408 | 425 | 429 | 500.. => Fault::Transient { why: says, after: retry_after(headers) },
        _ => Error::input(format!("cannot fetch {name}: {says}")).into(),
    }
}

/// The fault that a broken exchange is: a connection that fails, times out or ends early.
pub(crate) fn broken(error: &(dyn StdError + 'static), name: &str) -> Fault {
    let mut timeout = false;
    for cause in causes(error) {
        match cause.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(why)) => {
                let hint = "install the system's root certificates (ca-certificates) or name a bundle in SSL_CERT_FILE";
                return Error::input(format!("cannot fetch {name}: its certificate is not trusted ({why:?})")).hint(hint).into();
            }
            Some(why) => return Error::input(format!("cannot fetch {name}: its server does not speak TLS as we do ({why})")).into(),
            None => {}
        }
        if let Some(error) = cause.downcast_ref::<reqwest::Error>() {
            timeout |= error.is_timeout();
            if error.is_redirect() {
                return Error::input(format!("cannot fetch {name}: it is redirected in a circle, too often or nowhere")).into();
            }
            if error.is_builder() {
                return Error::input(format!("cannot fetch {name}: it is no valid URL")).into();
            }
        }
    }
    Fault::transient(if timeout { "timed out".to_owned() } else { innermost(error) })
}

/// An error, what caused it, and so on.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // The source of an I/O error is that of the error inside it, which would be passed over.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inside.map(|inside| inside as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}

/// The last of the causes: what the system or the protocol says, in which no URL stands.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let last = causes(error).last().expect("at least the error itself");
    match last.downcast_ref::<reqwest::Error>() {
        // This one would quote its URL.
        Some(_) => "the exchange with the server failed".to_owned(),
        None => last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_is_not_tried_again() {
        let wrapped = |error: rustls::Error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        let untrusted = wrapped(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
        let Fault::Permanent(error) = broken(&untrusted, "https://host/a") else { panic!("tried again") };
        assert!(error.hint.unwrap().contains("SSL_CERT_FILE"));
        assert!(matches!(broken(&wrapped(rustls::Error::DecryptError), ""), Fault::Permanent(_)));
        let reset = io::Error::new(io::ErrorKind::ConnectionReset, "reset");
        assert!(matches!(broken(&reset, ""), Fault::Transient { why, .. } if why == "reset"));
    }

    #[test]
    fn yes_is_said_as_to_the_hubs_own_libraries() {
        let variables = Variables::These([("A", "yes"), ("B", "0"), ("C", " ")].map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert!(variables.says_yes("A") && !variables.says_yes("B") && variables.get("C").is_none());
    }
}
