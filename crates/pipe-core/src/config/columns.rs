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
    /// The column with the text. Not needed where `question`, `prompt`, `messages` or `tokens` is mapped.
    pub text: String,
    /// The column with the second text, for pairs.
    pub text_pair: Option<String>,
    /// The column with the class; absent: rows to be scored.
    pub label: Option<String>,
    /// Any number of classes per row: a list of them, or text with commas between them; an empty list is a row of no class.
    // Not written where it is absent, as all roles that came later: keys and shards of pipelines without it stay what they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Regression: the column with the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The text as words, in place of `text`: a list of them, or text that is split at white space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
    /// Token classification: the class of each of the `tokens`, in a list as long; absent: rows to be scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
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
            labels: None,
            value: None,
            tokens: None,
            tags: None,
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
    /// From a value of the column of `label`, `labels` or `tags` to the class that it stands for.
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
pub const ROLES: [&str; 16] = [
    "text",
    "text_pair",
    "label",
    "labels",
    "value",
    "tokens",
    "tags",
    "id",
    "group",
    "time",
    "question",
    "context",
    "answers",
    "prompt",
    "completion",
    "messages",
];

/// The roles of which a row has one: what a model is to say of it.
const TARGETS: [&str; 4] = ["label", "labels", "value", "tags"];

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
            ("tokens", &self.tokens),
            ("label", &self.label),
            ("labels", &self.labels),
            ("value", &self.value),
            ("tags", &self.tags),
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
        let others = [&self.question, &self.prompt, &self.messages, &self.tokens];
        self.text != "text" || others.into_iter().all(Option::is_none)
    }

    /// What rows are labelled with: `label`, `labels`, `value` or `tags`, with the source's name for it.
    pub fn target(&self) -> Option<(&'static str, &str)> {
        self.roles().into_iter().find(|(role, _)| TARGETS.contains(role))
    }

    /// The role that holds names of classes, with the source's name for it.
    pub fn classes(&self) -> Option<(&'static str, &str)> {
        self.target().filter(|(role, _)| *role != "value")
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
            ("tags", self.tags.is_some(), "tokens", self.tokens.is_some()),
        ] {
            if mapped && !present {
                return Err(Complaint::new(format!("columns.{role}"), format!("`{role}` needs `{needs}` beside it")));
            }
        }
        self.check_alternatives()?;
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
        if !labels.map.is_empty() && self.classes().is_none() {
            return Err(Complaint::new("labels.map", "there is no label to map").hint("add `columns: { label: … }`"));
        }
        Ok(())
    }

    /// Roles of which a row has no two.
    fn check_alternatives(&self) -> Result<(), Complaint> {
        let mapped: Vec<&'static str> = self.roles().into_iter().map(|(role, _)| role).collect();
        let both = |role: &str, others: &[&str]| {
            let role = mapped.iter().find(|mapped| **mapped == role)?;
            Some((*role, *mapped.iter().find(|other| **other != *role && others.contains(*other))?))
        };
        // What a model learns to say of a row. A label beside answers or a completion is carried along, and always was.
        let targets = ["label", "labels", "value", "tags", "answers", "completion"];
        if let Some((role, other)) = ["labels", "value", "tags"].into_iter().find_map(|role| both(role, &targets)) {
            return Err(Complaint::new(format!("columns.{role}"), format!("a row is labelled with `{role}` or with `{other}`, not with both"))
                .hint("leave one out, or carry it along as a column of `columns.extra` with another name"));
        }
        let texts = ["text", "text_pair", "question", "context", "prompt", "completion", "messages"];
        if let Some((_, other)) = both("tokens", &texts) {
            return Err(Complaint::new("columns.tokens", format!("`tokens` takes the place of `{other}`: a row is one or the other"))
                .hint(format!("leave `{other}` out, or carry it along as a column of `columns.extra` with another name")));
        }
        if let Some((_, other)) = both("tokens", &["label", "labels", "value"]) {
            return Err(Complaint::new("columns.tokens", format!("words are labelled with `tags`, and `{other}` is of a whole text"))
                .hint("map the column with the whole text as `text`"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(roles: &[&str]) -> ColumnsConfig {
        let map: serde_json::Map<String, Value> = roles.iter().map(|role| ((*role).to_owned(), format!("the {role}").into())).collect();
        serde_json::from_value(Value::Object(map)).unwrap()
    }

    fn complaint(roles: &[&str]) -> Option<String> {
        columns(roles).check(&LabelsConfig::default()).err().map(|complaint| complaint.message)
    }

    #[test]
    fn a_row_is_labelled_in_one_way() {
        for roles in [
            &["labels"][..],
            &["value", "text_pair"],
            &["tokens"],
            &["tokens", "tags", "id", "group", "time"],
            &["label", "question", "context", "answers"],
            &["label", "prompt", "completion"],
        ] {
            assert_eq!(complaint(roles), None, "{roles:?}");
        }
        for (roles, expected) in [
            (&["label", "labels"][..], "a row is labelled with `labels` or with `label`, not with both"),
            (&["value", "labels"], "a row is labelled with `labels` or with `value`, not with both"),
            (&["tokens", "tags", "value"], "a row is labelled with `value` or with `tags`, not with both"),
            (&["prompt", "completion", "value"], "a row is labelled with `value` or with `completion`, not with both"),
            (&["question", "context", "answers", "labels"], "a row is labelled with `labels` or with `answers`, not with both"),
            (&["tags"], "`tags` needs `tokens` beside it"),
            (&["tokens", "text"], "`tokens` takes the place of `text`: a row is one or the other"),
            (&["tokens", "messages"], "`tokens` takes the place of `messages`: a row is one or the other"),
            (&["tokens", "label"], "words are labelled with `tags`, and `label` is of a whole text"),
        ] {
            assert_eq!(complaint(roles).as_deref(), Some(expected), "{roles:?}");
        }
    }

    #[test]
    fn labels_are_mapped_where_there_are_classes() {
        let labels = LabelsConfig { map: BTreeMap::from([("1".to_owned(), "good".to_owned())]), ..LabelsConfig::default() };
        for roles in [&["label"][..], &["labels"], &["tokens", "tags"]] {
            assert!(columns(roles).check(&labels).is_ok(), "{roles:?}");
        }
        for roles in [&[][..], &["value"], &["tokens"]] {
            assert!(columns(roles).check(&labels).is_err(), "{roles:?}");
        }
    }

    /// Keys and shards are made of this: a role that came later must leave no trace where it is not used.
    #[test]
    fn a_role_that_came_later_is_written_only_where_it_is_used() {
        let names = |columns: &ColumnsConfig| serde_json::to_value(columns).unwrap().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut expected = [
            "text",
            "text_pair",
            "label",
            "id",
            "group",
            "time",
            "question",
            "context",
            "answers",
            "prompt",
            "completion",
            "messages",
            "extra",
            "required",
            "forbidden",
        ];
        expected.sort_unstable();
        let mut written = names(&ColumnsConfig::default());
        written.sort();
        assert_eq!(written, expected);
        assert!(names(&columns(&["tokens"])).contains(&"tokens".to_owned()));
    }
}
