//! One form for all the ways a value is written, so that equal values get equal tokens and surrogates.
//!
//! Part of what a token means: a change here changes the tokens of every key. Therefore it does not share the
//! detectors' folding, which may learn more.

use std::net::IpAddr;

use super::Entity;

/// `138 1234 5678`, `+86-138-1234-5678` and `１３８１２３４５６７８` are one telephone number.
pub(super) fn canonical(entity: Entity, value: &str) -> String {
    let plain = folded(value);
    match entity {
        Entity::Phone => phone(&plain),
        Entity::Email | Entity::UserHandle | Entity::SocialAccount => plain.to_lowercase(),
        Entity::IpAddress => plain.parse::<IpAddr>().map_or(plain, |address| address.to_string()),
        Entity::MacAddress
        | Entity::CardNumber
        | Entity::Iban
        | Entity::UsSsn
        | Entity::CnResidentId
        | Entity::Passport
        | Entity::Permit
        | Entity::DriverLicense
        | Entity::LicensePlate
        | Entity::CnCreditCode
        | Entity::Imei
        | Entity::RecordNumber => plain.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect(),
        Entity::Person => spaced(&plain).to_lowercase(),
        Entity::Address => spaced(&plain),
        Entity::Url | Entity::UrlCredentials | Entity::Coordinates | Entity::DateOfBirth | Entity::Secret | Entity::Custom(_) => plain,
    }
}

/// How the values of an allow-list are compared: letters and digits in small letters, and the signs that tell one address
/// from another. `10.1.12.3` is not `10.11.2.3`.
pub(super) fn loose(value: &str) -> String {
    folded(value).chars().filter(|c| c.is_alphanumeric() || matches!(c, '@' | '.' | '/' | ':')).flat_map(char::to_lowercase).collect()
}

/// Without white space at its ends and characters that nobody sees; full-width forms, unusual spaces and dashes as
/// plain ones.
pub(super) fn folded(value: &str) -> String {
    let plain = value.chars().filter_map(|c| match c {
        '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => None,
        // U+FF01…U+FF5E are the printable ASCII characters in full width.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => Some('-'),
        c if c.is_whitespace() => Some(' '),
        c => Some(c),
    });
    plain.collect::<String>().trim().to_owned()
}

fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Digits, and `x` before an extension. Without the country code of the two countries whose numbers are written without
/// one as often: China's mobile numbers and those of North America. Eleven bare digits that begin with 1 are Chinese.
fn phone(plain: &str) -> String {
    let lower = plain.trim_start_matches('(').to_lowercase();
    let (plus, zeros) = (lower.starts_with('+'), lower.starts_with("00"));
    // `+44 (0)20 …`: the zero is dialled at home only.
    let lower = if plus || zeros { lower.replace("(0)", "") } else { lower };
    let extension_at = lower.find(['x', 'e', '转']).unwrap_or(lower.len());
    let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    let (number, extension) = (digits(&lower[..extension_at]), digits(&lower[extension_at..]));
    let number = if zeros { number.trim_start_matches('0') } else { number.as_str() };
    let apart = lower.strip_prefix('1').is_some_and(|rest| rest.starts_with(['-', ' ', '.', '(']));
    let number = match number.len() {
        13 if number.starts_with("861") => &number[2..],
        11 if number.starts_with('1') && (plus || zeros || apart) => &number[1..],
        _ => number,
    };
    if extension.is_empty() { number.to_owned() } else { format!("{number}x{extension}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_value_are_one() {
        for (entity, spellings) in [
            (
                Entity::Phone,
                &[
                    "13812345678",
                    "138 1234 5678",
                    "138-1234-5678",
                    "+86 138 1234 5678",
                    "0086-13812345678",
                    "１３８１２３４５６７８",
                    "138\u{200b}12345678",
                ][..],
            ),
            (Entity::Phone, &["4155550123", "(415) 555-0123", "415.555.0123", "+1 415 555 0123", "1-415-555-0123", "001-415-555-0123"]),
            (Entity::Phone, &["+44 20 7946 0018", "+44 (0)20 7946 0018", "0044 20 7946 0018"]),
            (Entity::Phone, &["415-555-0123 x12", "(415) 555 0123 ext. 12"]),
            (Entity::Email, &["A.B@Example.com", "ａ.b＠example．com"]),
            (Entity::CardNumber, &["4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111"]),
            (Entity::CnResidentId, &["11010519491231002X", "11010519491231002x", "110105 19491231 002x"]),
            (Entity::IpAddress, &["2001:db8::1", "2001:0DB8:0:0:0:0:0:1"]),
            (Entity::Person, &["Jane  Doe", "JANE DOE", " jane doe "]),
        ] {
            for spelling in spellings {
                assert_eq!(canonical(entity, spelling), canonical(entity, spellings[0]), "{}: {spelling}", entity.name());
            }
        }
        assert_ne!(canonical(Entity::Phone, "415-555-0123 x12"), canonical(Entity::Phone, "415-555-0123"));
        assert_eq!(canonical(Entity::Phone, "转"), "");
        assert_eq!(loose("400-123 4567"), loose("４００１２３４５６７"));
    }
}
