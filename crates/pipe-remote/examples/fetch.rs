//! Fetches the files of URLs and prints their paths: `fetch [--look] [--offline] [--folder] MIRROR URL…`

use std::process::ExitCode;

use pipe_core::{Error, Progress, Result};
use pipe_remote::{Access, Found, FoundFolder, RemoteOptions, Remotes, model_file};

/// Notes go to standard error.
struct Notes;

impl Progress for Notes {
    fn advance(&self, _: u64, _: u64, _: &str, _: &str) {}

    fn note(&self, text: &str) {
        eprintln!("{text}");
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            if let Some(hint) = &error.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(error.class.exit_code())
        }
    }
}

fn run() -> Result<()> {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let flag = |name: &str| flags.iter().any(|flag| flag == name);
    let [mirror, urls @ ..] = words.as_slice() else { return Err(Error::usage("no mirror is named")) };
    let access = if flag("--look") { Access::Look } else { Access::Fetch };
    let remotes = Remotes::new(RemoteOptions { offline: flag("--offline"), ..RemoteOptions::in_mirror(mirror) });
    for url in urls {
        let stale = if flag("--folder") {
            match remotes.folder(url, &model_file, access, &Notes)? {
                FoundFolder::Here(folder) => {
                    println!("{}\t{}\t{}", folder.name, folder.path.display(), folder.files.join(" "));
                    continue;
                }
                FoundFolder::Stale(reasons) => reasons,
            }
        } else {
            match remotes.files(url, access, &Notes)? {
                Found::Here(files) => {
                    files.iter().for_each(|file| println!("{}\t{}", file.name, file.path.display()));
                    continue;
                }
                Found::Stale(reasons) => reasons,
            }
        };
        stale.iter().for_each(|reason| println!("{reason}"));
    }
    Ok(())
}
