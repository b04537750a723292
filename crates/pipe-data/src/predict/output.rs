//! Columns of predictions, as they suit the task.
//!
//! | task | columns after `id` |
//! |---|---|
//! | sequence classification | `label`, `score`, `prob_<class>` … |
//! | multi-label | `labels` (probability above a half), `prob_<class>` … |
//! | regression | `value` |
//! | token classification | `tags`, `scores` (one for each word; null for words that were cut off), `entities` |
//! | question answering | `answer` (null: there is none), `start`, `end` (in the context, in characters), `score` |

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Int32Builder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, Float32Array, Int32Array, StringArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use pipe_core::{AnswerSearch, Task, argmax, characters, softmax};

pub(super) fn schema(task: Task, labels: &[String]) -> SchemaRef {
    let field = |name: &str, data_type: DataType, nullable| Field::new(name, data_type, nullable);
    let list = |name: &str, item: DataType, nullable| field(name, DataType::List(Arc::new(Field::new("item", item, nullable))), false);
    let probabilities = || labels.iter().map(|label| field(&format!("prob_{label}"), DataType::Float32, false));
    let mut fields = vec![field("id", DataType::Utf8, false)];
    match task {
        Task::SequenceClassification => {
            fields.extend([field("label", DataType::Utf8, false), field("score", DataType::Float32, false)]);
            fields.extend(probabilities());
        }
        Task::MultiLabelClassification => {
            fields.push(list("labels", DataType::Utf8, false));
            fields.extend(probabilities());
        }
        Task::Regression => fields.push(field("value", DataType::Float32, false)),
        Task::TokenClassification => {
            fields.extend([list("tags", DataType::Utf8, true), list("scores", DataType::Float32, true)]);
            fields.push(list("entities", DataType::Struct(entity_fields()), false));
        }
        Task::QuestionAnswering => {
            fields.push(field("answer", DataType::Utf8, true));
            fields.extend(["start", "end"].map(|name| field(name, DataType::Int32, true)));
            fields.push(field("score", DataType::Float32, false));
        }
        Task::CausalLm => {
            fields.extend([
                field("text", DataType::Utf8, false),
                field("finish_reason", DataType::Utf8, false),
                field("tokens", DataType::Int32, false),
            ]);
            fields.push(field("reference", DataType::Utf8, true));
        }
    }
    Arc::new(Schema::new(fields))
}

fn entity_fields() -> Fields {
    Fields::from(vec![
        Field::new("type", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("start", DataType::Int32, false),
        Field::new("end", DataType::Int32, false),
        Field::new("score", DataType::Float32, false),
    ])
}

pub(super) fn classes(ids: Vec<String>, logits: &[Vec<f32>], labels: &[String]) -> Vec<ArrayRef> {
    let best: Vec<usize> = logits.iter().map(|row| argmax(row)).collect();
    let probabilities: Vec<Vec<f64>> = logits.iter().map(|row| softmax(row)).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(ids)),
        Arc::new(StringArray::from_iter_values(best.iter().map(|&class| labels[class].as_str()))),
        Arc::new(Float32Array::from_iter_values(probabilities.iter().zip(&best).map(|(row, &class)| row[class] as f32))),
    ];
    for class in 0..labels.len() {
        columns.push(Arc::new(Float32Array::from_iter_values(probabilities.iter().map(|row| row[class] as f32))));
    }
    columns
}

pub(super) fn flags(ids: Vec<String>, logits: &[Vec<f32>], labels: &[String]) -> Vec<ArrayRef> {
    let mut names = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false));
    for row in logits {
        // A probability of a half is a logit of 0, which evaluation does not count as having the class.
        row.iter().zip(labels).filter(|(logit, _)| **logit > 0.0).for_each(|(_, label)| names.values().append_value(label));
        names.append(true);
    }
    let probability = |logit: f32| (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32;
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(ids)), Arc::new(names.finish())];
    for class in 0..labels.len() {
        columns.push(Arc::new(Float32Array::from_iter_values(logits.iter().map(|row| probability(row[class])))));
    }
    columns
}

pub(super) fn values(ids: Vec<String>, logits: &[Vec<f32>]) -> Vec<ArrayRef> {
    vec![Arc::new(StringArray::from(ids)), Arc::new(Float32Array::from_iter_values(logits.iter().map(|row| row[0])))]
}

/// `scored` has for each row its words that were scored, and `logits` their scores one after the other.
pub(super) fn tags(ids: Vec<String>, words: &[Vec<String>], scored: &[Vec<usize>], logits: &[Vec<f32>], labels: &[String]) -> Vec<ArrayRef> {
    let mut names = ListBuilder::new(StringBuilder::new());
    let mut scores = ListBuilder::new(Float32Builder::new());
    let mut entities =
        ListBuilder::new(StructBuilder::from_fields(entity_fields(), 0)).with_field(Field::new("item", DataType::Struct(entity_fields()), false));
    for ((words, scored), logits) in words.iter().zip(scored).zip(logits) {
        let mut found: Vec<Option<(&str, f32)>> = vec![None; words.len()];
        for (&word, scores) in scored.iter().zip(logits.chunks_exact(labels.len().max(1))) {
            let class = argmax(scores);
            found[word] = Some((labels[class].as_str(), softmax(scores)[class] as f32));
        }
        for tag in &found {
            names.values().append_option(tag.map(|(name, _)| name));
            scores.values().append_option(tag.map(|(_, score)| score));
        }
        names.append(true);
        scores.append(true);
        for entity in entities_of(&found) {
            let fields = entities.values();
            let text = words[entity.start..entity.end].join(" ");
            // The builders are those of `entity_fields`.
            fields.field_builder::<StringBuilder>(0).expect("a text").append_value(entity.kind);
            fields.field_builder::<StringBuilder>(1).expect("a text").append_value(text);
            fields.field_builder::<Int32Builder>(2).expect("a number").append_value(entity.start as i32);
            fields.field_builder::<Int32Builder>(3).expect("a number").append_value(entity.end as i32);
            fields.field_builder::<Float32Builder>(4).expect("a number").append_value(entity.score);
            fields.append(true);
        }
        entities.append(true);
    }
    vec![Arc::new(StringArray::from(ids)), Arc::new(names.finish()), Arc::new(scores.finish()), Arc::new(entities.finish())]
}

struct Entity<'t> {
    kind: &'t str,
    start: usize,
    /// One past its last word.
    end: usize,
    /// The least probable of its tags.
    score: f32,
}

/// Words that belong together, of tags such as `B-PER` and `I-PER`; tags without such a prefix other than `O` are entities of their own
/// kind as long as they repeat.
fn entities_of<'t>(tags: &[Option<(&'t str, f32)>]) -> Vec<Entity<'t>> {
    let mut entities: Vec<Entity<'t>> = Vec::new();
    let mut goes_on = false;
    for (at, tag) in tags.iter().enumerate() {
        let Some((tag, score)) = tag.filter(|(tag, _)| *tag != "O") else {
            goes_on = false;
            continue;
        };
        let (prefix, kind) = tag.split_once('-').filter(|(prefix, _)| matches!(*prefix, "B" | "I" | "E" | "S" | "L" | "U")).unwrap_or(("I", tag));
        match entities.last_mut().filter(|last| goes_on && last.kind == kind && !matches!(prefix, "B" | "S" | "U")) {
            Some(last) => (last.end, last.score) = (at + 1, last.score.min(score)),
            None => entities.push(Entity { kind, start: at, end: at + 1, score }),
        }
        goes_on = !matches!(prefix, "E" | "S" | "L" | "U");
    }
    entities
}

pub(super) fn answers(ids: Vec<String>, contexts: &[String], found: &[AnswerSearch], may_be_none: bool) -> Vec<ArrayRef> {
    let found: Vec<_> = found.iter().map(|search| search.finish(may_be_none)).collect();
    let text = |at: usize| found[at].span.map(|(start, end)| characters(&contexts[at], start, end));
    let end = |which: fn((usize, usize)) -> usize| found.iter().map(move |answer| answer.span.map(|span| which(span) as i32));
    vec![
        Arc::new(StringArray::from(ids)),
        Arc::new((0..found.len()).map(text).collect::<StringArray>()),
        Arc::new(end(|span| span.0).collect::<Int32Array>()),
        Arc::new(end(|span| span.1).collect::<Int32Array>()),
        Arc::new(Float32Array::from_iter_values(found.iter().map(|answer| answer.score as f32))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_as_their_tags_say() {
        let tags = ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "B-LOC", "S-ORG", "I-ORG", "verb", "verb"].map(|tag| Some((tag, 0.5)));
        let found: Vec<(&str, usize, usize)> = entities_of(&tags).iter().map(|entity| (entity.kind, entity.start, entity.end)).collect();
        assert_eq!(found, [("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 5), ("LOC", 5, 6), ("ORG", 6, 7), ("ORG", 7, 8), ("verb", 8, 10)]);
        assert_eq!(entities_of(&[Some(("B-X", 0.9)), None, Some(("I-X", 0.8))]).len(), 2);
    }
}
