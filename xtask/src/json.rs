//! Reading JSON: run records, peers' results and cargo's metadata.
//!
//! xtask does without dependencies so that set-up starts within seconds; what it reads was written by programs, so this
//! reader takes all of JSON but need not be fast, and says only where it stopped.

use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Json>),
    /// In the order of the text; there are few enough members to search.
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value()?;
        parser.skip_space();
        if parser.at == text.len() { Ok(value) } else { parser.fail() }
    }

    /// A member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(Self::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn string(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Self::String(string)) => Some(string),
            _ => None,
        }
    }

    /// The elements of an array member; none when there is no such array.
    pub(crate) fn array(&self, name: &str) -> &[Self] {
        match self.get(name) {
            Some(Self::Array(elements)) => elements,
            _ => &[],
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes, always between two characters.
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self) -> Result<Json> {
        self.skip_space();
        match self.rest().bytes().next() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.take("null") => Ok(Json::Null),
            _ if self.take("true") => Ok(Json::Bool(true)),
            _ if self.take("false") => Ok(Json::Bool(false)),
            _ => self.fail(),
        }
    }

    fn object(&mut self) -> Result<Json> {
        let mut members = Vec::new();
        self.sequence("{", "}", |parser| {
            parser.skip_space();
            let name = parser.string()?;
            parser.skip_space();
            if !parser.take(":") {
                return parser.fail();
            }
            members.push((name, parser.value()?));
            Ok(())
        })?;
        Ok(Json::Object(members))
    }

    fn array(&mut self) -> Result<Json> {
        let mut elements = Vec::new();
        self.sequence("[", "]", |parser| {
            elements.push(parser.value()?);
            Ok(())
        })?;
        Ok(Json::Array(elements))
    }

    /// Elements with commas between them, in brackets.
    fn sequence(&mut self, open: &str, close: &str, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if !self.take(open) {
            return self.fail();
        }
        self.skip_space();
        if self.take(close) {
            return Ok(());
        }
        loop {
            element(self)?;
            self.skip_space();
            if self.take(close) {
                return Ok(());
            }
            if !self.take(",") {
                return self.fail();
            }
        }
    }

    fn string(&mut self) -> Result<String> {
        if !self.take("\"") {
            return self.fail();
        }
        let mut string = String::new();
        loop {
            let Some(special) = self.rest().find(['"', '\\']) else { return self.fail() };
            string.push_str(&self.rest()[..special]);
            self.at += special;
            if self.take("\"") {
                return Ok(string);
            }
            string.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char> {
        const SIMPLE: [(&str, char); 8] =
            [("\\\"", '"'), ("\\\\", '\\'), ("\\/", '/'), ("\\b", '\u{8}'), ("\\f", '\u{c}'), ("\\n", '\n'), ("\\r", '\r'), ("\\t", '\t')];
        if let Some((_, char)) = SIMPLE.iter().find(|(escape, _)| self.take(escape)) {
            return Ok(*char);
        }
        let first = self.code_unit()?;
        let units = match first {
            0xd800..0xdc00 => vec![first, self.code_unit()?],
            _ => vec![first],
        };
        // A lone half of a pair stands for no character.
        Ok(char::decode_utf16(units).next().and_then(std::result::Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn code_unit(&mut self) -> Result<u16> {
        if !self.take("\\u") {
            return self.fail();
        }
        let digits = self.rest().get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let Some(unit) = digits else { return self.fail() };
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Result<Json> {
        let rest = self.rest();
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let Ok(number) = rest[..end].parse() else { return self.fail() };
        self.at += end;
        Ok(Json::Number(number))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, token: &str) -> bool {
        let there = self.rest().starts_with(token);
        if there {
            self.at += token.len();
        }
        there
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn fail<T>(&self) -> Result<T> {
        Err(Error::new(format!("this is not JSON from byte {} on", self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_record_is_read() {
        let text = r#" {"id": "01J", "ok": true, "none": null,
            "stages": [{"name": "in\u0067est", "seconds": 1.25e0, "rows": 38158, "summary": {}}, {"seconds": -2}]} "#;
        let record = Json::parse(text).unwrap();
        assert_eq!(record.string("id"), Some("01J"));
        let stages = record.array("stages");
        assert_eq!(stages[0].string("name"), Some("ingest"));
        assert_eq!(stages[0].number("seconds"), Some(1.25));
        assert_eq!(stages[1].number("seconds"), Some(-2.0));
        assert_eq!(stages[0].get("summary"), Some(&Json::Object(vec![])));
        assert!(record.array("nothing").is_empty());
    }

    #[test]
    fn escapes_are_undone() {
        let value = Json::parse(r#""a\"\\\/\n\u00e9\ud83d\ude00 \ud83d\u0041""#).unwrap();
        assert_eq!(value, Json::String("a\"\\/\né😀 \u{fffd}".to_owned()));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "[1,]", "{\"a\" 1}", "\"a", "nul", "1 2", "--1", "\"\\u12\"", "\"\\x\"", "{a: 1}"] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }
}
