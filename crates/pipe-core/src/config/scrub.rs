//! What is done with personal data.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Complaint, in_range, known_name};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScrubConfig {
    /// `standard`, `strict`, `minimal` or `none`; or a policy file (`.yaml`), relative to the pipeline's root.
    pub policy: String,
    /// Exactly these entity types instead of the policy's.
    #[schemars(schema_with = "entities_schema")]
    pub entities: Option<Vec<String>>,
    /// What replaces values of a type, where it is not the policy's operator.
    pub operators: BTreeMap<String, OperatorConfig>,
    /// What is done with whole columns of the output; absent: strings are scanned.
    pub columns: BTreeMap<String, ColumnScrub>,
    /// Where the key for `hmac`, `surrogate` and `seal` is, and sealed rejects too. The key itself is never part of a cache key; its id is.
    pub key: Option<KeySource>,
    /// A token-classification model in ONNX that finds names and places.
    pub ner: Option<NerConfig>,
    /// Take the policy that a finished model was trained with.
    pub model: Option<PathBuf>,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        ScrubConfig {
            policy: "standard".into(),
            entities: None,
            operators: BTreeMap::new(),
            columns: BTreeMap::new(),
            key: None,
            ner: None,
            model: None,
        }
    }
}

/// What takes the place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// `<PHONE>`
    Placeholder,
    /// Nothing.
    Redact,
    /// As many `*` as there were letters and digits, the last ones kept if asked for.
    Mask,
    /// `<PHONE:kdmb…>`: HMAC-SHA-256 with the key, 64 bits of it as letters; equal values give equal tokens.
    Hmac,
    /// Another value of the same kind, always the same one for the same value and key.
    Surrogate,
    /// Encrypted with the key (AES-SIV), for `pipe unseal`.
    Seal,
    /// The value stays.
    Keep,
    /// The row is left out, and counted as filtered.
    DropRow,
}

/// An operator by its name, or with its options: `{ operator: mask, keep_last: 4 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OperatorConfig {
    pub operator: Operator,
    /// Of `mask`: how many letters and digits at the end stay.
    pub keep_last: usize,
}

/// What is done with one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum ColumnScrub {
    /// Its strings are scanned.
    #[serde(rename = "scan")]
    Scan,
    /// It is left out of the output.
    #[serde(rename = "drop")]
    Drop,
    /// The operator takes the whole value, whatever is in it; `keep` leaves it as it is.
    #[serde(untagged)]
    Whole(OperatorConfig),
}

/// What a policy file says of one type of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityRule {
    /// It is not looked for.
    Off,
    /// The operator takes its values.
    Use(OperatorConfig),
}

/// Where a secret key is: never in the pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeySource {
    /// A file made by `pipe keygen`, relative to the pipeline's root.
    pub file: Option<PathBuf>,
    /// An environment variable that holds what such a file does.
    pub env: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NerConfig {
    /// A folder with `model.onnx`, `config.json` (whose `id2label` has IOB tags) and `tokenizer.json`.
    pub model: PathBuf,
    /// From the model's tags, without `B-` and `I-`, to entity types.
    pub labels: BTreeMap<String, String>,
    /// Below this probability a span is none.
    pub threshold: f64,
}

impl Default for NerConfig {
    fn default() -> Self {
        let labels = [("PER", "person"), ("PERSON", "person"), ("LOC", "address"), ("GPE", "address"), ("ADDRESS", "address")];
        let labels = labels.into_iter().map(|(tag, entity)| (tag.to_owned(), entity.to_owned())).collect();
        NerConfig { model: PathBuf::new(), labels, threshold: 0.5 }
    }
}

/// The names `scrub.policy` knows.
pub const POLICIES: [&str; 4] = ["standard", "strict", "minimal", "none"];

/// The names `scrub.entities` knows.
pub const ENTITIES: [&str; 24] = [
    "email",
    "phone",
    "url",
    "url_credentials",
    "user_handle",
    "ip_address",
    "mac_address",
    "card_number",
    "iban",
    "us_ssn",
    "cn_resident_id",
    "passport",
    "permit",
    "driver_license",
    "license_plate",
    "cn_credit_code",
    "imei",
    "coordinates",
    "date_of_birth",
    "social_account",
    "record_number",
    "secret",
    "person",
    "address",
];

const OPERATORS: [&str; 8] = ["placeholder", "redact", "mask", "hmac", "surrogate", "seal", "keep", "drop_row"];

fn entities_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["array", "null"], "items": {"type": "string", "examples": ENTITIES}})
}

impl Operator {
    pub fn of_name(name: &str) -> Option<Operator> {
        const ALL: [Operator; 8] = [
            Operator::Placeholder,
            Operator::Redact,
            Operator::Mask,
            Operator::Hmac,
            Operator::Surrogate,
            Operator::Seal,
            Operator::Keep,
            Operator::DropRow,
        ];
        OPERATORS.iter().position(|known| *known == name).map(|at| ALL[at])
    }

    pub fn name(self) -> &'static str {
        OPERATORS[self as usize]
    }

    pub fn needs_key(self) -> bool {
        matches!(self, Operator::Hmac | Operator::Surrogate | Operator::Seal)
    }
}

impl From<Operator> for OperatorConfig {
    fn from(operator: Operator) -> Self {
        OperatorConfig { operator, keep_last: 0 }
    }
}

/// Reads a name, or a mapping with `operator:` and its options; `words` are further names that are allowed alone.
struct OperatorVisitor<T: 'static> {
    words: &'static [(&'static str, T)],
    whole: fn(OperatorConfig) -> T,
}

impl<'de, T: Clone> Visitor<'de> for OperatorVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an operator such as placeholder, or { operator: mask, keep_last: 4 }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<T, E> {
        if let Some((_, word)) = self.words.iter().find(|(word, _)| *word == name) {
            return Ok(word.clone());
        }
        let operator =
            Operator::of_name(name).ok_or_else(|| E::custom(format!("there is no operator `{name}`: known are {}", OPERATORS.join(", "))))?;
        Ok((self.whole)(operator.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Options {
            operator: Operator,
            #[serde(default)]
            keep_last: usize,
        }
        let Options { operator, keep_last } = Options::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok((self.whole)(OperatorConfig { operator, keep_last }))
    }
}

impl<'de> Deserialize<'de> for OperatorConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OperatorVisitor { words: &[], whole: |operator| operator })
    }
}

impl<'de> Deserialize<'de> for ColumnScrub {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const WORDS: &[(&str, ColumnScrub)] = &[("scan", ColumnScrub::Scan), ("drop", ColumnScrub::Drop)];
        deserializer.deserialize_any(OperatorVisitor { words: WORDS, whole: ColumnScrub::Whole })
    }
}

impl<'de> Deserialize<'de> for EntityRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OperatorVisitor { words: &[("off", EntityRule::Off)], whole: EntityRule::Use })
    }
}

fn operator_schema(more: &[&str]) -> Schema {
    let names: Vec<&str> = more.iter().chain(&OPERATORS).copied().collect();
    json_schema!({
        "anyOf": [
            {"enum": names},
            {
                "type": "object",
                "properties": {"operator": {"enum": OPERATORS}, "keep_last": {"type": "integer", "minimum": 0}},
                "required": ["operator"],
                "additionalProperties": false,
            },
        ],
    })
}

impl JsonSchema for OperatorConfig {
    fn schema_name() -> Cow<'static, str> {
        "OperatorConfig".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        operator_schema(&[])
    }
}

impl JsonSchema for ColumnScrub {
    fn schema_name() -> Cow<'static, str> {
        "ColumnScrub".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        operator_schema(&["scan", "drop"])
    }
}

impl KeySource {
    pub(super) fn check(&self, setting: &str) -> Result<(), Complaint> {
        if self.file.is_some() == self.env.is_some() {
            return Err(Complaint::new(setting, "a key is in a `file` or in an environment variable (`env`)"));
        }
        Ok(())
    }
}

/// Whether `scrub.policy` names a file.
pub fn is_policy_file(policy: &str) -> bool {
    policy.ends_with(".yaml") || policy.ends_with(".yml")
}

impl ScrubConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        if !is_policy_file(&self.policy) {
            known_name("scrub.policy", &self.policy, &POLICIES)?;
            // A policy file may name patterns of its own.
            for entity in self.entities.iter().flatten() {
                known_name("scrub.entities", entity, &ENTITIES)?;
            }
            for entity in self.operators.keys() {
                known_name("scrub.operators", entity, &ENTITIES)?;
            }
        }
        if self.model.is_some() && (self.policy != ScrubConfig::default().policy || self.entities.is_some() || !self.operators.is_empty()) {
            return Err(Complaint::new(
                "scrub.model",
                "a model's policy is taken as it is: `policy`, `entities` and `operators` say nothing beside it",
            )
            .hint("take them out, or `model`"));
        }
        let whole = self.columns.values().filter_map(|column| match column {
            ColumnScrub::Whole(operator) => Some(operator),
            ColumnScrub::Scan | ColumnScrub::Drop => None,
        });
        let keyed = self.operators.values().chain(whole).find(|operator| operator.operator.needs_key());
        if let Some(operator) = keyed
            && self.key.is_none()
        {
            let name = operator.operator.name();
            return Err(Complaint::new("scrub", format!("the operator `{name}` needs a key"))
                .hint("make one with `pipe keygen FILE` and add `scrub: { key: { file: FILE } }`"));
        }
        if let Some(key) = &self.key {
            key.check("scrub.key")?;
        }
        if let Some(ner) = &self.ner {
            if ner.model.as_os_str().is_empty() {
                return Err(Complaint::missing("scrub.ner.model", "path/to/model"));
            }
            in_range("scrub.ner.threshold", ner.threshold, 0.0..=1.0)?;
            for entity in ner.labels.values() {
                known_name("scrub.ner.labels", entity, &ENTITIES)?;
            }
        }
        Ok(())
    }
}
