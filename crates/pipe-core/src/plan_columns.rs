//! What a plan says before anything runs of columns that are carried along, and of what else a step's inputs decide.

use crate::config::{ColumnScrub, Complaint, Device, PredictConfig, StageConfig, StageKind};
use crate::file::{Problem, suggestion};
use crate::plan::{Plan, Step};

impl Plan<'_> {
    /// The columns that a step has for those that read it, as far as the file alone says: a query may give any.
    fn columns(&self, at: usize) -> Option<Vec<&str>> {
        match &self.steps[at].stage.config {
            StageConfig::Ingest(config) => {
                let roles = config.columns.roles();
                let named = roles.iter().map(|(role, _)| *role).chain(config.columns.extra.keys().map(String::as_str));
                let is_dropped = |name: &str| config.scrub.columns.get(name) == Some(&ColumnScrub::Drop);
                Some(named.filter(|name| !is_dropped(name)).collect())
            }
            StageConfig::Tokenize(config) => Some(config.keep_columns.iter().map(String::as_str).collect()),
            StageConfig::Predict(config) => Some(config.keep_columns.iter().map(String::as_str).collect()),
            _ => None,
        }
    }

    pub(crate) fn check_columns(&self, problems: &mut Vec<Problem>) {
        for step in &self.steps {
            let checked = match &step.stage.config {
                StageConfig::Tokenize(config) => self.check_named(step, "keep_columns", &config.keep_columns),
                StageConfig::Predict(config) => self.check_named(step, "keep_columns", &config.keep_columns).and_then(|()| check_model(step, config)),
                StageConfig::Evaluate(config) => self.check_named(step, "by", &config.by),
                _ => Ok(()),
            };
            if let Err(complaint) = checked {
                let message = format!("stage `{}`: {}", step.stage.name, complaint.message);
                problems.push(Problem::new(step.stage.span, message).maybe_hint(complaint.hint));
            }
        }
    }

    /// Columns that `setting` names must be among those of the rows, tokens or predictions that the step reads.
    fn check_named(&self, step: &Step<'_>, setting: &str, named: &[String]) -> Result<(), Complaint> {
        let is_model = |kind: StageKind| matches!(kind, StageKind::Train | StageKind::Export);
        let Some(read) = step.inputs.iter().find(|input| !is_model(input.kind)).and_then(|input| input.steps.first()) else { return Ok(()) };
        let Some(known) = self.columns(*read) else { return Ok(()) };
        let Some(missing) = named.iter().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
        let of = &self.steps[*read].stage.name;
        let has = if known.is_empty() { "has none".to_owned() } else { format!("has {}", known.join(", ")) };
        let (what, otherwise) = if setting == "by" {
            ("does not keep", format!("add it to `keep_columns` of `{of}`"))
        } else {
            ("does not have", "map it in `columns.extra` of ingest".to_owned())
        };
        Err(Complaint::new(setting, format!("`{setting}` names the column `{missing}`, which `{of}` {what}; it {has}"))
            .hint(suggestion(missing, &known).unwrap_or(otherwise)))
    }
}

/// Settings of the other runtime are refused, not passed over.
fn check_model(step: &Step<'_>, config: &PredictConfig) -> Result<(), Complaint> {
    if step.predicts_with_torch() {
        return match config.ner {
            Some(_) => Err(Complaint::new("ner", "a trained model is run by libtorch, which has no model of names beside it")
                .hint("read an export to scrub rows with one: `from: [export, …]`")),
            None => Ok(()),
        };
    }
    let complaint = |setting: &str, message: &str| Err(Complaint::new(setting, message).hint("read the train stage itself: `from: [train, …]`"));
    match (config.bf16, config.device) {
        (true, _) => complaint("bf16", "an export has the numbers that it was written with, `bf16` is for a trained model"),
        (_, Device::Cuda) => complaint("device", "an export runs on the CPU, `device: cuda` is for a trained model"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::file::{Overrides, PipelineFile};

    fn planned(tokenize: &str, evaluate: &str, predict: &str) -> Result<(), String> {
        let text = format!(
            "version: 1\nname: t\nstages:\n  ingest: {{ uses: ingest, with: {{ source: {{ paths: [a.csv] }}, columns: {{ label: l, group: g, extra: {{ language: {{}}, secret: {{}} }} }}, scrub: {{ columns: {{ secret: drop }} }}, split: {{ train: 0.8, test: 0.2 }} }} }}\n  query: {{ uses: sql, from: ingest, with: {{ query: q }} }}\n  tokenize: {{ uses: tokenize, from: ingest, with: {{ tokenizer: m{tokenize} }} }}\n  train: {{ uses: train, from: tokenize, with: {{ model: m, eval_strategy: no }} }}\n  evaluate: {{ uses: evaluate, from: [train, tokenize.test], with: {{ {evaluate} }} }}\n  export: {{ uses: export, from: [train, tokenize.test] }}\n  predict: {{ uses: predict, {predict} }}\n"
        );
        let file = PipelineFile::parse(&text, Path::new("p.yaml"), Path::new("/"), &Overrides::default()).map_err(|error| error.message)?;
        Plan::new(&file).map(drop).map_err(|error| error.message)
    }

    #[test]
    fn a_column_that_does_not_come_along_is_refused_before_anything_runs() {
        let predict = "from: [export, ingest.test]";
        assert_eq!(planned(", keep_columns: [language, group]", "by: [group, language]", predict), Ok(()));
        let message = planned("", "by: [language]", predict).unwrap_err();
        assert!(message.contains("`by` names the column `language`, which `tokenize` does not keep; it has none"), "{message}");
        let message = planned(", keep_columns: [langage]", "", predict).unwrap_err();
        assert!(
            message.contains("`keep_columns` names the column `langage`, which `ingest` does not have; it has text, label, group, language"),
            "{message}"
        );
        assert!(planned(", keep_columns: [secret]", "", predict).unwrap_err().contains("`secret`"), "dropped by scrub");
        assert!(planned("", "", "from: [export, ingest.test], with: { keep_columns: [x] }").unwrap_err().contains("`x`, which `ingest`"));
        assert_eq!(planned("", "", "from: [export, query.test], with: { keep_columns: [x] }"), Ok(()), "a query may give any column");
        assert!(planned(", keep_columns: [label]", "", predict).unwrap_err().contains("which the stage reads itself"));
        assert!(planned(", keep_columns: [language], packing: true, task: causal-lm", "", predict).unwrap_err().contains("no value of its own"));
    }

    #[test]
    fn settings_of_the_other_runtime_are_refused() {
        assert_eq!(planned("", "", "from: [train, ingest.test], with: { bf16: true, device: cpu }"), Ok(()));
        assert!(planned("", "", "from: [train, ingest.test], with: { ner: m }").unwrap_err().contains("no model of names"));
        assert!(planned("", "", "from: [export, ingest.test], with: { bf16: true }").unwrap_err().contains("`bf16` is for a trained model"));
        assert!(planned("", "", "from: [export, ingest.test], with: { device: cuda }").unwrap_err().contains("an export runs on the CPU"));
    }
}
