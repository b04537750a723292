//! What the cache keeps: sweeping, pins and leases, damage that is found, and stages made again to be compared.

use std::collections::BTreeSet;

use crate::interrupted::{Background, long_training};
use crate::project::{Project, entries, files_below};

fn artifacts(project: &Project) -> BTreeSet<String> {
    entries(&project.cache().join("artifacts")).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn sweeping_leaves_what_anybody_needs() {
    let project = Project::finished();
    let gc = |more: &[&str]| project.pipe(&[&["gc", "--file", "pipeline.yaml", "--older-than", "0s"], more].concat()).code(0);
    let first = project.last_run().artifacts();
    project.run(&["--set", "train.with.num_train_epochs=1"]).code(0);
    let second = project.last_run().artifacts();
    project.run(&["--set", "train.with.num_train_epochs=2"]).code(0);
    let third = project.last_run().artifacts();
    // Recent runs keep theirs; a dry run removes nothing.
    gc(&[]);
    gc(&["--keep-runs", "1", "--dry-run"]).prints(&["artifact of train", "would be freed"]);
    let all: BTreeSet<String> = [&first, &second, &third].into_iter().flat_map(|run| run.values().cloned()).collect();
    assert_eq!(artifacts(&project), all);
    // A pin keeps one, and the present state keeps its own.
    project.pipe(&["pin", &first["train"][..8], "--reason", "the audited model"]).code(0);
    gc(&["--keep-runs", "1"]);
    let kept: BTreeSet<String> = third.values().cloned().chain([first["train"].clone()]).collect();
    assert_eq!(artifacts(&project), kept);
    project.pipe(&["ls", "--artifacts"]).code(0).prints(&["pin: the audited model", "state of sample"]);
    // However small the limit, neither goes.
    gc(&["--max-size", "1B", "--keep-runs", "0"]);
    assert_eq!(artifacts(&project), kept);
    project.pipe(&["unpin", &first["train"][..8]]).code(0);
    gc(&["--keep-runs", "0"]);
    assert_eq!(artifacts(&project), third.values().cloned().collect());
    // What is gone is made again; why is still known.
    project.run(&["--set", "train.with.num_train_epochs=1"]).code(0);
    assert_eq!(project.last_run().artifacts(), second);
    project.pipe(&["diff", "latest~1", "latest"]).code(0).prints(&["with.num_train_epochs: 2 → 1"]);
}

#[test]
fn sweeping_by_size_takes_the_least_recently_used() {
    let project = Project::finished();
    let first = project.last_run().artifacts();
    project.run(&["--set", "train.with.num_train_epochs=1"]).code(0);
    let second = project.last_run().artifacts();
    // Used just now, but of no present state: it goes only for want of space.
    project.pipe(&["gc", "--file", "pipeline.yaml"]).code(0);
    assert!(artifacts(&project).contains(&first["train"]));
    project.pipe(&["gc", "--file", "pipeline.yaml", "--max-size", "1KB"]).code(0);
    assert_eq!(artifacts(&project), second.values().cloned().collect());
}

#[test]
fn sweeping_takes_nothing_from_a_run_at_work() {
    let project = long_training();
    let mut run = Background::start(&project, &[]);
    run.wait_for_checkpoint();
    // No pipeline's state and no run would keep these; the run that reads them does.
    let _ = std::fs::remove_dir_all(project.cache().join("latest"));
    project.pipe(&["gc", "--file", "pipeline.yaml", "--older-than", "0s", "--keep-runs", "0"]).code(0).prints(&["in use"]);
    run.end().code(0);
    project.run(&[]).code(0).prints(&["6 stages up to date"]);
}

#[test]
fn a_flipped_byte_is_found_and_its_stage_runs_again() {
    let project = Project::finished();
    let expected = project.last_run().artifacts();
    let weights = project.artifact("train").join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let verify = |more: &[&str]| project.pipe(&[&["verify", "--file", "pipeline.yaml"], more].concat());
    verify(&["--dry-run"]).fails(10, &["1 of 6 artifacts are damaged"]);
    let outcome = verify(&[]);
    assert!(outcome.stdout.contains(&format!("{} (train) is damaged: model.safetensors; moved to trash", expected["train"])), "{}", outcome.stdout);
    outcome.fails(10, &["1 of 6 artifacts are damaged", "the next run makes them again"]);
    project.pipe(&["explain", "pipeline.yaml", "train"]).code(0).prints(&["its output is gone or damaged"]);
    project.run(&[]).code(0);
    assert_eq!(project.last_run().ran(), ["train"]);
    assert_eq!(project.last_run().artifacts(), expected);
    verify(&[]).code(0).prints(&["6 artifacts are whole"]);
}

#[test]
fn a_truncated_file_is_found_at_the_hit() {
    for stage in ["ingest", "tokenize", "train", "evaluate", "export", "predict"] {
        let project = Project::finished();
        let expected = project.last_run().artifacts();
        let files = files_below(&project.artifact(stage));
        let file = files.iter().filter(|file| !file.ends_with("manifest.json")).max_by_key(|file| std::fs::metadata(file).unwrap().len()).unwrap();
        let length = std::fs::metadata(file).unwrap().len();
        std::fs::File::options().write(true).open(file).unwrap().set_len(length - 1).unwrap();
        project.run(&[]).code(0);
        assert_eq!(project.last_run().ran(), [stage]);
        assert_eq!(project.last_run().artifacts(), expected, "{stage}");
    }
}

#[test]
fn a_stage_made_again_gives_the_same_bytes() {
    let project = Project::finished();
    let before = files_below(&project.cache().join("artifacts"));
    for stage in ["ingest", "tokenize", "train", "evaluate", "export", "predict"] {
        project.pipe(&["verify", "--file", "pipeline.yaml", "--replay", stage]).code(0).prints(&[stage, "the same bytes again"]);
    }
    assert_eq!(files_below(&project.cache().join("artifacts")), before);
    assert!(entries(&project.cache().join("work")).is_empty());
    project.pipe(&["verify", "--replay", "train"]).fails(2, &["--replay needs the pipeline file"]);
}

#[test]
fn pinning_names_what_it_keeps_or_fails() {
    let project = Project::finished();
    let first = project.last_run().artifacts();
    project.pipe(&["pin", "latest", "--file", "pipeline.yaml"]).code(0).prints(&[first["train"].as_str(), first["predict"].as_str()]);
    std::fs::rename(project.path("tweets.csv"), project.path("gone.csv")).unwrap();
    project.run(&["--set", "ingest.with.split.seed=3"]).code(12);
    project.pipe(&["pin", "latest", "--file", "pipeline.yaml"]).fails(12, &["made no output"]);
    std::fs::remove_dir_all(project.cache().join("artifacts").join(&first["train"])).unwrap();
    project.pipe(&["unpin", &first["train"][..8]]).code(0).prints(&["is no longer pinned"]);
    project.pipe(&["ls", "--artifacts", "--json"]).code(0).prints(&["\"kept_by\""]);
    project.pipe(&["logs", "latest", "trian"]).fails(12, &["has no stage `trian`"]);
}

#[test]
fn two_projects_in_one_cache_keep_their_states_apart() {
    let (mut one, mut two) = (Project::new(), Project::new());
    let shared = tempfile::tempdir().unwrap();
    one.cache_dir = Some(shared.path().to_owned());
    two.cache_dir = Some(shared.path().to_owned());
    one.run(&["ingest"]).code(0);
    // Far fewer rows: drift, if these were the same pipeline's.
    two.write("tweets.csv", "sentiment,text\ngood,the museum is open\nbad,the museum is closed\ngood,the garden is open\n");
    two.edit("dedup: exact", "dedup: exact\n      drift: { max_row_change: 0.1, action: gate }");
    let outcome = two.run(&["ingest"]).code(0);
    assert!(outcome.stderr.contains("ingest: never run before"), "{}", outcome.stderr);
}

#[test]
fn sweeps_at_the_same_time_do_not_trip_over_each_other() {
    let project = Project::finished();
    for number in 0..300 {
        let folder = project.cache().join(format!("trash/t{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("x"), "x").unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| project.pipe(&["gc", "--file", "pipeline.yaml"]).code(0));
        }
    });
    assert!(entries(&project.cache().join("trash")).is_empty());
    project.run(&[]).code(0).prints(&["6 stages up to date"]);
}
