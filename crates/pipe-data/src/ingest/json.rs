//! Personal data out of lists and structs.

use std::borrow::Cow;

use pipe_core::Result;
use serde_json::Value as Json;

use crate::scrub::{ScrubCounts, Scrubber};

/// Scrubs every string, key and number in place. False: the row is to be left out.
pub(super) fn scrub(json: &mut Json, scrubber: &Scrubber, counts: &mut ScrubCounts) -> Result<bool> {
    let scrub_text = |text: &str, counts: &mut ScrubCounts| -> Result<(Option<String>, bool)> {
        let clean = scrubber.scrub_noting(text, counts, None)?;
        let changed = match clean.text {
            Cow::Owned(clean) => Some(clean),
            Cow::Borrowed(_) => None,
        };
        Ok((changed, !clean.drop_row))
    };
    match json {
        Json::Null | Json::Bool(_) => Ok(true),
        Json::String(text) => {
            let (changed, stays) = scrub_text(text, counts)?;
            if let Some(clean) = changed {
                *text = clean;
            }
            Ok(stays)
        }
        Json::Number(number) => {
            let (changed, stays) = scrub_text(&number.to_string(), counts)?;
            if let Some(clean) = changed {
                *json = Json::String(clean);
            }
            Ok(stays)
        }
        Json::Array(items) => {
            for item in items {
                if !scrub(item, scrubber, counts)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Json::Object(map) => {
            for (key, mut item) in std::mem::take(map) {
                let (changed, stays) = scrub_text(&key, counts)?;
                if !stays || !scrub(&mut item, scrubber, counts)? {
                    return Ok(false);
                }
                // Two keys may have become one.
                let key = changed.unwrap_or(key);
                let names = std::iter::once(key.clone()).chain((2..).map(|at| format!("{key}_{at}")));
                if let Some(free) = names.into_iter().find(|name| !map.contains_key(name)) {
                    map.insert(free, item);
                }
            }
            Ok(true)
        }
    }
}
