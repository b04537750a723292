//! What may end a run although every stage did its work: gates on metrics, and drift of the input.

use std::collections::BTreeSet;

use pipe_core::cache::Artifact;
use pipe_core::config::{DriftAction, DriftConfig, EvaluateConfig, StageConfig, StageKind};
use pipe_core::{Error, Plan, Report, Result, Step};
use serde_json::Value;

/// Gates are checked on every run, also on a reused evaluation, so that a model that is not good enough never
/// gets further by running twice.
pub(crate) fn check_metrics(config: &EvaluateConfig, artifact: &Artifact) -> Result<()> {
    if config.gate.is_empty() {
        return Ok(());
    }
    let report = Report::read(&artifact.path)?;
    let missed: Vec<String> = config
        .gate
        .iter()
        .filter_map(|(name, gate)| {
            let wanted = format!("the gate is {} {}", gate.operator.sign(), gate.threshold);
            match report.value(name) {
                Some(value) => (!gate.holds(value)).then(|| format!("{name} is {value:.4}, {wanted}")),
                None => Some(format!("{name} is not measured for {}, or not defined for these rows; {wanted}", report.task.name())),
            }
        })
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Error::gate(missed.join("; ")).hint("nothing that reads this model was run or published; train longer, on more rows, or lower the gate"))
}

/// What differs between an ingest and that of the last good run, as far as `config` minds.
pub(super) fn drift(config: &DriftConfig, now: &Artifact, before: &Artifact) -> Vec<String> {
    let mut found = Vec::new();
    let (rows, old_rows) = (now.manifest.rows(), before.manifest.rows());
    if let Some(limit) = config.max_row_change
        && (rows as f64 - old_rows as f64).abs() > limit * old_rows as f64
    {
        found.push(format!("{rows} rows, the last good run had {old_rows} (max_row_change: {limit})"));
    }
    if config.columns {
        let (new, old) = (columns(now), columns(before));
        let list = |names: Vec<&String>| names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (came, went): (Vec<_>, Vec<_>) = (new.difference(&old).collect(), old.difference(&new).collect());
        if !went.is_empty() {
            found.push(format!("columns gone since the last good run: {}", list(went)));
        }
        if !came.is_empty() && !old.is_empty() {
            found.push(format!("columns new since the last good run: {}", list(came)));
        }
    }
    found
}

/// The error of a drift that is a gate.
pub(super) fn drift_error(config: &DriftConfig, found: &[String]) -> Result<()> {
    if found.is_empty() || config.action == DriftAction::Warn {
        return Ok(());
    }
    Err(Error::gate(found.join("; "))
        .hint("nothing after this stage was run; check that the input is complete; once it is as it should be: --set STAGE.with.drift.action=warn"))
}

/// The names of the sources' columns, as the report of an ingest has them.
fn columns(artifact: &Artifact) -> BTreeSet<String> {
    let report: Value =
        std::fs::read(artifact.path.join("report.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let names = report["source_columns"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Which evaluations' gates each step has to wait for.
pub(super) struct Gates {
    /// By step: to be met before it begins. They judge a model that it reads, directly or not.
    pub(super) before_beginning: Vec<Vec<usize>>,
    /// By step: to be met before its output is published. They judge that output, or a model that it reads.
    pub(super) before_publishing: Vec<Vec<usize>>,
}

impl Gates {
    pub(super) fn of(plan: &Plan<'_>) -> Gates {
        let steps = &plan.steps;
        let mut gates = Gates { before_beginning: vec![Vec::new(); steps.len()], before_publishing: vec![Vec::new(); steps.len()] };
        let gated: Vec<usize> = (0..steps.len()).filter(|at| is_gated(&steps[*at])).collect();
        if gated.is_empty() {
            return gates;
        }
        // A step comes after all that it needs, so one pass gives everything that each of them reads, itself included.
        let mut reads: Vec<Vec<bool>> = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            let mut own = vec![false; steps.len()];
            own[at] = true;
            for need in step.needs() {
                own.iter_mut().zip(&reads[need]).for_each(|(own, theirs)| *own |= theirs);
            }
            reads.push(own);
        }
        // Evaluations themselves wait for none: metrics are worth having.
        for at in (0..steps.len()).filter(|at| steps[*at].stage.config.kind() != StageKind::Evaluate) {
            let judging = gated.iter().copied().filter(|gate| steps[*gate].inputs[0].steps.iter().any(|model| reads[at][*model]));
            for gate in judging {
                // What the evaluation itself needs cannot wait for it; only its publishing can.
                if !reads[gate][at] {
                    gates.before_beginning[at].push(gate);
                }
                if steps[at].stage.publish.is_some() {
                    gates.before_publishing[at].push(gate);
                }
            }
        }
        gates
    }
}

/// Whether it is an evaluation of a model of this pipeline, with a gate.
fn is_gated(step: &Step<'_>) -> bool {
    matches!(&step.stage.config, StageConfig::Evaluate(config) if !config.gate.is_empty())
        && step.inputs.first().is_some_and(|input| input.kind != StageKind::Tokenize)
}
