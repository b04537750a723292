//! What is in the committed sample: its rows as bytes, the personal data planted in it, and counts.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use csv::{ByteRecord, ReaderBuilder};
use serde_json::Value;

use crate::project::{fixtures, read_json};

/// One record of `tweets-sample.csv`, in its own encoding (Mac Roman).
pub(crate) struct Record {
    /// From 1, the header not counted.
    pub(crate) number: u64,
    /// Of its first byte in the file.
    pub(crate) offset: usize,
    pub(crate) label: String,
    pub(crate) text: Vec<u8>,
}

impl Record {
    pub(crate) fn is_utf8(&self) -> bool {
        std::str::from_utf8(&self.text).is_ok()
    }
}

/// All records of the sample.
pub(crate) fn records() -> Vec<Record> {
    let bytes = std::fs::read(fixtures().join("tweets-sample.csv")).unwrap();
    let mut reader = ReaderBuilder::new().from_reader(bytes.as_slice());
    let record = |(at, record): (usize, csv::Result<ByteRecord>)| {
        let record = record.unwrap();
        let before = record.position().unwrap().byte() as usize;
        Record {
            number: at as u64 + 1,
            // The crate stops between the two bytes of a line's end.
            offset: before + bytes[before..].iter().take_while(|byte| b"\r\n".contains(byte)).count(),
            label: String::from_utf8(record[0].to_vec()).unwrap(),
            text: record[2].to_vec(),
        }
    };
    reader.byte_records().enumerate().map(record).collect()
}

/// `tweets-sample.json`: how many of what the sample has.
pub(crate) fn counts() -> Value {
    read_json(&fixtures().join("tweets-sample.json"))
}

/// The e-mail addresses, phone and card numbers, URLs, handles and IP addresses in a file of rows.
pub(crate) fn planted(fixture: &str) -> BTreeSet<String> {
    let bytes = std::fs::read(fixtures().join(fixture)).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let mut found = BTreeSet::new();
    for word in text.split([' ', ',', '"', '\n', '\r']) {
        let word = word.trim_end_matches('.');
        let is_handle = word.len() > 4 && word.starts_with('@');
        if is_handle || ["@example.", "@mail.example.", "://", "192.0.2."].iter().any(|part| word.contains(part)) {
            found.insert(word.to_owned());
        }
    }
    // These may have spaces in them.
    for (start, length) in [("4111", "4111 1111 1111 1111".len()), ("555", "555-0100".len())] {
        for (at, _) in text.match_indices(start) {
            let number: String = text[at..].chars().take(length).take_while(|c| c.is_ascii_digit() || " -.".contains(*c)).collect();
            found.insert(number.trim_end_matches([' ', '.', '-']).to_owned());
        }
    }
    found
}

/// Words that only the rows of the sample have.
static DISTINCTIVE: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let distinctive =
        ["delicious", "disappointed", "brilliant", "keyboard", "wonderful", "awesome", "ruined", "arrives", "noisy", "battery", "concert"];
    let mut words: BTreeSet<String> = planted("tweets-sample.csv");
    words.extend(distinctive.map(str::to_owned));
    words
});

/// Asserts that nothing of a row's text is in a message.
#[track_caller]
pub(crate) fn assert_quotes_no_row(message: &str) {
    let lower = message.to_lowercase();
    let quoted = DISTINCTIVE.iter().find(|word| lower.contains(&word.to_lowercase()));
    assert!(quoted.is_none(), "a row's text is quoted (`{}`):\n{message}", quoted.unwrap());
}
