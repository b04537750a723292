//! What a model learns to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The task of a training: which labels its rows have, what stands on top of the model, what is minimised and measured.
///
/// Rows are tokenized for a task, and all that is made of them carries its name on (`pipe.json`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One class for each text or pair of texts.
    #[default]
    SequenceClassification,
    /// Any number of classes for each text or pair.
    MultiLabelClassification,
    /// A number for each text or pair.
    Regression,
    /// A class for each word.
    TokenClassification,
    /// Where in a text the answer to a question stands.
    QuestionAnswering,
    /// The next token.
    CausalLm,
}

impl Task {
    pub const ALL: [Task; 6] = [
        Task::SequenceClassification,
        Task::MultiLabelClassification,
        Task::Regression,
        Task::TokenClassification,
        Task::QuestionAnswering,
        Task::CausalLm,
    ];

    /// What rows with these columns are for, as far as columns say.
    pub fn of_columns(has: impl Fn(&str) -> bool) -> Option<Task> {
        let by_column = [
            ("question", Task::QuestionAnswering),
            ("tokens", Task::TokenClassification),
            ("messages", Task::CausalLm),
            ("prompt", Task::CausalLm),
            ("labels", Task::MultiLabelClassification),
            ("value", Task::Regression),
            ("label", Task::SequenceClassification),
        ];
        by_column.into_iter().find_map(|(column, task)| has(column).then_some(task))
    }

    /// Whether rows that are for `other` fit: sequence classification is the name of all three tasks that score rows, as transformers
    /// has it.
    pub fn covers(self, other: Task) -> bool {
        self == other || (self == Task::SequenceClassification && other.scores_rows())
    }

    /// As pipeline files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Task::SequenceClassification => "sequence-classification",
            Task::MultiLabelClassification => "multi-label-classification",
            Task::Regression => "regression",
            Task::TokenClassification => "token-classification",
            Task::QuestionAnswering => "question-answering",
            Task::CausalLm => "causal-lm",
        }
    }

    /// Whether the rows are told apart by named classes.
    pub fn has_classes(self) -> bool {
        matches!(self, Task::SequenceClassification | Task::MultiLabelClassification | Task::TokenClassification)
    }

    /// Whether one vector of scores is given for a whole row.
    pub fn scores_rows(self) -> bool {
        matches!(self, Task::SequenceClassification | Task::MultiLabelClassification | Task::Regression)
    }

    /// What transformers' `config.json` calls it; absent for tasks that it tells apart by their class alone.
    pub fn problem_type(self) -> Option<&'static str> {
        match self {
            Task::SequenceClassification => Some("single_label_classification"),
            Task::MultiLabelClassification => Some("multi_label_classification"),
            Task::Regression => Some("regression"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_they_are_read() {
        for task in Task::ALL {
            assert_eq!(serde_json::json!(task), task.name());
        }
    }
}
