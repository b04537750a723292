//! Personal data out of text: found by the detectors, a policy's own patterns and a model; operators put something else
//! in its place.
//!
//! ```
//! use pipe_data::scrub::{ScrubCounts, ScrubPolicy, Scrubber};
//!
//! let scrubber = Scrubber::new(&ScrubPolicy::resolve("standard", None)?, None)?;
//! let mut counts = ScrubCounts::default();
//! assert_eq!(scrubber.scrub("写信给zhang@example.com或打13812345678", &mut counts).text, "写信给<EMAIL>或打<PHONE>");
//! assert_eq!(counts.total(), 2);
//! # Ok::<(), pipe_core::Error>(())
//! ```
//!
//! Most texts hold nothing: they pass untouched and uncopied. Nothing in here shows raw text in an error or a `Debug`:
//! a [`Hit`] is offsets only.
//!
//! Whatever the operators, scrubbing ends with a text in which [`Scrubber::residual`] finds nothing, so that scrubbing it
//! again changes nothing: what operators write is known as such (`token`, `surrogate`).

mod canonical;
mod counts;
mod custom;
mod detect;
mod edits;
mod entity;
mod key;
pub mod ner;
mod operator;
mod policy;
mod surrogate;
mod token;
pub mod unseal;
mod words;

use std::borrow::Cow;
use std::cell::Cell;

use pipe_core::config::{ColumnScrub, Operator, OperatorConfig};
use pipe_core::{Error, Result};

pub use counts::ScrubCounts;
use custom::{Allowed, Custom};
use detect::{Detector, DetectorOptions, Scratch, resolve_overlaps};
pub use edits::{Edit, Edits};
pub use entity::{Entity, Hit, Verdict};
pub use key::ScrubKey;
pub use ner::EntityModel;
use operator::{Kind, Operators};
pub use policy::{DETECTOR_VERSION, NerPolicy, ScrubPolicy};
use token::TokenKind;
pub use words::{ScrubbedWords, joined};

/// Rounds until nothing is found any more: replacing one value can set its neighbour free.
const MAX_ROUNDS: usize = 4;
/// After that, as many with placeholders alone, which set free less.
const MAX_PLAIN_ROUNDS: usize = 8;
/// What stands for a part of a text that still shows values then.
const REDACTED: &str = "<REDACTED>";

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch::new()) };
}

/// With the memory of this thread, so that a text needs none of its own.
fn with_scratch<T>(find: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take();
    let found = find(&mut scratch);
    if scratch.is_kept() {
        SCRATCH.set(scratch);
    }
    found
}

/// A text without what its policy names.
#[derive(PartialEq)]
pub struct Scrubbed<'t> {
    /// Borrowed where nothing was found.
    pub text: Cow<'t, str>,
    /// The operator `drop_row` met a value: the row is left out, and counted as filtered.
    pub drop_row: bool,
}

/// What a value is that is written as it is or not at all: an id, a class, a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personal {
    No,
    Yes,
    /// It holds a value of a type whose rows are left out.
    DropsRow,
}

/// Replaces what its policy names. Shared by all threads.
pub struct Scrubber {
    /// Of the types that something is done with. One that is kept must not hide another inside it.
    detector: Detector,
    /// Of the types that are counted and kept.
    kept: Option<Detector>,
    custom: Custom,
    allowed: Allowed,
    /// Of each type that is looked for.
    rules: Vec<Rule>,
    /// Where among them the rule of each type is that pipe knows itself, by its bit.
    rule_of: [Option<u8>; 32],
    /// Some type's values are replaced by made-up ones.
    has_surrogates: bool,
    operators: Operators,
    columns: Vec<(String, ColumnScrub)>,
    /// Labels of whole columns' tokens.
    column_labels: Vec<String>,
    ner: Option<NerPolicy>,
    model: Option<EntityModel>,
}

/// What is done with one type.
struct Rule {
    entity: Entity,
    name: Cow<'static, str>,
    /// `PHONE`
    label: String,
    /// `<PHONE>`
    placeholder: String,
    operator: OperatorConfig,
}

impl Rule {
    fn new(entity: Entity, name: Cow<'static, str>, placeholder: &str, operator: OperatorConfig) -> Rule {
        let label = placeholder.trim_matches(['<', '>']).to_owned();
        Rule { entity, name, placeholder: format!("<{label}>"), label, operator }
    }

    fn kind(&self) -> Kind<'_> {
        Kind { entity: Some(self.entity), domain: Cow::Borrowed(&self.name), label: Cow::Borrowed(&self.label) }
    }

    fn is_kept(&self) -> bool {
        self.operator.operator == Operator::Keep
    }
}

impl Scrubber {
    /// Refuses a missing or another key where the policy needs one.
    pub fn new(policy: &ScrubPolicy, key: Option<&ScrubKey>) -> Result<Scrubber> {
        let key = policy.check_key(key)?;
        let rule = |(entity, operator): (Entity, OperatorConfig)| Rule::new(entity, entity.name().into(), entity.placeholder(), operator);
        let mut rules: Vec<Rule> = policy.operators().map(rule).collect();
        let (kept, enforced): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.is_kept());
        let of =
            |rules: &[&Rule]| Detector::new(&DetectorOptions { entities: rules.iter().map(|rule| rule.entity).collect(), strict: policy.strict() });
        let (detector, kept) = (of(&enforced), (!kept.is_empty()).then(|| of(&kept)));
        for (at, pattern) in policy.patterns().iter().enumerate() {
            let entity = Entity::Custom(u8::try_from(at).map_err(|_| Error::input("the scrub policy has too many patterns"))?);
            let name = pattern.name.clone().into();
            rules.push(Rule::new(entity, name, &pattern.placeholder, pattern.operator));
        }
        let mut rule_of = [None; 32];
        for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.entity.bit() != 0) {
            rule_of[rule.entity.bit().trailing_zeros() as usize] = u8::try_from(at).ok();
        }
        Ok(Scrubber {
            detector,
            kept,
            rule_of,
            has_surrogates: rules.iter().any(|rule| rule.operator.operator == Operator::Surrogate),
            custom: Custom::new(policy.patterns())?,
            allowed: Allowed::new(policy.allow(), key.map(|key| key.derive(key::ALLOW)))?,
            rules,
            operators: Operators::new(key),
            columns: policy.columns().iter().map(|(name, column)| (name.clone(), *column)).collect(),
            column_labels: policy.columns().keys().map(|name| column_label(name)).collect(),
            ner: policy.ner().cloned(),
            model: None,
        })
    }

    /// With the model that the policy names; see [`ner::open`]. Another one is refused.
    pub fn with_model(mut self, model: &EntityModel) -> Result<Scrubber> {
        match &self.ner {
            None => Err(Error::usage("the scrub policy finds no names with a model, and one was given")
                .hint("take `ner` away, or train with a policy that has it")),
            Some(ner) if ner.model != model.digest => {
                Err(Error::usage(format!("the scrub policy finds names with the model {}, and {} was given", ner.model, model.digest))
                    .hint("give the folder of the model that the training data was scrubbed with"))
            }
            Some(ner) if !ner.labels.keys().any(|tag| model.tags.contains(tag)) => {
                let tags: Vec<&str> = model.tags.iter().map(String::as_str).collect();
                Err(Error::usage("the model of `scrub.ner` has none of the tags that `labels` lists: it would find nothing").hint(format!(
                    "its tags are {}: write, for example, `labels: {{ {}: person }}`",
                    tags.join(", "),
                    tags.first().unwrap_or(&"PER")
                )))
            }
            Some(_) => {
                self.model = Some(model.clone());
                Ok(self)
            }
        }
    }

    /// Hits of the types that something is done with, in order, none overlapping another; those of the model are not among
    /// them.
    pub fn find(&self, text: &str) -> Vec<Hit> {
        with_scratch(|scratch| {
            self.find_into(text, &[], scratch);
            scratch.hits.clone()
        })
    }

    /// The same with those of the model, into `scratch`.
    fn find_into(&self, text: &str, of_model: &[Hit], scratch: &mut Scratch) {
        self.detector.find_into(text, scratch);
        let hits = &mut scratch.hits;
        let found = hits.len();
        self.custom.find(text, hits);
        hits.extend_from_slice(of_model);
        if hits.len() > found {
            hits.retain(|hit| !self.rule(hit).is_some_and(Rule::is_kept));
            resolve_overlaps(hits);
        }
    }

    /// Hits that an operator must take, without what already is an operator's output, into `scratch`.
    fn enforced_into(&self, text: &str, of_model: &[Hit], scratch: &mut Scratch) {
        self.find_into(text, of_model, scratch);
        let hits = &mut scratch.hits;
        // No text has an operator's output without the bracket that it begins with, or a made-up value.
        let maybe_output = !hits.is_empty() && (self.has_surrogates || memchr::memchr(b'<', text.as_bytes()).is_some());
        if !maybe_output && self.allowed.is_empty() {
            return;
        }
        hits.retain_mut(|hit| !self.allowed.is_allowed(&text[hit.start..hit.end]) && (!maybe_output || self.leave_output(text, hit)));
    }

    fn enforced(&self, text: &str, of_model: &[Hit]) -> Vec<Hit> {
        with_scratch(|scratch| {
            self.enforced_into(text, of_model, scratch);
            scratch.hits.clone()
        })
    }

    fn rule(&self, hit: &Hit) -> Option<&Rule> {
        match hit.entity.bit() {
            0 => self.rules.iter().find(|rule| rule.entity == hit.entity),
            bit => self.rules.get(usize::from(self.rule_of[bit.trailing_zeros() as usize]?)),
        }
    }

    /// Counts what stays on purpose.
    fn count_kept(&self, text: &str, counts: &mut ScrubCounts) {
        let mut hits = Vec::new();
        if let Some(kept) = &self.kept {
            with_scratch(|scratch| {
                kept.find_into(text, scratch);
                hits.append(&mut scratch.hits);
            });
        }
        self.custom.find(text, &mut hits);
        for hit in hits {
            if let Some(rule) = self.rule(&hit).filter(|rule| rule.is_kept())
                && !self.allowed.is_allowed(&text[hit.start..hit.end])
            {
                counts.add_hit(rule.entity, &rule.name, Operator::Keep, hit.verdict);
            }
        }
    }

    /// Copy on write: a text without hits passes through. Adds what was found to `counts`. What only the policy's model
    /// finds stays: see [`Scrubber::scrub_all`].
    pub fn scrub<'t>(&self, text: &'t str, counts: &mut ScrubCounts) -> Scrubbed<'t> {
        self.scrub_with(text, &[], counts, None)
    }

    /// The same for many texts, in their order; those that the policy's model finds are among the hits.
    ///
    /// # Errors
    ///
    /// Where the model fails, or the policy names one and none was given.
    pub fn scrub_all<'t>(&self, texts: &[&'t str], counts: &mut ScrubCounts) -> Result<Vec<Scrubbed<'t>>> {
        let of_model = self.hits_of_model(texts)?;
        let none = Vec::new();
        Ok(texts.iter().enumerate().map(|(at, text)| self.scrub_with(text, of_model.get(at).unwrap_or(&none), counts, None)).collect())
    }

    /// What the policy's model finds in each text; nothing at all where it names none.
    fn hits_of_model(&self, texts: &[&str]) -> Result<Vec<Vec<Hit>>> {
        Ok(match (&self.ner, &self.model) {
            (None, _) => Vec::new(),
            (Some(ner), Some(model)) => ner::hits(ner, model, texts)?,
            (Some(ner), None) => return Err(ner.missing()),
        })
    }

    /// The same for one text, with what the policy's model finds in it; `edits` get to know what moved where.
    ///
    /// # Errors
    ///
    /// As those of [`Scrubber::scrub_all`].
    pub fn scrub_noting<'t>(&self, text: &'t str, counts: &mut ScrubCounts, edits: Option<&mut Edits>) -> Result<Scrubbed<'t>> {
        let of_model = self.hits_of_model(&[text])?;
        Ok(self.scrub_with(text, of_model.first().map_or(&[], Vec::as_slice), counts, edits))
    }

    /// Whether a value holds anything that the policy does something with.
    ///
    /// # Errors
    ///
    /// As those of [`Scrubber::scrub_all`].
    pub fn personal(&self, value: &str) -> Result<Personal> {
        let of_model = self.hits_of_model(&[value])?;
        let hits = self.enforced(value, of_model.first().map_or(&[], Vec::as_slice));
        let drops = hits.iter().filter_map(|hit| self.rule(hit)).any(|rule| rule.operator.operator == Operator::DropRow);
        Ok(match (hits.is_empty(), drops) {
            (true, _) => Personal::No,
            (false, false) => Personal::Yes,
            (false, true) => Personal::DropsRow,
        })
    }

    fn scrub_with<'t>(&self, text: &'t str, of_model: &[Hit], counts: &mut ScrubCounts, edits: Option<&mut Edits>) -> Scrubbed<'t> {
        let scrubbed = with_scratch(|scratch| self.scrub_in(scratch, text, of_model, counts, edits));
        self.count_kept(&scrubbed.text, counts);
        scrubbed
    }

    fn scrub_in<'t>(
        &self,
        scratch: &mut Scratch,
        text: &'t str,
        of_model: &[Hit],
        counts: &mut ScrubCounts,
        mut edits: Option<&mut Edits>,
    ) -> Scrubbed<'t> {
        let mut clean = Cow::Borrowed(text);
        let mut drop_row = false;
        for round in 0..MAX_ROUNDS + MAX_PLAIN_ROUNDS {
            self.enforced_into(&clean, if round == 0 { of_model } else { &[] }, scratch);
            let hits = &scratch.hits;
            if hits.is_empty() {
                return Scrubbed { text: clean, drop_row };
            }
            let mut out = String::with_capacity(clean.len() + 16 * hits.len());
            let mut from = 0;
            let mut moved = Vec::new();
            for hit in hits {
                let Some(rule) = self.rule(hit) else { continue };
                out.push_str(&clean[from..hit.start]);
                let operator = if round < MAX_ROUNDS { rule.operator } else { Operator::Placeholder.into() };
                let before = out.len();
                match operator.operator {
                    Operator::Placeholder => out.push_str(&rule.placeholder),
                    _ => self.operators.replace(operator, &rule.kind(), &clean[hit.start..hit.end], &mut out),
                }
                if edits.is_some() {
                    moved.push(Edit { start: hit.start, end: hit.end, length: out.len() - before });
                }
                counts.add_hit(rule.entity, &rule.name, rule.operator.operator, hit.verdict);
                drop_row |= rule.operator.operator == Operator::DropRow;
                from = hit.end;
            }
            out.push_str(&clean[from..]);
            clean = Cow::Owned(out);
            if let Some(edits) = &mut edits {
                edits.add_round(moved);
            }
        }
        let left = self.give_up(&clean);
        if let Some(edits) = edits {
            edits.add_round(vec![Edit { start: 0, end: clean.len(), length: left.len() }]);
        }
        Scrubbed { text: Cow::Owned(left), drop_row }
    }

    /// A text in which every round set something new free: all from its first value to its last goes, and if that is not
    /// enough all of it.
    fn give_up(&self, text: &str) -> String {
        let hits = self.enforced(text, &[]);
        let (Some(first), Some(last)) = (hits.first(), hits.last()) else { return text.to_owned() };
        let narrow = format!("{}{REDACTED}{}", &text[..first.start], &text[last.end..]);
        // No pattern matches the empty text.
        [narrow, REDACTED.to_owned()].into_iter().find(|text| self.residual(text) == 0).unwrap_or_default()
    }

    /// Takes from a hit what is an operator's output; false if all of it is. One that holds a whole token and more stays as
    /// it is: it goes with the token.
    fn leave_output(&self, text: &str, hit: &mut Hit) -> bool {
        let value = &text[hit.start..hit.end];
        let is_fake = |rule: &Rule| rule.operator.operator == Operator::Surrogate && surrogate::is_fake(rule.entity, value);
        if self.has_surrogates && self.rules.iter().any(is_fake) {
            return false;
        }
        let (mut start, mut end) = (hit.start, hit.end);
        for (at, token) in token::tokens_at(text, &(hit.start..hit.end)) {
            if at.end <= start || !self.is_own(token) {
                continue;
            }
            match (at.start <= start, at.end >= end) {
                (true, true) => return false,
                (true, false) => start = at.end,
                (false, true) => end = at.start,
                (false, false) => {}
            }
        }
        let trimmed = start != hit.start || end != hit.end;
        (hit.start, hit.end) = (start, end);
        start < end && (!trimmed || text[start..end].contains(char::is_alphanumeric))
    }

    /// Whether an operator of this policy writes such tokens, and nothing can hide in it.
    fn is_own(&self, token: token::Token<'_>) -> bool {
        match token.kind {
            TokenKind::Sealed(code) => self.operators.sealer().is_some_and(|sealer| sealer.open(token.label, code).is_some()),
            TokenKind::Placeholder | TokenKind::Hmac | TokenKind::Surrogate => {
                let label = token.label;
                label == REDACTED.trim_matches(['<', '>'])
                    || self.rules.iter().any(|rule| rule.label == label)
                    || self.column_labels.iter().any(|known| known == label)
            }
        }
    }

    /// How many values of enforced types are left in a text: none in one that went through this scrubber. The model is not
    /// asked again.
    pub fn residual(&self, clean: &str) -> usize {
        self.enforced(clean, &[]).len()
    }

    /// What is done with a column of the output.
    pub fn column(&self, name: &str) -> ColumnScrub {
        self.columns.iter().find(|(known, _)| known == name).map_or(ColumnScrub::Scan, |(_, column)| *column)
    }

    /// Texts of one column of the output, scanned or each as a whole, as the policy says; for where every row stays.
    pub fn scrub_column(&self, texts: Vec<String>, column: &str, counts: &mut ScrubCounts) -> Result<Vec<String>> {
        match self.column(column) {
            ColumnScrub::Whole(operator) => {
                let placeholder = OperatorConfig::from(Operator::Placeholder);
                let operator = if operator.operator == Operator::DropRow { placeholder } else { operator };
                Ok(texts.iter().map(|text| self.apply_whole(text, operator, column).unwrap_or_default().into_owned()).collect())
            }
            ColumnScrub::Scan | ColumnScrub::Drop => {
                let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
                let scrubbed = self.scrub_all(&borrowed, counts)?;
                let clean: Vec<Option<String>> = scrubbed
                    .into_iter()
                    .map(|scrubbed| match scrubbed.text {
                        Cow::Owned(text) => Some(text),
                        Cow::Borrowed(_) => None,
                    })
                    .collect();
                Ok(texts.into_iter().zip(clean).map(|(text, clean)| clean.unwrap_or(text)).collect())
            }
        }
    }

    /// One operator on a whole value of the output column `column`, whatever is in it. `None`: the row is left out. An
    /// empty value stays empty.
    pub fn apply_whole<'v>(&self, value: &'v str, operator: OperatorConfig, column: &str) -> Option<Cow<'v, str>> {
        if value.is_empty() || operator.operator == Operator::Keep {
            return Some(Cow::Borrowed(value));
        }
        if operator.operator == Operator::DropRow {
            return None;
        }
        let kind = Kind { entity: None, domain: Cow::Owned(format!("column {column}")), label: Cow::Owned(column_label(column)) };
        let mut out = String::new();
        self.operators.replace(operator, &kind, value, &mut out);
        Some(Cow::Owned(out))
    }
}

/// `customer id` is `CUSTOMER_ID` in tokens; a name without Latin letters is `VALUE`.
fn column_label(column: &str) -> String {
    const MAX: usize = 32;
    let label: String = column.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).take(MAX).collect();
    let label = label.trim_matches('_');
    if label.starts_with(|c: char| c.is_ascii_uppercase()) { label.to_owned() } else { "VALUE".to_owned() }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod operator_tests;
#[cfg(test)]
mod tests;
