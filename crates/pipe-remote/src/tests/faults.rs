//! What is tried again, what is not, what a broken download leaves, and what is never said.

use std::time::Instant;

use super::{Bench, Noted, said};
use crate::Access;
use crate::testing::Fault;

#[test]
fn passing_faults_are_tried_again_and_said() {
    let bench = Bench::new();
    for (name, faults) in [
        ("/a.csv", [Fault::Status(503), Fault::Hangup]),
        ("/b.csv", [Fault::Short(2), Fault::RetryAfter(429, "0".to_owned())]),
        ("/c.csv", [Fault::Status(408), Fault::Status(500)]),
    ] {
        bench.server.put(name, b"whole");
        bench.server.fail(name, faults.clone());
        let (progress, url) = (Noted::default(), bench.url(&format!("{name}?secret=1")));
        bench.remotes().files(&url, Access::Fetch, &progress).unwrap();
        let notes = progress.notes.into_inner().unwrap();
        assert_eq!(notes.len(), 2, "{faults:?}: {notes:?}");
        assert!(notes.iter().all(|note| note.contains("trying again in") && !note.contains("secret")), "{notes:?}");
        assert_eq!(bench.content(&url), b"whole");
    }
}

#[test]
fn tries_end_and_are_counted() {
    let bench = Bench::new();
    bench.server.put("/a.csv", b"a");
    bench.server.always("/a.csv", Fault::Status(503));
    let error = bench.fetch(&bench.url("/a.csv")).unwrap_err();
    assert_eq!(error.class.exit_code(), 12);
    assert!(error.message.contains("503") && error.message.contains("3 tries"), "{error}");
    assert_eq!(bench.server.count("GET", "/a.csv"), 3);
}

#[test]
fn a_server_that_is_not_there_is_tried_again() {
    let bench = Bench::new();
    // A port just freed could be another test's server by now; nobody serves on port 1.
    let error = bench.fetch("http://127.0.0.1:1/a.csv").unwrap_err();
    assert!(error.message.contains("refused") && error.message.contains("3 tries"), "{error}");
}

#[test]
fn lasting_faults_are_not_tried_again() {
    let bench = Bench::new();
    for status in [401, 403, 404, 410, 400] {
        let path = format!("/{status}.csv");
        bench.server.always(&path, Fault::Status(status));
        let error = bench.fetch(&bench.url(&path)).unwrap_err();
        assert_eq!(error.class.exit_code(), 12);
        assert!(error.message.contains(&status.to_string()) && error.message.contains(&path), "{error}");
        assert_eq!(bench.server.count("GET", &path), 1);
    }
}

#[test]
fn retry_after_takes_the_place_of_the_back_off() {
    let bench = Bench::new();
    bench.server.put("/a.csv", b"a");
    bench.server.fail("/a.csv", [Fault::RetryAfter(503, "1".to_owned())]);
    let start = Instant::now();
    bench.fetch(&bench.url("/a.csv")).unwrap();
    assert!(start.elapsed().as_millis() >= 1000);
}

#[test]
fn a_short_body_never_becomes_a_file() {
    let bench = Bench::new();
    bench.server.put("/a.csv", &[b'x'; 4096]);
    bench.server.always("/a.csv", Fault::Short(100));
    let error = bench.fetch(&bench.url("/a.csv")).unwrap_err();
    assert_eq!(error.class.exit_code(), 12);
    assert_eq!(bench.objects_and_partial(), (0, 0));
}

#[test]
fn an_interrupted_download_stops_at_once_and_leaves_nothing() {
    let bench = Bench::new();
    bench.server.put("/a.csv", &[b'x'; 4096]);
    bench.server.always("/a.csv", Fault::Stall(100));
    let progress = Noted { stop_after: 100, ..Noted::default() };
    let start = Instant::now();
    let error = bench.remotes().files(&bench.url("/a.csv"), Access::Fetch, &progress).unwrap_err();
    assert_eq!(error.class.exit_code(), 130);
    assert!(start.elapsed().as_secs() < 5, "the server stays silent for ever");
    assert_eq!(bench.objects_and_partial(), (0, 0));
}

#[test]
fn a_wait_can_be_interrupted() {
    let bench = Bench::new();
    bench.server.always("/a.csv", Fault::RetryAfter(503, "60".to_owned()));
    let start = Instant::now();
    let progress = Noted { stop_after: 0, ..Noted::default() };
    bench.remotes().files(&bench.url("/a.csv"), Access::Fetch, &progress).unwrap_err();
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn nothing_secret_is_ever_said() {
    let mut bench = Bench::new();
    bench.set("HF_TOKEN", "secret-token");
    bench.set("AWS_SESSION_TOKEN", "secret-session");
    let authority = bench.server.url().replace("http://", "");
    for status in [401, 403, 404, 418, 503] {
        for path in ["/a.csv", "/bucket/a.csv", "/bucket", "/api/models/o/n/revision/main"] {
            bench.server.always(path, Fault::Status(status));
        }
        for url in
            [&*format!("http://user:secret@{authority}/a.csv?X-Signature=secret#secret"), "s3://bucket/a.csv", "s3://bucket/*.csv", "hf://o/n/a.csv"]
        {
            let progress = Noted::default();
            let error = bench.remotes().files(url, Access::Fetch, &progress).unwrap_err();
            let all = format!("{}{:?}{error:?}", said(&error), progress.notes.into_inner().unwrap());
            assert!(!all.contains("secret") && !all.contains("key-id"), "{url} {status}: {all}");
        }
    }
    // User and password did go to the server, as HTTP has it.
    assert!(bench.server.requests().iter().any(|request| request.headers.get("authorization").is_some_and(|value| value.starts_with("Basic "))));
}
