//! Cells to texts with a label and an id, as scoring wants them.

use pipe_core::Result;
use pipe_core::config::ColumnsConfig;

use super::{Cell, KeyNames, RawChunk, Reason, Reject, Wanted};

/// One well-formed record, its columns mapped to roles. No `Debug`: it holds raw text.
pub struct Row {
    pub number: u64,
    pub id: Option<String>,
    pub text: String,
    pub text_pair: Option<String>,
    pub label: Option<String>,
}

/// What parsing makes of a record.
pub type Parsed = Result<Row, Reject>;

/// The columns that [`parse_rows`] reads.
pub fn wanted_for_rows(columns: &ColumnsConfig) -> Wanted {
    Wanted::of(&ColumnsConfig {
        text: columns.text.clone(),
        text_pair: columns.text_pair.clone(),
        label: columns.label.clone(),
        id: columns.id.clone(),
        ..ColumnsConfig::default()
    })
}

/// Looks into every record of a chunk that was framed for [`wanted_for_rows`].
pub fn parse_rows(chunk: &RawChunk, columns: &ColumnsConfig, names: &mut KeyNames) -> Result<Vec<Parsed>> {
    let wanted = wanted_for_rows(columns);
    let mut rows = Vec::with_capacity(chunk.records());
    chunk.parse(&wanted, names, &mut |record, cells| {
        let row = cells.and_then(|cells| row(record.place.number, columns, &wanted, cells));
        rows.push(row.map_err(|(column, reason)| record.reject(column, reason)));
        Ok(())
    })?;
    Ok(rows)
}

fn row<'w>(number: u64, columns: &'w ColumnsConfig, wanted: &Wanted, cells: &mut [Cell<'_>]) -> Result<Row, (Option<&'w str>, Reason)> {
    let mut take = |name: &'w str, numbers: bool| {
        let cell = wanted.names().position(|wanted| wanted == name).map_or(Cell::Missing, |at| std::mem::replace(&mut cells[at], Cell::Missing));
        match cell {
            Cell::Text(text) => Ok(Some(text.into_owned())),
            Cell::Integer(value) if numbers => Ok(Some(value.to_string())),
            Cell::Float(value) if numbers => Ok(Some(value.to_string())),
            Cell::Bool(value) if numbers => Ok(Some(value.to_string())),
            Cell::Null => Ok(None),
            Cell::Missing => Err((Some(name), Reason::MissingColumn)),
            _ => Err((Some(name), Reason::WrongType)),
        }
    };
    let mut optional = |name: &'w Option<String>, numbers| name.as_deref().map_or(Ok(None), |name| take(name, numbers));
    let label = optional(&columns.label, true)?;
    let (text_pair, id) = (optional(&columns.text_pair, false)?, optional(&columns.id, true)?);
    let text = take(&columns.text, false)?.unwrap_or_default();
    if text.trim().is_empty() {
        return Err((Some(&columns.text), Reason::EmptyText));
    }
    let label = label.map(|label| label.trim().to_owned());
    if columns.label.is_some() && label.as_ref().is_none_or(String::is_empty) {
        return Err((columns.label.as_deref(), Reason::EmptyLabel));
    }
    Ok(Row { number, id, text, text_pair, label })
}
