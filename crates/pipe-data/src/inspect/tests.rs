use super::*;

fn facts(name: &str, content: impl AsRef<[u8]>) -> Inspection {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let format = SourceFormat::of_path(&path).unwrap();
    inspect(&SourceFile::new(path, format)).unwrap()
}

#[test]
fn columns_are_counted_in_every_text_format() {
    let csv = facts("a.csv", "id;text;label\n1;a fine day;x\n2;a bad day, really;y\n3;;x\n");
    assert_eq!((csv.delimiter, csv.records, csv.encoding), (Some(';'), 3, "utf-8"));
    let text = &csv.columns[1];
    assert_eq!((text.name.as_str(), text.filled, text.prose, text.distinct, text.max_chars), ("text", 2, 2, 2, 17));
    assert_eq!((csv.columns[0].integers, csv.columns[2].distinct), (3, 2));
    let jsonl = facts(
        "a.jsonl",
        "{\"t\": \"a fine day\", \"l\": 1}\n{\"t\": \"a bad day\", \"l\": 0, \"rare words\": 1}\n{\"t\": \"so so\", \"l\": 0}\nnot json\n",
    );
    let names: Vec<&str> = jsonl.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((names, jsonl.unreadable), (vec!["l", "t"], 1));
    let tsv = facts("a.tsv", "text\tlabel\none, two\ta\n");
    assert_eq!((tsv.delimiter, tsv.columns.len()), (None, 2));
}

#[test]
fn a_first_line_that_is_a_row_is_known() {
    assert!(facts("a.csv", "positive,a fine day\nnegative,a bad day\npositive,so so\n").header_is_a_row);
    assert!(facts("a.csv", "1,the very first of all days\n2,a fine day\n3,a bad day\n").header_is_a_row);
    assert!(!facts("a.csv", "label,text\nnegative,a bad day\npositive,so so\n").header_is_a_row);
}

#[test]
fn prose_is_not_what_is_only_long() {
    let rows = "https://example.com/a/very/long/path,2024-01-02 10:00:00,c0ffee-c0ffee-c0ffee,多么美好的一天\n".repeat(3);
    let facts = facts("a.csv", format!("url,time,hash,text\n{rows}"));
    assert_eq!(facts.columns.iter().map(|column| column.prose).collect::<Vec<_>>(), [0, 0, 0, 3]);
}
