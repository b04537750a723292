//! Rows of tokens with what a model is to give for them, and the columns that they are written as.

use std::sync::Arc;

use arrow_array::builder::{Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, ListBuilder};
use arrow_array::{ArrayRef, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipe_core::{Error, Result, Task};

use super::EncodedRow;
use super::answers::{Window, WindowColumns};

/// The label of a token that nothing is to be learned of, as transformers has it.
pub(crate) const IGNORED: i32 = -100;

/// One row of tokens of the rows at hand.
pub(super) struct TokenRow {
    /// Which of the rows it is of.
    pub(super) source: usize,
    pub(super) tokens: EncodedRow,
    pub(super) target: Target,
}

/// What a model is to give for a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    None,
    Class(i64),
    /// Class ids, ascending.
    Classes(Vec<i32>),
    Value(f64),
    /// One for each token, [`IGNORED`] where there is none: a class, or the token itself for language models.
    Tokens(Vec<i32>),
    Window(Window),
}

impl Target {
    /// The first window of a question that has no answer.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Target::Window(Window { question: Some((_, answers)), .. }) if answers.is_empty())
    }
}

/// The columns of a task's rows; `labelled`: with what a model is to give for them.
pub(super) fn schema(task: Task, labelled: bool) -> SchemaRef {
    let list = |name: &str, item: DataType| Field::new(name, list_of(item), false);
    let mut fields = vec![Field::new("id", DataType::Utf8, false), list("input_ids", DataType::Int32)];
    if task == Task::CausalLm {
        // A row may hold thousands of documents.
        fields.push(list("attention_mask", DataType::Int16));
    } else {
        fields.extend([list("token_type_ids", DataType::Int8), list("attention_mask", DataType::Int8)]);
    }
    match task {
        Task::QuestionAnswering => fields.extend(WindowColumns::fields(labelled)),
        _ if !labelled => {}
        Task::SequenceClassification => fields.push(Field::new("label", DataType::Int64, false)),
        Task::Regression => fields.push(Field::new("value", DataType::Float64, false)),
        Task::MultiLabelClassification | Task::TokenClassification | Task::CausalLm => fields.push(list("labels", DataType::Int32)),
    }
    Arc::new(Schema::new(fields))
}

pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

/// The columns of [`schema`]; `ids` are those of all the rows at hand.
pub(super) fn columns(task: Task, labelled: bool, ids: &StringArray, rows: &[TokenRow]) -> Result<Vec<ArrayRef>> {
    let item = |data_type| Field::new("item", data_type, false);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(rows.iter().map(|row| ids.value(row.source))))];
    let mut tokens = ListBuilder::new(Int32Builder::new()).with_field(item(DataType::Int32));
    for row in rows {
        tokens.values().append_slice(&row.tokens.ids);
        tokens.append(true);
    }
    columns.push(Arc::new(tokens.finish()));
    if task == Task::CausalLm {
        let mut documents = ListBuilder::new(Int16Builder::new()).with_field(item(DataType::Int16));
        for row in rows {
            documents.values().append_slice(&row.tokens.mask);
            documents.append(true);
        }
        columns.push(Arc::new(documents.finish()));
    } else {
        let mut types = ListBuilder::new(Int8Builder::new()).with_field(item(DataType::Int8));
        let mut mask = ListBuilder::new(Int8Builder::new()).with_field(item(DataType::Int8));
        for row in rows {
            types.values().append_slice(&row.tokens.type_ids);
            types.append(true);
            row.tokens.mask.iter().for_each(|&bit| mask.values().append_value(bit as i8));
            mask.append(true);
        }
        columns.extend([Arc::new(types.finish()) as ArrayRef, Arc::new(mask.finish())]);
    }
    if task == Task::QuestionAnswering {
        columns.extend(WindowColumns::build(rows, labelled)?);
    } else if labelled {
        columns.push(targets(task, rows)?);
    }
    Ok(columns)
}

fn targets(task: Task, rows: &[TokenRow]) -> Result<ArrayRef> {
    let other = || Error::internal("a row whose label is of another task");
    match task {
        Task::SequenceClassification => {
            let mut column = Int64Builder::with_capacity(rows.len());
            for row in rows {
                let Target::Class(class) = &row.target else { return Err(other()) };
                column.append_value(*class);
            }
            Ok(Arc::new(column.finish()))
        }
        Task::Regression => {
            let mut column = Float64Builder::with_capacity(rows.len());
            for row in rows {
                let Target::Value(value) = &row.target else { return Err(other()) };
                column.append_value(*value);
            }
            Ok(Arc::new(column.finish()))
        }
        _ => {
            let mut column = ListBuilder::new(Int32Builder::new()).with_field(Field::new("item", DataType::Int32, false));
            for row in rows {
                let (Target::Classes(labels) | Target::Tokens(labels)) = &row.target else { return Err(other()) };
                column.values().append_slice(labels);
                column.append(true);
            }
            Ok(Arc::new(column.finish()))
        }
    }
}
