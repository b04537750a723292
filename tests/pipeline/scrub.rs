//! Policies, keys and sealed values as a user meets them.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::project::{Outcome, Project, command, copy_folder, fixtures, pipe, read_json};
use crate::table::{Table, write_strings};

const ROWS: &str = "text,id\n\
    Call 138 1234 5678 about TICKET-123456,a\n\
    or +86-13812345678 or write to Jane@Example.com,b\n\
    or to support@example.com,c\n";

const INGEST: &str = "version: 1\nname: rows\nstages:\n  ingest:\n    uses: ingest\n    with:\n      \
    source: { paths: [rows.csv] }\n      columns: { text: text, id: id }\n      scrub: { policy: policy.yaml, key: { file: key } }\n";

const POLICY: &str = "version: 1\nextends: standard\nentities: { phone: hmac, email: seal }\n\
    patterns:\n- { name: ticket_id, regex: 'TICKET-[0-9]{6}' }\nallow: { values: [support@example.com] }\n";

/// A folder with rows, a policy and a key.
fn project() -> Project {
    let project = Project::new();
    project.write("rows.csv", ROWS);
    project.write("pipeline.yaml", INGEST);
    project.write("policy.yaml", POLICY);
    project.pipe(&["keygen", "key"]).code(0).prints(&["key: key "]);
    project
}

fn texts(project: &Project) -> Vec<String> {
    Table::of_split(&project.artifact("ingest"), "all").strings("text")
}

#[test]
fn a_policy_file_says_what_becomes_of_each_type() {
    let project = project();
    project.run(&[]).code(0);
    let rows = texts(&project);
    let token = rows[0].split(' ').nth(1).unwrap().to_owned();
    assert!(token.starts_with("<PHONE:") && rows[0].ends_with("about <TICKET_ID>"), "{}", rows[0]);
    assert!(rows[1].starts_with(&format!("or {token} or write to <EMAIL:sealed:")), "{}", rows[1]);
    assert_eq!(rows[2], "or to support@example.com");
    let policy = read_json(&project.artifact("ingest").join("scrub.json"));
    let id = policy["key"].as_str().unwrap();
    assert!(id.len() == 8 && !policy.to_string().contains("support"));
    // The policy's name and place do not count, its content and the key do.
    std::fs::rename(project.path("policy.yaml"), project.path("mine.yaml")).unwrap();
    project.edit("policy.yaml", "mine.yaml");
    project.run(&[]).code(0);
    assert!(project.last_run().ran().is_empty());
    project.write("mine.yaml", POLICY.replace("phone: hmac", "phone: redact"));
    project.run(&[]).code(0);
    assert_eq!(texts(&project)[0], "Call  about <TICKET_ID>");
    std::fs::remove_file(project.path("key")).unwrap();
    project.pipe(&["keygen", "key"]).code(0);
    project.run(&[]).code(0);
    assert_eq!(project.last_run().ran(), ["ingest"]);
    assert_ne!(read_json(&project.artifact("ingest").join("scrub.json"))["key"], id);
}

#[test]
fn what_is_wrong_with_a_policy_or_a_key_is_told_with_its_place() {
    let project = project();
    for (policy, words) in [
        (POLICY.replace("phone: hmac", "phne: hmac"), ["policy.yaml:3:13", "did you mean `phone`?"]),
        (POLICY.replace("phone: hmac", "phone: hmak"), ["policy.yaml:3:20", "there is no operator `hmak`"]),
        (POLICY.replace("{6}", "*"), ["policy.yaml:5:", "no upper length"]),
        (POLICY.replace("[0-9]{6}", "[0-9"), ["policy.yaml:5:", "at its character 8"]),
    ] {
        project.write("policy.yaml", policy);
        project.pipe(&["validate", "pipeline.yaml"]).fails(2, &words[1..]);
        let error = project.run(&[]).fails(2, &words[1..]);
        assert!(error.stderr.contains(&words[0].replace("policy.yaml:", "")) || error.stderr.contains(words[0]), "{}", error.stderr);
        assert!(error.stderr.contains('^'), "{}", error.stderr);
    }
    project.write("policy.yaml", POLICY);
    std::fs::set_permissions(project.path("key"), PermissionsExt::from_mode(0o644)).unwrap();
    project.run(&[]).fails(2, &["chmod 600"]);
    project.edit("{ file: key }", "{ env: PIPE_TEST_KEY }");
    let run = |key: &str| Outcome::of(command(pipe(), &project.root).args(project.run_arguments(&[])).env("PIPE_TEST_KEY", key));
    let secret = std::fs::read_to_string(project.path("key")).unwrap();
    let error = run("hunter2").fails(2, &["the environment variable PIPE_TEST_KEY holds no key"]);
    assert!(!error.stderr.contains("hunter2"));
    run(&secret).code(0);
    project.edit(", key: { env: PIPE_TEST_KEY }", "");
    project.run(&[]).fails(2, &["needs a key", "pipe keygen"]);
    // Nothing that a run leaves shows the key.
    let digits = secret.trim().strip_prefix("pipe-key-1:").unwrap();
    for file in crate::project::files_below(&project.cache()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(16).any(|window| window == &digits.as_bytes()[..16]), "{} holds the key", file.display());
    }
}

#[test]
fn sealed_values_come_back_with_their_key_alone() {
    let project = project();
    project.run(&[]).code(0);
    let rows = project.artifact("ingest");
    let rows = rows.to_str().unwrap();
    project.pipe(&["keygen", "key"]).fails(2, &["left as it is"]);
    project.pipe(&["unseal", rows, "--key-file", "key"]).code(0).prints(&["write to Jane@Example.com", "<PHONE:", r#""id":"b""#]);
    project.pipe(&["unseal", rows, "--key-file", "key", "-o", "clear.parquet"]).code(0);
    let clear = Table::read(&project.path("clear.parquet"));
    assert!(clear.strings("text")[1].ends_with("write to Jane@Example.com"));
    assert_eq!(std::fs::metadata(project.path("clear.parquet")).unwrap().permissions().mode() & 0o777, 0o600);
    project.pipe(&["unseal", rows, "--key-file", "key", "--column", "id"]).code(0).prints(&["<EMAIL:sealed:"]);
    project.pipe(&["unseal", rows, "--key-file", "key", "--column", "txet"]).fails(2, &["did you mean `text`?"]);
    // Another key opens nothing, and nothing is written.
    project.pipe(&["keygen", "other"]).code(0);
    let refused =
        project.pipe(&["unseal", rows, "--key-file", "other", "-o", "none.jsonl"]).fails(2, &["this key opens none of the 1 sealed values"]);
    assert!(refused.stdout.is_empty() && !project.path("none.jsonl").exists());
    // Lines, also from standard input.
    let sealed = texts(&project).join("\n") + "\n";
    project.write("lines.txt", &sealed);
    project.pipe(&["unseal", "lines.txt", "--key-file", "key"]).code(0).prints(&["to Jane@Example.com\nor to support"]);
    let lines = std::fs::File::open(project.path("lines.txt")).unwrap();
    let piped = Outcome::of(command(pipe(), &project.root).args(["unseal", "-", "--key-file", "key"]).stdin(Stdio::from(lines)));
    piped.code(0).prints(&["to Jane@Example.com\nor to support"]);
}

#[test]
fn a_recipient_is_a_pair_of_keys() {
    let project = Project::new();
    let made = project.pipe(&["keygen", "--recipient", "secret"]).code(0);
    assert!(made.stdout.starts_with("pipe-recipient-") && made.stdout.lines().count() == 1, "{}", made.stdout);
    assert!(std::fs::read_to_string(project.path("secret")).unwrap().starts_with("pipe-secret-"));
    assert_eq!(std::fs::metadata(project.path("secret")).unwrap().permissions().mode() & 0o777, 0o600);
    write_strings(&project.path("rows.parquet"), &[("text", vec!["x".into()])]);
    project.pipe(&["unseal", "rows.parquet", "--secret", "secret"]).fails(2, &["holds no sealed records"]);
}

#[test]
fn names_are_found_by_a_model() {
    let project = Project::new();
    copy_folder(&fixtures().join("tiny-ner"), &project.path("ner"));
    let words = "so it goes and goes ".repeat(10);
    project.write("rows.csv", format!("text\nGrizzelda Fenwick met me in ATLANTIS.\n\"{words}, said 小萤\"\nnobody\n"));
    project.write("pipeline.yaml", INGEST.replace(", id: id", "").replace("policy: policy.yaml, key: { file: key }", "ner: { model: ner }"));
    project.run(&[]).code(0);
    assert_eq!(texts(&project), ["<PERSON> met me in <ADDRESS>.".to_owned(), format!("{words}, said <PERSON>"), "nobody".to_owned()]);
    // Its files count, their place does not.
    std::fs::rename(project.path("ner"), project.path("model-of-names")).unwrap();
    project.edit("model: ner", "model: model-of-names");
    project.run(&[]).code(0);
    assert!(project.last_run().ran().is_empty());
    std::fs::remove_file(project.path("model-of-names/config.json")).unwrap();
    project.run(&[]).fails(12, &["has no config.json"]);
}

#[test]
fn a_model_asks_for_the_key_that_its_rows_were_scrubbed_with() {
    let project = Project::new();
    project.pipe(&["keygen", "key"]).code(0);
    project.pipe(&["keygen", "other"]).code(0);
    project.edit("scrub: { policy: standard }", "scrub: { operators: { user_handle: hmac }, key: { file: key } }");
    project.run(&[]).code(0);
    let id = read_json(&project.path("out/model/pipe.json"))["scrub"]["key"].as_str().unwrap().to_owned();
    let predict =
        |more: &[&str]| project.pipe(&[&["predict", "out/model", "new-rows.csv", "-o", "scores.parquet", "--log-format", "text"], more].concat());
    predict(&[]).fails(2, &[&format!("needs the key {id}"), "--key-file"]);
    predict(&["--key-file", "other"]).fails(2, &[&format!("needs the key {id}")]);
    predict(&["--key-file", "key"]).code(0).prints(&["rows scored"]);
    predict(&["--no-scrub"]).code(0);
    // In a pipeline that scores other rows.
    let score = "version: 1\nname: score\nstages:\n  rows:\n    uses: ingest\n    with:\n      source: { paths: [new-rows.csv] }\n      \
                 columns: { text: text }\n      scrub: { policy: none }\n  score: { uses: predict, from: rows, with: { model: out/model } }\n";
    project.write("pipeline.yaml", score);
    project.run(&[]).fails(2, &[&format!("needs the key {id}"), "key: { file: … }"]);
    project.edit("model: out/model", "model: out/model, key: { file: key }");
    project.run(&[]).code(0);
}

#[test]
fn a_model_brings_what_is_done_with_whole_columns() {
    let project = Project::finished();
    let path = project.path("out/model/pipe.json");
    let mut provenance = read_json(&path);
    provenance["scrub"]["columns"] = serde_json::json!({"note": {"operator": "redact", "keep_last": 0}});
    std::fs::write(&path, provenance.to_string()).unwrap();
    project.write("rows.csv", "text,note\nhello,Bo Li of room 12\n");
    project.write(
        "pipeline.yaml",
        "version: 1\nname: model\nstages:\n  ingest:\n    uses: ingest\n    with:\n      source: { paths: [rows.csv] }\n      columns: { text: text, extra: { note: {} } }\n      scrub: { model: out/model }\n",
    );
    project.run(&[]).code(0);
    assert_eq!(Table::of_split(&project.artifact("ingest"), "all").strings("note"), [""]);
}
