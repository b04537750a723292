use std::sync::LazyLock;

use super::*;

/// Made once: compiling the patterns takes longer than any test here.
static STANDARD: LazyLock<Scrubber> = LazyLock::new(|| Scrubber::new(&ScrubPolicy::resolve("standard", None).unwrap()));

fn scrub(text: &str) -> String {
    STANDARD.scrub(text, &mut EntityCounts::default()).into_owned()
}

/// Each text with what must become of it.
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(scrub(text), *expected, "from {text}");
    }
}

#[test]
fn emails() {
    check(&[
        ("write to jane.doe+x@mail.example.com, please", "write to <EMAIL>, please"),
        ("mailto:a@example.org.", "mailto:<EMAIL>."),
        ("邮箱zhang@163.com发", "邮箱<EMAIL>发"),
        ("地址：ｚｈａｎｇ＠163．com", "地址：<EMAIL>"),
        ("a.b@example.com c.d@example.org", "<EMAIL> <EMAIL>"),
        ("no @ sign, no mail", "no @ sign, no mail"),
    ]);
}

#[test]
fn urls() {
    check(&[
        ("see http://example.com/a?b=c#d.", "see <URL>."),
        ("(https://example.com/x_(y))", "(<URL>)"),
        ("go to www.example.co.uk now", "go to <URL> now"),
        ("bit.ly/abc and example.com", "<URL> and <URL>"),
        ("twitpic.com/2y1zl - awww", "<URL> - awww"),
        ("链接http://t.cn/abc在这里", "链接<URL>在这里"),
        ("ok.thanks e.g. i.e. U.S. ... 3.14 main.rs it.is", "ok.thanks e.g. i.e. U.S. ... 3.14 main.rs it.is"),
        ("tired.so tired.going home", "tired.so tired.going home"),
    ]);
}

#[test]
fn handles() {
    check(&[
        ("@bob hi", "<USER> hi"),
        ("hi @Bob_99!", "hi <USER>!"),
        (".@bob,@alice", ".<USER>,<USER>"),
        ("感谢@小明", "感谢<USER>"),
        ("meet @ 5pm or @5pm, only @50", "meet @ 5pm or @5pm, only @50"),
    ]);
}

#[test]
fn ip_addresses() {
    check(&[
        ("from 192.0.2.17.", "from <IP>."),
        ("服务器192.168.1.5已宕机", "服务器<IP>已宕机"),
        ("v1.2.3.4 and 1.2.3.4.5 and 300.1.1.1", "v1.2.3.4 and 1.2.3.4.5 and 300.1.1.1"),
        ("at 2001:db8::8a2e:370:7334 now", "at <IP> now"),
        ("fe80::1 std::vec a::b 12:30:45", "<IP> std::vec a::b 12:30:45"),
    ]);
}

#[test]
fn cards() {
    check(&[
        ("card 4111 1111 1111 1111 123", "card <CARD> 123"),
        ("卡号4111111111111111谢谢", "卡号<CARD>谢谢"),
        ("5555-5555-5555-4444", "<CARD>"),
        ("378282246310005", "<CARD>"),
        ("卡号４１１１１１１１１１１１１１１１", "卡号<CARD>"),
        ("order 4111111111111112", "order 4111111111111112"),
    ]);
}

#[test]
fn phones() {
    for number in [
        "415-555-0123",
        "(415) 555-0123",
        "415.555.0123",
        "415 555 0123",
        "1-415-555-0123",
        "+1 415 555 0123",
        "4155550123",
        "001-415-555-0123x12",
        "+44 20 7946 0018",
        "+44 (0)20 7946 0018",
        "020 7946 0018",
        "(01632) 960 123",
        "07700900123",
        "+49 30 901820",
        "06 12 34 56 78",
        "0041 44 668 18 00",
        "138 1234 5678",
        "13812345678",
        "+8613812345678",
        "86-138-1234-5678",
        "010-12345678",
        "(0755)1234567",
        "0755-12345678转801",
        "１３８１２３４５６７８",
        "138\u{200b}12345678",
        "+1-415-555-0123 ext. 9",
    ] {
        assert_eq!(scrub(&format!("call {number} now")), "call <PHONE> now", "{number}");
        assert_eq!(scrub(&format!("电话{number}谢谢")), "电话<PHONE>谢谢", "{number}");
    }
    for text in [
        "2009-04-12",
        "12/04/2009",
        "01.02.2009",
        "10:30:15",
        "$4155550123.00",
        "3.14159265358979",
        "400-123-4567",
        "800-123-4567",
        "95588",
        "785 8949",
        "10-5, 3-1",
        "order 123456789",
        "978-0-306-40615-7",
        "1999-2009",
        "1,234,567,890",
        "id 20090412123456",
    ] {
        assert_eq!(scrub(text), text);
    }
}

#[test]
fn neighbours_do_not_hide_each_other() {
    check(&[
        ("13812345678,13912345678;a@example.com/192.0.2.1", "<PHONE>,<PHONE>;<EMAIL>/<IP>"),
        ("@bob415-555-0123 x", "<USER>-555-0123 x"),
        ("4111111111111111 13812345678", "<CARD> <PHONE>"),
    ]);
}

#[test]
fn policies_name_what_is_replaced() {
    let text = "@bob a@example.com";
    let with = |policy: &str, entities: Option<&[String]>| {
        Scrubber::new(&ScrubPolicy::resolve(policy, entities).unwrap()).scrub(text, &mut EntityCounts::default()).into_owned()
    };
    assert_eq!(with("none", None), text);
    assert_eq!(with("minimal", None), "@bob <EMAIL>");
    assert_eq!(with("standard", Some(&["user_handle".to_owned()])), "<USER> a@example.com");
    assert!(ScrubPolicy::resolve("standrad", None).is_err());
    let policy = ScrubPolicy::resolve("minimal", None).unwrap();
    assert_eq!(ScrubPolicy::from_json(&serde_json::to_value(&policy).unwrap()).unwrap(), policy);
}

#[test]
fn a_clean_text_is_not_copied() {
    let mut counts = EntityCounts::default();
    assert!(matches!(STANDARD.scrub("nothing here, 12 or 3.5", &mut counts), Cow::Borrowed(_)));
    assert_eq!(counts.total(), 0);
}

/// A small generator, the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }
}

#[test]
fn planted_values_do_not_survive_and_scrubbing_twice_changes_nothing() {
    let mut random = Random(7);
    let fillers = ["hello ", "电话", "：", ", ", "（", "）", "call me ", " at ", "谢谢 ", "\n", "my card ", "—", " ok! ", "。"];
    for round in 0..4000 {
        let n = random.below(10_000_000);
        let (value, secret) = match random.below(6) {
            0 => (format!("user{n}@example.com"), format!("user{n}")),
            1 => (format!("138{:08}", n), format!("{:08}", n)),
            2 => (format!("+1 415-555-{:04}", n % 10_000), format!("555-{:04}", n % 10_000)),
            3 => (format!("https://example.com/p/{n}?q=1"), format!("p/{n}")),
            4 => (format!("192.0.2.{}", n % 256), format!("192.0.2.{}", n % 256)),
            _ => ("4111-1111-1111-1111".to_owned(), "1111-1111".to_owned()),
        };
        let mut text = String::new();
        for _ in 0..random.below(5) {
            text.push_str(random.pick(&fillers));
        }
        text.push_str(random.pick(&[" ", "电话", "：", "\n", "（"]));
        text.push_str(&value);
        text.push_str(random.pick(&[" ", "谢谢", "。", "\n", "）", ", "]));
        for _ in 0..random.below(5) {
            text.push_str(random.pick(&fillers));
        }
        let clean = scrub(&text);
        assert!(!clean.contains(&secret), "round {round}: a planted value survived");
        assert_eq!(scrub(&clean), clean, "round {round}");
    }
}

#[test]
fn hostile_texts_take_linear_time() {
    // Quadratic work on this much would take minutes, and the test runner's patience with it.
    for unit in ["1", "@", ".", "a.", "1-", "a@", "1:", "::", "www.", "http://", "1 ", "(0", "+1", "０", "a-"] {
        scrub(&unit.repeat((1 << 15) / unit.len()));
    }
}
