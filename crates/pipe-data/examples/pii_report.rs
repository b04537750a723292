//! How well the detectors do on labelled texts: `cargo xtask pii-report DIR`.
//!
//! Reads every `.json` below a folder, an array of records of one of two makes:
//!
//! ```text
//! { full_text, spans: [{ entity_type, start_position, end_position }] }     spans in characters, as presidio-research writes them
//! { id, input, type, should_match, expected_text? }                         one form, as argus-redact writes them
//! { id, input, should_find_pii, expected_pii_count? }                       a text that has some, or none
//! { id, input, pii_values: […], pii_types: […] }                            a text with the values that must not survive
//! ```
//!
//! Prints counts, and the file and id of every exception with its reason; never a text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pipe_data::scrub::{Entity, Hit, ScrubPolicy, Scrubber, Verdict};
use serde_json::Value;

/// Figures of one type.
#[derive(Default)]
struct Row {
    gold: usize,
    exact: usize,
    overlapping: usize,
    /// Covered by hits of any type: replaced, if under another name.
    covered: usize,
    hits: usize,
    right: usize,
    right_exact: usize,
    negatives: usize,
    left_alone: usize,
}

#[derive(Default)]
struct Report {
    rows: BTreeMap<String, Row>,
    exceptions: Vec<String>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), policy) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: pii_report DIR [POLICY]");
        return ExitCode::from(2);
    };
    match run(Path::new(&folder), policy.as_deref().unwrap_or("standard")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, policy: &str) -> Result<(), String> {
    let all: Vec<String> = Entity::ALL.iter().map(|entity| entity.name().to_owned()).collect();
    let policy = ScrubPolicy::resolve(policy, Some(&all)).map_err(|error| error.to_string())?;
    let scrubber = Scrubber::new(&policy, None).map_err(|error| error.message)?;
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(format!("there is no .json file below {}", folder.display()));
    }
    let mut report = Report::default();
    for file in &files {
        let name = file.strip_prefix(folder).unwrap_or(file).display().to_string();
        let text = std::fs::read(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
        // The parser's own message quotes values.
        let Ok(Value::Array(records)) = serde_json::from_slice(&text) else { return Err(format!("{name} is no JSON array")) };
        for (at, record) in records.iter().enumerate() {
            report.record(&scrubber, &name, at, record);
        }
    }
    report.print();
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    Ok(())
}

/// Our name of a label; absent: we have no such type, and hits on it are neither right nor wrong.
fn entity_of(label: &str) -> Option<&'static str> {
    Some(match label {
        "CREDIT_CARD" | "credit_card" | "bank_card" => "card_number",
        "PHONE_NUMBER" | "phone" => "phone",
        "EMAIL_ADDRESS" | "email" => "email",
        "US_SSN" | "ssn" => "us_ssn",
        "IBAN_CODE" | "iban" => "iban",
        "DOMAIN_NAME" | "URL" => "url",
        "url_token" => "url_credentials",
        "IP_ADDRESS" | "ip_address" => "ip_address",
        "mac_address" => "mac_address",
        "US_DRIVER_LICENSE" | "driver_license" => "driver_license",
        "PERSON" | "person" => "person",
        "ADDRESS" | "STREET_ADDRESS" | "address" | "postcode" => "address",
        "id_number" => "cn_resident_id",
        "US_PASSPORT" | "passport" | "us_passport" => "passport",
        "license_plate" => "license_plate",
        "credit_code" => "cn_credit_code",
        "imei" => "imei",
        "date_of_birth" => "date_of_birth",
        "qq" | "wechat" => "social_account",
        "aadhaar" | "pan" | "nino" | "nhs_number" | "rrn" | "my_number" | "tax_id" => "record_number",
        label if label.ends_with("_key") || label.ends_with("_token") || label == "jwt" => "secret",
        _ => return None,
    })
}

/// Telephone numbers of fewer than nine digits are a type of their own: without words they are any number.
fn row_name(entity: &str, value: &str) -> String {
    if entity == "phone" && value.chars().filter(char::is_ascii_digit).count() < 9 { "phone, short".to_owned() } else { entity.to_owned() }
}

fn overlaps(hit: &Hit, start: usize, end: usize) -> bool {
    hit.start < end && start < hit.end
}

/// Whether hits cover every byte of the range, but for blanks.
fn covers(hits: &[Hit], text: &str, start: usize, end: usize) -> bool {
    text[start..end].char_indices().all(|(at, c)| !c.is_alphanumeric() || hits.iter().any(|hit| hit.start <= start + at && start + at < hit.end))
}

impl Report {
    fn row(&mut self, name: &str) -> &mut Row {
        self.rows.entry(name.to_owned()).or_default()
    }

    fn except(&mut self, file: &str, id: &str, what: &str) {
        self.exceptions.push(format!("{file}#{id}: {what}"));
    }

    fn record(&mut self, scrubber: &Scrubber, file: &str, at: usize, record: &Value) {
        let id = record["id"].as_str().map_or_else(|| at.to_string(), str::to_owned);
        if let (Some(text), Some(spans)) = (record["full_text"].as_str(), record["spans"].as_array()) {
            return self.spans(scrubber, file, &id, text, spans);
        }
        let Some(text) = record["input"].as_str() else { return self.except(file, &id, "a record of no known make") };
        let hits = scrubber.find(text);
        let known = record["description"].as_str().is_some_and(|description| description.contains("KNOWN"));
        if let (Some(wanted), Some(label)) = (record["should_match"].as_bool(), record["type"].as_str()) {
            let Some(entity) = entity_of(label) else { return self.except(file, &id, "a label that is not known") };
            if wanted {
                self.positive(file, &id, entity, text, &hits, record["expected_text"].as_str())
            } else {
                self.negative(file, &id, entity, text, &hits)
            }
        } else if let Some(wanted) = record["should_find_pii"].as_bool() {
            let expected = record["expected_pii_count"].as_u64().unwrap_or(u64::from(wanted)) as usize;
            let row = self.row("any (by count)");
            if wanted && !known {
                row.gold += 1;
                row.overlapping += usize::from(hits.len() >= expected);
                row.exact += usize::from(hits.len() == expected);
                if hits.len() < expected {
                    self.except(file, &id, &format!("{} of {expected} found", hits.len()));
                }
            } else if !wanted {
                row.negatives += 1;
                row.left_alone += usize::from(hits.is_empty());
                if let Some(hit) = hits.first() {
                    self.except(file, &id, &format!("a negative, hit as {} ({})", hit.entity.name(), reason(hit)));
                }
            }
        } else if let Some(values) = record["pii_values"].as_array() {
            let types: Vec<&str> = record["pii_types"].as_array().map(|types| types.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
            for (k, value) in values.iter().filter_map(Value::as_str).enumerate() {
                let label = if types.len() == values.len() { entity_of(types[k]).unwrap_or("any") } else { "any" };
                let Some(start) = text.find(value) else { continue };
                let end = start + value.len();
                let covered = covers(&hits, text, start, end);
                let exact = hits.iter().any(|hit| (hit.start, hit.end) == (start, end));
                let row = self.row(&format!("{label} (in a text)"));
                row.gold += 1;
                row.exact += usize::from(exact);
                row.overlapping += usize::from(covered);
                row.covered += usize::from(covered);
                if !covered {
                    self.except(file, &id, &format!("value {k} survives"));
                }
            }
            if values.is_empty() && types.is_empty() {
                let row = self.row("any (by count)");
                row.negatives += 1;
                row.left_alone += usize::from(hits.is_empty());
                if let Some(hit) = hits.first() {
                    self.except(file, &id, &format!("a negative, hit as {} ({})", hit.entity.name(), reason(hit)));
                }
            }
        } else {
            self.except(file, &id, "a record of no known make");
        }
    }

    fn positive(&mut self, file: &str, id: &str, entity: &str, text: &str, hits: &[Hit], expected: Option<&str>) {
        let span = expected.and_then(|value| text.find(value).map(|start| (start, start + value.len())));
        let typed = |hit: &&Hit| hit.entity.name() == entity;
        let found = hits.iter().filter(typed).any(|hit| span.is_none_or(|(start, end)| overlaps(hit, start, end)));
        let exact = hits.iter().filter(typed).any(|hit| span.is_none_or(|(start, end)| (hit.start, hit.end) == (start, end)));
        let row = self.row(&format!("{entity} (forms)"));
        row.gold += 1;
        row.exact += usize::from(exact);
        row.overlapping += usize::from(found);
        row.covered += usize::from(found || span.is_some_and(|(start, end)| covers(hits, text, start, end)));
        if !found {
            self.except(file, id, &format!("{entity} not found"));
        } else if !exact {
            self.except(file, id, &format!("{entity} found with other ends"));
        }
    }

    fn negative(&mut self, file: &str, id: &str, entity: &str, _text: &str, hits: &[Hit]) {
        let hit = hits.iter().find(|hit| hit.entity.name() == entity);
        let row = self.row(&format!("{entity} (forms)"));
        row.negatives += 1;
        row.left_alone += usize::from(hit.is_none());
        if let Some(hit) = hit {
            self.except(file, id, &format!("a negative of {entity}, hit ({})", reason(hit)));
        }
    }

    fn spans(&mut self, scrubber: &Scrubber, file: &str, id: &str, text: &str, spans: &[Value]) {
        let hits = scrubber.find(text);
        let offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let byte = |value: &Value| value.as_u64().and_then(|at| offsets.get(at as usize).copied());
        let mut gold = Vec::new();
        for span in spans {
            let (Some(start), Some(end), Some(label)) = (byte(&span["start_position"]), byte(&span["end_position"]), span["entity_type"].as_str())
            else {
                self.except(file, id, "a span that is no span");
                continue;
            };
            gold.push((start, end, entity_of(label)));
        }
        for &(start, end, entity) in &gold {
            let Some(entity) = entity else { continue };
            let typed: Vec<&Hit> = hits.iter().filter(|hit| hit.entity.name() == entity).collect();
            let found = typed.iter().any(|hit| overlaps(hit, start, end));
            let covered = covers(&hits, text, start, end);
            let exact = typed.iter().any(|hit| (hit.start, hit.end) == (start, end));
            let name = row_name(entity, &text[start..end]);
            let row = self.row(&name);
            row.gold += 1;
            row.exact += usize::from(exact);
            row.overlapping += usize::from(found);
            row.covered += usize::from(covered);
            if !found && !matches!(entity, "person" | "address") {
                self.except(file, id, &format!("{name} not found{}", if covered { ", covered by another type" } else { "" }));
            }
        }
        for hit in &hits {
            let entity = hit.entity.name();
            // A label without a type of ours says nothing for or against a hit.
            if gold.iter().any(|(start, end, label)| label.is_none() && overlaps(hit, *start, *end)) {
                continue;
            }
            let right = gold.iter().any(|(start, end, label)| *label == Some(entity) && overlaps(hit, *start, *end));
            let exact = gold.iter().any(|(start, end, label)| *label == Some(entity) && (hit.start, hit.end) == (*start, *end));
            let name = row_name(entity, &text[hit.start..hit.end]);
            let row = self.row(&name);
            row.hits += 1;
            row.right += usize::from(right);
            row.right_exact += usize::from(exact);
            if !right && !matches!(entity, "person" | "address") {
                self.except(file, id, &format!("{name} where none is labelled ({})", reason(hit)));
            }
        }
    }

    fn print(&self) {
        let ratio = |part: usize, whole: usize| if whole == 0 { "-".to_owned() } else { format!("{:.3}", part as f64 / whole as f64) };
        println!(
            "| type | values | recall, exact | recall, overlapping | replaced | hits | precision, exact | precision, overlapping | negatives left alone |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (name, row) in &self.rows {
            println!(
                "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
                row.gold,
                ratio(row.exact, row.gold),
                ratio(row.overlapping, row.gold),
                ratio(row.covered.max(row.overlapping), row.gold),
                row.hits,
                ratio(row.right_exact, row.hits),
                ratio(row.right, row.hits),
                if row.negatives == 0 { "-".to_owned() } else { format!("{} of {}", row.left_alone, row.negatives) },
            );
        }
        println!("\n{} exceptions", self.exceptions.len());
        for exception in &self.exceptions {
            println!("  {exception}");
        }
    }
}

fn reason(hit: &Hit) -> &'static str {
    match hit.verdict {
        Verdict::Valid => "its checksum or grammar holds",
        Verdict::ChecksumFailed => "a wrong checksum beside a context word: a typo is personal data",
        Verdict::Format => "its format fits",
        Verdict::Context => "a context word stands beside it",
        Verdict::Listed => "a word of a list",
        Verdict::Pattern => "a pattern of the policy",
        Verdict::Model => "a model",
    }
}
