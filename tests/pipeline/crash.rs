//! Runs that are killed anywhere: at every step of a commit and of publishing, and at random moments. The next run needs no
//! hand to free it and ends with the bytes of a run that nothing disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use crate::project::{PIPELINE, Project, command, entries, has_failpoints, pipe, read_json};

/// What the pipeline gives when nothing disturbs it.
fn undisturbed() -> BTreeMap<String, String> {
    Project::finished().last_run().artifacts()
}

/// Runs to the end, and asserts that all is as if nothing had happened: the outputs, what is published, and every byte of
/// what is cached.
#[track_caller]
fn ends_undisturbed(project: &Project, expected: &BTreeMap<String, String>) {
    project.run(&[]).code(0);
    assert_eq!(project.last_run().artifacts(), *expected);
    project.pipe(&["verify", "--file", "pipeline.yaml"]).code(0);
    for (stage, folder) in [("export", "out/model"), ("predict", "out/predictions")] {
        assert_eq!(read_json(&project.path(folder).join("manifest.json"))["content"], *expected[stage]);
    }
    let left: Vec<_> = entries(&project.path("out")).into_iter().filter(|path| path.to_string_lossy().ends_with(".new")).collect();
    assert!(left.is_empty(), "left in the published folder: {left:?}");
    assert!(entries(&project.cache().join("work")).is_empty(), "left in work: {:?}", entries(&project.cache().join("work")));
}

/// A run that is to die at a point of the program. True if it did.
fn dies_at(project: &Project, failpoint: &str) -> bool {
    let mut run = command(pipe(), &project.root);
    run.args(project.run_arguments(&[])).env("PIPE_FAILPOINT", failpoint).stdout(Stdio::null()).stderr(Stdio::null());
    let status = run.status().unwrap();
    assert!(status.signal() == Some(9) || status.code() == Some(0), "{failpoint}: {status}");
    status.signal() == Some(9)
}

/// Every stage's commit is broken off at one point, one after the other.
fn killed_in_each_commit(point: &str) {
    if !has_failpoints() {
        return;
    }
    let expected = undisturbed();
    let project = Project::new();
    let mut kills = usize::from(dies_at(&project, &format!("{point}=kill")));
    // The first commit of each further run is that of the stage that was broken off, the second is broken off. Where two
    // stages run side by side, the second may take the first with it, so that no run commits more than one.
    while dies_at(&project, &format!("{point}=kill@2")) {
        kills += 1;
        assert!(kills < 12, "no run gets any further");
    }
    assert!(kills >= 6, "each stage's commit is broken off, and {kills} runs were");
    ends_undisturbed(&project, &expected);
}

#[test]
fn killed_before_a_commit() {
    killed_in_each_commit("commit.begin");
}

#[test]
fn killed_once_the_manifest_is_written() {
    killed_in_each_commit("commit.manifest");
}

#[test]
fn killed_between_the_two_renames_of_a_commit() {
    killed_in_each_commit("commit.moved");
}

#[test]
fn killed_after_a_commit() {
    if !has_failpoints() {
        return;
    }
    let expected = undisturbed();
    let project = Project::new();
    // What was committed stays, so each run gets further than the one before. Of two stages side by side, the other one may
    // be committed as well before the kill.
    let mut committed = vec![0];
    while dies_at(&project, "commit.published=kill") {
        committed.push(project.keys().len());
        assert!(committed.is_sorted_by(|before, after| before < after), "stages committed after each kill: {committed:?}");
    }
    assert_eq!(committed.last(), Some(&6), "a kill after the last commit too: {committed:?}");
    ends_undisturbed(&project, &expected);
}

#[test]
fn killed_while_publishing() {
    if !has_failpoints() {
        return;
    }
    let first = Project::finished();
    let before = first.last_run().artifacts();
    // Another model, over one that is published.
    let edit = |project: &Project| project.edit("num_train_epochs: 4", "num_train_epochs: 2");
    edit(&first);
    first.run(&[]).code(0);
    let expected = first.last_run().artifacts();
    for point in ["publish.copied", "publish.exchanged", "publish.swapped"] {
        let project = Project::finished();
        edit(&project);
        let shown = || read_json(&project.path("out/model/manifest.json"))["content"].as_str().unwrap().to_owned();
        assert!(dies_at(&project, &format!("{point}=kill")));
        assert!([&before["export"], &expected["export"]].contains(&&shown()), "{point}: readers see an output that is whole");
        assert!(dies_at(&project, &format!("{point}=kill")), "{point}: the predictions are published too");
        ends_undisturbed(&project, &expected);
        // The one before was kept through it all.
        project.pipe(&["rollback", "pipeline.yaml"]).code(0);
        assert_eq!(shown(), before["export"], "{point}");
    }
}

/// A small generator, so that a failure can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The stages that began and did not end in the newest run.
fn running_in_last_run(project: &Project) -> Vec<String> {
    let Some(newest) = entries(&project.cache().join("runs")).into_iter().max() else { return Vec::new() };
    let text = std::fs::read_to_string(newest.join("events.jsonl")).unwrap_or_default();
    let mut running = BTreeSet::new();
    for event in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).filter(|event| event["event"] == "stage") {
        let stage = event["stage"].as_str().unwrap().to_owned();
        if event["status"] == "running" {
            running.insert(stage)
        } else {
            running.remove(&stage)
        };
    }
    running.into_iter().collect()
}

/// `PIPE_CRASH_KILLS=200 cargo test --test pipeline killed_at_random -- --nocapture` kills more often, and says where.
#[test]
fn killed_at_random_moments() {
    let kills: u64 = std::env::var("PIPE_CRASH_KILLS").map_or(6, |text| text.parse().expect("a number of kills"));
    let seed: u64 = std::env::var("PIPE_CRASH_SEED").map_or(20_261_124, |text| text.parse().expect("a number"));
    let mut random = Random(seed);
    let expected = undisturbed();
    // As long as a whole run takes here, kills fall anywhere in it.
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    let mut project = Project::new();
    let mut rounds = 0;
    let mut killed = 0;
    while killed < kills {
        let mut run = command(pipe(), &project.root);
        run.args(project.run_arguments(&[])).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = run.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(2500)));
        child.kill().unwrap();
        if child.wait().unwrap().signal() == Some(9) {
            killed += 1;
            let running = running_in_last_run(&project);
            let place = if running.is_empty() { "between stages".to_owned() } else { running.join("+") };
            *hits.entry(place).or_default() += 1;
            // Often enough that every stage is killed, seldom enough that runs get to the end.
            if random.below(4) > 0 {
                continue;
            }
        }
        ends_undisturbed(&project, &expected);
        rounds += 1;
        project = Project::new();
    }
    ends_undisturbed(&project, &expected);
    println!("{killed} kills over {} pipelines (seed {seed}): {hits:?}", rounds + 1);
}

/// The sample's pipeline under another name: other locks, the same outputs.
fn named(project: &Project, name: &str) {
    project.write(&format!("{name}.yaml"), PIPELINE.replace("name: sample", &format!("name: {name}")).replace("out/", &format!("{name}/")));
}

#[test]
fn many_runs_at_once_give_what_one_gives() {
    let expected = undisturbed();
    for (same, different) in [(2, 0), (0, 2), (4, 4)] {
        let project = Project::new();
        let mut runs = Vec::new();
        for number in 0..same + different {
            let file = if number < same { "pipeline.yaml".to_owned() } else { format!("other{number}.yaml") };
            if number >= same {
                named(&project, &format!("other{number}"));
            }
            let mut run = command(pipe(), &project.root);
            run.args(["run", &file, "--log-format", "text", "--overlap", "wait"]).stdout(Stdio::null()).stderr(Stdio::piped());
            runs.push(run.spawn().unwrap());
        }
        for run in runs {
            let output = run.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let made: Vec<String> = entries(&project.cache().join("runs"))
            .iter()
            .map(|run| read_json(&run.join("run.json")))
            .flat_map(|run| run["stages"].as_array().unwrap().clone())
            .filter(|stage| stage["status"] == "ran" && stage["summary"] != "made by another run")
            .map(|stage| stage["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(made.len(), 6, "each stage is made once by all of them together: {made:?}");
        if same > 0 {
            ends_undisturbed(&project, &expected);
        }
        let keys: BTreeSet<String> = project.keys().iter().map(|key| read_json(key)["artifact"].as_str().unwrap().to_owned()).collect();
        assert_eq!(keys, expected.values().cloned().collect());
    }
}
