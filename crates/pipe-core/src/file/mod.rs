//! The pipeline file: parsed to nodes, variables and overrides applied, then typed.
//!
//! ```yaml
//! version: 1
//! name: classify
//! root: ..
//! vars: { base: data/models/minilm-l6 }
//! stages:
//!   ingest: { uses: ingest, with: { source: { paths: ["data/*.csv"] }, columns: { text: text, label: label } } }
//!   tokenize: { uses: tokenize, from: ingest, with: { tokenizer: "${base}" } }
//! ```

mod de;
mod diagnostic;
mod node;
mod vars;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{StageConfig, StageKind};
use crate::error::{Error, IoContext, Result};

pub use de::from_node;
pub use diagnostic::{Problem, SourceId, Sources, Span, nearest, suggestion};
pub use node::{Key, Node, Value, parse};
use vars::Variables;

/// The only version of the file format so far.
const VERSION: i64 = 1;
const TOP_KEYS: [&str; 5] = ["version", "name", "root", "vars", "stages"];
const STAGE_KEYS: [&str; 4] = ["uses", "from", "with", "publish"];

/// A pipeline file, typed and checked, all variables resolved.
#[derive(Debug)]
pub struct PipelineFile {
    pub path: PathBuf,
    pub name: String,
    /// Absolute; relative paths and `.pipe/` start here.
    pub root: PathBuf,
    /// In the order of the file.
    pub stages: Vec<Stage>,
    pub sources: Sources,
}

/// One entry of `stages:`.
#[derive(Debug)]
pub struct Stage {
    pub name: String,
    pub config: StageConfig,
    pub from: Vec<Reference>,
    pub publish: Option<PathBuf>,
    /// The stage's name in the file.
    pub span: Span,
}

/// `tokenize` or `tokenize.test` in a `from:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    pub stage: String,
    pub split: Option<String>,
    pub span: Span,
}

/// What the command line changes in a file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `name=value`
    pub vars: Vec<String>,
    /// `STAGE.with.key=YAML`
    pub sets: Vec<String>,
}

impl PipelineFile {
    /// Reads the file at `path`. Every problem found is in the one error.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<PipelineFile> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is not UTF-8 text", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::usage(format!("there is no pipeline file {}", path.display()))
                    .hint("give the path of a pipeline file, for example pipelines/classify.yaml"));
            }
            Err(error) => return Err(Error::io("read", path, error)),
        };
        let mut sources = Sources::default();
        sources.add(path.display().to_string(), text);
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = parent.canonicalize().doing("open the folder", parent)?;
        let mut problems = Vec::new();
        let read = Reader { sources: &mut sources, problems: &mut problems, folder }.read(overrides);
        match read {
            Some(content) if problems.is_empty() => {
                let (name, root, stages) = content;
                let name = name.unwrap_or_else(|| path.file_stem().map_or("pipeline".into(), |stem| stem.to_string_lossy().into_owned()));
                Ok(PipelineFile { path: path.to_owned(), name, root, stages, sources })
            }
            _ => Err(sources.error(&problems)),
        }
    }

    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

struct Reader<'r> {
    sources: &'r mut Sources,
    problems: &'r mut Vec<Problem>,
    folder: PathBuf,
}

type Content = (Option<String>, PathBuf, Vec<Stage>);

impl Reader<'_> {
    fn report<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn read(&mut self, overrides: &Overrides) -> Option<Content> {
        let parsed = parse(self.sources.text(SourceId::FILE), SourceId::FILE);
        let mut root = self.report(parsed)?;
        let entries = match root.as_map() {
            Some(entries) => entries.to_vec(),
            None => {
                self.problems.push(Problem::new(root.span, "a pipeline file is a mapping with `version` and `stages`"));
                return None;
            }
        };
        self.unknown_keys(&entries, &TOP_KEYS);
        self.version(&root);
        self.overrides(&mut root, overrides);
        let mut variables = self.variables(&root, overrides);
        let mut problems = std::mem::take(self.problems);
        if let Some(name) = root.get("name").cloned() {
            variables.values.entry("name".into()).or_insert(name);
        }
        let Value::Map(entries) = &mut root.value else { unreachable!("checked above") };
        for (key, node) in entries.iter_mut().filter(|(key, _)| key.name != "vars") {
            let _ = key;
            variables.apply(node, &mut problems);
        }
        *self.problems = problems;
        let name = root.get("name").and_then(|node| self.text(node));
        let pipeline_root = match root.get("root").and_then(|node| Some((self.text(node)?, node.span))) {
            None => self.folder.clone(),
            Some((text, span)) => match self.folder.join(&text).canonicalize() {
                Ok(path) => path,
                Err(_) => {
                    self.problems.push(Problem::new(span, format!("there is no folder `{text}` beside the pipeline file")));
                    self.folder.clone()
                }
            },
        };
        let stages = self.stages(&root)?;
        Some((name, pipeline_root, stages))
    }

    fn unknown_keys(&mut self, entries: &[(Key, Node)], known: &[&str]) {
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            self.problems.push(Problem::new(key.span, format!("unknown key `{}`", key.name)).maybe_hint(suggestion(&key.name, known)));
        }
    }

    fn version(&mut self, root: &Node) {
        match root.get("version") {
            Some(Node { value: Value::Int(VERSION), .. }) => {}
            Some(node) => self.problems.push(Problem::new(node.span, format!("this pipe reads version {VERSION} of the file format"))),
            None => {
                let start = Span { source: SourceId::FILE, start: 0, end: 0 };
                self.problems.push(Problem::new(start, "the key `version` is missing").hint("begin the file with `version: 1`"));
            }
        }
    }

    fn text(&mut self, node: &Node) -> Option<String> {
        let text = node.as_str().map(str::to_owned);
        if text.is_none() {
            self.problems.push(Problem::new(node.span, format!("expected text, found {}", node.value.kind())));
        }
        text
    }

    /// `--set STAGE.with.key=YAML`
    fn overrides(&mut self, root: &mut Node, overrides: &Overrides) {
        for set in &overrides.sets {
            let whole = self.sources.add("--set", set.as_str());
            let span = Span { source: whole, start: 0, end: set.len() };
            let Some((path, yaml)) = set.split_once('=') else {
                self.problems.push(Problem::new(span, "expected STAGE.with.key=value").hint("for example --set train.with.learning_rate=3e-5"));
                continue;
            };
            let parts: Vec<&str> = path.split('.').collect();
            let names: Vec<String> = root.get("stages").and_then(Node::as_map).unwrap_or(&[]).iter().map(|(key, _)| key.name.clone()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if !names.contains(&parts[0]) {
                self.problems.push(Problem::new(span, format!("there is no stage `{}`", parts[0])).maybe_hint(suggestion(parts[0], &names)));
                continue;
            }
            if parts.len() < 2 || !STAGE_KEYS.contains(&parts[1]) || parts.iter().any(|part| part.is_empty()) {
                self.problems
                    .push(Problem::new(span, "expected STAGE.with.key=value").hint(format!("for example --set {}.with.key=value", parts[0])));
                continue;
            }
            let parsed = parse(yaml, whole).map_err(|problem| Problem { span, ..problem });
            if let Some(mut node) = self.report(parsed) {
                respan(&mut node, span);
                let mut path = vec!["stages"];
                path.extend(parts);
                root.set(&path, node);
            }
        }
    }

    fn variables(&mut self, root: &Node, overrides: &Overrides) -> Variables {
        let mut values = BTreeMap::new();
        if let Some(node) = root.get("vars") {
            match node.as_map() {
                Some(entries) => {
                    for (key, node) in entries {
                        // A variable may read the environment; one pass, so not another variable.
                        let mut node = node.clone();
                        let environment = Variables { values: BTreeMap::new(), environment };
                        environment.apply(&mut node, self.problems);
                        values.insert(key.name.clone(), node);
                    }
                }
                None => self.problems.push(Problem::new(node.span, "`vars` is a mapping of names to values")),
            }
        }
        for var in &overrides.vars {
            let source = self.sources.add("--var", var.as_str());
            let span = Span { source, start: 0, end: var.len() };
            let Some((name, yaml)) = var.split_once('=') else {
                self.problems.push(Problem::new(span, "expected name=value").hint("for example --var max_length=64"));
                continue;
            };
            let known: Vec<&str> = values.keys().map(String::as_str).collect();
            if !known.contains(&name) {
                let hint = suggestion(name, &known).or_else(|| Some("the file declares no `vars:`".into()));
                self.problems.push(Problem::new(span, format!("the file declares no variable `{name}`")).maybe_hint(hint));
                continue;
            }
            let parsed = parse(yaml, source).map_err(|problem| Problem { span, ..problem });
            if let Some(mut node) = self.report(parsed) {
                respan(&mut node, span);
                values.insert(name.to_owned(), node);
            }
        }
        Variables { values, environment }
    }

    fn stages(&mut self, root: &Node) -> Option<Vec<Stage>> {
        let Some(node) = root.get("stages") else {
            self.problems.push(Problem::new(root.span, "the key `stages` is missing"));
            return None;
        };
        let Some(entries) = node.as_map().filter(|entries| !entries.is_empty()) else {
            self.problems.push(Problem::new(node.span, "`stages` is a mapping of stage names to stages"));
            return None;
        };
        let names: Vec<&str> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
        let mut stages = Vec::new();
        for (key, node) in entries {
            if key.name.is_empty() || !key.name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
                self.problems.push(Problem::new(key.span, "a stage's name is made of letters, digits, `_` and `-`"));
            }
            if let Some(stage) = self.stage(key, node, &names) {
                stages.push(stage);
            }
        }
        Some(stages)
    }

    fn stage(&mut self, key: &Key, node: &Node, names: &[&str]) -> Option<Stage> {
        let Some(entries) = node.as_map() else {
            self.problems.push(Problem::new(key.span, format!("stage `{}` is a mapping with `uses`, `from`, `with`", key.name)));
            return None;
        };
        self.unknown_keys(entries, &STAGE_KEYS);
        let Some(uses) = node.get("uses") else {
            let kinds = StageKind::ALL.map(StageKind::name).join(", ");
            self.problems.push(Problem::new(key.span, "the key `uses` is missing").hint(format!("add `uses: …` with one of {kinds}")));
            return None;
        };
        let kind = self.report(from_node::<StageKind>(uses));
        let from = node.get("from").map(|node| self.references(node, names)).unwrap_or_default();
        let publish = node.get("publish").and_then(|node| self.text(node)).map(PathBuf::from);
        let empty = Node::new(key.span, Value::Map(Vec::new()));
        let config = self.report(StageConfig::read(kind?, node.get("with").unwrap_or(&empty)))?;
        Some(Stage { name: key.name.clone(), config, from, publish, span: key.span })
    }

    fn references(&mut self, node: &Node, names: &[&str]) -> Vec<Reference> {
        let items: Vec<&Node> = match &node.value {
            Value::Seq(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut references = Vec::new();
        for item in items {
            let Some(text) = self.text(item) else { continue };
            let (stage, split) = match text.split_once('.') {
                Some((stage, split)) => (stage.to_owned(), Some(split.to_owned())),
                None => (text, None),
            };
            if !names.contains(&stage.as_str()) {
                self.problems.push(Problem::new(item.span, format!("there is no stage `{stage}`")).maybe_hint(suggestion(&stage, names)));
                continue;
            }
            references.push(Reference { stage, split, span: item.span });
        }
        references
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A value from the command line is shown as a whole, whatever is wrong inside it.
fn respan(node: &mut Node, span: Span) {
    node.span = span;
    match &mut node.value {
        Value::Seq(items) => items.iter_mut().for_each(|item| respan(item, span)),
        Value::Map(entries) => entries.iter_mut().for_each(|(key, item)| {
            key.span = span;
            respan(item, span);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: &Overrides) -> Result<PipelineFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, text).unwrap();
        PipelineFile::load(&path, overrides)
    }

    const GOOD: &str = "version: 1\nvars: { length: 32 }\nstages:\n  ingest: { uses: ingest, with: { source: { paths: [a.csv] } } }\n  tok:\n    uses: tokenize\n    from: ingest\n    with: { tokenizer: m, max_length: \"${length}\" }\n";

    #[test]
    fn a_file_is_typed_and_overridden() {
        let file = load(GOOD, &Overrides { vars: vec!["length=16".into()], sets: vec!["tok.with.padding=max_length".into()] }).unwrap();
        let StageConfig::Tokenize(config) = &file.stage("tok").unwrap().config else { panic!("not a tokenize stage") };
        assert_eq!(config.max_length, Some(16));
        assert_eq!(config.padding, crate::config::Padding::MaxLength);
        assert_eq!(file.name, "p");
    }

    #[test]
    fn all_problems_of_a_file_show_at_once() {
        let text = GOOD.replace("max_length:", "max_lenght:").replace("from: ingest", "from: ingets").replace("paths:", "path:");
        let error = load(&text, &Overrides::default()).unwrap_err();
        assert_eq!(error.class, crate::Class::Usage);
        for part in ["unknown key `max_lenght`", "there is no stage `ingets`", "unknown key `path`", "p.yaml:4:", "p.yaml:7:", "p.yaml:8:"] {
            assert!(error.message.contains(part), "{part} in {}", error.message);
        }
    }

    #[test]
    fn an_unknown_stage_or_variable_on_the_command_line_is_a_usage_error() {
        for overrides in [
            Overrides { vars: vec!["lenght=3".into()], sets: vec![] },
            Overrides { vars: vec![], sets: vec!["tko.with.padding=longest".into()] },
            Overrides { vars: vec![], sets: vec!["tok.with.padding".into()] },
        ] {
            let error = load(GOOD, &overrides).unwrap_err();
            assert_eq!(error.class, crate::Class::Usage);
        }
    }
}
