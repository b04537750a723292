//! From an open answer to a file in the mirror.

use futures_util::StreamExt;
use pipe_core::{Progress, Result};
use ring::digest::{Context, SHA256};

use crate::client::Incoming;
use crate::mirror::{Mirror, Record};
use crate::retry::{Fault, Retry};

/// One file to fetch.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    /// What the record is found by: the whole URL, secrets and all. It is stored as a digest.
    pub(crate) id: &'a str,
    /// The URL for people.
    pub(crate) name: &'a str,
    /// Below the mirror.
    pub(crate) file_name: &'a str,
    /// Takes the place of what the answer says.
    pub(crate) validator: Option<&'a str>,
    /// In bytes, where known beforehand.
    pub(crate) size: Option<u64>,
    /// In hex, where known beforehand.
    pub(crate) sha256: Option<&'a str>,
}

/// Fetches `object` whole or not at all; `open` is called once per try.
pub(crate) async fn fetch(
    mirror: &Mirror,
    retry: Retry,
    object: &Object<'_>,
    progress: &dyn Progress,
    open: impl AsyncFn() -> Result<Incoming, Fault>,
) -> Result<Record> {
    retry.run(object.name, progress, async || store(mirror, object, progress, open().await?).await).await
}

async fn store(mirror: &Mirror, object: &Object<'_>, progress: &dyn Progress, mut incoming: Incoming) -> Result<Record, Fault> {
    let mut partial = mirror.begin()?;
    let mut sha256 = object.sha256.map(|_| Context::new(&SHA256));
    let total = incoming.length.or(object.size).unwrap_or(0);
    progress.advance(0, total, "bytes", object.name);
    while let Some(chunk) = incoming.chunks.next().await {
        let chunk = chunk?;
        progress.check()?;
        partial.write(&chunk)?;
        if let Some(sha256) = &mut sha256 {
            sha256.update(&chunk);
        }
        progress.advance(partial.size(), total, "bytes", object.name);
    }
    for announced in [incoming.length, object.size].into_iter().flatten() {
        if announced != partial.size() {
            return Err(Fault::transient(format!("{} of {announced} bytes came", partial.size())));
        }
    }
    if let (Some(sha256), Some(expected)) = (sha256, object.sha256) {
        let found: String = sha256.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if !found.eq_ignore_ascii_case(expected) {
            return Err(Fault::transient("its content does not have the SHA-256 that the server states"));
        }
    }
    let validator = object.validator.map(str::to_owned).or(incoming.validator);
    Ok(partial.commit(object.id, object.name, object.file_name, validator)?)
}
