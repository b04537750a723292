//! A query over its tables, ready to run: what columns it gives, and how its rows are had.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use pipe_core::{Error, Progress, Result};
use polars::prelude::{
    DataFrame, DataType, Engine, Expr, FileWriteFormat, LazyFrame, ParquetCompression, ParquetWriteOptions, PlRefPath, PlanCallback, PolarsResult,
    SinkDestination, SinkTarget, StatisticsOptions, UnifiedSinkArgs, col,
};

use crate::cell::{self, Cell};
use crate::engine::watched;
use crate::error::while_running;
use crate::order::in_order;

/// Of files that are written and read again at once.
const ROW_GROUP_ROWS: usize = 65_536;

/// A query whose tables and columns are all there.
pub struct Prepared {
    frame: LazyFrame,
    columns: Vec<Column>,
}

/// One column of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// As polars calls it: `str`, `i64`, `list[i32]`.
    pub data_type: String,
    pub is_number: bool,
}

impl Prepared {
    pub(crate) fn new(frame: LazyFrame) -> PolarsResult<Prepared> {
        let mut frame = in_order(frame)?;
        let schema = frame.collect_schema()?;
        // Types that Parquet does not have, or that others do not expect in it.
        let plain: Vec<Expr> = schema
            .iter()
            .filter(|(name, data_type)| {
                let key = matches!(name.as_str(), "id" | "label") && (data_type.is_integer() || data_type.is_bool());
                key || matches!(data_type, DataType::Null | DataType::Categorical(..) | DataType::Enum(..))
            })
            .map(|(name, _)| col(name.clone()).cast(DataType::String))
            .collect();
        let column = |(name, data_type): (&polars::prelude::PlSmallStr, &DataType)| Column {
            name: name.to_string(),
            data_type: data_type.to_string(),
            is_number: data_type.is_numeric(),
        };
        let columns = schema.iter().map(column).collect();
        if !plain.is_empty() {
            frame = frame.with_columns(plain);
        }
        Ok(Prepared { frame, columns })
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Writes all rows to one Parquet file: plain types, no statistics, lightly compressed. Ids and labels that are numbers become text.
    pub fn write_parquet(&self, path: &Path, progress: &dyn Progress) -> Result<()> {
        let target = PlRefPath::try_from_path(path).map_err(|_| Error::stage(format!("{} is no path that can be written", path.display())))?;
        let options = ParquetWriteOptions {
            compression: ParquetCompression::Snappy,
            statistics: StatisticsOptions::empty(),
            row_group_size: Some(ROW_GROUP_ROWS),
            ..ParquetWriteOptions::default()
        };
        let frame = self.frame.clone();
        watched(progress, move || {
            let format = FileWriteFormat::Parquet(Arc::new(options));
            let file = SinkDestination::File { target: SinkTarget::Path(target) };
            let sink = frame.sink(file, format, UnifiedSinkArgs { maintain_order: true, ..UnifiedSinkArgs::default() })?;
            sink.collect_with_engine(Engine::Streaming).map(drop)
        })
    }

    /// Hands on at most `limit` rows, batch by batch; `take` says whether it wants more. Returns whether there were more than `limit`.
    pub fn rows(&self, limit: Option<usize>, mut take: impl FnMut(Vec<Vec<Cell>>) -> Result<bool>) -> Result<bool> {
        let frame = self.frame.clone();
        // One more than is asked for tells whether there are more.
        let frame = limit.map_or(frame.clone(), |limit| frame.limit(u32::try_from(limit.saturating_add(1)).unwrap_or(u32::MAX)));
        let (send, batches) = sync_channel::<PolarsResult<DataFrame>>(1);
        let worker = std::thread::spawn(move || {
            let own = send.clone();
            // A closed channel ends the query.
            let callback = PlanCallback::new(move |batch: DataFrame| Ok(own.send(Ok(batch)).is_err()));
            let done = frame.sink_batches(callback, true, None).and_then(|sink| sink.collect_with_engine(Engine::Streaming));
            if let Err(error) = done {
                let _ = send.send(Err(error));
            }
        });
        let mut left = limit.unwrap_or(usize::MAX);
        for batch in batches {
            let mut rows = cell::rows(&batch.map_err(while_running)?).map_err(while_running)?;
            let more = rows.len() > left;
            rows.truncate(left);
            left -= rows.len();
            if !take(rows)? {
                return Ok(false);
            }
            if more {
                return Ok(true);
            }
        }
        worker.join().map_err(|_| Error::internal("the query engine met a fault of its own"))?;
        Ok(false)
    }

    pub(crate) fn collect(frame: LazyFrame) -> Result<DataFrame> {
        let work = move || in_order(frame)?.collect_with_engine(Engine::Streaming).map(|result| result.unwrap_single());
        watched(&pipe_core::Silent, work)
    }
}
