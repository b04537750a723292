//! Places where a test makes the program die: `PIPE_FAILPOINT=commit.moved=kill`, or `=panic`, or `=kill@3` for the third
//! time it comes by. Nothing of it is in a release build.

/// Does what `PIPE_FAILPOINT` says of `name`.
#[cfg(debug_assertions)]
pub fn failpoint(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Wanted {
        name: String,
        action: String,
        countdown: AtomicU32,
    }
    static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("PIPE_FAILPOINT").ok()?;
        let (name, action) = text.split_once('=')?;
        let (action, count) = action.split_once('@').unwrap_or((action, "1"));
        Some(Wanted { name: name.into(), action: action.into(), countdown: AtomicU32::new(count.parse().ok()?) })
    });
    let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.name == name) else { return };
    if wanted.countdown.fetch_sub(1, Ordering::SeqCst) != 1 {
        return;
    }
    match wanted.action.as_str() {
        "panic" => panic!("failpoint {name}"),
        "kill" => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is on its way.
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        _ => {}
    }
}

#[cfg(not(debug_assertions))]
pub fn failpoint(_: &str) {}
