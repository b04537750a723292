//! From a file to an order of steps: `from:` matched to what each stage kind needs.

use std::collections::BTreeSet;

use crate::config::{IntervalStrategy, StageConfig, StageKind};
use crate::error::{Error, Result};
use crate::file::{PipelineFile, Problem, Stage, suggestion};

/// The stages of a file in an order in which each comes after all it needs.
#[derive(Debug)]
pub struct Plan<'f> {
    pub file: &'f PipelineFile,
    pub steps: Vec<Step<'f>>,
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
    /// Index into [`Plan::steps`].
    pub step: usize,
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
    const INGEST_ALL: Need = Need { kinds: &[StageKind::Ingest], splits: &[], splittable: true };
    const TOKENS_TO_TRAIN: Need = Need { kinds: &[StageKind::Tokenize], splits: &["train", "validation"], splittable: false };
    const TOKENS_TO_TEST: Need = Need { kinds: &[StageKind::Tokenize], splits: &["test"], splittable: true };
    const TOKENS_TO_COMPARE: Need = Need { kinds: &[StageKind::Tokenize], splits: &["validation"], splittable: true };
    const MODEL: Need = Need { kinds: &[StageKind::Train], splits: &[], splittable: false };
    const MODEL_OR_EXPORT: Need = Need { kinds: &[StageKind::Train, StageKind::Export], splits: &[], splittable: false };
    const EXPORT: Need = Need { kinds: &[StageKind::Export], splits: &[], splittable: false };
    match config {
        StageConfig::Ingest(_) => &[],
        StageConfig::Tokenize(_) => &[INGEST_ALL],
        StageConfig::Train(_) => &[TOKENS_TO_TRAIN],
        StageConfig::Evaluate(config) if config.model.is_some() => &[TOKENS_TO_TEST],
        StageConfig::Evaluate(_) => &[MODEL_OR_EXPORT, TOKENS_TO_TEST],
        StageConfig::Export(_) => &[MODEL, TOKENS_TO_COMPARE],
        StageConfig::Predict(config) if config.model.is_some() => &[INGEST_ALL],
        StageConfig::Predict(_) => &[EXPORT, INGEST_ALL],
    }
}

impl<'f> Plan<'f> {
    /// Orders the stages, keeping the file's order where it can.
    pub fn new(file: &'f PipelineFile) -> Result<Plan<'f>> {
        let mut problems = Vec::new();
        let order = order(file, &mut problems);
        let mut plan = Plan { file, steps: Vec::new() };
        if problems.is_empty() {
            for stage in order {
                let inputs = plan.inputs(stage, &mut problems);
                plan.steps.push(Step { stage, inputs });
            }
        }
        for (at, step) in plan.steps.iter().enumerate() {
            if let Some(publish) = &step.stage.publish
                && let Some(other) = plan.steps[..at].iter().find(|other| other.stage.publish.as_ref() == Some(publish))
            {
                let message = format!("stages `{}` and `{}` publish to the same folder", other.stage.name, step.stage.name);
                problems.push(Problem::new(step.stage.span, message).hint("give each its own"));
            }
        }
        if problems.is_empty() { Ok(plan) } else { Err(file.sources.error(&problems)) }
    }

    /// The index of the stage called `name`.
    pub fn find(&self, name: &str) -> Result<usize> {
        self.steps.iter().position(|step| step.stage.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.steps.iter().map(|step| step.stage.name.as_str()).collect();
            let error = Error::usage(format!("there is no stage `{name}` in {}", self.file.path.display()));
            match suggestion(name, &names) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }

    /// `targets` and everything they need.
    pub fn with_needs(&self, targets: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut wanted: BTreeSet<usize> = targets.into_iter().collect();
        for at in (0..self.steps.len()).rev() {
            if wanted.contains(&at) {
                wanted.extend(self.steps[at].inputs.iter().map(|input| input.step));
            }
        }
        wanted
    }

    /// `start` and everything that reads it, directly or not.
    pub fn with_readers(&self, start: usize) -> BTreeSet<usize> {
        let mut wanted = BTreeSet::from([start]);
        for at in start + 1..self.steps.len() {
            if self.steps[at].inputs.iter().any(|input| wanted.contains(&input.step)) {
                wanted.insert(at);
            }
        }
        wanted
    }

    /// The splits that a step's output has; none for outputs that are not rows.
    fn splits_of(&self, step: usize) -> Vec<String> {
        let step = &self.steps[step];
        match (&step.stage.config, step.inputs.first()) {
            (StageConfig::Ingest(config), _) => config.split_names().into_iter().map(str::to_owned).collect(),
            (StageConfig::Tokenize(_), Some(input)) => input.splits.clone().unwrap_or_else(|| self.splits_of(input.step)),
            _ => Vec::new(),
        }
    }

    fn inputs(&self, stage: &'f Stage, problems: &mut Vec<Problem>) -> Vec<Input> {
        let mut inputs = Vec::new();
        let mut used = vec![false; stage.from.len()];
        for need in needs(&stage.config) {
            let found = stage.from.iter().enumerate().find_map(|(at, reference)| {
                let step = self.steps.iter().position(|step| step.stage.name == reference.stage)?;
                (!used[at] && need.kinds.contains(&self.steps[step].stage.config.kind())).then_some((at, step))
            });
            let Some((at, step)) = found else {
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
            let known = self.splits_of(step);
            let named = reference.split.as_deref().or(need.splits.first().copied());
            if let Some(split) = named.filter(|split| !known.iter().any(|known| known == split)) {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let message = format!("stage `{}` reads the split `{split}`, which `{}` does not have", stage.name, reference.stage);
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
            inputs.push(Input { step, kind: self.steps[step].stage.config.kind(), splits });
        }
        for (reference, _) in stage.from.iter().zip(&used).filter(|(_, used)| !**used) {
            let message = format!("stage `{}` has no use for the output of `{}`", stage.name, reference.stage);
            problems.push(Problem::new(reference.span, message).hint("remove it from `from:`"));
        }
        inputs
    }
}

/// Depth-first in file order; a stage met again while its needs are still open closes a cycle.
fn order<'f>(file: &'f PipelineFile, problems: &mut Vec<Problem>) -> Vec<&'f Stage> {
    fn visit<'f>(file: &'f PipelineFile, stage: &'f Stage, open: &mut Vec<&'f str>, done: &mut Vec<&'f Stage>, problems: &mut Vec<Problem>) {
        if done.iter().any(|other| other.name == stage.name) {
            return;
        }
        open.push(&stage.name);
        for reference in &stage.from {
            if let Some(at) = open.iter().position(|name| *name == reference.stage) {
                let circle = open[at..].iter().chain([&open[at]]).copied().collect::<Vec<_>>().join(" ← ");
                problems.push(Problem::new(reference.span, format!("the stages form a cycle: {circle}")).hint("remove one of these `from:` entries"));
                continue;
            }
            if let Some(needed) = file.stage(&reference.stage) {
                visit(file, needed, open, done, problems);
            }
        }
        open.pop();
        done.push(stage);
    }
    let (mut open, mut done) = (Vec::new(), Vec::new());
    for stage in &file.stages {
        visit(file, stage, &mut open, &mut done, problems);
    }
    done
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
            assert_eq!(plan.steps[3].inputs[1], Input { step: 1, kind: StageKind::Tokenize, splits: Some(vec!["test".into()]) });
            assert_eq!(plan.with_needs([2]), BTreeSet::from([0, 1, 2]));
            assert_eq!(plan.with_readers(2), BTreeSet::from([2, 3]));
            assert_eq!(plan.find("trian").unwrap_err().hint.as_deref(), Some("did you mean `train`?"));
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
