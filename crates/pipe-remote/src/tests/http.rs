//! Plain web servers: validators, redirects, offline.

use super::{Bench, names};
use crate::testing::Says;
use crate::{Access, Found};

#[test]
fn what_has_not_changed_is_asked_for_and_not_downloaded() {
    let bench = Bench::new();
    for (path, says) in [("/tagged.csv", Says::Everything), ("/dated.csv", Says::Modified)] {
        bench.server.put_saying(path, b"a,b\n1,2\n", says);
        let url = bench.url(path);
        let first = bench.fetch(&url).unwrap();
        assert_eq!(first[0].path.extension().unwrap(), "csv");
        assert_eq!(bench.fetch(&url).unwrap(), first);
        assert_eq!((bench.server.count("GET", path), bench.server.count("HEAD", path)), (1, 1), "{path}");
    }
}

#[test]
fn what_has_changed_is_downloaded_to_another_path() {
    let bench = Bench::new();
    let url = bench.url("/a.csv");
    bench.server.put("/a.csv", b"old");
    let old = bench.fetch(&url).unwrap();
    bench.server.put("/a.csv", b"new");
    assert_eq!(bench.content(&url), b"new");
    assert_eq!(std::fs::read(&old[0].path).unwrap(), b"old", "whoever reads the old file goes on");
    assert_eq!(bench.server.count("GET", "/a.csv"), 2);
}

#[test]
fn without_a_validator_it_is_downloaded_each_time_to_the_same_path() {
    let bench = Bench::new();
    let url = bench.url("/a.csv");
    bench.server.put_saying("/a.csv", b"a", Says::Nothing);
    let first = bench.fetch(&url).unwrap();
    assert_eq!(bench.fetch(&url).unwrap(), first);
    assert_eq!(bench.server.count("GET", "/a.csv"), 2);
    let Found::Stale(reasons) = bench.files(&url, Access::Look).unwrap() else { panic!("a look cannot know") };
    assert!(reasons[0].contains("fetched each time"), "{reasons:?}");
}

#[test]
fn a_look_downloads_and_writes_nothing() {
    let bench = Bench::new();
    let url = bench.url("/a.csv");
    bench.server.put("/a.csv", b"old");
    assert_eq!(bench.files(&url, Access::Look).unwrap(), Found::Stale(vec![format!("{url}: not fetched yet")]));
    assert!(std::fs::read_dir(bench.mirror.path()).unwrap().next().is_none());
    let here = bench.fetch(&url).unwrap();
    assert_eq!(bench.files(&url, Access::Look).unwrap(), Found::Here(here));
    bench.server.put("/a.csv", b"new");
    assert_eq!(bench.files(&url, Access::Look).unwrap(), Found::Stale(vec![format!("{url}: changed since it was fetched")]));
    assert_eq!(bench.server.count("GET", "/"), 1);
}

#[test]
fn a_server_without_head_is_asked_with_get() {
    let bench = Bench::new();
    bench.server.refuse_head();
    bench.server.put("/a.csv", b"a");
    let url = bench.url("/a.csv");
    let first = bench.fetch(&url).unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&first[0].path).unwrap());
    let before = inode();
    assert_eq!(bench.fetch(&url).unwrap(), first);
    assert_eq!(inode(), before, "asked, not stored again");
}

#[test]
fn a_damaged_mirror_is_mended() {
    let bench = Bench::new();
    bench.server.put("/a.csv", b"whole");
    let url = bench.url("/a.csv");
    std::fs::write(&bench.fetch(&url).unwrap()[0].path, b"cut").unwrap();
    assert_eq!(bench.content(&url), b"whole");
}

#[test]
fn redirects_are_followed_and_the_query_tells_files_apart() {
    let bench = Bench::new();
    bench.server.put("/store/1", b"moved");
    bench.server.redirect("/a.csv", &bench.url("/store/1"));
    let files = bench.fetch(&bench.url("/a.csv?key=1")).unwrap();
    assert_eq!(names(&files), [bench.url("/a.csv")]);
    assert_eq!(files[0].path.file_name().unwrap(), "a.csv");
    bench.fetch(&bench.url("/a.csv?key=2")).unwrap();
    assert_eq!(bench.server.count("GET", "/store"), 2);
}

#[test]
fn offline_serves_what_was_fetched_last_and_asks_nobody() {
    let mut bench = Bench::new();
    bench.server.put("/a.csv", b"a");
    let url = bench.url("/a.csv");
    let here = bench.fetch(&url).unwrap();
    let asked = bench.server.requests().len();
    bench.offline = true;
    assert_eq!(bench.fetch(&url).unwrap(), here);
    let error = bench.fetch(&bench.url("/b.csv")).unwrap_err();
    assert_eq!(error.class.exit_code(), 12);
    assert!(error.hint.unwrap().contains("online"));
    assert_eq!(bench.server.requests().len(), asked);
}

#[test]
fn two_processes_may_fetch_the_same_file_at_once() {
    let bench = Bench::new();
    let bytes = vec![7; 1 << 20];
    bench.server.put("/a.bin", &bytes);
    let url = bench.url("/a.bin");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.content(&url))).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), bytes);
        }
    });
    assert_eq!(bench.objects_and_partial(), (1, 0));
}
