//! Splits: rows that may not be told apart (of one group, one near-duplicate cluster, one text) are a unit, and a unit
//! goes to one split as a whole. Its first row in file order stands for it.

use std::collections::BTreeMap;

use pipe_core::Result;
use pipe_core::config::{Dedup, SplitBy};

use super::clusters::join_buckets;
use super::quota::quotas;
use super::rows::{Decided, FIRST_SPLIT, KEPT, Rows, Work};
use super::scratch::Components;
use super::sort::Sorted;
use super::spill::{ORDINAL_BYTES, Record, read_ordinal, write_ordinal};
use super::split::{RowDigest, Splitter};

/// A row, gathered up with the others of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct UnitRow {
    /// The unit's first row.
    first: u64,
    ordinal: u64,
    stratum: u32,
    /// Where in the order of its stratum.
    place: u128,
}

impl Record for UnitRow {
    const BYTES: usize = 2 * ORDINAL_BYTES + 4 + 16;

    fn write(&self, to: &mut [u8]) {
        write_ordinal(self.first, &mut to[..5]);
        write_ordinal(self.ordinal, &mut to[5..10]);
        self.stratum.write(&mut to[10..14]);
        self.place.write(&mut to[14..]);
    }

    fn read(from: &[u8]) -> UnitRow {
        UnitRow {
            first: read_ordinal(&from[..5]),
            ordinal: read_ordinal(&from[5..10]),
            stratum: u32::read(&from[10..14]),
            place: u128::read(&from[14..]),
        }
    }
}

/// A unit in the order in which splits are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Unit {
    stratum: u32,
    place: u128,
    first: u64,
    rows: u64,
}

impl Record for Unit {
    const BYTES: usize = 4 + 16 + 2 * ORDINAL_BYTES;

    fn write(&self, to: &mut [u8]) {
        self.stratum.write(&mut to[..4]);
        self.place.write(&mut to[4..20]);
        write_ordinal(self.first, &mut to[20..25]);
        write_ordinal(self.rows, &mut to[25..]);
    }

    fn read(from: &[u8]) -> Unit {
        Unit { stratum: u32::read(&from[..4]), place: u128::read(&from[4..20]), first: read_ordinal(&from[20..25]), rows: read_ordinal(&from[25..]) }
    }
}

/// Gives each row that is left its split. `clusters` are those whose rows stay together.
pub(super) fn assign(
    work: &Work<'_>,
    rows: &Rows,
    splitter: &Splitter,
    by: SplitBy,
    dedup: Dedup,
    clusters: Option<&mut Components>,
    decided: &mut Decided,
) -> Result<()> {
    let several = splitter.names().count() > 1;
    match by {
        SplitBy::Files => by_files(work, rows, decided),
        SplitBy::Hash => {
            let mut clusters = clusters;
            // Without clusters a row's key is that of its unit already.
            if let Some(components) = clusters.as_deref_mut().filter(|_| !rows.groups.is_empty()) {
                join_keys(work, rows, components, decided)?;
            }
            by_hash(work, rows, splitter, clusters, decided)
        }
        SplitBy::Stratified | SplitBy::Time if !several => by_hash(work, rows, splitter, None, decided),
        SplitBy::Stratified | SplitBy::Time => {
            let mut own = None;
            let joined = !rows.groups.is_empty() || dedup == Dedup::None;
            let mut components = match clusters {
                None if joined => Some(own.insert(Components::new(work.scratch, rows.count)?)),
                clusters => clusters,
            };
            if let Some(components) = components.as_deref_mut().filter(|_| joined) {
                join_keys(work, rows, components, decided)?;
            }
            by_order(work, rows, splitter, by == SplitBy::Time, components, decided)
        }
    }
}

/// Rows of one group, or of one text and no group.
fn join_keys(work: &Work<'_>, rows: &Rows, components: &mut Components, decided: &Decided) -> Result<()> {
    let mut keys = rows.keys();
    join_buckets(work, rows.count, components, |ordinal| {
        let key = keys.next()?;
        Ok((decided.fates.get(ordinal) == KEPT).then_some(key))
    })
}

fn by_files(work: &Work<'_>, rows: &Rows, decided: &mut Decided) -> Result<()> {
    let mut splits = rows.splits.reader();
    for ordinal in 0..rows.count {
        work.check(ordinal)?;
        let split = splits.next()?;
        if decided.fates.get(ordinal) == KEPT {
            decided.fates.set(ordinal, FIRST_SPLIT + split - 1);
        }
    }
    Ok(())
}

fn by_hash(work: &Work<'_>, rows: &Rows, splitter: &Splitter, mut components: Option<&mut Components>, decided: &mut Decided) -> Result<()> {
    let mut keys = rows.keys();
    for ordinal in 0..rows.count {
        work.check(ordinal)?;
        let key = keys.next()?;
        if decided.fates.get(ordinal) != KEPT {
            continue;
        }
        let first = components.as_mut().map_or(ordinal, |components| components.first(ordinal));
        let fate = match first {
            _ if first == ordinal => FIRST_SPLIT + splitter.split_of(RowDigest::from(key)) as u8,
            first => decided.fates.get(first),
        };
        decided.fates.set(ordinal, fate);
    }
    Ok(())
}

/// Units in order, cut where the shares of rows say so.
fn by_order(
    work: &Work<'_>,
    rows: &Rows,
    splitter: &Splitter,
    by_time: bool,
    mut components: Option<&mut Components>,
    decided: &mut Decided,
) -> Result<()> {
    let (units, strata) = in_order(work, rows, by_time, components.as_deref_mut(), decided)?;
    let sizes: Vec<u64> = strata.values().copied().collect();
    let shares: Vec<f64> = splitter.shares().collect();
    let ends = strata.keys().zip(quotas(&sizes, &shares)).map(|(stratum, quota)| (*stratum, ends_of(&quota)));
    let ends: BTreeMap<u32, Vec<u64>> = ends.collect();

    // Units of one time are not told apart; of one hash they are, as only one unit has it.
    let (mut current, mut before, mut next) = (None, 0u64, 0u64);
    let key = |unit: &Unit| (unit.stratum, unit.place);
    let sum = |rows: &mut u64, unit: &Unit| *rows += unit.rows;
    units.for_groups(key, sum, |together, unit| {
        work.check(unit.first)?;
        if current != Some(key(unit)) {
            before = if current.is_some_and(|(stratum, _)| stratum == unit.stratum) { next } else { 0 };
            next = before + together;
            current = Some(key(unit));
        }
        // Where its middle is: no end is missed by more than half of what stands across it.
        let ends = &ends[&unit.stratum];
        let split = ends.iter().position(|end| before + next < 2 * end).unwrap_or(ends.len() - 1);
        decided.fates.set(unit.first, FIRST_SPLIT + split as u8);
        Ok(())
    })?;
    drop(units);
    if let Some(components) = components {
        for ordinal in 0..rows.count {
            work.check(ordinal)?;
            if decided.fates.get(ordinal) == KEPT {
                let first = components.first(ordinal);
                decided.fates.set(ordinal, decided.fates.get(first));
            }
        }
    }
    Ok(())
}

fn ends_of(quota: &[u64]) -> Vec<u64> {
    let add = |end: &mut u64, rows: &u64| {
        *end += rows;
        Some(*end)
    };
    quota.iter().scan(0, add).collect()
}

/// All units in the order in which they are cut, and the rows of each stratum.
fn in_order(
    work: &Work<'_>,
    rows: &Rows,
    by_time: bool,
    components: Option<&mut Components>,
    decided: &Decided,
) -> Result<(Sorted<Unit>, BTreeMap<u32, u64>)> {
    let (mut keys, mut labels, mut times) = (rows.keys(), rows.labels.reader(), rows.times.reader());
    let mut next = |ordinal: u64| -> Result<Option<(u32, u128)>> {
        work.check(ordinal)?;
        let (key, label, time) = (keys.next()?, labels.next()?, times.next()?);
        // Signed numbers in the order of unsigned ones.
        let place = if by_time { (0, u128::from(time as u64 ^ 1 << 63)) } else { (label, key) };
        Ok((decided.fates.get(ordinal) == KEPT).then_some(place))
    };
    let mut strata = BTreeMap::<u32, u64>::new();
    let mut units = work.sorter();
    let mut add = |unit: Unit| {
        *strata.entry(unit.stratum).or_default() += unit.rows;
        units.push(unit)
    };
    match components {
        None => {
            for ordinal in 0..rows.count {
                if let Some((stratum, place)) = next(ordinal)? {
                    add(Unit { stratum, place, first: ordinal, rows: 1 })?;
                }
            }
        }
        Some(components) => {
            let mut unit_rows = work.sorter();
            for ordinal in 0..rows.count {
                if let Some((stratum, place)) = next(ordinal)? {
                    unit_rows.push(UnitRow { first: components.first(ordinal), ordinal, stratum, place })?;
                }
            }
            let sorted = unit_rows.finish()?;
            let mut all = sorted.iter()?;
            let mut open: Option<Unit> = None;
            while let Some(row) = all.next()? {
                work.check(row.ordinal)?;
                match &mut open {
                    Some(unit) if unit.first == row.first => {
                        unit.rows += 1;
                        // The latest row decides; of hash and class the first one does.
                        unit.place = if by_time { unit.place.max(row.place) } else { unit.place };
                    }
                    _ => {
                        let unit = Unit { stratum: row.stratum, place: row.place, first: row.first, rows: 1 };
                        open.replace(unit).map_or(Ok(()), &mut add)?;
                    }
                }
            }
            open.map_or(Ok(()), &mut add)?;
        }
    }
    Ok((units.finish()?, strata))
}
