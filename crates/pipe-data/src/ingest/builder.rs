//! One Arrow builder per column of rows.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder, TimestampMicrosecondBuilder,
};
use arrow_schema::{DataType, Field};
use pipe_core::{Error, Result};

use super::columns::{answers_fields, message_field, time_type};
use super::value::{Answer, Message, Value};

/// Builds one column of scrubbed values.
pub(super) enum ColumnBuilder {
    Text(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Boolean(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
    Answers(StructBuilder),
    Messages(ListBuilder<StructBuilder>),
    Texts(ListBuilder<StringBuilder>),
}

impl ColumnBuilder {
    /// `rows` and `bytes` of text are what is expected: a column that has to grow is copied.
    pub(super) fn new(data_type: &DataType, rows: usize, bytes: usize) -> ColumnBuilder {
        match data_type {
            DataType::Int64 => ColumnBuilder::Integer(Int64Builder::new()),
            DataType::Float64 => ColumnBuilder::Float(Float64Builder::new()),
            DataType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            DataType::Timestamp(..) => ColumnBuilder::Time(TimestampMicrosecondBuilder::new().with_data_type(time_type())),
            DataType::Struct(_) => {
                let item = |of| Field::new("item", of, false);
                ColumnBuilder::Answers(StructBuilder::new(
                    answers_fields(),
                    vec![
                        Box::new(ListBuilder::new(StringBuilder::new()).with_field(item(DataType::Utf8))),
                        Box::new(ListBuilder::new(Int32Builder::new()).with_field(item(DataType::Int32))),
                    ],
                ))
            }
            DataType::List(item) if *item.data_type() == DataType::Utf8 => {
                ColumnBuilder::Texts(ListBuilder::new(StringBuilder::new()).with_field(Arc::clone(item)))
            }
            DataType::List(_) => {
                let field = message_field();
                let DataType::Struct(fields) = field.data_type() else { unreachable!("a message is a struct") };
                let message = StructBuilder::new(fields.clone(), vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new())]);
                ColumnBuilder::Messages(ListBuilder::new(message).with_field(field))
            }
            _ => ColumnBuilder::Text(StringBuilder::with_capacity(rows, bytes)),
        }
    }

    pub(super) fn append(&mut self, value: Value<'_>) -> Result<()> {
        match (self, value) {
            (ColumnBuilder::Text(to), Value::Text(text)) => to.append_value(text),
            (ColumnBuilder::Text(to), Value::Json(json)) => to.append_value(json.to_string()),
            (ColumnBuilder::Text(to), Value::Null) => to.append_null(),
            (ColumnBuilder::Integer(to), Value::Integer(value)) => to.append_value(value),
            (ColumnBuilder::Integer(to), Value::Null) => to.append_null(),
            (ColumnBuilder::Float(to), Value::Float(value)) => to.append_value(value),
            (ColumnBuilder::Float(to), Value::Null) => to.append_null(),
            (ColumnBuilder::Boolean(to), Value::Boolean(value)) => to.append_value(value),
            (ColumnBuilder::Boolean(to), Value::Null) => to.append_null(),
            (ColumnBuilder::Time(to), Value::Time(value)) => to.append_value(value),
            (ColumnBuilder::Time(to), Value::Null) => to.append_null(),
            (ColumnBuilder::Answers(to), Value::Answers(answers)) => append_answers(to, &answers)?,
            (ColumnBuilder::Messages(to), Value::Messages(messages)) => append_messages(to, &messages)?,
            (ColumnBuilder::Texts(to), Value::Texts(texts)) => {
                texts.iter().for_each(|text| to.values().append_value(text));
                to.append(true);
            }
            _ => return Err(Error::internal("a value is of another type than its column")),
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Text(column) => Arc::new(column.finish()),
            ColumnBuilder::Integer(column) => Arc::new(column.finish()),
            ColumnBuilder::Float(column) => Arc::new(column.finish()),
            ColumnBuilder::Boolean(column) => Arc::new(column.finish()),
            ColumnBuilder::Time(column) => Arc::new(column.finish()),
            ColumnBuilder::Answers(column) => Arc::new(column.finish()),
            ColumnBuilder::Messages(column) => Arc::new(column.finish()),
            ColumnBuilder::Texts(column) => Arc::new(column.finish()),
        }
    }
}

fn append_answers(to: &mut StructBuilder, answers: &[Answer]) -> Result<()> {
    let other = || Error::internal("answers are built as texts and starts");
    let texts: &mut ListBuilder<StringBuilder> = to.field_builder(0).ok_or_else(other)?;
    answers.iter().for_each(|answer| texts.values().append_value(&answer.text));
    texts.append(true);
    let starts: &mut ListBuilder<Int32Builder> = to.field_builder(1).ok_or_else(other)?;
    // Checked when the answers were read: no start is beyond 31 bits.
    answers.iter().for_each(|answer| starts.values().append_value(answer.start as i32));
    starts.append(true);
    to.append(true);
    Ok(())
}

fn append_messages(to: &mut ListBuilder<StructBuilder>, messages: &[Message]) -> Result<()> {
    for message in messages {
        for (at, text) in [&message.role, &message.content].into_iter().enumerate() {
            let texts: &mut StringBuilder = to.values().field_builder(at).ok_or_else(|| Error::internal("a message is a role and a content"))?;
            texts.append_value(text);
        }
        to.values().append(true);
    }
    to.append(true);
    Ok(())
}
