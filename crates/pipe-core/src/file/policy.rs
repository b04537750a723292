//! A scrub policy's file: which types are looked for, what takes their place, patterns and exceptions of one's own.
//!
//! ```yaml
//! version: 1
//! extends: standard
//! strict: false
//! entities: { email: surrogate, phone: { operator: mask, keep_last: 4 }, ip_address: keep, url: off }
//! patterns:
//!   - { name: ticket_id, regex: 'TICKET-[0-9]{6}', operator: hmac, context: [ticket, case] }
//! allow: { values: [support@example.com], patterns: ['400-[0-9]{3}-[0-9]{4}'] }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::diagnostic::{Problem, SourceId, Sources, Span, suggestion};
use super::node::{Node, Value, parse};
use super::{MAX_PROBLEMS, VERSION, from_node};
use crate::config::{ENTITIES, EntityRule, Operator, OperatorConfig, POLICIES};
use crate::error::{Error, Result};

/// Says what is wrong with a regular expression.
pub type CheckRegex = dyn Fn(&str, RegexUse) -> Result<(), String>;

/// What a regular expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegexUse {
    /// Values are looked for in texts.
    Find,
    /// One value is compared as a whole.
    Whole,
}

/// More patterns than this would be a program, and each is a pass over every text.
const MAX_PATTERNS: usize = 64;
const MAX_NAME: usize = 40;

/// A policy file, checked as far as it can be without knowing regular expressions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyFile {
    version: Option<i64>,
    /// The policy that it changes.
    pub extends: String,
    /// Also what is as often harmless; absent: as `extends` has it.
    pub strict: Option<bool>,
    /// By the name of the type; others are as in `extends`.
    pub entities: BTreeMap<String, EntityRule>,
    pub patterns: Vec<NamedPattern>,
    pub allow: AllowList,
}

/// A type of value that pipe does not know itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedPattern {
    /// Small letters, digits and `_`: as reports name the type.
    pub name: String,
    pub regex: String,
    /// What takes a value's place.
    #[serde(default = "placeholder")]
    pub operator: OperatorConfig,
    /// `<TICKET_ID>`; absent: made of the name.
    pub placeholder: Option<String>,
    /// Which of two overlapping values stays whole: the one with the higher score, up to 1.
    #[serde(default = "default_score")]
    pub score: f32,
    /// It counts only where one of these words is near.
    #[serde(default)]
    pub context: Vec<String>,
}

/// What stays although it was found.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllowList {
    /// Whole values, however they are written: separators and case do not matter.
    pub values: Vec<String>,
    /// Regular expressions of whole values.
    pub patterns: Vec<String>,
}

impl Default for PolicyFile {
    fn default() -> Self {
        PolicyFile {
            version: None,
            extends: "standard".into(),
            strict: None,
            entities: BTreeMap::new(),
            patterns: Vec::new(),
            allow: AllowList::default(),
        }
    }
}

fn placeholder() -> OperatorConfig {
    Operator::Placeholder.into()
}

fn default_score() -> f32 {
    0.9
}

impl NamedPattern {
    /// What stands in a value's place.
    pub fn placeholder(&self) -> String {
        self.placeholder.clone().unwrap_or_else(|| format!("<{}>", self.name.to_ascii_uppercase()))
    }
}

impl PolicyFile {
    /// Reads the file at `path`. Every problem found is in the one error, with its place.
    pub fn load(path: &Path, check_regex: &CheckRegex) -> Result<PolicyFile> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is not UTF-8 text", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::usage(format!("there is no policy file {} (named by `scrub.policy`)", path.display()))
                    .hint(format!("give a path relative to the pipeline's root, or one of {}", POLICIES.join(", "))));
            }
            Err(error) => return Err(Error::io("read", path, error)),
        };
        PolicyFile::parse(&text, path, check_regex)
    }

    /// Reads a file's text, which stands at `path`.
    pub fn parse(text: &str, path: &Path, check_regex: &CheckRegex) -> Result<PolicyFile> {
        let mut sources = Sources::default();
        let source = sources.add(path.display().to_string(), text);
        let root = parse(text, source).map_err(|problem| sources.error(&[problem]))?;
        let file: PolicyFile = from_node(&root).map_err(|problem| sources.error(&[problem]))?;
        let mut problems = Vec::new();
        file.check(&root, source, check_regex, &mut problems);
        problems.truncate(MAX_PROBLEMS);
        if problems.is_empty() { Ok(file) } else { Err(sources.error(&problems)) }
    }

    fn check(&self, root: &Node, source: SourceId, check_regex: &CheckRegex, problems: &mut Vec<Problem>) {
        let start = Span { source, start: 0, end: 0 };
        match self.version {
            Some(VERSION) => {}
            Some(_) => {
                let span = root.get("version").map_or(start, |node| node.span);
                problems.push(Problem::new(span, format!("this pipe reads version {VERSION} of policy files")));
            }
            None => problems.push(Problem::new(start, "the key `version` is missing").hint("begin the file with `version: 1`")),
        }
        if !POLICIES.contains(&self.extends.as_str()) {
            let span = root.get("extends").map_or(start, |node| node.span);
            let problem = Problem::new(span, format!("there is no policy `{}`", self.extends));
            problems.push(problem.maybe_hint(suggestion(&self.extends, &POLICIES)));
        }
        for (key, _) in root.get("entities").and_then(Node::as_map).unwrap_or(&[]) {
            if !ENTITIES.contains(&key.name.as_str()) {
                let problem = Problem::new(key.span, format!("there is no entity type `{}`", key.name));
                problems.push(problem.maybe_hint(suggestion(&key.name, &ENTITIES)));
            }
        }
        let patterns = root.get("patterns").map_or(&[][..], items);
        if patterns.len() > MAX_PATTERNS {
            problems.push(Problem::new(patterns[MAX_PATTERNS].span, format!("more than {MAX_PATTERNS} patterns")));
            return;
        }
        let mut names = BTreeSet::new();
        for (pattern, node) in self.patterns.iter().zip(patterns) {
            let at = |key: &str| node.get(key).map_or(node.span, |node| node.span);
            if let Err(message) = check_name(&pattern.name) {
                problems.push(Problem::new(at("name"), message));
            } else if !names.insert(&pattern.name) {
                problems.push(Problem::new(at("name"), format!("there are two patterns `{}`", pattern.name)));
            }
            if !pattern.placeholder.as_deref().is_none_or(is_placeholder) {
                problems.push(
                    Problem::new(at("placeholder"), "a placeholder is capital letters, digits and `_` in angle brackets")
                        .hint(format!("for example <{}>", pattern.name.to_ascii_uppercase())),
                );
            }
            if !(0.0..=1.0).contains(&pattern.score) {
                problems.push(Problem::new(at("score"), "`score` must be between 0 and 1"));
            }
            if pattern.context.iter().any(|word| word.trim().is_empty()) {
                problems.push(Problem::new(at("context"), "a context word is empty"));
            }
            if let Err(message) = check_regex(&pattern.regex, RegexUse::Find) {
                problems.push(Problem::new(at("regex"), message));
            }
        }
        let allow = |key: &str| root.get("allow").and_then(|allow| allow.get(key)).map_or(&[][..], items);
        for (pattern, node) in self.allow.patterns.iter().zip(allow("patterns")) {
            if let Err(message) = check_regex(pattern, RegexUse::Whole) {
                problems.push(Problem::new(node.span, message));
            }
        }
        for (value, node) in self.allow.values.iter().zip(allow("values")) {
            if !value.contains(char::is_alphanumeric) {
                problems.push(Problem::new(node.span, "a value has at least one letter or digit"));
            }
        }
    }
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::Seq(items) => items,
        _ => &[],
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if ENTITIES.contains(&name) {
        return Err(format!("`{name}` is a type that pipe knows itself: give the pattern another name"));
    }
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !letters || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > MAX_NAME {
        return Err(format!("a pattern's name is up to {MAX_NAME} small letters, digits and `_`, and begins with a letter"));
    }
    Ok(())
}

/// `<NAME>`
fn is_placeholder(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or("");
    inner.len() <= MAX_NAME
        && inner.starts_with(|c: char| c.is_ascii_uppercase())
        && inner.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PolicyFile> {
        PolicyFile::parse(text, Path::new("policy.yaml"), &|regex, _| if regex.contains('(') { Err("not closed".into()) } else { Ok(()) })
    }

    #[test]
    fn a_policy_says_what_is_done_with_each_type() {
        let file = read(
            "version: 1\nextends: minimal\nentities: {email: surrogate, phone: {operator: mask, keep_last: 4}, url: off}\n\
             patterns:\n- {name: ticket_id, regex: 'T-[0-9]{6}', context: [ticket]}\nallow: {values: [support@example.com]}\n",
        )
        .unwrap();
        assert_eq!(file.extends, "minimal");
        assert_eq!(file.entities["url"], EntityRule::Off);
        assert_eq!(file.entities["phone"], EntityRule::Use(OperatorConfig { operator: Operator::Mask, keep_last: 4 }));
        assert_eq!(file.patterns[0].placeholder(), "<TICKET_ID>");
        assert_eq!(file.patterns[0].operator.operator, Operator::Placeholder);
    }

    #[test]
    fn problems_have_a_place_and_a_nearest_name() {
        for (text, place, hint) in [
            ("version: 1\nextend: minimal", "policy.yaml:2:1: unknown key `extend`", "did you mean `extends`?"),
            ("version: 1\nextends: minimum", "policy.yaml:2:10: there is no policy `minimum`", "did you mean `minimal`?"),
            ("version: 1\nentities: {emial: off}", "policy.yaml:2:12: there is no entity type `emial`", "did you mean `email`?"),
            ("entities: {email: off}", "policy.yaml:1:1: the key `version` is missing", "begin the file with `version: 1`"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!((error.message.as_str(), error.hint.as_deref()), (place, Some(hint)));
            assert!(error.rendered.unwrap().contains('^'));
        }
        let file = "version: 1\npatterns:\n- {name: email, regex: a}\n- {name: b, regex: '('}\n- {name: b, regex: b, placeholder: b, score: 2}\n";
        let message = read(file).unwrap_err().message;
        for place in ["3:10", "4:20: not closed", "5:10: there are two patterns `b`", "5:36", "5:46"] {
            assert!(message.contains(place), "{place} is not in {message}");
        }
        assert!(read("version: 1\nentities: {email: of}").unwrap_err().message.contains("there is no operator `of`"));
    }
}
