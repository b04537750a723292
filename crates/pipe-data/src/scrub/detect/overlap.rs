//! Where hits overlap, the surer one stays whole, then the longer one.

use std::collections::BTreeMap;

use super::super::Hit;

/// Leaves `hits` in order, none overlapping another. What a loser covers and no winner does stays a hit of the loser's
/// type, so that no byte that was found survives.
pub(in super::super) fn resolve_overlaps(hits: &mut Vec<Hit>) {
    if hits.windows(2).all(|pair| pair[0].end <= pair[1].start) {
        return;
    }
    hits.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then((b.end - b.start).cmp(&(a.end - a.start))).then(a.start.cmp(&b.start)).then(a.entity.cmp(&b.entity))
    });
    // Kept hits by their start; disjoint, so that ends are in the same order.
    let mut kept: BTreeMap<usize, Hit> = BTreeMap::new();
    for hit in hits.drain(..) {
        let mut from = hit.start;
        let mut free = Vec::new();
        let first = kept.range(..=hit.start).next_back().map_or(hit.start, |(start, _)| *start);
        for other in kept.range(first..hit.end).map(|(_, other)| other) {
            if other.end <= from {
                continue;
            }
            if other.start > from {
                free.push((from, other.start));
            }
            from = other.end;
        }
        if from < hit.end {
            free.push((from, hit.end));
        }
        for (start, end) in free {
            kept.insert(start, Hit { start, end, ..hit });
        }
    }
    hits.extend(kept.into_values());
}
