//! Which steps a command line chooses.

use std::collections::BTreeSet;

use pipe_core::{Error, Plan, Result};

use super::gate::Gates;
use crate::cli::RunArgs;

/// The steps that a run may make.
pub(super) fn selected(plan: &Plan<'_>, args: &RunArgs) -> Result<BTreeSet<usize>> {
    if let Some(only) = &args.only {
        return Ok(plan.find(only)?.into_iter().collect());
    }
    let until: Option<BTreeSet<usize>> = match &args.until {
        Some(name) => Some(plan.with_needs(plan.find(name)?)),
        None => None,
    };
    let targets: BTreeSet<usize> = match &args.from {
        Some(from) => plan.with_readers(plan.find(from)?),
        None if args.stages.is_empty() => (0..plan.steps.len()).collect(),
        None => all(plan, &args.stages)?,
    };
    if let (Some(until), Some(from), Some(name)) = (&until, &args.from, &args.until)
        && targets.is_disjoint(until)
    {
        return Err(Error::usage(format!("`{name}` needs nothing of `{from}` or what follows it")).hint("--from comes before --until"));
    }
    let selected = plan.with_needs(targets);
    let selected = match until {
        Some(until) => selected.intersection(&until).copied().collect(),
        None => selected,
    };
    Ok(with_gates(plan, selected))
}

/// A stage that may not go on before an evaluation's gate is met needs that evaluation.
fn with_gates(plan: &Plan<'_>, mut selected: BTreeSet<usize>) -> BTreeSet<usize> {
    let gates = Gates::of(plan);
    loop {
        let needed = selected.iter().flat_map(|at| gates.before_beginning[*at].iter().chain(&gates.before_publishing[*at])).copied();
        let more = plan.with_needs(selected.iter().copied().chain(needed));
        if more.len() == selected.len() {
            return selected;
        }
        selected = more;
    }
}

/// The steps that a run makes anew even where they are up to date.
pub(super) fn forced(plan: &Plan<'_>, args: &RunArgs, selected: &BTreeSet<usize>) -> Result<BTreeSet<usize>> {
    let named = all(plan, &args.force)?;
    if let Some(at) = named.difference(selected).next() {
        let name = &plan.steps[*at].stage.name;
        return Err(Error::usage(format!("--force {name}: this run does not get to that stage")).hint("choose it too, or leave --force out"));
    }
    Ok(if args.force_all { selected.clone() } else { named })
}

fn all(plan: &Plan<'_>, names: &[String]) -> Result<BTreeSet<usize>> {
    let found: Vec<Vec<usize>> = names.iter().map(|name| plan.find(name)).collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}
