//! What a URL in a pipeline file names: [`Location::parse`], and how much of a URL may be shown.

use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use percent_encoding::percent_decode_str;
use pipe_core::{Error, Result};
use reqwest::Url;

const SCHEMES: [&str; 5] = ["file", "http", "https", "s3", "hf"];

/// As in a shell, and as for local paths: `*` stays within one folder, `**` does not.
const MATCH: MatchOptions = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Location {
    File(PathBuf),
    Http(Url),
    S3 { bucket: String, key: String },
    Hub(HubPath),
}

/// `hf://[datasets/]OWNER/NAME[@REV][/PATH]`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HubPath {
    pub(crate) kind: HubKind,
    /// `OWNER/NAME`
    pub(crate) repo: String,
    /// A branch, a tag, a commit; `main` where the URL names none.
    pub(crate) revision: String,
    /// A file or a pattern; empty: the whole repository.
    pub(crate) path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HubKind {
    Model,
    Dataset,
}

/// The scheme of `text` if it is one of ours.
fn scheme(text: &str) -> Option<&'static str> {
    let (found, _) = text.split_once("://")?;
    SCHEMES.into_iter().find(|scheme| scheme.eq_ignore_ascii_case(found))
}

pub(crate) fn is_remote(text: &str) -> bool {
    scheme(text).is_some()
}

impl Location {
    pub(crate) fn parse(text: &str) -> Result<Location> {
        let bad = |why: &str| Error::input(format!("`{}` is no valid URL: {why}", shown(text)));
        let known = || bad("it has none of the schemes file, http, https, s3 and hf");
        let scheme = scheme(text).ok_or_else(known)?;
        let rest = &text[scheme.len() + "://".len()..];
        match scheme {
            "file" => file(rest).map(Location::File).map_err(bad),
            "s3" => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(bad("it names no bucket").hint("write s3://BUCKET/KEY; a key may be a pattern such as data/*.csv"));
                }
                Ok(Location::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            "hf" => HubPath::parse(rest).map(Location::Hub).map_err(|why| {
                bad(why).hint("write hf://OWNER/NAME[@REVISION][/FILE] for a model, hf://datasets/OWNER/NAME[@REVISION]/FILE for a data set")
            }),
            // The parser's own message quotes nothing of the URL.
            _ => Url::parse(text).map(Location::Http).map_err(|e| bad(&e.to_string())),
        }
    }
}

fn file(rest: &str) -> Result<PathBuf, &'static str> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file's path is absolute: file:///folder/name");
    }
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| "its path is not UTF-8")?;
    Ok(PathBuf::from(&*decoded))
}

impl HubPath {
    fn parse(rest: &str) -> Result<HubPath, &'static str> {
        let (kind, rest) = match rest.split_once('/') {
            Some(("datasets", rest)) => (HubKind::Dataset, rest),
            Some(("spaces", _)) => return Err("spaces hold neither models nor data"),
            _ => (HubKind::Model, rest),
        };
        let (owner, rest) = rest.split_once('/').ok_or("it names no repository")?;
        let (name, tail) = rest.split_at(rest.find(['/', '@']).unwrap_or(rest.len()));
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !plain(owner) || !plain(name) {
            return Err("a repository is OWNER/NAME");
        }
        let (revision, path) = match tail.strip_prefix('@') {
            None => ("main".to_owned(), tail.trim_start_matches('/')),
            Some(tail) => {
                // The hub's two kinds of references with a slash in their names; any other slash is written %2F.
                let slashes = if tail.starts_with("refs/convert/") || tail.starts_with("refs/pr/") { 2 } else { 0 };
                let end = tail.match_indices('/').nth(slashes).map_or(tail.len(), |(at, _)| at);
                let revision = percent_decode_str(&tail[..end]).decode_utf8().map_err(|_| "its revision is not UTF-8")?;
                if revision.is_empty() {
                    return Err("nothing follows the @");
                }
                (revision.into_owned(), tail[end..].trim_start_matches('/'))
            }
        };
        Ok(HubPath { kind, repo: format!("{owner}/{name}"), revision, path: path.to_owned() })
    }

    /// A full commit id: what it names never changes.
    pub(crate) fn is_pinned(&self) -> bool {
        self.revision.len() == 40 && self.revision.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// The URL of one file of the repository, as a person would write it.
    pub(crate) fn name_of(&self, file: &str) -> String {
        let kind = if self.kind == HubKind::Dataset { "datasets/" } else { "" };
        let revision = if self.revision == "main" { String::new() } else { format!("@{}", self.revision) };
        let slash = if file.is_empty() { "" } else { "/" };
        format!("hf://{kind}{}{revision}{slash}{file}", self.repo)
    }
}

/// A URL without what could be secret in it: user, password, query and fragment.
pub(crate) fn shown(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    if scheme.eq_ignore_ascii_case("s3") || scheme.eq_ignore_ascii_case("hf") {
        return text.to_owned();
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// The name that a mirrored file gets: the last part of the path, kept where it is plain, so that its extension stays.
pub(crate) fn file_name(path: &str) -> String {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let decoded = percent_decode_str(last).decode_utf8_lossy();
    let plain: String = decoded.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let plain = plain.trim_start_matches('.');
    // The end is kept, for the extension; the text is ASCII by now.
    let plain = &plain[plain.len().saturating_sub(100)..];
    if plain.is_empty() { "file".to_owned() } else { plain.to_owned() }
}

/// Whether a server's name for a file is a path below a folder of ours.
pub(crate) fn stays_inside(name: &str) -> bool {
    !name.is_empty() && !name.contains(['\\', '\0']) && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A path of a URL: one name, or a pattern.
#[derive(Debug)]
pub(crate) enum Wanted {
    One(String),
    Matching(Pattern),
}

impl Wanted {
    /// `url` is for the message alone.
    pub(crate) fn new(path: &str, url: &str) -> Result<Wanted> {
        if !path.contains(['*', '?', '[']) {
            return Ok(Wanted::One(path.to_owned()));
        }
        let pattern = Pattern::new(path).map_err(|e| Error::input(format!("`{}` is no valid pattern: {}", shown(url), e.msg)))?;
        Ok(Wanted::Matching(pattern))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Wanted::One(path) => path == name,
            Wanted::Matching(pattern) => pattern.matches_with(name, MATCH),
        }
    }

    /// The folder in which every match lies, without its last slash; empty: anywhere.
    pub(crate) fn folder(&self) -> &str {
        let text = match self {
            Wanted::One(path) => path,
            Wanted::Matching(pattern) => pattern.as_str().split(['*', '?', '[']).next().unwrap_or_default(),
        };
        text.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> HubPath {
        let Location::Hub(path) = Location::parse(text).unwrap() else { panic!("not the hub") };
        path
    }

    #[test]
    fn only_the_five_schemes_are_remote() {
        for remote in ["file:///a", "http://a", "HTTPS://a", "s3://b/k", "hf://a/b"] {
            assert!(is_remote(remote), "{remote}");
        }
        for local in ["data/a.csv", "ftp://a/b", "C:/a", "s3:/a", ""] {
            assert!(!is_remote(local), "{local}");
        }
    }

    #[test]
    fn hub_paths_are_taken_apart() {
        let path = hub("hf://owner/name");
        assert_eq!((path.kind, &*path.repo, &*path.revision, &*path.path), (HubKind::Model, "owner/name", "main", ""));
        let path = hub("hf://datasets/owner/na.me@v1%2Fx/data/*.csv");
        assert_eq!((path.kind, &*path.repo, &*path.revision, &*path.path), (HubKind::Dataset, "owner/na.me", "v1/x", "data/*.csv"));
        let path = hub("hf://datasets/owner/name@refs/convert/parquet/default/train/0000.parquet");
        assert_eq!((&*path.revision, &*path.path), ("refs/convert/parquet", "default/train/0000.parquet"));
        assert_eq!(path.name_of("a.csv"), "hf://datasets/owner/name@refs/convert/parquet/a.csv");
        assert!(hub(&format!("hf://o/n@{}", "0123456789abcdef".repeat(3).split_at(40).0)).is_pinned());
        for bad in ["hf://name", "hf://spaces/o/n", "hf://o/..", "hf://o/n@", "hf://o//x"] {
            assert_eq!(Location::parse(bad).unwrap_err().class.exit_code(), 12, "{bad}");
        }
    }

    #[test]
    fn a_file_url_is_decoded_and_absolute() {
        assert_eq!(Location::parse("file:///a%20b/c.csv").unwrap(), Location::File("/a b/c.csv".into()));
        assert_eq!(Location::parse("file://localhost/a").unwrap(), Location::File("/a".into()));
        Location::parse("file://relative/a").unwrap_err();
    }

    #[test]
    fn what_is_shown_has_no_secrets() {
        assert_eq!(shown("https://user:secret@host:1/a/b.csv?token=secret#secret"), "https://host:1/a/b.csv");
        assert_eq!(shown("https://host?secret"), "https://host");
        let error = Location::parse("http://user:secret@:x/?secret").unwrap_err();
        assert!(!error.message.contains("secret"), "{error}");
    }

    #[test]
    fn names_keep_their_extension_and_stay_inside() {
        assert_eq!(file_name("/a/b%20c.csv"), "b_c.csv");
        assert_eq!(file_name("/"), "file");
        assert_eq!(file_name("..%2F..%2Fetc"), "_.._etc");
        assert!(file_name(&format!("{}.parquet", "x".repeat(300))).ends_with("x.parquet"));
        for outside in ["../a", "/a", "a/../../b", "", "a\\b"] {
            assert!(!stays_inside(outside), "{outside}");
        }
        assert!(stays_inside("a/b.csv"));
    }

    #[test]
    fn patterns_stay_within_a_folder() {
        let wanted = |path| Wanted::new(path, path).unwrap();
        assert!(wanted("data/*.csv").matches("data/a.csv") && !wanted("data/*.csv").matches("data/x/a.csv"));
        assert!(wanted("data/**/*.csv").matches("data/x/a.csv"));
        assert_eq!((wanted("data/x/a*.csv").folder(), wanted("*.csv").folder(), wanted("d/a").folder()), ("data/x", "", "d"));
    }
}
