//! From scores of windows to the answer of a question: the best span over all windows, as transformers' example finds it.

/// Starts and ends of each window that are paired.
const CANDIDATES: usize = 20;
/// The most tokens of an answer.
const MAX_ANSWER_TOKENS: usize = 30;

/// The spans of one question that scored best so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AnswerSearch {
    /// Score, start and end in the context in characters; the best first.
    spans: Vec<(f32, i32, i32)>,
    /// The score of there being no answer: the least of any window, since one window is enough to have it.
    null: Option<f32>,
}

/// What a question was answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundAnswer {
    /// In the context, in characters; absent where there is no answer.
    pub span: Option<(usize, usize)>,
    /// Its probability among the spans that were compared.
    pub score: f64,
}

impl AnswerSearch {
    /// Takes the scores of a window's tokens, `[tokens, 2]`, and where its tokens stand in the context.
    pub fn add(&mut self, scores: &[f32], offsets: &[[i32; 2]]) {
        let tokens = offsets.len().min(scores.len() / 2);
        let Some(null) = scores.first().zip(scores.get(1)).map(|(start, end)| start + end) else { return };
        self.null = Some(self.null.map_or(null, |least| least.min(null)));
        let in_context = || (0..tokens).filter(|&token| offsets[token][0] >= 0);
        let best = |end: usize| {
            let mut candidates: Vec<usize> = in_context().collect();
            // The earlier of equals.
            candidates.sort_by(|&a, &b| scores[2 * b + end].total_cmp(&scores[2 * a + end]).then(a.cmp(&b)));
            candidates.truncate(CANDIDATES);
            candidates
        };
        let (starts, ends) = (best(0), best(1));
        for &start in &starts {
            for &end in ends.iter().filter(|&&end| end >= start && end - start < MAX_ANSWER_TOKENS) {
                self.spans.push((scores[2 * start] + scores[2 * end + 1], offsets[start][0], offsets[end][1]));
            }
        }
        // Windows overlap, and the order in which they come must decide nothing.
        self.spans.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        self.spans.dedup_by_key(|span| (span.1, span.2));
        self.spans.truncate(CANDIDATES);
    }

    /// The best answer; `may_be_none`: there being none is one too.
    pub fn finish(&self, may_be_none: bool) -> FoundAnswer {
        let null = self.null.filter(|_| may_be_none || self.spans.is_empty());
        let best = self.spans.first().map_or(f32::NEG_INFINITY, |span| span.0);
        let top = null.map_or(best, |null| null.max(best));
        let weight = |score: f32| f64::from(score - top).exp();
        let sum: f64 = self.spans.iter().map(|span| weight(span.0)).sum::<f64>() + null.map_or(0.0, weight);
        match self.spans.first() {
            Some(&(score, start, end)) if null.is_none_or(|null| score >= null) => {
                FoundAnswer { span: Some((start as usize, end as usize)), score: weight(score) / sum }
            }
            _ => FoundAnswer { span: None, score: null.map_or(0.0, |null| weight(null) / sum) },
        }
    }
}

/// Characters `start..end` of a text.
pub fn characters(text: &str, start: usize, end: usize) -> &str {
    let at = |number: usize| text.char_indices().nth(number).map_or(text.len(), |(byte, _)| byte);
    let (start, end) = (at(start), at(end));
    text.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_span_lies_in_the_context_and_in_order() {
        let offsets = [[-1, -1], [-1, -1], [0, 2], [3, 5], [6, 8]];
        // Of the question, then an end before its start: neither is an answer.
        let scores = [0.0, 0.0, 9.0, 9.0, 1.0, 6.0, 5.0, 2.0, 3.0, 4.0];
        let mut search = AnswerSearch::default();
        search.add(&scores, &offsets);
        let found = search.finish(false);
        assert_eq!(found.span, Some((3, 8)));
        // By brute force over all spans: 5+4, 3+4, 5+2, 1+6, 1+2, 1+4.
        let sum: f64 = [9.0f64, 7.0, 7.0, 7.0, 3.0, 5.0].iter().map(|score| (score - 9.0).exp()).sum();
        assert!((found.score - 1.0 / sum).abs() < 1e-9);
    }

    #[test]
    fn no_answer_needs_every_window_to_say_so() {
        let offsets = [[-1, -1], [0, 1]];
        let mut search = AnswerSearch::default();
        search.add(&[4.0, 4.0, 1.0, 1.0], &offsets);
        assert_eq!(search.finish(true).span, None);
        assert_eq!(search.finish(false).span, Some((0, 1)));
        search.add(&[-4.0, -4.0, 0.5, 0.5], &[[-1, -1], [1, 2]]);
        assert_eq!(search.finish(true).span, Some((0, 1)));
        assert_eq!(AnswerSearch::default().finish(true), FoundAnswer { span: None, score: 0.0 });
    }

    #[test]
    fn windows_may_come_in_any_order() {
        let windows = [([0.0, 0.0, 1.0, 2.0, 3.0, 1.0], [[-1, -1], [0, 1], [1, 2]]), ([0.0, 0.0, 3.0, 1.0, 2.0, 2.5], [[-1, -1], [1, 2], [2, 3]])];
        let of = |order: [usize; 2]| {
            let mut search = AnswerSearch::default();
            order.iter().for_each(|&at| search.add(&windows[at].0, &windows[at].1));
            search
        };
        assert_eq!(of([0, 1]), of([1, 0]));
    }

    #[test]
    fn characters_are_counted_as_such() {
        assert_eq!(characters("a😀中e\u{301}z", 1, 3), "😀中");
        assert_eq!(characters("ab", 1, 9), "b");
        assert_eq!(characters("ab", 5, 9), "");
    }
}
