//! Rows in the order of the input, wherever SQL leaves it open.
//!
//! polars' SQL front end asks for no order in joins, groups, unions, DISTINCT and among equals of a sort, since that is faster;
//! but then the output changes from run to run.

use std::sync::Arc;

use polars::prelude::{JoinType, LazyFrame, MaintainOrderJoin, UniqueKeepStrategy};
use polars_plan::dsl::DslPlan;

/// The same query with an order for everything.
pub(crate) fn in_order(frame: LazyFrame) -> LazyFrame {
    LazyFrame::from(ordered(frame.logical_plan))
}

fn ordered(plan: DslPlan) -> DslPlan {
    use DslPlan as P;
    let inner = |input: Arc<DslPlan>| Arc::new(ordered(Arc::unwrap_or_clone(input)));
    let all = |inputs: Vec<DslPlan>| inputs.into_iter().map(ordered).collect();
    match plan {
        // What was planned before for its schema was planned without an order.
        P::IR { dsl, .. } => ordered(Arc::unwrap_or_clone(dsl)),
        P::GroupBy { input, keys, predicates, aggs, maintain_order: _, options, apply } => {
            P::GroupBy { input: inner(input), keys, predicates, aggs, maintain_order: true, options, apply }
        }
        P::Join { input_left, input_right, left_on, right_on, predicates, options } => {
            let mut options = Arc::unwrap_or_clone(options);
            if options.args.maintain_order == MaintainOrderJoin::None {
                options.args.maintain_order = match options.args.how {
                    JoinType::Right => MaintainOrderJoin::RightLeft,
                    JoinType::Semi | JoinType::Anti => MaintainOrderJoin::Left,
                    _ => MaintainOrderJoin::LeftRight,
                };
            }
            P::Join { input_left: inner(input_left), input_right: inner(input_right), left_on, right_on, predicates, options: Arc::new(options) }
        }
        P::Distinct { input, mut options } => {
            options.maintain_order = true;
            if matches!(options.keep_strategy, UniqueKeepStrategy::Any) {
                options.keep_strategy = UniqueKeepStrategy::First;
            }
            P::Distinct { input: inner(input), options }
        }
        P::Sort { input, by_column, slice, mut sort_options } => {
            sort_options.maintain_order = true;
            P::Sort { input: inner(input), by_column, slice, sort_options }
        }
        P::Union { inputs, mut args } => {
            args.maintain_order = true;
            P::Union { inputs: all(inputs), args }
        }
        P::Filter { input, predicate } => P::Filter { input: inner(input), predicate },
        P::Cache { input, id } => P::Cache { input: inner(input), id },
        P::Select { expr, input, options } => P::Select { expr, input: inner(input), options },
        P::HStack { input, exprs, options } => P::HStack { input: inner(input), exprs, options },
        P::Gather { input, idxs, null_on_oob } => P::Gather { input: inner(input), idxs: inner(idxs), null_on_oob },
        P::MatchToSchema { input, match_schema, per_column, extra_columns } => {
            P::MatchToSchema { input: inner(input), match_schema, per_column, extra_columns }
        }
        P::Slice { input, offset, len } => P::Slice { input: inner(input), offset, len },
        P::MapFunction { input, function } => P::MapFunction { input: inner(input), function },
        P::HConcat { inputs, options } => P::HConcat { inputs: all(inputs), options },
        P::ExtContext { input, contexts } => P::ExtContext { input: inner(input), contexts: all(contexts) },
        P::PipeWithSchema { input, callback } => P::PipeWithSchema { input: input.iter().cloned().map(ordered).collect(), callback },
        P::Sink { input, payload } => P::Sink { input: inner(input), payload },
        P::SinkMultiple { inputs } => P::SinkMultiple { inputs: all(inputs) },
        // Where rows come from.
        plan @ (P::Scan { .. } | P::DataFrameScan { .. }) => plan,
    }
}
