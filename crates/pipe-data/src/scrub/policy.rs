//! What is looked for and what becomes of it: written into artifacts and models, so that use does as training did.
//!
//! `scrub.json` of an ingest, and the `scrub` of `pipe.json`:
//!
//! ```text
//! version 2            of this format; the one before had a name, types and detector_version alone, and is still read
//! policy               standard, strict, minimal, none or `file`: for people, no part of the digest
//! detector_version     what the detectors find
//! strict               also what is as often harmless
//! entities             type → operator
//! patterns             the policy file's own
//! allow                digests of values, and patterns
//! columns              output column → what is done with it, where it is not scanned
//! ner                  digest of the model, its tags, the threshold
//! key                  id of the key, where an operator needs one
//! ```
//!
//! Values that are allowed to stay are digests there, keyed where the policy has a key: a policy travels with every
//! model, and whose telephone number is not scrubbed is nobody's business. Without a key they can be guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pipe_core::config::{ColumnScrub, ENTITIES, EntityRule, NerConfig, Operator, OperatorConfig, POLICIES, ScrubConfig, is_policy_file};
use pipe_core::file::{PolicyFile, suggestion};
use pipe_core::provenance::Provenance;
use pipe_core::{Error, Result, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Entity;
use super::custom::{check_regex, value_digest};
use super::key::{ALLOW, ScrubKey};
use super::ner;

/// Part of every policy's digest and of the keys of stages that scrub. Bump when the detectors find more, less or other
/// things than before, or operators write others.
pub const DETECTOR_VERSION: u32 = 3;
const VERSION: u32 = 2;

/// All that decides what scrubbing does to a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct ScrubPolicy {
    version: u32,
    policy: String,
    #[serde(flatten)]
    rules: Rules,
}

/// What counts of a policy: everything but its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    detector_version: u32,
    strict: bool,
    entities: BTreeMap<String, OperatorConfig>,
    #[serde(default)]
    patterns: Vec<PolicyPattern>,
    #[serde(default)]
    allow: AllowPolicy,
    #[serde(default)]
    columns: BTreeMap<String, ColumnScrub>,
    #[serde(default)]
    ner: Option<NerPolicy>,
    #[serde(default)]
    key: Option<String>,
}

/// A pattern of a policy file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyPattern {
    pub(super) name: String,
    pub(super) regex: String,
    pub(super) placeholder: String,
    pub(super) operator: OperatorConfig,
    pub(super) score: f32,
    pub(super) context: Vec<String>,
}

/// What stays although it is found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowPolicy {
    /// Digests of values.
    pub(super) values: BTreeSet<String>,
    /// The digests are keyed.
    #[serde(default)]
    pub(super) keyed: bool,
    /// Of whole values.
    pub(super) patterns: Vec<String>,
}

/// Which model finds names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NerPolicy {
    /// Digest of the model's files.
    pub model: String,
    /// Tags to entity types.
    pub labels: BTreeMap<String, String>,
    pub threshold: f64,
}

impl NerPolicy {
    pub(crate) fn missing(&self) -> Error {
        Error::usage(format!("the scrub policy needs the model {} that finds names, and none was given", self.model))
            .hint("name its folder: `scrub: { ner: { model: … } }` of ingest, `ner: …` of predict, `--ner DIR` on the command line")
    }
}

/// Versions before 2: placeholders for some types.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version1 {
    policy: String,
    entities: BTreeSet<String>,
    detector_version: u32,
}

/// The types that `minimal` replaces: what leads to a person or to their money by itself.
const MINIMAL: [Entity; 11] = [
    Entity::Email,
    Entity::Phone,
    Entity::CardNumber,
    Entity::Iban,
    Entity::UsSsn,
    Entity::CnResidentId,
    Entity::Passport,
    Entity::Permit,
    Entity::DriverLicense,
    Entity::Secret,
    Entity::UrlCredentials,
];

impl ScrubPolicy {
    /// A policy by its name; `entities` in the place of its types.
    pub fn resolve(policy: &str, entities: Option<&[String]>) -> Result<ScrubPolicy> {
        let types: &[Entity] = match policy {
            "standard" | "strict" => Entity::ALL,
            "minimal" => &MINIMAL,
            "none" => &[],
            other => {
                return Err(Error::usage(format!("there is no scrub policy `{other}`")).maybe_hint(suggestion(other, &POLICIES)));
            }
        };
        let rules = Rules {
            detector_version: DETECTOR_VERSION,
            strict: policy == "strict",
            entities: types.iter().map(|entity| (entity.name().to_owned(), Operator::Placeholder.into())).collect(),
            patterns: Vec::new(),
            allow: AllowPolicy::default(),
            columns: BTreeMap::new(),
            ner: None,
            key: None,
        };
        let mut policy = ScrubPolicy { version: VERSION, policy: policy.to_owned(), rules };
        if let Some(entities) = entities {
            policy.only(entities)?;
        }
        Ok(policy)
    }

    /// The policy of a pipeline's `scrub:`; paths in it are relative to `root`. `key` is what `scrub.key` names.
    pub fn of_config(config: &ScrubConfig, root: &Path, key: Option<&ScrubKey>) -> Result<ScrubPolicy> {
        let mut policy = match &config.model {
            Some(model) => ScrubPolicy::from_json(&Provenance::read(&root.join(model))?.scrub)?,
            None if is_policy_file(&config.policy) => ScrubPolicy::of_file(&PolicyFile::load(&root.join(&config.policy), &check_regex)?)?,
            None => ScrubPolicy::resolve(&config.policy, None)?,
        };
        if config.model.is_none() {
            if let Some(entities) = &config.entities {
                policy.only(entities)?;
            }
            for (name, operator) in &config.operators {
                policy.set_operator(name, *operator, config.entities.is_some())?;
            }
            if let Some(ner) = &config.ner {
                policy.set_model(ner, &root.join(&ner.model))?;
            }
        }
        // Of these rows, whatever the model's rows had.
        policy.rules.columns.extend(config.columns.iter().map(|(name, column)| (name.clone(), *column)));
        policy.set_key(key)?;
        if config.model.is_none() {
            policy.hide_allowed(key);
        }
        Ok(policy)
    }

    /// Whether a policy file can be read, without what its key would add.
    pub fn check_file(path: &Path) -> Result<()> {
        PolicyFile::load(path, &check_regex).map(|_| ())
    }

    fn of_file(file: &PolicyFile) -> Result<ScrubPolicy> {
        let mut policy = ScrubPolicy::resolve(&file.extends, None)?;
        policy.policy = "file".into();
        let rules = &mut policy.rules;
        rules.strict = file.strict.unwrap_or(rules.strict);
        for (name, rule) in &file.entities {
            match rule {
                EntityRule::Off => rules.entities.remove(name),
                EntityRule::Use(operator) => rules.entities.insert(name.clone(), *operator),
            };
        }
        for pattern in &file.patterns {
            rules.patterns.push(PolicyPattern {
                name: pattern.name.clone(),
                regex: pattern.regex.clone(),
                placeholder: pattern.placeholder(),
                operator: pattern.operator,
                score: pattern.score,
                context: pattern.context.clone(),
            });
        }
        // Values until the key is known; see `hide_allowed`.
        rules.allow = AllowPolicy { values: file.allow.values.iter().cloned().collect(), keyed: false, patterns: file.allow.patterns.clone() };
        Ok(policy)
    }

    /// Exactly these types, with the operators that they have.
    fn only(&mut self, entities: &[String]) -> Result<()> {
        for name in entities {
            self.check_name(name)?;
        }
        let rules = &mut self.rules;
        rules.patterns.retain(|pattern| entities.contains(&pattern.name));
        rules.entities.retain(|name, _| entities.contains(name));
        for name in entities.iter().filter(|name| ENTITIES.contains(&name.as_str())) {
            rules.entities.entry(name.clone()).or_insert(Operator::Placeholder.into());
        }
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let known: Vec<&str> = ENTITIES.into_iter().chain(self.rules.patterns.iter().map(|pattern| pattern.name.as_str())).collect();
        if known.contains(&name) {
            return Ok(());
        }
        Err(Error::usage(format!("there is no entity type `{name}`")).maybe_hint(suggestion(name, &known)))
    }

    fn set_operator(&mut self, name: &str, operator: OperatorConfig, exactly: bool) -> Result<()> {
        self.check_name(name)?;
        let rules = &mut self.rules;
        if let Some(pattern) = rules.patterns.iter_mut().find(|pattern| pattern.name == name) {
            pattern.operator = operator;
        } else if exactly && !rules.entities.contains_key(name) {
            return Err(Error::usage(format!("`scrub.operators` names `{name}`, which `scrub.entities` leaves out"))
                .hint(format!("add `{name}` to `scrub.entities`, or remove its operator")));
        } else {
            rules.entities.insert(name.to_owned(), operator);
        }
        Ok(())
    }

    fn set_model(&mut self, config: &NerConfig, folder: &Path) -> Result<()> {
        let missing = config.labels.values().find(|entity| !self.rules.entities.contains_key(*entity));
        if let Some(entity) = missing {
            return Err(Error::usage(format!("`scrub.ner` finds the type `{entity}`, which the policy leaves alone"))
                .hint("take the tag out of `scrub.ner.labels`, or add the type to the policy"));
        }
        self.rules.ner = Some(NerPolicy { model: ner::model_digest(folder)?, labels: config.labels.clone(), threshold: config.threshold });
        Ok(())
    }

    /// Notes the key's id where an operator needs it.
    fn set_key(&mut self, key: Option<&ScrubKey>) -> Result<()> {
        if self.rules.key.is_some() {
            return self.check_key(key).map(|_| ());
        }
        if let Some(operator) = self.keyed_operator() {
            let Some(key) = key else {
                return Err(Error::usage(format!("the policy's operator `{}` needs a key", operator.name()))
                    .hint("make one with `pipe keygen FILE` and add `scrub: { key: { file: FILE } }`"));
            };
            self.rules.key = Some(key.id());
        }
        Ok(())
    }

    /// Puts digests in the place of allowed values.
    fn hide_allowed(&mut self, key: Option<&ScrubKey>) {
        let subkey = self.rules.key.as_ref().and(key).map(|key| key.derive(ALLOW));
        let allow = &mut self.rules.allow;
        allow.keyed = subkey.is_some() && !allow.values.is_empty();
        allow.values = allow.values.iter().map(|value| value_digest(value, subkey.as_deref())).collect();
    }

    /// As `scrub.json` and `pipe.json` hold it. One made by newer detectors is refused.
    pub fn from_json(value: &Value) -> Result<ScrubPolicy> {
        ScrubPolicy::try_from(value.clone())
    }

    /// An operator that needs a key, if there is one.
    fn keyed_operator(&self) -> Option<Operator> {
        let rules = &self.rules;
        let whole = rules.columns.values().filter_map(|column| match column {
            ColumnScrub::Whole(operator) => Some(operator.operator),
            ColumnScrub::Scan | ColumnScrub::Drop => None,
        });
        let found = rules.entities.values().chain(rules.patterns.iter().map(|pattern| &pattern.operator)).map(|operator| operator.operator);
        found.chain(whole).find(|operator| operator.needs_key())
    }

    /// The id of the key without which this policy cannot be applied.
    pub fn key_id(&self) -> Option<&str> {
        self.rules.key.as_deref()
    }

    /// The key if it is the one that this policy needs; none where it needs none.
    pub(super) fn check_key<'k>(&self, key: Option<&'k ScrubKey>) -> Result<Option<&'k ScrubKey>> {
        let Some(wanted) = self.key_id() else {
            return match self.keyed_operator() {
                None => Ok(None),
                Some(operator) => Err(Error::input(format!("the scrub policy uses `{}` and names no key", operator.name()))),
            };
        };
        match key {
            Some(key) if key.id() == wanted => Ok(Some(key)),
            Some(key) => Err(Error::usage(format!("the scrub policy needs the key {wanted}, and {} was given", key.id()))
                .hint("with another key the same person gets another token: give the key that the training data was scrubbed with")),
            None => Err(Error::usage(format!("the scrub policy needs the key {wanted}, and none was given"))
                .hint("name its file: `key: { file: … }` in the pipeline, `--key-file FILE` on the command line")),
        }
    }

    /// Which model finds names, if one does.
    pub fn ner(&self) -> Option<&NerPolicy> {
        self.rules.ner.as_ref()
    }

    /// What is done with a column of the output.
    pub fn column(&self, name: &str) -> ColumnScrub {
        self.rules.columns.get(name).copied().unwrap_or(ColumnScrub::Scan)
    }

    /// Columns of which something else is done than scanning.
    pub(super) fn columns(&self) -> &BTreeMap<String, ColumnScrub> {
        &self.rules.columns
    }

    /// Whether it also names what is as often harmless.
    pub fn strict(&self) -> bool {
        self.rules.strict
    }

    /// Types that pipe knows itself, with their operators.
    pub(super) fn operators(&self) -> impl Iterator<Item = (Entity, OperatorConfig)> {
        Entity::ALL.iter().filter_map(|&entity| Some((entity, *self.rules.entities.get(entity.name())?)))
    }

    pub(super) fn patterns(&self) -> &[PolicyPattern] {
        &self.rules.patterns
    }

    pub(super) fn allow(&self) -> &AllowPolicy {
        &self.rules.allow
    }

    /// Equal for policies that do the same.
    pub fn digest(&self) -> String {
        digest::of_bytes(&serde_json::to_vec(&self.rules).expect("plain data"))
    }
}

impl TryFrom<Value> for ScrubPolicy {
    type Error = Error;

    fn try_from(mut value: Value) -> Result<ScrubPolicy> {
        let unreadable = |_| Error::input("the scrub policy of these rows or this model cannot be read").hint("was it written by a newer pipe?");
        let version = value.as_object_mut().and_then(|map| map.remove("version"));
        let mut policy = match version.as_ref().map(Value::as_u64) {
            None => {
                let Version1 { policy, entities, detector_version } = serde_json::from_value(value).map_err(unreadable)?;
                let mut read = ScrubPolicy::resolve(&policy, Some(&entities.into_iter().collect::<Vec<_>>()))?;
                // `strict` was another name of `standard`.
                (read.rules.strict, read.rules.detector_version) = (false, detector_version);
                read
            }
            Some(Some(version)) if version == u64::from(VERSION) => {
                let name = value.as_object_mut().and_then(|map| map.remove("policy")).and_then(|name| Some(name.as_str()?.to_owned()));
                let rules: Rules = serde_json::from_value(value).map_err(unreadable)?;
                ScrubPolicy { version: VERSION, policy: name.unwrap_or_default(), rules }
            }
            Some(_) => {
                return Err(Error::input("the scrub policy has a format that this pipe does not know").hint("update pipe"));
            }
        };
        if policy.rules.detector_version > DETECTOR_VERSION {
            return Err(Error::input("the model was trained with newer detectors than this pipe has").hint("update pipe"));
        }
        if let Some(unknown) = policy.rules.entities.keys().find(|name| !ENTITIES.contains(&name.as_str())) {
            return Err(Error::input(format!("the scrub policy has the entity type `{unknown}`, which this pipe does not know")).hint("update pipe"));
        }
        // An older model is scrubbed with the detectors of today: they find at least as much.
        policy.rules.detector_version = DETECTOR_VERSION;
        Ok(policy)
    }
}
