//! Letters that are several characters: answers keep their places through windows, whatever a tokenizer makes of the marks.

use std::collections::{BTreeMap, BTreeSet};

use crate::project::Project;
use crate::table::Table;

const PIPELINE: &str = r#"version: 1
name: marks
stages:
  ingest:
    uses: ingest
    with:
      source: { paths: [questions.jsonl] }
      columns: { id: id, question: question, context: context, answers: answers }
      scrub: { policy: none }
      split: { train: 1.0 }
  tokenize:
    uses: tokenize
    from: ingest
    with: { tokenizer: { train_tokenizer: { vocab_size: 400, strip_accents: false } }, max_length: 32, doc_stride: 8 }
"#;

#[test]
fn answers_with_combining_marks_stand_where_they_were_given_in_every_window() {
    for strips_accents in [false, true] {
        answers_stay_in_place(strips_accents);
    }
}

fn answers_stay_in_place(strips_accents: bool) {
    let project = Project::new();
    // Decomposed French and Vietnamese, Devanagari, and a mark after an ideograph.
    let answers = ["cafe\u{301} noir", "Vie\u{323}\u{302}t Nam", "हिन्दी", "re\u{301}sume\u{301}", "字\u{302}", "a\u{30a}a\u{308}o\u{308}"];
    let rows = (0..60).map(|at| {
        let answer = answers[at % answers.len()];
        // At the beginning, in the middle or at the end of what needs several windows.
        let (before, after) = [(0, 40), (20, 20), (40, 0)][at / answers.len() % 3];
        let filler = |words: usize| "e\u{301}te\u{301} क्षमा so ".repeat(words / 2);
        let context = format!("{}{answer} {}end {at}", filler(before), filler(after));
        let start = filler(before).chars().count();
        serde_json::json!({"id": format!("q{at}"), "question": "what is it", "context": context, "answers": {"text": [answer], "answer_start": [start]}})
            .to_string()
            + "\n"
    });
    project.write("questions.jsonl", rows.collect::<String>());
    project.write("pipeline.yaml", PIPELINE.replace("strip_accents: false", &format!("strip_accents: {strips_accents}")));
    project.run(&[]).code(0);
    let (rows, tokens) = (Table::of_split(&project.artifact("ingest"), "train"), Table::of_split(&project.artifact("tokenize"), "train"));
    assert!(tokens.rows() > 2 * rows.rows(), "contexts are several windows");
    let known: BTreeMap<String, (String, String)> = rows
        .strings("id")
        .into_iter()
        .zip(rows.strings("context").into_iter().zip(rows.answers("answers").into_iter().map(|(texts, _)| texts[0].clone())))
        .collect();
    let (offsets, starts, stops) = (tokens.lists("offsets"), tokens.integers("start_position"), tokens.integers("end_position"));
    let mut found = BTreeSet::new();
    for (at, id) in tokens.strings("id").into_iter().enumerate() {
        let (start, stop) = (starts[at].unwrap() as usize, stops[at].unwrap() as usize);
        if stop == 0 {
            continue;
        }
        let (context, answer) = &known[&id];
        let (from, to) = (offsets[at][2 * start] as usize, offsets[at][2 * stop + 1] as usize);
        let said: String = context.chars().skip(from).take(to - from).collect();
        assert_eq!(said, *answer, "{id}, accents stripped: {strips_accents}");
        found.insert(id);
    }
    assert_eq!(found.len(), known.len(), "each answer is whole in some window");
}
