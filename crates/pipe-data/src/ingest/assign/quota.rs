//! How many rows of each class each split gets.

use super::rows::MAX_SPLITS;

/// Shares and remainders are counted in this part of a row, so that all is done in whole numbers.
const UNIT: u64 = 1_000_000_000_000;

/// Rows per class (outer) and split (inner), for classes of so many rows.
///
/// The rows of a class add up exactly, and each number is its exact share rounded down or up: less than a row off. So are
/// the totals of the splits, which would not hold if each class were rounded by itself (ten thousand classes of two rows
/// would leave nothing to test). This is controlled rounding (Cox, 1987, "A constructive procedure for unbiased
/// controlled rounding", here with the larger remainder going up): remainders are shifted along cycles of cells, which
/// changes no sum, until none is left.
pub(super) fn quotas(classes: &[u64], shares: &[f64]) -> Vec<Vec<u64>> {
    let shares = in_units(shares);
    let total: u64 = classes.iter().sum();
    let part = |rows: u64, split: usize| u128::from(rows) * u128::from(shares[split]);
    let mut whole: Vec<[u64; MAX_SPLITS]> = Vec::new();
    let mut rest: Vec<[u64; MAX_SPLITS]> = Vec::new();
    for rows in classes {
        whole.push(std::array::from_fn(|split| (part(*rows, split) / u128::from(UNIT)) as u64));
        rest.push(std::array::from_fn(|split| (part(*rows, split) % u128::from(UNIT)) as u64));
    }
    // What the totals lack to whole numbers, as one more class: then the remainders of each split add up to whole rows.
    whole.push([0; MAX_SPLITS]);
    rest.push(std::array::from_fn(|split| (UNIT - (part(total, split) % u128::from(UNIT)) as u64) % UNIT));
    let mut cells = Cells { whole, rest };
    let mut left = [[0, 1], [0, 2], [1, 2]].map(|splits| cells.settle_pair(splits));
    if let [Some(x), Some(y), Some(z)] = &mut left {
        cells.shift(&[(*x, 0), (*z, 1), (*y, 2)], &[(*x, 1), (*z, 2), (*y, 0)]);
    }
    cells.whole.pop();
    cells.whole.iter().map(|row| row.to_vec()).collect()
}

/// Shares as whole units that add up to one row, splits that do not exist having none.
fn in_units(shares: &[f64]) -> [u64; MAX_SPLITS] {
    let sum: f64 = shares.iter().sum();
    let mut units: [u64; MAX_SPLITS] = std::array::from_fn(|split| shares.get(split).map_or(0, |share| (share / sum * UNIT as f64).round() as u64));
    let largest = (0..MAX_SPLITS).max_by_key(|split| units[*split]).unwrap_or(0);
    let others: u64 = (0..MAX_SPLITS).filter(|split| *split != largest).map(|split| units[split]).sum();
    units[largest] = UNIT - others;
    units
}

struct Cells {
    whole: Vec<[u64; MAX_SPLITS]>,
    /// Below one row each.
    rest: Vec<[u64; MAX_SPLITS]>,
}

impl Cells {
    /// Shifts remainders of two splits until one class at most has a remainder in both of them; that class.
    fn settle_pair(&mut self, [a, b]: [usize; 2]) -> Option<usize> {
        let mut open: Option<usize> = None;
        for class in 0..self.rest.len() {
            let both = |cells: &Cells, class: usize| cells.rest[class][a] > 0 && cells.rest[class][b] > 0;
            if !both(self, class) {
                continue;
            }
            open = match open {
                None => Some(class),
                Some(other) => {
                    let rest = |class: usize, split: usize| self.rest[class][split];
                    let larger = rest(class, a) + rest(other, b) > rest(other, a) + rest(class, b);
                    let (up, down) = if larger { (class, other) } else { (other, class) };
                    self.shift(&[(up, a), (down, b)], &[(up, b), (down, a)]);
                    [other, class].into_iter().find(|class| both(self, *class))
                }
            };
        }
        open
    }

    /// Adds to some cells what it takes from the others, until one of them is a whole number.
    fn shift(&mut self, up: &[(usize, usize)], down: &[(usize, usize)]) {
        let room = up.iter().map(|(class, split)| UNIT - self.rest[*class][*split]);
        let by = room.chain(down.iter().map(|(class, split)| self.rest[*class][*split])).min().unwrap_or(0);
        for (class, split) in up {
            let rest = &mut self.rest[*class][*split];
            *rest += by;
            if *rest == UNIT {
                *rest = 0;
                self.whole[*class][*split] += 1;
            }
        }
        for (class, split) in down {
            self.rest[*class][*split] -= by;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals(quotas: &[Vec<u64>]) -> Vec<u64> {
        (0..MAX_SPLITS).map(|split| quotas.iter().map(|class| class[split]).sum()).collect()
    }

    #[test]
    fn rare_classes_reach_every_split() {
        let quotas = quotas(&[2; 1000], &[0.8, 0.1, 0.1]);
        assert_eq!(totals(&quotas), [1600, 200, 200]);
        assert!(quotas.iter().all(|class| class.iter().sum::<u64>() == 2 && class[1] <= 1 && class[2] <= 1));
    }

    #[test]
    fn one_class_is_rounded_by_largest_remainders() {
        assert_eq!(quotas(&[10], &[0.34, 0.33, 0.33]), [[4, 3, 3]]);
        assert_eq!(quotas(&[3], &[0.8, 0.1, 0.1]), [[3, 0, 0]]);
        assert_eq!(quotas(&[5], &[0.5, 0.3, 0.2]).iter().flatten().sum::<u64>(), 5);
        assert_eq!(quotas(&[7], &[1.0]), [[7, 0, 0]]);
        assert_eq!(quotas(&[], &[0.5, 0.5]), Vec::<Vec<u64>>::new());
    }

    /// Counts of `sklearn.model_selection.StratifiedShuffleSplit(1, train_size=0.75, test_size=0.25, random_state=0)` 1.9.1
    /// on classes of these sizes.
    #[test]
    fn counts_are_those_of_scikit_learn() {
        let classes = [1201, 397, 78, 45, 11, 268];
        let expected: Vec<Vec<u64>> = SKLEARN.iter().map(|counts| vec![counts[0], counts[1], 0]).collect();
        assert_eq!(quotas(&classes, &[0.75, 0.25]), expected);
    }

    const SKLEARN: [[u64; 2]; 6] = [[901, 300], [298, 99], [58, 20], [34, 11], [8, 3], [201, 67]];

    proptest! {
        #[test]
        fn every_number_is_less_than_a_row_off(
            classes in prop::collection::vec(prop_oneof![0u64..12, 0u64..100_000], 0..60),
            shares in prop::collection::vec(0.01f64..1.0, 1..=MAX_SPLITS),
        ) {
            let quotas = quotas(&classes, &shares);
            let sum: f64 = shares.iter().sum();
            let near = |found: u64, rows: u64, split: usize| {
                let exact = shares.get(split).map_or(0.0, |share| rows as f64 * share / sum);
                (found as f64 - exact).abs() < 1.0
            };
            for (class, rows) in quotas.iter().zip(&classes) {
                prop_assert_eq!(class.iter().sum::<u64>(), *rows);
                prop_assert!((0..MAX_SPLITS).all(|split| near(class[split], *rows, split)), "{:?} of {}", class, rows);
            }
            for (split, total) in totals(&quotas).into_iter().enumerate() {
                prop_assert!(near(total, classes.iter().sum(), split));
            }
        }
    }
}
