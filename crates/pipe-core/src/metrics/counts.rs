//! Precision, recall and F1 from counts, and their averages: what classes, labels and types of entities have in common.

/// Counts of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Predicted and true.
    pub(super) hits: u64,
    pub(super) predicted: u64,
    /// True, predicted or not.
    pub(super) support: u64,
}

impl Counts {
    pub(super) fn precision(&self) -> f64 {
        ratio(self.hits, self.predicted)
    }

    pub(super) fn recall(&self) -> f64 {
        ratio(self.hits, self.support)
    }

    pub(super) fn f1(&self) -> f64 {
        ratio(2 * self.hits, self.predicted + self.support)
    }

    pub(super) fn add(&mut self, other: &Counts) {
        self.hits += other.hits;
        self.predicted += other.predicted;
        self.support += other.support;
    }
}

/// A measure of one class.
type Measure = fn(&Counts) -> f64;

pub(super) const MEASURES: [(&str, Measure); 3] = [("precision", Counts::precision), ("recall", Counts::recall), ("f1", Counts::f1)];

/// Counts of all classes together.
pub(super) fn total(classes: &[Counts]) -> Counts {
    classes.iter().fold(Counts::default(), |mut sum, class| {
        sum.add(class);
        sum
    })
}

/// `precision_micro` and so on: each measure of the counts of all classes.
pub(super) fn micro(classes: &[Counts]) -> impl Iterator<Item = (String, f64)> {
    let total = total(classes);
    MEASURES.into_iter().map(move |(name, measure)| (format!("{name}_micro"), measure(&total)))
}

/// `precision_macro` and so on: the plain mean over the classes; `precision_weighted` and so on: weighted by support.
pub(super) fn macro_and_weighted(classes: &[Counts]) -> impl Iterator<Item = (String, f64)> {
    let support = total(classes).support.max(1) as f64;
    MEASURES.into_iter().flat_map(move |(name, measure)| {
        let plain = classes.iter().map(measure).sum::<f64>() / classes.len().max(1) as f64;
        let weighted = classes.iter().map(|class| measure(class) * class.support as f64).sum::<f64>() / support;
        [(format!("{name}_macro"), plain), (format!("{name}_weighted"), weighted)]
    })
}

/// 0 over nothing, which is scikit-learn's `zero_division=0`.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
