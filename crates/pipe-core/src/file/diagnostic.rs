//! Problems in a pipeline file, and their rendering with line, column and caret.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::error::{Class, Error};

/// Which text a span points into: the file itself, or a `--set` / `--var` of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceId(pub usize);

impl SourceId {
    pub const FILE: SourceId = SourceId(0);
}

/// A byte range in one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub source: SourceId,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        Span { end: other.end.max(self.end), ..self }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Problem { span, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
}

/// The texts that spans point into: name and content, indexed by [`SourceId`].
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<(String, String)>);

impl Sources {
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        self.0.push((name.into(), text.into()));
        SourceId(self.0.len() - 1)
    }

    pub fn text(&self, id: SourceId) -> &str {
        &self.0[id.0].1
    }

    /// `file:line:column`, counted from 1.
    pub fn position(&self, span: Span) -> String {
        let (name, text) = &self.0[span.source.0];
        let before = &text[..floor_boundary(text, span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{name}:{line}:{column}")
    }

    /// One usage error out of all problems; plain text in `message`, carets in `rendered`.
    pub fn error(&self, problems: &[Problem]) -> Error {
        let plain: Vec<String> = problems.iter().map(|p| format!("{}: {}", self.position(p.span), p.message)).collect();
        let renderer = Renderer::plain();
        let rendered: Vec<String> = problems.iter().map(|p| self.render(p, &renderer)).collect();
        let mut error = Error::new(Class::Usage, plain.join("\n"));
        error.rendered = Some(rendered.join("\n\n"));
        error.hint = problems.iter().find_map(|p| p.hint.clone());
        error
    }

    fn render(&self, problem: &Problem, renderer: &Renderer) -> String {
        let (name, text) = &self.0[problem.span.source.0];
        let start = floor_boundary(text, problem.span.start);
        let mut end = floor_boundary(text, problem.span.end).max(start);
        // A caret under one line reads better than a bracket round a whole block.
        if let Some(newline) = text[start..end].find('\n') {
            end = start + newline;
        }
        // The one line alone: the renderer takes its time over a whole file, once for every problem.
        let first = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let last = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let number = text[..first].matches('\n').count() + 1;
        let annotation = AnnotationKind::Primary.span(start - first..end.min(last) - first);
        let snippet = Snippet::source(&text[first..last]).line_start(number).path(name.as_str()).annotation(annotation);
        let mut group = Group::with_title(Level::ERROR.primary_title(problem.message.as_str())).element(snippet);
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

const MAX_NAME: usize = 256;

/// The candidate closest to `word`, if one is close enough to be what was meant.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // The distance takes the product of the lengths in time and memory, and nobody misspells a name of this length.
    if word.len() > MAX_NAME {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_NAME)
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(word.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", or the list of what is possible.
pub fn suggestion(word: &str, candidates: &[&str]) -> Option<String> {
    match nearest(word, candidates.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if candidates.is_empty() => None,
        None => Some(format!("possible here: {}", candidates.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_points_at_its_line_and_column() {
        let mut sources = Sources::default();
        let file = sources.add("p.yaml", "a: 1\nlearning_rat: 3\n");
        let problem = Problem::new(Span { source: file, start: 5, end: 17 }, "unknown key `learning_rat`").hint("did you mean `learning_rate`?");
        let error = sources.error(&[problem]);
        assert_eq!(error.message, "p.yaml:2:1: unknown key `learning_rat`");
        let rendered = error.rendered.unwrap();
        assert!(rendered.contains("2 | learning_rat: 3"), "{rendered}");
        assert!(rendered.contains("^^^^^^^^^^^^"), "{rendered}");
        assert!(rendered.contains("did you mean `learning_rate`?"), "{rendered}");
    }

    #[test]
    fn nearest_finds_typos_and_leaves_strangers() {
        assert_eq!(nearest("learning_rat", ["learning_rate", "seed"]), Some("learning_rate"));
        assert_eq!(nearest("bananas", ["learning_rate", "seed"]), None);
    }
}
