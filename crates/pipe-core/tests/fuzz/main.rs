//! Properties that hold for every input: the reader of pipeline files, and what settings mean for keys.
//!
//! Few cases each, so that they run with all other tests. For a night of it:
//!
//! ```sh
//! PROPTEST_CASES=1000000 cargo test --release -p pipe-core --test fuzz reader
//! ```

mod reader;
mod settings;

use proptest::test_runner::Config;

/// `cases` unless `PROPTEST_CASES` says otherwise. Failures are shown, not kept in files.
fn config(cases: u32) -> Config {
    let mut config = Config { failure_persistence: None, max_global_rejects: u32::MAX, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config
}
