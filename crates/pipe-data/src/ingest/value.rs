//! A cell of the source to a value of the type that its column has, or the reason why it is none.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use pipe_core::config::ColumnType;
use serde_json::Value as Json;

use crate::read::{Cell, Reason};
use crate::scrub::joined;

use super::columns::{Column, Kind};
use super::lists;

/// Names of roles in chats are short words, never text.
const MAX_ROLE_BYTES: usize = 32;

/// A value of one row and column, not scrubbed yet. No `Debug`: it holds raw text.
pub(super) enum Value<'c> {
    Null,
    Text(Cow<'c, str>),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Microseconds since 1970, UTC.
    Time(i64),
    Json(Json),
    Answers(Vec<Answer>),
    Messages(Vec<Message>),
    /// Classes, words or the tags of words.
    Texts(Vec<String>),
}

/// An answer and where it begins in its context, in characters.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) start: usize,
}

pub(super) struct Message {
    pub(super) role: String,
    pub(super) content: String,
}

/// What a column makes of a cell. Emptiness counts as the kind of the column says.
pub(super) fn of_cell<'c>(cell: &mut Cell<'c>, kind: Kind) -> Result<Value<'c>, Reason> {
    let cell = std::mem::replace(cell, Cell::Null);
    match kind {
        Kind::Text => match text(cell, false)? {
            Some(text) if !text.trim().is_empty() => Ok(Value::Text(text)),
            _ => Err(Reason::EmptyText),
        },
        Kind::OptionalText => Ok(text(cell, false)?.map_or(Value::Null, Value::Text)),
        Kind::Id | Kind::Group => Ok(text(cell, true)?.filter(|value| !value.is_empty()).map_or(Value::Null, Value::Text)),
        Kind::Label => match text(cell, true)?.map(trimmed) {
            Some(label) if !label.is_empty() => Ok(Value::Text(label)),
            _ => Err(Reason::EmptyLabel),
        },
        Kind::Labels => lists::classes(cell).map(Value::Texts),
        Kind::Value if cell == Cell::Missing => Err(Reason::MissingColumn),
        Kind::Value => match extra(cell, ColumnType::Float)? {
            // One zero, however it was written.
            Value::Float(number) if number.abs() <= f32::MAX.into() => Ok(Value::Float(number + 0.0)),
            // Models compute in 32 bits.
            Value::Float(_) => Err(Reason::WrongType),
            _ => Err(Reason::MissingValue),
        },
        Kind::Tokens => lists::words(cell).map(Value::Texts),
        Kind::Tags => lists::tags(cell).map(Value::Texts),
        Kind::Time => time(cell).map(Value::Time),
        Kind::Answers => match nested(cell)? {
            Some(answers) => answers_of(answers).map(Value::Answers),
            None => Err(Reason::InvalidAnswers),
        },
        Kind::Messages => match nested(cell)? {
            Some(messages) => messages_of(messages).map(Value::Messages),
            None => Err(Reason::InvalidMessages),
        },
        Kind::Extra { of, required } => match extra(cell, of)? {
            Value::Null if required => Err(Reason::MissingValue),
            value => Ok(value),
        },
    }
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() < text.len() => Cow::Owned(text.trim().to_owned()),
        owned => owned,
    }
}

/// `plain` takes numbers and true/false too, as they are written.
fn text(cell: Cell<'_>, plain: bool) -> Result<Option<Cow<'_, str>>, Reason> {
    match cell {
        Cell::Text(text) => Ok(Some(text)),
        Cell::Null => Ok(None),
        Cell::Missing => Err(Reason::MissingColumn),
        Cell::Integer(value) if plain => Ok(Some(Cow::Owned(value.to_string()))),
        Cell::Float(value) if plain => Ok(Some(Cow::Owned(value.to_string()))),
        Cell::Bool(value) if plain => Ok(Some(Cow::Owned(value.to_string()))),
        Cell::Integer(_) | Cell::Float(_) | Cell::Bool(_) | Cell::Nested(_) => Err(Reason::WrongType),
    }
}

/// Lists and structs, or JSON text of them, as CSV has it.
fn nested(cell: Cell<'_>) -> Result<Option<Json>, Reason> {
    match cell {
        Cell::Nested(value) => Ok(Some(value)),
        Cell::Text(text) => serde_json::from_str(&text).map(Some).map_err(|_| Reason::WrongType),
        Cell::Null => Ok(None),
        Cell::Missing => Err(Reason::MissingColumn),
        Cell::Integer(_) | Cell::Float(_) | Cell::Bool(_) => Err(Reason::WrongType),
    }
}

fn extra<'c>(cell: Cell<'c>, of: ColumnType) -> Result<Value<'c>, Reason> {
    let cell = match cell {
        Cell::Null | Cell::Missing => return Ok(Value::Null),
        // In CSV nothing else can stand for a missing value.
        Cell::Text(text) if text.trim().is_empty() && of != ColumnType::String => return Ok(Value::Null),
        cell => cell,
    };
    match of {
        ColumnType::String => Ok(text(cell, true)?.map_or(Value::Null, Value::Text)),
        ColumnType::Integer => integer(&cell).map(Value::Integer).ok_or(Reason::WrongType),
        ColumnType::Float => float(&cell).map(Value::Float).ok_or(Reason::WrongType),
        ColumnType::Boolean => boolean(&cell).map(Value::Boolean).ok_or(Reason::WrongType),
        ColumnType::Time => time(cell).map(Value::Time),
        ColumnType::Json => match cell {
            Cell::Nested(value) => Ok(Value::Json(value)),
            Cell::Text(text) => Ok(Value::Json(serde_json::from_str(&text).unwrap_or_else(|_| Json::String(text.into_owned())))),
            Cell::Integer(value) => Ok(Value::Json(i64::try_from(value).map_or_else(|_| Json::String(value.to_string()), Json::from))),
            Cell::Float(value) => Ok(Value::Json(Json::from(value))),
            Cell::Bool(value) => Ok(Value::Json(Json::Bool(value))),
            Cell::Null | Cell::Missing => Ok(Value::Null),
        },
    }
}

fn integer(cell: &Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Integer(value) => i64::try_from(*value).ok(),
        // Spreadsheets and pandas write 3.0 where a column has gaps; up to 2^53 that is exact.
        Cell::Float(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => Some(*value as i64),
        Cell::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn float(cell: &Cell<'_>) -> Option<f64> {
    let value = match cell {
        Cell::Float(value) => Some(*value),
        Cell::Integer(value) => Some(*value as f64),
        Cell::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    value.filter(|value: &f64| value.is_finite())
}

fn boolean(cell: &Cell<'_>) -> Option<bool> {
    match cell {
        Cell::Bool(value) => Some(*value),
        Cell::Integer(0) => Some(false),
        Cell::Integer(1) => Some(true),
        Cell::Text(text) => match text.trim() {
            "true" | "True" | "TRUE" | "1" => Some(true),
            "false" | "False" | "FALSE" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// RFC 3339, a date or a date with a time (taken as UTC), or seconds since 1970.
fn time(cell: Cell<'_>) -> Result<i64, Reason> {
    let seconds = |seconds: f64| {
        let micros = (seconds * 1e6).round();
        // The years that an Arrow timestamp of microseconds and every reader of it can show.
        (micros.abs() < 2.5e17).then_some(micros as i64)
    };
    let micros = match cell {
        Cell::Integer(value) => i64::try_from(value).ok().and_then(|value| seconds(value as f64)),
        Cell::Float(value) => seconds(value),
        Cell::Text(text) => {
            let text = text.trim();
            let utc = |at: DateTime| TimeZone::UTC.to_timestamp(at).ok();
            let stamp =
                text.parse::<Timestamp>().ok().or_else(|| utc(text.parse::<DateTime>().ok()?)).or_else(|| utc(text.parse::<Date>().ok()?.into()));
            match stamp {
                Some(stamp) => Some(stamp.as_microsecond()),
                None => text.parse().ok().and_then(seconds),
            }
        }
        Cell::Null => return Err(Reason::InvalidTime),
        Cell::Missing => return Err(Reason::MissingColumn),
        Cell::Bool(_) | Cell::Nested(_) => None,
    };
    micros.ok_or(Reason::InvalidTime)
}

/// `{"text": […], "answer_start": […]}`, single values instead of lists too, or a list of `{"text", "answer_start"}`.
fn answers_of(json: Json) -> Result<Vec<Answer>, Reason> {
    fn list(json: Json) -> Vec<Json> {
        match json {
            Json::Array(items) => items,
            Json::Null => Vec::new(),
            single => vec![single],
        }
    }
    fn answer(text: Json, start: &Json) -> Result<Answer, Reason> {
        let (Json::String(text), Some(start)) = (text, start.as_u64()) else { return Err(Reason::InvalidAnswers) };
        // Arrow and SQuAD have 32 bits for it.
        if text.is_empty() || start > i32::MAX as u64 {
            return Err(Reason::InvalidAnswers);
        }
        Ok(Answer { text, start: start as usize })
    }
    let field = |json: &mut Json, name: &str| json.get_mut(name).map(Json::take).ok_or(Reason::InvalidAnswers);
    match json {
        Json::Array(items) => items
            .into_iter()
            .map(|mut item| {
                let text = field(&mut item, "text")?;
                answer(text, &field(&mut item, "answer_start")?)
            })
            .collect(),
        mut json => {
            let (texts, starts) = (list(field(&mut json, "text")?), list(field(&mut json, "answer_start")?));
            if texts.len() != starts.len() {
                return Err(Reason::InvalidAnswers);
            }
            texts.into_iter().zip(&starts).map(|(text, start)| answer(text, start)).collect()
        }
    }
}

/// `[{"role": …, "content": …}, …]`
fn messages_of(json: Json) -> Result<Vec<Message>, Reason> {
    let Json::Array(items) = json else { return Err(Reason::InvalidMessages) };
    if items.is_empty() {
        return Err(Reason::InvalidMessages);
    }
    let message = |mut item: Json| {
        let mut text = |name: &str| match item.get_mut(name).map(Json::take) {
            Some(Json::String(text)) => Ok(text),
            _ => Err(Reason::InvalidMessages),
        };
        let (role, content) = (text("role")?, text("content")?);
        let word = role.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'-');
        if role.is_empty() || role.len() > MAX_ROLE_BYTES || !word {
            return Err(Reason::InvalidMessages);
        }
        Ok(Message { role, content })
    };
    items.into_iter().map(message).collect()
}

/// What a column of one value holds on every row.
pub(super) fn constant_cell(constant: &Json) -> Cell<'static> {
    match constant {
        Json::Null => Cell::Null,
        Json::Bool(value) => Cell::Bool(*value),
        Json::String(text) => Cell::Text(Cow::Owned(text.clone())),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Cell::Integer(value.into()),
            (None, Some(value)) => Cell::Float(value),
            (None, None) => Cell::Null,
        },
        nested => Cell::Nested(nested.clone()),
    }
}

/// Calls `f` with the texts that a model reads, in the order of the columns. A missing second text is no part.
pub(super) fn with_contents<T>(columns: &[Column], values: &[Value<'_>], f: impl FnOnce(&[&str]) -> T) -> T {
    // Words are the text that they make.
    let words = values.iter().zip(columns).find_map(|(value, column)| match value {
        Value::Texts(words) if column.kind == Kind::Tokens => Some(joined(words)),
        _ => None,
    });
    let mut parts: Vec<&str> = Vec::with_capacity(4);
    for (value, column) in values.iter().zip(columns).filter(|(_, column)| column.is_content()) {
        match value {
            Value::Text(text) => parts.push(text),
            Value::Messages(messages) => parts.extend(messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()])),
            Value::Texts(_) => parts.extend(words.as_deref()),
            // Between two texts its place has to be told.
            _ if column.kind != Kind::OptionalText => parts.push(""),
            _ => {}
        }
    }
    f(&parts)
}

/// What an operator that takes a whole value takes; absent for no value.
pub(super) fn as_text<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    Some(match value {
        Value::Null => return None,
        Value::Text(text) => Cow::Borrowed(text),
        Value::Integer(number) => Cow::Owned(number.to_string()),
        Value::Float(number) => Cow::Owned(number.to_string()),
        Value::Boolean(value) => Cow::Owned(value.to_string()),
        Value::Time(micros) => Cow::Owned(micros.to_string()),
        Value::Json(json) => Cow::Owned(json.to_string()),
        Value::Answers(_) | Value::Messages(_) | Value::Texts(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seconds(cell: Cell<'_>) -> Option<f64> {
        time(cell).ok().map(|micros| micros as f64 / 1e6)
    }

    #[test]
    fn times_are_read_in_every_usual_form() {
        let text = |text: &'static str| seconds(Cell::Text(text.into()));
        assert_eq!(text("2024-03-15T10:30:00Z"), Some(1_710_498_600.0));
        assert_eq!(text("2024-03-15T18:30:00+08:00"), Some(1_710_498_600.0));
        assert_eq!(text("2024-03-15 10:30:00"), Some(1_710_498_600.0));
        assert_eq!(text("2024-03-15"), Some(1_710_460_800.0));
        assert_eq!(text("1710498600"), Some(1_710_498_600.0));
        assert_eq!(seconds(Cell::Integer(-1)), Some(-1.0));
        assert_eq!(seconds(Cell::Float(0.25)), Some(0.25));
        for bad in ["", "yesterday", "2024-13-01", "inf", "1e300"] {
            assert_eq!(text(bad), None, "{bad}");
        }
        assert_eq!(seconds(Cell::Null), None);
    }

    #[test]
    fn answers_come_as_lists_or_one_by_one() {
        let read = |json: Json| answers_of(json).map(|answers| answers.into_iter().map(|a| (a.text, a.start)).collect::<Vec<_>>()).ok();
        let one = Some(vec![("ab".to_owned(), 3)]);
        assert_eq!(read(json!({"text": ["ab"], "answer_start": [3]})), one);
        assert_eq!(read(json!({"text": "ab", "answer_start": 3})), one);
        assert_eq!(read(json!([{"text": "ab", "answer_start": 3}])), one);
        assert_eq!(read(json!({"text": [], "answer_start": []})), Some(vec![]));
        for bad in [json!({"text": ["ab"], "answer_start": []}), json!({"text": ["ab"]}), json!("ab"), json!({"text": [1], "answer_start": [1]})] {
            assert!(read(bad).is_none());
        }
    }

    #[test]
    fn numbers_are_taken_where_they_lose_nothing() {
        assert_eq!(integer(&Cell::Float(3.0)), Some(3));
        assert_eq!(integer(&Cell::Float(3.5)), None);
        assert_eq!(integer(&Cell::Text(" 12 ".into())), Some(12));
        assert_eq!(integer(&Cell::Integer(i128::MAX)), None);
        assert_eq!(float(&Cell::Text("nan".into())), None);
        assert_eq!(boolean(&Cell::Text("True".into())), Some(true));
        assert_eq!(boolean(&Cell::Integer(2)), None);
    }
}
