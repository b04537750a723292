use pipe_core::config::{SourceConfig, SourceFormat};
use pipe_core::source::SourceFile;
use pipe_data::read::*;
use std::time::Instant;
fn main() {
    let path = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let format = SourceFormat::of_path(&path).unwrap();
    let wanted = Wanted::new(vec!["text".into(), "label".into()]);
    let size = std::fs::metadata(&path).unwrap().len() as f64 / 1e6;
    let file = SourceFile::new(path, format);
    for _ in 0..3 {
        let t = Instant::now();
        let mut f = Framer::open(&file, &SourceConfig::default(), &wanted, CHUNK_RECORDS).unwrap();
        let mut chunks = vec![];
        while let Some(c) = f.next_chunk().unwrap() {
            chunks.push(c);
        }
        let framed = t.elapsed().as_secs_f64();
        let t = Instant::now();
        let (mut n, mut bytes, mut bad) = (0u64, 0usize, 0u64);
        for c in &chunks {
            c.parse(&wanted, &mut KeyNames::default(), &mut |_, cells| {
                n += 1;
                match cells {
                    Ok(c) => {
                        if let Cell::Text(t) = &c[0] {
                            bytes += t.len()
                        }
                    }
                    Err(_) => bad += 1,
                };
                Ok(())
            })
            .unwrap();
        }
        let parsed = t.elapsed().as_secs_f64();
        let t = Instant::now();
        let mut h = blake3::Hasher::new();
        for c in &chunks {
            c.update(&mut h, &wanted, c.start()).unwrap();
        }
        let hashed = t.elapsed().as_secs_f64();
        drop(chunks);
        // streaming
        let t = Instant::now();
        let mut f = Framer::open(&file, &SourceConfig::default(), &wanted, CHUNK_RECORDS).unwrap();
        while let Some(c) = f.next_chunk().unwrap() {
            c.parse(&wanted, &mut KeyNames::default(), &mut |_, _| Ok(())).unwrap();
        }
        let stream = t.elapsed().as_secs_f64();
        println!(
            "{n} rows {bad} bad {bytes}: frame {:.0} parse {:.0} digest {:.0} MB/s; frame+parse streaming {:.0}",
            size / framed,
            size / parsed,
            size / hashed,
            size / stream
        );
    }
}
