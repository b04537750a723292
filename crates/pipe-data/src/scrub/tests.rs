use std::sync::LazyLock;

use super::*;

/// Made once: compiling the patterns takes longer than any test here.
pub(super) static STANDARD: LazyLock<Scrubber> = LazyLock::new(|| Scrubber::new(&ScrubPolicy::resolve("standard", None).unwrap(), None).unwrap());

fn scrub(text: &str) -> String {
    STANDARD.scrub(text, &mut ScrubCounts::default()).text.into_owned()
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
        Scrubber::new(&ScrubPolicy::resolve(policy, entities).unwrap(), None).unwrap().scrub(text, &mut ScrubCounts::default()).text.into_owned()
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
    let mut counts = ScrubCounts::default();
    assert!(matches!(STANDARD.scrub("nothing here, 12 or 3.5", &mut counts).text, Cow::Borrowed(_)));
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

/// All types, also those that a policy leaves out.
pub(super) static ALL: LazyLock<Scrubber> = LazyLock::new(|| {
    let names: Vec<String> = Entity::ALL.iter().map(|entity| entity.name().to_owned()).collect();
    Scrubber::new(&ScrubPolicy::resolve("standard", Some(&names)).unwrap(), None).unwrap()
});

/// Each text with the type of its one hit and what is hit; `""`: nothing of that type.
fn finds(entity: Entity, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let found: Vec<&str> = ALL.find(text).iter().filter(|hit| hit.entity == entity).map(|hit| &text[hit.start..hit.end]).collect();
        let wanted: Vec<&str> = if expected.is_empty() { Vec::new() } else { vec![*expected] };
        assert_eq!(found, wanted, "{} in {text}", entity.name());
    }
}

#[test]
fn resident_ids() {
    finds(
        Entity::CnResidentId,
        &[
            ("身份证号11010519491231002X。", "11010519491231002X"),
            ("身份证１１０１０５１９４９１２３１００２Ｘ", "１１０１０５１９４９１２３１００２Ｘ"),
            ("11010519491231002x", "11010519491231002x"),
            ("证件 440524 18800101 0014 请核对", "440524 18800101 0014"),
            ("440524-18800101-0014", "440524-18800101-0014"),
            ("居住证810000199408230021", "810000199408230021"),
            // A wrong checksum: a typo beside its word, any number elsewhere.
            ("身份证号110105194912310021", "110105194912310021"),
            ("110105194912310021", ""),
            // No such month, no such region.
            ("身份证11010519491331002X", ""),
            ("990105194912310021", ""),
            ("身份证130503670401001", "130503670401001"),
            ("订单号130503670401001", ""),
        ],
    );
    finds(
        Entity::Permit,
        &[
            ("永久居留证 911124198108030024", "911124198108030024"),
            ("港澳通行证号C12345678", "C12345678"),
            ("台胞证 12345678", "12345678"),
            ("C12345678", ""),
        ],
    );
}

#[test]
fn social_security_numbers() {
    finds(
        Entity::UsSsn,
        &[
            ("SSN是536-22-1234吗", "536-22-1234"),
            ("ssn 536221234", "536221234"),
            ("social security number: 536 22 1234", "536 22 1234"),
            ("a,b,536-22-1234,1990-01-15", "536-22-1234"),
            ("536221234", ""),
            ("666-22-1234", ""),
            ("SSN 912-22-1234", ""),
            ("536-00-1234", ""),
            ("536-22-0000", ""),
            ("12-536-22-1234", ""),
        ],
    );
}

#[test]
fn bank_accounts() {
    finds(
        Entity::Iban,
        &[
            ("IBAN GB29 NWBK 6016 1331 9268 19.", "GB29 NWBK 6016 1331 9268 19"),
            ("my iban is gb29nwbk60161331926819", "gb29nwbk60161331926819"),
            ("付款到FR1420041010050500013M02606谢谢", "FR1420041010050500013M02606"),
            ("NO9386011117947", "NO9386011117947"),
            ("GB30NWBK60161331926819", ""),
            ("iban GB30NWBK60161331926819", "GB30NWBK60161331926819"),
            ("ZZ29NWBK60161331926819", ""),
        ],
    );
    finds(
        Entity::CardNumber,
        &[
            ("卡号6212262200000000004", "6212262200000000004"),
            ("卡 6212 2622 0000 0000 004", "6212 2622 0000 0000 004"),
            ("3782 822463 10005", "3782 822463 10005"),
            ("card 4111111111111112", "4111111111111112"),
            ("4111111111111112", ""),
            ("0.4111111111111111", ""),
        ],
    );
    finds(
        Entity::CnCreditCode,
        &[
            ("91110108MA01YBNX62", "91110108MA01YBNX62"),
            ("税号91110108ma01ybnx62", "91110108ma01ybnx62"),
            ("代码91110108MA01YBNX6A", ""),
            ("111111111111111111", ""),
        ],
    );
}

#[test]
fn devices_and_networks() {
    finds(Entity::Imei, &[("IMEI: 490154203237518", "490154203237518"), ("imei 49-015420-323751-8", "49-015420-323751-8"), ("490154203237518", "")]);
    finds(
        Entity::MacAddress,
        &[
            ("mac AA:BB:CC:DD:EE:FF", "AA:BB:CC:DD:EE:FF"),
            ("地址aa-bb-cc-dd-ee-ff，", "aa-bb-cc-dd-ee-ff"),
            ("0011.2233.4455", "0011.2233.4455"),
            ("00:11:22:33:44:55", "00:11:22:33:44:55"),
            ("AA:BB:CC:DD:EE", ""),
            ("12:30:45", ""),
        ],
    );
    finds(
        Entity::UrlCredentials,
        &[
            ("see https://bob:pass@example.com/x", "https://bob:pass@example.com/x"),
            ("https://example.com/v?token=abc123def.", "https://example.com/v?token=abc123def"),
            ("https://example.com/v?page=12345", ""),
        ],
    );
    finds(Entity::IpAddress, &[("version 1.2.3.4", ""), ("版本1.2.3.4", ""), ("连接192.0.2.7:8080", "192.0.2.7"), ("::1", "::1")]);
    finds(Entity::Email, &[("a..b@example.com", ""), (".a@example.com", ""), ("张三@example.com", "张三@example.com"), ("user@host", "")]);
}

#[test]
fn documents_beside_words() {
    finds(
        Entity::Passport,
        &[
            ("护照号G12345678", "G12345678"),
            ("passport number C12345678", "C12345678"),
            ("Passport No: 123456789", "123456789"),
            ("编号G12345678", ""),
            ("C12345678", ""),
        ],
    );
    finds(
        Entity::DriverLicense,
        &[("my driver's license number is A5631933", "A5631933"), ("驾驶证档案编号：310012345678", "310012345678"), ("number A5631933", "")],
    );
    finds(
        Entity::RecordNumber,
        &[
            ("MRN: 00847291", "00847291"),
            ("快递单号SF1234567890123", "SF1234567890123"),
            ("住院号：2024001234", "2024001234"),
            ("NHS Number 943 476 5918", ""),
            ("NINO: AB 12 34 56 C", "AB 12 34 56 C"),
            ("주민등록번호 900307-1234567", "900307-1234567"),
            ("order 2024001234567", ""),
        ],
    );
    finds(
        Entity::SocialAccount,
        &[
            ("QQ：987654321", "987654321"),
            ("微信号wxid_abc123", "wxid_abc123"),
            ("WeChat: my-name", "my-name"),
            ("数字是12345678", ""),
            ("微信号123abc", ""),
        ],
    );
}

#[test]
fn plates() {
    finds(
        Entity::LicensePlate,
        &[
            ("车牌京A12345，", "京A12345"),
            ("粤B·12345", "粤B·12345"),
            ("沪 A12345", ""),
            ("京AD12345", "京AD12345"),
            ("京A1234警", "京A1234警"),
            ("粤Z1234港", "粤Z1234港"),
            ("川A123AB", "川A123AB"),
            ("中A12345", ""),
            ("京A123", ""),
        ],
    );
}

#[test]
fn places() {
    finds(
        Entity::Coordinates,
        &[
            ("at 39.9042, 116.4074 now", "39.9042, 116.4074"),
            ("坐标：116.40,39.90", "116.40,39.90"),
            ("-33.8688,151.2093", "-33.8688,151.2093"),
            ("40°26′46″N is far", "40°26′46″N"),
            ("纬度：39.9042", "39.9042"),
            ("3.1415, 2.71", ""),
            ("prices 10.50, 20.75", ""),
            ("191.9042, 216.4074", ""),
        ],
    );
}

#[test]
fn dates_of_birth() {
    finds(
        Entity::DateOfBirth,
        &[
            ("出生日期1990年03月07日", "1990年03月07日"),
            ("他生于1990.03.07", "1990.03.07"),
            ("生日是三月七日", "三月七日"),
            ("1995年8月18日出生，", "1995年8月18日"),
            ("born on March 7, 1990 in Leeds", "March 7, 1990"),
            ("DOB: 03/07/1990", "03/07/1990"),
            ("date of birth 7 March 1990", "7 March 1990"),
            ("DOB: 31/02/1990", ""),
            ("会议时间1990-03-07", ""),
            ("on March 7, 1990 we met", ""),
        ],
    );
}

#[test]
fn secrets() {
    finds(
        Entity::Secret,
        &[
            ("key sk-proj-FAKE00000000000000000001test", "sk-proj-FAKE00000000000000000001test"),
            ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
            ("akiaIOSFODNN7EXAMPLE", ""),
            ("TOKEN=ghp_0000000000000000000000000000000000FAKE", "ghp_0000000000000000000000000000000000FAKE"),
            ("password: hunter2!", "hunter2!"),
            ("password: required", ""),
            ("密码是abc123，", "abc123"),
            ("api_key = \"Zx81kQp20LmVt5\"", "Zx81kQp20LmVt5"),
            (
                "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ0ZXN0In0.FakeSig123_-abcdef",
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ0ZXN0In0.FakeSig123_-abcdef",
            ),
            ("eyJABC.eyJDEF.GHIJKL", ""),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIB0\n-----END RSA PRIVATE KEY-----\nx",
                "-----BEGIN RSA PRIVATE KEY-----\nMIIB0\n-----END RSA PRIVATE KEY-----",
            ),
            ("-----BEGIN RSA PRIVATE KEY-----\nno end", ""),
        ],
    );
}

#[test]
fn people() {
    finds(
        Entity::Person,
        &[
            ("Mr. John Smith called", "John Smith"),
            ("my name is Jane Doe.", "Jane Doe"),
            ("Name: Jane van der Berg\n", "Jane van der Berg"),
            ("收件人：王小明，", "王小明"),
            ("客户张三的手机", "张三"),
            ("请联系刘伟先生", "刘伟"),
            ("感谢王老师的帮助", "王"),
            ("联系欧阳娜娜女士", "欧阳娜娜"),
            ("患者李芳因头痛就诊", "李芳"),
            ("姓名：高强", "高强"),
            ("客户方便的时候", ""),
            ("黄山风景区很漂亮", ""),
            ("File name: Report", ""),
            ("The Street is long", ""),
        ],
    );
}

#[test]
fn addresses() {
    finds(
        Entity::Address,
        &[
            ("住在北京市朝阳区建国路100号，", "北京市朝阳区建国路100号"),
            ("地址：广东省深圳市南山区科技路1号3栋801室。", "广东省深圳市南山区科技路1号3栋801室"),
            ("快递寄到朝阳建国路100号", "朝阳建国路100号"),
            ("at 12 Main Street, Apt 3 today", "12 Main Street, Apt 3"),
            ("742 Evergreen Terrace, Springfield, IL 62704.", "742 Evergreen Terrace, Springfield, IL 62704"),
            ("wohnhaft Friedrichstraße 123, 10117 Berlin", "Friedrichstraße 123, 10117 Berlin"),
            ("P.O. Box 101 is mine", "P.O. Box 101"),
            ("Duizendmonnikenstraat 1 now", "Duizendmonnikenstraat 1"),
            ("London W8 4PT", "W8 4PT"),
            ("my zip code is 29687", "29687"),
            ("我在北京的路上走了100米", ""),
            ("50 people on the street", ""),
            ("不知道怎么办", ""),
        ],
    );
}

#[test]
fn overlapping_hits_leave_nothing_uncovered() {
    let hit = |entity, start, end, score| Hit { entity, start, end, score, verdict: Verdict::Format };
    let mut hits = vec![hit(Entity::Url, 0, 10, 0.5), hit(Entity::Email, 4, 6, 0.9), hit(Entity::Phone, 8, 14, 0.7), hit(Entity::Phone, 4, 6, 0.2)];
    super::detect::resolve_overlaps(&mut hits);
    let spans: Vec<_> = hits.iter().map(|hit| (hit.entity, hit.start, hit.end)).collect();
    assert_eq!(spans, [(Entity::Url, 0, 4), (Entity::Email, 4, 6), (Entity::Url, 6, 8), (Entity::Phone, 8, 14)]);
}

#[test]
fn values_that_end_where_others_begin_are_read() {
    check(&[
        // The head of a token and nothing behind it.
        ("token eyJhbGciOiJIUzI1NiJ9", "token eyJhbGciOiJIUzI1NiJ9"),
        // A key that is cut off: a capital or a digit right behind a value that ends with a blank.
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIB0\n-----END RSA", "<SECRET>RSA"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIB0\n-----END 3", "<SECRET>3"),
    ]);
}

#[test]
fn the_end_of_a_longer_word_hides_no_context() {
    // `date of birth` is a phrase; behind another letter its last word still says what follows.
    finds(
        Entity::DateOfBirth,
        &[("xdate of birth: 1990-03-07", "1990-03-07"), ("他的xdate of birth: 1990-03-07", "1990-03-07"), ("xdate of death: 1990-03-07", "")],
    );
}
