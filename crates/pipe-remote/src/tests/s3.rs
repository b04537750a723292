//! S3: objects, listings over several pages, prefixes.

use super::{Bench, names};
use crate::testing::Fault;
use crate::{Access, Found};

fn filled() -> Bench {
    let bench = Bench::new();
    for key in ["data/c.csv", "data/a.csv", "data/b 1.csv", "data/x/d.csv", "data/e.json", "database/f.csv", "g.csv"] {
        bench.server.put(&format!("/bucket/{key}"), key.as_bytes());
    }
    bench
}

#[test]
fn an_object_is_fetched_once() {
    let bench = filled();
    let first = bench.fetch("s3://bucket/data/b 1.csv").unwrap();
    assert_eq!(std::fs::read(&first[0].path).unwrap(), b"data/b 1.csv");
    assert_eq!((first[0].name.as_str(), first[0].path.file_name().unwrap().to_str().unwrap()), ("s3://bucket/data/b 1.csv", "b_1.csv"));
    assert_eq!(bench.fetch("s3://bucket/data/b 1.csv").unwrap(), first);
    assert_eq!((bench.server.count("GET", "/bucket/data"), bench.server.count("HEAD", "/bucket/data")), (1, 2));
    let signed = bench.server.requests().iter().all(|request| request.headers["authorization"].starts_with("AWS4-HMAC-SHA256"));
    assert!(signed);
}

#[test]
fn a_pattern_is_listed_page_by_page_and_sorted() {
    let bench = filled();
    let found = bench.fetch("s3://bucket/data/*.csv").unwrap();
    assert_eq!(names(&found), ["s3://bucket/data/a.csv", "s3://bucket/data/b 1.csv", "s3://bucket/data/c.csv"]);
    assert_eq!(bench.server.count("GET", "/bucket/data"), 3);
    assert_eq!(names(&bench.fetch("s3://bucket/**/*.csv").unwrap()).len(), 6);
    assert!(bench.server.requests().iter().any(|request| request.query.contains("continuation-token=")));
    assert_eq!(bench.fetch("s3://bucket/data/*.csv").unwrap(), found);
    assert_eq!(bench.server.count("GET", "/bucket/data/"), 4, "the second pattern brought d.csv, the third nothing");
}

#[test]
fn a_changed_object_comes_again() {
    let bench = filled();
    bench.fetch("s3://bucket/data/*.csv").unwrap();
    bench.server.put("/bucket/data/a.csv", b"changed");
    let Found::Stale(reasons) = bench.files("s3://bucket/data/*.csv", Access::Look).unwrap() else { panic!("it changed") };
    assert_eq!(reasons, ["s3://bucket/data/a.csv: changed since it was fetched"]);
    let found = bench.fetch("s3://bucket/data/*.csv").unwrap();
    assert_eq!(std::fs::read(&found[0].path).unwrap(), b"changed");
    assert_eq!(bench.server.count("GET", "/bucket/data"), 4);
}

#[test]
fn a_prefix_is_a_folder() {
    let bench = Bench::new();
    for key in ["models/m/config.json", "models/m/model.safetensors", "models/m/optimizer.pt", "models/m2/config.json"] {
        bench.server.put(&format!("/bucket/{key}"), key.as_bytes());
    }
    let folder = bench.fetch_folder("s3://bucket/models/m/").unwrap();
    assert_eq!(folder.files, ["config.json", "model.safetensors"]);
    assert_eq!(std::fs::read(folder.path.join("config.json")).unwrap(), b"models/m/config.json");
    assert_eq!(bench.fetch_folder("s3://bucket/models/m").unwrap().path, folder.path);
}

#[test]
fn offline_serves_the_last_listing() {
    let mut bench = filled();
    let found = bench.fetch("s3://bucket/data/*.csv").unwrap();
    bench.offline = true;
    let asked = bench.server.requests().len();
    assert_eq!(bench.fetch("s3://bucket/data/*.csv").unwrap(), found);
    assert_eq!(bench.fetch("s3://bucket/data/a.csv").unwrap(), found[..1]);
    assert_eq!(bench.fetch("s3://bucket/g.csv").unwrap_err().class.exit_code(), 12);
    assert_eq!(bench.server.requests().len(), asked);
}

#[test]
fn faults_are_told_apart() {
    let mut bench = filled();
    bench.server.fail("/bucket", [Fault::Status(503), Fault::Hangup]);
    bench.server.fail("/bucket/data/a.csv", [Fault::Status(500), Fault::Short(3)]);
    bench.server.fail("/bucket/data/c.csv", [Fault::RetryAfter(503, "0".to_owned())]);
    assert_eq!(bench.fetch("s3://bucket/data/*.csv").unwrap().len(), 3);

    let error = bench.fetch("s3://bucket/none.csv").unwrap_err();
    assert!(error.message.contains("there is no s3://bucket/none.csv"), "{error}");
    let error = bench.fetch("s3://nowhere/*.csv").unwrap_err();
    assert!(error.message.contains("there is no s3://nowhere/"), "{error}");
    bench.server.always("/bucket/g.csv", Fault::Status(403));
    let error = bench.fetch("s3://bucket/g.csv").unwrap_err();
    assert!(error.hint.unwrap().contains("AWS_ACCESS_KEY_ID"));
    bench.server.always("/bucket/g.csv", Fault::Status(301));
    let error = bench.fetch("s3://bucket/g.csv").unwrap_err();
    assert!(error.hint.unwrap().contains("AWS_REGION"));
    assert_eq!(bench.server.count("HEAD", "/bucket/g.csv"), 2);

    bench.set("AWS_ENDPOINT_URL", "http://example.invalid");
    let error = bench.fetch("s3://bucket/g.csv").unwrap_err();
    assert!(error.message.contains("plain HTTP"), "{error}");
}

#[test]
fn a_bucket_without_credentials_says_so() {
    let mut bench = filled();
    bench.variables.retain(|name, _| !name.contains("KEY"));
    // In place of the address of the cloud's own metadata service.
    let metadata = bench.server.url();
    bench.set("AWS_METADATA_ENDPOINT", &metadata);
    let error = bench.fetch("s3://bucket/g.csv").unwrap_err();
    assert!(error.message.contains("no AWS credentials"), "{error}");
    bench.set("AWS_SKIP_SIGNATURE", "true");
    assert_eq!(bench.content("s3://bucket/g.csv"), b"g.csv");
}
