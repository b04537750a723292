//! Shards: new input costs only itself, a killed run goes on with what it had, and no byte of the output depends on what
//! was reused, damaged, killed or parallel.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::project::{Outcome, Project, command, entries, files_below, pipe};
use crate::table::Table;

/// The stages that work shard by shard. Short parts, so that few rows are many shards.
const PIPELINE: &str = r#"version: 1
name: shards
stages:
  ingest:
    uses: ingest
    with:
      source: { paths: ["rows/*.csv"] }
      columns: { text: text, label: label, id: id }
      split: { train: 0.8, validation: 0.1, test: 0.1, seed: 42 }
      shard_rows: 16
  tokenize: { uses: tokenize, from: ingest, with: { tokenizer: model, max_length: 48 } }
  predict: { uses: predict, from: ingest, with: { model: out/model, threads: 1 } }
"#;

const STAGES: [&str; 3] = ["ingest", "tokenize", "predict"];

/// The rows of these numbers as CSV.
fn rows(numbers: std::ops::Range<usize>) -> String {
    let lines = numbers.map(|at| format!("r{at},{},the {} number {at}\n", ["good", "bad"][at % 2], ["song", "queue"][at % 2]));
    std::iter::once("id,label,text\n".to_owned()).chain(lines).collect()
}

/// Three files of `each` rows, between which and around which others fit, and a finished model.
fn project(each: usize) -> Project {
    let project = Project::finished();
    std::fs::remove_dir_all(project.cache()).unwrap();
    std::fs::create_dir(project.path("rows")).unwrap();
    for (at, name) in ["b", "d", "f"].iter().enumerate() {
        project.write(&format!("rows/{name}.csv"), rows(at * each..(at + 1) * each));
    }
    project.write("pipeline.yaml", PIPELINE);
    project
}

/// Shards that a stage of the newest run reused and made.
fn figures(project: &Project, stage: &str) -> (u64, u64) {
    let run = project.last_run().0;
    let stages = run["stages"].as_array().unwrap();
    let shards = &stages.iter().find(|found| found["name"] == stage).unwrap()["figures"]["shards"];
    (shards["reused"].as_u64().unwrap_or_else(|| panic!("no figures: {run}")), shards["made"].as_u64().unwrap())
}

fn all_figures(project: &Project) -> BTreeMap<&'static str, (u64, u64)> {
    STAGES.into_iter().map(|stage| (stage, figures(project, stage))).collect()
}

/// Forgets all outputs, but not the shards.
fn forget_outputs(project: &Project) {
    for folder in ["keys", "artifacts", "latest"] {
        std::fs::remove_dir_all(project.cache().join(folder)).unwrap();
    }
}

fn run_on(project: &Project, threads: &str) -> BTreeMap<String, String> {
    Outcome::of(command(pipe(), &project.root).env("RAYON_NUM_THREADS", threads).args(project.run_arguments(&[]))).code(0);
    project.last_run().artifacts()
}

fn shards(project: &Project, extension: &str) -> Vec<PathBuf> {
    let mut files = files_below(&project.cache().join("shards"));
    files.retain(|file| file.extension().is_some_and(|found| found == extension) && !file.file_name().unwrap().to_string_lossy().starts_with('.'));
    files
}

#[test]
fn the_same_bytes_whatever_is_reused_and_on_any_number_of_threads() {
    let mut project = project(200);
    let first = run_on(&project, "1");
    let made = all_figures(&project);
    assert!(made.values().all(|(reused, made)| *reused == 0 && *made > 20), "{made:?}");
    for (at, threads) in ["2", "4"].iter().enumerate() {
        // All reused, then half of them, then none.
        forget_outputs(&project);
        assert_eq!(run_on(&project, threads), first);
        assert!(all_figures(&project).iter().all(|(stage, (reused, anew))| (*reused, *anew) == (made[stage].1, 0)));
        forget_outputs(&project);
        for shard in shards(&project, "shard").iter().step_by(2) {
            std::fs::remove_file(shard).unwrap();
        }
        assert_eq!(run_on(&project, threads), first);
        for (stage, (reused, anew)) in all_figures(&project) {
            assert!(reused > 0 && anew > 0 && reused + anew == made[stage].1, "{stage}: {reused} + {anew}");
        }
        project.cache_dir = Some(project.path(&format!("cache-{at}")));
        assert_eq!(run_on(&project, threads), first);
        assert_eq!(all_figures(&project), made);
    }
}

#[test]
fn a_new_file_costs_only_itself() {
    let project = project(200);
    project.run(&[]).code(0);
    let mut total: BTreeMap<&str, u64> = all_figures(&project).into_iter().map(|(stage, (_, made))| (stage, made)).collect();
    for (at, name) in ["a", "c", "g"].iter().enumerate() {
        project.write(&format!("rows/{name}.csv"), rows(1000 + at * 20..1020 + at * 20));
        project.run(&[]).code(0);
        let now = all_figures(&project);
        // Twenty rows are a whole shard and the rest of one.
        assert_eq!(now["ingest"], (total["ingest"], 2), "{name}");
        for stage in ["tokenize", "predict"] {
            let (reused, made) = now[stage];
            // In each split the part that they came into, and the next where its end moved.
            assert!(made <= 12 && reused + 12 >= total[stage], "{name}: {stage} reused {reused} and made {made} of {total:?}");
            total.insert(stage, reused + made);
        }
        total.insert("ingest", total["ingest"] + 2);
    }
    let run = project.last_run().0;
    assert_eq!(run["stages"][0]["figures"]["source_rows"], serde_json::json!([20, 200, 20, 200, 200, 20]));
    assert_eq!(run["stages"][0]["figures"]["report"]["source_columns"], serde_json::json!(["id", "label", "text"]));
    // As if nothing had been there before.
    let (artifacts, mut fresh) = (project.last_run().artifacts(), project);
    fresh.cache_dir = Some(fresh.path("another-cache"));
    fresh.run(&[]).code(0);
    assert_eq!(fresh.last_run().artifacts(), artifacts);
}

#[test]
fn a_file_that_grew_costs_only_its_tail() {
    let project = project(200);
    project.run(&["ingest"]).code(0);
    let before = figures(&project, "ingest").1;
    // 200 rows are twelve shards of sixteen and one of eight, which is full only now.
    project.write("rows/d.csv", rows(200..400) + rows(2000..2012).trim_start_matches("id,label,text\n"));
    project.run(&["ingest"]).code(0);
    assert_eq!(figures(&project, "ingest"), (before - 1, 2));
    assert_eq!(before, 3 * 13);
    let ids: Vec<String> =
        ["train", "validation", "test"].iter().flat_map(|split| Table::of_split(&project.artifact("ingest"), split).strings("id")).collect();
    assert_eq!(ids.len(), 612);
}

#[test]
fn a_damaged_shard_is_made_again() {
    let project = project(60);
    project.run(&[]).code(0);
    let (first, made) = (project.last_run().artifacts(), all_figures(&project));
    let damages: [fn(&mut Vec<u8>); 3] =
        [|bytes| *bytes.last_mut().unwrap() ^= 1, |bytes| bytes[20] ^= 0x40, |bytes| bytes.truncate(bytes.len() / 2)];
    for damage in damages {
        for extension in ["shard", "json"] {
            forget_outputs(&project);
            for shard in shards(&project, extension).iter().step_by(2) {
                let mut bytes = std::fs::read(shard).unwrap();
                damage(&mut bytes);
                std::fs::write(shard, bytes).unwrap();
            }
            project.run(&[]).code(0);
            assert_eq!(project.last_run().artifacts(), first);
            let again: Vec<u64> = all_figures(&project).values().map(|(_, made)| *made).collect();
            let all: u64 = made.values().map(|(_, made)| *made).sum();
            assert_eq!(again.iter().sum::<u64>(), all.div_ceil(2));
        }
    }
}

#[test]
fn a_killed_stage_goes_on_with_what_it_had() {
    let mut project = project(1200);
    project.cache_dir = Some(project.path("undisturbed"));
    project.run(&[]).code(0);
    let (first, total) = (project.last_run().artifacts(), all_figures(&project));
    project.cache_dir = Some(project.path("killed"));
    for stage in STAGES {
        let before = shards(&project, "json").len();
        let mut child = command(pipe(), &project.root).args(project.run_arguments(&[stage])).spawn().unwrap();
        let started = Instant::now();
        while shards(&project, "json").len() < before + 5 {
            assert!(started.elapsed() < Duration::from_secs(120), "waited in vain for shards of {stage}");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let kept = (shards(&project, "json").len() - before) as u64;
        project.run(&[stage]).code(0);
        assert_eq!(project.last_run().artifact(stage), first[stage]);
        let (reused, made) = figures(&project, stage);
        assert!(reused >= kept && kept < total[stage].1, "{stage}: {kept} were there, {reused} were reused");
        assert_eq!(reused + made, total[stage].1);
    }
    assert!(entries(&project.cache().join("work")).is_empty());
}

#[test]
fn force_makes_every_shard_again() {
    let project = project(60);
    project.run(&[]).code(0);
    let (first, made) = (project.last_run().artifacts(), all_figures(&project));
    project.run(&["--force-all"]).code(0);
    assert_eq!(all_figures(&project), made);
    assert_eq!(project.last_run().artifacts(), first);
    // Another setting that decides no shard: other splits of the same clean rows.
    project.run(&["ingest", "--set", "ingest.with.split.validation=0", "--set", "ingest.with.split.test=0.2"]).code(0);
    assert_eq!(figures(&project, "ingest"), (made["ingest"].1, 0));
}

#[test]
fn texts_taken_for_labels_do_not_stay() {
    let project = project(400);
    project.edit("label: label", "label: id");
    project.edit("id: id", "id: text");
    project.edit("text: text", "text: label");
    project.run(&["ingest"]).fails(12, &["more than 1000 different values", "label"]);
    assert_eq!(files_below(&project.cache().join("shards")), Vec::<PathBuf>::new());
}
