//! `cargo xtask setup`: native libraries into `.native/`, example model and data into `data/`.
//!
//! ```text
//! .native/setup.lock            held while anything is fetched
//! .native/wheels/FILE.whl       finished downloads, kept until every folder made from them is whole
//! .native/wheels/.partial/      where pip works; removed at the next start
//! .native/libtorch/             one Component, renamed into place when complete
//! .native/.libtorch.partial/    the same, while it is made; removed at the next start
//! ```
//!
//! Whether a component is whole is seen from a few `stat` calls and its marker, so a set-up that has nothing to do costs
//! nothing and takes no lock.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::args::Args;
use crate::bench::peers;
use crate::error::{Error, Result};
use crate::files;
use crate::python::Python;
use crate::wheels::{Component, Extra, LIBTORCH, LIBTORCH_CUDA, MINILM, ONNX_RUNTIME, REVIEWS_ZH, SMOLLM2, TWEETS, Wheel};
use crate::workspace::Workspace;

const HELP: &str = "\
Gets what the build and the examples need and cargo does not bring: libtorch and ONNX Runtime into .native/, the example
models and all example data into data/ (about 800 MB). Uses `python3 -m pip`, as you have configured it. Does nothing when nothing is missing.

usage: cargo xtask setup [--cuda] [--peers VENV]

  --cuda          also the CUDA libraries that libtorch needs on a GPU (2.5 GB to download)
  --peers VENV    also a virtual environment with the programs that `cargo xtask bench` compares with (5 GB)
";

const ALWAYS: [&Component; 4] = [&ONNX_RUNTIME, &MINILM, &TWEETS, &LIBTORCH];
/// What only some pipelines read.
const BY_NEED: [&Component; 2] = [&REVIEWS_ZH, &SMOLLM2];

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    if args.help(HELP) {
        return Ok(ExitCode::SUCCESS);
    }
    let (cuda, peers) = (args.flag("--cuda"), args.path("--peers")?);
    args.finish()?;
    let mut wanted = ALWAYS.to_vec();
    wanted.extend(BY_NEED);
    if cuda {
        wanted.push(&LIBTORCH_CUDA);
    }
    make(&wanted, workspace)?;
    if let Some(venv) = peers {
        peers::install(workspace, &venv)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gets whatever is missing of what the build and the examples need.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    make(&ALWAYS, workspace)
}

/// The same, with the data of a folder that the pipeline `file` names.
pub(crate) fn run_for(workspace: &Workspace, file: &Path) -> Result<()> {
    // One that cannot be read is for `pipe` to complain about.
    let text = fs::read_to_string(file).unwrap_or_default();
    let named = BY_NEED.into_iter().filter(|component| text.contains(component.folder));
    make(&ALWAYS.into_iter().chain(named).collect::<Vec<_>>(), workspace)
}

fn make(wanted: &[&'static Component], workspace: &Workspace) -> Result<()> {
    let root = workspace.root();
    if wanted.iter().all(|component| component.is_whole(root)) {
        return Ok(());
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::new("the native libraries are pinned for x86-64 Linux only")
            .hint("to build elsewhere, put libtorch and ONNX Runtime there yourself: see xtask/src/wheels.rs"));
    }
    let python = Python::find()?;
    let native = root.join(".native");
    files::create_dir(&native)?;
    let python = python.holding(lock(&native.join("setup.lock"))?);
    // Another set-up may have done the work while this one waited.
    let missing: Vec<_> = wanted.iter().filter(|component| !component.is_whole(root)).collect();
    let store = WheelStore::open(native.join("wheels"))?;
    let start = Instant::now();
    for (nth, component) in missing.iter().enumerate() {
        let Component { folder, megabytes, .. } = component;
        eprintln!("setup: {folder}, {megabytes} MB to download ({} of {})", nth + 1, missing.len());
        component.build(root, &python, &store)?;
        store.discard(component, &missing[nth + 1..])?;
    }
    store.close()?;
    if !missing.is_empty() {
        eprintln!("setup: done in {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Waits for the other set-up of this checkout, if there is one. The kernel frees the lock when its holder dies.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(|cause| Error::io("create", path, &cause))?;
    let locked = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            eprintln!("setup: waiting for another set-up of this checkout");
            file.lock()
        }
        Err(TryLockError::Error(cause)) => Err(cause),
        Ok(()) => Ok(()),
    };
    locked.map_err(|cause| Error::io("lock", path, &cause))?;
    Ok(file)
}

impl Component {
    /// Whether setup has nothing to do for this folder.
    fn is_whole(&self, root: &Path) -> bool {
        let folder = root.join(self.folder);
        let marked = |path: &str, content: &str| fs::read_to_string(folder.join(path)).is_ok_and(|found| found == content);
        self.marker.as_ref().is_none_or(|marker| marked(marker.path, marker.content)) && self.files().all(|path| folder.join(path).exists())
    }

    /// The files that are known by name, without those that come in folders or by a pattern.
    fn files(&self) -> impl Iterator<Item = &'static str> {
        let picks = self.parts.iter().flat_map(|(_, picks)| *picks).map(|pick| pick.to);
        let extras = self.extras.iter().map(|extra| match extra {
            Extra::Text { path, .. } | Extra::Link { path, .. } => *path,
        });
        picks.filter(|to| !to.ends_with('/')).chain(extras)
    }

    /// Makes the folder beside its place and then moves it there, so that it is there whole or not at all.
    fn build(&self, root: &Path, python: &Python, store: &WheelStore) -> Result<()> {
        let folder = root.join(self.folder);
        let partial = folder.with_file_name(format!(".{}.partial", self.name));
        files::remove_dir(&partial)?;
        files::create_dir(&partial)?;
        let made = self.fill(&partial, python, store).and_then(|()| publish(&partial, &folder, self));
        if made.is_err() {
            // The error to report is the first one.
            let _ = files::remove_dir(&partial);
        }
        made
    }

    fn fill(&self, folder: &Path, python: &Python, store: &WheelStore) -> Result<()> {
        for (wheel, picks) in self.parts {
            let file = store.get(wheel, python)?;
            if !python.unpack(wheel, &file, picks, folder)? {
                files::remove_file(&file)?;
                return Err(Error::new(format!("{} was damaged on this disk and is removed", file.display()))
                    .hint("run the same command again to download it anew"));
            }
        }
        for extra in self.extras {
            match extra {
                Extra::Text { path, content } => files::write(&folder.join(path), content)?,
                Extra::Link { path, target } => {
                    let link = folder.join(path);
                    std::os::unix::fs::symlink(target, &link).map_err(|cause| Error::io("link", &link, &cause))?;
                }
            }
        }
        match &self.marker {
            Some(marker) => files::write(&folder.join(marker.path), marker.content),
            None => Ok(()),
        }
    }
}

/// Moves a finished folder to its place. Over an existing one it goes entry by entry, the marker away first and back
/// last, so that a user's own files beside ours stay and an interruption shows.
fn publish(partial: &Path, folder: &Path, component: &Component) -> Result<()> {
    if !folder.exists() {
        return files::rename(partial, folder);
    }
    let marker = component.marker.as_ref().map(|marker| marker.path);
    if let Some(marker) = marker {
        files::remove_file(&folder.join(marker))?;
    }
    for entry in files::entries(partial)? {
        let (from, to) = (entry.path(), folder.join(entry.file_name()));
        if marker.is_some_and(|marker| entry.file_name() == marker) {
            continue;
        }
        if from.is_dir() {
            files::remove_dir(&to)?;
        }
        files::rename(&from, &to)?;
    }
    if let Some(marker) = marker {
        files::rename(&partial.join(marker), &folder.join(marker))?;
    }
    files::remove_dir(partial)
}

/// Finished downloads. A wheel is here under its own name only when pip has verified its hash.
struct WheelStore {
    folder: PathBuf,
}

impl WheelStore {
    fn open(folder: PathBuf) -> Result<Self> {
        let store = Self { folder };
        files::remove_dir(&store.partial())?;
        Ok(store)
    }

    fn partial(&self) -> PathBuf {
        self.folder.join(".partial")
    }

    fn get(&self, wheel: &Wheel, python: &Python) -> Result<PathBuf> {
        let file = self.folder.join(wheel.file);
        if !file.exists() {
            eprintln!("setup: getting {} {}", wheel.package, wheel.version);
            let partial = self.partial();
            files::create_dir(&partial)?;
            let downloaded = python.download(wheel, &partial).and_then(|from| files::rename(&from, &file));
            // Also after a failure: pip leaves its temporary files when it is out of disk.
            files::remove_dir(&partial)?;
            downloaded?;
        }
        Ok(file)
    }

    /// Removes the wheels of a finished component, but for those that a later one needs too.
    fn discard(&self, finished: &Component, later: &[&&Component]) -> Result<()> {
        let needed = |file: &str| later.iter().flat_map(|component| component.parts).any(|(wheel, _)| wheel.file == file);
        for (wheel, _) in finished.parts.iter().filter(|(wheel, _)| !needed(wheel.file)) {
            files::remove_file(&self.folder.join(wheel.file))?;
        }
        Ok(())
    }

    /// Everything is whole, so what else is here was pinned once and is no more.
    fn close(self) -> Result<()> {
        files::remove_dir(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wheels::{Marker, Pick};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;
    use tempfile::TempDir;

    /// A checkout whose wheel store holds one finished wheel, made here, so that no test needs a network.
    struct Checkout {
        folder: TempDir,
        component: &'static Component,
    }

    impl Checkout {
        fn new(picks: &'static [Pick]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let wheel = folder.path().join(".native/wheels/sample-1.0-py3-none-any.whl");
            fs::create_dir_all(wheel.parent().unwrap()).unwrap();
            let make = "import sys, zipfile, hashlib\n\
                with zipfile.ZipFile(sys.argv[1], 'w') as wheel:\n\
                \tfor name in ('sample/lib/libone.so.1', 'sample/lib/notes.txt', 'sample/include/a/b.h', 'sample/x.py'):\n\
                \t\twheel.writestr(name, 'content of ' + name)\n\
                print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())";
            let output = Python::find().unwrap().command().args(["-c", make]).arg(&wheel).output().unwrap();
            let sha256 = String::from_utf8(output.stdout).unwrap().trim().to_owned().leak();
            let wheel = Wheel { package: "sample", version: "1.0", file: "sample-1.0-py3-none-any.whl", sha256 };
            let component = Box::leak(Box::new(Component {
                name: "sample",
                folder: ".native/sample",
                megabytes: 1,
                parts: Box::leak(Box::new([(wheel, picks)])),
                extras: &[
                    Extra::Text { path: "lib/libscript.so", content: "INPUT(-lone)\n" },
                    Extra::Link { path: "lib/libone.so", target: "libone.so.1" },
                ],
                marker: Some(Marker { path: "versions.json", content: "{\"sample\":\"1.0\"}\n" }),
            }));
            Self { folder, component }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        fn build(&self) -> Result<()> {
            let store = WheelStore::open(self.path(".native/wheels"))?;
            self.component.build(self.folder.path(), &Python::find()?, &store)
        }

        fn is_whole(&self) -> bool {
            self.component.is_whole(self.folder.path())
        }

        /// What stands in `.native/`, hidden temporaries included.
        fn native(&self) -> Vec<String> {
            files::entries(&self.path(".native")).unwrap().iter().map(|entry| entry.file_name().into_string().unwrap()).collect()
        }
    }

    const PICKS: &[Pick] = &[
        Pick { from: "sample/lib/*.so*", to: "lib/" },
        Pick { from: "sample/include/", to: "include/" },
        Pick { from: "sample/x.py", to: "renamed.py" },
    ];

    #[test]
    fn a_component_holds_what_was_picked() {
        let checkout = Checkout::new(PICKS);
        assert!(!checkout.is_whole());
        checkout.build().unwrap();
        assert!(checkout.is_whole());
        for (path, content) in [
            ("lib/libone.so.1", "content of sample/lib/libone.so.1"),
            ("lib/libone.so", "content of sample/lib/libone.so.1"),
            ("lib/libscript.so", "INPUT(-lone)\n"),
            ("include/a/b.h", "content of sample/include/a/b.h"),
            ("renamed.py", "content of sample/x.py"),
        ] {
            assert_eq!(fs::read_to_string(checkout.path(".native/sample").join(path)).unwrap(), content);
        }
        assert!(!checkout.path(".native/sample/lib/notes.txt").exists());
        assert_eq!(checkout.native(), ["sample", "wheels"]);
    }

    #[test]
    fn a_source_distribution_is_taken_from_below_its_top_folder() {
        let checkout = Checkout::new(PICKS);
        let file = checkout.path(".native/wheels/sample-1.0.tar.gz");
        let make = "import io, sys, tarfile, hashlib\n\
            with tarfile.open(sys.argv[1], 'w:gz') as source:\n\
            \tfor name in ('sample-1.0/setup.py', 'sample-1.0/sample/data/pos.txt'):\n\
            \t\tdata = ('content of ' + name).encode()\n\
            \t\tmember = tarfile.TarInfo(name)\n\
            \t\tmember.size = len(data)\n\
            \t\tsource.addfile(member, io.BytesIO(data))\n\
            print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())";
        let output = Python::find().unwrap().command().args(["-c", make]).arg(&file).output().unwrap();
        let sha256 = String::from_utf8(output.stdout).unwrap().trim().to_owned().leak();
        let wheel = Wheel { package: "sample", version: "1.0", file: "sample-1.0.tar.gz", sha256 };
        let out = checkout.path("out");
        let pick = |from| [Pick { from, to: "pos.txt" }];
        assert!(Python::find().unwrap().unpack(&wheel, &file, &pick("sample/data/pos.txt"), &out).unwrap());
        assert_eq!(fs::read_to_string(out.join("pos.txt")).unwrap(), "content of sample-1.0/sample/data/pos.txt");
        let error = Python::find().unwrap().unpack(&wheel, &file, &pick("data/pos.txt"), &out).unwrap_err().to_string();
        assert!(error.contains("has no data/pos.txt"), "{error}");
        fs::write(&file, "something else").unwrap();
        assert!(!Python::find().unwrap().unpack(&wheel, &file, &pick("sample/data/pos.txt"), &out).unwrap());
    }

    #[test]
    fn what_an_interruption_left_is_removed() {
        let checkout = Checkout::new(PICKS);
        let stale = [".native/.sample.partial/lib/stale.so", ".native/wheels/.partial/pip-download/half.whl"].map(|path| checkout.path(path));
        for path in &stale {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "half").unwrap();
        }
        checkout.build().unwrap();
        assert!(!checkout.path(".native/sample/lib/stale.so").exists());
        assert_eq!(checkout.native(), ["sample", "wheels"]);
        assert!(!checkout.path(".native/wheels/.partial").exists());
    }

    #[test]
    fn a_failure_leaves_nothing_but_the_wheel() {
        let checkout = Checkout::new(&[Pick { from: "sample/x.py", to: "x.py" }, Pick { from: "sample/none.py", to: "none.py" }]);
        let error = checkout.build().unwrap_err().to_string();
        assert!(error.contains("has no sample/none.py"), "{error}");
        assert_eq!(checkout.native(), ["wheels"]);
        assert_eq!(files::entries(&checkout.path(".native/wheels")).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_wheel_is_removed_and_not_used() {
        let checkout = Checkout::new(PICKS);
        let wheel = checkout.path(".native/wheels/sample-1.0-py3-none-any.whl");
        let mut bytes = fs::read(&wheel).unwrap();
        bytes[40] ^= 1;
        fs::write(&wheel, bytes).unwrap();
        let error = checkout.build().unwrap_err().to_string();
        assert!(error.contains("was damaged"), "{error}");
        assert!(!wheel.exists());
        assert_eq!(checkout.native(), ["wheels"]);
    }

    #[test]
    fn an_existing_folder_is_completed_and_own_files_stay() {
        let checkout = Checkout::new(PICKS);
        checkout.build().unwrap();
        let sample = checkout.path(".native/sample");
        fs::write(sample.join("mine.csv"), "mine").unwrap();
        fs::write(sample.join("lib/of-the-last-version.so"), "old").unwrap();
        fs::write(sample.join("versions.json"), "{\"sample\":\"0.9\"}\n").unwrap();
        assert!(!checkout.is_whole());
        checkout.build().unwrap();
        assert!(checkout.is_whole());
        assert!(sample.join("mine.csv").exists());
        assert!(!sample.join("lib/of-the-last-version.so").exists());
        assert_eq!(checkout.native(), ["sample", "wheels"]);
    }

    #[test]
    fn a_second_setup_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("setup.lock");
        let first = lock(&path).unwrap();
        let (done, is_done) = mpsc::channel();
        let second = thread::spawn(move || {
            let _held = lock(&path).unwrap();
            done.send(()).unwrap();
        });
        assert!(is_done.recv_timeout(Duration::from_millis(100)).is_err(), "the lock was had twice");
        drop(first);
        is_done.recv_timeout(Duration::from_secs(10)).unwrap();
        second.join().unwrap();
    }
}
