//! Durations and sizes as people write them: `90s`, `1h30m`, `20GB`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A length of time written as numbers with units: `500ms`, `90s`, `10m`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct HumanDuration(pub Duration);

/// Longest first, so that what is written comes out as it went in.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl std::str::FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let complaint = || "expected a duration such as 90s, 10m or 1h30m".to_owned();
        let mut rest = text.trim();
        let mut millis: u64 = 0;
        if rest.is_empty() {
            return Err(complaint());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(complaint)?;
            let number: u64 = rest[..digits].parse().map_err(|_| complaint())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let unit = TIME_UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(complaint)?;
            millis = number.checked_mul(unit.1).and_then(|part| millis.checked_add(part)).ok_or_else(complaint)?;
            rest = rest[letters..].trim_start();
        }
        Ok(HumanDuration(Duration::from_millis(millis)))
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as 90s, 10m or 1h30m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl std::fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in TIME_UNITS {
            if left >= unit {
                write!(f, "{}{name}", left / unit)?;
                left %= unit;
            }
        }
        Ok(())
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> String {
        duration.to_string()
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: `90s`, `10m`, `1h30m`, `2d`.",
            "type": "string",
            "pattern": r"^\s*([0-9]+(d|h|m|s|ms)\s*)+$",
        })
    }
}

/// A number of bytes: `512MB`, `20GB`, `1.5GiB`; a bare number is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, f64); 9] = [
    ("TiB", 1_099_511_627_776.0),
    ("GiB", 1_073_741_824.0),
    ("MiB", 1_048_576.0),
    ("KiB", 1024.0),
    ("TB", 1e12),
    ("GB", 1e9),
    ("MB", 1e6),
    ("KB", 1e3),
    ("B", 1.0),
];

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let complaint = || "expected a size such as 512MB, 20GB or 1.5GiB".to_owned();
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let number: f64 = text[..end].parse().map_err(|_| complaint())?;
        let unit = match text[end..].trim_start() {
            "" => 1.0,
            name => SIZE_UNITS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).ok_or_else(complaint)?.1,
        };
        let bytes = number * unit;
        if bytes.is_finite() && bytes < 2f64.powi(63) { Ok(ByteSize(bytes as u64)) } else { Err(complaint()) }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = ByteSize;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size such as 512MB, 20GB or 1.5GiB")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// To one decimal in the largest decimal unit: for people.
impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.0 as f64;
        match SIZE_UNITS[4..].iter().find(|(_, unit)| bytes >= *unit) {
            Some(("B", _)) | None => write!(f, "{} B", self.0),
            Some((name, unit)) => write!(f, "{:.1} {name}", bytes / unit),
        }
    }
}

/// Exact, so that it reads back the same.
impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        format!("{}B", size.0)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes: `512MB`, `20GB`, `1.5GiB`, `2000000000`.",
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": r"^\s*[0-9.]+\s*(([TtGgMmKk][Ii]?)?[Bb])?\s*$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_the_same() {
        for (text, millis) in [("90s", 90_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("500ms", 500), ("1m 5s", 65_000)] {
            let duration: HumanDuration = text.parse().unwrap();
            assert_eq!(duration.0.as_millis(), millis, "{text}");
            assert_eq!(duration.to_string().parse::<HumanDuration>().unwrap(), duration);
        }
        for text in ["", "5", "h", "5 parsecs", "-3s", "99999999999999999d", "1.5h"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_and_write_the_same() {
        for (text, bytes) in [("512MB", 512_000_000), ("20 GB", 20_000_000_000), ("1.5GiB", 1_610_612_736), ("77", 77), ("3kb", 3000)] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(String::from(size).parse::<ByteSize>().unwrap(), size);
        }
        assert_eq!(ByteSize(20_000_000_000).to_string(), "20.0 GB");
        for text in ["", "many", "-1GB", "1XB", "1e400", "."] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_neither_says_what_was_expected() {
        let read = |text: &str| crate::file::from_node::<ByteSize>(&crate::file::parse(text, crate::file::SourceId::FILE).unwrap());
        assert_eq!(read("2000000000").unwrap().0, 2_000_000_000);
        assert_eq!(read("[1]").unwrap_err().message, "expected a size such as 512MB, 20GB or 1.5GiB, found a list");
        let duration = crate::file::from_node::<HumanDuration>(&crate::file::parse("90", crate::file::SourceId::FILE).unwrap());
        assert_eq!(duration.unwrap_err().message, "expected a duration such as 90s, 10m or 1h30m, found an integer");
    }
}
