//! A query as it was written: one `SELECT` over stages, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use pipe_core::{Error, Result};
use polars::sql::SQLContext;
use sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query as Ast, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias, TableFactor,
    Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserOptions};
use sqlparser::tokenizer::Location;

use crate::error::{of_syntax, while_planning};
use crate::prepared::Prepared;
use crate::table::Table;

/// `stage` or `stage.split`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    pub stage: String,
    pub part: Option<String>,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(f, "{}.{part}", self.stage),
            None => f.write_str(&self.stage),
        }
    }
}

/// A query that is known to be a single `SELECT` over stages.
#[derive(Debug, Clone)]
pub struct Query {
    /// As polars reads it: `stage.split` is one name.
    sql: String,
    /// Where each table is named first.
    tables: BTreeMap<TableName, String>,
    /// Names that `WITH` gives.
    local: BTreeSet<String>,
    /// Where each name that may be a column's stands first.
    names: BTreeMap<String, String>,
}

impl Query {
    /// Reads a query. Errors name the place in it.
    pub fn parse(text: &str) -> Result<Query> {
        // The options of polars' own reading.
        let options = ParserOptions { trailing_commas: true, ..ParserOptions::default() };
        let parser = Parser::new(&GenericDialect {}).with_options(options);
        let statements = parser.try_with_sql(text).and_then(|mut parser| parser.parse_statements()).map_err(|error| of_syntax(&error))?;
        let Ok([mut statement]) = <[Statement; 1]>::try_from(statements) else {
            return Err(Error::usage("a query is one statement, and not several or none")
                .hint("for example: SELECT label, count(*) FROM ingest GROUP BY label"));
        };
        if !matches!(statement, Statement::Query(_)) {
            return Err(Error::usage("a query reads and changes nothing: it begins with SELECT or WITH"));
        }
        let mut found = Names::default();
        if let ControlFlow::Break(error) = Visit::visit(&statement, &mut found) {
            return Err(error);
        }
        let Names { tables, local, names, mut taken } = found;
        let tables: BTreeMap<TableName, String> =
            tables.into_iter().filter(|(table, _)| table.part.is_some() || !local.contains(&table.stage)).collect();
        let sql = if tables.keys().any(|table| table.part.is_some()) {
            taken.extend(tables.keys().filter(|table| table.part.is_none()).map(|table| table.stage.clone()));
            taken.extend(local.iter().cloned());
            let _: ControlFlow<()> = VisitMut::visit(&mut statement, &mut OneName { tables: &tables, taken: &taken });
            statement.to_string()
        } else {
            text.to_owned()
        };
        Ok(Query { sql, tables, local, names })
    }

    /// The tables that it reads, and where each is named first: `line 1, column 15 of the query`.
    pub fn tables(&self) -> impl Iterator<Item = (&TableName, &str)> {
        self.tables.iter().map(|(table, place)| (table, place.as_str()))
    }

    /// Puts the query over the `tables` that it names, which all have to be there. No row is read.
    pub fn prepare(&self, tables: &BTreeMap<TableName, Table>) -> Result<Prepared> {
        let mut context = SQLContext::new();
        let mut columns: Vec<String> = Vec::new();
        let planning = |error, columns: &[String]| while_planning(&error, columns, |name| self.names.get(name).cloned());
        for (name, place) in &self.tables {
            let table = tables.get(name).ok_or_else(|| Error::internal(format!("there is no table for `{name}` ({place})")))?;
            let mut frame = table.scan().map_err(|error| planning(error, &columns))?;
            let schema = frame.collect_schema().map_err(|error| planning(error, &columns))?;
            columns.extend(schema.iter_names().map(|name| name.to_string()));
            context.register(&name.to_string(), frame);
        }
        columns.sort();
        columns.dedup();
        let frame = context.execute(&self.sql).map_err(|error| {
            let error = planning(error, &columns);
            // A name that WITH gives hides the stage of that name, from its own query too.
            let hidden = self.local.iter().find(|name| error.message.contains(&format!("relation '{name}' was not found")));
            error.maybe_hint(hidden.map(|name| format!("WITH gives the name `{name}`, which hides a stage of that name: rename it in WITH")))
        })?;
        Prepared::new(frame).map_err(|error| planning(error, &columns))
    }
}

fn place(at: Location) -> String {
    format!("line {}, column {} of the query", at.line, at.column)
}

/// All names in a query; breaks at what a query may not have.
#[derive(Default)]
struct Names {
    tables: BTreeMap<TableName, String>,
    local: BTreeSet<String>,
    names: BTreeMap<String, String>,
    /// Names that the query itself gives to tables.
    taken: BTreeSet<String>,
}

impl Names {
    fn table(&mut self, name: &ObjectName) -> Result<()> {
        let parts: Option<Vec<&Ident>> = name.0.iter().map(ObjectNamePart::as_ident).collect();
        let parts = parts.unwrap_or_default();
        let (stage, part) = match parts.as_slice() {
            [stage] => (stage, None),
            [stage, part] => (stage, Some(part.value.clone())),
            _ => return Err(Error::usage(format!("`{name}` is no table")).hint("a table is a stage, `ingest`, or a split of one, `ingest.train`")),
        };
        let at = place(stage.span.start);
        if stage.quote_style == Some('\'') {
            return Err(only_stages(&format!("a file ({at})")));
        }
        self.tables.entry(TableName { stage: stage.value.clone(), part }).or_insert(at);
        Ok(())
    }
}

fn only_stages(what: &str) -> Error {
    Error::usage(format!("the query reads {what}, but only the output of stages can be queried"))
        .hint("name a stage, or a split of one: SELECT … FROM ingest.train; files are read by a stage that uses `ingest`, which scrubs them")
}

impl Visitor for Names {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Ast) -> ControlFlow<Error> {
        self.local.extend(query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| cte.alias.name.value.clone()));
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                ControlFlow::Break(Error::usage("a query reads and changes nothing"))
            }
            SetExpr::Table(_) => ControlFlow::Break(Error::usage("`TABLE name` is not known here").hint("write SELECT * FROM name")),
            body => match twice(body) {
                None => ControlFlow::Continue(()),
                Some(name) => ControlFlow::Break(
                    Error::usage(format!("the query reads `{name}` twice under one name"))
                        .hint(format!("give each a name of its own: FROM {name} AS a JOIN {name} AS b ON …")),
                ),
            },
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        let result = match factor {
            TableFactor::Table { name, args: Some(_), .. } => {
                let at = name.0.first().and_then(ObjectNamePart::as_ident).map(|ident| place(ident.span.start));
                Err(only_stages(&format!("through a function ({})", at.unwrap_or_default())))
            }
            TableFactor::Table { name, alias, args: None, .. } => {
                self.taken.extend(alias.iter().map(|alias| alias.name.value.clone()));
                self.table(name)
            }
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } | TableFactor::UNNEST { .. } => Ok(()),
            _ => Err(only_stages("something else")),
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        let idents = match expr {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => &[],
        };
        for ident in idents {
            self.names.entry(ident.value.clone()).or_insert_with(|| place(ident.span.start));
        }
        ControlFlow::Continue(())
    }
}

/// A table that one FROM has twice without a name that tells them apart: whose columns are meant nobody could say.
fn twice(body: &SetExpr) -> Option<String> {
    match body {
        SetExpr::Select(select) => {
            let mut factors = select.from.iter().flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
            let mut met = BTreeSet::new();
            factors.find_map(|factor| match factor {
                TableFactor::Table { name, alias: None, .. } if !met.insert(name.to_string()) => Some(name.to_string()),
                _ => None,
            })
        }
        SetExpr::SetOperation { left, right, .. } => twice(left).or_else(|| twice(right)),
        _ => None,
    }
}

/// Makes `stage.split` one name, which polars can look up. Its columns are those of `split` too, as SQL has it with schemas,
/// where no other table of the query is called so.
struct OneName<'q> {
    tables: &'q BTreeMap<TableName, String>,
    /// Names of other tables.
    taken: &'q BTreeSet<String>,
}

impl OneName<'_> {
    /// What the columns of a table are called by, if its name is one that the query reads.
    fn alias(&self, stage: &str, part: &str) -> Option<Ident> {
        let table = TableName { stage: stage.to_owned(), part: Some(part.to_owned()) };
        if !self.tables.contains_key(&table) {
            return None;
        }
        let alone = self.tables.keys().filter(|other| other.part.as_deref() == Some(part)).count() == 1 && !self.taken.contains(part);
        Some(Ident::with_quote('"', if alone { part.to_owned() } else { table.to_string() }))
    }

    fn select(&self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => {
                for item in &mut select.projection {
                    if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
                        && let [Some(stage), Some(part)] = name.0.iter().map(ObjectNamePart::as_ident).collect::<Vec<_>>().as_slice()
                        && let Some(alias) = self.alias(&stage.value, &part.value)
                    {
                        *name = ObjectName(vec![ObjectNamePart::Identifier(alias)]);
                    }
                }
            }
            SetExpr::SetOperation { left, right, .. } => {
                self.select(left);
                self.select(right);
            }
            _ => {}
        }
    }
}

impl VisitorMut for OneName<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Ast) -> ControlFlow<()> {
        self.select(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, .. } = factor
            && let [Some(stage), Some(part)] = name.0.iter().map(ObjectNamePart::as_ident).collect::<Vec<_>>().as_slice()
            && let Some(short) = self.alias(&stage.value, &part.value)
        {
            let table = TableName { stage: stage.value.clone(), part: Some(part.value.clone()) };
            *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('"', table.to_string()))]);
            alias.get_or_insert(TableAlias { explicit: true, name: short, columns: Vec::new(), at: None });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [stage, part, _, ..] = parts.as_slice()
            && let Some(alias) = self.alias(&stage.value, &part.value)
        {
            parts.splice(..2, [alias]);
        }
        ControlFlow::Continue(())
    }
}
