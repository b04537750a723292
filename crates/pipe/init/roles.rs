//! Which column plays which role, by what is in it and by what it is called.

use pipe_core::{Error, Result};
use pipe_data::inspect::{ColumnFacts, Inspection};

/// Names that are used for two texts of a row, first and second.
const PAIRS: [(&str, &str); 14] = [
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("question", "context"),
    ("question", "passage"),
    ("question", "sentence"),
    ("question", "answer"),
    ("query", "passage"),
    ("query", "document"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
];
const LABELS: [&str; 14] =
    ["label", "labels", "class", "category", "target", "sentiment", "gold_label", "intent", "emotion", "topic", "polarity", "rating", "stars", "y"];
const TEXTS: [&str; 9] = ["text", "sentence", "content", "body", "review", "comment", "message", "tweet", "document"];
const IDS: [&str; 6] = ["id", "uuid", "guid", "key", "index", "row"];

/// More classes than this are no classes.
const MAX_CLASSES: u64 = 200;
/// Rows that a class has on average, at least.
const ROWS_PER_CLASS: u64 = 4;
const MAX_ID_CHARS: usize = 64;
/// A column with more gaps than this would cost more rows than ingest forgives.
const MIN_FILLED: f64 = 0.85;

/// The columns by role.
#[derive(Debug)]
pub(super) struct Roles<'i> {
    pub(super) text: &'i ColumnFacts,
    pub(super) text_pair: Option<&'i ColumnFacts>,
    pub(super) label: Option<&'i ColumnFacts>,
    pub(super) id: Option<&'i ColumnFacts>,
}

impl<'i> Roles<'i> {
    /// `file` names the file in an error.
    pub(super) fn of(inspection: &'i Inspection, file: &str) -> Result<Roles<'i>> {
        let rows = inspection.records - inspection.unreadable;
        let filled = |column: &ColumnFacts| column.filled as f64 >= MIN_FILLED * rows as f64;
        // A column without a name cannot be mapped.
        let columns: Vec<&ColumnFacts> = inspection.columns.iter().filter(|column| !column.name.trim().is_empty()).collect();
        let mut texts: Vec<&ColumnFacts> = columns.iter().copied().filter(|column| filled(column) && is_text(column)).collect();
        texts.sort_by(|a, b| b.mean_chars.total_cmp(&a.mean_chars));
        let named = |(first, second): (&str, &str)| {
            let find = |name: &str| texts.iter().copied().find(|column| column.name.eq_ignore_ascii_case(name));
            Some((find(first)?, Some(find(second)?)))
        };
        let pair = PAIRS.into_iter().find_map(named);
        let Some((text, text_pair)) = pair.or_else(|| texts.first().map(|&text| (text, None))) else {
            return Err(no_text(inspection, &columns, file));
        };
        let free = |column: &&ColumnFacts| column.name != text.name && text_pair.is_none_or(|pair| pair.name != column.name);
        let label = columns.iter().copied().filter(free).filter(|column| filled(column) && is_label(column)).min_by_key(|column| {
            let known = LABELS.iter().position(|name| column.name.eq_ignore_ascii_case(name));
            (known.unwrap_or(usize::MAX), column.texts * 2 < column.filled, column.distinct)
        });
        let is_label = |column: &&ColumnFacts| label.is_some_and(|label| label.name == column.name);
        let id = columns.iter().copied().filter(free).find(|column| !is_label(column) && column.filled == rows && is_id(column));
        Ok(Roles { text, text_pair, label, id })
    }
}

/// Prose, or the short texts of a column that is called so.
fn is_text(column: &ColumnFacts) -> bool {
    let called_text = TEXTS.iter().any(|name| column.name.eq_ignore_ascii_case(name));
    let wanted = if called_text { 0.1 } else { 0.5 };
    column.prose as f64 >= wanted * column.filled as f64 && column.distinct > 1
}

fn is_label(column: &ColumnFacts) -> bool {
    let plain = column.texts + column.integers == column.filled;
    plain && (2..=MAX_CLASSES).contains(&column.distinct) && column.distinct * ROWS_PER_CLASS <= column.filled
}

/// By its name too: ids are written as they are, and a unique short value may well be an e-mail address.
fn is_id(column: &ColumnFacts) -> bool {
    let name = column.name.to_lowercase();
    let called_id = IDS.contains(&name.as_str()) || name.ends_with("_id");
    let plain = column.texts + column.integers == column.filled;
    called_id && column.unique && plain && column.prose == 0 && column.max_chars <= MAX_ID_CHARS
}

fn no_text(inspection: &Inspection, columns: &[&ColumnFacts], file: &str) -> Error {
    let rows = inspection.records - inspection.unreadable;
    if rows == 0 && inspection.records > 0 {
        return Error::input(format!("none of {} records of {file} can be read", inspection.records))
            .hint("is it really of the format that its name says?");
    }
    Error::input(format!("no column of {file} looks like text, of {}", columns.len()))
        .hint("a column of text holds several words in most rows; is the delimiter right, and does the file begin with a header?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, distinct: u64, prose: u64, mean_chars: f64) -> ColumnFacts {
        let (name, max_chars) = (name.to_owned(), mean_chars as usize);
        let unique = distinct == 100;
        ColumnFacts { name, filled: 100, texts: 100, integers: 0, prose, distinct, unique, mean_chars, max_chars, tokens: 9 }
    }

    fn roles(columns: Vec<ColumnFacts>) -> [Option<String>; 4] {
        let inspection =
            Inspection { encoding: "utf-8", delimiter: None, records: 100, is_longer: false, unreadable: 0, columns, header_is_a_row: false };
        let roles = Roles::of(&inspection, "a.csv").unwrap();
        [Some(roles.text), roles.text_pair, roles.label, roles.id].map(|column| column.map(|column| column.name.clone()))
    }

    #[test]
    fn roles_follow_from_what_is_in_a_column() {
        let tweets = vec![column("nr", 100, 0, 2.0), column("mood", 3, 0, 7.0), column("said", 99, 98, 80.0), column("place", 60, 60, 20.0)];
        assert_eq!(roles(tweets), [Some("said".into()), None, Some("mood".into()), None]);
        let named = vec![column("id", 100, 0, 6.0), column("source", 2, 0, 5.0), column("Label", 4, 0, 6.0), column("text", 99, 98, 80.0)];
        assert_eq!(roles(named), [Some("text".into()), None, Some("Label".into()), Some("id".into())]);
        let pair = vec![column("hypothesis", 100, 100, 30.0), column("premise", 100, 100, 60.0), column("genre", 5, 0, 6.0)];
        assert_eq!(roles(pair), [Some("premise".into()), Some("hypothesis".into()), Some("genre".into()), None]);
    }

    #[test]
    fn what_may_be_a_person_is_no_id() {
        let columns = vec![column("email", 100, 0, 20.0), column("text", 99, 98, 80.0)];
        assert_eq!(roles(columns)[3], None);
    }
}
