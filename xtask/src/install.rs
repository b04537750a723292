//! `cargo xtask install`: a folder that works after the checkout is gone.
//!
//! ```text
//! DIR/bin/pipe, DIR/bin/pipe-train
//! DIR/lib/libtorch/lib/*.so*        DIR/lib/libtorch/versions.json
//! DIR/lib/onnxruntime/lib/*.so*     DIR/lib/onnxruntime/versions.json
//! ```
//!
//! `lib/` is laid out as `.native/` is, so the programs look for libraries in one way. Every file is written under
//! another name and renamed: a program that runs from there keeps the file that it has open.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use crate::args::Args;
use crate::error::{Error, Result};
use crate::files;
use crate::setup;
use crate::wheels::{Component, LIBTORCH, ONNX_RUNTIME};
use crate::workspace::Workspace;

const HELP: &str = "\
Builds in release mode and makes a folder that works after the checkout is gone: bin/ with `pipe` and its worker
`pipe-train`, lib/ with ONNX Runtime and libtorch for the CPU. Installing over an earlier version is safe while that runs.

usage: cargo xtask install --prefix DIR [--no-train]

  --prefix DIR    the folder; made if it is not there
  --no-train      without the worker and libtorch (450 MB): ingest, tokenize, evaluating and predicting with an export
                  still work
";

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    if args.help(HELP) {
        return Ok(ExitCode::SUCCESS);
    }
    let prefix = args.path("--prefix")?;
    let train = !args.flag("--no-train");
    args.finish()?;
    let prefix = prefix.ok_or_else(|| Error::usage("--prefix DIR is needed"))?;
    setup::run(workspace)?;
    let built = match workspace.build_release()? {
        Ok(folder) => folder,
        Err(failed) => return Ok(failed),
    };
    let (bin, lib) = (prefix.join("bin"), prefix.join("lib"));
    // Libraries first: a new program must not find old ones.
    install_libraries(workspace, &ONNX_RUNTIME, &lib)?;
    if train {
        install_libraries(workspace, &LIBTORCH, &lib)?;
        install_file(&built.join("pipe-train"), &bin)?;
    }
    install_file(&built.join("pipe"), &bin)?;
    println!("installed {}", bin.join("pipe").display());
    if !train && bin.join("pipe-train").exists() {
        println!("note: {} is of an earlier installation and was left there", bin.join("pipe-train").display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies a component's shared libraries, and then the `versions.json` that speaks of them.
fn install_libraries(workspace: &Workspace, component: &Component, lib: &Path) -> Result<()> {
    let from = workspace.root().join(component.folder);
    let to = lib.join(component.name);
    // A prefix such as /usr/local may hold somebody else's libtorch.
    if to.join("lib").exists() && !to.join("versions.json").exists() {
        return Err(
            Error::new(format!("{} is there and was not made by this command", to.display())).hint("choose another --prefix, or remove that folder")
        );
    }
    for entry in files::entries(&from.join("lib"))? {
        if is_elf(&entry.path())? {
            install_file(&entry.path(), &to.join("lib"))?;
        }
    }
    install_file(&from.join("versions.json"), &to)
}

/// Tells libraries from the linker scripts that stand beside them for the build alone.
fn is_elf(path: &Path) -> Result<bool> {
    let mut magic = Vec::new();
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic)).map_err(|cause| Error::io("read", path, &cause))?;
    Ok(magic == b"\x7fELF")
}

/// Copies a file, with its permissions, into a folder.
fn install_file(from: &Path, folder: &Path) -> Result<()> {
    files::create_dir(folder)?;
    let name = from.file_name().unwrap_or_default();
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    let partial = folder.join(partial);
    let installed =
        fs::copy(from, &partial).map_err(|cause| Error::io("copy to", &partial, &cause)).and_then(|_| files::rename(&partial, &folder.join(name)));
    if installed.is_err() {
        // The error to report is the first one.
        let _ = files::remove_file(&partial);
    }
    installed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_survives_an_upgrade() {
        let folder = tempfile::tempdir().unwrap();
        let (source, bin) = (folder.path().join("pipe"), folder.path().join("bin"));
        fs::write(&source, "one").unwrap();
        install_file(&source, &bin).unwrap();
        let mut running = File::open(bin.join("pipe")).unwrap();
        fs::write(&source, "two").unwrap();
        install_file(&source, &bin).unwrap();
        let mut seen = String::new();
        running.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "one");
        assert_eq!(fs::read_to_string(bin.join("pipe")).unwrap(), "two");
        assert_eq!(files::entries(&bin).unwrap().len(), 1, "a temporary file is left");
    }

    #[test]
    fn linker_scripts_are_no_libraries() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libtorch.so");
        fs::write(&path, "INPUT(-ltorch_cpu)").unwrap();
        assert!(!is_elf(&path).unwrap());
        fs::write(&path, b"\x7fELF\x02\x01").unwrap();
        assert!(is_elf(&path).unwrap());
    }
}
