//! From a file to an order of steps: `from:` matched to what each stage kind needs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use crate::cache::Artifact;
use crate::config::{EvaluateOf, IntervalStrategy, SqlSplit, StageConfig, StageKind};
use crate::error::{Error, Result};
use crate::file::{PipelineFile, Problem, Reference, Stage, Target, suggestion};

/// The stages of a file in an order in which each comes after all it needs.
#[derive(Debug)]
pub struct Plan<'f> {
    pub file: &'f PipelineFile,
    pub steps: Vec<Step<'f>>,
    /// Index into `steps` by stage: a matrix makes many, and each may read all of another.
    places: HashMap<&'f str, usize>,
}

/// One stage with its inputs found.
#[derive(Debug)]
pub struct Step<'f> {
    pub stage: &'f Stage,
    pub inputs: Vec<Input>,
}

/// What a step reads of another step.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Indices into [`Plan::steps`]: one, or for `train[best]` all that it is chosen from.
    pub steps: Vec<usize>,
    pub kind: StageKind,
    /// The splits read; absent: all there are.
    pub splits: Option<Vec<String>>,
}

/// What a stage kind takes in its `from:`; alternatives in one need are tried in order.
struct Need {
    kinds: &'static [StageKind],
    /// Splits read when `from:` names none; empty: all.
    splits: &'static [&'static str],
    /// A split may be named: `tokenize.test`.
    splittable: bool,
}

fn needs(config: &StageConfig) -> &'static [Need] {
    const ROWS: Need = Need { kinds: &[StageKind::Ingest, StageKind::Sql], splits: &[], splittable: true };
    const TOKENS_TO_TRAIN: Need = Need { kinds: &[StageKind::Tokenize], splits: &["train", "validation"], splittable: false };
    const TOKENS_TO_TEST: Need = Need { kinds: &[StageKind::Tokenize], splits: &["test"], splittable: true };
    const TOKENS_TO_COMPARE: Need = Need { kinds: &[StageKind::Tokenize], splits: &["validation"], splittable: true };
    const MODEL: Need = Need { kinds: &[StageKind::Train], splits: &[], splittable: false };
    const MODEL_OR_EXPORT: Need = Need { kinds: &[StageKind::Train, StageKind::Export], splits: &[], splittable: false };
    const PREDICTIONS: Need = Need { kinds: &[StageKind::Predict], splits: &[], splittable: false };
    match config {
        // A query reads as many stages as it likes: see `Plan::tables`.
        StageConfig::Ingest(_) | StageConfig::Sql(_) => &[],
        StageConfig::Tokenize(_) => &[ROWS],
        StageConfig::Train(_) => &[TOKENS_TO_TRAIN],
        StageConfig::Evaluate(config) if config.of == EvaluateOf::Predictions => &[PREDICTIONS],
        StageConfig::Evaluate(config) if config.model.is_some() => &[TOKENS_TO_TEST],
        StageConfig::Evaluate(_) => &[MODEL_OR_EXPORT, TOKENS_TO_TEST],
        StageConfig::Export(_) => &[MODEL, TOKENS_TO_COMPARE],
        StageConfig::Predict(config) if config.model.is_some() => &[ROWS],
        StageConfig::Predict(_) => &[MODEL_OR_EXPORT, ROWS],
    }
}

/// What a query can read: stages whose output is rows.
const TABLES: [StageKind; 4] = [StageKind::Ingest, StageKind::Tokenize, StageKind::Predict, StageKind::Sql];

impl Step<'_> {
    /// What a query calls its inputs, in their order: the stages' names in the file, whichever cell of a matrix is read.
    pub fn tables(&self) -> Vec<&str> {
        self.stage.from.iter().map(|reference| base_name(&reference.target.stages()[0])).collect()
    }

    /// Rows are scored by a trained model as it is, in the worker.
    pub fn predicts_with_torch(&self) -> bool {
        self.stage.config.kind() == StageKind::Predict && self.inputs.first().is_some_and(|input| input.kind == StageKind::Train)
    }

    /// Indices of all steps that it may read.
    pub fn needs(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().flat_map(|input| input.steps.iter().copied())
    }
}

impl<'f> Plan<'f> {
    /// Orders the stages, keeping the file's order where it can.
    pub fn new(file: &'f PipelineFile) -> Result<Plan<'f>> {
        let mut problems = Vec::new();
        let order = order(file, &mut problems);
        let mut plan = Plan { file, steps: Vec::new(), places: HashMap::new() };
        if problems.is_empty() {
            for stage in order {
                let inputs = plan.inputs(stage, &mut problems);
                plan.places.insert(&stage.name, plan.steps.len());
                plan.steps.push(Step { stage, inputs });
            }
        }
        for (at, step) in plan.steps.iter().enumerate() {
            let Some(publish) = &step.stage.publish else { continue };
            let Some(target) = published_to(&file.root, publish) else {
                let message = format!("stage `{}` publishes to `{}`, which is no folder of its own", step.stage.name, publish.display());
                problems.push(Problem::new(step.stage.span, message).hint("publishing replaces the whole folder: name one that only pipe writes to"));
                continue;
            };
            let meets = |other: &&Step<'_>| {
                let theirs = other.stage.publish.as_ref().and_then(|publish| published_to(&file.root, publish));
                theirs.is_some_and(|theirs| theirs.starts_with(&target) || target.starts_with(&theirs))
            };
            if let Some(other) = plan.steps[..at].iter().find(meets) {
                let message =
                    format!("stages `{}` and `{}` publish to the same folder, or to one within the other", other.stage.name, step.stage.name);
                let hint = if other.stage.base == step.stage.base {
                    "put `${matrix.…}` into the path, or publish what reads the best one: `from: \"stage[best]\"`"
                } else {
                    "give each its own"
                };
                problems.push(Problem::new(step.stage.span, message).hint(hint));
            }
        }
        plan.check_tasks(&mut problems);
        plan.check_columns(&mut problems);
        if problems.is_empty() { Ok(plan) } else { Err(file.sources.error(&problems)) }
    }

    /// The steps called `name`: a stage, all cells of one with a matrix, or those that `stage[axis=value]` chooses.
    pub fn find(&self, name: &str) -> Result<Vec<usize>> {
        let found = crate::file::matching(name, self.steps.iter().map(|step| step.stage));
        if found.is_empty() {
            let mut names: Vec<&str> = Vec::new();
            for step in &self.steps {
                let known: &str = if name.contains('[') { &step.stage.name } else { &step.stage.base };
                if !names.contains(&known) {
                    names.push(known);
                }
            }
            let error = Error::usage(format!("there is no stage `{name}` in {}", self.file.path.display()));
            return Err(match suggestion(name, &names) {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
        Ok(found)
    }

    /// The one step called `name`.
    pub fn find_one(&self, name: &str) -> Result<usize> {
        match self.find(name)?.as_slice() {
            [at] => Ok(*at),
            all => {
                let names: Vec<&str> = all.iter().map(|at| self.steps[*at].stage.name.as_str()).collect();
                Err(Error::usage(format!("`{name}` stands for {} stages", all.len())).hint(format!("choose one: {}", names.join(", "))))
            }
        }
    }

    /// `targets` and everything they need.
    pub fn with_needs(&self, targets: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut wanted: BTreeSet<usize> = targets.into_iter().collect();
        for at in (0..self.steps.len()).rev() {
            if wanted.contains(&at) {
                wanted.extend(self.steps[at].needs());
            }
        }
        wanted
    }

    /// `start` and everything that reads it, directly or not.
    pub fn with_readers(&self, start: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut wanted: BTreeSet<usize> = start.into_iter().collect();
        for at in 0..self.steps.len() {
            if self.steps[at].needs().any(|need| wanted.contains(&need)) {
                wanted.insert(at);
            }
        }
        wanted
    }

    /// The splits that a step's output has; none for outputs that are not rows.
    pub fn splits_of(&self, step: usize) -> Vec<String> {
        let step = &self.steps[step];
        match (&step.stage.config, step.inputs.first()) {
            (StageConfig::Ingest(config), _) => config.split_names().into_iter().map(str::to_owned).collect(),
            (StageConfig::Tokenize(_), Some(input)) => input.splits.clone().unwrap_or_else(|| self.splits_of(input.steps[0])),
            (StageConfig::Sql(config), Some(input)) => {
                let splits = input.splits.clone().unwrap_or_else(|| self.splits_of(input.steps[0]));
                if config.split == SqlSplit::All || splits.is_empty() { vec!["all".to_owned()] } else { splits }
            }
            _ => Vec::new(),
        }
    }

    fn inputs(&self, stage: &'f Stage, problems: &mut Vec<Problem>) -> Vec<Input> {
        if let StageConfig::Sql(_) = &stage.config {
            return self.tables(stage, problems);
        }
        let mut inputs = Vec::new();
        let mut used = vec![false; stage.from.len()];
        for need in needs(&stage.config) {
            let found = stage.from.iter().enumerate().find_map(|(at, reference)| {
                let places = reference.target.stages().iter().map(|name| self.places.get(name.as_str()).copied());
                let steps: Vec<usize> = places.collect::<Option<_>>()?;
                (!used[at] && need.kinds.contains(&self.steps[*steps.first()?].stage.config.kind())).then_some((at, steps))
            });
            let Some((at, steps)) = found else {
                let kinds: Vec<&str> = need.kinds.iter().map(|kind| kind.name()).collect();
                let message = format!("stage `{}` needs the output of a stage that uses `{}`", stage.name, kinds.join("` or `"));
                problems.push(Problem::new(stage.span, message).hint(format!("name one in its `from:`, for example `from: {}`", kinds[0])));
                continue;
            };
            used[at] = true;
            let reference = &stage.from[at];
            if let Some(split) = reference.split.as_ref().filter(|_| !need.splittable) {
                problems.push(Problem::new(reference.span, format!("this stage does not read a single split, remove `.{split}`")));
            }
            let step = steps[0];
            self.check_best(reference, &steps, problems);
            let known = self.splits_of(step);
            let named = reference.split.as_deref().or(need.splits.first().copied());
            if let Some(split) = named.filter(|split| !known.iter().any(|known| known == split)) {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let message = format!("stage `{}` reads the split `{split}`, which `{}` does not have", stage.name, reference.target.stages()[0]);
                problems.push(Problem::new(reference.span, message).maybe_hint(suggestion(split, &known)));
            }
            if let StageConfig::Train(config) = &stage.config
                && config.eval_strategy != IntervalStrategy::No
                && !known.iter().any(|known| known == "validation")
            {
                let message = format!("stage `{}` evaluates while training, but there is no split `validation`", stage.name);
                problems.push(Problem::new(stage.span, message).hint("give ingest's `split:` a share for `validation`, or set `eval_strategy: no`"));
            }
            let splits = match &reference.split {
                Some(split) => Some(vec![split.clone()]),
                None if need.splits.is_empty() => None,
                None => Some(need.splits.iter().map(|&split| split.to_owned()).collect()),
            };
            inputs.push(Input { steps, kind: self.steps[step].stage.config.kind(), splits });
        }
        for (reference, _) in stage.from.iter().zip(&used).filter(|(_, used)| !**used) {
            let message = format!("stage `{}` has no use for the output of `{}`", stage.name, reference.target.stages()[0]);
            problems.push(Problem::new(reference.span, message).hint("remove it from `from:`"));
        }
        inputs
    }

    /// The inputs of a query, one for each entry of its `from:`.
    fn tables(&self, stage: &'f Stage, problems: &mut Vec<Problem>) -> Vec<Input> {
        if stage.from.is_empty() {
            let message = format!("stage `{}` queries no stage", stage.name);
            problems.push(Problem::new(stage.span, message).hint("name those that its query reads in its `from:`, for example `from: ingest`"));
        }
        let mut inputs = Vec::new();
        for (at, reference) in stage.from.iter().enumerate() {
            let of = &reference.target.stages()[0];
            let Some(&step) = self.places.get(of.as_str()) else { continue };
            let kind = self.steps[step].stage.config.kind();
            if TABLES.contains(&kind) && matches!(reference.target, Target::Best(_)) {
                self.check_best(reference, &[step], problems);
            }
            if !TABLES.contains(&kind) {
                let message = format!("stage `{}` cannot query `{of}`, whose output is not rows", stage.name);
                let kinds: Vec<&str> = TABLES.iter().map(|kind| kind.name()).collect();
                problems.push(Problem::new(reference.span, message).hint(format!("rows come from stages that use {}", kinds.join(", "))));
            }
            if stage.from[..at].iter().any(|other| base_name(&other.target.stages()[0]) == base_name(of)) {
                let message = format!("stage `{}` names `{}` twice, and its query could not tell which is meant", stage.name, base_name(of));
                problems.push(Problem::new(reference.span, message).hint("name it once: a query reads single splits as `stage.split`"));
            }
            let known = self.splits_of(step);
            if let Some(split) = reference.split.as_deref().filter(|split| !known.iter().any(|known| known == split)) {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let message = format!("stage `{}` reads the split `{split}`, which `{of}` does not have", stage.name);
                problems.push(Problem::new(reference.span, message).maybe_hint(suggestion(split, &known)));
            }
            inputs.push(Input { steps: vec![step], kind, splits: reference.split.clone().map(|split| vec![split]) });
        }
        inputs
    }

    /// The best of several trainings is known only if all of them judge themselves by one measure.
    fn check_best(&self, reference: &Reference, steps: &[usize], problems: &mut Vec<Problem>) {
        if !matches!(reference.target, Target::Best(_)) {
            return;
        }
        let mut measures = BTreeSet::new();
        for step in steps {
            let StageConfig::Train(config) = &self.steps[*step].stage.config else {
                problems.push(Problem::new(reference.span, "`[best]` chooses among train stages").hint("choose a value: `\"stage[axis=value]\"`"));
                return;
            };
            if config.eval_strategy == IntervalStrategy::No {
                let problem = Problem::new(reference.span, "`[best]` needs trainings that evaluate themselves");
                problems.push(problem.hint("add `eval_strategy: epoch` and `metric_for_best_model: …` to the train stage"));
                return;
            }
            measures.insert((config.best_metric(), config.best_is_greater()));
        }
        if measures.len() > 1 {
            problems.push(Problem::new(reference.span, "`[best]` needs the same `metric_for_best_model` in every cell"));
        }
    }

    /// The step with the best model of `steps`, whose outputs are `artifacts`: by the measure of its own evaluations.
    /// Of equals the first.
    pub fn best(&self, steps: &[usize], artifacts: &[&Artifact]) -> Result<usize> {
        let mut best: Option<(f64, usize)> = None;
        for (at, artifact) in artifacts.iter().enumerate() {
            let StageConfig::Train(config) = &self.steps[steps[at]].stage.config else {
                return Err(Error::internal("`best` of stages that do not train"));
            };
            let value = config.final_metric(&artifact.path)?;
            let gain = best.map_or(f64::INFINITY, |(best, _)| if config.best_is_greater() { value - best } else { best - value });
            if gain > 0.0 {
                best = Some((value, at));
            }
        }
        best.map(|(_, at)| at).ok_or_else(|| Error::internal("`best` of no stage"))
    }
}

/// A stage's name without the cell of its matrix.
fn base_name(stage: &str) -> &str {
    stage.split('[').next().unwrap_or(stage)
}

/// Where `publish` leads from `root`, without `.` and `..`; absent where that is the root itself or above it.
fn published_to(root: &Path, publish: &Path) -> Option<PathBuf> {
    let mut target = PathBuf::new();
    for part in root.join(publish).components() {
        match part {
            Component::ParentDir => {
                target.pop();
            }
            Component::CurDir => {}
            part => target.push(part),
        }
    }
    (!root.starts_with(&target)).then_some(target)
}

/// Depth-first in file order; a stage met again while its needs are still open closes a cycle.
fn order<'f>(file: &'f PipelineFile, problems: &mut Vec<Problem>) -> Vec<&'f Stage> {
    struct Visit<'f, 'p> {
        open: Vec<&'f str>,
        stages: HashMap<&'f str, &'f Stage>,
        met: HashSet<&'f str>,
        done: Vec<&'f Stage>,
        problems: &'p mut Vec<Problem>,
    }
    impl<'f> Visit<'f, '_> {
        fn stage(&mut self, stage: &'f Stage) {
            if !self.met.insert(&stage.name) {
                return;
            }
            self.open.push(&stage.name);
            for reference in &stage.from {
                for name in reference.target.stages() {
                    if let Some(at) = self.open.iter().position(|open| open == name) {
                        let circle = self.open[at..].iter().chain([&self.open[at]]).copied().collect::<Vec<_>>().join(" ← ");
                        let problem = Problem::new(reference.span, format!("the stages form a cycle: {circle}"));
                        self.problems.push(problem.hint("remove one of these `from:` entries"));
                    } else if let Some(needed) = self.stages.get(name.as_str()).copied() {
                        self.stage(needed);
                    }
                }
            }
            self.open.pop();
            self.done.push(stage);
        }
    }
    let mut visit = Visit {
        stages: file.stages.iter().map(|stage| (stage.name.as_str(), stage)).collect(),
        open: Vec::new(),
        met: HashSet::new(),
        done: Vec::new(),
        problems,
    };
    for stage in &file.stages {
        visit.stage(stage);
    }
    visit.done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Overrides;

    fn check(stages: &str, test: impl FnOnce(Result<Plan<'_>>)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, format!("version: 1\nstages:\n{stages}")).unwrap();
        let file = PipelineFile::load(&path, &Overrides::default()).unwrap();
        test(Plan::new(&file));
    }

    const INGEST: &str = "  ingest: { uses: ingest, with: { source: { paths: [a.csv] } } }\n";
    const TOKENIZE: &str = "  tokenize: { uses: tokenize, from: ingest, with: { tokenizer: m } }\n";
    const SPLIT_INGEST: &str = "  ingest: { uses: ingest, with: { source: { paths: [a.csv] }, split: { train: 0.8, test: 0.2 } } }\n";
    const TRAIN: &str = "  train: { uses: train, from: tokenize, with: { model: m } }\n";

    #[test]
    fn steps_come_after_what_they_need_whatever_the_order_of_the_file() {
        check(&format!("  eval: {{ uses: evaluate, from: [tokenize.test, train] }}\n{TRAIN}{TOKENIZE}{SPLIT_INGEST}"), |plan| {
            let plan = plan.unwrap();
            let names: Vec<&str> = plan.steps.iter().map(|step| step.stage.name.as_str()).collect();
            assert_eq!(names, ["ingest", "tokenize", "train", "eval"]);
            assert_eq!(plan.steps[3].inputs[1], Input { steps: vec![1], kind: StageKind::Tokenize, splits: Some(vec!["test".into()]) });
            assert_eq!(plan.with_needs([2]), BTreeSet::from([0, 1, 2]));
            assert_eq!(plan.with_readers([2]), BTreeSet::from([2, 3]));
            assert_eq!(plan.find("trian").unwrap_err().hint.as_deref(), Some("did you mean `train`?"));
        });
    }

    #[test]
    fn a_matrix_unfolds_and_what_reads_it_follows_or_chooses() {
        let train = "  train: { uses: train, from: tokenize, matrix: { lr: [3.0e-5, 5e-5] }, with: { model: m, learning_rate: \"${matrix.lr}\", eval_strategy: epoch } }\n";
        let ingest = SPLIT_INGEST.replace("train: 0.8", "train: 0.7, validation: 0.1");
        let rest = "  eval: { uses: evaluate, from: [train, tokenize] }\n  export: { uses: export, from: [\"train[best]\", tokenize] }\n  one: { uses: export, from: [\"train[lr=0.00005]\", tokenize] }\n";
        check(&format!("{rest}{train}{TOKENIZE}{ingest}"), |plan| {
            let plan = plan.unwrap();
            let names: Vec<&str> = plan.steps.iter().map(|step| step.stage.name.as_str()).collect();
            assert_eq!(names, ["ingest", "tokenize", "train[lr=3e-5]", "eval[lr=3e-5]", "train[lr=5e-5]", "eval[lr=5e-5]", "export", "one"]);
            let needs = |name: &str| plan.steps[plan.find_one(name).unwrap()].inputs[0].steps.clone();
            assert_eq!((needs("eval[lr=5e-5]"), needs("export"), needs("one")), (vec![4], vec![2, 4], vec![4]));
            assert_eq!(plan.find("train").unwrap(), [2, 4]);
            assert_eq!(plan.find("train[lr=0.00003]").unwrap(), [2]);
            assert!(plan.find_one("train").unwrap_err().hint.unwrap().contains("train[lr=3e-5]"));
            let StageConfig::Train(config) = &plan.steps[4].stage.config else { panic!("not a train stage") };
            assert_eq!(config.learning_rate, 5e-5);
        });
        check(&format!("{rest}{}{TOKENIZE}{ingest}", train.replace(", eval_strategy: epoch", "")), |plan| {
            assert!(plan.unwrap_err().message.contains("`[best]` needs trainings that evaluate themselves"));
        });
    }

    #[test]
    fn a_query_reads_any_stages_of_rows_and_its_splits_are_those_of_the_first() {
        let sql = "  sql: { uses: sql, from: [ingest, tokenize.test], with: { query: \"SELECT 1\" } }\n  again: { uses: tokenize, from: sql.test, with: { tokenizer: m } }\n";
        check(&format!("{SPLIT_INGEST}{TOKENIZE}{sql}"), |plan| {
            let plan = plan.unwrap();
            assert_eq!(plan.steps[2].tables(), ["ingest", "tokenize"]);
            assert_eq!(plan.steps[2].inputs[1], Input { steps: vec![1], kind: StageKind::Tokenize, splits: Some(vec!["test".into()]) });
            assert_eq!((plan.splits_of(2), plan.splits_of(3)), (vec!["train".to_owned(), "test".to_owned()], vec!["test".to_owned()]));
        });
        check(&format!("{SPLIT_INGEST}{TOKENIZE}{}", sql.replace("SELECT 1\"", "SELECT 1\", split: all")), |plan| {
            let message = plan.unwrap_err().message;
            assert!(message.contains("reads the split `test`, which `sql` does not have"), "{message}");
        });
        let wrong = "  none: { uses: sql, with: { query: q } }\n  twice: { uses: sql, from: [ingest.train, ingest.test], with: { query: q } }\n  model: { uses: sql, from: train, with: { query: q } }\n";
        check(&format!("{SPLIT_INGEST}{TOKENIZE}{}{wrong}", TRAIN.replace("model: m", "model: m, eval_strategy: no")), |plan| {
            let message = plan.unwrap_err().message;
            for word in ["`none` queries no stage", "names `ingest` twice", "cannot query `train`"] {
                assert!(message.contains(word), "{message}");
            }
        });
    }

    #[test]
    fn a_cycle_is_named() {
        check("  a: { uses: tokenize, from: b, with: { tokenizer: m } }\n  b: { uses: tokenize, from: a, with: { tokenizer: m } }\n", |plan| {
            assert!(plan.unwrap_err().message.contains("cycle: a ← b ← a"));
        });
    }

    #[test]
    fn a_missing_or_useless_input_is_named() {
        check(&format!("{INGEST}  train: {{ uses: train, from: ingest, with: {{ model: m }} }}\n"), |plan| {
            let message = plan.unwrap_err().message;
            assert!(message.contains("needs the output of a stage that uses `tokenize`"), "{message}");
            assert!(message.contains("has no use for the output of `ingest`"), "{message}");
        });
    }
}
