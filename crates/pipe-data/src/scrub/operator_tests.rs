//! What operators promise, over whole texts.

use std::path::Path;

use pipe_core::config::{KeySource, ScrubConfig};
use pipe_core::file::{SourceId, from_node, parse};
use proptest::prelude::*;

use super::unseal::Unsealer;
use super::*;

fn key(byte: u8) -> ScrubKey {
    ScrubKey::of_bytes([byte; 32])
}

/// A `scrub:` in YAML, with a key where it says so.
fn config(yaml: &str) -> ScrubConfig {
    let mut config: ScrubConfig = from_node(&parse(yaml, SourceId::FILE).unwrap()).unwrap();
    config.key = Some(KeySource { file: Some("key".into()), env: None });
    config
}

fn policy(yaml: &str) -> ScrubPolicy {
    ScrubPolicy::of_config(&config(yaml), Path::new("."), Some(&key(1))).unwrap()
}

fn scrubber(yaml: &str) -> Scrubber {
    Scrubber::new(&policy(yaml), Some(&key(1))).unwrap()
}

fn scrub(scrubber: &Scrubber, text: &str) -> String {
    scrubber.scrub(text, &mut ScrubCounts::default()).text.into_owned()
}

/// All types by one operator.
fn all(operator: &str) -> String {
    let operators: Vec<String> = Entity::ALL.iter().map(|entity| format!("{}: {operator}", entity.name())).collect();
    format!("{{operators: {{{}}}}}", operators.join(", "))
}

#[test]
fn each_operator_puts_something_else_in_the_place_of_a_value() {
    let text = "call 415-555-2671, 13812345678 or write to Jane@Example.com";
    for (operators, expected) in [
        ("phone: redact, email: redact", "call ,  or write to "),
        ("phone: {operator: mask, keep_last: 4}, email: mask", "call ***-***-2671, *******5678 or write to ****@*******.***"),
        ("phone: keep", "call 415-555-2671, 13812345678 or write to <EMAIL>"),
        ("phone: {operator: mask, keep_last: 40}", "call ***-***-****, *********** or write to <EMAIL>"),
    ] {
        assert_eq!(scrub(&scrubber(&format!("{{policy: minimal, operators: {{{operators}}}}}")), text), expected);
    }
    let hmac = scrub(&scrubber("{policy: minimal, operators: {phone: hmac}}"), text);
    let tokens: Vec<&str> = hmac.split('<').skip(1).collect();
    assert!(tokens.iter().all(|token| token.starts_with("PHONE:") || token.starts_with("EMAIL>")), "{hmac}");
    let surrogates = scrub(&scrubber("{policy: minimal, operators: {phone: surrogate, email: surrogate}}"), text);
    assert!(surrogates.contains("-555-01") && surrogates.contains("<PHONE_") && surrogates.contains("@example."), "{surrogates}");
    let dropping = scrubber("{operators: {phone: drop_row}}");
    let dropped = dropping.scrub(text, &mut ScrubCounts::default());
    assert!(dropped.drop_row && !dropped.text.contains("5678"));
    assert!(!dropping.scrub("Jane@example.com", &mut ScrubCounts::default()).drop_row);
}

#[test]
fn one_value_is_one_token_however_it_is_written_and_whatever_came_before() {
    for operator in ["hmac", "surrogate"] {
        let scrubber = scrubber(&all(operator));
        let of = |text: &str| scrub(&scrubber, text);
        for spelling in ["138 1234 5678", "+86 138-1234-5678", "１３８１２３４５６７８", "0086-13812345678"] {
            assert_eq!(of(spelling), of("13812345678"), "{operator}: {spelling}");
        }
        assert_eq!(of("a@example.com, b@example.com"), [of("a@example.com"), of("b@example.com")].join(", "));
        assert_eq!(of("b@example.com; A@Example.com"), [of("b@example.com"), of("a@example.com")].join("; "));
        assert_ne!(of("13812345678"), of("13812345679"));
        let other = Scrubber::new(&ScrubPolicy::of_config(&config(&all(operator)), Path::new("."), Some(&key(2))).unwrap(), Some(&key(2))).unwrap();
        assert_ne!(of("13812345678"), scrub(&other, "13812345678"));
    }
}

/// Changed, every token of every key would be another one.
#[test]
fn tokens_stay_what_they_are() {
    assert_eq!(key(1).id(), "03379af6");
    assert_eq!(scrub(&scrubber(&all("hmac")), "13812345678"), "<PHONE:ocpgdjindejlbple>");
    assert_eq!(scrub(&scrubber(&all("surrogate")), "13812345678"), "<PHONE_BOLKHGJNFJPM>");
    assert_eq!(scrub(&scrubber(&all("seal")), "13812345678"), "<PHONE:sealed:TmveLZWJIG4iJtbHsZ072czzDS-Li3Y3BE_W>");
}

#[test]
fn what_is_sealed_is_opened_by_its_key_alone() {
    let text = "打给138 1234 5678，或 jane@example.com \"quoted\"\\n";
    let sealed = scrub(&scrubber(&all("seal")), text);
    assert!(!sealed.contains("1234") && !sealed.contains("jane"));
    let open = |key: &ScrubKey, text: &str| {
        let mut unsealer = Unsealer::new(key, vec![]);
        let mut out = Vec::new();
        unsealer.lines(text.as_bytes(), Path::new("in"), &mut out, Path::new("out")).unwrap();
        (String::from_utf8(out).unwrap(), unsealer.opened(), unsealer.check().is_ok())
    };
    assert_eq!(open(&key(1), &sealed), (text.to_owned(), 2, true));
    assert_eq!(open(&key(2), &sealed), (sealed.clone(), 0, false));
    // A token of one type is none of another.
    assert_eq!(open(&key(1), &sealed.replace("PHONE", "EMAIL")).1, 1);
    // In JSON, values are quoted as it asks for.
    let whole = scrubber("{columns: {note: seal}}");
    let ColumnScrub::Whole(operator) = whole.column("note") else { panic!() };
    let token = whole.apply_whole("a \"b\"\n\\", operator, "note").unwrap();
    let line = serde_json::json!({"z": token, "note": [token], "n": 1.0}).to_string();
    let (opened, ..) = open(&key(1), &line);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&opened).unwrap(),
        serde_json::json!({"z": "a \"b\"\n\\", "note": ["a \"b\"\n\\"], "n": 1.0})
    );
    let mut one = Unsealer::new(&key(1), vec!["note".into()]);
    let mut out = Vec::new();
    one.lines(format!("{line}\n").as_bytes(), Path::new("in"), &mut out, Path::new("out")).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((one.opened(), value["z"].as_str().unwrap()), (1, token.as_ref()));
    assert!(out.ends_with(b"}\n"));
}

#[test]
fn a_whole_column_goes_whatever_is_in_it() {
    let scrubber = scrubber("{columns: {customer id: hmac, 姓名: surrogate, keep_me: keep, out: drop_row, text: redact}}");
    let whole = |value: &'static str, column: &str| {
        let ColumnScrub::Whole(operator) = scrubber.column(column) else { panic!() };
        scrubber.apply_whole(value, operator, column).map(Cow::into_owned)
    };
    let token = whole("C-17", "customer id").unwrap();
    assert!(token.starts_with("<CUSTOMER_ID:") && token == whole(" Ｃ-17", "customer id").unwrap(), "{token}");
    assert!(whole("张三", "姓名").unwrap().starts_with("<VALUE_"));
    assert_eq!(whole("C-17", "keep_me").as_deref(), Some("C-17"));
    assert_eq!(whole("C-17", "out"), None);
    assert_eq!(whole("", "customer id").as_deref(), Some(""));
    let texts = scrubber.scrub_column(vec!["a".into(), "b".into()], "text", &mut ScrubCounts::default()).unwrap();
    assert_eq!(texts, ["", ""]);
    assert_eq!(scrubber.column("other"), ColumnScrub::Scan);
}

#[test]
fn a_number_in_a_false_token_is_no_token() {
    for scrubber in [scrubber(&all("hmac")), scrubber(&all("seal")), scrubber(&all("surrogate")), scrubber("{}")] {
        for text in ["<PHONE:4111111111111111>", "<PHONE:sealed:13812345678>", "<PHONE_13812345678>", "<13812345678>"] {
            let clean = scrub(&scrubber, text);
            assert!(!clean.contains("11111111") && !clean.contains("13812345678"), "{clean}");
        }
    }
}

#[test]
fn policies_say_what_they_need() {
    let needs = policy(&all("hmac"));
    assert_eq!(needs.key_id(), Some(key(1).id().as_str()));
    let missing = Scrubber::new(&needs, None).err().unwrap();
    assert!(missing.message.contains(&key(1).id()) && missing.hint.unwrap().contains("--key-file"));
    let wrong = Scrubber::new(&needs, Some(&key(2))).err().unwrap();
    assert!(wrong.message.contains(&key(1).id()) && wrong.message.contains(&key(2).id()));
    let plain = policy("{}");
    assert_eq!(plain.key_id(), None);
    assert!(Scrubber::new(&plain, Some(&key(2))).is_ok());
    let keyless = ScrubPolicy::of_config(&config("{operators: {phone: hmac}}"), Path::new("."), None).err().unwrap();
    assert!(keyless.hint.unwrap().contains("pipe keygen"));
    let left_out = config("{entities: [email], operators: {phone: hmac}}");
    assert!(ScrubPolicy::of_config(&left_out, Path::new("."), Some(&key(1))).err().unwrap().message.contains("leaves out"));
}

#[test]
fn a_policy_comes_back_from_json_and_the_one_before_is_read() {
    let policy = policy("{policy: strict, operators: {phone: hmac, url: keep}, columns: {a: seal, b: scan, c: drop}}");
    let json = serde_json::to_value(&policy).unwrap();
    let back = ScrubPolicy::from_json(&json).unwrap();
    assert_eq!((&back, back.digest()), (&policy, policy.digest()));
    assert_eq!(serde_json::from_value::<ScrubPolicy>(json.clone()).unwrap(), policy);
    let old = serde_json::json!({"policy": "minimal", "entities": ["email", "phone"], "detector_version": 1});
    let old = ScrubPolicy::from_json(&old).unwrap();
    assert_eq!(scrub(&Scrubber::new(&old, None).unwrap(), "@bob a@example.com"), "@bob <EMAIL>");
    for (field, value) in [("version", 3.into()), ("detector_version", (DETECTOR_VERSION + 1).into()), ("more", true.into())] {
        let mut newer = json.clone();
        newer[field] = value;
        assert!(ScrubPolicy::from_json(&newer).is_err(), "{field}");
    }
    let names = |policy: &ScrubPolicy| policy.operators().map(|(entity, _)| entity).collect::<Vec<_>>();
    assert_eq!(names(&ScrubPolicy::resolve("standard", None).unwrap()), Entity::ALL);
    assert!(names(&ScrubPolicy::resolve("none", None).unwrap()).is_empty());
    let [minimal, standard] = ["minimal", "standard"].map(|name| ScrubPolicy::resolve(name, None).unwrap());
    assert!(minimal.digest() != standard.digest() && !minimal.strict());
    assert!(ScrubPolicy::resolve("strict", None).unwrap().strict());
}

#[test]
fn a_policy_file_brings_patterns_and_exceptions() {
    let folder = tempfile::tempdir().unwrap();
    let file = "version: 1\nextends: minimal\nentities: {email: hmac}\npatterns:\n\
                - {name: ticket_id, regex: 'TICKET-[0-9]{6}'}\n\
                - {name: room, regex: '[0-9]{3}', operator: mask, context: [room, 房间]}\n\
                allow: {values: [Support@example.com, 400 123-4567], patterns: ['[a-z]+@example\\.org']}\n";
    std::fs::write(folder.path().join("policy.yaml"), file).unwrap();
    let policy = ScrubPolicy::of_config(&config("{policy: policy.yaml}"), folder.path(), Some(&key(1))).unwrap();
    let json = serde_json::to_string(&policy).unwrap();
    assert!(!json.to_lowercase().contains("support") && !json.contains("policy.yaml"), "{json}");
    let scrubber = Scrubber::new(&ScrubPolicy::from_json(&serde_json::from_str(&json).unwrap()).unwrap(), Some(&key(1))).unwrap();
    let mut counts = ScrubCounts::default();
    let clean = scrubber.scrub("TICKET-123456 support@example.com x@example.org in room 101, not 102xx TICKET-12", &mut counts).text;
    assert_eq!(clean, "<TICKET_ID> support@example.com x@example.org in room ***, not ***xx TICKET-12");
    assert_eq!((counts.named("ticket_id"), counts.named("room"), counts.total()), (1, 2, 3));
    assert_eq!(scrubber.residual(&clean), 0);
    for (regex, what) in
        [("a+", "no upper length"), ("a{0,3}", "empty text"), ("a(b", "at its character 2"), ("(?:a{1000}){1000}", "no upper length")]
    {
        let text = format!("version: 1\npatterns: [{{name: x, regex: '{regex}'}}]\n");
        std::fs::write(folder.path().join("policy.yaml"), text).unwrap();
        let error = ScrubPolicy::of_config(&config("{policy: policy.yaml}"), folder.path(), Some(&key(1))).err().unwrap();
        assert!(error.message.contains(what) && error.message.contains("policy.yaml:2:"), "{error}");
        assert!(error.rendered.unwrap().contains("^^"));
    }
}

#[test]
fn spans_of_a_model_are_scrubbed_with_the_rest() {
    let ner = ner::EntityModel {
        runtime: String::new(),
        tags: ["PER".to_owned()].into(),
        digest: "model".into(),
        find: std::sync::Arc::new(|texts| {
            let find = |text: &&str| {
                let at = text.find("Bo Li").map(|start| ner::ModelSpan { start, end: start + 5, tag: "PER".into(), score: 0.9 });
                let unsure = text.find("Wu").map(|start| ner::ModelSpan { start, end: start + 2, tag: "PER".into(), score: 0.3 });
                at.into_iter().chain(unsure).collect()
            };
            Ok(texts.iter().map(find).collect())
        }),
    };
    let mut json = serde_json::to_value(policy("{operators: {person: hmac}}")).unwrap();
    json["ner"] = serde_json::json!({"model": "model", "labels": {"PER": "person"}, "threshold": 0.5});
    let policy = ScrubPolicy::from_json(&json).unwrap();
    let scrubber = Scrubber::new(&policy, Some(&key(1))).unwrap();
    let mut counts = ScrubCounts::default();
    assert!(scrubber.scrub_all(&["x"], &mut counts).err().unwrap().hint.unwrap().contains("--ner"));
    let scrubber = scrubber.with_model(&ner).unwrap();
    let clean = scrubber.scrub_all(&["met Bo Li at 13812345678", "Wu"], &mut counts).unwrap();
    assert!(clean[0].text.starts_with("met <PERSON:") && clean[0].text.ends_with("> at <PHONE>"));
    assert_eq!(clean[1].text, "Wu");
    assert!(counts.iter().any(|(entity, _, verdict, count)| entity == "person" && verdict == Verdict::Model && count == 1));
    let another = ner::EntityModel { digest: "another".into(), ..ner };
    assert!(Scrubber::new(&policy, Some(&key(1))).unwrap().with_model(&another).is_err());
}

/// One for each operator, whose values are all of all types.
static ALL: std::sync::LazyLock<Vec<Scrubber>> = std::sync::LazyLock::new(|| {
    ["placeholder", "redact", "{operator: mask, keep_last: 3}", "hmac", "surrogate", "seal"].iter().map(|operator| scrubber(&all(operator))).collect()
});

fn values() -> impl Strategy<Value = String> {
    let number = any::<u32>();
    prop_oneof![
        number.prop_map(|n| format!("138{:08}", n % 100_000_000)),
        number.prop_map(|n| format!("+1 415-555-{:04}", n % 10_000)),
        number.prop_map(|n| format!("user{n}@example.com")),
        number.prop_map(|n| format!("203.0.{}.{}", n % 256, n / 256 % 256)),
        number.prop_map(|n| format!("10.{}.{}.9", n % 256, n / 256 % 256)),
        number.prop_map(|n| format!("https://example.com/{n}?token={n}")),
        Just("4111 1111 1111 1111".to_owned()),
        Just("<PHONE:sealed:4111111111111111>".to_owned()),
        Just("<PHONE>".to_owned()),
        Just("@someone".to_owned()),
        "[ -~]{0,12}",
        "[0-9 .@:<>-]{0,20}",
        "\\PC{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_operator_nothing_is_left_and_scrubbing_twice_changes_nothing(
        parts in proptest::collection::vec(values(), 0..8),
        operator in 0..6usize,
    ) {
        let scrubber = &ALL[operator];
        let text = parts.concat();
        let clean = scrub(scrubber, &text);
        prop_assert_eq!(scrubber.residual(&clean), 0);
        prop_assert_eq!(scrub(scrubber, &clean), clean.clone());
    }

    #[test]
    fn words_are_rid_of_values_that_stand_over_them_too(
        parts in proptest::collection::vec((values(), any::<bool>()), 0..8),
        operator in 0..6usize,
    ) {
        let scrubber = &ALL[operator];
        // Some values come as words, some as one word with white space in it.
        let words = |(value, split): &(String, bool)| {
            if *split { value.split(' ').map(str::to_owned).collect() } else { vec![value.clone()] }
        };
        let raw: Vec<String> = parts.iter().flat_map(words).collect();
        let mut counts = ScrubCounts::default();
        let clean = scrubber.scrub_words(raw.clone(), &mut counts).unwrap().expect("rid of its values in a few rounds");
        prop_assert_eq!(scrubber.residual(&joined(&clean.words)), 0);
        prop_assert!(clean.words.iter().all(|word| !word.is_empty() && !word.contains(char::is_whitespace)));
        prop_assert_eq!(clean.words.len(), clean.from.len());
        let mut end = 0;
        for from in &clean.from {
            prop_assert!(end <= from.start && from.start < from.end && from.end <= raw.len());
            end = from.end;
        }
        prop_assert_eq!(clean.changed, clean.words != raw);
        prop_assert!(counts.total() > 0 || clean.from.iter().all(|from| from.len() == 1));
        let again = scrubber.scrub_words(clean.words.clone(), &mut counts).unwrap().unwrap();
        prop_assert!(!again.changed && again.words == clean.words);
    }
}
