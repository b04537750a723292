//! Runs that are killed, stopped or come twice: what was done is kept, and the next run ends with the same bytes as one
//! that nothing disturbed.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::crash::Random;
use crate::project::{Outcome, Project, command, entries, pipe};

/// A project whose training takes seconds, and saves a checkpoint every few steps.
pub(crate) fn long_training() -> Project {
    let project = Project::new();
    project.edit("num_train_epochs: 4", "num_train_epochs: 12");
    project.edit(
        "eval_strategy: epoch",
        "eval_strategy: steps\n      eval_steps: 20\n      load_best_model_at_end: true\n      metric_for_best_model: f1_macro",
    );
    project.edit("device: cpu\n", "device: cpu\n      save_strategy: steps\n      save_steps: 10\n");
    project
}

/// The content id of the model that a training nobody disturbs gives.
pub(crate) fn undisturbed() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(|| {
        let project = long_training();
        project.run(&["train"]).code(0);
        assert_eq!(project.last_run().resumed_at(), 0);
        project.last_run().artifact("train")
    })
}

/// Polls until there is something; the limit only ends a test that would hang.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// State and parent of a process, from `/proc/<pid>/stat`.
fn stat(pid: &str) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn has_ended(process: Pid) -> bool {
    // A zombie is only waiting for its parent to ask.
    stat(&process.as_raw_nonzero().to_string()).is_none_or(|(state, _)| state == 'Z' || state == 'X')
}

/// A run of `pipe` in a process group of its own, as a shell starts it.
pub(crate) struct Background<'p> {
    project: &'p Project,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Background<'_> {
    pub(crate) fn start<'p>(project: &'p Project, arguments: &[&str]) -> Background<'p> {
        Background::start_with(project, arguments, ":")
    }

    /// After a shell has done something first.
    pub(crate) fn start_with<'p>(project: &'p Project, arguments: &[&str], before: &str) -> Background<'p> {
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let output = |file: &File| Stdio::from(file.try_clone().unwrap());
        // `exec`, so that the process is pipe's.
        let mut command = command("sh".as_ref(), &project.root);
        command.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]).arg(pipe());
        command.args(project.run_arguments(arguments)).stdout(output(&stdout)).stderr(output(&stderr)).process_group(0);
        Background { project, child: command.spawn().unwrap(), stdout, stderr }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The worker that this run started, and nobody else's.
    fn worker(&self) -> Pid {
        self.find_worker().expect("a worker")
    }

    fn find_worker(&self) -> Option<Pid> {
        let own = self.pid().as_raw_nonzero().get();
        entries("/proc".as_ref()).into_iter().find_map(|folder| {
            let pid = folder.file_name()?.to_str()?.to_owned();
            (stat(&pid)?.1 == own).then(|| Pid::from_raw(pid.parse().ok()?)).flatten()
        })
    }

    /// Waits until the training has saved a checkpoint.
    #[track_caller]
    pub(crate) fn wait_for_checkpoint(&mut self) -> PathBuf {
        let work = self.project.cache().join("work");
        wait_for("a checkpoint", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the run ended before it saved a checkpoint: {}", read(&mut self.stderr));
            let scratch = entries(&work).into_iter().flat_map(|key| entries(&key.join("scratch")));
            scratch.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-")))
        })
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Outcome {
        let status = wait_for("the end of a run", || self.child.try_wait().unwrap());
        Outcome::new(status.code(), read(&mut self.stdout), read(&mut self.stderr))
    }
}

fn read(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that the training is not committed, then that the next run goes on with it and gives the undisturbed bytes.
fn goes_on(project: &Project, started_over: bool) {
    assert_eq!(project.keys().len(), 2, "only ingest and tokenize are finished");
    project.run(&["train"]).code(0);
    assert_eq!(project.last_run().ran(), ["train"]);
    assert_eq!(project.last_run().resumed_at() == 0, started_over, "resumed at {}", project.last_run().resumed_at());
    assert_eq!(project.last_run().artifact("train"), undisturbed());
    assert!(entries(&project.cache().join("work")).is_empty(), "finished work is cleared away");
}

#[test]
fn a_killed_worker_is_told_and_the_next_run_goes_on() {
    let project = long_training();
    let mut run = Background::start(&project, &[]);
    run.wait_for_checkpoint();
    kill_process(run.worker(), Signal::KILL).unwrap();
    run.end().fails(10, &["stage `train`", "the training worker was killed", "memory", "per_device_train_batch_size", "last checkpoint"]);
    goes_on(&project, false);
}

/// Kills `pipe` or its worker, whatever step it is at. `PIPE_TRAINING_KILLS=20 cargo test --test pipeline killed_at_random_steps --
/// --nocapture` kills more often, and says where each run went on.
#[test]
fn a_training_killed_at_random_steps_gives_the_same_bytes() {
    let kills: usize = std::env::var("PIPE_TRAINING_KILLS").map_or(3, |text| text.parse().expect("a number of kills"));
    let mut random = Random(20_261_129);
    let mut project = long_training();
    let (mut steps, mut killed) = (Vec::new(), 0);
    while killed < kills {
        let mut run = Background::start(&project, &["train"]);
        run.wait_for_checkpoint();
        std::thread::sleep(Duration::from_millis(random.below(700)));
        let worker = run.find_worker();
        let victim = worker.filter(|_| random.below(2) == 0).unwrap_or(run.pid());
        // One that has just ended cannot be killed.
        let _ = kill_process(victim, Signal::KILL);
        let has_finished = run.end().succeeded();
        worker.inspect(|&worker| wait_for("the end of the worker", || has_ended(worker).then_some(())));
        if has_finished {
            assert_eq!(project.last_run().artifact("train"), undisturbed());
            steps.push(project.last_run().resumed_at());
            project = long_training();
        } else {
            killed += 1;
        }
    }
    project.run(&["train"]).code(0);
    steps.push(project.last_run().resumed_at());
    assert_eq!(project.last_run().artifact("train"), undisturbed());
    println!("{killed} kills; the trainings that ended had gone on from steps {steps:?}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let project = long_training();
    let mut run = Background::start(&project, &[]);
    run.wait_for_checkpoint();
    kill_process(run.worker(), Signal::KILL).unwrap();
    run.end().code(10);
    for key in entries(&project.cache().join("work")) {
        for checkpoint in entries(&key.join("scratch")).iter().filter(|path| path.is_dir()) {
            std::fs::write(checkpoint.join("model.safetensors"), "cut short").unwrap();
        }
    }
    goes_on(&project, true);
}

#[test]
fn sigterm_saves_a_checkpoint_and_the_next_run_goes_on() {
    let project = long_training();
    let mut run = Background::start(&project, &[]);
    run.wait_for_checkpoint();
    let worker = run.worker();
    kill_process(run.pid(), Signal::TERM).unwrap();
    run.end().fails(143, &["SIGTERM", "run the same command to go on"]);
    assert!(has_ended(worker));
    goes_on(&project, false);
}

#[test]
fn a_second_run_fails_is_skipped_or_takes_over_after_an_interrupt() {
    let project = long_training();
    let mut first = Background::start(&project, &[]);
    first.wait_for_checkpoint();
    let worker = first.worker();
    project.run(&[]).fails(10, &["another run of `sample` is at work", "process", "--overlap"]);
    project.run(&["--overlap", "skip"]).fails(20, &["another run of `sample` is at work"]);
    let waiting = Background::start(&project, &["--overlap", "wait", "train"]);
    // As a terminal sends it: to the worker too, which leaves it to `pipe`.
    kill_process_group(first.pid(), Signal::INT).unwrap();
    first.end().fails(130, &["SIGINT", "run the same command to go on"]);
    assert!(has_ended(worker));
    waiting.end().code(0);
    assert!(project.last_run().resumed_at() > 0);
    assert_eq!(project.last_run().artifact("train"), undisturbed());
}

#[test]
fn a_killed_pipe_leaves_no_worker_and_no_lock() {
    let project = long_training();
    let mut run = Background::start(&project, &[]);
    run.wait_for_checkpoint();
    let worker = run.worker();
    kill_process(run.pid(), Signal::KILL).unwrap();
    drop(run);
    wait_for("the end of the worker", || has_ended(worker).then_some(()));
    goes_on(&project, false);
}
