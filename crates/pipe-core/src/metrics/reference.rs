//! References for the tests of this folder: what other libraries say about a thousand random inputs.
//!
//! The inputs are not in the fixtures: `tests/fixtures/make_metrics.py` draws them as the tests do, from [`SplitMix`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::{MetricFamily, names};
use crate::SplitMix;

/// What a library says: `metrics` has a value for each case, or null where there is none.
pub(super) struct Reference {
    document: Value,
    names: &'static [&'static str],
    compared: usize,
    worst: (f64, String),
}

impl Reference {
    pub(super) fn load(name: &str, family: MetricFamily) -> Reference {
        let path = format!("{}/../../tests/fixtures/metrics/{name}.reference.json", env!("CARGO_MANIFEST_DIR"));
        let document = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        Reference { document, names: names(family), compared: 0, worst: (0.0, String::new()) }
    }

    /// Each case with its generator.
    pub(super) fn cases(&self) -> impl Iterator<Item = (usize, SplitMix)> + use<> {
        let cases = self.document["cases"].as_u64().unwrap();
        assert!(cases >= 1000);
        (0..cases).map(|case| (case as usize, SplitMix::from_state(case)))
    }

    /// The pieces that texts are made of.
    pub(super) fn strings(&self, name: &str) -> Vec<String> {
        self.document[name].as_array().unwrap().iter().map(|piece| piece.as_str().unwrap().to_owned()).collect()
    }

    /// Compares every metric that the reference has, and that each found has a name of the family.
    pub(super) fn check(&mut self, case: usize, found: &BTreeMap<String, f64>) {
        let unknown: Vec<_> = found.keys().filter(|name| *name != "loss" && !self.names.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let expected = self.document["metrics"].as_object().unwrap().iter();
        let expected: Vec<(String, Option<f64>)> = expected.map(|(name, values)| (name.clone(), values[case].as_f64())).collect();
        for (name, expected) in expected {
            self.compare(&name, case, found.get(&name).copied(), expected);
        }
    }

    /// Compares one of several values that a case has in `tables`.
    pub(super) fn check_at(&mut self, name: &str, case: usize, at: usize, found: Option<f64>) {
        let expected = self.document["tables"][name][case][at].as_f64();
        self.compare(name, case, found, expected);
    }

    /// Compares one value that is not in a report.
    pub(super) fn check_value(&mut self, name: &str, case: usize, found: Option<f64>) {
        let expected = self.document["values"][name][case].as_f64();
        self.compare(name, case, found, expected);
    }

    fn compare(&mut self, name: &str, case: usize, found: Option<f64>, expected: Option<f64>) {
        self.compared += 1;
        match (found, expected) {
            (Some(found), Some(expected)) => {
                let difference = (found - expected).abs() / expected.abs().max(1.0);
                // The fixtures have fourteen digits.
                assert!(difference < 1e-12, "case {case}, {name}: {found}, the reference says {expected}");
                if difference > self.worst.0 {
                    self.worst = (difference, format!("{name} of case {case}"));
                }
            }
            (None, None) => {}
            other => panic!("case {case}, {name}: found and expected are {other:?}"),
        }
    }

    pub(super) fn finish(self) {
        assert!(self.compared > 1000);
        println!("{} values compared, the worst difference is {:.1e} ({})", self.compared, self.worst.0, self.worst.1);
    }
}

/// A logit from -4 to 4 that f32 holds exactly: in steps of a half, so that ties abound, or fine ones.
pub(super) fn logit(rng: &mut SplitMix, coarse: bool) -> f32 {
    if coarse { (rng.below(17) as f32 - 8.0) / 2.0 } else { (rng.below(1 << 20) as f32 - 524_288.0) / 131_072.0 }
}

/// Up to `most` pieces in a row.
pub(super) fn text(rng: &mut SplitMix, pieces: &[String], most: usize) -> String {
    (0..rng.below(most + 1)).map(|_| pieces[rng.below(pieces.len())].as_str()).collect()
}

/// The pieces of a text, some of them others.
pub(super) fn near(rng: &mut SplitMix, pieces: &[String], of: &[usize]) -> String {
    of.iter().map(|&piece| pieces[if rng.below(4) == 0 { rng.below(pieces.len()) } else { piece }].as_str()).collect()
}
