//! A project of its own for each test: a folder with the sample, the tiny model and a pipeline file, and `pipe` run in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const STAGES: [&str; 6] = ["ingest", "tokenize", "train", "evaluate", "export", "predict"];

/// All six stages on the sample. One thread and the CPU, so that tests are light and repeat themselves anywhere.
pub(crate) const PIPELINE: &str = r#"version: 1
name: sample
vars: { base: model, max_length: 48 }
stages:
  ingest:
    uses: ingest
    with:
      source: { paths: [tweets.csv], format: csv, encoding: mac-roman }
      columns: { text: text, label: sentiment }
      scrub: { policy: standard }
      dedup: exact
      split: { train: 0.7, validation: 0.15, test: 0.15, seed: 42 }
  tokenize:
    uses: tokenize
    from: ingest
    with: { tokenizer: "${base}", max_length: "${max_length}" }
  train:
    uses: train
    from: tokenize
    with:
      task: sequence-classification
      model: "${base}"
      learning_rate: 3.0e-3
      num_train_epochs: 4
      per_device_train_batch_size: 8
      eval_strategy: epoch
      device: cpu
      torch_threads: 1
  evaluate:
    uses: evaluate
    from: [train, tokenize.test]
    with: { device: cpu, torch_threads: 1 }
  export: { uses: export, from: [train, tokenize.validation], publish: out/model }
  predict: { uses: predict, from: [export, ingest.test], with: { threads: 1 }, publish: out/predictions }
"#;

/// The folder of committed fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The `pipe` under test, with its worker beside it.
pub(crate) fn pipe() -> &'static Path {
    let program = Path::new(env!("CARGO_BIN_EXE_pipe"));
    let worker = program.with_file_name("pipe-train");
    assert!(worker.is_file(), "{} is missing: run `cargo build` before `cargo test`, or `cargo xtask test`, which does both", worker.display());
    program
}

/// Whether the `pipe` under test dies where `PIPE_FAILPOINT` says: a release build does not.
pub(crate) fn has_failpoints() -> bool {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: only a debug build has failpoints");
    }
    cfg!(debug_assertions)
}

/// A command that the caller's environment does not lead elsewhere.
pub(crate) fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_remove("PIPE_CACHE_DIR").stdin(Stdio::null());
    command
}

/// A project in a temporary folder.
pub(crate) struct Project {
    _folder: TempDir,
    /// Kept for the next test that needs a copy.
    _original: Option<Arc<Project>>,
    /// Holds `tweets.csv`, `new-rows.csv`, `model/` and `pipeline.yaml`.
    pub(crate) root: PathBuf,
    /// Of the runs that follow, where it is not `.pipe` in the root.
    pub(crate) cache_dir: Option<PathBuf>,
}

impl Project {
    /// The sample and a pipeline file, nothing run yet.
    pub(crate) fn new() -> Project {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("project");
        std::fs::create_dir(&root).unwrap();
        let project = Project { _folder: folder, _original: None, root, cache_dir: None };
        project.copy_fixture("tweets-sample.csv", "tweets.csv");
        project.copy_fixture("new-rows.csv", "new-rows.csv");
        copy_folder(&fixtures().join("tiny-bert"), &project.path("model"));
        project.write("pipeline.yaml", PIPELINE);
        project
    }

    /// A project whose pipeline ran once: a copy of one that is made for the first test and lives as long as any copy.
    pub(crate) fn finished() -> Project {
        static ORIGINAL: Mutex<Weak<Project>> = Mutex::new(Weak::new());
        let mut shared = ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner);
        let original = shared.upgrade().unwrap_or_else(|| {
            let project = Project::new();
            project.run(&[]).code(0);
            Arc::new(project)
        });
        *shared = Arc::downgrade(&original);
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("project");
        copy_folder(&original.root, &root);
        Project { _folder: folder, _original: Some(original), root, cache_dir: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn copy_fixture(&self, fixture: &str, name: &str) {
        std::fs::copy(fixtures().join(fixture), self.path(name)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Replaces text in the pipeline file, wherever it occurs.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let path = self.path("pipeline.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "the pipeline file has no `{from}`");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// `pipe ARGUMENTS`, in the root.
    pub(crate) fn pipe(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(command(pipe(), &self.root).args(arguments))
    }

    /// The arguments of `pipe run pipeline.yaml` with lines for people on standard error.
    pub(crate) fn run_arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["run", "pipeline.yaml", "--log-format", "text"];
        if let Some(dir) = &self.cache_dir {
            all.extend(["--cache-dir", dir.to_str().unwrap()]);
        }
        all.extend(arguments);
        all
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.pipe(&self.run_arguments(arguments))
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.cache_dir.clone().unwrap_or_else(|| self.path(".pipe"))
    }

    /// Names of all committed keys.
    pub(crate) fn keys(&self) -> BTreeSet<PathBuf> {
        // Without what a run was killed in the middle of writing.
        let is_whole = |path: &PathBuf| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'));
        files_below(&self.cache().join("keys")).into_iter().filter(is_whole).collect()
    }

    /// `run.json` of the newest run.
    pub(crate) fn last_run(&self) -> Run {
        let newest = entries(&self.cache().join("runs")).into_iter().max().expect("a run");
        Run(read_json(&newest.join("run.json")))
    }

    /// The folder of a stage's output, as the newest run that had the stage recorded it.
    pub(crate) fn artifact(&self, stage: &str) -> PathBuf {
        self.cache().join("artifacts").join(self.last_run().artifact(stage))
    }
}

/// The record of one run.
pub(crate) struct Run(pub(crate) Value);

impl Run {
    fn stages(&self) -> &Vec<Value> {
        self.0["stages"].as_array().expect("a list of stages")
    }

    pub(crate) fn stage(&self, name: &str) -> &Value {
        self.stages().iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("the run has no stage {name}: {}", self.0))
    }

    /// `name status`, in the order in which the stages came.
    pub(crate) fn statuses(&self) -> Vec<String> {
        self.stages().iter().map(|stage| format!("{} {}", stage["name"].as_str().unwrap(), stage["status"].as_str().unwrap())).collect()
    }

    /// Names of the stages that ran, in order.
    pub(crate) fn ran(&self) -> Vec<&str> {
        self.stages().iter().filter(|stage| stage["status"] == "ran").map(|stage| stage["name"].as_str().unwrap()).collect()
    }

    /// The content id of a stage's output.
    pub(crate) fn artifact(&self, stage: &str) -> String {
        self.stage(stage)["artifact"].as_str().unwrap_or_else(|| panic!("{stage} has no output: {}", self.0)).to_owned()
    }

    /// The content ids of all outputs, by stage.
    pub(crate) fn artifacts(&self) -> BTreeMap<String, String> {
        self.stages().iter().map(|stage| stage["name"].as_str().unwrap().to_owned()).map(|name| (name.clone(), self.artifact(&name))).collect()
    }

    /// The step that training went on from; 0 at a fresh start.
    pub(crate) fn resumed_at(&self) -> u64 {
        self.stage("train")["figures"]["train"]["resumed_at_step"].as_u64().expect("a step")
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn new(code: Option<i32>, stdout: String, stderr: String) -> Outcome {
        Outcome { code, stdout, stderr }
    }

    pub(crate) fn of(command: &mut Command) -> Outcome {
        let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("pipe speaks UTF-8");
        Outcome::new(output.status.code(), text(output.stdout), text(output.stderr))
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Outcome {
        assert_eq!(self.code, Some(expected), "exit code; it said:\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard output has all these words.
    #[track_caller]
    pub(crate) fn prints(self, words: &[&str]) -> Outcome {
        for word in words {
            assert!(self.stdout.contains(word), "`{word}` is not in the output:\n{}", self.stdout);
        }
        self
    }

    /// Asserts an error of one screen that has all these words and no row's text.
    #[track_caller]
    pub(crate) fn fails(self, expected: i32, words: &[&str]) -> Outcome {
        let outcome = self.code(expected);
        let error = outcome.error();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in the error:\n{error}");
        }
        let lines = error.lines().count();
        assert!((1..=15).contains(&lines), "the error has {lines} lines:\n{}", outcome.stderr);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        crate::sample::assert_quotes_no_row(&outcome.stderr);
        crate::sample::assert_quotes_no_row(&outcome.stdout);
        outcome
    }

    /// What standard error says from the first error on.
    fn error(&self) -> &str {
        let start = if self.stderr.starts_with("error") { Some(0) } else { self.stderr.find("\nerror").map(|at| at + 1) };
        start.map_or("", |start| &self.stderr[start..])
    }
}

pub(crate) fn read_json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What a folder holds, sorted; nothing where there is no folder.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// All files below a folder, sorted.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let inner = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries(folder).into_iter().flat_map(inner).collect()
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}
