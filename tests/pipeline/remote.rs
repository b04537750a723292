//! Sources and models named by URL, from a server on the loopback interface that stands in for a web server, an S3 store and
//! the hub.

use pipe_remote::testing::{Fault, Server};

use crate::project::{Outcome, Project, command, fixtures, pipe};

/// A project and a server that has its sources.
struct Bench {
    project: Project,
    server: Server,
}

impl Bench {
    fn new() -> Bench {
        let (project, server) = (Project::new(), Server::start());
        server.put("/corpus/tweets.csv", &std::fs::read(project.path("tweets.csv")).unwrap());
        std::fs::remove_file(project.path("tweets.csv")).unwrap();
        // A test does not wait as long as a night does.
        project.edit("name: sample", "name: sample\nrun: { retries: 2, backoff: 1ms }");
        Bench { project, server }
    }

    fn source(&self, url: &str) {
        self.project.edit("paths: [tweets.csv]", &format!("paths: [\"{url}\"]"));
    }

    fn pipe(&self, arguments: &[&str]) -> Outcome {
        let mut run = command(pipe(), &self.project.root);
        run.args(arguments).envs([("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "hush-hush"), ("AWS_REGION", "us-east-1")]);
        run.env("AWS_ENDPOINT_URL", self.server.url()).env("HF_ENDPOINT", self.server.url()).env("HF_TOKEN", "hf_hush");
        let outcome = Outcome::of(&mut run);
        assert!(!outcome.stderr.contains("hush") && !outcome.stdout.contains("hush"), "a secret is told: {}", outcome.stderr);
        outcome
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.pipe(&self.project.run_arguments(arguments))
    }
}

#[test]
fn a_source_on_a_web_server_is_fetched_once_and_again_when_it_changes() {
    let bench = Bench::new();
    bench.source(&format!("{}/corpus/tweets.csv?token=hush", bench.server.url()));
    bench.pipe(&["status", "pipeline.yaml"]).code(0).prints(&["ingest      stale: source http://", "not fetched yet"]);
    let dry = bench.run(&["--dry-run", "ingest"]).code(0);
    assert!(dry.stderr.contains("ingest would run: source http://"), "{}", dry.stderr);
    assert_eq!(bench.server.count("GET", "/corpus"), 0, "looking fetches nothing");
    bench.server.fail("/corpus/tweets.csv", [Fault::Status(503), Fault::Short(100)]);
    let outcome = bench.run(&["tokenize"]).code(0);
    assert!(outcome.stderr.contains("trying again"), "{}", outcome.stderr);
    let fetched = bench.server.count("GET", "/corpus");
    bench.run(&["tokenize"]).code(0).prints(&["2 stages up to date"]);
    bench.pipe(&["explain", "pipeline.yaml", "ingest"]).code(0).prints(&["up to date"]);
    assert_eq!(bench.server.count("GET", "/corpus"), fetched, "what did not change is not fetched again");

    let mut rows = std::fs::read(fixtures().join("tweets-sample.csv")).unwrap();
    rows.extend_from_slice(b"neutral,1,the museum opens at ten\n");
    bench.server.put("/corpus/tweets.csv", &rows);
    bench.pipe(&["explain", "pipeline.yaml", "ingest"]).code(0).prints(&["ingest: stale", "changed since it was fetched"]);
    bench.run(&["tokenize"]).code(0);
    assert_eq!(bench.project.last_run().stage("ingest")["reason"].as_str().unwrap().split(": content changed").count(), 2);
    // The server is gone: what was fetched is still there for those who say so.
    let Bench { project, server } = bench;
    drop(server);
    project.run(&["tokenize", "--offline"]).code(0).prints(&["2 stages up to date"]);
    project.run(&["tokenize"]).fails(12, &["stage `ingest`", "3 tries"]);
}

#[test]
fn what_will_not_come_is_not_asked_for_again() {
    let bench = Bench::new();
    bench.source(&format!("{}/corpus/none.csv", bench.server.url()));
    bench.run(&["ingest"]).fails(12, &["stage `ingest`", "/corpus/none.csv", "404"]);
    let asked = bench.server.requests().len();
    assert!(asked <= 2, "{asked} requests");
    assert!(bench.project.keys().is_empty());
}

#[test]
fn objects_of_a_store_are_found_by_pattern() {
    let bench = Bench::new();
    for part in ["a", "b", "c"] {
        let rows: String = (0..30).map(|id| format!("{},1,the {part} museum number {id}\n", ["good", "bad"][id % 2])).collect();
        bench.server.put(&format!("/corpus/2026/{part}.csv"), format!("sentiment,confidence,text\n{rows}").as_bytes());
    }
    bench.source("s3://corpus/2026/*.csv");
    bench.run(&["ingest"]).code(0);
    let sources = bench.project.last_run().stage("ingest")["sources"].clone();
    let names: Vec<&str> = sources.as_array().unwrap().iter().map(|source| source["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["s3://corpus/2026/a.csv", "s3://corpus/2026/b.csv", "s3://corpus/2026/c.csv"]);
    bench.server.put("/corpus/2026/d.csv", b"sentiment,confidence,text\ngood,1,the last museum\n");
    bench.run(&["ingest"]).code(0);
    assert_eq!(bench.project.last_run().stage("ingest")["reason"], "source s3://corpus/2026/d.csv: new, 1 row");
    bench.run(&["ingest", "--set", "ingest.with.source.min_files=9", "--force", "ingest"]).fails(12, &["4 source files are there"]);
}

#[test]
fn a_model_and_a_data_set_come_from_the_hub() {
    let bench = Bench::new();
    bench.server.require_token("hf_hush");
    let model: Vec<(String, Vec<u8>)> =
        ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"]
            .map(|name| (name.to_owned(), std::fs::read(bench.project.path("model").join(name)).unwrap()))
            .into();
    let files = |extra: &'static [(&'static str, &'static [u8])]| {
        let all = model.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).chain(extra.iter().copied());
        all.collect::<Vec<(&str, &[u8])>>().into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_owned())).collect::<Vec<_>>()
    };
    let commit = |files: &[(String, Vec<u8>)]| {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        bench.server.commit("models/tiny/bert", "main", &files, true)
    };
    let first = commit(&files(&[("pytorch_model.bin", b"pickle")]));
    let rows = std::fs::read(fixtures().join("tweets-sample.csv")).unwrap();
    bench.server.commit("datasets/tiny/tweets", "main", &[("data/train.csv", &rows), ("README.md", b"#")], true);
    bench.source("hf://datasets/tiny/tweets/data/*.csv");
    bench.project.edit("base: model", "base: hf://tiny/bert");
    std::fs::remove_dir_all(bench.project.path("model")).unwrap();
    bench.run(&["train"]).code(0);
    assert_eq!(bench.server.count("GET", "/tiny/bert/resolve") > 0, bench.server.count("GET", &format!("/tiny/bert/resolve/{first}")) > 0);
    assert_eq!(bench.server.count("GET", &format!("/tiny/bert/resolve/{first}/pytorch_model.bin")), 0, "pickle is not wanted");
    // The same bytes as from a folder.
    assert_eq!(bench.project.last_run().artifact("tokenize"), Project::finished().last_run().artifact("tokenize"));
    assert_eq!(bench.project.last_run().artifact("train"), Project::finished().last_run().artifact("train"));

    // The branch moves without a change of what is read: nothing reruns. A pinned revision asks nobody.
    commit(&files(&[("README.md", b"new")]));
    bench.run(&["train"]).code(0).prints(&["3 stages up to date"]);
    bench.project.edit("base: hf://tiny/bert", &format!("base: hf://tiny/bert@{first}"));
    bench.run(&["train"]).code(0).prints(&["3 stages up to date"]);
    let asked = bench.server.count("GET", "/api/models");
    bench.run(&["train"]).code(0);
    assert_eq!(bench.server.count("GET", "/api/models"), asked);
    bench.server.require_token("another");
    bench.run(&["train", "--var", "base=hf://tiny/bert"]).fails(12, &["hf://datasets/tiny/tweets", "HF_TOKEN"]);
    bench.run(&["train", "--var", "base=hf://tiny/bert", "--offline"]).code(0);
}
