//! Rows of one run of records: typed, scrubbed, and with all that the whole data set will be asked about them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, FixedSizeListBuilder, Int64Builder, UInt32Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use pipe_core::config::{ColumnScrub, Operator, Unmapped};
use pipe_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::read::seal::Sealer;
use crate::read::{Cell, KeyNames, Place, RawRecord, Reason, Reject};
use crate::scrub::{Edits, Personal, ScrubCounts, Scrubber};

use super::assign::{NearSigner, RowDigest, Splitter};
use super::builder::ColumnBuilder;
use super::columns::{Column, Columns, Kind, Origin};
use super::labels::Labels;
use super::shard::ShardSchema;
use super::value::{self, Answer, Message, Value};

/// What a run of records holds beside its rows.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ShardNotes {
    /// Rows that are there.
    pub(super) rows: u64,
    /// Rows that the settings leave out.
    pub(super) filtered: u64,
    /// Number and offset count from the shard's first record.
    pub(super) rejects: Vec<Reject>,
    /// What was found, by column of the output.
    pub(super) entities: BTreeMap<String, ScrubCounts>,
    /// Keys of the records, in formats whose records name their columns.
    pub(super) keys: KeyNames,
}

impl ShardNotes {
    pub(super) fn add(&mut self, other: ShardNotes) {
        self.rows += other.rows;
        self.filtered += other.filtered;
        self.rejects.extend(other.rejects);
        self.keys.add(&other.keys);
        for (column, counts) in other.entities {
            self.entities.entry(column).or_default().add(&counts);
        }
    }
}

/// What makes rows out of cells: shared by all threads.
pub(super) struct RowMaker<'c> {
    pub(super) columns: &'c Columns,
    pub(super) schema: &'c ShardSchema,
    pub(super) scrubber: &'c Scrubber,
    pub(super) splitter: &'c Splitter,
    /// With `dedup: near`.
    pub(super) near: Option<NearSigner>,
    /// Classes by the value that stands for them in the source.
    pub(super) label_map: &'c BTreeMap<String, String>,
    pub(super) unmapped: Unmapped,
    /// For the raw bytes of rejects, where somebody may see them.
    pub(super) sealer: Option<&'c Sealer>,
    /// Columns that files must or may not have.
    pub(super) listed: Vec<String>,
}

/// Why a record gives no row.
enum Refusal {
    /// The position of the column at fault, and why.
    Reject(usize, Reason),
    Filter,
}

/// Builds the rows of one chunk.
pub(super) struct RowBuilder<'c> {
    maker: &'c RowMaker<'c>,
    start: Place,
    records: UInt32Builder,
    digests: FixedSizeBinaryBuilder,
    scrubbed: FixedSizeBinaryBuilder,
    groups: FixedSizeBinaryBuilder,
    times: Int64Builder,
    bands: Option<FixedSizeListBuilder<UInt64Builder>>,
    columns: Vec<ColumnBuilder>,
    counts: Vec<ScrubCounts>,
    /// Classes of this chunk: what the merge will refuse must not get into the store.
    classes: Labels,
    /// Which class names hold personal data.
    personal: HashMap<String, Personal>,
    notes: ShardNotes,
}

impl<'c> RowBuilder<'c> {
    /// `start` is the place of the shard's first record; `rows` and `bytes` are how many records the chunk has, and of how
    /// many bytes they are.
    pub(super) fn new(maker: &'c RowMaker<'c>, start: Place, rows: usize, bytes: usize) -> RowBuilder<'c> {
        let columns = maker.columns;
        let texts = columns.written().filter(|column| column.is_content()).count().max(1);
        let of = |column: &Column| ColumnBuilder::new(&column.data_type(), rows, if column.is_content() { bytes / texts } else { 0 });
        RowBuilder {
            maker,
            start,
            records: UInt32Builder::with_capacity(rows),
            digests: FixedSizeBinaryBuilder::with_capacity(rows, RowDigest::BYTES),
            scrubbed: FixedSizeBinaryBuilder::with_capacity(rows, RowDigest::BYTES),
            groups: FixedSizeBinaryBuilder::new(RowDigest::BYTES),
            times: Int64Builder::new(),
            bands: maker.schema.bands.map(|bands| FixedSizeListBuilder::new(UInt64Builder::new(), bands).with_field(ShardSchema::band_field())),
            columns: columns.written().map(of).collect(),
            counts: columns.all.iter().map(|_| ScrubCounts::default()).collect(),
            classes: Labels::new(),
            personal: HashMap::new(),
            notes: ShardNotes::default(),
        }
    }

    /// Takes the next record, as the reader gives it.
    pub(super) fn add(&mut self, record: &RawRecord<'_>, cells: Result<&mut [Cell<'_>], (Option<&str>, Reason)>) -> Result<()> {
        let refusal = match cells {
            Ok(cells) => match self.row(record.place, cells)? {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            },
            Err((column, reason)) => {
                self.reject(record, column, reason);
                return Ok(());
            }
        };
        match refusal {
            Refusal::Reject(column, reason) => self.reject(record, Some(&self.maker.columns.all[column].source), reason),
            Refusal::Filter => self.notes.filtered += 1,
        }
        Ok(())
    }

    fn reject(&mut self, record: &RawRecord<'_>, column: Option<&str>, reason: Reason) {
        let reject = record.sealed_reject(column, reason, self.maker.sealer);
        self.notes.rejects.push(Reject { place: reject.place.relative_to(self.start), ..reject });
    }

    fn row(&mut self, place: Place, cells: &mut [Cell<'_>]) -> Result<Result<(), Refusal>> {
        let maker = self.maker;
        let mut values = Vec::with_capacity(maker.columns.all.len());
        for (at, column) in maker.columns.all.iter().enumerate() {
            match self.value(column, cells) {
                Ok(value) => values.push(value),
                Err(Refusal::Reject(_, reason)) => return Ok(Err(Refusal::Reject(at, reason))),
                Err(Refusal::Filter) => return Ok(Err(Refusal::Filter)),
            }
        }
        // Of the raw text: after scrubbing, different customers on one template would collapse.
        let digest = self.digest(&values);
        let bands = maker.near.as_ref().map(|near| with_contents(&maker.columns.all, &values, |parts| near.bands(parts)));
        let group = values.iter().zip(&maker.columns.all).find_map(|(value, column)| match value {
            Value::Text(group) if column.kind == Kind::Group => Some(maker.splitter.group(group)),
            _ => None,
        });
        let time = values.iter().zip(&maker.columns.all).find_map(|(value, column)| match value {
            Value::Time(time) if column.kind == Kind::Time => Some(*time),
            _ => None,
        });
        let changed = match self.scrub(&mut values)? {
            Ok(changed) => changed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let scrubbed = if changed { self.digest(&values) } else { digest };

        let other = |_| Error::internal("a digest has another length");
        self.records.append_value((place.number - self.start.number) as u32);
        self.digests.append_value(digest.to_bytes()).map_err(other)?;
        self.scrubbed.append_value(scrubbed.to_bytes()).map_err(other)?;
        match group {
            Some(group) => self.groups.append_value(group.to_bytes()).map_err(other)?,
            None => self.groups.append_null(),
        }
        self.times.append_option(time);
        if let (Some(to), Some(bands)) = (&mut self.bands, bands) {
            to.values().append_slice(&bands);
            to.append(true);
        }
        let written = values.into_iter().zip(&maker.columns.all).filter(|(_, column)| column.scrub != ColumnScrub::Drop);
        for (to, (value, _)) in self.columns.iter_mut().zip(written) {
            to.append(value)?;
        }
        self.notes.rows += 1;
        Ok(Ok(()))
    }

    /// The value of one column, before anything is scrubbed.
    fn value<'v>(&self, column: &Column, cells: &mut [Cell<'v>]) -> Result<Value<'v>, Refusal> {
        let refused = |reason| Refusal::Reject(0, reason);
        let value = match &column.origin {
            Origin::Source(at) => value::of_cell(&mut cells[*at], column.kind).map_err(refused)?,
            Origin::Constant(constant) => value::of_cell(&mut constant_cell(constant), column.kind).map_err(refused)?,
        };
        let Value::Text(label) = &value else { return Ok(value) };
        if column.kind != Kind::Label || self.maker.label_map.is_empty() {
            return Ok(value);
        }
        match (self.maker.label_map.get(label.as_ref()), self.maker.unmapped) {
            (Some(class), _) => Ok(Value::Text(Cow::Owned(class.clone()))),
            (None, Unmapped::Keep) => Ok(value),
            (None, Unmapped::Reject) => Err(refused(Reason::UnmappedLabel)),
            (None, Unmapped::Filter) => Err(Refusal::Filter),
        }
    }

    fn digest(&self, values: &[Value<'_>]) -> RowDigest {
        with_contents(&self.maker.columns.all, values, |parts| self.maker.splitter.digest_of(parts))
    }

    /// Scrubs all values in place; says whether a text that a model reads has changed.
    fn scrub(&mut self, values: &mut [Value<'_>]) -> Result<Result<bool, Refusal>> {
        let maker = self.maker;
        let mut changed = false;
        let mut context_edits = None;
        for (at, column) in maker.columns.all.iter().enumerate() {
            let value = &mut values[at];
            match column.scrub {
                ColumnScrub::Drop => {}
                ColumnScrub::Whole(operator) => {
                    if let Some(text) = as_text(value) {
                        match maker.scrubber.apply_whole(&text, operator, &column.name) {
                            Some(text) => {
                                changed |= column.is_content();
                                let text = text.into_owned();
                                if operator.operator != Operator::Keep {
                                    *value = Value::Text(Cow::Owned(text));
                                }
                            }
                            None => return Ok(Err(Refusal::Filter)),
                        }
                    }
                }
                ColumnScrub::Scan => {
                    let counts = &mut self.counts[at];
                    match (column.kind, &mut *value) {
                        (_, Value::Null | Value::Time(_) | Value::Boolean(_)) => {}
                        // Written as they are, and looked at by people: personal data in them is a mistake in the settings.
                        (Kind::Id, Value::Text(text)) => {
                            if let Some(refusal) = refusal(maker.scrubber.personal(text)?, at) {
                                return Ok(Err(refusal));
                            }
                        }
                        (Kind::Label, Value::Text(text)) => {
                            let personal = match self.personal.get(text.as_ref()) {
                                Some(personal) => *personal,
                                None => {
                                    let personal = maker.scrubber.personal(text)?;
                                    self.classes.id_of(text)?;
                                    self.personal.insert(text.to_string(), personal);
                                    personal
                                }
                            };
                            if let Some(refusal) = refusal(personal, at) {
                                return Ok(Err(refusal));
                            }
                        }
                        (_, Value::Integer(_) | Value::Float(_)) => {
                            // Of a number with a fraction its whole part: 13812345678.0 is what a table with gaps makes of one.
                            let whole = match value {
                                Value::Integer(number) => i128::from(*number),
                                Value::Float(number) => *number as i128,
                                _ => 0,
                            };
                            // Shorter ones are counts and years.
                            if whole.unsigned_abs() >= 1_000_000
                                && let Some(refusal) = refusal(maker.scrubber.personal(&whole.to_string())?, at)
                            {
                                return Ok(Err(refusal));
                            }
                        }
                        (_, Value::Text(text)) => {
                            let mut edits = (Some(at) == maker.columns.context).then(Edits::default);
                            let clean = maker.scrubber.scrub_noting(text, counts, edits.as_mut())?;
                            if clean.drop_row {
                                return Ok(Err(Refusal::Filter));
                            }
                            if let Cow::Owned(clean) = clean.text {
                                changed |= column.is_content();
                                // An operator may leave nothing of it.
                                if column.kind == Kind::Text && clean.trim().is_empty() {
                                    return Ok(Err(Refusal::Reject(at, Reason::EmptyText)));
                                }
                                if let Some(edits) = edits {
                                    context_edits = Some((text.to_string(), edits));
                                }
                                *text = Cow::Owned(clean);
                            }
                        }
                        (_, Value::Json(json)) => {
                            if !scrub_json(json, maker.scrubber, counts)? {
                                return Ok(Err(Refusal::Filter));
                            }
                        }
                        (_, Value::Messages(messages)) => {
                            for Message { content, .. } in messages {
                                let clean = maker.scrubber.scrub_noting(content, counts, None)?;
                                if clean.drop_row {
                                    return Ok(Err(Refusal::Filter));
                                }
                                if let Cow::Owned(clean) = clean.text {
                                    (*content, changed) = (clean, true);
                                }
                            }
                        }
                        // Below: answers go by what became of their context.
                        (_, Value::Answers(_)) => {}
                    }
                }
            }
        }
        if let Some(context) = maker.columns.context
            && let Some(at) = maker.columns.all.iter().position(|column| column.kind == Kind::Answers)
            && let Err(reason) = answers_in_context(values, at, context, context_edits)
        {
            return Ok(Err(Refusal::Reject(at, reason)));
        }
        Ok(Ok(changed))
    }

    /// `keys` are those of the records.
    pub(super) fn finish(mut self, keys: KeyNames) -> Result<(RecordBatch, ShardNotes)> {
        self.notes.keys = keys;
        for (column, counts) in self.maker.columns.all.iter().zip(self.counts) {
            if !counts.is_empty() {
                self.notes.entities.insert(column.name.clone(), counts);
            }
        }
        let schema = self.maker.schema;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.records.finish()), Arc::new(self.digests.finish()), Arc::new(self.scrubbed.finish())];
        if schema.has_group {
            columns.push(Arc::new(self.groups.finish()));
        }
        if schema.has_time {
            columns.push(Arc::new(self.times.finish()));
        }
        columns.extend(self.bands.map(|mut bands| Arc::new(bands.finish()) as ArrayRef));
        columns.extend(self.columns.iter_mut().map(ColumnBuilder::finish));
        let batch = RecordBatch::try_new(Arc::clone(&schema.arrow), columns);
        Ok((batch.map_err(|e| Error::internal(format!("columns do not fit their schema: {e}")))?, self.notes))
    }
}

/// Why a row with such an id, class or number is none.
fn refusal(personal: Personal, column: usize) -> Option<Refusal> {
    match personal {
        Personal::No => None,
        Personal::Yes => Some(Refusal::Reject(column, Reason::PersonalData)),
        Personal::DropsRow => Some(Refusal::Filter),
    }
}

fn constant_cell(constant: &Json) -> Cell<'static> {
    match constant {
        Json::Null => Cell::Null,
        Json::Bool(value) => Cell::Bool(*value),
        Json::String(text) => Cell::Text(Cow::Owned(text.clone())),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Cell::Integer(value.into()),
            (None, Some(value)) => Cell::Float(value),
            (None, None) => Cell::Null,
        },
        nested => Cell::Nested(nested.clone()),
    }
}

/// Calls `f` with the texts that a model reads, in the order of the columns. A missing second text is no part.
fn with_contents<T>(columns: &[Column], values: &[Value<'_>], f: impl FnOnce(&[&str]) -> T) -> T {
    let mut parts: Vec<&str> = Vec::with_capacity(4);
    for (value, column) in values.iter().zip(columns).filter(|(_, column)| column.is_content()) {
        match value {
            Value::Text(text) => parts.push(text),
            Value::Messages(messages) => parts.extend(messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()])),
            // Between two texts its place has to be told.
            _ if column.kind != Kind::OptionalText => parts.push(""),
            _ => {}
        }
    }
    f(&parts)
}

/// What an operator that takes a whole value takes; absent for no value.
fn as_text<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    Some(match value {
        Value::Null => return None,
        Value::Text(text) => Cow::Borrowed(text),
        Value::Integer(number) => Cow::Owned(number.to_string()),
        Value::Float(number) => Cow::Owned(number.to_string()),
        Value::Boolean(value) => Cow::Owned(value.to_string()),
        Value::Time(micros) => Cow::Owned(micros.to_string()),
        Value::Json(json) => Cow::Owned(json.to_string()),
        Value::Answers(_) | Value::Messages(_) => return None,
    })
}

/// Scrubs every string, key and number in place. False: the row is to be left out.
fn scrub_json(json: &mut Json, scrubber: &Scrubber, counts: &mut ScrubCounts) -> Result<bool> {
    let scrub = |text: &str, counts: &mut ScrubCounts| -> Result<(Option<String>, bool)> {
        let clean = scrubber.scrub_noting(text, counts, None)?;
        let changed = match clean.text {
            Cow::Owned(clean) => Some(clean),
            Cow::Borrowed(_) => None,
        };
        Ok((changed, !clean.drop_row))
    };
    match json {
        Json::Null | Json::Bool(_) => Ok(true),
        Json::String(text) => {
            let (changed, stays) = scrub(text, counts)?;
            if let Some(clean) = changed {
                *text = clean;
            }
            Ok(stays)
        }
        Json::Number(number) => {
            let (changed, stays) = scrub(&number.to_string(), counts)?;
            if let Some(clean) = changed {
                *json = Json::String(clean);
            }
            Ok(stays)
        }
        Json::Array(items) => {
            for item in items {
                if !scrub_json(item, scrubber, counts)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Json::Object(map) => {
            for (key, mut item) in std::mem::take(map) {
                let (changed, stays) = scrub(&key, counts)?;
                if !stays || !scrub_json(&mut item, scrubber, counts)? {
                    return Ok(false);
                }
                // Two keys may have become one.
                let key = changed.unwrap_or(key);
                let names = std::iter::once(key.clone()).chain((2..).map(|at| format!("{key}_{at}")));
                if let Some(free) = names.into_iter().find(|name| !map.contains_key(name)) {
                    map.insert(free, item);
                }
            }
            Ok(true)
        }
    }
}

/// Holds answers against the raw context, and moves them to where they stand in the scrubbed one.
fn answers_in_context(values: &mut [Value<'_>], at: usize, context: usize, edits: Option<(String, Edits)>) -> Result<(), Reason> {
    let Value::Answers(answers) = std::mem::replace(&mut values[at], Value::Null) else { return Err(Reason::InvalidAnswers) };
    let Value::Text(clean) = &values[context] else { return Err(Reason::InvalidAnswers) };
    let raw = edits.as_ref().map_or(clean.as_ref(), |(raw, _)| raw);
    let moved = answers.into_iter().map(|answer| {
        let start = raw.char_indices().map(|(offset, _)| offset).nth(answer.start).ok_or(Reason::InvalidAnswers)?;
        if !raw[start..].starts_with(&answer.text) {
            return Err(Reason::InvalidAnswers);
        }
        let Some((_, edits)) = &edits else { return Ok(answer) };
        let (start, end) = edits.map(start, start + answer.text.len());
        // Where an operator leaves nothing of it, the answer is gone.
        if start == end {
            return Err(Reason::InvalidAnswers);
        }
        Ok(Answer { text: clean[start..end].to_owned(), start: clean[..start].chars().count() })
    });
    let moved = moved.collect::<Result<Vec<Answer>, Reason>>()?;
    values[at] = Value::Answers(moved);
    Ok(())
}
