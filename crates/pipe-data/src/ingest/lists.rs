//! Lists of short texts: the classes of a row, its words, and the tags of its words.
//!
//! A list comes as one (JSON, Parquet), as JSON text of one (CSV that was made of lists), or as plain text: classes with commas
//! between them, words and tags with white space.

use pipe_core::Result as Outcome;
use serde_json::Value as Json;

use crate::read::{Cell, Reason};
use crate::scrub::{ScrubCounts, ScrubbedWords, Scrubber};

use super::value::Value;

/// What a word outside of all that tags mark is tagged with, in every scheme that is in use.
const OUTSIDE: &str = "O";

/// The classes of a row, in no order: none is a valid number of them.
pub(super) fn classes(cell: Cell<'_>) -> Result<Vec<String>, Reason> {
    let classes = match cell {
        Cell::Text(text) => match listed(&text)? {
            Some(items) => items,
            None => text.split(',').map(str::to_owned).collect(),
        },
        Cell::Null => return Err(Reason::EmptyLabel),
        // Where every row of a file has one class, its list may have been left out.
        Cell::Integer(value) => vec![value.to_string()],
        Cell::Float(value) => vec![value.to_string()],
        Cell::Bool(value) => vec![value.to_string()],
        cell => of_nested(cell)?,
    };
    Ok(classes.into_iter().map(trimmed).filter(|class| !class.is_empty()).collect())
}

/// The tags of a row's words. There may be none: whether there are as many as words is seen later.
pub(super) fn tags(cell: Cell<'_>) -> Result<Vec<String>, Reason> {
    let tags = match cell {
        Cell::Text(text) => match listed(&text)? {
            Some(items) => items,
            None => text.split_whitespace().map(str::to_owned).collect(),
        },
        Cell::Null => return Err(Reason::EmptyLabel),
        cell => of_nested(cell)?,
    };
    let tags: Vec<String> = tags.into_iter().map(trimmed).collect();
    if tags.iter().any(String::is_empty) { Err(Reason::EmptyLabel) } else { Ok(tags) }
}

/// The words of a row, those that hold nothing too, since each has its tag: see [`align`]. One at least holds something.
pub(super) fn words(cell: Cell<'_>) -> Result<Vec<String>, Reason> {
    let words = match cell {
        // Words may be brackets and numbers: only a list of strings is surely none of the text.
        Cell::Text(text) => match serde_json::from_str::<Vec<String>>(&text) {
            Ok(items) => items,
            Err(_) => text.split_whitespace().map(str::to_owned).collect(),
        },
        Cell::Null => return Err(Reason::EmptyText),
        cell => of_nested(cell)?,
    };
    let words: Vec<String> = words.into_iter().map(trimmed).collect();
    if words.iter().all(String::is_empty) { Err(Reason::EmptyText) } else { Ok(words) }
}

/// The items of a text that says it is a list. One that is none is no class of that name either: other programs' lists.
fn listed(text: &str) -> Result<Option<Vec<String>>, Reason> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let items: Vec<Json> = serde_json::from_str(text).map_err(|_| Reason::WrongType)?;
    items.into_iter().map(item).collect::<Result<_, _>>().map(Some)
}

fn of_nested(cell: Cell<'_>) -> Result<Vec<String>, Reason> {
    match cell {
        Cell::Nested(Json::Array(items)) => items.into_iter().map(item).collect(),
        Cell::Missing => Err(Reason::MissingColumn),
        _ => Err(Reason::WrongType),
    }
}

/// Numbers as a column of them would be written.
fn item(json: Json) -> Result<String, Reason> {
    match json {
        Json::String(text) => Ok(text),
        Json::Bool(value) => Ok(value.to_string()),
        Json::Number(number) => match (number.is_f64(), number.as_f64()) {
            (true, Some(value)) => Ok(value.to_string()),
            _ => Ok(number.to_string()),
        },
        Json::Null | Json::Array(_) | Json::Object(_) => Err(Reason::WrongType),
    }
}

fn trimmed(text: String) -> String {
    let inner = text.trim();
    if inner.len() < text.len() { inner.to_owned() } else { text }
}

/// Holds tags against words, and takes out words that hold nothing with their tags: no model reads them. `tags` is absent for
/// rows to be scored.
pub(super) fn align(words: &mut Value<'_>, tags: Option<&mut Value<'_>>) -> Result<(), Reason> {
    let Value::Texts(words) = words else { return Ok(()) };
    if let Some(Value::Texts(tags)) = tags {
        if tags.len() != words.len() {
            return Err(Reason::MisalignedTags);
        }
        let mut words = words.iter();
        tags.retain(|_| words.next().is_some_and(|word| !word.is_empty()));
    }
    words.retain(|word| !word.is_empty());
    Ok(())
}

/// What scrubbing made of the words of a row.
pub(super) enum Words {
    /// Whether one has changed.
    Clean(bool),
    /// An operator left nothing of them.
    Gone,
    /// An operator leaves the row out.
    Dropped,
    /// They could not be rid of their values.
    Personal,
}

/// Scrubs words in place, as one text, unless `scrubber` is absent: the column is kept. Tags go by their words.
pub(super) fn scrub(words: &mut Value<'_>, tags: Option<&mut Value<'_>>, scrubber: Option<&Scrubber>, counts: &mut ScrubCounts) -> Outcome<Words> {
    let Value::Texts(words) = words else { return Ok(Words::Gone) };
    let raw = std::mem::take(words);
    let clean = match scrubber {
        Some(scrubber) => match scrubber.scrub_words(raw, counts)? {
            Some(clean) => clean,
            None => return Ok(Words::Personal),
        },
        None => ScrubbedWords::unscrubbed(raw),
    };
    if clean.drop_row {
        return Ok(Words::Dropped);
    }
    if clean.words.is_empty() {
        return Ok(Words::Gone);
    }
    if let Some(Value::Texts(tags)) = tags
        && clean.changed
    {
        *tags = clean.from.iter().filter_map(|from| tag_of(&tags[from.clone()])).cloned().collect();
    }
    *words = clean.words;
    Ok(Words::Clean(clean.changed))
}

/// The tag of a word that several became: what it began as, or what was found in it.
fn tag_of(tags: &[String]) -> Option<&String> {
    tags.iter().find(|tag| *tag != OUTSIDE).filter(|_| tags.first().is_some_and(|first| first == OUTSIDE)).or(tags.first())
}
