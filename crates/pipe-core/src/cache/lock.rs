//! Kernel file locks: released when the last process that holds them ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
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
    pub fn acquire(path: &Path) -> Result<Lock, LockError> {
        let failed = |error| LockError::Failed(Error::io("lock", path, error));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(std::fs::read_to_string(path).unwrap_or_default().trim().to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only for people: the lock itself is the kernel's.
        let holder = format!("process {}", std::process::id());
        let _ = file.set_len(0);
        let _ = std::os::unix::fs::FileExt::write_all_at(&file, holder.as_bytes(), 0);
        Ok(Lock { file })
    }

    /// For handing on to a child, which then holds the lock too.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_freed_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let held = Lock::acquire(&path).unwrap();
        assert!(matches!(Lock::acquire(&path), Err(LockError::Held(who)) if who.contains("process")));
        drop(held);
        assert!(Lock::acquire(&path).is_ok());
    }
}
