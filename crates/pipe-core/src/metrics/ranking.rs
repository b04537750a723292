//! Statistics of order: the area under the ROC curve, and ranks.
//!
//! Both need every score at once; no bounded memory gives them exactly. An accumulator that reports them keeps 4 bytes for
//! each score, and its documentation says so.

/// The area under the ROC curve: the probability that a positive scores above a negative, ties counting half (Mann and
/// Whitney 1947; Hanley and McNeil 1982). Nothing where there are no positives or no negatives.
///
/// Wins are counted in whole numbers, so the order of the pairs does not matter, to the last bit.
pub fn auroc(pairs: impl IntoIterator<Item = (f32, bool)>) -> Option<f64> {
    let mut pairs: Vec<(f32, bool)> = pairs.into_iter().collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut positives, mut negatives, mut doubled_wins) = (0u64, 0u64, 0u128);
    // 0.0 and -0.0 are neighbours in that order, and equal here.
    for tied in pairs.chunk_by(|a, b| a.0 == b.0) {
        let here = tied.iter().filter(|pair| pair.1).count() as u64;
        let others = tied.len() as u64 - here;
        doubled_wins += u128::from(here) * u128::from(2 * negatives + others);
        positives += here;
        negatives += others;
    }
    (positives > 0 && negatives > 0).then(|| doubled_wins as f64 / (2.0 * positives as f64 * negatives as f64))
}

/// Ranks from 1; equal values share the mean of theirs.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&at| ranks[at] = rank);
        before += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_count_half_and_one_class_has_no_curve() {
        assert_eq!(auroc([(0.1, false), (0.4, false), (0.35, true), (0.8, true)]), Some(0.75));
        assert_eq!(auroc([(0.0, true), (-0.0, false)]), Some(0.5));
        assert_eq!(auroc([(0.3, true)]), None);
        assert_eq!(auroc([]), None);
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
    }
}
