//! Everything against the plain definition on small sets of rows, with memory for a few records and for all.

use std::collections::{BTreeMap, BTreeSet};

use pipe_core::Silent;
use pipe_core::config::SPLITS;
use proptest::prelude::*;

use super::*;

/// A row by small numbers, so that much is equal.
#[derive(Debug, Clone)]
struct Row {
    text: u8,
    scrubbed: u8,
    label: Option<u32>,
    group: Option<u8>,
    time: i64,
    source: u32,
    bands: Vec<u64>,
}

#[derive(Debug, Clone)]
struct Case {
    dedup: Dedup,
    near: NearConfig,
    conflicts: Conflicts,
    split: Option<SplitConfig>,
    sources: Vec<Option<usize>>,
}

impl Case {
    fn of(dedup: Dedup, action: NearAction, by: SplitBy) -> Case {
        let shares = if by == SplitBy::Files { [0.0; 3] } else { [0.6, 0.15, 0.25] };
        let files = if by == SplitBy::Files { SPLITS.map(|name| (name.to_owned(), Vec::new())).into() } else { BTreeMap::new() };
        let [train, validation, test] = shares;
        Case {
            dedup,
            near: NearConfig { bands: 2, action, ..NearConfig::default() },
            conflicts: Conflicts::KeepFirst,
            split: Some(SplitConfig { train, validation, test, seed: 7, by, files }),
            sources: vec![Some(2), Some(0), None, Some(1), Some(0)],
        }
    }

    fn config(&self) -> AssignConfig<'_> {
        AssignConfig { dedup: self.dedup, near: &self.near, conflicts: self.conflicts, split: self.split.as_ref() }
    }

    fn by(&self) -> SplitBy {
        self.split.as_ref().map_or(SplitBy::Hash, |split| split.by)
    }

    fn splitter(&self) -> Splitter {
        Splitter::new(self.split.as_ref())
    }

    fn digest(&self, row: &Row) -> RowDigest {
        self.splitter().digest(&format!("text {}", row.text), None)
    }

    /// What a unit of the row is known by.
    fn key(&self, row: &Row) -> RowDigest {
        row.group.map_or_else(|| self.digest(row), |group| self.splitter().group(&group.to_string()))
    }

    fn run(&self, rows: &[Row], memory: usize) -> (Vec<Fate>, AssignReport) {
        let folder = tempfile::tempdir().unwrap();
        let mut assigner = Assigner::new(&self.config(), self.sources.clone(), folder.path(), memory).unwrap();
        let splitter = self.splitter();
        for row in rows {
            let facts = RowFacts {
                digest: self.digest(row),
                scrubbed: splitter.digest(&format!("scrubbed {}", row.scrubbed), None),
                label: row.label,
                group: row.group.map(|group| splitter.group(&group.to_string())),
                time: Some(row.time),
                source: row.source,
                bands: &row.bands,
            };
            assigner.push(&facts).unwrap();
        }
        let assignment = assigner.finish(&Silent).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        ((0..rows.len()).map(|ordinal| assignment.fate(ordinal as u64)).collect(), assignment.report)
    }

    /// The same from the definitions, in quadratic time.
    fn expected(&self, rows: &[Row]) -> (Vec<Fate>, AssignReport) {
        let by_files = self.by() == SplitBy::Files;
        let file_split = |at: usize| self.sources[rows[at].source as usize];
        let names = self.splitter().names().count();
        let mut report = AssignReport { rows: rows.len() as u64, splits: vec![0; names], ..AssignReport::default() };
        let mut fates: Vec<Option<Fate>> = vec![None; rows.len()];
        let mut removed = BTreeMap::<(usize, usize), u64>::new();
        let mut remove = |out: usize, stays: usize| {
            if by_files && file_split(out) != file_split(stays) {
                let (a, b) = (file_split(out).unwrap(), file_split(stays).unwrap());
                *removed.entry((a.min(b), a.max(b))).or_default() += 1;
            }
        };
        // The first row in file order, of the last split if files decide.
        let to_stay = |members: &[usize]| {
            let preference = |at: &&usize| (std::cmp::Reverse(if by_files { file_split(**at) } else { None }), **at);
            *members.iter().min_by_key(preference).unwrap()
        };
        for (at, fate) in fates.iter_mut().enumerate() {
            if by_files && file_split(at).is_none() {
                *fate = Some(Fate::NoSplit);
                report.without_split += 1;
            }
        }
        let left = |fates: &[Option<Fate>]| (0..rows.len()).filter(|at| fates[*at].is_none()).collect::<Vec<_>>();

        let mut texts = BTreeMap::<u8, Vec<usize>>::new();
        left(&fates).into_iter().for_each(|at| texts.entry(rows[at].text).or_default().push(at));
        for members in texts.values() {
            let labels: BTreeSet<u32> = members.iter().filter_map(|at| rows[*at].label).collect();
            if labels.len() > 1 {
                report.conflicting_texts += 1;
                report.conflicting_rows += members.len() as u64;
                if self.conflicts == Conflicts::Drop {
                    report.conflicts_dropped += members.len() as u64;
                    members.iter().for_each(|at| fates[*at] = Some(Fate::Conflict));
                    continue;
                }
            }
            for at in members.iter().filter(|at| self.dedup != Dedup::None && **at != to_stay(members)) {
                fates[*at] = Some(Fate::Duplicate);
                report.duplicates += 1;
                remove(*at, to_stay(members));
            }
        }

        let mut clusters: Vec<usize> = (0..rows.len()).collect();
        if self.dedup == Dedup::Near {
            let rest = left(&fates);
            let meet = |a: usize, b: usize| rows[a].bands.iter().zip(&rows[b].bands).any(|(a, b)| a == b);
            join(&mut clusters, &rest, meet);
            for (_, members) in members_of(&clusters, &rest) {
                report.near_clusters += u64::from(members.len() > 1);
                for at in members.iter().filter(|at| self.near.action == NearAction::Drop && **at != to_stay(&members)) {
                    fates[*at] = Some(Fate::NearDuplicate);
                    report.near_duplicates += 1;
                    remove(*at, to_stay(&members));
                }
            }
        }

        let rest = left(&fates);
        let mut units = clusters.clone();
        if self.near.action == NearAction::Drop {
            units = (0..rows.len()).collect();
        }
        let keys: Vec<RowDigest> = rows.iter().map(|row| self.key(row)).collect();
        join(&mut units, &rest, |a, b| keys[a] == keys[b]);
        let units = members_of(&units, &rest);
        let mut split_of = BTreeMap::<usize, usize>::new();
        match self.by() {
            SplitBy::Files => split_of.extend(rest.iter().map(|at| (*at, file_split(*at).unwrap()))),
            SplitBy::Hash => {
                for (first, members) in &units {
                    let split = self.splitter().split_of(self.key(&rows[*first]));
                    split_of.extend(members.iter().map(|at| (*at, split)));
                }
            }
            by => self.cut(rows, &units, by, &mut split_of),
        }
        for (at, split) in &split_of {
            fates[*at] = Some(Fate::Split(*split));
            report.splits[*split] += 1;
        }
        let fates: Vec<Fate> = fates.into_iter().map(Option::unwrap).collect();

        let shared = |a: usize, b: usize, key: &dyn Fn(usize) -> Option<u128>| {
            let keys = |split: usize| split_of.iter().filter(move |(_, of)| **of == split).filter_map(|(at, _)| key(*at)).collect::<Vec<_>>();
            let (ours, theirs): (BTreeSet<u128>, Vec<u128>) = (keys(a).into_iter().collect(), keys(b));
            let both: Vec<u128> = theirs.into_iter().filter(|key| ours.contains(key)).collect();
            super::overlap::Shared { rows: both.len() as u64, count: both.into_iter().collect::<BTreeSet<_>>().len() as u64 }
        };
        for a in 0..names {
            for b in a + 1..names {
                let grouped = rows.iter().any(|row| row.group.is_some());
                report.overlaps.push(Overlap {
                    splits: [a, b],
                    texts: shared(a, b, &|at| Some(rows[at].text.into())),
                    scrubbed: shared(a, b, &|at| Some(rows[at].scrubbed.into())),
                    near: (self.dedup == Dedup::Near).then(|| shared(a, b, &|at| Some(clusters[at] as u128))),
                    groups: grouped.then(|| shared(a, b, &|at| rows[at].group.map(u128::from))),
                    removed: removed.get(&(a, b)).copied().unwrap_or(0),
                });
            }
        }
        (fates, report)
    }

    /// Units in order, each where its middle is among the quotas.
    fn cut(&self, rows: &[Row], units: &BTreeMap<usize, Vec<usize>>, by: SplitBy, split_of: &mut BTreeMap<usize, usize>) {
        let mut strata = BTreeMap::<Option<u32>, BTreeMap<u128, Vec<usize>>>::new();
        for (first, members) in units {
            let latest = members.iter().map(|at| rows[*at].time).max().unwrap();
            let (stratum, place) = match by {
                SplitBy::Time => (None, (latest + 1_000_000) as u128),
                _ => (rows[*first].label, self.key(&rows[*first]).into()),
            };
            strata.entry(stratum).or_default().entry(place).or_default().extend(members);
        }
        let sizes: Vec<u64> = strata.values().map(|units| units.values().map(Vec::len).sum::<usize>() as u64).collect();
        let quotas = quota::quotas(&sizes, &[0.6, 0.15, 0.25]);
        for (units, quota) in strata.values().zip(quotas) {
            let mut before = 0;
            for members in units.values() {
                let middle = before as f64 + members.len() as f64 / 2.0;
                before += members.len();
                let ends = [quota[0], quota[0] + quota[1]].map(|end| end as f64);
                let split = ends.iter().filter(|end| middle >= **end).count();
                split_of.extend(members.iter().map(|at| (*at, split)));
            }
        }
    }
}

/// Gives all members of a component the smallest one's number.
fn join(components: &mut [usize], among: &[usize], meet: impl Fn(usize, usize) -> bool) {
    for a in among {
        for b in among.iter().filter(|b| meet(*a, **b)) {
            let (from, to) = (components[*a].max(components[*b]), components[*a].min(components[*b]));
            components.iter_mut().filter(|of| **of == from).for_each(|of| *of = to);
        }
    }
}

fn members_of(components: &[usize], among: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut members = BTreeMap::<usize, Vec<usize>>::new();
    among.iter().for_each(|at| members.entry(components[*at]).or_default().push(*at));
    members
}

fn any_row() -> impl Strategy<Value = Row> {
    let bands = prop_oneof![1 => Just(Vec::new()), 6 => prop::collection::vec(1u64..40, 2)];
    let values = (0u8..60, 0u8..30, prop::option::weighted(0.9, 0u32..4), prop::option::weighted(0.7, 0u8..25), -20i64..20, 0u32..5, bands);
    values.prop_map(|(text, scrubbed, label, group, time, source, bands)| Row { text, scrubbed, label, group, time, source, bands })
}

fn any_case() -> impl Strategy<Value = Case> {
    let dedup = prop_oneof![Just(Dedup::None), Just(Dedup::Exact), Just(Dedup::Near)];
    let action = prop_oneof![Just(NearAction::Drop), Just(NearAction::Group)];
    let by = prop_oneof![Just(SplitBy::Hash), Just(SplitBy::Stratified), Just(SplitBy::Time), Just(SplitBy::Files)];
    (dedup, action, by, any::<bool>(), 0u8..10).prop_map(|(dedup, action, by, drop, split)| Case {
        conflicts: if drop { Conflicts::Drop } else { Conflicts::KeepFirst },
        split: if split == 0 { None } else { Case::of(dedup, action, by).split },
        ..Case::of(dedup, action, by)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn all_settings_do_what_they_say(
        case in any_case(),
        mut rows in prop::collection::vec(any_row(), 0..90),
        labels in any::<bool>(),
        groups in any::<bool>(),
        memory in 0usize..4000,
    ) {
        for row in &mut rows {
            row.label = row.label.filter(|_| labels);
            row.group = row.group.filter(|_| groups);
        }
        let expected = case.expected(&rows);
        prop_assert_eq!(&case.run(&rows, memory), &expected);
        prop_assert_eq!(&case.run(&rows, 1 << 20), &expected);
        let report = &expected.1;
        let left_out = report.duplicates + report.near_duplicates + report.conflicts_dropped + report.without_split;
        prop_assert_eq!(report.splits.iter().sum::<u64>() + left_out, report.rows);
    }
}

/// Rows with much less in common.
fn many_rows(count: u32) -> Vec<Row> {
    let mut random = proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let mut below = |end: u32| random.next_u32() % end;
    let mut row = || Row {
        text: below(256) as u8,
        scrubbed: below(200) as u8,
        label: Some(below(7)),
        group: Some(below(250) as u8).filter(|_| below(3) > 0),
        time: i64::from(below(1000)),
        source: below(5),
        bands: vec![1 + u64::from(below(2000)), 1 + u64::from(below(2000))],
    };
    (0..count).map(|_| row()).collect()
}

#[test]
fn many_rows_are_the_same_in_any_memory() {
    let rows = many_rows(1500);
    for dedup in [Dedup::None, Dedup::Exact, Dedup::Near] {
        for by in [SplitBy::Hash, SplitBy::Stratified, SplitBy::Time, SplitBy::Files] {
            for grouped in [false, true] {
                let case = Case::of(dedup, NearAction::Group, by);
                let rows: Vec<Row> = rows.iter().map(|row| Row { group: row.group.filter(|_| grouped), ..row.clone() }).collect();
                let all = case.run(&rows, 64 << 20);
                assert_eq!(case.run(&rows, 0), all);
                assert_eq!(case.run(&rows, 10_000), all);
            }
        }
    }
}

/// How many of the rows before are in another split after others came in at `at`.
fn moved(case: &Case, before: &[Row], after: &[Row], at: usize) -> usize {
    let (old, _) = case.run(before, 1 << 20);
    let (new, _) = case.run(after, 1 << 20);
    let inserted = after.len() - before.len();
    let new = new[..at].iter().chain(&new[at + inserted..]);
    old.iter().zip(new).filter(|(old, new)| matches!((old, new), (Fate::Split(old), Fate::Split(new)) if old != new)).count()
}

#[test]
fn new_rows_move_no_old_ones() {
    let rows = many_rows(1200);
    let (old, new) = rows.split_at(1000);
    let with = |at: usize| [&old[..at], new, &old[at..]].concat();
    for dedup in [Dedup::None, Dedup::Exact] {
        let case = Case::of(dedup, NearAction::Drop, SplitBy::Hash);
        for at in [0, 300, 1000] {
            assert_eq!(moved(&case, old, &with(at), at), 0);
        }
    }
    // Clusters that new rows join stay where they are, unless a new row brings two of them together or comes first.
    let mut near = Case::of(Dedup::Near, NearAction::Group, SplitBy::Hash);
    near.near.bands = 1;
    let rows: Vec<Row> = (0..250u8).map(|text| Row { text, group: None, bands: vec![1 + u64::from(text % 70)], ..rows[0].clone() }).collect();
    assert_eq!(moved(&near, &rows[..200], &rows, 200), 0);
}

#[test]
fn texts_that_differ_a_little_are_one() {
    let parcel = "my parcel was to come on Monday and now it is Friday and nobody at the shop answers when I call them about it";
    let texts = [
        "what time do you open on Sundays and is there a place to park nearby".to_owned(),
        format!("Hello, {parcel}"),
        format!("hello {parcel}!"),
        format!("Hello, {parcel}, please help"),
        "what time do you close on Sundays, and where can one park a van nearby".to_owned(),
    ];
    let signer = NearSigner::new(&NearConfig::default());
    for action in [NearAction::Drop, NearAction::Group] {
        let mut case = Case::of(Dedup::Near, action, SplitBy::Hash);
        case.near.bands = NearConfig::default().bands;
        let row = |(at, text): (usize, &String)| Row { text: at as u8, bands: signer.bands(&[text]), ..many_rows(1)[0].clone() };
        let rows: Vec<Row> = texts.iter().enumerate().map(row).map(|row| Row { group: None, ..row }).collect();
        let (fates, report) = case.run(&rows, 1 << 20);
        assert_eq!(report.near_clusters, 1);
        match action {
            NearAction::Drop => {
                assert_eq!(fates[2..4], [Fate::NearDuplicate; 2]);
                assert_eq!(report.splits.iter().sum::<u64>(), 3);
            }
            NearAction::Group => assert_eq!(fates[2..4], [fates[1]; 2]),
        }
    }
}

#[test]
fn one_bucket_of_all_rows_is_linear_work() {
    let mut case = Case::of(Dedup::Near, NearAction::Drop, SplitBy::Hash);
    case.near.bands = 1;
    let folder = tempfile::tempdir().unwrap();
    let mut assigner = Assigner::new(&case.config(), Vec::new(), folder.path(), 1 << 16).unwrap();
    let count = 100_000u64;
    for row in 0..count {
        let digest = RowDigest::from(u128::from(row));
        assigner.push(&RowFacts { digest, scrubbed: digest, label: None, group: None, time: None, source: 0, bands: &[5] }).unwrap();
    }
    let assignment = assigner.finish(&Silent).unwrap();
    let AssignReport { near_clusters, near_duplicates, splits, .. } = assignment.report;
    assert_eq!((near_clusters, near_duplicates, splits.iter().sum::<u64>()), (1, count - 1, 1));
}

#[test]
fn exact_shares_of_every_class() {
    let case = Case::of(Dedup::None, NearAction::Drop, SplitBy::Stratified);
    let folder = tempfile::tempdir().unwrap();
    let mut assigner = Assigner::new(&case.config(), Vec::new(), folder.path(), 1 << 16).unwrap();
    let label = |row: u32| if row % 100 < 20 { row % 3 } else { 3 };
    for row in 0..20_000 {
        let digest = case.splitter().digest(&row.to_string(), None);
        assigner.push(&RowFacts { digest, scrubbed: digest, label: Some(label(row)), group: None, time: None, source: 0, bands: &[] }).unwrap();
    }
    let assignment = assigner.finish(&Silent).unwrap();
    let mut counts = [[0u64; 3]; 4];
    for row in 0..20_000 {
        if let Fate::Split(split) = assignment.fate(row.into()) {
            counts[label(row) as usize][split] += 1;
        }
    }
    assert_eq!(assignment.report.splits, [12_000, 3_000, 5_000]);
    for class in counts {
        let rows = class.iter().sum::<u64>() as f64;
        assert!(class.iter().zip([0.6, 0.15, 0.25]).all(|(found, share)| (*found as f64 - rows * share).abs() < 1.0), "{class:?}");
    }
}

#[test]
fn a_scratch_folder_that_is_gone_is_an_error() {
    let case = Case::of(Dedup::Exact, NearAction::Drop, SplitBy::Hash);
    let mut assigner = Assigner::new(&case.config(), Vec::new(), Path::new("/nonexistent/scratch"), 1 << 16).unwrap();
    let digest = RowDigest::from(1);
    let row = RowFacts { digest, scrubbed: digest, label: None, group: None, time: None, source: 0, bands: &[] };
    let error = assigner.push(&row).unwrap_err();
    assert!(error.message.contains("scratch file"), "{}", error.message);
}
