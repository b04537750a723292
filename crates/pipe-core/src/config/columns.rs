//! Which column of the source plays which role, and what else of it is carried along.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Complaint;

/// Which column of the source plays which role. Columns named neither here nor in `extra` are dropped.
///
/// Every format also has the columns `$file`, `$stem` and `$folder`: the name of the record's file, the same without its
/// extensions, and the name of the folder that it is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnsConfig {
    /// The column with the text. Not needed where `question`, `prompt` or `messages` is mapped.
    pub text: String,
    /// The column with the second text, for pairs.
    pub text_pair: Option<String>,
    /// The column with the class; absent: rows to be scored.
    pub label: Option<String>,
    /// The column with each row's id, written as it is: no personal data. Absent: file digest and record number.
    pub id: Option<String>,
    /// The column that says which rows belong together: they never straddle two splits.
    pub group: Option<String>,
    /// The column with each row's time: RFC 3339, a date, or seconds since 1970.
    pub time: Option<String>,
    /// Question answering: the question, …
    pub question: Option<String>,
    /// … the text that holds the answer, …
    pub context: Option<String>,
    /// … and the answers as SQuAD has them: `{"text": […], "answer_start": […]}`, in characters.
    pub answers: Option<String>,
    /// Supervised fine-tuning: what the model is given, …
    pub prompt: Option<String>,
    /// … and what it is to answer.
    pub completion: Option<String>,
    /// Supervised fine-tuning on chats: a list of `{"role": …, "content": …}`.
    pub messages: Option<String>,
    /// Further columns of the output.
    pub extra: BTreeMap<String, ExtraColumn>,
    /// Columns that every source file must have, whether they are used or not.
    pub required: Vec<String>,
    /// Columns that no source file may have.
    pub forbidden: Vec<String>,
}

impl Default for ColumnsConfig {
    fn default() -> Self {
        ColumnsConfig {
            text: "text".into(),
            text_pair: None,
            label: None,
            id: None,
            group: None,
            time: None,
            question: None,
            context: None,
            answers: None,
            prompt: None,
            completion: None,
            messages: None,
            extra: BTreeMap::new(),
            required: Vec::new(),
            forbidden: Vec::new(),
        }
    }
}

/// A column that plays no role and is carried along.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExtraColumn {
    /// The source's name for it; absent: the same name.
    pub from: Option<String>,
    /// The same value on every row, instead of a column of the source.
    pub value: Option<Value>,
    /// What its values are; a value that is not rejects its row.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// A row without it is rejected.
    pub required: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    #[default]
    String,
    Integer,
    Float,
    Boolean,
    /// RFC 3339, a date, or seconds since 1970; written as UTC.
    Time,
    /// Lists and structs, written as JSON text, every string in them scanned.
    Json,
}

/// Names of classes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelsConfig {
    /// From a value of the label column to the class that it stands for.
    pub map: BTreeMap<String, String>,
    /// What happens to rows whose label is not in `map`.
    pub unmapped: Unmapped,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unmapped {
    /// The row is rejected.
    #[default]
    Reject,
    /// The row is left out, and counted as filtered.
    Filter,
    /// The label stays as it is.
    Keep,
}

/// Names of the columns that ingest writes for roles, as pipeline files name the roles too.
pub const ROLES: [&str; 12] =
    ["text", "text_pair", "label", "id", "group", "time", "question", "context", "answers", "prompt", "completion", "messages"];

impl ColumnsConfig {
    /// Roles with the source's names for them, in the order of the output's columns. The text is left out where another
    /// role takes its place and it was not named.
    pub fn roles(&self) -> Vec<(&'static str, &str)> {
        let named = [
            ("id", &self.id),
            ("text_pair", &self.text_pair),
            ("question", &self.question),
            ("context", &self.context),
            ("answers", &self.answers),
            ("prompt", &self.prompt),
            ("completion", &self.completion),
            ("messages", &self.messages),
            ("label", &self.label),
            ("group", &self.group),
            ("time", &self.time),
        ];
        let mut roles: Vec<(&'static str, &str)> = named.into_iter().filter_map(|(role, column)| Some((role, column.as_deref()?))).collect();
        if self.has_text() {
            roles.insert(usize::from(self.id.is_some()), ("text", &self.text));
        }
        roles
    }

    /// Columns that files must have, and those that they may not have.
    pub fn listed(&self) -> Vec<String> {
        self.required.iter().chain(&self.forbidden).cloned().collect()
    }

    pub fn has_text(&self) -> bool {
        self.text != "text" || (self.question.is_none() && self.prompt.is_none() && self.messages.is_none())
    }

    pub(super) fn check(&self, labels: &LabelsConfig) -> Result<(), Complaint> {
        let mut taken = BTreeMap::new();
        for (role, column) in self.roles() {
            if let Some(other) = taken.insert(column, role) {
                return Err(Complaint::new(format!("columns.{role}"), format!("the column `{column}` is both `{other}` and `{role}`")));
            }
        }
        for (role, mapped, needs, present) in [
            ("question", self.question.is_some(), "context", self.context.is_some()),
            ("answers", self.answers.is_some(), "context", self.context.is_some()),
            ("prompt", self.prompt.is_some(), "completion", self.completion.is_some()),
            ("completion", self.completion.is_some(), "prompt", self.prompt.is_some()),
        ] {
            if mapped && !present {
                return Err(Complaint::new(format!("columns.{role}"), format!("`{role}` needs `{needs}` beside it")));
            }
        }
        for (name, extra) in &self.extra {
            let setting = format!("columns.extra.{name}");
            if ROLES.contains(&name.as_str()) {
                return Err(Complaint::new(setting, format!("`{name}` is the name of a role"))
                    .hint(format!("write `columns: {{ {name}: … }}`, or choose another name")));
            }
            if name.is_empty() || name.starts_with('$') {
                return Err(Complaint::new(setting, "a column needs a name that does not begin with `$`"));
            }
            if extra.value.is_some() && extra.from.is_some() {
                return Err(Complaint::new(setting, "a column has a `value` or comes `from` the source, not both"));
            }
        }
        let source_names: Vec<&str> = self
            .roles()
            .into_iter()
            .map(|(_, column)| column)
            .chain(self.extra.iter().map(|(name, extra)| extra.from.as_deref().unwrap_or(name)))
            .collect();
        if let Some(both) = self.forbidden.iter().find(|name| source_names.contains(&name.as_str()) || self.required.contains(name)) {
            return Err(Complaint::new("columns.forbidden", format!("the column `{both}` is asked for and forbidden")));
        }
        if !labels.map.is_empty() && self.label.is_none() {
            return Err(Complaint::new("labels.map", "there is no label to map").hint("add `columns: { label: … }`"));
        }
        Ok(())
    }
}
