//! Where the tokens of a batch stand that is padded on the left: all rows end together, so that each next token has the
//! same place in all of them.

/// Prompts of different lengths as one matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedPrompts {
    pub slots: Slots,
    /// Row-major `[rows, length]`. Padding has the id 0: attention sees none of it.
    pub input_ids: Vec<i64>,
}

impl PaddedPrompts {
    pub fn new<'p>(prompts: impl Iterator<Item = &'p [u32]> + Clone) -> PaddedPrompts {
        let length = prompts.clone().map(<[u32]>::len).max().unwrap_or(0);
        let padding: Vec<usize> = prompts.clone().map(|ids| length - ids.len()).collect();
        let row = |ids: &'p [u32]| std::iter::repeat_n(0, length - ids.len()).chain(ids.iter().map(|&id| i64::from(id)));
        PaddedPrompts { slots: Slots { padding, length }, input_ids: prompts.flat_map(row).collect() }
    }

    pub fn rows(&self) -> usize {
        self.slots.rows()
    }

    /// Length of every row, padding included.
    pub fn length(&self) -> usize {
        self.slots.length
    }

    /// All places in pieces of at most `most` of them in all rows together: where each piece begins and ends, and its tokens. The last
    /// one is that after which the next token is asked for.
    pub fn pieces(&self, most: usize) -> impl Iterator<Item = (usize, usize, Vec<i64>)> {
        let (rows, length) = (self.rows(), self.length());
        let piece = (most / rows.max(1)).max(1);
        (0..length).step_by(piece).map(move |begin| {
            let end = (begin + piece).min(length);
            let ids = (0..rows).flat_map(|row| &self.input_ids[row * length + begin..row * length + end]).copied().collect();
            (begin, end, ids)
        })
    }
}

/// What each place of a batch holds: padding, then tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// How many places of each row come before its first token.
    padding: Vec<usize>,
    length: usize,
}

impl Slots {
    pub fn rows(&self) -> usize {
        self.padding.len()
    }

    /// Length of every row, padding included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// One more token in each row.
    pub fn push(&mut self) {
        self.length += 1;
    }

    /// These rows alone, in this order.
    pub fn keep(&mut self, rows: &[usize]) {
        self.padding = rows.iter().map(|&row| self.padding[row]).collect();
    }

    /// 1 for a token, 0 for padding, up to the place `end`: `[rows, end]`.
    pub fn attention_mask(&self, end: usize) -> Vec<i64> {
        self.padding.iter().flat_map(|&padding| (0..end).map(move |at| i64::from(at >= padding))).collect()
    }

    /// How many tokens precede each one of the places `begin..end`, as transformers counts them: `[rows, end - begin]`. Padding
    /// has 0, so that it has a place in every table.
    pub fn position_ids(&self, begin: usize, end: usize) -> Vec<i64> {
        self.padding.iter().flat_map(|&padding| (begin..end).map(move |at| at.saturating_sub(padding) as i64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_on_the_right() {
        let prompts: [&[u32]; 3] = [&[7], &[4, 5, 6], &[8, 9]];
        let mut padded = PaddedPrompts::new(prompts.into_iter());
        assert_eq!(padded.input_ids, [0, 0, 7, 4, 5, 6, 0, 8, 9]);
        assert_eq!((padded.rows(), padded.length()), (3, 3));
        assert_eq!(padded.slots.attention_mask(3), [0, 0, 1, 1, 1, 1, 0, 1, 1]);
        assert_eq!(padded.slots.attention_mask(1), [0, 1, 0]);
        assert_eq!(padded.slots.position_ids(0, 3), [0, 0, 0, 0, 1, 2, 0, 0, 1]);
        padded.slots.push();
        padded.slots.keep(&[2, 0]);
        assert_eq!(padded.slots.position_ids(3, 4), [2, 1]);
        assert_eq!(padded.slots.attention_mask(4), [0, 1, 1, 1, 0, 0, 1, 1]);
    }
}
