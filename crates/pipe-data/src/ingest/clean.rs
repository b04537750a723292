//! Rows of one run of records: typed, scrubbed, and with all that the whole data set will be asked about them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, FixedSizeListBuilder, Int64Builder, UInt32Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use pipe_core::config::{ColumnScrub, Operator, Unmapped};
use pipe_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::read::seal::Sealer;
use crate::read::{Cell, KeyNames, Place, RawRecord, Reason, Reject};
use crate::scrub::{Edits, Personal, ScrubCounts, Scrubber};

use super::assign::{NearSigner, RowDigest, Splitter};
use super::builder::ColumnBuilder;
use super::columns::{Column, Columns, Kind, Origin};
use super::json;
use super::labels::KnownClasses;
use super::lists::{self, Words};
use super::shard::ShardSchema;
use super::value::{self, Answer, Message, Value, as_text, with_contents};

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
    known: KnownClasses,
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
            known: KnownClasses::new(maker.columns.class_role()),
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
        if let Some((tokens, tags)) = words_of(maker.columns, &mut values)
            && let Err(reason) = lists::align(tokens, tags)
        {
            return Ok(Err(Refusal::Reject(maker.columns.tags.unwrap_or_default(), reason)));
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
        let mut value = match &column.origin {
            Origin::Source(at) => value::of_cell(&mut cells[*at], column.kind).map_err(refused)?,
            Origin::Constant(constant) => value::of_cell(&mut value::constant_cell(constant), column.kind).map_err(refused)?,
        };
        match (column.kind, &mut value) {
            (Kind::Label, Value::Text(label)) => {
                if let Some(class) = self.class_of(label)? {
                    *label = Cow::Owned(class.to_owned());
                }
            }
            (Kind::Labels | Kind::Tags, Value::Texts(classes)) => {
                for name in classes.iter_mut() {
                    if let Some(class) = self.class_of(name)? {
                        class.clone_into(name);
                    }
                }
                if column.kind == Kind::Labels {
                    as_set(classes);
                }
            }
            _ => {}
        }
        Ok(value)
    }

    /// The class that a value of the source stands for; absent: the value itself.
    fn class_of(&self, value: &str) -> Result<Option<&'c str>, Refusal> {
        let map = self.maker.label_map;
        if map.is_empty() {
            return Ok(None);
        }
        match (map.get(value), self.maker.unmapped) {
            (Some(class), _) => Ok(Some(class)),
            (None, Unmapped::Keep) => Ok(None),
            (None, Unmapped::Reject) => Err(Refusal::Reject(0, Reason::UnmappedLabel)),
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
                    if let (Kind::Labels, Value::Texts(classes)) = (column.kind, &mut *value) {
                        for class in classes.iter_mut() {
                            match maker.scrubber.apply_whole(class, operator, &column.name) {
                                Some(Cow::Owned(other)) => *class = other,
                                Some(Cow::Borrowed(_)) => {}
                                None => return Ok(Err(Refusal::Filter)),
                            }
                        }
                        // An operator may leave nothing of a class, or make one of two.
                        classes.retain(|class| !class.is_empty());
                        as_set(classes);
                    }
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
                        (Kind::Label, Value::Text(class)) => {
                            if let Some(refusal) = refusal(self.known.personal(class, maker.scrubber)?, at) {
                                return Ok(Err(refusal));
                            }
                        }
                        (Kind::Labels | Kind::Tags, Value::Texts(classes)) => {
                            for class in classes.iter() {
                                if let Some(refusal) = refusal(self.known.personal(class, maker.scrubber)?, at) {
                                    return Ok(Err(refusal));
                                }
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
                            if !json::scrub(json, maker.scrubber, counts)? {
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
                        // Below: answers go by what became of their context, words by what stands beside them.
                        (_, Value::Answers(_) | Value::Texts(_)) => {}
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
        if let Some(at) = maker.columns.tokens
            && let Some((tokens, tags)) = words_of(maker.columns, values)
        {
            let scrubber = (maker.columns.all[at].scrub == ColumnScrub::Scan).then_some(maker.scrubber);
            match lists::scrub(tokens, tags, scrubber, &mut self.counts[at])? {
                Words::Clean(other) => changed |= other,
                Words::Gone => return Ok(Err(Refusal::Reject(at, Reason::EmptyText))),
                Words::Dropped => return Ok(Err(Refusal::Filter)),
                Words::Personal => return Ok(Err(Refusal::Reject(at, Reason::PersonalData))),
            }
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

/// The classes of a row as they are written: equal sets are equal bytes.
fn as_set(classes: &mut Vec<String>) {
    classes.sort_unstable();
    classes.dedup();
}

/// A row's words, with their tags where it has some.
fn words_of<'v, 'c>(columns: &Columns, values: &'v mut [Value<'c>]) -> Option<(&'v mut Value<'c>, Option<&'v mut Value<'c>>)> {
    let at = columns.tokens?;
    // Roles are in an order of their own: tags come after words.
    let (head, tail) = values.split_at_mut(at + 1);
    let tags = columns.tags.and_then(|tags| tail.get_mut(tags.checked_sub(at + 1)?));
    Some((head.last_mut()?, tags))
}

/// Why a row with such an id, class or number is none.
fn refusal(personal: Personal, column: usize) -> Option<Refusal> {
    match personal {
        Personal::No => None,
        Personal::Yes => Some(Refusal::Reject(column, Reason::PersonalData)),
        Personal::DropsRow => Some(Refusal::Filter),
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
