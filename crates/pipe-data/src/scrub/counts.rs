//! What was found, by type, operator and verdict. Never a value.

use pipe_core::config::Operator;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Entity, Verdict};

/// How many values of each type were found, what their detectors said of them and what became of them. A list of
/// `{entity, operator, verdict, count}` in JSON, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubCounts(Vec<Cell>);

/// A short list, searched from its start: a text has few types, and no hashing is as cheap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cell {
    entity: String,
    /// The type that has this name, to be compared at once.
    #[serde(skip)]
    known: Option<Entity>,
    operator: Operator,
    verdict: Verdict,
    count: u64,
}

impl ScrubCounts {
    /// One more value of the type with that name, the same for each call that means the same.
    #[inline]
    pub(super) fn add_hit(&mut self, entity: Entity, name: &str, operator: Operator, verdict: Verdict) {
        let known = Some(entity);
        match self.0.iter_mut().find(|cell| cell.known == known && cell.verdict == verdict && cell.operator == operator) {
            Some(cell) => cell.count += 1,
            None => self.add_many(name, operator, verdict, 1),
        }
    }

    fn add_many(&mut self, entity: &str, operator: Operator, verdict: Verdict, count: u64) {
        match self.0.binary_search_by(|cell| (cell.entity.as_str(), cell.operator, cell.verdict).cmp(&(entity, operator, verdict))) {
            Ok(at) => self.0[at].count += count,
            Err(at) => {
                let known = Entity::ALL.iter().copied().find(|known| known.name() == entity);
                self.0.insert(at, Cell { entity: entity.to_owned(), known, operator, verdict, count });
            }
        }
    }

    pub fn add(&mut self, other: &ScrubCounts) {
        for cell in &other.0 {
            self.add_many(&cell.entity, cell.operator, cell.verdict, cell.count);
        }
    }

    /// The same but for those that `operator` met.
    #[must_use]
    pub(super) fn without(mut self, operator: Operator) -> ScrubCounts {
        self.0.retain(|cell| cell.operator != operator);
        self
    }

    /// Values that something took the place of.
    pub fn total(&self) -> u64 {
        self.0.iter().filter(|cell| cell.operator != Operator::Keep).map(|cell| cell.count).sum()
    }

    /// Values of a type that pipe knows itself.
    pub fn of(&self, entity: Entity) -> u64 {
        self.named(entity.name())
    }

    /// Values of a type by its name, those of a policy file's own patterns too.
    pub fn named(&self, entity: &str) -> u64 {
        self.0.iter().filter(|cell| cell.entity == entity).map(|cell| cell.count).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Type, operator, verdict and count, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Operator, Verdict, u64)> {
        self.0.iter().map(|cell| (cell.entity.as_str(), cell.operator, cell.verdict, cell.count))
    }
}

impl Serialize for ScrubCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ScrubCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut counts = ScrubCounts::default();
        for cell in Vec::<Cell>::deserialize(deserializer)? {
            counts.add_many(&cell.entity, cell.operator, cell.verdict, cell.count);
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_in_any_order_and_come_back_from_json() {
        let of = |hits: &[(Entity, Operator, Verdict)]| {
            let mut counts = ScrubCounts::default();
            for &(entity, operator, verdict) in hits {
                counts.add_hit(entity, entity.name(), operator, verdict);
            }
            counts
        };
        let hits = [
            (Entity::Phone, Operator::Mask, Verdict::Format),
            (Entity::Email, Operator::Keep, Verdict::Valid),
            (Entity::Phone, Operator::Mask, Verdict::Valid),
            (Entity::Phone, Operator::Mask, Verdict::Format),
        ];
        let (mut a, b) = (of(&hits[..1]), of(&hits[1..]));
        a.add(&b);
        assert_eq!(a, of(&hits));
        let mut reversed = hits;
        reversed.reverse();
        assert_eq!(a, of(&reversed));
        assert_eq!((a.total(), a.of(Entity::Phone), a.of(Entity::Email)), (3, 3, 1));
        let json = serde_json::to_string(&a).unwrap();
        assert!(json.starts_with(r#"[{"entity":"email","operator":"keep","verdict":"valid","count":1},"#), "{json}");
        assert_eq!(serde_json::from_str::<ScrubCounts>(&json).unwrap(), a);
    }
}
