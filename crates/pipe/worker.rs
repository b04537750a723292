//! Starts `pipe-train`, listens to it, and passes a stop on to it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use pipe_core::cache::Lock;
use pipe_core::worker::{EVENT_FD, Event, LOCK_FD, Request};
use pipe_core::{BUILD_ID, Class, Error, IoContext, Progress, Result, Summary};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::signals::Signals;

/// How many compiled products oneDNN keeps: a variable of its own.
const PRODUCTS_KEPT: &str = "ONEDNN_PRIMITIVE_CACHE_CAPACITY";
/// How often a stop is looked for while the worker is silent.
const POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// A worker that was asked to stop has this long to finish its step and save a checkpoint.
const GRACE: Duration = Duration::from_secs(120);

pub(crate) struct Worker {
    child: Child,
    events: File,
    log: PathBuf,
}

impl Worker {
    /// The program that stands beside this one.
    fn program() -> Result<PathBuf> {
        let own =
            std::env::current_exe().and_then(|path| path.canonicalize()).map_err(|e| Error::internal(format!("cannot find this program: {e}")))?;
        let program = own.with_file_name("pipe-train");
        if program.is_file() {
            return Ok(program);
        }
        Err(Error::stage(format!("the training worker {} is missing", program.display()))
            .hint("in a checkout run `cargo build --release`, which builds it beside pipe; an installation made with --no-train has none, and cannot train or export"))
    }

    /// `lock` is inherited: the key stays locked for as long as the worker lives.
    pub(crate) fn start(request: &Request, lock: &Lock, record: &Path) -> Result<Worker> {
        let program = Worker::program()?;
        std::fs::create_dir_all(record).doing("make the folder", record)?;
        let log = record.join("worker.log");
        let stderr = File::create(&log).doing("write", &log)?;
        let failed = |e: std::io::Error| Error::stage(format!("cannot start {}: {e}", program.display()));
        let (reading, writing) = std::io::pipe().map_err(failed)?;
        let lock_fd = lock.as_fd().try_clone_to_owned().map_err(failed)?;
        let mut command = Command::new(&program);
        // oneDNN keeps a compiled product for each shape, 1,024 of them unless told otherwise; every length of a batch makes nine.
        if std::env::var_os(PRODUCTS_KEPT).is_none() {
            command.env(PRODUCTS_KEPT, "64");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
        let mappings = vec![FdMapping { parent_fd: OwnedFd::from(writing), child_fd: EVENT_FD }, FdMapping { parent_fd: lock_fd, child_fd: LOCK_FD }];
        command.fd_mappings(mappings).map_err(|e| Error::internal(e.to_string()))?;
        let mut child = command.spawn().map_err(failed)?;
        // Or the pipe would stay open after the worker's end, and reading would never end.
        drop(command);
        let mut line = serde_json::to_vec(request).map_err(|e| Error::internal(e.to_string()))?;
        line.push(b'\n');
        // A worker that could not even start has closed its end; its exit status says more.
        let _ = child.stdin.as_mut().expect("piped above").write_all(&line);
        Ok(Worker { child, events: File::from(OwnedFd::from(reading)), log })
    }

    /// Listens until the worker has ended.
    pub(crate) fn wait(mut self, signals: &Signals, progress: &dyn Progress) -> Result<Summary> {
        let (mut buffer, mut chunk) = (Vec::new(), [0u8; 1 << 14]);
        let (mut outcome, mut greeted, mut told): (_, _, Option<Instant>) = (None, false, None);
        loop {
            match told {
                None if signals.check().is_err() => {
                    told = Some(Instant::now());
                    self.terminate();
                }
                // A deadline is worth nothing if a worker that hangs holds the pipeline for ever.
                Some(since) if since.elapsed() >= GRACE => {
                    let _ = self.child.kill();
                }
                _ => {}
            }
            let mut fds = [PollFd::new(&self.events, PollFlags::IN)];
            match poll(&mut fds, Some(&POLL)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(e) => return Err(Error::internal(format!("cannot listen to the worker: {e}"))),
            }
            let read = match self.events.read(&mut chunk) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.map_err(|e| Error::internal(format!("cannot listen to the worker: {e}")))?,
            };
            if read == 0 {
                break;
            }
            buffer.extend_from_slice(&chunk[..read]);
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let event: Event = serde_json::from_slice(&line).map_err(|_| stale_worker())?;
                match event {
                    Event::Hello { build } if build != BUILD_ID => return Err(stale_worker()),
                    Event::Hello { .. } => greeted = true,
                    Event::Progress { done, total, unit, detail } => progress.advance(done, total, &unit, &detail),
                    Event::Note { text } => progress.note(&text),
                    Event::Done(summary) => outcome = Some(Ok(summary)),
                    Event::Error(error) => outcome = Some(Err(error)),
                }
            }
        }
        let status = self.child.wait().map_err(|e| Error::internal(format!("cannot wait for the worker: {e}")))?;
        match outcome {
            // The worker was told to stop because this process was.
            Some(Err(error)) if error.class == Class::Terminated => Err(signals.check().err().unwrap_or(error)),
            Some(outcome) => outcome,
            None => {
                signals.check()?;
                Err(self.died(status, greeted))
            }
        }
    }

    fn terminate(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    fn died(&self, status: std::process::ExitStatus, greeted: bool) -> Error {
        let log = format!("its last words, if any, are in {}", self.log.display());
        match (status.signal(), greeted) {
            (Some(9), _) => Error::stage("the training worker was killed (signal 9)")
                .hint(format!("often the system ran out of memory: lower `per_device_train_batch_size` or `max_length`; run again to go on from the last checkpoint; {log}")),
            (Some(signal), _) => Error::stage(format!("the training worker died of signal {signal}")).hint(format!("run again to go on from the last checkpoint; {log}")),
            (None, true) => Error::stage("the training worker ended without an answer").hint(log),
            (None, false) => Error::stage("the training worker could not start").hint(format!("often a shared library is missing: run `cargo xtask setup`; {log}")),
        }
    }
}

fn stale_worker() -> Error {
    Error::stage("the training worker was built from other sources than this pipe")
        .hint("in a checkout run `cargo build --release`, which builds both; else install both again")
}

impl Drop for Worker {
    fn drop(&mut self) {
        // On every way out: no worker goes on without somebody who listens. It ends when its input closes.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
