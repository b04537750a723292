//! What may end a run although every stage did its work: gates on metrics, and drift of the input.

use std::collections::BTreeSet;

use pipe_core::cache::Artifact;
use pipe_core::config::{DriftAction, DriftConfig, EvaluateConfig, StageConfig, StageKind};
use pipe_core::metrics::ClassificationReport;
use pipe_core::{Error, Plan, Result, Step};
use serde_json::Value;

/// Gates are checked on every run, also on a reused evaluation, so that a model that is not good enough never
/// gets further by running twice.
pub(super) fn check_metrics(config: &EvaluateConfig, artifact: &Artifact) -> Result<()> {
    if config.gate.is_empty() {
        return Ok(());
    }
    let report = ClassificationReport::read(&artifact.path)?;
    let missed: Vec<String> = config
        .gate
        .iter()
        .filter_map(|(name, gate)| {
            let value = report.metrics.get(name).copied().unwrap_or(f64::NAN);
            (!gate.holds(value)).then(|| format!("{name} is {value:.4}, the gate is {} {}", gate.operator.sign(), gate.threshold))
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

/// The gated evaluations that judge the output of `at`, or a model that it reads, directly or not; none for evaluations, and
/// none that need `at` themselves: those hold back what it publishes, not itself.
fn judging(plan: &Plan<'_>, at: usize) -> Vec<usize> {
    let reads = plan.with_needs([at]);
    let judges = |(gate, step): (usize, &Step<'_>)| match (&step.stage.config, step.inputs.first()) {
        (StageConfig::Evaluate(config), Some(input)) if !config.gate.is_empty() && input.kind != StageKind::Tokenize => {
            input.steps.iter().any(|model| reads.contains(model)).then_some(gate)
        }
        _ => None,
    };
    if matches!(plan.steps[at].stage.config, StageConfig::Evaluate(_)) {
        return Vec::new();
    }
    plan.steps.iter().enumerate().filter_map(judges).collect()
}

/// Evaluations whose gates must be met before `at` begins.
pub(super) fn before_beginning(plan: &Plan<'_>, at: usize) -> Vec<usize> {
    judging(plan, at).into_iter().filter(|gate| !plan.with_needs([*gate]).contains(&at)).collect()
}

/// Evaluations whose gates must be met before the output of `at` is published.
pub(super) fn before_publishing(plan: &Plan<'_>, at: usize) -> Vec<usize> {
    if plan.steps[at].stage.publish.is_some() { judging(plan, at) } else { Vec::new() }
}

/// Both of them.
pub(super) fn gates_before(plan: &Plan<'_>, at: usize) -> Vec<usize> {
    before_beginning(plan, at).into_iter().chain(before_publishing(plan, at)).collect()
}
