//! Rows as a table for people, as CSV, as JSON.

use clap::ValueEnum;
use pipe_core::Result;
use pipe_sql::{Cell, Column};
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::terminal::print_part;

/// Widths of a table's columns are those of this many rows; later cells may stand out.
const MEASURED_ROWS: usize = 1000;
/// In a table, wider cells are cut.
const MAX_WIDTH: usize = 60;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns; long values are cut
    #[default]
    Table,
    /// With a header; nothing for NULL
    Csv,
    /// One array of objects
    Json,
    /// One object per line
    Jsonl,
}

/// Prints rows as they come.
pub(super) struct Printer<'c> {
    format: Format,
    columns: &'c [Column],
    /// Of a table, until its widths are known.
    waiting: Vec<Vec<Cell>>,
    widths: Option<Vec<usize>>,
    printed: usize,
}

impl<'c> Printer<'c> {
    pub(super) fn new(format: Format, columns: &'c [Column]) -> Self {
        Printer { format, columns, waiting: Vec::new(), widths: None, printed: 0 }
    }

    /// Whether more rows are wanted: not once the reader has left.
    pub(super) fn rows(&mut self, rows: Vec<Vec<Cell>>) -> Result<bool> {
        if self.format != Format::Table {
            return Ok(self.lines(&rows));
        }
        if self.widths.is_some() {
            return Ok(self.table_lines(&rows));
        }
        self.waiting.extend(rows);
        Ok(self.waiting.len() < MEASURED_ROWS || self.measured())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        match self.format {
            Format::Table if self.widths.is_none() => drop(self.measured()),
            Format::Csv if self.printed == 0 => drop(print_part(&self.header())),
            Format::Json if self.printed == 0 => drop(print_part("[]\n")),
            Format::Json => drop(print_part("\n]\n")),
            _ => {}
        }
        Ok(())
    }

    fn header(&self) -> String {
        self.columns.iter().map(|column| csv_field(&column.name)).collect::<Vec<_>>().join(",") + "\n"
    }

    fn lines(&mut self, rows: &[Vec<Cell>]) -> bool {
        let mut text = String::new();
        for row in rows {
            match self.format {
                Format::Csv => {
                    if self.printed == 0 {
                        text += &self.header();
                    }
                    text += &row.iter().map(|cell| csv_field(&cell.text())).collect::<Vec<_>>().join(",");
                    text.push('\n');
                }
                Format::Json => {
                    text += if self.printed == 0 { "[\n" } else { ",\n" };
                    text += &self.object(row);
                }
                _ => {
                    text += &self.object(row);
                    text.push('\n');
                }
            }
            self.printed += 1;
        }
        print_part(&text)
    }

    /// By hand, since the columns have an order.
    fn object(&self, row: &[Cell]) -> String {
        let fields = self.columns.iter().zip(row).map(|(column, cell)| format!("{}: {}", Value::from(column.name.as_str()), cell.json()));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    }

    fn measured(&mut self) -> bool {
        let rows = std::mem::take(&mut self.waiting);
        let header: Vec<String> = self.columns.iter().map(|column| shown(&column.name)).collect();
        let mut widths: Vec<usize> = header.iter().map(|name| name.width()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(shown_cell(cell).width());
            }
        }
        let numbers: Vec<bool> = self.columns.iter().map(|column| column.is_number).collect();
        let line = aligned(&header, &widths, &numbers);
        self.widths = Some(widths);
        print_part(&format!("{line}\n")) && self.table_lines(&rows)
    }

    fn table_lines(&mut self, rows: &[Vec<Cell>]) -> bool {
        let widths = self.widths.as_deref().unwrap_or_default();
        let numbers: Vec<bool> = self.columns.iter().map(|column| column.is_number).collect();
        let line = |row: &Vec<Cell>| aligned(&row.iter().map(shown_cell).collect::<Vec<_>>(), widths, &numbers) + "\n";
        print_part(&rows.iter().map(line).collect::<String>())
    }
}

/// One line of a table: numbers to the right, text to the left, each as wide as a terminal shows it.
pub(super) fn aligned(cells: &[String], widths: &[usize], right: &[bool]) -> String {
    let mut line = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let space = " ".repeat(widths.get(at).copied().unwrap_or(0).saturating_sub(cell.width()));
        let gap = if at == 0 { "" } else { "  " };
        line += gap;
        line += &if right.get(at) == Some(&true) { space + cell } else { cell.clone() + &space };
    }
    line.trim_end().to_owned()
}

/// Whole tables of text, each column as wide as its widest cell.
pub(super) fn table(rows: &[Vec<String>], right: &[bool]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().map(|row| aligned(row, &widths, right)).collect::<Vec<_>>().join("\n")
}

fn shown_cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => "NULL".to_owned(),
        cell => shown(&cell.text()),
    }
}

/// A value on one line of a terminal: what would move the cursor, or turn the line round, is spelled out, and what is too wide cut.
pub(super) fn shown(text: &str) -> String {
    let moves = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::new();
    let (mut width, mut fits) = (0, 0);
    for c in text.chars() {
        let piece: String = if moves(c) { c.escape_default().collect() } else { c.to_string() };
        width += if moves(c) { piece.len() } else { c.width().unwrap_or(0) };
        if width > MAX_WIDTH {
            // One column is the ellipsis'.
            shown.truncate(fits);
            return shown + "…";
        }
        shown += &piece;
        if width < MAX_WIDTH {
            fits = shown.len();
        }
    }
    shown
}

/// As RFC 4180 has it.
fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_letters_take_two_columns() {
        let rows = [["text", "n"], ["好的", "1"], ["bad", "12"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, &[false, true]), "text   n\n好的   1\nbad   12");
    }

    #[test]
    fn nothing_moves_the_cursor_and_long_text_is_cut() {
        assert_eq!(shown("a\u{1b}[31m\nb\u{202e}c"), "a\\u{1b}[31m\\nb\\u{202e}c");
        assert_eq!(shown(&"字".repeat(40)), "字".repeat(29) + "…");
        assert_eq!(shown(&"a".repeat(60)), "a".repeat(60));
        assert_eq!(shown(&"a".repeat(61)), "a".repeat(59) + "…");
    }

    #[test]
    fn csv_quotes_what_it_has_to() {
        assert_eq!(["a", "a,b", "say \"x\"", "two\nlines"].map(csv_field), ["a", "\"a,b\"", "\"say \"\"x\"\"\"", "\"two\nlines\""]);
    }
}
