//! `pipe keygen`: keys for tokens, surrogates and sealed values, and pairs of keys for sealed rejected records.

use pipe_core::Result;
use pipe_data::scrub::{ScrubKey, unseal};

use crate::cli::KeygenArgs;
use crate::terminal::print_result;

pub(crate) fn command(args: &KeygenArgs) -> Result<u8> {
    let file = args.file.display();
    if args.recipient {
        let public = unseal::new_recipient(&args.file)?;
        // Alone on standard output, for scripts.
        print_result(&public);
        eprintln_note(&format!(
            "{file} opens what is sealed to this key; put the key into `rejects: {{ recipient: … }}`, beside a `scrub: {{ key: … }}`, and the file elsewhere"
        ));
    } else {
        let key = ScrubKey::generate()?;
        key.write_new(&args.file)?;
        print_result(&format!("{file}: key {}", key.id()));
        eprintln_note(&format!("use it by `scrub: {{ key: {{ file: {file} }} }}`; keep a copy: what a lost key sealed stays sealed"));
    }
    Ok(0)
}

/// On standard error, which may be closed.
pub(crate) fn eprintln_note(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
