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
      split: { train: 0.6, test: 0.4 }
  tokenize:
    uses: tokenize
    from: ingest
    with: { tokenizer: { train_tokenizer: { vocab_size: 400, strip_accents: false } }, max_length: 32, doc_stride: 8 }
  train:
    uses: train
    from: tokenize
    with:
      model: { config: { hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32, max_position_embeddings: 32 } }
      learning_rate: 5.0e-3
      num_train_epochs: 4
      device: cpu
      torch_threads: 1
  predict: { uses: predict, from: [train, ingest.test], with: { device: cpu, threads: 1 } }
"#;

/// What is taken off the letter before it where accents are stripped (category Mn), of the scripts below.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{93c}' | '\u{941}'..='\u{948}' | '\u{94d}')
}

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
    let rows = (0..120).map(|at| {
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
    predictions_are_slices(&project, strips_accents);
}

/// Whatever the model learned: an answer is its slice of the context. Marks that are in no token are not cut off their letters.
fn predictions_are_slices(project: &Project, strips_accents: bool) {
    let (rows, predictions) =
        (Table::of_split(&project.artifact("ingest"), "test"), Table::read(&project.artifact("predict").join("predictions.parquet")));
    let ends = predictions.integers("start").into_iter().zip(predictions.integers("end"));
    let mut answered = 0;
    for ((answer, context), ends) in predictions.strings("answer").iter().zip(rows.strings("context")).zip(ends) {
        let (Some(start), Some(end)) = ends else { continue };
        let context: Vec<char> = context.chars().collect();
        let (start, end) = (start as usize, end as usize);
        assert_eq!(context[start..end].iter().collect::<String>(), *answer);
        assert!(!strips_accents || !context.get(end).copied().is_some_and(is_mark), "a letter loses its mark");
        answered += 1;
    }
    assert!(answered > 20, "{answered} of {} are answered", rows.rows());
}
