//! Which rows form which effective batch: a pure function of the seed and the epoch, so a resumed run draws the
//! same rows without replaying anything.

use pipe_core::SplitMix;
use pipe_core::config::SamplingStrategy;

/// Batches sorted by length together, as in transformers' length-grouped sampler.
const MEGABATCH: usize = 50;

/// `count` of `rows` rows drawn at random, in ascending order.
pub(crate) fn subset(rows: usize, count: Option<usize>, seed: u64) -> Vec<usize> {
    let mut all: Vec<usize> = (0..rows).collect();
    if let Some(count) = count
        && count < rows
    {
        SplitMix::new(&[seed, 0x5b5e7]).shuffle(&mut all);
        all.truncate(count);
        all.sort_unstable();
    }
    all
}

/// The effective batches of one epoch: each of `batch` rows but for the last.
///
/// Grouping by length is over the *effective* batch, so that 16 × 1 and 4 × 4 see the same rows.
pub(crate) fn epoch(rows: &[usize], lengths: &[u32], batch: usize, strategy: SamplingStrategy, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut random = SplitMix::new(&[seed, epoch, 0xe90c4]);
    let mut order = rows.to_vec();
    if strategy != SamplingStrategy::Sequential {
        random.shuffle(&mut order);
    }
    if strategy != SamplingStrategy::GroupByLength {
        return order.chunks(batch).map(<[usize]>::to_vec).collect();
    }
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for mega in order.chunks_mut(batch * MEGABATCH) {
        // Stable on a shuffled order: rows of one length must stay mixed, since files are often sorted by class.
        mega.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
        batches.extend(mega.chunks(batch).map(<[usize]>::to_vec));
    }
    // In random order, or every megabatch would run from long rows to short ones; a smaller last batch stays last.
    let last = if batches.last().is_some_and(|rows| rows.len() < batch) { batches.pop() } else { None };
    random.shuffle(&mut batches);
    // The longest first: if memory is short, that shows at once.
    if let Some(longest) = (0..batches.len()).max_by_key(|&at| (batches[at].iter().map(|&row| lengths[row]).max(), std::cmp::Reverse(at))) {
        batches.swap(0, longest);
    }
    batches.extend(last);
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_every_row_once_and_another_one_is_another_order() {
        let lengths: Vec<u32> = (0..1003u32).map(|i| i * 7919 % 97 + 3).collect();
        let rows: Vec<usize> = (0..1003).collect();
        for strategy in [SamplingStrategy::Random, SamplingStrategy::GroupByLength, SamplingStrategy::Sequential] {
            let batches = epoch(&rows, &lengths, 16, strategy, 7, 0);
            let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
            seen.sort_unstable();
            assert_eq!(seen, rows);
            assert!(batches[..batches.len() - 1].iter().all(|batch| batch.len() == 16));
            assert_eq!(batches, epoch(&rows, &lengths, 16, strategy, 7, 0));
            assert_eq!(strategy == SamplingStrategy::Sequential, batches == epoch(&rows, &lengths, 16, strategy, 7, 1));
        }
    }

    #[test]
    fn grouping_leaves_little_padding() {
        let lengths: Vec<u32> = (0..3200u32).map(|i| i * 7919 % 97 + 3).collect();
        let rows: Vec<usize> = (0..3200).collect();
        let padding = |strategy| -> u64 {
            let batches = epoch(&rows, &lengths, 16, strategy, 7, 0);
            batches.iter().map(|batch| u64::from(batch.iter().map(|&row| lengths[row]).max().unwrap()) * batch.len() as u64).sum()
        };
        assert!(padding(SamplingStrategy::GroupByLength) * 10 < padding(SamplingStrategy::Random) * 7);
    }

    #[test]
    fn rows_of_one_length_stay_mixed() {
        // A file sorted by class: the first half of the rows is of one class. All rows are equally long.
        let rows: Vec<usize> = (0..1600).collect();
        let batches = epoch(&rows, &[30; 1600], 32, SamplingStrategy::GroupByLength, 7, 0);
        let first_class = |batch: &Vec<usize>| batch.iter().filter(|&&row| row < 800).count();
        assert!(batches.iter().all(|batch| (4..=28).contains(&first_class(batch))));
    }

    #[test]
    fn a_subset_is_drawn_and_sorted() {
        let drawn = subset(1000, Some(100), 1);
        assert_eq!(drawn.len(), 100);
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn != subset(1000, Some(100), 2));
        assert!(drawn.iter().any(|&row| row > 500));
        assert_eq!(subset(3, Some(100), 1), [0, 1, 2]);
    }
}
