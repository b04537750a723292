//! Kernel file locks: released when the last process that holds them ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::error::{Error, Result};

/// A held lock; dropping it releases it, unless a child inherited its descriptor.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

#[derive(Debug)]
pub enum LockError {
    /// Somebody else holds it; the text they left says who.
    Held(String),
    Failed(Error),
}

impl Lock {
    /// For one holder at a time. `holder` is left in the file for people who wait; the lock itself is the kernel's.
    pub fn exclusive(path: &Path, holder: &str) -> Result<Lock, LockError> {
        let lock = Lock::unsigned(path)?;
        let holder = if holder.is_empty() { format!("process {}", std::process::id()) } else { holder.to_owned() };
        let _ = lock.file.set_len(0);
        let _ = lock.file.write_all_at(holder.as_bytes(), 0);
        Ok(lock)
    }

    /// The same, and the file stays as it was, its time too.
    pub(super) fn unsigned(path: &Path) -> Result<Lock, LockError> {
        let failed = |error| LockError::Failed(Error::io("lock", path, error));
        loop {
            let file = open(path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(std::fs::read_to_string(path).unwrap_or_default().trim().to_owned())),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if is_still_at(&file, path) {
                return Ok(Lock { file });
            }
        }
    }

    /// For any number of holders, while nobody holds it exclusively; waits for one who does.
    pub fn shared(path: &Path) -> Result<Lock> {
        loop {
            let file = open(path).map_err(|error| Error::io("lock", path, error))?;
            file.lock_shared().map_err(|error| Error::io("lock", path, error))?;
            if is_still_at(&file, path) {
                return Ok(Lock { file });
            }
        }
    }

    /// For handing on to a child, which then holds the lock too.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Says in the file system when the lock was last taken.
    pub(super) fn touch(&self) {
        let _ = self.file.set_modified(std::time::SystemTime::now());
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Lock files that nobody holds are swept away now and then: a lock on a file that is no longer at its path is worth
/// nothing, since the next one would lock another file.
fn is_still_at(file: &File, path: &Path) -> bool {
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|own| std::fs::metadata(path).is_ok_and(|there| same(own, there)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_freed_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let held = Lock::exclusive(&path, "run 7").unwrap();
        assert!(matches!(Lock::exclusive(&path, ""), Err(LockError::Held(who)) if who == "run 7"));
        drop(held);
        let one = Lock::shared(&path).unwrap();
        let two = Lock::shared(&path).unwrap();
        assert!(matches!(Lock::exclusive(&path, ""), Err(LockError::Held(_))));
        drop((one, two));
        assert!(Lock::exclusive(&path, "").is_ok());
    }

    #[test]
    fn a_lock_on_a_file_that_was_swept_away_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let old = Lock::exclusive(&path, "").unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = Lock::exclusive(&path, "").unwrap();
        assert!(!is_still_at(&old.file, &path) && is_still_at(&new.file, &path));
    }
}
