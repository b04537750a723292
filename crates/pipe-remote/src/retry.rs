//! What is worth trying again, and how long to wait before it.

use std::time::{Duration, SystemTime};

use pipe_core::{Error, Progress, Result};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// No wait is longer, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why one try failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may go away by itself.
    Transient {
        /// Lower case, without secrets.
        why: String,
        /// How long the server asks us to wait.
        after: Option<Duration>,
    },
    /// Trying again would fail the same way.
    Permanent(Error),
}

impl Fault {
    pub(crate) fn transient(why: impl Into<String>) -> Fault {
        Fault::Transient { why: why.into(), after: None }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Permanent(error)
    }
}

/// How often, and how soon, a failed try is repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    /// Tries after the first.
    pub(crate) retries: u32,
    /// The wait before the first of them, ± a quarter; doubled for each further one.
    pub(crate) backoff: Duration,
}

impl Retry {
    /// Runs `attempt` until it succeeds, fails for good, or the tries are used up. `name` is the URL for people.
    pub(crate) async fn run<T>(self, name: &str, progress: &dyn Progress, attempt: impl AsyncFn() -> Result<T, Fault>) -> Result<T> {
        let tries = self.retries + 1;
        for tried in 1..=tries {
            progress.check()?;
            let (why, after) = match attempt().await {
                Ok(value) => return Ok(value),
                Err(Fault::Permanent(error)) => return Err(error),
                Err(Fault::Transient { why, after }) => (why, after),
            };
            if tried == tries {
                let times = if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") };
                return Err(Error::input(format!("cannot fetch {name}: {why} ({times})"))
                    .hint("run again once the server answers; what was fetched is kept in the mirror"));
            }
            let wait = after.unwrap_or_else(|| self.wait(tried)).min(LONGEST_WAIT);
            progress.note(&format!("{name}: {why}; trying again in {:.1} s (try {} of {tries})", wait.as_secs_f64(), tried + 1));
            tokio::time::sleep(wait).await;
        }
        unreachable!("the last try returns")
    }

    /// The wait after try number `tried`. The jitter keeps clients that failed together from coming back together.
    fn wait(self, tried: u32) -> Duration {
        let doubled = self.backoff.saturating_mul(2_u32.saturating_pow(tried - 1));
        doubled.min(LONGEST_WAIT).mul_f64(0.75 + 0.5 * fastrand::f64())
    }
}

/// `Retry-After`, as seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let retry = Retry { retries: 9, backoff: Duration::from_secs(1) };
        for (tried, seconds) in [(1, 1.0), (2, 2.0), (4, 8.0), (30, 60.0), (200, 60.0)] {
            let wait = retry.wait(tried).as_secs_f64();
            assert!((seconds * 0.75..=seconds * 1.25).contains(&wait), "{tried}: {wait}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }
}
