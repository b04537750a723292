//! `stages:` to typed stages: matrices unfolded, references found, variables filled in, settings read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::diagnostic::{Problem, Span, suggestion};
use super::matrix::{Axis, Cell, ReferenceText, Selector, cell_name, cells, same, shown};
use super::node::{Key, Node, Value};
use super::vars::Variables;
use super::{Reader, from_node};
use crate::config::{Resources, StageConfig, StageKind};

pub(super) const STAGE_KEYS: [&str; 6] = ["uses", "from", "with", "publish", "matrix", "resources"];
/// Names become folders.
const MAX_NAME: usize = 100;
/// More cells than this are a slip, not a search.
const MAX_CELLS: usize = 1000;
/// Stages in the file, and in all its matrices together: what is found about one is found by walking the others.
const MAX_STAGES: usize = 500;
const MAX_UNFOLDED: usize = 2000;
/// No stage reads more than a few others.
const MAX_REFERENCES: usize = 16;

/// One entry of `stages:`, or one cell of a stage with a matrix.
#[derive(Debug)]
pub struct Stage {
    /// `train`, or `train[lr=3e-5]` in a matrix.
    pub name: String,
    /// The name in the file: that of all cells of a matrix.
    pub base: String,
    /// Axis and value, where there is a matrix.
    pub cell: Vec<(String, String)>,
    pub config: StageConfig,
    pub from: Vec<Reference>,
    pub publish: Option<PathBuf>,
    pub resources: Resources,
    /// The stage's name in the file.
    pub span: Span,
}

impl Stage {
    /// The name as a folder's.
    pub fn folder_name(&self) -> String {
        folder_name(&self.name)
    }
}

/// A stage's name as that of a folder: with a digest where it is long or has letters that no folder should have, so that no
/// two stages share one.
pub fn folder_name(stage: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.=,[]".contains(c) { c } else { '_' };
    let name: String = stage.chars().map(plain).take(MAX_NAME / 4).collect();
    if name == stage { name } else { format!("{name}-{}", &crate::digest::of_bytes(stage.as_bytes())[..8]) }
}

/// One entry of a `from:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    pub target: Target,
    pub split: Option<String>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Stage(String),
    /// `train[best]`: the best of these cells.
    Best(Vec<String>),
}

impl Target {
    /// All stages that it may stand for.
    pub fn stages(&self) -> &[String] {
        match self {
            Target::Stage(name) => std::slice::from_ref(name),
            Target::Best(names) => names,
        }
    }
}

/// A stage as it stands in the file, before its matrix is unfolded.
struct Entry<'f> {
    key: &'f Key,
    node: Node,
    own_axes: Vec<Axis>,
    references: Vec<(ReferenceText, Span)>,
}

impl Reader<'_> {
    pub(super) fn stages(&mut self, root: &Node, variables: &Variables) -> Option<Vec<Stage>> {
        let Some(node) = root.get("stages") else {
            self.problems.push(Problem::new(root.span, "the key `stages` is missing"));
            return None;
        };
        let Some(listed) = node.as_map().filter(|entries| !entries.is_empty()) else {
            self.problems.push(Problem::new(node.span, "`stages` is a mapping of stage names to stages"));
            return None;
        };
        if listed.len() > MAX_STAGES {
            self.problems.push(Problem::new(node.span, format!("a pipeline of more than {MAX_STAGES} stages")));
            return None;
        }
        let names: Vec<&str> = listed.iter().map(|(key, _)| key.name.as_str()).collect();
        let entries: Vec<Entry<'_>> = listed.iter().filter_map(|(key, node)| self.entry(key, node, &names, variables)).collect();
        let mut axes = BTreeMap::new();
        for at in 0..entries.len() {
            self.axes_of(at, &entries, &mut axes, &mut Vec::new());
        }
        let all_cells: Vec<Vec<Cell>> = (0..entries.len()).map(|at| cells(&axes[&at], MAX_CELLS).unwrap_or_default()).collect();
        for (entry, cells) in entries.iter().zip(&all_cells) {
            // An axis without values was reported, and a matrix has one cell even without axes.
            if cells.is_empty() && self.problems.is_empty() {
                self.problems.push(Problem::new(entry.key.span, format!("stage `{}` has more than {MAX_CELLS} cells", entry.key.name)));
            }
        }
        if all_cells.iter().map(Vec::len).sum::<usize>() > MAX_UNFOLDED {
            self.problems.push(Problem::new(node.span, format!("the matrices of this file make more than {MAX_UNFOLDED} stages")));
            return None;
        }
        let mut stages = Vec::new();
        for (entry, cells) in entries.iter().zip(&all_cells) {
            for cell in cells {
                if self.is_full() {
                    return None;
                }
                stages.extend(self.stage(entry, cell, &entries, &all_cells, variables));
            }
        }
        Some(stages)
    }

    /// Reads all but the settings, which may depend on the matrix.
    fn entry<'f>(&mut self, key: &'f Key, node: &Node, names: &[&str], variables: &Variables) -> Option<Entry<'f>> {
        if key.name.is_empty() || !key.name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
            self.problems.push(Problem::new(key.span, "a stage's name is made of letters, digits, `_` and `-`"));
        }
        if key.name.len() > MAX_NAME {
            self.problems.push(Problem::new(key.span, format!("a stage's name has at most {MAX_NAME} bytes")));
        }
        let Some(fields) = node.as_map() else {
            self.problems.push(Problem::new(key.span, format!("stage `{}` is a mapping with `uses`, `from`, `with`", key.name)));
            return None;
        };
        self.unknown_keys(fields, &STAGE_KEYS);
        let mut filled = |name: &str| {
            node.get(name).cloned().map(|mut node| {
                variables.apply(&mut node, self.problems);
                node
            })
        };
        let (matrix, from) = (filled("matrix"), filled("from"));
        let own_axes = matrix.map(|node| self.own_axes(&node)).unwrap_or_default();
        let references = from.map(|node| self.references(&node, names)).unwrap_or_default();
        Some(Entry { key, node: node.clone(), own_axes, references })
    }

    fn own_axes(&mut self, node: &Node) -> Vec<Axis> {
        let Some(entries) = node.as_map().filter(|entries| !entries.is_empty()) else {
            let problem = Problem::new(node.span, "`matrix` is a mapping of axes to lists of values");
            self.problems.push(problem.hint("for example `matrix: { lr: [3e-5, 5e-5] }`"));
            return Vec::new();
        };
        let mut axes = Vec::new();
        for (key, node) in entries {
            if key.name.is_empty() || !key.name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                self.problems.push(Problem::new(key.span, "an axis' name is made of letters, digits and `_`"));
            }
            let Value::Seq(values) = &node.value else {
                self.problems.push(Problem::new(node.span, format!("the axis `{}` is a list of values", key.name)));
                continue;
            };
            if values.is_empty() {
                self.problems.push(Problem::new(node.span, format!("the axis `{}` has no value", key.name)));
            }
            for (at, value) in values.iter().enumerate() {
                let text = shown(&value.value);
                if matches!(value.value, Value::Seq(_) | Value::Map(_) | Value::Null) || text.is_empty() || text.contains(['[', ']', ',', '=']) {
                    self.problems.push(Problem::new(value.span, "a value of an axis is a number, true/false or a text without `[ ] , =`"));
                } else if values[..at].iter().any(|other| same(&other.value, &value.value)) {
                    self.problems.push(Problem::new(value.span, format!("`{text}` stands twice in the axis `{}`", key.name)));
                }
            }
            axes.push(Axis { name: key.name.clone(), values: values.clone() });
        }
        axes
    }

    fn references(&mut self, node: &Node, names: &[&str]) -> Vec<(ReferenceText, Span)> {
        let items: Vec<&Node> = match &node.value {
            Value::Seq(items) => items.iter().collect(),
            _ => vec![node],
        };
        if items.len() > MAX_REFERENCES {
            self.problems.push(Problem::new(node.span, format!("a stage that reads more than {MAX_REFERENCES} others")));
            return Vec::new();
        }
        let mut references = Vec::new();
        for item in items {
            if self.is_full() {
                break;
            }
            let Some(text) = self.text(item) else { continue };
            match ReferenceText::parse(&text) {
                Err(message) => self
                    .problems
                    .push(Problem::new(item.span, message).hint("write `stage`, `stage.split`, `\"stage[axis=value]\"` or `\"stage[best]\"`")),
                Ok(reference) if !names.contains(&reference.stage.as_str()) => {
                    let message = format!("there is no stage `{}`", reference.stage);
                    self.problems.push(Problem::new(item.span, message).maybe_hint(suggestion(&reference.stage, names)));
                }
                Ok(reference) => references.push((reference, item.span)),
            }
        }
        references
    }

    /// The axes of a stage: those of what it reads without choosing, then its own. A cycle ends here without them;
    /// the plan reports it.
    fn axes_of(&mut self, at: usize, entries: &[Entry<'_>], known: &mut BTreeMap<usize, Vec<Axis>>, open: &mut Vec<usize>) -> Vec<Axis> {
        if let Some(axes) = known.get(&at) {
            return axes.clone();
        }
        if open.contains(&at) {
            return Vec::new();
        }
        open.push(at);
        let mut axes: Vec<Axis> = Vec::new();
        for (reference, span) in &entries[at].references {
            let Some(of) = entries.iter().position(|entry| entry.key.name == reference.stage) else { continue };
            let theirs = self.axes_of(of, entries, known, open);
            self.check_selector(reference, *span, &theirs);
            if reference.selector == Selector::Best {
                continue;
            }
            for axis in theirs.into_iter().filter(|axis| reference.selector.fixed(&axis.name).is_none()) {
                match axes.iter().find(|other| other.name == axis.name) {
                    None => axes.push(axis),
                    Some(other) if other.values.iter().map(|node| &node.value).eq(axis.values.iter().map(|node| &node.value)) => {}
                    Some(_) => {
                        let message = format!("two inputs have an axis `{}` with different values", axis.name);
                        self.problems.push(Problem::new(*span, message).hint("rename one of them, or choose a value: `\"stage[axis=value]\"`"));
                    }
                }
            }
        }
        for axis in &entries[at].own_axes {
            if axes.iter().any(|other| other.name == axis.name) {
                let message = format!("the axis `{}` comes from an input already", axis.name);
                self.problems.push(Problem::new(entries[at].key.span, message).hint("give this one another name"));
            } else {
                axes.push(axis.clone());
            }
        }
        open.pop();
        known.insert(at, axes.clone());
        axes
    }

    fn check_selector(&mut self, reference: &ReferenceText, span: Span, axes: &[Axis]) {
        match &reference.selector {
            Selector::Best if axes.is_empty() => {
                self.problems.push(Problem::new(span, format!("`{}` has no matrix to choose from", reference.stage)).hint("remove the `[…]`"));
            }
            Selector::Best => {}
            Selector::Values(values) => {
                for (axis, value) in values {
                    let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
                    match axes.iter().find(|known| known.name == *axis) {
                        None => {
                            let message = format!("`{}` has no axis `{axis}`", reference.stage);
                            self.problems.push(Problem::new(span, message).maybe_hint(suggestion(axis, &names)));
                        }
                        Some(known) if !known.values.iter().any(|node| same(&node.value, value)) => {
                            let possible: Vec<String> = known.values.iter().map(|node| shown(&node.value)).collect();
                            let message = format!("the axis `{axis}` of `{}` has no value `{}`", reference.stage, shown(value));
                            self.problems.push(Problem::new(span, message).hint(format!("possible here: {}", possible.join(", "))));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
    }

    fn stage(&mut self, entry: &Entry<'_>, cell: &Cell, entries: &[Entry<'_>], all_cells: &[Vec<Cell>], variables: &Variables) -> Option<Stage> {
        let key = entry.key;
        let cell_values = cell.iter().map(|(axis, value)| (format!("matrix.{axis}"), value.clone()));
        let variables = Variables { cell: Rc::new(cell_values.collect()), ..variables.clone() };
        let mut filled = |name: &str, keep_run_names: bool| {
            entry.node.get(name).cloned().map(|mut node| {
                Variables { keep_run_names, ..variables.clone() }.apply(&mut node, self.problems);
                node
            })
        };
        let (uses, with, publish, resources) = (filled("uses", false), filled("with", false), filled("publish", true), filled("resources", false));
        let Some(uses) = uses else {
            let kinds = StageKind::ALL.map(StageKind::name).join(", ");
            self.problems.push(Problem::new(key.span, "the key `uses` is missing").hint(format!("add `uses: …` with one of {kinds}")));
            return None;
        };
        let kind = self.report(from_node::<StageKind>(&uses));
        let publish = publish.and_then(|node| self.text(&node)).map(PathBuf::from);
        let resources = match resources {
            Some(node) => self.report(from_node::<Resources>(&node))?,
            None => Resources::default(),
        };
        let empty = Node::new(key.span, Value::Map(Vec::new()));
        let config = self.report(StageConfig::read(kind?, with.as_ref().unwrap_or(&empty)))?;
        let from = entry.references.iter().filter_map(|(reference, span)| reference_of(reference, *span, cell, entries, all_cells)).collect();
        let name = cell_name(&key.name, cell);
        let cell = cell.iter().map(|(axis, value)| (axis.clone(), shown(&value.value))).collect();
        Some(Stage { name, base: key.name.clone(), cell, config, from, publish, resources, span: key.span })
    }
}

/// What a reference in the file means for one cell. Absent only where a problem was reported before.
fn reference_of(reference: &ReferenceText, span: Span, cell: &Cell, entries: &[Entry<'_>], all_cells: &[Vec<Cell>]) -> Option<Reference> {
    let of = entries.iter().position(|entry| entry.key.name == reference.stage)?;
    let all = &all_cells[of];
    let shared = |candidate: &Cell| {
        candidate.iter().all(|(axis, value)| {
            let own = cell.iter().find(|(name, _)| name == axis).filter(|_| reference.selector.fixed(axis).is_none());
            own.is_none_or(|(_, own)| same(&own.value, &value.value))
        })
    };
    let target = match &reference.selector {
        Selector::Best => Target::Best(all.iter().map(|cell| cell_name(&reference.stage, cell)).collect()),
        selector => Target::Stage(cell_name(&reference.stage, all.iter().find(|candidate| selector.admits(candidate) && shared(candidate))?)),
    };
    Some(Reference { target, split: reference.split.clone(), span })
}
