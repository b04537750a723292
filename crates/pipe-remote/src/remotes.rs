//! [`Remotes`]: the entry, and what needs no network.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pipe_core::{Error, IoContext, Progress, Result};

use crate::call::Call;
use crate::client::{Client, Variables};
use crate::mirror::Mirror;
use crate::retry::Retry;
use crate::url::{self, Location, shown};
use crate::{Access, Found, FoundFolder, RemoteFile, RemoteFolder, RemoteOptions};

/// Brings files named by URL onto the local disk.
#[derive(Debug)]
pub struct Remotes {
    mirror: Mirror,
    retry: Retry,
    offline: bool,
    variables: Variables,
    /// Made by the first URL that needs it: a run on local files alone starts in milliseconds.
    client: Mutex<Option<Arc<Client>>>,
}

impl Remotes {
    /// Does nothing yet; the variables of the environment are read when a URL needs them.
    pub fn new(options: RemoteOptions) -> Remotes {
        Remotes::over(options, Variables::Environment)
    }

    /// With `variables` in place of those of the environment.
    pub fn with_variables(options: RemoteOptions, variables: BTreeMap<String, String>) -> Remotes {
        Remotes::over(options, Variables::These(variables))
    }

    fn over(options: RemoteOptions, variables: Variables) -> Remotes {
        let RemoteOptions { mirror, retries, backoff, offline } = options;
        Remotes { mirror: Mirror::new(mirror), retry: Retry { retries, backoff }, offline, variables, client: Mutex::new(None) }
    }

    /// Whether `text` has one of the schemes, and so is no local path.
    pub fn is_remote(text: &str) -> bool {
        url::is_remote(text)
    }

    /// The files that `url` names, sorted by name.
    ///
    /// Errors are of the class `Input`: a URL that names nothing, that lets nobody in, or whose server does not answer
    /// after all tries; offline, one that was not fetched before.
    pub fn files(&self, url: &str, access: Access, progress: &dyn Progress) -> Result<Found> {
        let location = match Location::parse(url)? {
            Location::File(path) => return local_file(url, path).map(|file| Found::Here(vec![file])),
            location => location,
        };
        let client = self.client()?;
        let call = self.call(&client, access, progress);
        client.run(progress, call.files(url, &location))
    }

    /// The files of the folder that `url` names for which `wanted` says yes, under their names relative to it.
    ///
    /// For `hf://`, `s3://`, and `file://` (whose files stay where they are). Errors as for [`Remotes::files`]; a
    /// folder without any wanted file is one, too.
    pub fn folder(&self, url: &str, wanted: &dyn Fn(&str) -> bool, access: Access, progress: &dyn Progress) -> Result<FoundFolder> {
        let location = match Location::parse(url)? {
            Location::File(path) => return local_folder(url, path, wanted).map(FoundFolder::Here),
            location => location,
        };
        let client = self.client()?;
        let call = self.call(&client, access, progress);
        client.run(progress, call.folder(url, &location, wanted))
    }

    fn client(&self) -> Result<Arc<Client>> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match client.take() {
            Some(made) => made,
            None => Arc::new(Client::new()?),
        };
        Ok(Arc::clone(client.insert(made)))
    }

    fn call<'a>(&'a self, client: &'a Client, access: Access, progress: &'a dyn Progress) -> Call<'a> {
        let (mirror, variables, retry, offline) = (&self.mirror, &self.variables, self.retry, self.offline);
        Call { mirror, variables, retry, offline, http: &client.http, access, progress }
    }
}

/// Whether a file at the top level of a model repository is one that training, evaluating or exporting the model reads.
/// Weights are safetensors alone: pickle files can run code.
pub fn model_file(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
    ];
    !name.contains('/') && (NAMES.contains(&name) || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"))
}

fn local_file(url: &str, path: PathBuf) -> Result<RemoteFile> {
    if path.is_file() { Ok(RemoteFile { name: shown(url), path }) } else { Err(missing(&path, "file")) }
}

fn local_folder(url: &str, path: PathBuf, wanted: &dyn Fn(&str) -> bool) -> Result<RemoteFolder> {
    if !path.is_dir() {
        return Err(missing(&path, "folder"));
    }
    let mut files = Vec::new();
    names_below(&path, "", &mut files)?;
    files.retain(|name| wanted(name));
    files.sort();
    if files.is_empty() {
        return Err(nothing_wanted(&shown(url)));
    }
    Ok(RemoteFolder { name: shown(url), path, files })
}

/// Adds the files below `folder`, named from it with `prefix` before.
fn names_below(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).doing("list", folder)? {
        let path = entry.doing("list", folder)?.path();
        // A name that is not UTF-8 is none that anyone asks for.
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            names_below(&path, &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

fn missing(path: &Path, what: &str) -> Error {
    let error = Error::input(format!("there is no {what} {}", path.display()));
    match path.parent().filter(|folder| !folder.is_dir()) {
        Some(folder) => error.hint(format!("there is no folder {}", folder.display())),
        None => error.hint("check the spelling of the URL; a space is written %20"),
    }
}

pub(crate) fn nothing_wanted(name: &str) -> Error {
    Error::input(format!("{name} has none of the files that are needed")).hint("check the URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_its_configuration_tokenizer_and_safetensors() {
        for name in ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "merges.txt"] {
            assert!(model_file(name), "{name}");
        }
        for name in ["pytorch_model.bin", "onnx/config.json", "README.md", "training_args.json"] {
            assert!(!model_file(name), "{name}");
        }
    }

    #[test]
    fn local_files_are_found_where_they_are_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a b")).unwrap();
        fs::write(folder.path().join("a b/c.csv"), "x").unwrap();
        let mirror = folder.path().join("mirror");
        let remotes = Remotes::new(RemoteOptions::in_mirror(&mirror));
        let url = |path: &str| format!("file://{}/{path}", folder.path().display());
        let found = remotes.files(&url("a%20b/c.csv"), Access::Look, &pipe_core::Silent).unwrap();
        let path = folder.path().join("a b/c.csv");
        assert_eq!(found, Found::Here(vec![RemoteFile { name: url("a%20b/c.csv"), path }]));
        let FoundFolder::Here(below) = remotes.folder(&url(""), &|name| name.ends_with(".csv"), Access::Fetch, &pipe_core::Silent).unwrap() else {
            panic!("stale")
        };
        assert_eq!(below.files, ["a b/c.csv"]);
        let error = remotes.files(&url("nowhere/c.csv"), Access::Fetch, &pipe_core::Silent).unwrap_err();
        assert_eq!(error.class.exit_code(), 12);
        assert!(error.hint.unwrap().contains("no folder"));
        assert!(!mirror.exists() && remotes.client.lock().unwrap().is_none());
    }
}
