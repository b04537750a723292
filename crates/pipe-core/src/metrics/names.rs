//! The names of the metrics, by the family of tasks that has them.

use crate::task::Task;

/// What `metrics:`, `gate:` and `metric_for_best_model:` may name for single-label classification.
///
/// `f1`, `precision` and `recall` are those of the second class and exist where there are two.
pub const METRIC_NAMES: &[&str] = &[
    "accuracy",
    "f1_macro",
    "f1_weighted",
    "precision_macro",
    "recall_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_micro",
    "precision_micro",
    "recall_micro",
    "f1",
    "precision",
    "recall",
    "balanced_accuracy",
    "mcc",
    "auroc",
    "ece",
];

/// Tasks that are measured alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricFamily {
    /// One class of several for each row.
    Classification,
    /// Any number of labels for each row.
    MultiLabel,
    /// A number for each row.
    Regression,
    /// Spans with a type in a sentence, written as a tag for each token.
    Entities,
    /// A text that answers a question, or that there is none.
    QuestionAnswering,
    /// The next token, or a masked one.
    LanguageModel,
    /// A text held against one or more references: translation, summaries.
    GeneratedText,
}

impl MetricFamily {
    pub const ALL: [MetricFamily; 7] = [
        MetricFamily::Classification,
        MetricFamily::MultiLabel,
        MetricFamily::Regression,
        MetricFamily::Entities,
        MetricFamily::QuestionAnswering,
        MetricFamily::LanguageModel,
        MetricFamily::GeneratedText,
    ];
}

/// The metrics that reports of `family` can have, the most usual first. `loss` is not among them: every family whose loss is
/// known has it besides.
pub const fn names(family: MetricFamily) -> &'static [&'static str] {
    match family {
        MetricFamily::Classification => METRIC_NAMES,
        MetricFamily::MultiLabel => &[
            "f1_micro",
            "f1_macro",
            "f1_weighted",
            "f1_samples",
            "precision_micro",
            "precision_macro",
            "precision_weighted",
            "precision_samples",
            "recall_micro",
            "recall_macro",
            "recall_weighted",
            "recall_samples",
            "accuracy",
            "hamming_loss",
            "auroc_macro",
            "auroc_micro",
        ],
        MetricFamily::Regression => &["mse", "rmse", "mae", "r2", "pearson", "spearman"],
        MetricFamily::Entities => &[
            "f1",
            "precision",
            "recall",
            "f1_macro",
            "precision_macro",
            "recall_macro",
            "f1_weighted",
            "precision_weighted",
            "recall_weighted",
            "accuracy",
        ],
        MetricFamily::QuestionAnswering => &["exact_match", "f1", "f1_char", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1"],
        MetricFamily::LanguageModel => &["perplexity", "accuracy"],
        MetricFamily::GeneratedText => &["bleu", "chrf", "chrf++", "rouge1", "rouge2", "rougeL", "rougeLsum", "exact_match"],
    }
}

/// Whether classes of tokens are parts of entities: `O`, `B-PER`, `I-PER`, … Others, such as parts of speech, are each by themselves.
fn are_parts_of_entities(labels: &[String]) -> bool {
    let is_part = |label: &String| label.split_once('-').is_some_and(|(prefix, _)| matches!(prefix, "B" | "I" | "E" | "S"));
    labels.iter().any(is_part) && labels.iter().all(|label| label == "O" || is_part(label))
}

/// What a task over these classes measures.
pub fn family(task: Task, labels: &[String]) -> MetricFamily {
    match task {
        Task::SequenceClassification => MetricFamily::Classification,
        Task::MultiLabelClassification => MetricFamily::MultiLabel,
        Task::Regression => MetricFamily::Regression,
        Task::TokenClassification if are_parts_of_entities(labels) => MetricFamily::Entities,
        Task::TokenClassification => MetricFamily::Classification,
        Task::QuestionAnswering => MetricFamily::QuestionAnswering,
        Task::CausalLm => MetricFamily::LanguageModel,
    }
}

/// What is told of an evaluation in a line.
pub fn headline(task: Task, labels: &[String]) -> &'static [&'static str] {
    match family(task, labels) {
        MetricFamily::Classification => &["accuracy", "f1_macro"],
        MetricFamily::MultiLabel => &["f1_micro", "f1_macro"],
        MetricFamily::Regression => &["mse", "pearson", "spearman"],
        MetricFamily::Entities => &["precision", "recall", "f1", "accuracy"],
        MetricFamily::QuestionAnswering => &["exact_match", "f1"],
        MetricFamily::LanguageModel => &["perplexity", "accuracy"],
        MetricFamily::GeneratedText => &["bleu", "rougeL", "chrf", "exact_match"],
    }
}

/// The metrics of all families: what a pipeline file may name before it is known what its rows are for.
pub fn all_names() -> Vec<&'static str> {
    let mut all: Vec<&'static str> = METRIC_NAMES.to_vec();
    for family in MetricFamily::ALL {
        for name in names(family) {
            if !all.contains(name) {
                all.push(name);
            }
        }
    }
    all
}

/// Whether a smaller value of the metric is the better one.
pub fn is_lower_better(name: &str) -> bool {
    matches!(name, "loss" | "mse" | "rmse" | "mae" | "hamming_loss" | "perplexity" | "ece")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_once_and_errors_are_better_when_lower() {
        use MetricFamily::*;
        let mut lower = Vec::new();
        for family in [Classification, MultiLabel, Regression, Entities, QuestionAnswering, LanguageModel, GeneratedText] {
            let mut sorted = names(family).to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), names(family).len(), "{family:?}");
            lower.extend(sorted.into_iter().filter(|name| is_lower_better(name)));
        }
        assert_eq!(lower, ["ece", "hamming_loss", "mae", "mse", "rmse", "perplexity"]);
        assert!(is_lower_better("loss") && !is_lower_better("accuracy"));
    }
}
