//! Personal data out of text: found by one automaton, confirmed by validators, replaced by typed placeholders.
//!
//! ```
//! use pipe_data::scrub::{EntityCounts, ScrubPolicy, Scrubber};
//!
//! let scrubber = Scrubber::new(&ScrubPolicy::resolve("standard", None)?);
//! let mut counts = EntityCounts::default();
//! assert_eq!(scrubber.scrub("写信给zhang@example.com或打13812345678", &mut counts), "写信给<EMAIL>或打<PHONE>");
//! assert_eq!(counts.total(), 2);
//! # Ok::<(), pipe_core::Error>(())
//! ```
//!
//! Most texts hold nothing: a gate of a few byte tests lets them pass untouched. Nothing in here shows raw text in
//! an error or a `Debug`: a [`Hit`] is offsets only.

mod detect;
mod entity;
mod policy;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use detect::{Detector, DetectorOptions};
pub use entity::{Entity, Hit, Verdict};
pub use policy::{DETECTOR_VERSION, ScrubPolicy};

/// Rounds until nothing is found any more: replacing one value can set its neighbour free.
const MAX_ROUNDS: usize = 4;

/// How many of each type were replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntityCounts(BTreeMap<Entity, u64>);

impl EntityCounts {
    pub fn add(&mut self, other: &EntityCounts) {
        for (entity, count) in &other.0 {
            *self.0.entry(*entity).or_default() += count;
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn of(&self, entity: Entity) -> u64 {
        self.0.get(&entity).copied().unwrap_or(0)
    }
}

impl Serialize for EntityCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let map: BTreeMap<&str, u64> = Entity::ALL.iter().map(|entity| (entity.name(), self.of(*entity))).collect();
        map.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EntityCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: BTreeMap<String, u64> = BTreeMap::deserialize(deserializer)?;
        Ok(EntityCounts(Entity::ALL.iter().filter_map(|entity| Some((*entity, *map.get(entity.name())?))).collect()))
    }
}

/// Replaces what its policy names. Shared by all threads.
pub struct Scrubber {
    detector: Detector,
}

impl Scrubber {
    pub fn new(policy: &ScrubPolicy) -> Scrubber {
        Scrubber { detector: Detector::new(&DetectorOptions { entities: policy.entities(), strict: policy.strict() }) }
    }

    /// Hits of the policy's types, in order, none overlapping another.
    pub fn find(&self, text: &str) -> Vec<Hit> {
        self.detector.find(text)
    }

    /// Copy on write: a text without hits passes through. Adds what was replaced to `counts`.
    pub fn scrub<'t>(&self, text: &'t str, counts: &mut EntityCounts) -> Cow<'t, str> {
        let mut clean = Cow::Borrowed(text);
        for _ in 0..MAX_ROUNDS {
            let hits = self.find(&clean);
            if hits.is_empty() {
                break;
            }
            let mut out = String::with_capacity(clean.len());
            let mut from = 0;
            for hit in hits {
                out.push_str(&clean[from..hit.start]);
                out.push_str(hit.entity.placeholder());
                *counts.0.entry(hit.entity).or_default() += 1;
                from = hit.end;
            }
            out.push_str(&clean[from..]);
            clean = Cow::Owned(out);
        }
        clean
    }
}

#[cfg(test)]
mod tests;
