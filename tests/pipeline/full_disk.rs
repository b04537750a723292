//! A disk that is full, at every stage: a hint about space, nothing broken, and the next run goes on once there is room.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project::{Project, read_json};

/// A small file system in memory, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Absent where mounting is not permitted.
    fn mount(folder: &Path, kib: u32) -> Option<SmallDisk> {
        std::fs::create_dir(folder).unwrap();
        let options = format!("size={kib}k");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs", folder.to_str().unwrap()]).then(|| SmallDisk(folder.to_owned()))
    }

    fn resize(&self, kib: u32) {
        let options = format!("remount,size={kib}k");
        assert!(mount(&["-o", &options, self.0.to_str().unwrap()]));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) -> bool {
    Command::new("mount").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Asserts that every committed key names an output that is whole.
fn assert_no_broken_key(project: &Project) {
    for key in project.keys() {
        let artifact = project.cache().join("artifacts").join(read_json(&key)["artifact"].as_str().unwrap());
        let manifest = read_json(&artifact.join("manifest.json"));
        for file in manifest["files"].as_array().unwrap() {
            let path = artifact.join(file["path"].as_str().unwrap());
            assert_eq!(std::fs::metadata(&path).unwrap().len(), file["size"], "{}", path.display());
        }
    }
}

#[test]
fn a_full_disk_breaks_nothing() {
    let mut project = Project::finished();
    let mut kib = 40;
    let Some(disk) = SmallDisk::mount(&project.path("disk"), kib) else {
        eprintln!("skipped: a full disk is tried on a small tmpfs, and this user may not mount one");
        return;
    };
    let expected = project.last_run().artifacts();
    project.cache_dir = Some(disk.0.join("cache"));
    let mut failed = BTreeSet::new();
    // Twice the room after each failure, so that one stage after the other meets the end of the disk.
    while let outcome = project.run(&[])
        && !outcome.succeeded()
    {
        let outcome = outcome.fails(10, &["No space left on device", "free some space"]);
        assert_no_broken_key(&project);
        failed.extend(["ingest", "tokenize", "train", "export"].into_iter().filter(|stage| outcome.stderr.contains(&format!("stage `{stage}`"))));
        kib *= 2;
        assert!(kib <= 16 << 10, "16 MiB are not enough: {}", outcome.stderr);
        disk.resize(kib);
    }
    assert!(failed.contains("ingest") && failed.contains("train"), "the errors name only {failed:?}");
    assert_no_broken_key(&project);
    assert_eq!(project.last_run().artifacts(), expected);
    // With no room at all, what is finished is still there to be used.
    let _ = std::fs::write(disk.0.join("filler"), vec![0; (kib as usize) << 10]);
    project.run(&[]).code(0).prints(&["6 stages up to date"]);
}
