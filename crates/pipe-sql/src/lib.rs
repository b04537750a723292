//! SQL over the Parquet of finished stages: the stage `sql`, and `pipe sql`, `head` and `describe`.
//! The only home of polars.
//!
//! ```text
//! text → Query (syntax, tables, nothing but a SELECT over stages) → Prepared (columns, order) → Parquet or batches of cells
//! ```
//!
//! - **Only artifacts.** A query names stages; functions and names that would read a file are refused before polars sees
//!   them, so that what is queried is what was scrubbed.
//! - **Same rows, same bytes.** Rows keep the order of the input until an `ORDER BY` (`order`), and polars has one thread
//!   (`engine`), so that floats are summed in one order on any machine.
//! - **Bounded memory.** The streaming engine reads, filters and writes in batches; sorts, joins and groups hold what they have to.
//! - **No row in an error** (`error`): what polars says while it plans quotes the query at most and is passed on; what it says
//!   while it computes may quote values, and is not.

mod cell;
mod describe;
mod engine;
mod error;
mod order;
mod prepared;
mod query;
mod table;

pub use cell::Cell;
pub use describe::{ColumnFacts, Facts, Spread, describe};
pub use engine::{VERSION, one_thread};
pub use prepared::{Column, Prepared};
pub use query::{Query, TableName};
pub use table::Table;

#[cfg(test)]
mod tests;
