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
mod matrix;
mod node;
mod policy;
mod stages;
mod vars;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::RunConfig;
use crate::digest;
use crate::error::{Error, IoContext, Result};

pub use de::from_node;
pub use diagnostic::{Problem, SourceId, Sources, Span, nearest, suggestion};
pub use matrix::matching;
pub use node::{Key, Node, Value, parse};
pub use policy::{AllowList, CheckRegex, NamedPattern, PolicyFile, RegexUse};
use stages::STAGE_KEYS;
pub use stages::{Reference, Stage, Target, folder_name};
use vars::Variables;
pub use vars::{RUN_NAMES, fill_run_names};

/// The only version of the file format so far.
const VERSION: i64 = 1;
/// More than anybody mends at once; those after it are left out.
const MAX_PROBLEMS: usize = 50;
/// A `--set` of more parts than this names no setting, and a tree that deep could not be walked.
const MAX_SET_PARTS: usize = 16;
const TOP_KEYS: [&str; 6] = ["version", "name", "root", "vars", "run", "stages"];

/// A pipeline file, typed and checked, all variables resolved.
#[derive(Debug)]
pub struct PipelineFile {
    pub path: PathBuf,
    pub name: String,
    /// Absolute; relative paths and `.pipe/` start here.
    pub root: PathBuf,
    pub run: RunConfig,
    /// In the order of the file, a matrix unfolded in its place.
    pub stages: Vec<Stage>,
    pub sources: Sources,
    /// Values of the variables, as text: for the record of a run.
    pub variables: BTreeMap<String, String>,
    /// Of the file's text.
    pub digest: String,
}

/// What the command line changes in a file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `name=value`
    pub vars: Vec<String>,
    /// Files with values of variables; `vars` go before them.
    pub var_files: Vec<PathBuf>,
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
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = parent.canonicalize().doing("open the folder", parent)?;
        PipelineFile::parse(&text, path, &folder, overrides)
    }

    /// Reads a file's text, which stands at `path` in `folder`. The file itself is not touched; `root:` is looked up
    /// below `folder`, and files of variables are read.
    pub fn parse(text: &str, path: &Path, folder: &Path, overrides: &Overrides) -> Result<PipelineFile> {
        let mut sources = Sources::default();
        let digest = digest::of_bytes(text.as_bytes());
        sources.add(path.display().to_string(), text);
        let folder = folder.to_owned();
        let mut problems = Vec::new();
        let read = Reader { sources: &mut sources, problems: &mut problems, folder }.read(overrides);
        match read {
            Some(content) if problems.is_empty() => {
                let Content { name, root, run, stages, variables } = content;
                let name = name.unwrap_or_else(|| path.file_stem().map_or("pipeline".into(), |stem| stem.to_string_lossy().into_owned()));
                Ok(PipelineFile { path: path.to_owned(), name, root, run, stages, sources, variables, digest })
            }
            _ => {
                // Each cell of a matrix finds what is wrong with its stage.
                let mut met = HashSet::new();
                problems.retain(|problem| met.insert((problem.span.source.0, problem.span.start, problem.span.end, problem.message.clone())));
                problems.truncate(MAX_PROBLEMS);
                Err(sources.error(&problems))
            }
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

struct Content {
    name: Option<String>,
    root: PathBuf,
    run: RunConfig,
    stages: Vec<Stage>,
    variables: BTreeMap<String, String>,
}

impl Reader<'_> {
    /// Enough is wrong: looking for more, with a suggestion for each, would only take time.
    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

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
        if let Some(name) = root.get("name").cloned() {
            Rc::make_mut(&mut variables.values).entry("name".into()).or_insert(name);
        }
        let Value::Map(entries) = &mut root.value else { unreachable!("checked above") };
        for (key, node) in entries.iter_mut().filter(|(key, _)| key.name != "vars" && key.name != "stages") {
            Variables { keep_run_names: key.name == "run", ..variables.clone() }.apply(node, self.problems);
        }
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
        let run = self.run_section(&root);
        let stages = self.stages(&root, &variables)?;
        let declared = |name: &str| root.get("vars").and_then(|vars| vars.get(name)).and_then(Node::as_str);
        // What comes from the environment may be a secret: recorded by name alone.
        let shown =
            |name: &str, node: &Node| declared(name).filter(|text| text.contains("${env:")).map_or_else(|| matrix::shown(&node.value), str::to_owned);
        let variables = variables.values.iter().map(|(name, node)| (name.clone(), shown(name, node))).collect();
        Some(Content { name, root: pipeline_root, run: run?, stages, variables })
    }

    fn run_section(&mut self, root: &Node) -> Option<RunConfig> {
        let Some(node) = root.get("run") else { return Some(RunConfig::default()) };
        let config: RunConfig = self.report(from_node(node))?;
        self.report(config.check().map_err(|complaint| complaint.at(node)))?;
        Some(config)
    }

    fn unknown_keys(&mut self, entries: &[(Key, Node)], known: &[&str]) {
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())).take(MAX_PROBLEMS) {
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
            if !(2..=MAX_SET_PARTS).contains(&parts.len()) || !STAGE_KEYS.contains(&parts[1]) || parts.iter().any(|part| part.is_empty()) {
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
                        Variables::new(BTreeMap::new(), environment).apply(&mut node, self.problems);
                        values.insert(key.name.clone(), node);
                    }
                }
                None => self.problems.push(Problem::new(node.span, "`vars` is a mapping of names to values")),
            }
        }
        for path in &overrides.var_files {
            self.var_file(path, &mut values);
        }
        for var in &overrides.vars {
            let source = self.sources.add("--var", var.as_str());
            let span = Span { source, start: 0, end: var.len() };
            let Some((name, yaml)) = var.split_once('=') else {
                self.problems.push(Problem::new(span, "expected name=value").hint("for example --var max_length=64"));
                continue;
            };
            if !self.is_declared(name, span, &values) {
                continue;
            }
            let parsed = parse(yaml, source).map_err(|problem| Problem { span, ..problem });
            if let Some(mut node) = self.report(parsed) {
                respan(&mut node, span);
                values.insert(name.to_owned(), node);
            }
        }
        Variables::new(values, environment)
    }

    /// `--vars FILE`: a mapping of names to values.
    fn var_file(&mut self, path: &Path, values: &mut BTreeMap<String, Node>) {
        let text = std::fs::read_to_string(path);
        let source = self.sources.add(path.display().to_string(), text.as_deref().unwrap_or_default());
        let start = Span { source, start: 0, end: 0 };
        if let Err(error) = text {
            self.problems.push(Problem::new(start, format!("cannot read the file of variables: {error}")));
            return;
        }
        let parsed = parse(self.sources.text(source), source);
        let Some(node) = self.report(parsed) else { return };
        let Some(entries) = node.as_map() else {
            self.problems.push(Problem::new(node.span, "a file of variables is a mapping of names to values"));
            return;
        };
        for (key, node) in entries {
            if !self.is_full() && self.is_declared(&key.name, key.span, values) {
                values.insert(key.name.clone(), node.clone());
            }
        }
    }

    fn is_declared(&mut self, name: &str, span: Span, values: &BTreeMap<String, Node>) -> bool {
        let known: Vec<&str> = values.keys().map(String::as_str).collect();
        if !known.contains(&name) {
            let hint = suggestion(name, &known).or_else(|| Some("the file declares no `vars:`".into()));
            self.problems.push(Problem::new(span, format!("the file declares no variable `{name}`")).maybe_hint(hint));
        }
        known.contains(&name)
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
    use crate::config::StageConfig;

    fn load(text: &str, overrides: &Overrides) -> Result<PipelineFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, text).unwrap();
        PipelineFile::load(&path, overrides)
    }

    const GOOD: &str = "version: 1\nvars: { length: 32 }\nstages:\n  ingest: { uses: ingest, with: { source: { paths: [a.csv] } } }\n  tok:\n    uses: tokenize\n    from: ingest\n    with: { tokenizer: m, max_length: \"${length}\" }\n";

    #[test]
    fn a_file_is_typed_and_overridden() {
        let file =
            load(GOOD, &Overrides { vars: vec!["length=16".into()], sets: vec!["tok.with.padding=max_length".into()], ..Overrides::default() })
                .unwrap();
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
            Overrides { vars: vec!["lenght=3".into()], ..Overrides::default() },
            Overrides { sets: vec!["tko.with.padding=longest".into()], ..Overrides::default() },
            Overrides { sets: vec!["tok.with.padding".into()], ..Overrides::default() },
        ] {
            let error = load(GOOD, &overrides).unwrap_err();
            assert_eq!(error.class, crate::Class::Usage);
        }
    }
}
