use std::borrow::Cow;
use pipe_core::config::{OperatorConfig, Operator, KeySource};
use super::*;
pub struct ScrubKey;
impl ScrubKey { pub fn read(_: &KeySource, _: &std::path::Path) -> pipe_core::Result<ScrubKey> { Ok(ScrubKey) } pub fn id(&self) -> String { String::new() } }
pub struct Scrubbed<'t> { pub text: Cow<'t, str>, pub drop_row: bool }
impl Scrubber {
    pub fn scrub_noting<'t>(&self, text: &'t str, counts: &mut ScrubCounts, mut edits: Option<&mut Edits>) -> Scrubbed<'t> {
        let mut clean = Cow::Borrowed(text);
        for _ in 0..MAX_ROUNDS {
            let hits = self.find(&clean);
            if hits.is_empty() { break; }
            let mut out = String::with_capacity(clean.len());
            let mut from = 0;
            let mut round = Vec::new();
            for hit in hits {
                out.push_str(&clean[from..hit.start]);
                out.push_str(hit.entity.placeholder());
                round.push(Edit { start: hit.start, end: hit.end, length: hit.entity.placeholder().len() });
                counts.add_hit(&Cow::Borrowed(hit.entity.name()), Operator::Placeholder, hit.verdict);
                from = hit.end;
            }
            out.push_str(&clean[from..]);
            clean = Cow::Owned(out);
            if let Some(edits) = edits.as_deref_mut() { edits.add_round(round); }
        }
        Scrubbed { text: clean, drop_row: false }
    }
    pub fn apply_whole<'t>(&self, value: &'t str, operator: OperatorConfig, _: &str) -> Option<Cow<'t, str>> { let _ = operator; Some(Cow::Borrowed(value)) }
    pub fn holds_any(&self, text: &str) -> bool { !self.find(text).is_empty() }
    pub fn residual(&self, text: &str) -> usize { self.find(text).len() }
}
