//! Where things are: the checkout and cargo's target folder. Also how cargo is called on them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use crate::error::{Error, Result};
use crate::json::Json;

pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// `cargo xtask` runs in whatever folder the user is in, and tells where this package is.
    pub(crate) fn find() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        match package.as_deref().and_then(Path::parent) {
            Some(root) => Ok(Self { root: root.to_owned() }),
            None => Err(Error::new("xtask was not started by cargo").hint("start it as `cargo xtask`")),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The cargo that runs xtask, on the whole workspace. Not run in its folder: relative paths on the command line and
    /// in `CARGO_TARGET_DIR` are the user's.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.arg(subcommand).arg("--manifest-path").arg(self.root.join("Cargo.toml"));
        // What cargo tells xtask about xtask. Build scripts that watch these variables (ring's does) would run again, and all
        // that needs them would be compiled again, whenever `cargo build` and `cargo xtask` take turns.
        let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
            cargo.env_remove(name);
        }
        cargo
    }

    /// Where cargo puts what it builds, however that is configured.
    pub(crate) fn target_dir(&self) -> Result<PathBuf> {
        let mut metadata = self.cargo("metadata");
        metadata.args(["--no-deps", "--format-version", "1"]).stderr(Stdio::inherit());
        let output = metadata.output().map_err(|cause| Error::io("start", Path::new("cargo"), &cause))?;
        if !output.status.success() {
            return Err(Error::new("cargo metadata failed"));
        }
        let metadata = Json::parse(&String::from_utf8_lossy(&output.stdout))?;
        match metadata.string("target_directory") {
            Some(folder) => Ok(folder.into()),
            None => Err(Error::new("cargo metadata names no target folder")),
        }
    }

    /// Builds `pipe` and its worker in release mode and returns the folder that they are in.
    pub(crate) fn build_release(&self) -> Result<std::result::Result<PathBuf, ExitCode>> {
        let status = run(self.cargo("build").arg("--release"))?;
        if !status.success() {
            return Ok(Err(exit_code(status)));
        }
        Ok(Ok(self.target_dir()?.join("release")))
    }
}

/// Runs a program to its end, its output being the user's to see.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    let program = Path::new(command.get_program()).to_owned();
    command.status().map_err(|cause| Error::io("start", &program, &cause))
}

/// The exit code to pass on: the program's own, or the shell's way to say that a signal ended it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
