//! From rows as ingest writes them to rows of tokens, as the task asks.

use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use pipe_core::config::TokenizeConfig;
use pipe_core::{Error, Result, Task};
use serde_json::{Value, json};

use super::chat::ChatTemplate;
use super::language::LanguageModelling;
use super::row::{self, TokenRow};
use super::{TextEncoder, answers, packing, sequence, words};
use crate::parquet_io::TableReader;

/// transformers' example has this.
const DOC_STRIDE: usize = 128;

/// The task of rows with these columns, and whether they can be for it.
pub(crate) fn task_of(wanted: Option<Task>, columns: &Schema) -> Result<Task> {
    let has = |column: &str| columns.field_with_name(column).is_ok();
    let task = wanted.or_else(|| Task::of_columns(has)).unwrap_or_default();
    let text = |column: &'static str| (column, "a text");
    let needed = match task {
        Task::QuestionAnswering => vec![text("question"), text("context")],
        Task::TokenClassification => vec![("tokens", "a list of texts")],
        Task::CausalLm if has("messages") => Vec::new(),
        Task::CausalLm if has("prompt") => vec![text("prompt"), text("completion")],
        _ => vec![text("text")],
    };
    let optional = ["label", "text_pair"].map(text);
    for (column, what, must) in std::iter::once((&("id", "a text"), true))
        .chain(needed.iter().map(|needed| (needed, true)))
        .chain(optional.iter().map(|optional| (optional, false)))
        .map(|((column, what), must)| (*column, *what, must))
    {
        let of_kind = |data_type: &DataType| match data_type {
            DataType::Utf8 => what == "a text",
            DataType::List(_) => what != "a text",
            _ => false,
        };
        match columns.field_with_name(column).ok().map(arrow_schema::Field::data_type) {
            Some(data_type) if of_kind(data_type) => {}
            None if !must => {}
            Some(_) => {
                let error = Error::usage(format!("the column `{column}` of the rows that it reads is not {what}"));
                return Err(if what == "a text" {
                    error.hint(format!("in the query that gives them: CAST({column} AS VARCHAR) AS {column}"))
                } else {
                    error
                });
            }
            None => {
                return Err(Error::usage(format!("the rows that it reads have no column `{column}`, which {} needs", task.name()))
                    .hint("map it in ingest's `columns:`; a query whose rows are read as ingest's selects `id` and the columns of the task"));
            }
        }
    }
    Ok(task)
}

/// The encoder of a task: for question answering with how far windows overlap.
pub(super) fn windowed(encoder: TextEncoder, config: &TokenizeConfig, task: Task) -> Result<TextEncoder> {
    if task != Task::QuestionAnswering {
        return Ok(encoder);
    }
    let length = encoder.tokenization().max_length;
    let stride = config.doc_stride.unwrap_or(DOC_STRIDE.min(length / 3));
    if stride + 4 > length {
        return Err(Error::usage(format!("`doc_stride: {stride}` leaves no room in windows of {length} tokens"))
            .hint("it is what two windows share: set it well below `max_length`"));
    }
    Ok(encoder.with_doc_stride(stride))
}

/// Makes rows of tokens.
pub(super) struct Shaper<'s> {
    task: Task,
    pub(super) encoder: &'s TextEncoder,
    labels: &'s [String],
    /// The rows have what the model is to give.
    pub(super) labelled: bool,
    label_all_tokens: bool,
    packing: bool,
    completion_only: bool,
    template: Option<ChatTemplate>,
}

impl<'s> Shaper<'s> {
    pub(super) fn new(
        task: Task,
        config: &TokenizeConfig,
        encoder: &'s TextEncoder,
        labels: &'s [String],
        columns: &Schema,
        folder: &Path,
    ) -> Result<Shaper<'s>> {
        let has = |column: &str| columns.field_with_name(column).is_ok();
        let labelled = match task {
            Task::SequenceClassification => !labels.is_empty(),
            Task::MultiLabelClassification => has("labels"),
            Task::Regression => has("value"),
            Task::TokenClassification => has("tags"),
            Task::QuestionAnswering => has("answers"),
            Task::CausalLm => true,
        };
        let chats = task == Task::CausalLm && has("messages");
        let template = chats.then(|| ChatTemplate::open(folder, config.chat_template.as_deref())).transpose()?;
        Ok(Shaper {
            task,
            encoder,
            labels,
            labelled,
            label_all_tokens: config.label_all_tokens,
            packing: config.packing,
            completion_only: config.completion_only_loss.unwrap_or(true),
            template,
        })
    }

    /// The rows are chats.
    pub(super) fn is_of_chats(&self) -> bool {
        self.template.is_some()
    }

    /// The token that ends what is learned: of chats what their template puts after an answer.
    pub(super) fn ending(&self) -> Option<i32> {
        let of_chats = self.template.as_ref().and_then(|template| self.encoder.first_special(&template.after_answers()?));
        of_chats.or_else(|| self.encoder.eos())
    }

    /// All that rows of tokens follow from beside the rows themselves.
    pub(super) fn identity(&self) -> Value {
        json!({
            "task": self.task, "tokenization": self.encoder.tokenization(), "labels": self.labels, "label_all_tokens": self.label_all_tokens,
            "packing": self.packing, "completion_only": self.completion_only,
        })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        row::schema(self.task, self.labelled)
    }

    pub(super) fn columns(&self, ids: &StringArray, rows: &[TokenRow]) -> Result<Vec<ArrayRef>> {
        row::columns(self.task, self.labelled, ids, rows)
    }

    /// The rows of a part, together where they are packed.
    pub(super) fn batches(&self, file: &Path) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>>>> {
        let reader = TableReader::open(file)?;
        if !self.packing {
            return Ok(Box::new(reader));
        }
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>>>()?;
        let whole = concat_batches(&schema, &batches).map_err(|e| Error::internal(format!("batches of one file do not fit together: {e}")))?;
        Ok(Box::new(std::iter::once(Ok(whole))))
    }

    /// Rows of tokens of some rows; those that nothing can be learned of are named in `skipped`.
    pub(super) fn rows(&self, batch: &RecordBatch, skipped: &mut Vec<usize>) -> Result<Vec<TokenRow>> {
        match self.task {
            Task::SequenceClassification | Task::MultiLabelClassification | Task::Regression => {
                sequence::rows(self.task, self.encoder, batch, self.labels, self.labelled)
            }
            Task::TokenClassification => words::rows(self.encoder, batch, self.labels, self.label_all_tokens),
            Task::QuestionAnswering => answers::rows(self.encoder, batch, skipped),
            Task::CausalLm => {
                let modelling = LanguageModelling { encoder: self.encoder, template: self.template.as_ref(), completion_only: self.completion_only };
                let rows = modelling.rows(batch, skipped)?;
                Ok(if self.packing { packing::pack(rows, self.encoder.tokenization().max_length) } else { rows })
            }
        }
    }
}
