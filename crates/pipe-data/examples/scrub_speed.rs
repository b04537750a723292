//! How fast personal data is found and replaced, on one thread: `cargo xtask pii-report --speed`.
//!
//! Generated texts of five kinds. Times are those of the thread's processor where the system tells them, so that a busy
//! machine does not count. The first argument chooses the kinds whose names hold it, the second one the number of rows.

use std::time::Instant;

use pipe_data::scrub::{ScrubCounts, ScrubPolicy, Scrubber};

/// Enough for a clock of the system's that ticks every four milliseconds.
const ROWS: usize = 800_000;
const ROUNDS: usize = 5;

fn main() -> Result<(), pipe_core::Error> {
    let scrubber = Scrubber::new(&ScrubPolicy::resolve("standard", None)?, None)?;
    println!("| text | bytes a row | hits a row | find, MB/s | scrub, MB/s |");
    println!("|---|---|---|---|---|");
    type MakeRow = fn(usize) -> String;
    let kinds: [(&str, MakeRow); 5] = [
        ("without any anchor", without_anchors),
        ("English prose", english),
        ("English, three values a row", english_dense),
        ("Chinese prose", chinese),
        ("Chinese, five values a row", chinese_dense),
    ];
    let only = std::env::args().nth(1);
    let count = std::env::args().nth(2).map_or(ROWS, |count| count.parse().expect("the second argument is a number of rows"));
    for (name, text) in kinds.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| name.contains(only.as_str()))) {
        let rows: Vec<String> = (0..count).map(text).collect();
        let bytes: usize = rows.iter().map(String::len).sum();
        let mut hits = 0;
        let find = fastest(|| hits = rows.iter().map(|row| scrubber.find(row).len()).sum());
        let mut counts = ScrubCounts::default();
        let mut length = 0;
        let scrub = fastest(|| length = rows.iter().map(|row| scrubber.scrub(row, &mut counts).text.len()).sum());
        assert!(length > 0, "the work must not be optimised away");
        let speed = |seconds: f64| bytes as f64 / seconds / 1e6;
        println!("| {name} | {} | {:.1} | {:.0} | {:.0} |", bytes / count, hits as f64 / count as f64, speed(find), speed(scrub));
    }
    Ok(())
}

/// The shortest of some rounds, in seconds.
fn fastest(mut work: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let (wall, processor) = (Instant::now(), processor_seconds());
            work();
            match (processor, processor_seconds()) {
                (Some(before), Some(after)) => after - before,
                _ => wall.elapsed().as_secs_f64(),
            }
        })
        .fold(f64::MAX, f64::min)
}

/// What this thread has had of a processor (Linux).
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// Numbers that look random and are the same everywhere.
fn number(row: usize) -> u64 {
    row as u64 * 2_654_435_761 % 100_000_007
}

fn without_anchors(_: usize) -> String {
    "the quick brown fox jumps over the lazy dog and rests for a while under the old tree, nobody knew why so many people had come but the weather was fine and they stayed"
        .to_owned()
}

fn english(row: usize) -> String {
    let who = ["people", "farmers", "strangers", "children"][row % 4];
    format!(
        "The village lies between two hills and a river. Nobody knew why so many {who} had come, but the weather was fine and so they stayed. In May there were more."
    )
}

fn english_dense(row: usize) -> String {
    let n = number(row);
    match row % 4 {
        0 => format!(
            "Customer wrote from user{n}@example.com and asked us to call back on 415-555-{:04} before noon tomorrow, the card on file is 4111 1111 1111 1111 and all is still open.",
            n % 10_000
        ),
        1 => format!(
            "Please ship it to 12 Main Street, Apt 4, Springfield, IL 62704; my number is +44 20 7946 {:04} and my mail is jane.doe{n}@example.org, thanks for your help with this!",
            n % 10_000
        ),
        2 => format!(
            "Hi, I am writing about SSN 536-22-{:04}; the server at 192.0.2.{} refused the login of @someone{n} yesterday, see https://example.com/tickets/{n}?page=2 for all of it.",
            n % 9_999 + 1,
            n % 256
        ),
        _ => format!(
            "Mr. Smith paid with IBAN GB29NWBK60161331926819 and his passport number is C1234{:04}; the meeting was moved to 3 pm on Monday, we talked for an hour about version 1.2.3.",
            n % 10_000
        ),
    }
}

fn chinese(row: usize) -> String {
    let what = ["市场", "质量", "销售", "环境"][row % 4];
    format!(
        "今天天气不错，我们下午在会议室讨论了下个季度的产品规划，大家都认为{what}比去年更好。酒店的早餐很丰富，服务态度也让人满意，离火车站不远，周围有许多小吃店，晚上散步很舒服。"
    )
}

fn chinese_dense(row: usize) -> String {
    let n = number(row);
    format!(
        "收件人：王小明，手机1381234{:04}，地址：广东省深圳市南山区科技路{}号3栋，身份证11010519491231002X，邮箱user{n}@example.com，请尽快发货，谢谢。",
        n % 10_000,
        n % 900 + 1
    )
}
