//! The hub: commits, branches, tokens, model folders.

use super::{Bench, names, said};
use crate::testing::{Fault, Server};
use crate::{Access, Found, FoundFolder};

const MODEL: [(&str, &[u8]); 5] = [
    ("config.json", b"{}"),
    ("model.safetensors", b"weights"),
    ("pytorch_model.bin", b"pickle"),
    ("README.md", b"# model"),
    ("onnx/config.json", b"{}"),
];

#[test]
fn a_model_folder_holds_what_is_wanted_under_its_names() {
    let bench = Bench::new();
    for blobs in [true, false] {
        bench.server.commit("models/o/n", "main", &MODEL, blobs);
        let folder = bench.fetch_folder("hf://o/n").unwrap();
        assert_eq!((folder.name.as_str(), folder.files.as_slice()), ("hf://o/n", ["config.json", "model.safetensors"].map(String::from).as_slice()));
        assert_eq!(std::fs::read(folder.path.join("model.safetensors")).unwrap(), b"weights");
        assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 2);
    }
    assert_eq!(bench.server.count("GET", "/o/n/resolve"), 4, "two files, found by two kinds of validators");
}

#[test]
fn a_branch_is_asked_for_each_time_and_only_changed_files_come() {
    let bench = Bench::new();
    bench.server.commit("models/o/n", "main", &MODEL, true);
    let old = bench.fetch_folder("hf://o/n").unwrap();
    assert_eq!(bench.fetch_folder("hf://o/n").unwrap(), old);
    assert_eq!((bench.server.count("GET", "/api"), bench.server.count("GET", "/o/n/resolve")), (2, 2));

    let mut changed = MODEL;
    changed[0].1 = b"{\"changed\":1}";
    bench.server.commit("models/o/n", "main", &changed, true);
    let FoundFolder::Stale(reasons) = bench.folder("hf://o/n", Access::Look).unwrap() else { panic!("the branch moved") };
    assert_eq!(reasons, ["hf://o/n/config.json: not fetched yet"]);
    let new = bench.fetch_folder("hf://o/n").unwrap();
    assert_ne!(new.path, old.path);
    assert_eq!(std::fs::read(new.path.join("config.json")).unwrap(), changed[0].1);
    assert_eq!(std::fs::read(old.path.join("config.json")).unwrap(), b"{}");
    assert_eq!(bench.server.count("GET", "/o/n/resolve"), 3, "the weights are the same");
}

#[test]
fn a_pinned_revision_is_asked_for_once() {
    let bench = Bench::new();
    for blobs in [true, false] {
        let commit = bench.server.commit(&format!("models/o/{blobs}"), "main", &MODEL, blobs);
        let url = format!("hf://o/{blobs}@{commit}");
        let folder = bench.fetch_folder(&url).unwrap();
        let asked = bench.server.requests().len();
        assert_eq!(bench.fetch_folder(&url).unwrap(), folder);
        assert_eq!(bench.folder(&url, Access::Look).unwrap(), FoundFolder::Here(folder));
        assert_eq!(bench.server.requests().len(), asked);
        bench.fetch(&format!("{url}/README.md")).unwrap();
        assert_eq!(bench.server.requests().len(), asked + 1, "a file more, without asking for the commit");
    }
}

#[test]
fn data_set_files_match_patterns_in_order() {
    let bench = Bench::new();
    let files: [(&str, &[u8]); 4] = [("data/b.csv", b"b"), ("data/a.csv", b"a"), ("data/x/c.csv", b"c"), ("README.md", b"r")];
    bench.server.commit("datasets/o/n", "refs/convert/parquet", &files, true);
    let url = "hf://datasets/o/n@refs/convert/parquet";
    let found = bench.fetch(&format!("{url}/data/*.csv")).unwrap();
    assert_eq!(names(&found), [format!("{url}/data/a.csv"), format!("{url}/data/b.csv")]);
    assert_eq!(bench.fetch(&format!("{url}/**/*.csv")).unwrap().len(), 3);
    let error = bench.fetch(&format!("{url}/data/aa.csv")).unwrap_err();
    assert_eq!((error.class.exit_code(), error.hint.as_deref()), (12, Some("did you mean `data/a.csv`?")));
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let mut bench = Bench::new();
    let cdn = Server::start();
    let commit = bench.server.commit("models/o/n", "main", &[("config.json", b"{}")], true);
    cdn.put("/blob", b"{}");
    bench.server.redirect(&format!("/o/n/resolve/{commit}/config.json"), &format!("{}/blob?signature=1", cdn.url()));
    bench.server.require_token("secret-token");

    let error = bench.fetch_folder("hf://o/n").unwrap_err();
    assert_eq!(error.class.exit_code(), 12);
    assert!(said(&error).contains("401") && error.hint.unwrap().contains("HF_TOKEN"));

    bench.set("HF_TOKEN", "secret-token\n");
    bench.fetch_folder("hf://o/n").unwrap();
    let sent = cdn.requests();
    assert_eq!((sent.len(), sent[0].query.as_str()), (1, "signature=1"));
    assert!(!format!("{sent:?}").contains("secret"), "{sent:?}");
}

#[test]
fn offline_serves_the_last_known_commit() {
    let mut bench = Bench::new();
    bench.server.commit("models/o/n", "main", &MODEL, true);
    let folder = bench.fetch_folder("hf://o/n").unwrap();
    let asked = bench.server.requests().len();
    bench.set("HF_HUB_OFFLINE", "1");
    assert_eq!(bench.fetch_folder("hf://o/n").unwrap(), folder);
    for unknown in ["hf://o/n/README.md", "hf://o/other/a.csv", "hf://o/n@v1/config.json"] {
        let error = bench.fetch(unknown).unwrap_err();
        assert!(error.class.exit_code() == 12 && error.message.contains("offline"), "{error}");
    }
    assert_eq!(bench.server.requests().len(), asked);
}

#[test]
fn content_that_is_not_what_the_hub_states_is_refused() {
    let bench = Bench::new();
    let commit = bench.server.commit("models/o/n", "main", &[("config.json", b"{}"), ("model.safetensors", b"weights")], true);
    bench.server.put(&format!("/o/n/resolve/{commit}/model.safetensors"), b"w3ights");
    let error = bench.fetch_folder("hf://o/n").unwrap_err();
    assert!(error.message.contains("SHA-256"), "{error}");
    bench.server.put(&format!("/o/n/resolve/{commit}/model.safetensors"), b"weights");
    bench.fetch_folder("hf://o/n").unwrap();
}

#[test]
fn names_that_lead_out_of_the_folder_are_not_taken() {
    let bench = Bench::new();
    bench.server.commit("models/o/n", "main", &[("../config.json", b"{}"), ("/etc/config.json", b"{}"), ("config.json", b"{}")], true);
    let folder = bench.remotes().folder("hf://o/n", &|_| true, Access::Fetch, &pipe_core::Silent).unwrap();
    let FoundFolder::Here(folder) = folder else { panic!("stale") };
    assert_eq!(folder.files, ["config.json"]);
}

#[test]
fn what_is_not_there_is_said() {
    let bench = Bench::new();
    bench.server.commit("models/o/n", "main", &[("README.md", b"")], true);
    let error = bench.fetch_folder("hf://o/missing").unwrap_err();
    assert!(error.message.contains("there is no hf://o/missing"), "{error}");
    let error = bench.fetch_folder("hf://o/n").unwrap_err();
    assert!(error.message.contains("none of the files"), "{error}");
    bench.server.put("/api/models/o/page/revision/main", b"<html>");
    let error = bench.fetch_folder("hf://o/page").unwrap_err();
    assert!(error.hint.unwrap().contains("HF_ENDPOINT"));
    bench.server.fail("/api/models/o/n/revision/main", [Fault::Status(502)]);
    assert!(matches!(bench.files("hf://o/n/README.md", Access::Look).unwrap(), Found::Stale(_)), "a look tries again too");
}
