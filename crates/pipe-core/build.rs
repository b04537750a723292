//! Stamps the build id: in release a digest of all sources, so that `pipe` refuses a worker built from others.

use std::path::{Path, PathBuf};

fn main() {
    // In the dev profile a digest would rebuild everything after every edit.
    let id = if std::env::var("PROFILE").as_deref() == Ok("release") { source_digest() } else { "dev".to_owned() };
    println!("cargo:rustc-env=PIPE_BUILD_ID={}+{id}", variable("CARGO_PKG_VERSION"));
}

/// The crates that the worker is made of.
const WORKER_CRATES: [&str; 4] = ["pipe-core", "pipe-data", "pipe-model", "pipe-train"];

/// FNV-1a over paths and contents of the worker's sources and the lock file: no dependency for a build script.
fn source_digest() -> String {
    let root = Path::new(&variable("CARGO_MANIFEST_DIR")).join("../..");
    println!("cargo:rerun-if-changed={}", root.join("Cargo.lock").display());
    let mut files = vec![root.join("Cargo.lock")];
    for name in WORKER_CRATES {
        let folder = root.join("crates").join(name);
        println!("cargo:rerun-if-changed={}", folder.display());
        collect(&folder, &mut files);
    }
    files.sort();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for file in files {
        let content = std::fs::read(&file).unwrap_or_default();
        // Relative: a checkout elsewhere is the same program.
        let name = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy();
        for byte in name.bytes().chain(content) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// As cargo sets it for this run. What it was when this script was compiled may be another checkout's: they may share a target
/// folder, and one may be gone.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
