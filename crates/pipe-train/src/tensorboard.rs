//! Event files for TensorBoard: scalars by step.
//!
//! A file is a row of TFRecords, each a protobuf `Event`:
//!
//! ```text
//! length u64 · masked crc32c of it u32 · data · masked crc32c of it u32      all little-endian
//! Event   { 1: wall_time double, 2: step varint, 3: file_version string, 5: Summary }
//! Summary { 1: Value { 1: tag string, 2: simple_value float } } …
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pipe_core::{IoContext, Result};
use serde_json::{Map, Value};

/// An event file that is being written.
pub(crate) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Begins a file in `folder`.
    pub(crate) fn create(folder: &Path) -> Result<EventFile> {
        std::fs::create_dir_all(folder).doing("make the folder", folder)?;
        let now = now();
        // TensorBoard takes any file that has `tfevents` in its name, and orders them by name.
        let path = folder.join(format!("events.out.tfevents.{:010}.pipe", now as u64));
        let file = File::create(&path).doing("write", &path)?;
        let mut events = EventFile { file, path };
        let mut event = event_at(now, 0);
        put_bytes(&mut event, 3, b"brain.Event:2");
        events.write(&event)?;
        Ok(events)
    }

    /// Writes a row of the trainer's log: `loss` as `train/loss`, `eval_accuracy` as `eval/accuracy`.
    pub(crate) fn add(&mut self, row: &Map<String, Value>) -> Result<()> {
        let step = row.get("step").and_then(Value::as_u64).unwrap_or(0);
        let mut summary = Vec::new();
        for (name, value) in row {
            let (Some(value), false) = (value.as_f64(), name == "step") else { continue };
            let tag = match name.strip_prefix("eval_") {
                Some(name) => format!("eval/{name}"),
                None => format!("train/{name}"),
            };
            let mut scalar = Vec::new();
            put_bytes(&mut scalar, 1, tag.as_bytes());
            put_key(&mut scalar, 2, 5);
            scalar.extend((value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &scalar);
        }
        let mut event = event_at(now(), step);
        put_bytes(&mut event, 5, &summary);
        self.write(&event)
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&record(event)).doing("write", &self.path)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

fn event_at(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    put_key(&mut event, 1, 1);
    event.extend(wall_time.to_le_bytes());
    put_key(&mut event, 2, 0);
    put_varint(&mut event, step);
    event
}

/// A field's number and wire type: 0 varint, 1 eight bytes, 2 a length and as many bytes, 5 four bytes.
fn put_key(into: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(into, field << 3 | wire_type);
}

fn put_bytes(into: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(into, field, 2);
    put_varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// A TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length, masked(crc32c(&length)).to_le_bytes().as_slice(), data, &masked(crc32c(data)).to_le_bytes()].concat()
}

/// TensorFlow's mask, so that a checksum of data that hold checksums is no weaker.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: event files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnoli_s() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_scalar_is_an_event_in_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path()).unwrap();
        let row = serde_json::json!({"eval_accuracy": 0.5, "step": 300});
        events.add(row.as_object().unwrap()).unwrap();
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(record(&rest[12..12 + length]), rest[..16 + length]);
            events.push(&rest[12..12 + length]);
            rest = &rest[16 + length..];
        }
        assert_eq!(events.len(), 2);
        assert!(events[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        // After the time: step 300, then the summary with its one value.
        let expected = [b"\x10\xac\x02\x2a\x16\x0a\x14\x0a\x0deval/accuracy\x15".as_slice(), &0.5f32.to_le_bytes()].concat();
        assert_eq!(events[1][9..], expected);
    }
}
