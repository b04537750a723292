//! Nothing personal is left behind: thousands of values of every kind, in every form, column and nesting, some in records
//! that cannot be read, are looked for in every file, log, error and report that runs leave.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::path::Path;

use aho_corasick::AhoCorasick;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;

use crate::project::{Project, read_json};

/// The same numbers on every machine (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len() as u64) as usize]
    }

    fn digits(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    fn letters(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| alphabet[self.below(alphabet.len() as u64) as usize]).collect()
    }
}

/// The digit that makes a number pass the Luhn check.
fn luhn(digits: &str) -> char {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, b)| {
            let digit = u32::from(b - b'0');
            let doubled = if at % 2 == 0 { digit * 2 } else { digit };
            doubled / 10 + doubled % 10
        })
        .sum();
    char::from(b'0' + ((10 - sum % 10) % 10) as u8)
}

/// GB 11643: weights are powers of two, mod 11.
fn resident_id(seventeen: &str) -> String {
    let sum: u32 = seventeen.bytes().enumerate().map(|(at, b)| u32::from(b - b'0') * ((1u32 << (17 - at)) % 11)).sum();
    format!("{seventeen}{}", ['1', '0', 'X', '9', '8', '7', '6', '5', '4', '3', '2'][(sum % 11) as usize])
}

/// ISO 13616: letters count from 10, the remainder of 97 is 1.
fn iban(country: &str, account: &str) -> String {
    let number = format!("{account}{country}00");
    let remainder = number.chars().fold(0u32, |rest, c| {
        let value = c.to_digit(36).unwrap();
        if value > 9 { (rest * 100 + value) % 97 } else { (rest * 10 + value) % 97 }
    });
    format!("{country}{:02}{account}", 98 - remainder)
}

/// What stands before a value, the value, and the part of it that no other has.
struct Planted {
    before: &'static str,
    value: String,
    secret: String,
}

fn planted(random: &mut Random) -> Planted {
    let whole = |before: &'static str, value: String| Planted { before, secret: value.clone(), value };
    let part = |before: &'static str, value: String, secret: String| Planted { before, value, secret };
    match random.below(22) {
        0 => {
            let user = random.letters("abcdefghkmnprstuvwxyz", 14);
            part("", format!("{user}@mail.example.com"), user)
        }
        1 => {
            let user = random.letters("abcdefghkmnprstuvwxyz", 14);
            part("邮箱", format!("{user}@example.org"), user)
        }
        2 => whole("", format!("1{}{}", 3 + random.below(7), random.digits(9))),
        3 => {
            let (middle, last) = (random.digits(4), random.digits(4));
            whole("手机：", format!("139 {middle} {last}"))
        }
        4 => {
            let (middle, last) = (random.digits(4), random.digits(4));
            whole("tel ", format!("+86-137-{middle}-{last}"))
        }
        5 => {
            let (exchange, line) = (200 + random.below(700), random.digits(4));
            whole("call ", format!("({}) {exchange}-{line}", 201 + random.below(190)))
        }
        6 => whole("电话", format!("010-{}{}", 2 + random.below(7), random.digits(7))),
        7 => {
            let id = random.letters("abcdefghkmnprstuvwxyz0123456789", 18);
            part("", format!("https://example.com/reset?token={id}"), id)
        }
        8 => whole("服务器", format!("198.51.{}.{}", random.below(256), 1 + random.below(254))),
        9 => whole("at ", format!("2001:db8:{:x}:{:x}::{:x}", 4096 + random.below(60000), 4096 + random.below(60000), 1 + random.below(60000))),
        10 => {
            let hex = random.letters("0123456789ABCDEF", 6);
            whole("MAC ", format!("00:1B:44:{}:{}:{}", &hex[..2], &hex[2..4], &hex[4..]))
        }
        11 => {
            let digits = format!("4{}", random.digits(14));
            let check = luhn(&digits);
            whole("card ", format!("{digits}{check}"))
        }
        12 => {
            let digits = format!("622202{}", random.digits(12));
            let check = luhn(&digits);
            let number = format!("{digits}{check}");
            whole("卡号", format!("{} {} {} {} {}", &number[..4], &number[4..8], &number[8..12], &number[12..16], &number[16..]))
        }
        13 => whole("", iban("DE", &random.digits(18))),
        14 => whole("SSN ", format!("{}-{:02}-{:04}", 100 + random.below(500), 1 + random.below(99), 1 + random.below(9999))),
        15 | 16 => whole(
            "身份证号",
            resident_id(&format!(
                "1101{:02}19{:02}{:02}{:02}{}",
                1 + random.below(9),
                50 + random.below(49),
                1 + random.below(12),
                1 + random.below(28),
                random.digits(3)
            )),
        ),
        17 => {
            let number = random.letters("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", 3) + &random.digits(2);
            whole("车牌", format!("{}B{number}", random.pick(&["京", "沪", "粤", "苏", "浙"])))
        }
        18 => whole("key ", format!("ghp_{}", random.letters("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789", 36))),
        19 => whole("我的QQ是", format!("{}{}", 1 + random.below(9), random.digits(8))),
        20 => whole("护照号", format!("E{}", random.digits(8))),
        _ => {
            // With its last character: seven digits alone stand in times and digests too.
            let number = random.digits(7);
            part("地址：", format!("北京市朝阳区建国路{number}号"), format!("{number}号"))
        }
    }
}

/// Another spelling of the same value.
fn in_form(value: &str, random: &mut Random) -> String {
    match random.below(6) {
        // Full-width digits and signs.
        0 => value
            .chars()
            .map(|c| if c.is_ascii_digit() || matches!(c, '@' | '.' | '-' | '+') { char::from_u32(c as u32 + 0xfee0).unwrap() } else { c })
            .collect(),
        // An invisible character inside.
        1 if value.chars().count() > 4 => {
            let at = value.char_indices().nth(value.chars().count() / 2).unwrap().0;
            format!("{}\u{200b}{}", &value[..at], &value[at..])
        }
        _ => value.to_owned(),
    }
}

/// A text with values in it; what may not be left of them is added to `secrets`.
fn text(random: &mut Random, secrets: &mut BTreeSet<String>) -> String {
    const BEFORE: [&str; 6] = ["你好，", "Hello, ", "请联系 ", "see ", "（", "note: "];
    const AFTER: [&str; 7] = ["谢谢。", " thanks", "，", ". ", "\n", "）", " ok! "];
    let mut text = String::new();
    for _ in 0..1 + random.below(3) {
        let planted = planted(random);
        let value = in_form(&planted.value, random);
        let _ = write!(text, "{}{}{value}{}", random.pick(&BEFORE), planted.before, random.pick(&AFTER));
        secrets.insert(planted.secret);
        if value != planted.value {
            secrets.insert(value);
        }
    }
    text
}

/// All that a file says, whatever its format.
fn content(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    if !bytes.starts_with(b"PAR1") {
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    // A failed run may leave one that was only begun.
    let Ok(reader) = SerializedFileReader::new(File::open(path).unwrap()) else { return String::from_utf8_lossy(&bytes).into_owned() };
    let mut text = format!("{:?}", reader.metadata());
    for row in reader.get_row_iter(None).unwrap() {
        let _ = writeln!(text, "{}", row.unwrap());
    }
    text
}

/// Full-width forms to plain ones, invisible characters away: as a person reads it.
fn folded(text: &str) -> String {
    let plain = |c: char| if ('\u{ff01}'..='\u{ff5e}').contains(&c) { char::from_u32(c as u32 - 0xfee0).unwrap() } else { c };
    text.chars().filter(|c| *c != '\u{200b}').map(plain).collect()
}

#[track_caller]
fn assert_nothing_leaked(finder: &AhoCorasick, secrets: &[String], what: &str, said: &str) {
    for text in [said.to_owned(), folded(said)] {
        if let Some(found) = finder.find(text.as_str()) {
            let from = text[..found.start()].char_indices().rev().nth(40).map_or(0, |(at, _)| at);
            panic!("{what} holds the planted value `{}`: …{}", secrets[found.pattern().as_usize()], &text[from..found.end()]);
        }
    }
}

#[test]
fn no_planted_value_is_left_anywhere() {
    let project = Project::new();
    let (mut random, mut secrets) = (Random(11), BTreeSet::new());
    let mut jsonl = String::new();
    for row in 0..1500 {
        let mut say = || text(&mut random, &mut secrets);
        let record = json!({
            "text": say(), "pair": say(), "kind": (["a", "b"][row % 2]), "unnamed": say(),
            "meta": {"from": say(), "list": [say(), {"deep": say()}]},
        });
        let line = record.to_string();
        match row % 25 {
            // Cut in the middle of a character or of a value, without its quote, of a wrong type.
            7 => jsonl.push_str(&line[..line.char_indices().nth(line.chars().count() * 2 / 3).unwrap().0]),
            11 => jsonl.push_str(&line.replacen("\"text\":", "\"text\" ", 1)),
            19 => jsonl.push_str(&json!({"text": [say()], "pair": say(), "kind": "a", "meta": {}}).to_string()),
            _ => jsonl.push_str(&line),
        }
        jsonl.push('\n');
    }
    let mut csv = "text,pair,kind,unnamed,meta\n".to_owned();
    for row in 0..500 {
        let quoted: Vec<String> = (0..3).map(|_| format!("\"{}\"", text(&mut random, &mut secrets).replace('"', "\"\""))).collect();
        let more = if row % 20 == 3 { ",more" } else { "" };
        let _ = writeln!(csv, "{},{},{},{},\"{{\"\"a\"\": 1}}\"{more}", quoted[0], quoted[1], ["a", "b"][row % 2], quoted[2]);
    }
    std::fs::create_dir(project.path("source")).unwrap();
    project.write("source/rows.jsonl", jsonl);
    project.write("source/rows.csv", csv);
    let pipeline = |limit: &str| {
        format!(
            "version: 1\nname: leak\nstages:\n  ingest:\n    uses: ingest\n    with:\n      source: {{ paths: [\"source/*\"] }}\n      columns:\n        text: text\n        text_pair: pair\n        label: kind\n        extra: {{ meta: {{ type: json }} }}\n      split: {{ train: 0.8, test: 0.2 }}\n      rejects: {{ max_ratio: {limit} }}\n  tokenize: {{ uses: tokenize, from: ingest, with: {{ tokenizer: model, max_length: 48 }} }}\n"
        )
    };
    project.write("pipeline.yaml", pipeline("0.5"));
    let mut said = Vec::new();
    let mut run = |name: &str, arguments: &[&str], code: i32| {
        let outcome = project.pipe(arguments);
        said.push((name.to_owned(), format!("{}\n{}", outcome.stdout, outcome.stderr)));
        outcome.code(code);
    };
    run("a run", &["run", "pipeline.yaml", "--log-format", "json"], 0);
    let report = read_json(&project.artifact("ingest").join("report.json"));
    for arguments in [
        &["ls", "--artifacts"][..],
        &["status", "pipeline.yaml"],
        &["explain", "pipeline.yaml", "ingest"],
        &["head", "pipeline.yaml", "ingest.train", "-n", "2000"],
        &["describe", "pipeline.yaml", "ingest"],
        &["head", "pipeline.yaml", "ingest.rejects", "-n", "2000"],
    ] {
        run(&arguments.join(" "), arguments, 0);
    }
    project.write("pipeline.yaml", pipeline("0.001"));
    run("a run of too many rejects", &["run", "pipeline.yaml"], 12);
    // Classes that are no classes: values of a column must not be listed.
    project.write("pipeline.yaml", pipeline("0.5").replace("label: kind", "label: unnamed"));
    run("a run with a text as its class", &["run", "pipeline.yaml"], 12);

    let secrets: Vec<String> = secrets.into_iter().collect();
    assert!(secrets.len() > 9000, "{} values were planted", secrets.len());
    let finder = AhoCorasick::new(&secrets).unwrap();
    for (what, said) in said {
        assert_nothing_leaked(&finder, &secrets, &what, &said);
    }
    let mut files = 0;
    let mut folders = vec![project.root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("source") && !path.ends_with("model") {
                    folders.push(path);
                }
                continue;
            }
            files += 1;
            assert_nothing_leaked(&finder, &secrets, &path.display().to_string(), &content(&path));
        }
    }
    assert!(files > 20, "{files} files were looked at");
    assert!(report["rows"]["rejected"].as_u64().unwrap() > 50, "{}", report["rows"]);
}
