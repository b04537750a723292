//! Where the parts of a text went when it was scrubbed.

/// Replacements, round after round: each round's offsets are in the text that the round before it left.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Edits(Vec<Vec<Edit>>);

/// Bytes `start..end` became `length` bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edit {
    pub start: usize,
    pub end: usize,
    pub length: usize,
}

impl Edits {
    /// Adds a round; its edits are in order, none overlapping another.
    pub fn add_round(&mut self, round: Vec<Edit>) {
        self.0.push(round);
    }

    /// Where bytes `start..end` of the raw text stand now. A part of a replaced value becomes the whole replacement.
    pub fn map(&self, start: usize, end: usize) -> (usize, usize) {
        self.0.iter().fold((start, end), |(start, end), round| {
            let mut shift = 0isize;
            let (mut new_start, mut new_end) = (None, None);
            let moved = |offset: usize, shift: isize| offset.saturating_add_signed(shift);
            for edit in round {
                let replacement = moved(edit.start, shift);
                if new_start.is_none() && start < edit.end {
                    new_start = Some(if start >= edit.start { replacement } else { moved(start, shift) });
                }
                if new_end.is_none() && end <= edit.end {
                    new_end = Some(if end > edit.start { replacement + edit.length } else { moved(end, shift) });
                }
                shift += edit.length as isize - (edit.end - edit.start) as isize;
            }
            (new_start.unwrap_or_else(|| moved(start, shift)), new_end.unwrap_or_else(|| moved(end, shift)))
        })
    }

    /// Where the bytes at `offsets` of the raw text, which ascend, stand now; absent for those of replaced values.
    pub fn kept(&self, offsets: &[usize]) -> Vec<Option<usize>> {
        let mut kept: Vec<Option<usize>> = offsets.iter().copied().map(Some).collect();
        for round in &self.0 {
            let mut edits = round.iter().peekable();
            let mut shift = 0isize;
            for place in &mut kept {
                let Some(offset) = *place else { continue };
                while let Some(edit) = edits.next_if(|edit| edit.end <= offset) {
                    shift += edit.length as isize - (edit.end - edit.start) as isize;
                }
                *place = match edits.peek() {
                    Some(edit) if edit.start <= offset => None,
                    _ => Some(offset.saturating_add_signed(shift)),
                };
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_move_with_what_is_replaced_before_and_in_them() {
        // "call 415-555-0123 or Bob" → "call <PHONE> or Bob"
        let mut edits = Edits::default();
        edits.add_round(vec![Edit { start: 5, end: 17, length: 7 }]);
        assert_eq!(edits.map(0, 4), (0, 4));
        assert_eq!(edits.map(5, 17), (5, 12));
        assert_eq!(edits.map(9, 12), (5, 12));
        assert_eq!(edits.map(0, 10), (0, 12));
        assert_eq!(edits.map(21, 24), (16, 19));
        // Then "Bob" → "<PERSON>".
        edits.add_round(vec![Edit { start: 16, end: 19, length: 8 }]);
        assert_eq!(edits.map(22, 23), (16, 24));
        assert_eq!(edits.map(5, 24), (5, 24));
    }

    #[test]
    fn single_bytes_stay_or_are_gone() {
        // "call 415-555-0123 or Bob" → "call <PHONE> or Bob" → "call <PHONE> or <PERSON>"
        let mut edits = Edits::default();
        edits.add_round(vec![Edit { start: 5, end: 17, length: 7 }]);
        edits.add_round(vec![Edit { start: 16, end: 19, length: 8 }]);
        assert_eq!(edits.kept(&[0, 4, 5, 16, 17, 20, 21, 23, 24]), [Some(0), Some(4), None, None, Some(12), Some(15), None, None, Some(24)]);
        assert_eq!(Edits::default().kept(&[3]), [Some(3)]);
    }
}
