//! Question answering: windows over long contexts, and where in them the answers stand.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Field};
use pipe_core::{Error, Result};
use rayon::prelude::*;

use super::row::{Target, TokenRow, list_of};
use super::{TextEncoder, WindowTokens, strings};

/// What a window of a context has beside its tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    /// Start and end of each token in the context, in characters; −1 twice for what is no token of the context.
    pub(super) offsets: Vec<i32>,
    /// The first and the last token of the answer; the first token of the row (`[CLS]`) twice where it is not in this window.
    pub(super) span: [i32; 2],
    /// The context and the texts of the answers, with the first window of a question alone.
    pub(super) question: Option<(String, Vec<String>)>,
}

/// An answer as ingest has it: in characters.
struct Answer {
    text: String,
    start: usize,
}

/// Windows of all rows; rows whose question leaves no room for a context are left out, and named in `skipped`.
pub(super) fn rows(encoder: &TextEncoder, batch: &RecordBatch, skipped: &mut Vec<usize>) -> Result<Vec<TokenRow>> {
    let (questions, contexts) = (strings(batch, "question")?, strings(batch, "context")?);
    let answers = batch.column_by_name("answers").map(|column| answers_of(column.as_ref())).transpose()?;
    let made: Vec<Option<Vec<TokenRow>>> = questions
        .into_par_iter()
        .zip(contexts)
        .enumerate()
        .map(|(source, (question, context))| {
            let answers = answers.as_ref().map(|answers| answers[source].as_slice());
            windows(encoder, source, &question, context, answers)
        })
        .collect::<Result<_>>()?;
    let mut rows = Vec::new();
    for (source, windows) in made.into_iter().enumerate() {
        match windows {
            Some(windows) => rows.extend(windows),
            None => skipped.push(source),
        }
    }
    Ok(rows)
}

fn windows(encoder: &TextEncoder, source: usize, question: &str, context: String, answers: Option<&[Answer]>) -> Result<Option<Vec<TokenRow>>> {
    let Some(windows) = encoder.windows(question, &context)? else { return Ok(None) };
    let texts = answers.unwrap_or_default().iter().map(|answer| answer.text.clone()).collect();
    let mut first = Some((context, texts));
    let mut rows = Vec::with_capacity(windows.len());
    for WindowTokens { tokens, offsets } in windows {
        // The first of several answers is learned, as transformers' example does.
        let span = answers.and_then(<[Answer]>::first).map_or([0, 0], |answer| span_of(&offsets, answer));
        rows.push(TokenRow { source, tokens, target: Target::Window(Window { offsets, span, question: first.take() }) });
    }
    Ok(Some(rows))
}

/// The tokens that an answer begins and ends in, of a window that has all of it.
fn span_of(offsets: &[i32], answer: &Answer) -> [i32; 2] {
    let (start, end) = (answer.start as i32, (answer.start + answer.text.chars().count()) as i32);
    let context = |token: &usize| offsets[2 * token] >= 0;
    let tokens = offsets.len() / 2;
    let (Some(first), Some(last)) = ((0..tokens).find(context), (0..tokens).rev().find(context)) else { return [0, 0] };
    if offsets[2 * first] > start || offsets[2 * last + 1] < end {
        return [0, 0];
    }
    let begins = (first..=last).rfind(|token| offsets[2 * token] <= start);
    let ends = (first..=last).find(|token| offsets[2 * token + 1] >= end);
    match (begins, ends) {
        (Some(begins), Some(ends)) if begins <= ends => [begins as i32, ends as i32],
        _ => [0, 0],
    }
}

fn answers_of(column: &dyn Array) -> Result<Vec<Vec<Answer>>> {
    let other = || Error::input("the column `answers` of the rows that it reads is not as ingest writes it");
    let answers: &StructArray = column.as_struct_opt().ok_or_else(other)?;
    let list = |name: &str| answers.column_by_name(name).and_then(|column| column.as_list_opt::<i32>()).ok_or_else(other);
    let (texts, starts) = (list("text")?, list("answer_start")?);
    (0..answers.len())
        .map(|row| {
            let (texts, starts) = (texts.value(row), starts.value(row));
            let (texts, starts) = (texts.as_string_opt::<i32>().ok_or_else(other)?, starts.as_primitive_opt::<Int32Type>().ok_or_else(other)?);
            if texts.len() != starts.len() {
                return Err(other());
            }
            Ok((0..texts.len()).map(|at| Answer { text: texts.value(at).to_owned(), start: starts.value(at).max(0) as usize }).collect())
        })
        .collect()
}

/// The columns that only windows have.
pub(super) struct WindowColumns;

impl WindowColumns {
    pub(super) fn fields(labelled: bool) -> Vec<Field> {
        let mut fields = vec![Field::new("offsets", list_of(DataType::Int32), false), Field::new("context", DataType::Utf8, true)];
        if labelled {
            fields.push(Field::new("answers", list_of(DataType::Utf8), true));
            fields.extend(["start_position", "end_position"].map(|name| Field::new(name, DataType::Int32, false)));
        }
        fields
    }

    pub(super) fn build(rows: &[TokenRow], labelled: bool) -> Result<Vec<ArrayRef>> {
        let item = |data_type| Field::new("item", data_type, false);
        let mut offsets = ListBuilder::new(Int32Builder::new()).with_field(item(DataType::Int32));
        let mut contexts = StringBuilder::new();
        let mut answers = ListBuilder::new(StringBuilder::new()).with_field(item(DataType::Utf8));
        let mut ends = [Int32Builder::new(), Int32Builder::new()];
        for row in rows {
            let Target::Window(window) = &row.target else { return Err(Error::internal("a row of question answering that is no window")) };
            offsets.values().append_slice(&window.offsets);
            offsets.append(true);
            contexts.append_option(window.question.as_ref().map(|(context, _)| context));
            for text in window.question.iter().flat_map(|(_, texts)| texts) {
                answers.values().append_value(text);
            }
            answers.append(window.question.is_some());
            for (column, end) in ends.iter_mut().zip(window.span) {
                column.append_value(end);
            }
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(offsets.finish()), Arc::new(contexts.finish())];
        if labelled {
            columns.push(Arc::new(answers.finish()));
            columns.extend(ends.map(|mut column| Arc::new(column.finish()) as ArrayRef));
        }
        Ok(columns)
    }
}
