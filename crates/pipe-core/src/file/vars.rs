//! `${name}`, `${env:NAME}` and `${env:NAME:-default}`: one pass over the tree, no expressions.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::diagnostic::{Problem, suggestion};
use super::node::{Node, Value};

/// Names that each run gives a value of its own. They stand in `publish` and `run.notify`, where no key is made of them.
pub const RUN_NAMES: [&str; 4] = ["run.date", "run.time", "run.id", "run.outcome"];

/// The values that `${…}` can name. Cheap to copy: there is one for every cell of a matrix.
#[derive(Clone)]
pub(super) struct Variables {
    pub(super) values: Rc<BTreeMap<String, Node>>,
    /// The values that one cell of a matrix has for its axes, named `matrix.axis`; they go before the others.
    pub(super) cell: Rc<BTreeMap<String, Node>>,
    /// Reads a declared environment variable; a parameter so that tests need not touch the process.
    pub(super) environment: fn(&str) -> Option<String>,
    /// Leaves `${run.date}` and its like as they are, to be filled in by the run.
    pub(super) keep_run_names: bool,
    pub(super) budget: Budget,
}

/// What variables may still fill in, in bytes of text and values together, over the whole file: a few lines that name
/// a long list a thousand times would fill any memory.
#[derive(Clone)]
pub(super) struct Budget(Rc<Cell<usize>>);

impl Default for Budget {
    fn default() -> Self {
        Budget(Rc::new(Cell::new(1 << 20)))
    }
}

impl Budget {
    fn spend(&self, value: &Value, node: &Node) -> Result<(), Problem> {
        let left = self.0.get().checked_sub(value.weight());
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or_else(|| Problem::new(node.span, "the variables fill in more than 1 MiB"))
    }
}

/// Fills in `${run.…}`: `values` gives each name's value, without the `run.`.
pub fn fill_run_names(text: &str, value: impl Fn(&str) -> String) -> String {
    RUN_NAMES.iter().fold(text.to_owned(), |text, name| {
        let place = format!("${{{name}}}");
        if text.contains(&place) { text.replace(&place, &value(name.trim_start_matches("run."))) } else { text }
    })
}

impl Variables {
    pub(super) fn new(values: BTreeMap<String, Node>, environment: fn(&str) -> Option<String>) -> Variables {
        Variables { values: Rc::new(values), cell: Rc::default(), environment, keep_run_names: false, budget: Budget::default() }
    }

    /// Replaces every reference below `node`; problems are collected, so that all show at once.
    pub(super) fn apply(&self, node: &mut Node, problems: &mut Vec<Problem>) {
        if problems.len() >= super::MAX_PROBLEMS {
            return;
        }
        match &mut node.value {
            Value::Seq(items) => items.iter_mut().for_each(|item| self.apply(item, problems)),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, item)| self.apply(item, problems)),
            Value::String(text) if text.contains("${") => match self.expand(&text.clone(), node) {
                Ok(value) => node.value = value,
                Err(problem) => problems.push(problem),
            },
            _ => {}
        }
    }

    /// A value that is one variable and nothing else takes the variable's type.
    fn expand(&self, text: &str, node: &Node) -> Result<Value, Problem> {
        if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
            && !name.contains("${")
            && (name.starts_with("env:") || !name.contains('}'))
        {
            return self.lookup(name, node);
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                // `$${` is a literal `${`.
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let end = rest[at..].find('}').ok_or_else(|| Problem::new(node.span, "`${` without its `}`"))?;
            match self.lookup(&rest[at + 2..at + end], node)? {
                Value::String(value) => out.push_str(&value),
                Value::Int(value) => out.push_str(&value.to_string()),
                Value::Float(value) => out.push_str(&value.to_string()),
                Value::Bool(value) => out.push_str(&value.to_string()),
                other => return Err(Problem::new(node.span, format!("this variable is {}, it cannot stand inside a text", other.kind()))),
            }
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        Ok(Value::String(out))
    }

    fn lookup(&self, name: &str, node: &Node) -> Result<Value, Problem> {
        if let Some(env) = name.strip_prefix("env:") {
            let (name, default) = match env.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (env, None),
            };
            let value = (self.environment)(name).or_else(|| default.map(str::to_owned));
            return value.map(Value::String).ok_or_else(|| {
                Problem::new(node.span, format!("the environment variable {name} is not set"))
                    .hint(format!("set it, or give a default: ${{env:{name}:-value}}"))
            });
        }
        if name.starts_with("run.") {
            return match RUN_NAMES.contains(&name) {
                true if self.keep_run_names => Ok(Value::String(format!("${{{name}}}"))),
                true => Err(Problem::new(node.span, format!("`${{{name}}}` is another one in every run, so no stage may depend on it"))
                    .hint("it can stand in `publish:` and in `run: { notify: … }`")),
                false => Err(Problem::new(node.span, format!("unknown variable `{name}`")).maybe_hint(suggestion(name, &RUN_NAMES))),
            };
        }
        match self.cell.get(name).or_else(|| self.values.get(name)) {
            Some(found) => {
                self.budget.spend(&found.value, node)?;
                Ok(found.value.clone())
            }
            None => {
                let known: Vec<&str> = self.cell.keys().chain(self.values.keys()).map(String::as_str).collect();
                let hint = suggestion(name, &known).unwrap_or_else(|| "declare it under `vars:`".into());
                Err(Problem::new(node.span, format!("unknown variable `{name}`")).hint(hint))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{diagnostic::SourceId, node::parse};
    use super::*;

    fn expand(text: &str) -> Result<Value, Vec<Problem>> {
        let mut node = parse(text, SourceId::FILE).unwrap();
        let values = [("n", "64"), ("base", "data/m")].map(|(name, text)| (name.to_owned(), parse(text, SourceId::FILE).unwrap()));
        let environment = |name: &str| (name == "HOME_SET").then(|| "h".to_owned());
        let variables = Variables::new(values.into(), environment);
        let mut problems = Vec::new();
        variables.apply(&mut node, &mut problems);
        if problems.is_empty() { Ok(node.value) } else { Err(problems) }
    }

    #[test]
    fn a_lone_variable_keeps_its_type_even_in_quotes() {
        assert_eq!(expand("\"${n}\""), Ok(Value::Int(64)));
        assert_eq!(expand("\"len-${n}\""), Ok(Value::String("len-64".into())));
        assert_eq!(expand("\"${base}/${n}\""), Ok(Value::String("data/m/64".into())));
        assert_eq!(expand("\"$${n}\""), Ok(Value::String("${n}".into())));
    }

    #[test]
    fn only_declared_environment_is_read() {
        assert_eq!(expand("\"${env:HOME_SET}\""), Ok(Value::String("h".into())));
        assert_eq!(expand("\"${env:NOPE:-d}\""), Ok(Value::String("d".into())));
        assert!(expand("\"${env:NOPE}\"").is_err());
    }

    #[test]
    fn what_changes_with_every_run_stays_out_of_settings() {
        assert!(expand("\"${run.date}\"").unwrap_err()[0].message.contains("another one in every run"));
        let filled = fill_run_names("out/${run.date}/${run.id}", |name| format!("<{name}>"));
        assert_eq!(filled, "out/<date>/<id>");
    }

    #[test]
    fn an_unknown_variable_names_its_neighbour() {
        let problems = expand("\"${bas}\"").unwrap_err();
        assert_eq!(problems[0].hint.as_deref(), Some("did you mean `base`?"));
    }
}
