//! What was fetched, on the local disk:
//!
//! ```text
//! objects/<aa>/<blake3>/<file name>   the bytes of a file; a path here never changes its content
//! records/<aa>/<id>.json              URL → validator, size and object of the last fetch
//! listings/<aa>/<id>.json             pattern or repository → its files when it was last asked for
//! snapshots/<id>/…                    whole folders, made of links to objects
//! partial/…                           what is being written; swept after a day
//! ```
//!
//! An id is the digest of the whole URL, so that no secret of a URL is stored. Everything is written aside and renamed,
//! so processes that share a mirror see whole files only, and a URL whose content changes gets another path: whoever
//! reads the old one goes on reading it.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use pipe_core::cache::{sync_dir, write_atomically};
use pipe_core::digest::{DIGEST_CHARS, of_bytes};
use pipe_core::{IoContext, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tempfile::NamedTempFile;

use crate::Access;

/// On-disk version of records and listings. One of another version counts as none.
const VERSION: u32 = 1;

/// What a killed process left in `partial/` is removed once nobody can be writing it any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// `records/<aa>/<id>.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// For people: without credentials and query.
    url: String,
    /// What the server says of this content, compared as it is; none: it has to be fetched each time.
    pub(crate) validator: Option<String>,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) blake3: String,
    file: String,
}

/// `listings/<aa>/<id>.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listing {
    version: u32,
    url: String,
    /// The hub's commit id.
    pub(crate) commit: Option<String>,
    pub(crate) entries: Vec<Entry>,
}

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Below the bucket or the repository.
    pub(crate) name: String,
    pub(crate) validator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
}

impl Listing {
    /// Sorted by name, whatever order the server has.
    pub(crate) fn new(url: &str, commit: Option<String>, mut entries: Vec<Entry>) -> Listing {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Listing { version: VERSION, url: url.to_owned(), commit, entries }
    }
}

#[derive(Debug)]
pub(crate) struct Mirror {
    root: PathBuf,
    sweep: Once,
}

impl Mirror {
    pub(crate) fn new(root: PathBuf) -> Mirror {
        Mirror { root, sweep: Once::new() }
    }

    fn json_path(&self, kind: &str, id: &str) -> PathBuf {
        self.root.join(kind).join(&id[..2]).join(format!("{id}.json"))
    }

    /// None where there is none that this version can read.
    fn read<T: DeserializeOwned>(&self, kind: &str, url: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.json_path(kind, &of_bytes(url.as_bytes()))).ok()?).ok()
    }

    fn write<T: Serialize>(&self, kind: &str, url: &str, value: &T) -> Result<()> {
        let path = self.json_path(kind, &of_bytes(url.as_bytes()));
        write_atomically(&path, &serde_json::to_vec_pretty(value).expect("plain data")).doing("write", &path)
    }

    /// What was last fetched from `url`, if its file is here at its recorded size.
    pub(crate) fn record(&self, url: &str) -> Option<Record> {
        let record: Record = self.read("records", url)?;
        let whole = record.version == VERSION && has_size(&self.path(&record), record.size);
        // What is used stays young, so that what is not can be swept away by age.
        let now = || File::options().append(true).open(self.path(&record)).and_then(|file| file.set_modified(SystemTime::now()));
        (whole && now().is_ok()).then_some(record)
    }

    /// The file of a record.
    pub(crate) fn path(&self, record: &Record) -> PathBuf {
        self.root.join("objects").join(&record.blake3[..2]).join(&record.blake3).join(&record.file)
    }

    pub(crate) fn listing(&self, url: &str) -> Option<Listing> {
        self.read("listings", url).filter(|listing: &Listing| listing.version == VERSION)
    }

    pub(crate) fn save_listing(&self, url: &str, listing: &Listing) -> Result<()> {
        self.write("listings", url, listing)
    }

    /// The folder in which files are written aside.
    fn partial(&self) -> Result<PathBuf> {
        let folder = self.root.join("partial");
        fs::create_dir_all(&folder).doing("make the folder", &folder)?;
        self.sweep.call_once(|| sweep(&folder));
        Ok(folder)
    }

    /// A new file beside all others; gone again unless it is committed.
    pub(crate) fn begin(&self) -> Result<Partial<'_>> {
        let folder = self.partial()?;
        // As any other file: what the umask leaves, so that a mirror can be shared.
        let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(&folder).doing("write in", &folder)?;
        Ok(Partial { mirror: self, file, hasher: blake3::Hasher::new(), size: 0 })
    }

    /// A folder that holds each of `files` under its name below the folder. The same files give the same folder. None
    /// where it would have to be made and `access` only looks.
    pub(crate) fn snapshot(&self, files: &[(String, Record)], access: Access) -> Result<Option<PathBuf>> {
        let content: String = files.iter().map(|(name, record)| format!("{name}\0{}\n", record.blake3)).collect();
        let folder = self.root.join("snapshots").join(of_bytes(content.as_bytes()));
        let whole = || files.iter().all(|(name, record)| has_size(&folder.join(name), record.size));
        if whole() {
            return Ok(Some(folder));
        }
        if access == Access::Look {
            return Ok(None);
        }
        let partial = self.partial()?;
        let aside = tempfile::Builder::new().permissions(Permissions::from_mode(0o777)).tempdir_in(&partial).doing("make a folder in", &partial)?;
        for (name, record) in files {
            let (from, to) = (self.path(record), aside.path().join(name));
            let parent = to.parent().expect("a file in a folder");
            fs::create_dir_all(parent).doing("make the folder", parent)?;
            // Some file systems have no hard links.
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).doing("write", &to)?;
        }
        let parent = folder.parent().expect("below the mirror");
        fs::create_dir_all(parent).doing("make the folder", parent)?;
        match fs::rename(aside.path(), &folder) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                if !whole() {
                    // Damaged, not just made by another process: out of the way, to be swept.
                    let trash = partial.join(format!("damaged-{:016x}", fastrand::u64(..)));
                    fs::rename(&folder, &trash).doing("move away", &folder)?;
                    fs::rename(aside.path(), &folder).doing("make the folder", &folder)?;
                }
            }
            Err(error) => return Err(error).doing("make the folder", &folder),
        }
        sync_dir(parent).doing("write", parent)?;
        Ok(Some(folder))
    }
}

/// A file on its way into the mirror.
#[derive(Debug)]
pub(crate) struct Partial<'a> {
    mirror: &'a Mirror,
    file: NamedTempFile,
    hasher: blake3::Hasher,
    size: u64,
}

impl Partial<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).doing("write", self.file.path())
    }

    /// Bytes written so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Puts the file where it belongs and records it as what `url` holds.
    pub(crate) fn commit(self, url: &str, shown: &str, file_name: &str, validator: Option<String>) -> Result<Record> {
        let blake3 = self.hasher.finalize().to_hex()[..DIGEST_CHARS].to_owned();
        let record = Record { version: VERSION, url: shown.to_owned(), validator, size: self.size, blake3, file: file_name.to_owned() };
        let path = self.mirror.path(&record);
        let folder = path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).doing("make the folder", folder)?;
        self.file.as_file().sync_all().doing("write", self.file.path())?;
        self.file.persist(&path).map_err(|e| e.error).doing("write", &path)?;
        sync_dir(folder).doing("write", folder)?;
        self.mirror.write("records", url, &record)?;
        Ok(record)
    }
}

fn has_size(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|stat| stat.is_file() && stat.len() == size)
}

/// Removes what killed processes left. Failing to is no failure.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|stat| stat.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        if age > ABANDONED {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(mirror: &Mirror, url: &str, bytes: &[u8]) -> Record {
        let mut partial = mirror.begin().unwrap();
        partial.write(bytes).unwrap();
        partial.commit(url, url, "a.csv", Some("v1".to_owned())).unwrap()
    }

    #[test]
    fn a_path_keeps_its_content_when_the_url_changes() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::new(folder.path().to_owned());
        let old = put(&mirror, "u", b"old");
        let new = put(&mirror, "u", b"new!");
        assert_eq!(mirror.record("u").as_ref(), Some(&new));
        assert_eq!(fs::read(mirror.path(&old)).unwrap(), b"old");
        assert_eq!(old.blake3, of_bytes(b"old"));
        fs::write(mirror.path(&new), "shorter or longer").unwrap();
        assert_eq!(mirror.record("u"), None, "another size is not whole");
    }

    #[test]
    fn an_uncommitted_file_is_gone_and_old_ones_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("partial/left");
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        let old = fs::File::create(&left).unwrap();
        old.set_modified(std::time::SystemTime::now() - 2 * ABANDONED).unwrap();
        let mirror = Mirror::new(folder.path().to_owned());
        let mut partial = mirror.begin().unwrap();
        partial.write(b"half").unwrap();
        drop(partial);
        assert_eq!(fs::read_dir(folder.path().join("partial")).unwrap().count(), 0);
        assert!(!folder.path().join("objects").exists());
    }

    #[test]
    fn a_damaged_snapshot_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::new(folder.path().to_owned());
        let files = [("config.json".to_owned(), put(&mirror, "c", b"{}")), ("onnx/m".to_owned(), put(&mirror, "m", b"mm"))];
        let snapshot = mirror.snapshot(&files, Access::Fetch).unwrap().unwrap();
        assert_eq!(fs::read(snapshot.join("onnx/m")).unwrap(), b"mm");
        fs::remove_file(snapshot.join("config.json")).unwrap();
        assert_eq!(mirror.snapshot(&files, Access::Look).unwrap(), None);
        assert_eq!(mirror.snapshot(&files, Access::Fetch).unwrap().unwrap(), snapshot);
        assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), b"{}");
    }

    #[test]
    fn yesterdays_record_is_read() {
        let text =
            r#"{"version":1,"url":"https://h/a.csv","validator":"etag \"1\"","size":3,"blake3":"00112233445566778899aabbccddeeff","file":"a.csv"}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!((record.size, record.file.as_str()), (3, "a.csv"));
        let text = r#"{"version":1,"url":"hf://o/n","commit":"c0","entries":[{"name":"a","validator":"v"}]}"#;
        let listing: Listing = serde_json::from_str(text).unwrap();
        assert_eq!(listing.entries[0].name, "a");
    }
}
