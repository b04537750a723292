//! `cargo xtask bench --ingest`: how fast files become scrubbed Parquet, and in how much memory, alone or against programs that
//! read and write the same without scrubbing it.
//!
//! The text is generated: words drawn by Zipf's law, so that it compresses about as prose does, a value of personal data in
//! one row of five (`zh`) or in every row (`en`, dense). Generation is seeded: every machine measures the same bytes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Scratch;
use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// Common characters, and words made of two of them.
const HAN: &str = "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好看起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知世什两次使身者被高已亲其进此话常与活正感见明问力理尔点文几定本公特做外孩相西果走将月十实向声车全信重三机工物气每并别真打太新比才便夫再书部水像眼等体却加电主界门利海受听表德少克代员许先口由死安写性马光白或住难望教命花结乐色更拉东神记处让母父应直字场平报友关放至张认接告入笑内英军候民岁往何度山觉路带万男边风解叫任金快原吃妈变通师立象数四失满战远格士音轻目条呢病始达深完今提求清王化空业思切怎非找片罗钱紧爸步反河兴产量";
const WORDS_EN: &str = "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were her all she there would their we him been has when who will more no if out so said what up its about into than them can only other new some could time these two may then do first any my now such like our over man me even most made after also did many before must through back years where much your way well down should because each just those people how too little state good very make world still own see men work long get here between both life being under never day same another know while last might us great old year off come since against go came right used take three";

/// What one measured program did.
struct Measured {
    seconds: f64,
    peak_mib: f64,
}

/// Measures at `megabytes` of each text; the peers get the first one alone.
pub(super) fn measure(workspace: &Workspace, built: &Path, scratch: &Scratch, megabytes: u64, rounds: u32, python: Option<&Path>) -> Result<()> {
    let pipe = built.join("pipe");
    println!("{:<44} {:>8} {:>9} {:>10}", "", "MB", "MB/s", "peak MiB");
    for (name, text, near) in [
        ("Chinese JSONL", Text::Chinese, false),
        ("English JSONL, dense", Text::EnglishDense, false),
        ("Chinese JSONL, near-dedup", Text::Chinese, true),
    ] {
        let source = scratch.path(&format!("{}.jsonl", text.name()));
        let bytes = match std::fs::metadata(&source) {
            Ok(stat) => stat.len(),
            Err(_) => generate(&source, text, megabytes << 20)?,
        };
        let pipeline = scratch.path(&format!("{}{}.yaml", text.name(), if near { "-near" } else { "" }));
        let dedup = if near { "near" } else { "exact" };
        let yaml = format!(
            "version: 1\nname: bench\nroot: .\nstages:\n  ingest:\n    uses: ingest\n    with:\n      source: {{ paths: [{}.jsonl] }}\n      columns: {{ text: text, label: label }}\n      dedup: {dedup}\n      split: {{ train: 0.8, validation: 0.1, test: 0.1 }}\n",
            text.name()
        );
        std::fs::write(&pipeline, yaml).map_err(|cause| Error::io("write", &pipeline, &cause))?;
        let rounds = if near { 1 } else { rounds };
        let (mut ours, mut theirs): (Vec<Measured>, [Vec<Measured>; 2]) = (Vec::new(), Default::default());
        for _ in 0..rounds {
            let cache = scratch.path("ingest-cache");
            crate::files::remove_dir(&cache)?;
            ours.push(timed(scratch, Command::new(&pipe).arg("run").arg(&pipeline).arg("--cache-dir").arg(&cache))?);
            crate::files::remove_dir(&cache)?;
            if let Some(python) = python.filter(|_| !near) {
                for (peer, measured) in ["polars", "pandas"].iter().zip(&mut theirs) {
                    let script = workspace.root().join("benches/peers/ingest_jsonl.py");
                    measured.push(timed(scratch, Command::new(python).arg(script).arg(peer).arg(&source).arg(scratch.path("peer.parquet")))?);
                }
            }
        }
        line(&format!("{name}: pipe"), bytes, &ours);
        for (peer, measured) in ["polars, without scrubbing", "pandas, without scrubbing"].iter().zip(&theirs) {
            line(&format!("{name}: {peer}"), bytes, measured);
        }
    }
    if let Some(python) = python {
        let sample = scratch.path("sample.jsonl");
        let bytes = generate(&sample, Text::EnglishDense, 1 << 20)?;
        let script = workspace.root().join("benches/peers/presidio_patterns.py");
        let presidio = timed(scratch, Command::new(python).arg(script).arg(&sample))?;
        line("English, dense: Presidio's pattern recognizers", bytes, &[presidio]);
    }
    Ok(())
}

/// The median by time.
fn line(name: &str, bytes: u64, measured: &[Measured]) {
    let mut order: Vec<&Measured> = measured.iter().collect();
    order.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let Some(median) = order.get(order.len() / 2) else { return };
    let peak = measured.iter().map(|m| m.peak_mib).fold(0.0, f64::max);
    let megabytes = bytes as f64 / 1e6;
    println!("{name:<44} {megabytes:>8.0} {:>9.1} {peak:>10.0}", megabytes / median.seconds);
}

/// Runs a program to its end; its peak memory is what the system says of it, looked at twenty times a second.
fn timed(scratch: &Scratch, command: &mut Command) -> Result<Measured> {
    let log = scratch.path("log.txt");
    let file = File::options().create(true).append(true).open(&log).map_err(|cause| Error::io("open", &log, &cause))?;
    let program = PathBuf::from(command.get_program());
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
    let mut child = child.map_err(|cause| Error::io("start", &program, &cause))?;
    let (peak, done, status) = (AtomicU64::new(0), AtomicBool::new(false), format!("/proc/{}/status", child.id()));
    let (ended, seconds) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(peak_kib(&status), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let ended = child.wait();
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (ended, seconds)
    });
    let ended = ended.map_err(|cause| Error::io("wait for", &program, &cause))?;
    if !ended.success() {
        return Err(Error::new(format!("failed: {} ({ended})", program.display())).hint(format!("what it said is at the end of {}", log.display())));
    }
    Ok(Measured { seconds, peak_mib: peak.into_inner() as f64 / 1024.0 })
}

fn peak_kib(status: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    value.and_then(|value| value.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

#[derive(Clone, Copy)]
enum Text {
    Chinese,
    EnglishDense,
}

impl Text {
    fn name(self) -> &'static str {
        match self {
            Text::Chinese => "zh",
            Text::EnglishDense => "en",
        }
    }
}

/// The same numbers on every machine (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A rank of `n`, about as Zipf's law has it: the logarithm is uniform.
    fn zipf(&mut self, n: usize) -> usize {
        let uniform = self.next() as f64 / (1u64 << 31) as f64;
        (((n as f64).powf(uniform)) as usize).min(n) - 1
    }
}

/// Writes rows until the file has `bytes` bytes; gives how many it has.
fn generate(path: &Path, text: Text, bytes: u64) -> Result<u64> {
    let failed = |cause: std::io::Error| Error::io("write", path, &cause);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    let han: Vec<char> = HAN.chars().collect();
    let english: Vec<&str> = WORDS_EN.split(' ').collect();
    let mut random = Random(42);
    let words: Vec<String> = (0..20_000).map(|_| [han[random.zipf(han.len())], han[random.below(han.len())]].iter().collect()).collect();
    let (mut written, mut row) = (0, 0u64);
    let mut body = String::new();
    while written < bytes {
        body.clear();
        match text {
            Text::Chinese => {
                for _ in 0..4 + random.below(12) {
                    for _ in 0..3 + random.below(10) {
                        body.push_str(&words[random.zipf(words.len())]);
                    }
                    body.push(if random.below(3) == 0 { '。' } else { '，' });
                }
                if random.below(5) == 0 {
                    body.push_str(&format!(
                        "请致电1{}{:09}或写信给user{}@example.com。",
                        3 + random.below(7),
                        random.below(1_000_000_000),
                        random.below(100_000)
                    ));
                }
            }
            Text::EnglishDense => {
                for part in 0..3 {
                    for _ in 0..6 + random.below(12) {
                        body.push_str(english[random.zipf(english.len())]);
                        body.push(' ');
                    }
                    match (part + row as usize) % 5 {
                        0 => body.push_str(&format!("call ({}) 555-{:04}. ", 200 + random.below(700), random.below(10_000))),
                        1 => body.push_str(&format!("mail user{}@mail.example.com, ", random.below(1_000_000))),
                        2 => body.push_str(&format!("from 192.0.2.{} ", random.below(256))),
                        3 => body.push_str(&format!("see https://example.com/a/{}?b=c ", random.below(1_000_000))),
                        _ => body.push_str("card 4111-1111-1111-1111 "),
                    }
                }
            }
        }
        let line = format!("{{\"id\": {row}, \"text\": \"{body}\", \"label\": \"{}\"}}\n", ["negative", "neutral", "positive"][random.below(3)]);
        out.write_all(line.as_bytes()).map_err(failed)?;
        written += line.len() as u64;
        row += 1;
    }
    out.flush().map_err(failed)?;
    Ok(written)
}
