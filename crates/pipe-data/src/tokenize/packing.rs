//! Several documents in one row: best fit, longest first.

use std::collections::BTreeMap;

use super::row::{IGNORED, Target, TokenRow};

/// Puts rows of language modelling together to rows of at most `max_length` tokens. The tokens of the n-th document of a row
/// have `n` in the attention mask, by which each is kept from seeing the others. Which rows share one follows from their
/// lengths and order alone.
pub(super) fn pack(mut rows: Vec<TokenRow>, max_length: usize) -> Vec<TokenRow> {
    // Stable, so that equal lengths stay in order.
    rows.sort_by_key(|row| std::cmp::Reverse(row.tokens.ids.len()));
    let mut packed: Vec<TokenRow> = Vec::new();
    // Room that is left → rows with that room, the first of which is filled first.
    let mut room: BTreeMap<usize, std::collections::BTreeSet<usize>> = BTreeMap::new();
    for row in rows {
        let length = row.tokens.ids.len();
        // A document's number is an `i16`.
        let fits = room.range(length..).find_map(|(&left, at)| {
            let at = at.iter().copied().find(|&at| packed[at].tokens.mask.last().is_none_or(|&documents| documents < i16::MAX))?;
            Some((left, at))
        });
        let (left, at) = match fits {
            Some((left, at)) => {
                add(&mut packed[at], row);
                if let Some(rows) = room.get_mut(&left) {
                    rows.remove(&at);
                    if rows.is_empty() {
                        room.remove(&left);
                    }
                }
                (left - length, at)
            }
            None => {
                packed.push(row);
                (max_length.saturating_sub(length), packed.len() - 1)
            }
        };
        if left > 0 {
            room.entry(left).or_default().insert(at);
        }
    }
    packed
}

fn add(to: &mut TokenRow, row: TokenRow) {
    let document = to.tokens.mask.last().copied().unwrap_or(0) + 1;
    to.tokens.mask.extend(std::iter::repeat_n(document, row.tokens.ids.len()));
    to.tokens.ids.extend(row.tokens.ids);
    to.tokens.type_ids.extend(row.tokens.type_ids);
    to.tokens.lost += row.tokens.lost;
    if let (Target::Tokens(labels), Target::Tokens(mut more)) = (&mut to.target, row.target) {
        // Nothing before it leads to a document's first token.
        if let Some(first) = more.first_mut() {
            *first = IGNORED;
        }
        labels.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::super::EncodedRow;
    use super::*;

    fn row(source: usize, length: usize) -> TokenRow {
        let ids: Vec<i32> = (0..length as i32).map(|at| source as i32 * 100 + at).collect();
        let target = Target::Tokens(ids.clone());
        TokenRow { source, tokens: EncodedRow { type_ids: vec![0; length], mask: vec![1; length], ids, lost: 0 }, target }
    }

    #[test]
    fn every_document_is_whole_in_one_row_with_a_number_of_its_own() {
        let lengths = [7, 3, 9, 1, 2, 5, 5, 10, 4];
        let packed = pack(lengths.iter().enumerate().map(|(source, &length)| row(source, length)).collect(), 10);
        assert_eq!(packed.len(), 5, "46 tokens fit five rows of ten");
        let mut seen: Vec<(i32, usize)> = Vec::new();
        for row in &packed {
            assert!(row.tokens.ids.len() <= 10);
            let Target::Tokens(labels) = &row.target else { panic!() };
            for document in 1..=*row.tokens.mask.last().unwrap() {
                let at: Vec<usize> = (0..row.tokens.ids.len()).filter(|&at| row.tokens.mask[at] == document).collect();
                assert_eq!(at.last().unwrap() - at[0] + 1, at.len(), "in one piece");
                seen.push((row.tokens.ids[at[0]] / 100, at.len()));
                assert!(document == 1 || labels[at[0]] == IGNORED);
                assert!(at[1..].iter().all(|&at| labels[at] == row.tokens.ids[at]));
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, lengths.iter().enumerate().map(|(source, &length)| (source as i32, length)).collect::<Vec<_>>());
    }
}
