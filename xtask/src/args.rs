//! The little of argument parsing that xtask needs: flags, options with a value, and nothing left over.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// What follows the subcommand. Each of a command's options is taken out; [`Args::finish`] refuses what remains.
#[derive(Debug)]
pub(crate) struct Args {
    rest: VecDeque<OsString>,
}

impl Args {
    pub(crate) fn new(args: impl IntoIterator<Item = OsString>) -> Self {
        Self { rest: args.into_iter().collect() }
    }

    /// Takes the first argument: the name of the subcommand.
    pub(crate) fn command(&mut self) -> Option<OsString> {
        self.rest.pop_front()
    }

    /// Prints the help of a command, if it is asked for. Only in the first place: further on, `--help` belongs to the
    /// program that is run.
    pub(crate) fn help(&self, text: &str) -> bool {
        let asked = self.rest.front().is_some_and(|arg| arg == "--help" || arg == "-h");
        if asked {
            print!("{text}");
        }
        asked
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let place = self.rest.iter().position(|arg| arg == name);
        place.and_then(|place| self.rest.remove(place)).is_some()
    }

    /// `NAME VALUE`, the value being a path.
    pub(crate) fn path(&mut self, name: &str) -> Result<Option<PathBuf>> {
        let Some(place) = self.rest.iter().position(|arg| arg == name) else { return Ok(None) };
        self.rest.remove(place);
        match self.rest.remove(place) {
            Some(value) => Ok(Some(value.into())),
            None => Err(Error::usage(format!("{name} needs a value"))),
        }
    }

    /// `NAME VALUE`, the value being a whole number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.path(name)? else { return Ok(None) };
        let number = value.to_str().and_then(|value| value.parse().ok());
        number.map(Some).ok_or_else(|| Error::usage(format!("{name} needs a whole number")))
    }

    /// Everything that remains, for the program that is run.
    pub(crate) fn into_rest(self) -> impl Iterator<Item = OsString> {
        self.rest.into_iter()
    }

    pub(crate) fn finish(self) -> Result<()> {
        match self.rest.front() {
            Some(arg) => Err(Error::usage(format!("unexpected argument {}", arg.display()))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(list: &[&str]) -> Args {
        Args::new(list.iter().map(OsString::from))
    }

    #[test]
    fn options_come_in_any_order() {
        let mut args = args(&["--peers", "venv", "--cuda"]);
        assert!(args.flag("--cuda"));
        assert_eq!(args.path("--peers").unwrap(), Some(PathBuf::from("venv")));
        assert!(!args.flag("--cuda"));
        args.finish().unwrap();
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let error = args(&["--cudda"]).finish().unwrap_err().to_string();
        assert!(error.contains("unexpected argument --cudda"), "{error}");
        let error = args(&["--prefix"]).path("--prefix").unwrap_err().to_string();
        assert!(error.contains("--prefix needs a value"), "{error}");
    }
}
