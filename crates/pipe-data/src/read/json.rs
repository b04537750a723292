//! One JSON object to the cells of the wanted keys: one pass, nothing allocated but what must be.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::names::KeyCounter;
use super::wanted::Wanted;
use super::{Cell, Reason};

/// Lists and objects within one another, the record itself included: serde_json follows 127.
const MAX_DEPTH: usize = 127;
/// From here on not every integer is a float.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Fills `cells`, which are all missing, with the values of the wanted keys in `text`. On failure: the position of the
/// column at fault, where one is.
pub(super) fn cells_of<'t>(text: &'t str, wanted: &Wanted, cells: &mut [Cell<'t>], keys: &mut KeyCounter<'_>) -> Result<(), (Option<usize>, Reason)> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut twice = None;
    let mut inexact = false;
    keys.begin_record();
    let record = Record { wanted, cells, keys, twice: &mut twice, inexact: &mut inexact };
    let read = deserializer.deserialize_map(record).and_then(|()| deserializer.end());
    if read.is_err() {
        return Err((None, if depth(text) > MAX_DEPTH { Reason::TooDeep } else { Reason::InvalidJson }));
    }
    if let Some(at) = twice {
        return Err((Some(at), Reason::DuplicateKey));
    }
    if inexact {
        exact_integers(text, wanted, cells);
    }
    Ok(())
}

struct Record<'r, 't, 'n> {
    wanted: &'r Wanted,
    cells: &'r mut [Cell<'t>],
    keys: &'r mut KeyCounter<'n>,
    twice: &'r mut Option<usize>,
    inexact: &'r mut bool,
}

impl<'t> Visitor<'t> for Record<'_, 't, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(at) = map.next_key_seed(Key { wanted: self.wanted, keys: self.keys })? {
            let Some(at) = at else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if !matches!(self.cells[at], Cell::Missing) {
                *self.twice = Some(at);
            }
            let cell = map.next_value_seed(CellSeed)?;
            if let Cell::Float(value) = cell {
                *self.inexact |= value.abs() >= MAX_EXACT;
            }
            self.cells[at] = cell;
        }
        Ok(())
    }
}

/// Whether a key is wanted, and where.
struct Key<'r, 'n> {
    wanted: &'r Wanted,
    keys: &'r mut KeyCounter<'n>,
}

impl<'t> DeserializeSeed<'t> for Key<'_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        self.keys.count(key);
        Ok(self.wanted.columns.iter().position(|column| column.name == key))
    }
}

struct CellSeed;

impl<'t> DeserializeSeed<'t> for CellSeed {
    type Value = Cell<'t>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Cell<'t>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for CellSeed {
    type Value = Cell<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Cell<'t>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cell<'t>, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Cell<'t>, E> {
        Ok(Cell::Integer(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Cell<'t>, E> {
        Ok(Cell::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Cell<'t>, E> {
        Ok(Cell::Float(number))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cell<'t>, E> {
        Ok(Cell::Bool(value))
    }

    fn visit_unit<E>(self) -> Result<Cell<'t>, E> {
        Ok(Cell::Null)
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Cell<'t>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Cell::Nested(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Cell<'t>, A::Error> {
        let mut values = serde_json::Map::new();
        while let Some((key, value)) = map.next_entry()? {
            if values.insert(key, value).is_some() {
                return Err(A::Error::custom("a key twice"));
            }
        }
        Ok(Cell::Nested(Value::Object(values)))
    }
}

/// Integers that a float does not hold, such as long ids, once more from their digits.
fn exact_integers(text: &str, wanted: &Wanted, cells: &mut [Cell<'_>]) {
    let Ok(values) = serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(text) else { return };
    for (column, cell) in wanted.columns.iter().zip(cells) {
        if matches!(cell, Cell::Float(_))
            && let Some(exact) = values.get(column.name.as_str()).and_then(|value| value.get().parse().ok())
        {
            *cell = Cell::Integer(exact);
        }
    }
}

/// How many brackets are within one another, those in strings left aside.
fn depth(text: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                most = most.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::super::KeyNames;
    use super::*;

    /// The cells of `a` and `b`.
    fn cells(text: &str) -> Result<[Cell<'_>; 2], (Option<usize>, Reason)> {
        let mut names = KeyNames::default();
        let mut cells = [Cell::Missing, Cell::Missing];
        let wanted = Wanted::new(vec!["a".into(), "b".into()]);
        cells_of(text, &wanted, &mut cells, &mut KeyCounter::new(&mut names)).map(|()| cells)
    }

    fn text(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    #[track_caller]
    fn gives(json: &str, expected: [Cell<'_>; 2]) {
        assert!(cells(json) == Ok(expected), "{json}");
    }

    #[test]
    fn values_are_what_the_object_says() {
        gives(r#"{"a": "x", "c": [1, {"b": 2}], "b": 7}"#, [text("x"), Cell::Integer(7)]);
        gives(r#"{"\u0061": "x\n\u597d", "b": null}"#, [text("x\n好"), Cell::Null]);
        gives(r#" {"a": -1.5, "b": false} "#, [Cell::Float(-1.5), Cell::Bool(false)]);
        gives("{}", [Cell::Missing, Cell::Missing]);
        gives(r#"{"a": [1, {"k": "v"}]}"#, [Cell::Nested(serde_json::json!([1, {"k": "v"}])), Cell::Missing]);
        gives(
            r#"{"a": 123456789012345678901234567890, "b": 18446744073709551616}"#,
            [Cell::Integer(123_456_789_012_345_678_901_234_567_890), Cell::Integer(1 << 64)],
        );
        gives(r#"{"a": 1e300, "b": 1e2}"#, [Cell::Float(1e300), Cell::Float(100.0)]);
    }

    #[test]
    fn what_is_wrong_is_one_of_a_few_things() {
        let deep = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(cells(&deep(100)).is_ok());
        assert!(cells(&deep(5000)).is_err_and(|e| e == (None, Reason::TooDeep)));
        for bad in
            ["", "[1]", "5", "{\"a\": 1", "{\"a\": 1}}", "{\"a\": \"\\ud800\"}", "{\"a\": 01}", "{\"a\": NaN}", "{\"a\": \"\u{0}\"}", "{'a': 1}"]
        {
            assert!(cells(bad).is_err_and(|e| e == (None, Reason::InvalidJson)), "{bad}");
        }
        assert!(cells(r#"{"b": 1, "b": 2}"#).is_err_and(|e| e == (Some(1), Reason::DuplicateKey)));
        assert!(cells(r#"{"c": 1, "c": 2}"#).is_ok());
    }
}
