//! The pipeline file as a tree of nodes with positions, before anything is typed.
//!
//! Variables and overrides are applied on this tree, so that every later error still points at the line that
//! caused it. Scalars follow the YAML 1.2 core schema.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::diagnostic::{Problem, SourceId, Span};

/// A value with the place it was written at.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Seq(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A mapping key with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub name: String,
    pub span: Span,
}

impl Value {
    /// What a person calls this value, for "expected …, found …".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true/false",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::String(_) => "text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl Value {
    /// Bytes of text and values in it: what a copy of it costs.
    pub(super) fn weight(&self) -> usize {
        match self {
            Value::String(text) => 1 + text.len(),
            Value::Seq(items) => 1 + items.iter().map(|node| node.value.weight()).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|(key, node)| key.name.len() + node.value.weight()).sum::<usize>(),
            _ => 1,
        }
    }
}

impl Node {
    pub fn new(span: Span, value: Value) -> Self {
        Node { span, value }
    }

    pub fn get(&self, name: &str) -> Option<&Node> {
        self.as_map()?.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    pub fn as_map(&self) -> Option<&[(Key, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// The number of values in it, itself included.
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Seq(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
            _ => 0,
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Seq(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Puts `value` at `path` below this node, making the mappings on the way.
    pub fn set(&mut self, path: &[&str], value: Node) {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { unreachable!("made a mapping above") };
        let at = match entries.iter().position(|(key, _)| key.name == *first) {
            Some(at) => at,
            None => {
                let key = Key { name: (*first).to_owned(), span: value.span };
                entries.push((key, Node::new(value.span, Value::Null)));
                entries.len() - 1
            }
        };
        entries[at].1.set(rest, value);
    }
}

/// Parses one YAML document. `source` names the text in later diagnostics.
pub fn parse(text: &str, source: SourceId) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::new(Span { source, start: 0, end: 0 }, format!("a pipeline file of more than {} KiB", MAX_BYTES >> 10)));
    }
    let offsets = ByteOffsets::new(text);
    let mut builder = Builder { parser: Parser::new_from_str(text), anchors: HashMap::new(), offsets, source, depth: 0, nodes: 0 };
    builder.document()
}

/// saphyr counts characters, everything else here counts bytes.
struct ByteOffsets {
    /// Byte offset of every character, empty when the text is ASCII and both agree.
    table: Vec<usize>,
    len: usize,
}

impl ByteOffsets {
    fn new(text: &str) -> Self {
        let table = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        ByteOffsets { table, len: text.len() }
    }

    fn byte(&self, char_index: usize) -> usize {
        if self.table.is_empty() { char_index.min(self.len) } else { self.table.get(char_index).copied().unwrap_or(self.len) }
    }
}

/// Deeper files are refused: no pipeline needs it, and recursion must end somewhere.
const MAX_DEPTH: usize = 64;
/// Larger ones too, counted after aliases are filled in: a few lines of aliases of aliases would fill any memory.
const MAX_NODES: usize = 20_000;
const MAX_BYTES: usize = 1 << 20;

struct Builder<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    offsets: ByteOffsets,
    source: SourceId,
    depth: usize,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.parser.next_event() {
            None => Err(Problem::new(self.end_span(), "the file ends unexpectedly")),
            Some(Err(error)) => {
                let at = self.offsets.byte(error.marker().index());
                Err(Problem::new(Span { source: self.source, start: at, end: at }, format!("not valid YAML: {}", error.info())))
            }
            Some(Ok((event, span))) => {
                let (start, end) = (self.offsets.byte(span.start.index()), self.offsets.byte(span.end.index()));
                Ok((event, Span { source: self.source, start, end: end.max(start) }))
            }
        }
    }

    fn end_span(&self) -> Span {
        Span { source: self.source, start: self.offsets.len, end: self.offsets.len }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Problem::new(span, "a pipeline file holds one YAML document, this is a second one"));
                }
                Event::DocumentStart(_) => {}
                Event::StreamEnd => return Ok(root.unwrap_or_else(|| Node::new(self.end_span(), Value::Null))),
                other => root = Some(self.node(other, span)?),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node, Problem> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.count(1, span)?;
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let found = self.anchors.get(&id).ok_or_else(|| Problem::new(span, "this alias has no anchor before it"))?;
                let size = found.size();
                if self.depth + found.depth() > MAX_DEPTH {
                    return Err(too_deep(span));
                }
                let node = found.clone();
                self.count(size, span)?;
                (node, 0)
            }
            Event::Scalar(text, style, anchor, _) => {
                let value = if style == ScalarStyle::Plain { plain_scalar(&text) } else { Value::String(text.into_owned()) };
                (Node::new(span, value), anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(span)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(span)?, anchor),
            _ => return Err(Problem::new(span, "not valid YAML here")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.depth -= 1;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(Problem::new(span, format!("a pipeline file of more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn sequence(&mut self, start: Span) -> Result<Node, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Node::new(start.to(span), Value::Seq(items)));
            }
            items.push(self.node(event, span)?);
        }
    }

    fn mapping(&mut self, start: Span) -> Result<Node, Problem> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut names = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(Node::new(start.to(span), Value::Map(entries))),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Problem::new(span, "a key must be a plain word")),
            };
            if !names.insert(name.clone()) {
                return Err(Problem::new(span, format!("`{name}` stands twice in the same mapping")).hint("remove one of the two"));
            }
            let (event, value_span) = self.next()?;
            let node = self.node(event, value_span)?;
            entries.push((Key { name, span }, node));
        }
    }
}

fn too_deep(span: Span) -> Problem {
    Problem::new(span, format!("nested more than {MAX_DEPTH} levels deep"))
}

/// YAML 1.2 core schema.
pub(super) fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+')) {
        return Value::String(text.to_owned());
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Int);
    }
    let starts_as_number = digits.starts_with(|c: char| c.is_ascii_digit()) || digits[1..].starts_with(|c: char| c.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(number) if starts_as_number && number.is_finite() => Value::Float(number),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        parse(text, SourceId::FILE).unwrap().value
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        assert_eq!(value("5e-5"), Value::Float(5e-5));
        assert_eq!(value("5.0e-5"), Value::Float(5e-5));
        assert_eq!(value("-3"), Value::Int(-3));
        assert_eq!(value("yes"), Value::String("yes".into()));
        assert_eq!(value("\"3\""), Value::String("3".into()));
        assert_eq!(value("1.2.3"), Value::String("1.2.3".into()));
        assert_eq!(value("e5"), Value::String("e5".into()));
        assert_eq!(value("-"), Value::Seq(vec![Node::new(Span { source: SourceId::FILE, start: 1, end: 1 }, Value::Null)]));
        assert_eq!(value("2024-01-02"), Value::String("2024-01-02".into()));
    }

    #[test]
    fn spans_are_bytes_even_after_chinese_text() {
        let text = "名: 文\nkey: value\n";
        let root = parse(text, SourceId::FILE).unwrap();
        let span = root.get("key").unwrap().span;
        assert_eq!(&text[span.start..span.end], "value");
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let problem = parse("a: 1\na: 2\n", SourceId::FILE).unwrap_err();
        assert!(problem.message.contains("`a` stands twice"));
    }

    #[test]
    fn a_bottomless_file_is_refused() {
        assert!(parse(&"[".repeat(500), SourceId::FILE).is_err());
        // Nine lines that stand for a billion values.
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
        }
        assert!(parse(&text, SourceId::FILE).unwrap_err().message.contains("more than 20000 values"));
    }
}
