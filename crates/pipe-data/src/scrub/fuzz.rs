//! Whatever a text holds: no panic, hits in order on character boundaries, linear time, and clean for good.
//!
//! Few cases each, so that they run with all other tests. For a million:
//! `PROPTEST_CASES=1000000 cargo test --release -p pipe-data scrub::fuzz`.

use proptest::prelude::*;

use super::tests::{ALL, STANDARD};
use super::*;

/// Values, and what stands around values: put together in any order, cut and joined, they ask more of the parsers than
/// characters at random do.
const PIECES: &[&str] = &[
    "jane.doe@example.com",
    "@someone",
    "https://user:pw@example.com/a?token=abcdef12",
    "www.example.co.uk",
    "415-555-0123",
    "+44 20 7946 0018",
    "(0755) 1234567转801",
    "13812345678",
    "4111 1111 1111 1111",
    "GB29NWBK60161331926819",
    "536-22-1234",
    "11010519491231002X",
    "91110108MA01YBNX62",
    "京A12345",
    "192.0.2.17",
    "2001:db8::1",
    "00-1B-44-11-3A-B7",
    "39.9042, 116.4074",
    "40°26′46″N",
    "1990-03-07",
    "March 7, 1990",
    "1990年3月7日",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0In0.Fake_-abc",
    "eyJABC",
    "sk-proj-AAAAAAAAAAAAAAAA1",
    "AKIAIOSFODNN7EXAMPLE",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "12 Main Street",
    "Apt. 604",
    "Hauptstraße 7",
    "SW1A 1AA",
    "IL 62704",
    "北京市朝阳区建国路100号",
    "王小明",
    "先生",
    "收件人：",
    "微信号",
    "密码是",
    "出生",
    "<PHONE>",
    "<EMAIL:abcdefghijklmnop>",
    "Mr. ",
    "my name is ",
    "Name: ",
    "phone ",
    "card number ",
    "passport number ",
    "date of birth",
    "password=",
    "version ",
    "order no ",
    "zip ",
    " ext. 12",
    " and ",
    ", ",
    ". ",
    ": ",
    " ",
    "\n",
    "-",
    "'s ",
    "/",
    "(",
    ")",
    "，",
    "１２３",
    "\u{200b}",
    "\u{a0}",
    "é",
    "7",
    "12",
    "A",
    "smith",
];

/// Some of [`PIECES`], of which characters are left out, doubled or changed for those of others.
fn pieces() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8);
    (proptest::collection::vec(prop::sample::select(PIECES), 1..12), proptest::collection::vec(change, 0..6)).prop_map(|(pieces, changes)| {
        let mut text: Vec<char> = pieces.concat().chars().collect();
        for (at, other, kind) in changes {
            if text.is_empty() {
                break;
            }
            let (at, other) = (at.index(text.len()), text[other.index(text.len())]);
            match kind {
                0 => drop(text.remove(at)),
                1 => text.insert(at, other),
                2 => text[at] = other,
                _ => text.truncate(at),
            }
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(crate::read::fuzz::config(2_000))]

    /// What is put together of values and their neighbours: read, in order, and clean for good.
    #[test]
    fn pieces_of_values_are_read(text in pieces()) {
        let mut from = 0;
        for hit in ALL.find(&text) {
            prop_assert!(from <= hit.start && hit.start < hit.end);
            prop_assert!(text.is_char_boundary(hit.start) && text.is_char_boundary(hit.end));
            from = hit.end;
        }
        let clean = ALL.scrub(&text, &mut ScrubCounts::default()).text.into_owned();
        prop_assert_eq!(ALL.residual(&clean), 0);
        STANDARD.scrub(&text, &mut ScrubCounts::default());
    }

    /// Any text: no panic, hits in order on character boundaries, and scrubbing again changes nothing.
    #[test]
    fn any_text_is_read(text in "(?s)[ -~\\n王张三路号省市区室京沪年月日生微信密码：。，０-９\u{200b}\u{a0}é—@]{0,120}") {
        let hits = ALL.find(&text);
        let mut from = 0;
        for hit in &hits {
            prop_assert!(from <= hit.start && hit.start < hit.end);
            prop_assert!(text.is_char_boundary(hit.start) && text.is_char_boundary(hit.end));
            from = hit.end;
        }
        let clean = ALL.scrub(&text, &mut ScrubCounts::default()).text.into_owned();
        prop_assert_eq!(ALL.residual(&clean), 0);
        prop_assert_eq!(ALL.scrub(&clean, &mut ScrubCounts::default()).text, clean.as_str());
    }

    #[test]
    fn any_characters_are_read(text in "\\PC{0,80}") {
        ALL.find(&text);
    }

    /// Values that need no context, between neighbours of both languages.
    #[test]
    fn planted_values_of_every_type_do_not_survive(
        which in 0usize..14, before in "(call |你好|电话：|\\(|，|: |\n|his |卡号)", behind in "(| now|谢谢|。|，|\n|\\)| and)", n in 0u32..10_000,
    ) {
        let value = match which {
            0 => format!("user{n}@example.com"),
            1 => format!("1381234{n:04}"),
            2 => format!("+44 20 7946 {n:04}"),
            3 => format!("415-555-{n:04}"),
            4 => "4111 1111 1111 1111".to_owned(),
            5 => "GB29NWBK60161331926819".to_owned(),
            6 => format!("536-22-{:04}", n % 9_999 + 1),
            7 => "11010519491231002X".to_owned(),
            8 => format!("京A1{n:04}"),
            9 => format!("192.0.2.{}", n % 256),
            10 => "91110108MA01YBNX62".to_owned(),
            11 => format!("39.{n:04}1, 116.{n:04}2"),
            12 => format!("AKIAIOSFODNN{:08}", n),
            _ => format!("https://example.com/p/{n}?q=1"),
        };
        let text = format!("{before}{value}{behind}");
        let clean = ALL.scrub(&text, &mut ScrubCounts::default()).text.into_owned();
        prop_assert!(!clean.contains(&value), "type {which} survived");
        prop_assert_eq!(ALL.scrub(&clean, &mut ScrubCounts::default()).text, clean.as_str());
    }
}

#[test]
fn hostile_texts_take_linear_time() {
    // Quadratic work on this much would take minutes, and the test runner's patience with it.
    for unit in [
        "1",
        "@",
        ".",
        "a.",
        "1-",
        "a@",
        "1:",
        "::",
        "www.",
        "http://",
        "1 ",
        "(0",
        "+1",
        "０",
        "a-",
        "key=",
        "sk-1",
        "eyJ1.",
        "-----BEGIN PRIVATE KEY-----",
        "路",
        "在路",
        "区1号",
        "先生",
        "王先生",
        "GB12 ",
        "Mr. A ",
        "12 Main ",
        "http://))",
        "微信",
        "39.9042,",
        "1_",
    ] {
        ALL.find(&unit.repeat((1 << 16) / unit.len()));
    }
}
