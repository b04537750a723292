//! One call: from a URL to local files, by way of what the server says now and what the mirror holds.

use pipe_core::file::nearest;
use pipe_core::{Error, Progress, Result};

use crate::client::{Incoming, Variables};
use crate::http::Request;
use crate::hub::Hub;
use crate::mirror::{Entry, Listing, Mirror, Record};
use crate::remotes::nothing_wanted;
use crate::retry::{Fault, Retry};
use crate::s3::Bucket;
use crate::transfer::{Object, fetch};
use crate::url::{HubPath, Location, Wanted, file_name, shown};
use crate::{Access, Found, FoundFolder, RemoteFile, RemoteFolder};

/// What a call works with.
pub(crate) struct Call<'a> {
    pub(crate) mirror: &'a Mirror,
    pub(crate) variables: &'a Variables,
    pub(crate) http: &'a reqwest::Client,
    pub(crate) retry: Retry,
    pub(crate) offline: bool,
    pub(crate) access: Access,
    pub(crate) progress: &'a dyn Progress,
}

/// A file of a URL: here, or why not.
enum State {
    Here { name: String, record: Record },
    Stale(String),
}

/// What the server says of a file before it is fetched.
enum Now<'a> {
    /// Nobody was asked: what is here will do.
    Unasked,
    /// The validator; none: the server has none.
    Validator(Option<&'a str>),
}

/// What a listing is asked for: a folder of a bucket or a repository, and which names of it.
type Chosen<'a> = (&'a str, &'a dyn Fn(&str) -> bool);

impl Call<'_> {
    pub(crate) async fn files(&self, url: &str, location: &Location) -> Result<Found> {
        let states = match location {
            Location::File(_) => unreachable!("needs no call"),
            Location::Http(_) => vec![self.web_file(url).await?],
            Location::S3 { bucket, key } => self.bucket_files(&Bucket::new(self.http, bucket, self.variables)?, key).await?,
            Location::Hub(path) => self.hub_files(&Hub::new(self.variables)?, path).await?,
        };
        let (mut here, mut stale) = (Vec::new(), Vec::new());
        for state in states {
            match state {
                State::Here { name, record } => here.push(RemoteFile { name, path: self.mirror.path(&record) }),
                State::Stale(reason) => stale.push(reason),
            }
        }
        Ok(if stale.is_empty() { Found::Here(here) } else { Found::Stale(stale) })
    }

    pub(crate) async fn folder(&self, url: &str, location: &Location, wanted: &dyn Fn(&str) -> bool) -> Result<FoundFolder> {
        let (name, files, states) = match location {
            Location::File(_) => unreachable!("needs no call"),
            Location::Http(_) => {
                let hint = "a web server has no folders; use hf:// or s3://, or name each file";
                return Err(Error::input(format!("{} cannot be read as a folder", shown(url))).hint(hint));
            }
            Location::S3 { bucket, key } => {
                let (bucket, folder) = (Bucket::new(self.http, bucket, self.variables)?, key.trim_end_matches('/'));
                let (files, entries) = choose(self.bucket_listing(&bucket, &format!("{folder}/"), folder).await?, (folder, wanted));
                (url.to_owned(), files, self.bucket_objects(&bucket, &entries).await?)
            }
            Location::Hub(path) => {
                let (hub, folder) = (Hub::new(self.variables)?, path.path.trim_end_matches('/'));
                let listing = self.hub_listing(&hub, path).await?;
                let commit = listing.commit.clone().unwrap_or_default();
                let (files, entries) = choose(listing, (folder, wanted));
                (path.name_of(folder), files, self.hub_objects(&hub, path, &commit, &entries).await?)
            }
        };
        if files.is_empty() {
            return Err(nothing_wanted(&name));
        }
        let (mut here, mut stale) = (Vec::new(), Vec::new());
        for (file, state) in files.iter().zip(states) {
            match state {
                State::Here { record, .. } => here.push((file.clone(), record)),
                State::Stale(reason) => stale.push(reason),
            }
        }
        if !stale.is_empty() {
            return Ok(FoundFolder::Stale(stale));
        }
        let Some(path) = self.mirror.snapshot(&here, self.access)? else {
            return Ok(FoundFolder::Stale(vec![format!("{name}: fetched, but not as this folder")]));
        };
        Ok(FoundFolder::Here(RemoteFolder { name, path, files }))
    }

    async fn web_file(&self, url: &str) -> Result<State> {
        let name = shown(url);
        let request = Request::plain(url, &name);
        let object = Object { id: url, name: &name, file_name: &file_name(&name), validator: None, size: None, sha256: None };
        let open = async || request.open(self.http).await;
        if self.offline {
            return self.bring(&object, Now::Unasked, open).await;
        }
        // Where nothing is here yet, the answer that brings the file says its validator as well.
        let validator = match self.mirror.record(url) {
            Some(_) => self.retry.run(&name, self.progress, async || request.ask(self.http).await).await?,
            None => None,
        };
        self.bring(&object, Now::Validator(validator.as_deref()), open).await
    }

    async fn bucket_files(&self, bucket: &Bucket, key: &str) -> Result<Vec<State>> {
        let name = bucket.name_of(key);
        if key.is_empty() || key.ends_with('/') {
            return Err(Error::input(format!("{name} names a folder")).hint("add a key or a pattern, such as `*.csv`"));
        }
        let wanted = Wanted::new(key, &name)?;
        let entries = match &wanted {
            Wanted::One(key) if self.offline => vec![Entry { name: key.clone(), validator: None, size: None, sha256: None }],
            Wanted::One(key) => vec![self.retry.run(&name, self.progress, async || bucket.ask(key).await).await?],
            Wanted::Matching(_) => {
                let folder = wanted.folder();
                choose(self.bucket_listing(bucket, &format!("{folder}/"), folder).await?, ("", &|name| wanted.matches(name))).1
            }
        };
        if entries.is_empty() {
            return Err(Error::input(format!("no object matches {name}")).hint("`*` stays within one folder, `**` goes below"));
        }
        self.bucket_objects(bucket, &entries).await
    }

    async fn bucket_listing(&self, bucket: &Bucket, key: &str, folder: &str) -> Result<Listing> {
        let name = bucket.name_of(folder);
        let ask = async || self.retry.run(&name, self.progress, async || Ok(Listing::new(&name, None, bucket.list(folder).await?))).await;
        self.listing(&bucket.id(key), &name, self.offline, ask).await
    }

    async fn bucket_objects(&self, bucket: &Bucket, entries: &[Entry]) -> Result<Vec<State>> {
        let mut states = Vec::new();
        for entry in entries {
            let (id, name) = (bucket.id(&entry.name), bucket.name_of(&entry.name));
            let now = if self.offline { Now::Unasked } else { Now::Validator(entry.validator.as_deref()) };
            // The listing's size and validator are not held against the answer: the object may have been replaced since.
            let object = Object { id: &id, name: &name, file_name: &file_name(&entry.name), validator: None, size: None, sha256: None };
            states.push(self.bring(&object, now, async || bucket.open(&entry.name).await).await?);
        }
        Ok(states)
    }

    async fn hub_files(&self, hub: &Hub, path: &HubPath) -> Result<Vec<State>> {
        let name = path.name_of(&path.path);
        if path.path.is_empty() || path.path.ends_with('/') {
            return Err(Error::input(format!("{name} names a folder")).hint("add a file or a pattern, such as `data/*.parquet`"));
        }
        let wanted = Wanted::new(&path.path, &name)?;
        let listing = self.hub_listing(hub, path).await?;
        let commit = listing.commit.clone().unwrap_or_default();
        let all: Vec<String> = listing.entries.iter().map(|entry| entry.name.clone()).collect();
        let (_, entries) = choose(listing, ("", &|name| wanted.matches(name)));
        if entries.is_empty() {
            let error = Error::input(format!("there is no {name} in the repository"));
            return Err(match nearest(&path.path, all.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`*` stays within one folder, `**` goes below"),
            });
        }
        self.hub_objects(hub, path, &commit, &entries).await
    }

    async fn hub_listing(&self, hub: &Hub, path: &HubPath) -> Result<Listing> {
        let (id, name) = (hub.revision_url(path), path.name_of(""));
        if path.is_pinned()
            && let Some(listing) = self.mirror.listing(&id)
        {
            return Ok(listing);
        }
        let ask = async || self.retry.run(&name, self.progress, async || hub.list(self.http, path).await).await;
        self.listing(&id, &name, self.offline || hub.offline, ask).await
    }

    async fn hub_objects(&self, hub: &Hub, path: &HubPath, commit: &str, entries: &[Entry]) -> Result<Vec<State>> {
        let mut states = Vec::new();
        for entry in entries {
            let (id, request) = (hub.file_id(path, entry), hub.file(path, commit, &entry.name));
            let now = if self.offline || hub.offline { Now::Unasked } else { Now::Validator(entry.validator.as_deref()) };
            let object = Object {
                id: &id,
                name: &request.name,
                file_name: &file_name(&entry.name),
                validator: entry.validator.as_deref(),
                size: entry.size,
                sha256: entry.sha256.as_deref(),
            };
            states.push(self.bring(&object, now, async || request.open(self.http).await).await?);
        }
        Ok(states)
    }

    /// What the server lists now, or, offline, what it listed last.
    async fn listing(&self, id: &str, name: &str, offline: bool, ask: impl AsyncFn() -> Result<Listing>) -> Result<Listing> {
        let known = self.mirror.listing(id);
        if offline {
            return known.ok_or_else(|| not_here(name));
        }
        let listing = ask().await?;
        if self.access == Access::Fetch && known.as_ref() != Some(&listing) {
            self.mirror.save_listing(id, &listing)?;
        }
        Ok(listing)
    }

    /// The decision that all schemes share: what is here serves, or is fetched, or is stale.
    async fn bring(&self, object: &Object<'_>, now: Now<'_>, open: impl AsyncFn() -> Result<Incoming, Fault>) -> Result<State> {
        let here = |record| State::Here { name: object.name.to_owned(), record };
        let reason = match (self.mirror.record(object.id), now) {
            (Some(record), Now::Unasked) => return Ok(here(record)),
            (None, Now::Unasked) => return Err(not_here(object.name)),
            (None, _) => "not fetched yet",
            (Some(_), Now::Validator(None)) => "its server does not say whether it has changed, so it is fetched each time",
            (Some(record), Now::Validator(Some(validator))) if record.validator.as_deref() == Some(validator) => return Ok(here(record)),
            (Some(_), Now::Validator(Some(_))) => "changed since it was fetched",
        };
        match self.access {
            Access::Look => Ok(State::Stale(format!("{}: {reason}", object.name))),
            Access::Fetch => fetch(self.mirror, self.retry, object, self.progress, open).await.map(here),
        }
    }
}

/// The entries below the folder whose names relative to it are wanted, and those names.
fn choose(listing: Listing, (folder, wanted): Chosen<'_>) -> (Vec<String>, Vec<Entry>) {
    let relative = |name: &str| Some(if folder.is_empty() { name } else { name.strip_prefix(folder)?.strip_prefix('/')? }.to_owned());
    let chosen = listing.entries.into_iter().filter_map(|entry| Some((relative(&entry.name).filter(|name| wanted(name))?, entry)));
    chosen.unzip()
}

fn not_here(name: &str) -> Error {
    Error::input(format!("{name} was not fetched before, and this run is offline")).hint("run once online (without --offline, HF_HUB_OFFLINE unset)")
}
