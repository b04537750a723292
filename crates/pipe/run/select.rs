//! Which steps a command line chooses.

use std::collections::BTreeSet;

use pipe_core::{Plan, Result};

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
    let selected = plan.with_needs(targets);
    Ok(match until {
        Some(until) => selected.intersection(&until).copied().collect(),
        None => selected,
    })
}

/// The steps that a run makes anew even where they are up to date.
pub(super) fn forced(plan: &Plan<'_>, args: &RunArgs, selected: &BTreeSet<usize>) -> Result<BTreeSet<usize>> {
    let named = all(plan, &args.force)?;
    Ok(if args.force_all { selected.clone() } else { named })
}

fn all(plan: &Plan<'_>, names: &[String]) -> Result<BTreeSet<usize>> {
    let found: Vec<Vec<usize>> = names.iter().map(|name| plan.find(name)).collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}
