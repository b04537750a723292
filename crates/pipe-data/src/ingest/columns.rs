//! The columns of the output: where each comes from, what it holds, and what scrubbing does to it.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use pipe_core::config::{ColumnScrub, ColumnType, IngestConfig, Operator};
use pipe_core::{Error, Result};
use serde_json::Value;

use crate::read::Wanted;
use crate::scrub::ScrubPolicy;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text that every row has.
    Text,
    /// A text that may be missing, where the source has the column.
    OptionalText,
    Label,
    /// Any number of classes.
    Labels,
    /// A number that every row has.
    Value,
    /// A text as words.
    Tokens,
    /// A class for each word.
    Tags,
    Id,
    Group,
    Time,
    Answers,
    Messages,
    /// A column of `columns.extra`.
    Extra {
        of: ColumnType,
        required: bool,
    },
}

/// Where its values come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Origin {
    /// Position among the wanted columns of the source.
    Source(usize),
    Constant(Value),
}

/// One column that rows have.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its role, or its name in `columns.extra`.
    pub(super) name: String,
    /// The source's name for it; that of the column itself for a constant.
    pub(super) source: String,
    pub(super) kind: Kind,
    pub(super) origin: Origin,
    pub(super) scrub: ColumnScrub,
}

/// All columns, in the order of the output.
pub(super) struct Columns {
    pub(super) all: Vec<Column>,
    /// The source's columns that are read, in the order that [`Origin::Source`] counts in.
    pub(super) wanted: Wanted,
    /// Where the answers' context stands among `all`.
    pub(super) context: Option<usize>,
    /// Where words and their tags do.
    pub(super) tokens: Option<usize>,
    pub(super) tags: Option<usize>,
}

impl Columns {
    /// What is done with each is the policy's to say: it may be that of a model.
    pub(super) fn new(config: &IngestConfig, policy: &ScrubPolicy) -> Result<Columns> {
        let mut columns = Columns { all: Vec::new(), wanted: Wanted::of(&config.columns), context: None, tokens: None, tags: None };
        // In the order of `wanted`: a constant takes no place there.
        let mut sources = (0..columns.wanted.len()).map(Origin::Source);
        let mut next_source = || sources.next().ok_or_else(|| Error::internal("a column is wanted of no source"));
        for (role, source) in config.columns.roles() {
            let kind = match role {
                "text_pair" => Kind::OptionalText,
                "label" => Kind::Label,
                "labels" => Kind::Labels,
                "value" => Kind::Value,
                "tokens" => Kind::Tokens,
                "tags" => Kind::Tags,
                "id" => Kind::Id,
                "group" => Kind::Group,
                "time" => Kind::Time,
                "answers" => Kind::Answers,
                "messages" => Kind::Messages,
                _ => Kind::Text,
            };
            let at = Some(columns.all.len());
            match role {
                "context" => columns.context = at,
                "tokens" => columns.tokens = at,
                "tags" => columns.tags = at,
                _ => {}
            }
            let scrub = policy.column(role);
            check_scrub(role, kind, scrub, config.columns.answers.is_some())?;
            columns.all.push(Column { name: role.to_owned(), source: source.to_owned(), kind, origin: next_source()?, scrub });
        }
        for (name, extra) in &config.columns.extra {
            let origin = match &extra.value {
                Some(value) => Origin::Constant(value.clone()),
                None => next_source()?,
            };
            columns.all.push(Column {
                name: name.clone(),
                source: extra.from.as_deref().unwrap_or(name).to_owned(),
                kind: Kind::Extra { of: extra.kind, required: extra.required },
                origin,
                scrub: policy.column(name),
            });
        }
        if let Some(unknown) = config.scrub.columns.keys().find(|name| columns.all.iter().all(|column| column.name != **name)) {
            let error = Error::usage(format!("`scrub.columns` names `{unknown}`, which is no column of the output"));
            let names: Vec<&str> = columns.all.iter().map(|column| column.name.as_str()).collect();
            return Err(match pipe_core::file::nearest(unknown, names.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("columns are {}", names.join(", "))),
            });
        }
        Ok(columns)
    }

    /// Columns that are written, with the id first whether the source has one or not.
    pub(super) fn schema(&self) -> SchemaRef {
        let id = Field::new("id", DataType::Utf8, false);
        let others = self.written().filter(|column| column.kind != Kind::Id).map(Column::field);
        Arc::new(Schema::new(std::iter::once(id).chain(others).collect::<Vec<_>>()))
    }

    /// Columns that are not dropped.
    pub(super) fn written(&self) -> impl Iterator<Item = &Column> {
        self.all.iter().filter(|column| column.scrub != ColumnScrub::Drop)
    }

    /// The role that holds names of classes, for messages.
    pub(super) fn class_role(&self) -> &'static str {
        let kinds = [(Kind::Labels, "labels"), (Kind::Tags, "tags")];
        kinds.into_iter().find(|(kind, _)| self.has(*kind)).map_or("label", |(_, role)| role)
    }

    /// Where what rows are labelled with stands among the columns that are written.
    pub(super) fn target(&self) -> Option<usize> {
        self.written().position(Column::is_target)
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.all.iter().any(|column| column.kind == kind)
    }
}

/// What is asked for a role must be possible: an operator that did nothing would let values through.
fn check_scrub(role: &str, kind: Kind, scrub: ColumnScrub, answers: bool) -> Result<()> {
    match scrub {
        ColumnScrub::Drop if !matches!(kind, Kind::Group | Kind::Time) => {
            Err(Error::usage(format!("the column `{role}` cannot be dropped: later stages read it"))
                .hint(format!("take `{role}` out of `columns:`, or choose another treatment in `scrub: {{ columns: … }}`")))
        }
        ColumnScrub::Whole(operator)
            if operator.operator != Operator::Keep
                && matches!(kind, Kind::Answers | Kind::Messages | Kind::Time | Kind::Value | Kind::Tokens | Kind::Tags) =>
        {
            Err(Error::usage(format!("`{}` takes whole texts, and `{role}` holds none", operator.operator.name()))
                .hint("its texts are scanned unless you say otherwise; answers go by what becomes of their context, tags by their words"))
        }
        ColumnScrub::Whole(operator) if operator.operator != Operator::Keep && role == "context" && answers => {
            Err(Error::usage("`context` cannot be replaced as a whole: the answers stand in it").hint("scan it, or leave `answers` out"))
        }
        _ => Ok(()),
    }
}

impl Column {
    pub(super) fn field(&self) -> Field {
        let nullable = match self.kind {
            Kind::Text | Kind::Label | Kind::Answers | Kind::Messages => false,
            Kind::Labels | Kind::Value | Kind::Tokens | Kind::Tags => false,
            // A row without a group is a group of its own; an id is made where there is none.
            Kind::OptionalText | Kind::Group | Kind::Id => true,
            Kind::Time => false,
            Kind::Extra { required, .. } => !required,
        };
        Field::new(&self.name, self.data_type(), nullable)
    }

    pub(super) fn data_type(&self) -> DataType {
        // An operator that takes the whole value leaves text.
        if let ColumnScrub::Whole(operator) = self.scrub
            && operator.operator != Operator::Keep
            && matches!(self.kind, Kind::Extra { .. })
        {
            return DataType::Utf8;
        }
        match self.kind {
            Kind::Text | Kind::OptionalText | Kind::Label | Kind::Id | Kind::Group => DataType::Utf8,
            Kind::Labels | Kind::Tokens | Kind::Tags => DataType::List(Arc::new(Field::new("item", DataType::Utf8, false))),
            Kind::Value => DataType::Float64,
            Kind::Time => time_type(),
            Kind::Answers => DataType::Struct(answers_fields()),
            Kind::Messages => DataType::List(Arc::new(message_field())),
            Kind::Extra { of, .. } => match of {
                ColumnType::String | ColumnType::Json => DataType::Utf8,
                ColumnType::Integer => DataType::Int64,
                ColumnType::Float => DataType::Float64,
                ColumnType::Boolean => DataType::Boolean,
                ColumnType::Time => time_type(),
            },
        }
    }

    /// Whether its text is what a model reads, and so what makes two rows equal.
    pub(super) fn is_content(&self) -> bool {
        matches!(self.kind, Kind::Text | Kind::OptionalText | Kind::Messages | Kind::Tokens)
    }

    /// Whether rows are labelled with it.
    pub(super) fn is_target(&self) -> bool {
        matches!(self.kind, Kind::Label | Kind::Labels | Kind::Value | Kind::Tags)
    }

    /// Whether it may hold personal data on purpose: nothing of it may stand in statistics.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.scrub, ColumnScrub::Whole(operator) if operator.operator == Operator::Keep)
    }
}

/// UTC, in microseconds.
pub(super) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// As SQuAD has them; `answer_start` in characters.
pub(super) fn answers_fields() -> Fields {
    let list = |name, of| Field::new(name, DataType::List(Arc::new(Field::new("item", of, false))), false);
    Fields::from(vec![list("text", DataType::Utf8), list("answer_start", DataType::Int32)])
}

pub(super) fn message_field() -> Field {
    let text = |name| Field::new(name, DataType::Utf8, false);
    Field::new("item", DataType::Struct(Fields::from(vec![text("role"), text("content")])), false)
}
