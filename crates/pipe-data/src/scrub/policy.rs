//! Which types of personal data are replaced; written into artifacts and models, so that use does as training did.

use std::collections::BTreeSet;

use pipe_core::{Error, Result, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Entity;

/// Part of every policy's digest and of the keys of stages that scrub. Bump when the detectors find more, less or other things than before.
pub const DETECTOR_VERSION: u32 = 2;

/// A policy's name, and the types that it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubPolicy {
    policy: String,
    /// Names of [`Entity`], sorted.
    entities: BTreeSet<String>,
    detector_version: u32,
}

impl ScrubPolicy {
    /// `entities` replaces the types that `policy` stands for.
    pub fn resolve(policy: &str, entities: Option<&[String]>) -> Result<ScrubPolicy> {
        let known: BTreeSet<&str> = Entity::ALL.iter().map(|entity| entity.name()).collect();
        let of_policy: &[Entity] = match policy {
            "standard" | "strict" => Entity::ALL,
            "minimal" => &[Entity::Email, Entity::Phone, Entity::CardNumber],
            "none" => &[],
            other => return Err(Error::usage(format!("there is no scrub policy `{other}`")).hint("possible are standard, strict, minimal and none")),
        };
        let names: BTreeSet<String> = match entities {
            Some(entities) => entities.iter().cloned().collect(),
            None => of_policy.iter().map(|entity| entity.name().to_owned()).collect(),
        };
        if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
            return Err(Error::usage(format!("there is no entity type `{unknown}`")));
        }
        Ok(ScrubPolicy { policy: policy.to_owned(), entities: names, detector_version: DETECTOR_VERSION })
    }

    /// As `scrub.json` and `pipe.json` hold it.
    pub fn from_json(value: &Value) -> Result<ScrubPolicy> {
        let policy: ScrubPolicy = serde_json::from_value(value.clone())
            .map_err(|_| Error::input("the scrub policy in pipe.json cannot be read").hint("was the model made by a newer pipe?"))?;
        if policy.detector_version > DETECTOR_VERSION {
            return Err(Error::input("the model was trained with newer detectors than this pipe has").hint("update pipe"));
        }
        // An older model is scrubbed with the detectors of today: they find at least as much.
        ScrubPolicy::resolve(&policy.policy, Some(&policy.entities.iter().cloned().collect::<Vec<_>>()))
    }

    pub(super) fn entities(&self) -> Vec<Entity> {
        Entity::ALL.iter().copied().filter(|entity| self.entities.contains(entity.name())).collect()
    }

    pub(super) fn strict(&self) -> bool {
        self.policy == "strict"
    }

    /// Equal for policies that replace the same things.
    pub fn digest(&self) -> String {
        digest::of_bytes(&serde_json::to_vec(&(&self.entities, self.detector_version)).expect("plain data"))
    }
}
