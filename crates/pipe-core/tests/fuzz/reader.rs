//! Whatever stands in a pipeline file, reading it ends soon, with a file or with a usage error that names a place in it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use pipe_core::file::{Overrides, PipelineFile};
use pipe_core::{Class, Plan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Far more than any case takes, so that a busy machine fails no test; a hang still does.
const PATIENCE: Duration = Duration::from_secs(20);

const CLASSIFY: &str = include_str!("../../../../pipelines/classify.yaml");
const SCORE: &str = include_str!("../../../../pipelines/score.yaml");
const MATRIX: &str = r#"version: 1
name: search
vars: { base: model, lrs: [3e-5, 5e-5], size: 16, env: "${env:PIPE_FUZZ:-fallback}" }
run: { overlap: wait, deadline: 1h30m, memory: 20GB, notify: { command: [tell, "${run.outcome}"], on: [failure] } }
stages:
  ingest: { uses: ingest, with: { source: { paths: [a.csv], settle: 10m }, columns: { text: text, label: label }, split: { train: 0.8, validation: 0.1, test: 0.1 } } }
  tokenize: { uses: tokenize, from: ingest, with: { tokenizer: "${base}" } }
  train:
    uses: train
    from: tokenize
    matrix: { lr: "${lrs}", seed: [1, 2] }
    with: { model: "${base}", learning_rate: "${matrix.lr}", seed: "${matrix.seed}", eval_strategy: epoch, per_device_train_batch_size: "${size}" }
    resources: { cpus: 2, memory: 4GB }
  evaluate: { uses: evaluate, from: [train, tokenize.test], with: { gate: { f1_macro: ">= 0.5" } } }
  export: { uses: export, from: ["train[best]", tokenize.validation], publish: "out/${run.date}" }
  one: { uses: export, from: ["train[lr=0.00003,seed=1]", tokenize.validation], publish: out/one }
"#;

/// Pieces that have a meaning somewhere in a file, and some that have one in YAML or nowhere.
const PIECES: &str = r#"
    ${base}¦${¦${}¦${env:X}¦${env:X:-y}¦${run.date}¦${matrix.lr}¦${matrix.}¦$${base}¦${a${b}}¦${name}¦train[best]¦train[lr=3e-5]
    train[lr=]¦train[=]¦train[¦train[lr=3e-5¦train]¦train[best].test¦[best]¦.¦..¦tokenize.test¦tokenize.¦.test
    matrix: { lr: [1, 1.0] }¦matrix: []¦matrix: { a: [[1]] }¦matrix: { '': [1] }¦from: train¦from: []¦from: [train, train]
    from: {}¦uses: train¦uses:¦with:¦with: []¦with: { model: m }¦publish: 3¦resources: { cpus: 0, memory: -1GB }¦version: 2
    root: /¦root: nowhere¦&a¦*a¦&a [*a]¦<<: *a¦? a¦? [a]: b¦---¦...¦%YAML 1.2¦%TAG ! x¦!!str¦!!binary¦!x¦|¦>¦|2-¦>+¦'¦"¦"\x¦"\u12
    "\U0010FFFF"¦#¦-¦:¦{¦}¦[¦]¦{}¦[]¦名前¦é¦𝄞¦null¦~¦true¦yes¦0¦-0¦1e999¦-1e999¦1e-999¦.5¦5.¦.inf¦.nan¦0x10¦0o7¦1_000
    9223372036854775807¦9223372036854775808¦-9223372036854775808¦18446744073709551616¦0.1e¦+¦3e-5¦99999999999999999999d¦1h30m¦20GB
    1.5GiB¦.GB¦>= 0.5¦>=¦>= nan¦2024-01-02¦unknown_key: 1¦learning_rat: 1¦seed: -1¦max_steps: -1¦drift: { action: gate }
"#;
/// Those that are blank, or cannot be seen.
const BLANKS: &[&str] = &[
    "matrix: { a: [1, 2, 3], b: [1, 2, 3], c: [x, \"y]\"] }",
    "version: \"1\"",
    "--- ",
    " #",
    "- ",
    ": ",
    ", ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "  ",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\0",
    "\u{7f}",
    "e\u{301}",
    "\u{202e}",
];

/// One change to a text.
#[derive(Debug, Clone)]
enum Change {
    Insert(usize, String),
    Remove(usize, usize),
    RepeatLine(usize, usize),
    SwapLines(usize, usize),
    RenameKey(usize, String),
    ReplaceValue(usize, String),
    Indent(usize, usize),
    Cut(usize),
    Append(String),
    Nest(usize, u8, usize),
}

fn piece() -> impl Strategy<Value = String> {
    static ALL: LazyLock<Vec<&str>> =
        LazyLock::new(|| PIECES.trim().lines().flat_map(|line| line.trim_start().split('¦')).chain(BLANKS.iter().copied()).collect());
    prop_oneof![
        8 => select(ALL.as_slice()).prop_map(str::to_owned),
        2 => any::<char>().prop_map(String::from),
        1 => "\\PC{0,8}",
        1 => "[ -~\n\t]{0,12}",
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..4096usize;
    prop_oneof![
        4 => (at.clone(), piece()).prop_map(|(at, text)| Change::Insert(at, text)),
        2 => (at.clone(), 1..24usize).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (at.clone(), 1..4usize).prop_map(|(at, times)| Change::RepeatLine(at, times)),
        2 => (at.clone(), at.clone()).prop_map(|(a, b)| Change::SwapLines(a, b)),
        2 => (at.clone(), piece()).prop_map(|(at, name)| Change::RenameKey(at, name)),
        4 => (at.clone(), piece()).prop_map(|(at, value)| Change::ReplaceValue(at, value)),
        1 => (at.clone(), 0..9usize).prop_map(|(at, depth)| Change::Indent(at, depth)),
        1 => at.clone().prop_map(Change::Cut),
        1 => piece().prop_map(Change::Append),
        1 => (at, select(b"[{-".as_slice()), 1..200usize).prop_map(|(at, open, depth)| Change::Nest(at, open, depth)),
    ]
}

fn apply(text: &mut String, change: &Change) {
    let lines = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
    match change {
        Change::Insert(at, piece) => text.insert_str(boundary(text, *at), piece),
        Change::Remove(at, length) => {
            let start = boundary(text, *at);
            let end = boundary_after(text, start + length);
            text.replace_range(start..end, "");
        }
        Change::RepeatLine(at, times) => {
            let mut all = lines(text);
            if !all.is_empty() {
                let at = at % all.len();
                for _ in 0..*times {
                    all.insert(at, all[at].clone());
                }
                *text = all.concat();
            }
        }
        Change::SwapLines(a, b) => {
            let mut all = lines(text);
            if !all.is_empty() {
                let (a, b) = (a % all.len(), b % all.len());
                all.swap(a, b);
                *text = all.concat();
            }
        }
        Change::RenameKey(at, name) => {
            let colons: Vec<usize> = text.match_indices(':').map(|(at, _)| at).collect();
            if !colons.is_empty() {
                let colon = colons[at % colons.len()];
                let start = text[..colon].rfind([' ', '\n', '{', ',']).map_or(0, |at| at + 1);
                text.replace_range(start..colon, name);
            }
        }
        Change::ReplaceValue(at, value) => {
            let colons: Vec<usize> = text.match_indices(": ").map(|(at, _)| at + 2).collect();
            if !colons.is_empty() {
                let start = colons[at % colons.len()];
                let end = text[start..].find(['\n', ',', '}']).map_or(text.len(), |at| start + at);
                text.replace_range(start..end, value);
            }
        }
        Change::Indent(at, depth) => {
            let mut all = lines(text);
            if !all.is_empty() {
                let at = at % all.len();
                all[at] = " ".repeat(*depth) + all[at].trim_start_matches(' ');
                *text = all.concat();
            }
        }
        Change::Cut(at) => text.truncate(boundary(text, *at)),
        Change::Append(piece) => text.push_str(piece),
        Change::Nest(at, open, depth) => {
            let open = match open {
                b'-' => "- ".to_owned(),
                b'{' => "{a: ".to_owned(),
                _ => "[".to_owned(),
            };
            text.insert_str(boundary(text, *at), &open.repeat(*depth));
        }
    }
}

fn boundary(text: &str, at: usize) -> usize {
    boundary_after(text, if text.is_empty() { 0 } else { at % (text.len() + 1) })
}

fn boundary_after(text: &str, at: usize) -> usize {
    (at.min(text.len())..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

fn mutated() -> impl Strategy<Value = String> {
    (select([CLASSIFY, SCORE, MATRIX].as_slice()), vec(change(), 0..6)).prop_map(|(text, changes)| {
        let mut text = text.to_owned();
        changes.iter().for_each(|change| apply(&mut text, change));
        text
    })
}

fn soup() -> impl Strategy<Value = String> {
    prop_oneof![
        vec(piece(), 0..40).prop_map(|pieces| pieces.concat()),
        vec(piece(), 0..40).prop_map(|pieces| format!("version: 1\nstages:\n  a: {{ uses: train, {}", pieces.concat())),
        vec(any::<char>(), 0..200).prop_map(|chars| chars.into_iter().collect()),
        "[ -~\n]{0,200}",
    ]
}

fn overrides() -> impl Strategy<Value = Overrides> {
    let name = || prop_oneof![select(["base", "size", "lrs", "max_length", "inbox", "nope", ""].as_slice()).prop_map(str::to_owned), piece()];
    let place = || {
        let part = select(
            ["train", "ingest", "with", "matrix", "from", "uses", "publish", "learning_rate", "source", "paths", "seed", "a.b.c.d", ""].as_slice(),
        );
        vec(prop_oneof![6 => part.prop_map(str::to_owned), 1 => piece()], 0..5).prop_map(|parts| parts.join("."))
    };
    let var = (name(), piece()).prop_map(|(name, value)| format!("{name}={value}"));
    let set = (place(), piece()).prop_map(|(place, value)| format!("{place}={value}"));
    (vec(prop_oneof![4 => var, 1 => piece()], 0..2), vec(prop_oneof![4 => set, 1 => piece()], 0..2)).prop_map(|(vars, sets)| Overrides {
        vars,
        sets,
        var_files: Vec::new(),
    })
}

/// An empty folder, where `root:` and the file of variables are.
fn scratch() -> &'static Path {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    FOLDER.path()
}

/// Reads the text and, where that works, orders its stages; an error must be a usage error with a place.
fn check(text: &str, overrides: &Overrides) -> Result<bool, TestCaseError> {
    let start = Instant::now();
    let result = PipelineFile::parse(text, Path::new("p.yaml"), scratch(), overrides);
    let error = match &result {
        Ok(file) => Plan::new(file).err(),
        Err(error) => Some(error.clone()),
    };
    prop_assert!(start.elapsed() < PATIENCE, "took {:?}", start.elapsed());
    let Some(error) = error else { return Ok(true) };
    prop_assert_eq!(error.class, Class::Usage, "{}", error.message);
    let rendered = error.rendered.as_deref().unwrap_or_default();
    prop_assert!(rendered.starts_with("error"), "not rendered: {}", error.message);
    let (place, rest) = error.message.split_once(": ").ok_or_else(|| TestCaseError::fail("no place"))?;
    prop_assert!(!rest.is_empty());
    let mut parts = place.rsplitn(3, ':');
    let (column, line, source) = (parts.next(), parts.next(), parts.next());
    let number =
        |part: Option<&str>| part.and_then(|part| part.parse::<usize>().ok()).ok_or_else(|| TestCaseError::fail(format!("no place: {place}")));
    let (line, column) = (number(line)?, number(column)?);
    let inside = |text: &str| text.split('\n').nth(line - 1).is_some_and(|text| column >= 1 && column <= text.chars().count() + 1);
    let found = match source {
        Some("p.yaml") => inside(text),
        Some("--var") => overrides.vars.iter().any(|text| inside(text)),
        Some("--set") => overrides.sets.iter().any(|text| inside(text)),
        Some(path) => overrides.var_files.iter().any(|file| file.to_str() == Some(path)),
        None => false,
    };
    prop_assert!(found, "{place} is no place in the text");
    Ok(false)
}

proptest! {
    #![proptest_config(crate::config(500))]

    #[test]
    fn reader_survives_changed_files(text in mutated()) {
        check(&text, &Overrides::default())?;
    }

    #[test]
    fn reader_survives_overrides(text in select([CLASSIFY, SCORE, MATRIX].as_slice()), overrides in overrides()) {
        check(text, &overrides)?;
    }

    #[test]
    fn reader_survives_any_text(text in soup()) {
        check(&text, &Overrides::default())?;
    }
}

proptest! {
    #![proptest_config(crate::config(100))]

    #[test]
    fn reader_survives_files_of_variables(text in prop_oneof![soup(), piece().prop_map(|value| format!("size: {value}\nbase: {value}\n"))]) {
        let file: PathBuf = scratch().join("vars.yaml");
        std::fs::write(&file, &text).unwrap();
        check(MATRIX, &Overrides { var_files: vec![file], ..Overrides::default() })?;
    }
}

#[test]
fn the_files_that_are_changed_are_valid() {
    for text in [CLASSIFY, SCORE, MATRIX] {
        // `root: ..` is looked up, so a folder has to be there.
        assert!(check(text, &Overrides::default()).unwrap(), "{text}");
    }
}

/// Files whose size or shape costs more than it should, if anything does.
#[test]
fn reader_ends_soon_on_what_grows() {
    let stage = |name: &str, rest: &str| format!("  {name}: {{ uses: tokenize, with: {{ tokenizer: m }}{rest} }}\n");
    let chain = (0..20_000).map(|at| stage(&format!("s{at}"), &format!(", from: s{}", at + 1))).collect::<String>();
    let unknown = (0..5_000).map(|at| format!("key{at}: ${{v{at}}}\n")).collect::<String>();
    let variables = (0..5_000).map(|at| format!("  v{at}: 1\n")).collect::<String>();
    let bomb =
        format!("vars:\n  x: [{}]\nstages:\n  a: {{ uses: train, with: {{ model: [{}] }} }}\n", "y, ".repeat(5_000), "\"${x}\", ".repeat(5_000));
    let texts =
        format!("vars: {{ x: \"{}\" }}\nstages:\n  a: {{ uses: train, with: {{ model: \"{}\" }} }}\n", "y".repeat(200_000), "${x}".repeat(50_000));
    let axis = |name: &str| format!("{name}: [{}]", (0..30).map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
    let wide = (0..300).map(|at| stage(&format!("s{at}"), &format!(", matrix: {{ {}, {} }}", axis("a"), axis("b")))).collect::<String>();
    let heirs =
        (0..300).map(|at| stage(&format!("s{at}"), &format!(", from: [{}]", vec![format!("s{}", at + 1); 16].join(", ")))).collect::<String>();
    let heirs = heirs + &stage("s300", &format!(", matrix: {{ {}, {} }}", axis("a"), axis("b")));
    let train = "uses: train, from: tok, with: { model: m, eval_strategy: epoch }";
    let best = format!(
        "  in: {{ uses: ingest, with: {{ source: {{ paths: [a] }}, split: {{ train: 0.8, validation: 0.2 }} }} }}\n  tok: {{ uses: tokenize, from: in, with: {{ tokenizer: m }} }}\n  train: {{ {train}, matrix: {{ {}, {} }} }}\n  best: {{ uses: export, from: [\"train[best]\", tok], matrix: {{ {}, {} }} }}\n",
        axis("a"),
        axis("b"),
        axis("c"),
        axis("d")
    );
    let many = format!("version: 1\nstages:\n{}", stage("s", &format!(", from: [{}]", "s, ".repeat(9_000))));
    let long_key = format!("version: 1\n{}: 1\n", "k".repeat(900_000));
    for text in [
        format!("version: 1\nstages:\n{chain}"),
        format!("version: 1\nstages:\n{}", chain.lines().take(499).map(|line| format!("{line}\n")).collect::<String>() + &stage("s499", "")),
        format!("version: 1\nvars:\n{variables}stages: {{}}\n{unknown}"),
        format!("version: 1\n{bomb}"),
        format!("version: 1\n{texts}"),
        format!("version: 1\nstages:\n{wide}"),
        format!("version: 1\nstages:\n{heirs}"),
        format!("version: 1\nstages:\n{best}"),
        many,
        long_key,
        "[".repeat(100_000),
        "{a: ".repeat(50_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        "a: &a [*a]".to_owned(),
        " ".repeat(500_000),
        "a\n".repeat(300_000),
        "x".repeat(2 << 20),
        "\"".to_owned() + &"\\n".repeat(300_000),
    ] {
        check(&text, &Overrides::default()).unwrap_or_else(|e| panic!("{e}: {} …", text.chars().take(100).collect::<String>()));
    }
    let deep = Overrides { sets: vec![format!("train.with.{}=1", vec!["a"; 100_000].join("."))], ..Overrides::default() };
    check(MATRIX, &deep).unwrap();
}
