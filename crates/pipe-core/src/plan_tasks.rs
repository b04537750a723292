//! What a plan says of tasks before anything runs: settings and metrics that the rows' task has not.

use crate::config::{Complaint, EvaluateConfig, EvaluateOf, StageConfig, TrainConfig};
use crate::file::Problem;
use crate::metrics::{MetricFamily, family, names};
use crate::plan::Plan;
use crate::task::Task;

impl Plan<'_> {
    /// What a step's output is for, as far as the file alone says: a query may give any columns.
    fn task(&self, at: usize) -> Option<Task> {
        let step = &self.steps[at];
        let of_inputs = || step.inputs.iter().find_map(|input| input.steps.iter().find_map(|&step| self.task(step)));
        match &step.stage.config {
            StageConfig::Ingest(config) => {
                let roles = config.columns.roles();
                Task::of_columns(|column| roles.iter().any(|(role, _)| *role == column))
            }
            StageConfig::Sql(_) => None,
            StageConfig::Tokenize(config) => config.task.or_else(of_inputs),
            _ => of_inputs(),
        }
    }

    pub(crate) fn check_tasks(&self, problems: &mut Vec<Problem>) {
        for (at, step) in self.steps.iter().enumerate() {
            let Some(task) = self.task(at) else { continue };
            let checked = match &step.stage.config {
                StageConfig::Tokenize(config) => config.check_task(task),
                StageConfig::Train(config) => check_train(config, task),
                StageConfig::Evaluate(config) => check_evaluate(config, task),
                _ => Ok(()),
            };
            if let Err(complaint) = checked {
                let message = format!("stage `{}`: {}", step.stage.name, complaint.message);
                problems.push(Problem::new(step.stage.span, message).maybe_hint(complaint.hint));
            }
        }
    }
}

fn check_train(config: &TrainConfig, task: Task) -> Result<(), Complaint> {
    if config.task.is_some_and(|wanted| !wanted.covers(task)) {
        let wanted = config.task.map_or("", Task::name);
        return Err(Complaint::new("task", format!("`task` is {wanted}, the rows are for {}", task.name()))
            .hint("change it, or map the columns of that task in ingest"));
    }
    let metric = config.best_metric();
    if config.metric_for_best_model.is_none() { Ok(()) } else { check_metric("metric_for_best_model", &metric, &measured(task), task.name()) }
}

fn check_evaluate(config: &EvaluateConfig, task: Task) -> Result<(), Complaint> {
    let (known, of) = match config.of {
        EvaluateOf::Model => (measured(task), task.name()),
        EvaluateOf::Predictions => (names(MetricFamily::GeneratedText).to_vec(), "written texts"),
    };
    for name in config.metrics.iter().flatten() {
        check_metric("metrics", name, &known, of)?;
    }
    config.gate.keys().try_for_each(|name| check_metric("gate", name, &known, of))
}

/// Of tokens the classes decide whether entities are measured, and those are not in the file.
fn measured(task: Task) -> Vec<&'static str> {
    let mut known = names(family(task, &[])).to_vec();
    if task == Task::TokenClassification {
        known.extend(names(MetricFamily::Entities).iter().filter(|name| !names(MetricFamily::Classification).contains(name)));
    }
    known
}

fn check_metric(setting: &str, name: &str, known: &[&str], of: &str) -> Result<(), Complaint> {
    if name == "loss" || known.contains(&name) {
        return Ok(());
    }
    Err(Complaint::new(setting, format!("`{setting}` names `{name}`, which is not measured for {of}"))
        .hint(format!("measured are loss, {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::file::{Overrides, PipelineFile};

    fn planned(columns: &str, tokenize: &str, train: &str, evaluate: &str) -> Result<(), String> {
        let text = format!(
            "version: 1\nname: t\nstages:\n  ingest: {{ uses: ingest, with: {{ source: {{ paths: [a.jsonl] }}, columns: {columns}, split: {{ train: 0.6, validation: 0.2, test: 0.2 }} }} }}\n  tokenize: {{ uses: tokenize, from: ingest, with: {{ tokenizer: m{tokenize} }} }}\n  train: {{ uses: train, from: tokenize, with: {{ model: m, eval_strategy: epoch{train} }} }}\n  evaluate: {{ uses: evaluate, from: [train, tokenize.test], with: {{ {evaluate} }} }}\n"
        );
        let file = PipelineFile::parse(&text, Path::new("p.yaml"), Path::new("/"), &Overrides::default()).map_err(|error| error.message)?;
        Plan::new(&file).map(drop).map_err(|error| error.message)
    }

    #[test]
    fn what_another_task_has_is_refused_before_anything_runs() {
        let value = "{ value: v }";
        assert_eq!(planned(value, "", "", "gate: { pearson: \">= 0.5\" }"), Ok(()));
        assert!(planned(value, "", "", "gate: { f1_macro: \">= 0.5\" }").unwrap_err().contains("`f1_macro`, which is not measured for regression"));
        assert!(planned(value, "", "", "metrics: [accuracy]").unwrap_err().contains("`accuracy`"));
        assert!(planned(value, "", ", metric_for_best_model: accuracy", "").unwrap_err().contains("`metric_for_best_model` names `accuracy`"));
        assert!(
            planned(value, "", ", task: token-classification", "")
                .unwrap_err()
                .contains("`task` is token-classification, the rows are for regression")
        );
        assert_eq!(planned(value, "", ", task: sequence-classification", ""), Ok(()));
        assert!(planned(value, ", packing: true", "", "").unwrap_err().contains("`packing` is for the task causal-lm"));
        assert_eq!(planned("{ prompt: p, completion: c }", ", packing: true", "", "metrics: [perplexity]"), Ok(()));
        // Entities or parts of speech: the file does not say.
        assert_eq!(planned("{ tokens: w, tags: t }", "", ", metric_for_best_model: f1_micro", "metrics: [f1]"), Ok(()));
        assert!(planned("{ tokens: w, tags: t }", "", "", "metrics: [bleu]").is_err());
    }
}
