//! What rows weigh in the loss.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::Complaint;

/// `class_weights: balanced`, or a weight for each label; a label that is left out weighs 1.
#[derive(Debug, Clone, PartialEq)]
pub enum ClassWeights {
    /// rows / (classes × rows of the class), as in scikit-learn: each class weighs as much as any other.
    Balanced,
    PerLabel(BTreeMap<String, f64>),
}

impl Serialize for ClassWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ClassWeights::Balanced => serializer.serialize_str("balanced"),
            ClassWeights::PerLabel(weights) => weights.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BalancedOrMapping;
        impl<'de> Visitor<'de> for BalancedOrMapping {
            type Value = ClassWeights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`balanced`, or a mapping of labels to weights")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ClassWeights, E> {
                if text == "balanced" { Ok(ClassWeights::Balanced) } else { Err(E::unknown_variant(text, &["balanced"])) }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClassWeights, A::Error> {
                let mut weights = BTreeMap::new();
                while let Some((label, weight)) = map.next_entry()? {
                    weights.insert(label, weight);
                }
                Ok(ClassWeights::PerLabel(weights))
            }
        }
        deserializer.deserialize_any(BalancedOrMapping)
    }
}

impl JsonSchema for ClassWeights {
    fn schema_name() -> Cow<'static, str> {
        "ClassWeights".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`balanced`, or a weight for each label; a label that is left out weighs 1.",
            "anyOf": [{"const": "balanced"}, {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}],
        })
    }
}

impl ClassWeights {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        let ClassWeights::PerLabel(weights) = self else { return Ok(()) };
        if weights.values().any(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(Complaint::new("class_weights", "a weight must be a number of at least 0"));
        }
        if !weights.is_empty() && weights.values().all(|weight| *weight == 0.0) {
            return Err(
                Complaint::new("class_weights", "all weights are 0, so nothing would be learnt").hint("remove `class_weights`, or try `balanced`")
            );
        }
        Ok(())
    }
}
