//! Serde over [`Node`]s: errors know the place of the key or value that caused them.

use std::fmt;

use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};

use super::diagnostic::{Problem, Span, suggestion};
use super::node::{Key, Node, Value};

/// Reads `node` as a `T`.
pub fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(NodeDeserializer(node)).map_err(|error| {
        let problem = Problem::new(error.span.unwrap_or(node.span), error.message);
        problem.maybe_hint(error.hint)
    })
}

#[derive(Debug)]
struct DeError {
    message: String,
    hint: Option<String>,
    span: Option<Span>,
}

impl DeError {
    fn at(mut self, span: Span) -> Self {
        self.span.get_or_insert(span);
        self
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        DeError { message: message.to_string(), hint: None, span: None }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        DeError { message: format!("unknown key `{field}`"), hint: suggestion(field, expected), span: None }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        DeError { message: format!("`{variant}` is not one of the possible values"), hint: suggestion(variant, expected), span: None }
    }

    fn missing_field(field: &'static str) -> Self {
        DeError { message: format!("the key `{field}` is missing"), hint: Some(format!("add `{field}: …` here")), span: None }
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            de::Unexpected::Str(_) => "text",
            de::Unexpected::Signed(_) | de::Unexpected::Unsigned(_) => "an integer",
            de::Unexpected::Float(_) => "a number with a fraction",
            de::Unexpected::Bool(_) => "true/false",
            de::Unexpected::Seq => "a list",
            de::Unexpected::Map => "a mapping",
            _ => "nothing",
        };
        DeError { message: format!("expected {}, found {found}", plain_words(&expected.to_string())), hint: None, span: None }
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        DeError { message: format!("expected {}", plain_words(&expected.to_string())), hint: None, span: None }
    }
}

/// Serde names Rust types; the reader of a pipeline file knows none.
fn plain_words(expected: &str) -> String {
    match expected {
        "f64" | "f32" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" => "text".into(),
        "a sequence" => "a list".into(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer that is not negative".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer".into(),
        other if other.starts_with("struct ") => "a mapping of settings".into(),
        other => other.into(),
    }
}

struct NodeDeserializer<'n>(&'n Node);

impl NodeDeserializer<'_> {
    /// Where a number or true/false is wanted, a text that is one will do: the environment has nothing but texts.
    fn scalar<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        if let Value::String(text) = &self.0.value {
            let value = super::node::plain_scalar(text);
            if matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_)) {
                return de::Deserializer::deserialize_any(NodeDeserializer(&Node::new(self.0.span, value)), visitor);
            }
        }
        de::Deserializer::deserialize_any(self, visitor)
    }
}

impl<'de> de::Deserializer<'de> for NodeDeserializer<'_> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let span = self.0.span;
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::Seq(items) => visitor.visit_seq(SeqAccess(items.iter())),
            Value::Map(entries) => visitor.visit_map(MapAccess { entries: entries.iter(), value: None }),
        }
        .map_err(|error| error.at(span))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.scalar(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.scalar(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.scalar(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.scalar(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.0.value {
            // `weight_decay: 0` is as good as `0.0`.
            Value::Int(value) => visitor.visit_f64(value as f64).map_err(|e: DeError| e.at(self.0.span)),
            _ => self.scalar(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, DeError> {
        match self.0.value {
            // `with:` left empty means all defaults.
            Value::Null => visitor.visit_map(MapAccess { entries: [].iter(), value: None }).map_err(|e: DeError| e.at(self.0.span)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, DeError> {
        let span = self.0.span;
        match &self.0.value {
            Value::String(name) => {
                let name: de::value::StrDeserializer<'_, DeError> = name.as_str().into_deserializer();
                visitor.visit_enum(name).map_err(|error| error.at(span))
            }
            other => Err(DeError { message: format!("expected one word, found {}", other.kind()), hint: None, span: Some(span) }),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct SeqAccess<'n>(std::slice::Iter<'n, Node>);

impl<'de> de::SeqAccess<'de> for SeqAccess<'_> {
    type Error = DeError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        self.0.next().map(|node| seed.deserialize(NodeDeserializer(node))).transpose()
    }
}

struct MapAccess<'n> {
    entries: std::slice::Iter<'n, (Key, Node)>,
    value: Option<&'n Node>,
}

impl<'de> de::MapAccess<'de> for MapAccess<'_> {
    type Error = DeError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        self.value = Some(node);
        let name: de::value::StrDeserializer<'_, DeError> = key.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|error| error.at(key.span))
    }

    fn next_value_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeError> {
        let node = self.value.take().expect("serde asks for a key before its value");
        seed.deserialize(NodeDeserializer(node))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{diagnostic::SourceId, node::parse};
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        learning_rate: f64,
        epochs: Option<u32>,
        names: Vec<String>,
    }

    fn read(text: &str) -> Result<Settings, Problem> {
        from_node(&parse(text, SourceId::FILE).unwrap())
    }

    #[test]
    fn integers_are_numbers_and_null_is_none() {
        let texts = read("{learning_rate: '3e-5', epochs: '2', names: ['7']}").unwrap();
        assert_eq!(texts, Settings { learning_rate: 3e-5, epochs: Some(2), names: vec!["7".into()] });
        let settings = read("{learning_rate: 1, epochs: , names: [a]}").unwrap();
        assert_eq!(settings, Settings { learning_rate: 1.0, epochs: None, names: vec!["a".into()] });
    }

    #[test]
    fn an_unknown_key_points_at_the_key() {
        let text = "learning_rat: 1";
        let problem = read(text).unwrap_err();
        assert_eq!(&text[problem.span.start..problem.span.end], "learning_rat");
        assert_eq!(problem.hint.as_deref(), Some("did you mean `learning_rate`?"));
    }

    #[test]
    fn a_wrong_type_points_at_the_value() {
        let text = "learning_rate: fast";
        let problem = read(text).unwrap_err();
        assert_eq!(&text[problem.span.start..problem.span.end], "fast");
        assert_eq!(problem.message, "expected a number, found text");
    }
}
