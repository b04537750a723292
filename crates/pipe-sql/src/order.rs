//! Rows in the order of the input, wherever SQL leaves it open.
//!
//! polars' SQL front end asks for no order in joins, groups, unions, DISTINCT and among equals of a sort, since that is faster;
//! but then the output changes from run to run. So does a sum of floats by group: the streaming engine adds up parts of groups,
//! cut where a hash table with a random seed happens to be full. Where floats are summed, rows are sorted by group first, and
//! each group is summed row by row.

use std::sync::Arc;

use polars::prelude::{
    Expr, JoinType, LazyFrame, MaintainOrderJoin, PolarsResult, Schema, SortMultipleOptions, SortOptions, UniqueKeepStrategy, col,
};
use polars_plan::dsl::{AggExpr, DslPlan, FunctionExpr};

/// The number of a row before its group was sorted; no column that a query gives is called so.
const ROW: &str = "__pipe_row";

/// The same query with an order for everything.
pub(crate) fn in_order(frame: LazyFrame) -> PolarsResult<LazyFrame> {
    // polars would take the order away again where it thinks that nobody sees it.
    Ok(LazyFrame::from(ordered(frame.logical_plan)?).with_check_order(false))
}

fn ordered(plan: DslPlan) -> PolarsResult<DslPlan> {
    use DslPlan as P;
    let inner = |input: Arc<DslPlan>| ordered(Arc::unwrap_or_clone(input)).map(Arc::new);
    let all = |inputs: Vec<DslPlan>| inputs.into_iter().map(ordered).collect::<PolarsResult<Vec<_>>>();
    Ok(match plan {
        // What was planned before for its schema was planned without an order.
        P::IR { dsl, .. } => ordered(Arc::unwrap_or_clone(dsl))?,
        P::GroupBy { input, keys, predicates, aggs, maintain_order: _, options, apply } => {
            let input = inner(input)?;
            let mut frame = LazyFrame::from((*input).clone());
            let schema = frame.collect_schema()?;
            if apply.is_none() && aggs.iter().chain(&predicates).any(|expr| sums_floats(expr, &schema)) {
                return sorted_groups(frame, &schema, &keys, predicates, aggs);
            }
            P::GroupBy { input, keys, predicates, aggs, maintain_order: true, options, apply }
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
            P::Join { input_left: inner(input_left)?, input_right: inner(input_right)?, left_on, right_on, predicates, options: Arc::new(options) }
        }
        P::Distinct { input, mut options } => {
            options.maintain_order = true;
            if matches!(options.keep_strategy, UniqueKeepStrategy::Any) {
                options.keep_strategy = UniqueKeepStrategy::First;
            }
            P::Distinct { input: inner(input)?, options }
        }
        P::Sort { input, by_column, slice, mut sort_options } => {
            sort_options.maintain_order = true;
            P::Sort { input: inner(input)?, by_column, slice, sort_options }
        }
        P::Union { inputs, mut args } => {
            args.maintain_order = true;
            P::Union { inputs: all(inputs)?, args }
        }
        P::Filter { input, predicate } => P::Filter { input: inner(input)?, predicate },
        P::Cache { input, id } => P::Cache { input: inner(input)?, id },
        P::Select { expr, input, options } => {
            let input = inner(input)?;
            P::Select { expr: windows(expr, &input)?, input, options }
        }
        P::HStack { input, exprs, options } => {
            let input = inner(input)?;
            P::HStack { exprs: windows(exprs, &input)?, input, options }
        }
        P::Gather { input, idxs, null_on_oob } => P::Gather { input: inner(input)?, idxs: inner(idxs)?, null_on_oob },
        P::MatchToSchema { input, match_schema, per_column, extra_columns } => {
            P::MatchToSchema { input: inner(input)?, match_schema, per_column, extra_columns }
        }
        P::Slice { input, offset, len } => P::Slice { input: inner(input)?, offset, len },
        P::MapFunction { input, function } => P::MapFunction { input: inner(input)?, function },
        P::HConcat { inputs, options } => P::HConcat { inputs: all(inputs)?, options },
        P::ExtContext { input, contexts } => P::ExtContext { input: inner(input)?, contexts: all(contexts)? },
        P::PipeWithSchema { input, callback } => P::PipeWithSchema { input: all(input.to_vec())?.into(), callback },
        P::Sink { input, payload } => P::Sink { input: inner(input)?, payload },
        P::SinkMultiple { inputs } => P::SinkMultiple { inputs: all(inputs)? },
        // Where rows come from.
        plan @ (P::Scan { .. } | P::DataFrameScan { .. }) => plan,
    })
}

/// Whether what an aggregate gives depends on the order in which it meets its values: sums of floats do, and what is made of such.
fn sums_floats(expr: &Expr, schema: &Schema) -> bool {
    expr.into_iter().any(|expr| match expr {
        Expr::Agg(AggExpr::Sum(input) | AggExpr::Mean(input)) => {
            // Whole numbers are exact, as sums of floats too, up to 2^53.
            !input.to_field(schema).is_ok_and(|field| field.dtype().is_integer() || field.dtype().is_bool())
        }
        Expr::Agg(AggExpr::Std(..) | AggExpr::Var(..)) => true,
        Expr::Function { function: FunctionExpr::Correlation { .. }, .. } => true,
        _ => false,
    })
}

/// Windows that sum floats, told to take the rows of each partition in their order: else they are computed as groups are.
fn windows(exprs: Vec<Expr>, input: &Arc<DslPlan>) -> PolarsResult<Vec<Expr>> {
    if !exprs.iter().flat_map(|expr| expr.into_iter()).any(|expr| matches!(expr, Expr::Over { .. })) {
        return Ok(exprs);
    }
    let schema = LazyFrame::from((**input).clone()).collect_schema()?;
    let in_order = |expr: Expr| match expr {
        Expr::Over { function, partition_by, order_by: None, mapping } if !partition_by.is_empty() && sums_floats(&function, &schema) => {
            // All rows of a partition are equal in what it is made by, and equals keep their order.
            let by = Arc::new(partition_by[0].clone());
            Expr::Over { function, partition_by, order_by: Some((by, SortOptions { maintain_order: true, ..SortOptions::default() })), mapping }
        }
        expr => expr,
    };
    Ok(exprs.into_iter().map(|expr| expr.map_expr(in_order)).collect())
}

/// A group by that meets each group's rows one after the other, in the order of the input.
fn sorted_groups(frame: LazyFrame, schema: &Schema, keys: &[Expr], predicates: Vec<Expr>, aggs: Vec<Expr>) -> PolarsResult<DslPlan> {
    let names = keys.iter().map(|key| key.to_field(schema).map(|field| field.name)).collect::<PolarsResult<Vec<_>>>()?;
    // A key that is computed needs a column, and a name that no other column has.
    let columns: Vec<String> =
        keys.iter().enumerate().map(|(at, key)| if let Expr::Column(name) = key { name.to_string() } else { format!("__pipe_key_{at}") }).collect();
    let computed: Vec<Expr> = keys
        .iter()
        .zip(&columns)
        .filter(|(key, _)| !matches!(key, Expr::Column(_)))
        .map(|(key, column)| key.clone().alias(column.as_str()))
        .collect();
    let by: Vec<Expr> = columns.iter().map(|column| col(column.as_str())).collect();
    let stable = SortMultipleOptions::default().with_maintain_order(true);
    let outputs = aggs.iter().map(|agg| agg.to_field(schema).map(|field| col(field.name))).collect::<PolarsResult<Vec<_>>>()?;
    let mut grouped = frame.with_row_index(ROW, None).with_columns(computed).sort_by_exprs(&by, stable.clone()).group_by_stable(&by);
    for predicate in predicates {
        grouped = grouped.having(predicate);
    }
    let renamed = by.iter().zip(names).map(|(key, name)| key.clone().alias(name));
    let selected: Vec<Expr> = renamed.chain(outputs).collect();
    let frame = grouped.agg([aggs, vec![col(ROW).min()]].concat()).sort_by_exprs([col(ROW)], stable).select(selected);
    Ok(frame.logical_plan)
}
