//! A policy's own patterns, and what it allows to stay.
//!
//! Patterns are run by an engine whose time is linear in the text, and must match at most [`MAX_MATCH`] bytes: without a
//! bound, looking for one match after the other could read the rest of a long text for each.

use std::collections::BTreeSet;

use regex_automata::meta::{Config, Regex};
use regex_syntax::hir::{Hir, Look};

use super::canonical::loose;
use super::policy::{AllowPolicy, PolicyPattern};
use super::{Entity, Hit, Verdict};
use pipe_core::file::RegexUse;
use pipe_core::{Error, Result};
use zeroize::Zeroizing;

/// Longer values are found by no pattern.
const MAX_MATCH: usize = 4096;
/// Of a compiled pattern, in bytes.
const MAX_SIZE: usize = 4 << 20;
/// How far from a value its context words are looked for, in bytes.
const CONTEXT_REACH: usize = 96;

/// What is wrong with a regular expression, and where in it.
pub(super) fn check_regex(source: &str, purpose: RegexUse) -> Result<(), String> {
    compile(source, purpose).map(|_| ())
}

fn compile(source: &str, purpose: RegexUse) -> Result<Regex, String> {
    let hir = regex_syntax::parse(source).map_err(|error| {
        let (message, span) = match &error {
            regex_syntax::Error::Parse(error) => (error.kind().to_string(), *error.span()),
            regex_syntax::Error::Translate(error) => (error.kind().to_string(), *error.span()),
            _ => return "not a regular expression".to_owned(),
        };
        format!("not a regular expression, at its character {}: {message}", source[..span.start.offset].chars().count() + 1)
    })?;
    if purpose == RegexUse::Whole {
        return build(&Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]));
    }
    let properties = hir.properties();
    if properties.minimum_len().is_none_or(|length| length == 0) {
        return Err("the pattern matches the empty text, which is everywhere".into());
    }
    if properties.maximum_len().is_none_or(|length| length > MAX_MATCH) {
        return Err(format!("the pattern has no upper length of {MAX_MATCH} bytes or fewer: write `{{1,64}}` in the place of `+` or `*`"));
    }
    build(&hir)
}

fn build(hir: &Hir) -> Result<Regex, String> {
    let config = Config::new().nfa_size_limit(Some(MAX_SIZE)).hybrid_cache_capacity(MAX_SIZE);
    Regex::builder().configure(config).build_from_hir(hir).map_err(|_| "the pattern is too large".to_owned())
}

/// Finds what the policy's own patterns match.
pub(super) struct Custom(Vec<Pattern>);

struct Pattern {
    regex: Regex,
    score: f32,
    /// In small letters.
    context: Vec<String>,
}

impl Custom {
    pub(super) fn new(patterns: &[PolicyPattern]) -> Result<Custom> {
        let compiled = patterns.iter().map(|pattern| {
            let regex =
                compile(&pattern.regex, RegexUse::Find).map_err(|message| Error::input(format!("the pattern `{}`: {message}", pattern.name)))?;
            Ok(Pattern { regex, score: pattern.score, context: pattern.context.iter().map(|word| word.to_lowercase()).collect() })
        });
        compiled.collect::<Result<_>>().map(Custom)
    }

    pub(super) fn find(&self, text: &str, hits: &mut Vec<Hit>) {
        for (at, pattern) in self.0.iter().enumerate() {
            // Each pattern by itself: of two that begin at one place, an automaton of all would tell the first alone.
            for found in pattern.regex.find_iter(text) {
                if pattern.fits(text, found.start(), found.end()) {
                    let entity = Entity::Custom(at as u8);
                    hits.push(Hit { entity, start: found.start(), end: found.end(), score: pattern.score, verdict: Verdict::Pattern });
                }
            }
        }
    }
}

impl Pattern {
    fn fits(&self, text: &str, start: usize, end: usize) -> bool {
        if self.context.is_empty() {
            return true;
        }
        let (mut from, mut to) = (start.saturating_sub(CONTEXT_REACH), (end + CONTEXT_REACH).min(text.len()));
        while !text.is_char_boundary(from) {
            from += 1;
        }
        while !text.is_char_boundary(to) {
            to -= 1;
        }
        let (before, after) = (text[from..start].to_lowercase(), text[end..to].to_lowercase());
        self.context.iter().any(|word| before.contains(word) || after.contains(word))
    }
}

/// Knows what the policy allows to stay.
pub(super) struct Allowed {
    values: BTreeSet<String>,
    patterns: Vec<Regex>,
    key: Option<Zeroizing<[u8; 32]>>,
}

impl Allowed {
    /// `key`: what the values' digests are keyed with, where they are.
    pub(super) fn new(allow: &AllowPolicy, key: Option<Zeroizing<[u8; 32]>>) -> Result<Allowed> {
        let compile =
            |source: &String| compile(source, RegexUse::Whole).map_err(|message| Error::input(format!("a pattern of the allow-list: {message}")));
        Ok(Allowed {
            values: allow.values.clone(),
            patterns: allow.patterns.iter().map(compile).collect::<Result<_>>()?,
            key: key.filter(|_| allow.keyed),
        })
    }

    /// Nothing may stay.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.patterns.is_empty()
    }

    pub(super) fn is_allowed(&self, value: &str) -> bool {
        (!self.values.is_empty() && self.values.contains(&value_digest(value, self.key.as_deref())))
            || self.patterns.iter().any(|regex| regex.is_match(value))
    }
}

/// What stands in an artifact for a value of the allow-list.
pub(super) fn value_digest(value: &str, key: Option<&[u8; 32]>) -> String {
    let plain = loose(value);
    let hash = match key {
        Some(key) => blake3::keyed_hash(key, plain.as_bytes()),
        None => blake3::hash(plain.as_bytes()),
    };
    hash.to_hex()[..pipe_core::digest::DIGEST_CHARS].to_owned()
}
