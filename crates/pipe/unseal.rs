//! `pipe unseal`: sealed values and sealed rejected records in the clear, for the holder of their key.
//!
//! Nothing is written before it is known that the key opens something: what goes to standard output is read twice, and a
//! file is written aside and renamed.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pipe_core::{Error, IoContext, Result};
use pipe_data::scrub::ScrubKey;
use pipe_data::scrub::unseal::{Unsealer, open_records, parquet_files};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::UnsealArgs;
use crate::keygen::eprintln_note;

pub(crate) fn command(args: &UnsealArgs) -> Result<u8> {
    if let Some(secret) = &args.secret {
        let records = to_output(args, |out, name| open_records(&args.file, secret, out, name))?;
        eprintln_note(&format!("{records} rejected records"));
        return Ok(0);
    }
    let Some(key_file) = &args.key_file else {
        return Err(Error::usage("there is no key").hint("give --key-file FILE, or --secret FILE for rejected records"));
    };
    let key = ScrubKey::from_file(key_file)?;
    let input = Input::open(&args.file)?;
    // First for the counts alone.
    let mut unsealer = Unsealer::new(&key, args.columns.clone());
    input.write(&mut unsealer, std::io::sink(), &args.file)?;
    unsealer.check()?;
    let mut unsealer = Unsealer::new(&key, args.columns.clone());
    match (&input, &args.output) {
        (Input::Table(files), Some(output)) if output.extension().is_some_and(|extension| extension == "parquet") => {
            aside(output, |path| unsealer.table(files, path))?;
        }
        _ => to_output(args, |out, name| input.write(&mut unsealer, out, name))?,
    }
    let refused = if unsealer.refused() > 0 { format!(", {} of another key left as they are", unsealer.refused()) } else { String::new() };
    eprintln_note(&format!("{} values unsealed{refused}", unsealer.opened()));
    Ok(0)
}

enum Input {
    Table(Vec<PathBuf>),
    Lines(File),
}

impl Input {
    fn open(path: &Path) -> Result<Input> {
        if path.as_os_str() == "-" {
            return Ok(Input::Lines(spooled()?));
        }
        if !path.exists() {
            return Err(Error::input(format!("there is no {}", path.display())));
        }
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "parquet") {
            return parquet_files(path).map(Input::Table);
        }
        Ok(Input::Lines(File::open(path).doing("open", path)?))
    }

    fn write(&self, unsealer: &mut Unsealer, out: impl Write, name: &Path) -> Result<()> {
        match self {
            Input::Table(files) => unsealer.table_lines(files, out, name),
            Input::Lines(file) => {
                let mut file = file;
                file.rewind().doing("read", name)?;
                unsealer.lines(BufReader::new(file), name, out, name)
            }
        }
    }
}

/// Standard input in a file that has no name, still sealed: it is read twice.
fn spooled() -> Result<File> {
    let path = std::env::temp_dir().join(format!("pipe-unseal-{}", ulid::Ulid::generate()));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).doing("write", &path)?;
    std::fs::remove_file(&path).doing("remove", &path)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file).doing("write", &path)?;
    Ok(file)
}

/// To `--output`, or to standard output.
fn to_output<T>(args: &UnsealArgs, write: impl FnOnce(&mut dyn Write, &Path) -> Result<T>) -> Result<T> {
    match &args.output {
        Some(output) => aside(output, |path| {
            let file = OpenOptions::new().write(true).truncate(true).open(path).doing("write", path)?;
            write(&mut BufWriter::new(file), output)
        }),
        None => write(&mut BufWriter::new(std::io::stdout().lock()), Path::new("standard output")),
    }
}

/// Writes a file beside `output` and renames it: all of it is there, or nothing, after a signal too. Nobody else can read
/// it at any time.
fn aside<T>(output: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let name = output.file_name().ok_or_else(|| Error::usage("--output names no file"))?.to_string_lossy();
    let path = output.with_file_name(format!(".{name}.{}.part", ulid::Ulid::generate()));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).doing("write", &path)?;
    remove_at_signal(path.clone())?;
    let written = write(&path).and_then(|done| {
        std::fs::rename(&path, output).doing("write", output)?;
        Ok(done)
    });
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&path);
    })
}

/// What is in the clear must not stay behind half written.
fn remove_at_signal(path: PathBuf) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|e| Error::internal(format!("cannot handle signals: {e}")))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = std::fs::remove_file(&path);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
