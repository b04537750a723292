//! Records that are in no file: the standard input, and rows written in the pipeline file. Both become files without a
//! name, which the kernel removes with the process however it ends: what comes in is personal data.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pipe_core::config::SourceConfig;
use pipe_core::digest;
use pipe_core::source::STANDARD_INPUT;
use pipe_core::{Error, IoContext, Progress, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};

/// The files of a process, each made once.
#[derive(Default)]
pub(crate) struct Spool {
    files: Mutex<BTreeMap<String, File>>,
}

/// How long the input is waited for before signals are looked at.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

impl Spool {
    /// The rows of `config` as JSON lines.
    pub(crate) fn rows(&self, config: &SourceConfig) -> Result<PathBuf> {
        let mut lines = Vec::new();
        for row in &config.rows {
            serde_json::to_writer(&mut lines, row).map_err(|_| Error::usage("a row of `source.rows` cannot be written as JSON"))?;
            lines.push(b'\n');
        }
        self.file(&digest::of_bytes(&lines), || {
            let mut file = File::from(memfd_create("rows", MemfdFlags::CLOEXEC).map_err(std::io::Error::from).doing("keep", Path::new("rows"))?);
            file.write_all(&lines).doing("keep", Path::new("rows"))?;
            Ok(file)
        })
    }

    /// All of the standard input, in a file in `folder` that only this process can open. Read at most once.
    pub(crate) fn standard_input(&self, folder: &Path, progress: &dyn Progress) -> Result<PathBuf> {
        self.file(STANDARD_INPUT, || read_all(folder, progress))
    }

    fn file(&self, name: &str, make: impl FnOnce() -> Result<File>) -> Result<PathBuf> {
        let mut files = self.files.lock().expect("no panic while locked");
        let file = match files.get(name) {
            Some(file) => file,
            None => {
                let mut file = make()?;
                file.rewind().doing("keep", Path::new(name))?;
                files.entry(name.to_owned()).or_insert(file)
            }
        };
        Ok(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
    }
}

fn read_all(folder: &Path, progress: &dyn Progress) -> Result<File> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        return Err(Error::input("the source is the standard input, and that is a terminal").hint("pipe records in: pipe run FILE < records.jsonl"));
    }
    let (shown, mut read) = (Path::new("the standard input"), 0u64);
    let mut file = tempfile::tempfile_in(folder).doing("keep the standard input in", folder)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        progress.check()?;
        let mut ready = [PollFd::new(&input, PollFlags::IN)];
        match poll(&mut ready, Some(&PATIENCE)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(std::io::Error::from).doing("read", shown)?,
        };
        match input.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(count) => {
                file.write_all(&buffer[..count]).doing("keep the standard input in", folder)?;
                read += count as u64;
                progress.advance(read, 0, "bytes", "reading the standard input");
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", shown, error)),
        }
    }
}
