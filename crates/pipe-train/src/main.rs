//! The worker process that `pipe` starts for training and for everything else that needs libtorch.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pipe_core::worker::{EVENT_FD, Event, Request};
use pipe_core::{BUILD_ID, Class, Error, Progress, Result};

fn main() -> ExitCode {
    let Some(events) = Events::open() else {
        eprintln!("pipe-train is the worker of pipe, which starts it for training; run `pipe run FILE` instead");
        return ExitCode::from(2);
    };
    let events = Arc::new(events);
    events.send(&Event::Hello { build: BUILD_ID.to_owned() });
    pipe_core::hide_panics();
    let result = std::panic::catch_unwind(|| serve(&events)).unwrap_or_else(|_| Err(Error::internal("the worker met a fault of its own")));
    match result {
        Ok(mut summary) => {
            summary.figures.extend(peak_memory().map(|bytes| ("peak_memory_bytes".to_owned(), bytes.into())));
            events.send(&Event::Done(summary));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = error.class.exit_code();
            events.send(&Event::Error(error));
            ExitCode::from(code)
        }
    }
}

fn serve(events: &Arc<Events>) -> Result<pipe_core::Summary> {
    let stop = Arc::new(AtomicBool::new(false));
    let register = |signal, flag: &Arc<AtomicBool>| {
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(|e| Error::internal(format!("cannot handle signals: {e}")))
    };
    register(signal_hook::consts::SIGTERM, &stop)?;
    // A terminal sends SIGINT to the whole group; `pipe` decides what it means.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        register(signal, &Arc::new(AtomicBool::new(false)))?;
    }
    let mut line = String::new();
    let mut input = std::io::stdin().lock();
    input.read_line(&mut line).map_err(|e| Error::internal(format!("cannot read the request: {e}")))?;
    drop(input);
    let request: Request = serde_json::from_str(&line).map_err(|e| Error::internal(format!("the request cannot be understood: {e}")))?;
    std::thread::spawn(|| {
        // Ends when `pipe` does, however it ends: no orphan goes on writing into the work folder.
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        // Not `exit`: that runs libtorch's destructors while the main thread computes.
        // SAFETY: ends the process at once; whatever is half-written is in the work folder, which nothing trusts.
        unsafe { libc::_exit(i32::from(Class::Terminated.exit_code())) };
    });
    pipe_train::run(&request, &WorkerProgress { events: Arc::clone(events), stop })
}

/// The most memory that this process had at once, so that the next run knows what to set aside.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The descriptor that events go to, one JSON line each.
struct Events(Mutex<File>);

impl Events {
    fn open() -> Option<Events> {
        // SAFETY: `pipe` opened this descriptor for us; started by hand it is closed, which fcntl tells.
        let open = unsafe { libc::fcntl(EVENT_FD, libc::F_GETFD) } != -1;
        // SAFETY: it is open, and nothing else in this process uses it.
        open.then(|| Events(Mutex::new(File::from(unsafe { OwnedFd::from_raw_fd(EVENT_FD) }))))
    }

    fn send(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("plain data");
        line.push(b'\n');
        // If `pipe` is gone, standard input closes too and ends us.
        let _ = self.0.lock().map(|mut file| file.write_all(&line));
    }
}

struct WorkerProgress {
    events: Arc<Events>,
    stop: Arc<AtomicBool>,
}

impl Progress for WorkerProgress {
    fn advance(&self, done: u64, total: u64, unit: &str, detail: &str) {
        self.events.send(&Event::Progress { done, total, unit: unit.to_owned(), detail: detail.to_owned() });
    }

    fn note(&self, text: &str) {
        self.events.send(&Event::Note { text: text.to_owned() });
    }

    fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(Class::Terminated, "asked to stop; the last checkpoint is saved"));
        }
        Ok(())
    }
}
