//! Fakes of the same kind as a value: the same one for the same value and key, from ranges that are nobody's.
//!
//! | type | from |
//! |---|---|
//! | e-mail, URL | `example.com`, `example.org`, `example.net` (RFC 2606) |
//! | IPv4 | 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 (RFC 5737): few, so that different addresses may share one |
//! | IPv6 | 2001:db8::/32 (RFC 3849) |
//! | MAC address | 00:00:5E:00:53:00 to FF (RFC 7042) |
//! | telephone | 555-0100 to 0199 of an area code of North America; +44 7700 900000 to 900999 (Ofcom) |
//! | names | a list of made-up ones |
//!
//! Where nothing is reserved, such as among Chinese mobile numbers, cards and identity cards, a numbered token stands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Entity;
use super::token::letters;

const DOMAINS: [&str; 3] = ["example.com", "example.org", "example.net"];
const USER_LETTERS: usize = 12;
const PATH_LETTERS: usize = 16;

/// Area codes that are in use, of the United States and Canada.
const AREA_CODES: [u16; 64] = [
    201, 202, 203, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 301, 302, 303, 304, 305, 307, 308, 309, 310, 312, 313, 314, 315,
    316, 317, 318, 401, 402, 403, 404, 405, 406, 407, 408, 410, 412, 413, 414, 415, 416, 417, 418, 501, 502, 503, 504, 505, 506, 507, 508, 601, 602,
    603, 604, 605, 606, 607, 608,
];

const FIRST_NAMES: [&str; 32] = [
    "Alda", "Brin", "Calla", "Davin", "Elowen", "Fenna", "Garrin", "Halia", "Ilsa", "Joran", "Kestrel", "Linnea", "Maren", "Nevin", "Orla", "Perrin",
    "Quilla", "Rowan", "Sabra", "Tamsin", "Ulric", "Vesna", "Wren", "Xanthe", "Yarrow", "Zephyr", "Ansel", "Briony", "Corin", "Delphi", "Emrys",
    "Fiora",
];
const LAST_NAMES: [&str; 64] = [
    "Ashgrove",
    "Briarwell",
    "Cloverfen",
    "Dapplewood",
    "Elderbrook",
    "Fernhollow",
    "Goldmarsh",
    "Hazelmoor",
    "Ivyridge",
    "Juniperfield",
    "Kettlebrook",
    "Larkmeadow",
    "Mossbank",
    "Nettlecombe",
    "Oakenshaw",
    "Pebblewick",
    "Quillbrook",
    "Rushmere",
    "Sedgewell",
    "Thistledown",
    "Umberfield",
    "Violetbank",
    "Willowmere",
    "Yewbarrow",
    "Zinniafield",
    "Amberleigh",
    "Birchenall",
    "Copperfen",
    "Dewmarsh",
    "Emberfield",
    "Foxglenn",
    "Greyfallow",
    "Heatherwick",
    "Inkwater",
    "Jaspermoor",
    "Kelpwater",
    "Lindenmere",
    "Maplecombe",
    "Nightbrook",
    "Ottermere",
    "Plumfallow",
    "Quartzfield",
    "Ravenmarsh",
    "Saffronwick",
    "Tansymoor",
    "Umbermere",
    "Velvetfen",
    "Wheatmarsh",
    "Yarrowfen",
    "Zephyrmoor",
    "Alderfallow",
    "Bramblewick",
    "Cedarmarsh",
    "Daisyfallow",
    "Elmwater",
    "Flintmere",
    "Gorsewell",
    "Hollyfen",
    "Irismoor",
    "Jadewater",
    "Kingcupfield",
    "Lilacmere",
    "Mintmarsh",
    "Nutbrook",
];
/// Rare surnames of two characters, and given names that only stories have with them.
const HAN_SURNAMES: [&str; 16] =
    ["令狐", "百里", "东郭", "南宫", "公冶", "申屠", "轩辕", "闻人", "澹台", "濮阳", "淳于", "单于", "太叔", "仲孙", "钟离", "宇文"];
const HAN_NAMES: [&str; 64] = [
    "青禾", "远舟", "知微", "听雪", "望舒", "鹤鸣", "映川", "松涛", "竹溪", "云岫", "星野", "月白", "霜序", "露晞", "烟渚", "雨眠", "山岚", "石泉",
    "梅影", "兰汀", "菊畦", "荷风", "桂舟", "枫桥", "柳浪", "槐序", "杏林", "桃蹊", "梨云", "榆荫", "桐荫", "棠梨", "砚秋", "墨池", "书岸", "琴川",
    "棋野", "画桥", "诗泉", "酒泉", "茶烟", "歌潮", "舞雩", "笛声", "钟磬", "鼓浪", "帆影", "橹声", "桨痕", "渔火", "樵径", "耕云", "读雪", "牧笛",
    "织锦", "绣野", "裁云", "染霞", "煮茗", "焚香", "扫叶", "折柳", "采薇", "问渠",
];

/// A fake in the place of a value whose canonical form is `canonical`, made of 32 pseudorandom bytes that are the same
/// for the same value and key. None where no range of fakes is reserved.
pub(super) fn fake(entity: Entity, value: &str, canonical: &str, random: &[u8; 32]) -> Option<String> {
    let pick = |at: usize, count: usize| usize::from(u16::from_le_bytes([random[at], random[at + 1]])) % count;
    let name = |from: usize, count: usize| -> String { letters(&random[from..], count).collect() };
    Some(match entity {
        Entity::Email => format!("user-{}@{}", name(2, USER_LETTERS), DOMAINS[pick(0, 3)]),
        Entity::Url | Entity::UrlCredentials => format!("https://{}/{}", DOMAINS[pick(0, 3)], name(2, PATH_LETTERS)),
        Entity::UserHandle => format!("@user_{}", name(2, USER_LETTERS)),
        Entity::IpAddress => match canonical.parse() {
            Ok(IpAddr::V6(_)) => {
                let part = |at: usize| u16::from_be_bytes([random[at], random[at + 1]]);
                Ipv6Addr::new(0x2001, 0xdb8, part(0), part(2), part(4), part(6), part(8), part(10)).to_string()
            }
            _ => {
                let [a, b, c] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]][pick(0, 3)];
                Ipv4Addr::new(a, b, c, 1 + pick(2, 254) as u8).to_string()
            }
        },
        Entity::MacAddress => format!("00:00:5E:00:53:{:02X}", random[0]),
        Entity::Phone => match canonical.as_bytes() {
            [b'2'..=b'9', _, _, b'2'..=b'9', ..] if canonical.len() == 10 => format!("{}-555-01{:02}", AREA_CODES[pick(0, 64)], pick(2, 100)),
            [b'4', b'4', ..] if (11..=12).contains(&canonical.len()) => format!("+44 7700 900{:03}", pick(0, 1000)),
            _ => return None,
        },
        Entity::Person if value.chars().any(is_han) => format!("{}{}", HAN_SURNAMES[pick(0, 16)], HAN_NAMES[pick(2, 64)]),
        Entity::Person => format!("{} {}", FIRST_NAMES[pick(0, 32)], LAST_NAMES[pick(2, 64)]),
        _ => return None,
    })
}

/// Whether `value`, found as an `entity`, is one of the fakes that any key makes.
pub(super) fn is_fake(entity: Entity, value: &str) -> bool {
    let named = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| (b'a'..=b'p').contains(&b));
    match entity {
        Entity::Email => value
            .strip_prefix("user-")
            .and_then(|rest| rest.split_once('@'))
            .is_some_and(|(user, domain)| named(user, USER_LETTERS) && DOMAINS.contains(&domain)),
        Entity::Url | Entity::UrlCredentials => value
            .strip_prefix("https://")
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(host, path)| DOMAINS.contains(&host) && named(path, PATH_LETTERS)),
        Entity::UserHandle => value.strip_prefix("@user_").is_some_and(|user| named(user, USER_LETTERS)),
        Entity::IpAddress => match value.parse() {
            Ok(IpAddr::V4(address)) => matches!(address.octets(), [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _]),
            Ok(IpAddr::V6(address)) => matches!(address.segments(), [0x2001, 0xdb8, ..]),
            Err(_) => false,
        },
        Entity::MacAddress => value.strip_prefix("00:00:5E:00:53:").is_some_and(|last| last.len() == 2),
        Entity::Phone => is_fake_phone(value),
        Entity::Person => {
            let english = value.split_once(' ').is_some_and(|(first, last)| FIRST_NAMES.contains(&first) && LAST_NAMES.contains(&last));
            // Both halves are two characters of three bytes.
            english || value.len() == 12 && value.is_char_boundary(6) && HAN_SURNAMES.contains(&&value[..6]) && HAN_NAMES.contains(&&value[6..])
        }
        _ => false,
    }
}

/// `415-555-0142`, `+44 7700 900123`
fn is_fake_phone(value: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let american = value
        .split_once("-555-01")
        .is_some_and(|(area, line)| digits(line, 2) && digits(area, 3) && area.parse().is_ok_and(|area: u16| AREA_CODES.contains(&area)));
    american || value.strip_prefix("+44 7700 900").is_some_and(|line| digits(line, 3))
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::super::canonical::canonical;
    use super::*;

    #[test]
    fn every_fake_is_known_as_one() {
        for seed in 0..=255u8 {
            let random: [u8; 32] = blake3::hash(&[seed]).into();
            for (entity, value) in [
                (Entity::Email, "a@example.com"),
                (Entity::Url, "http://example.com/x"),
                (Entity::UserHandle, "@bob"),
                (Entity::IpAddress, "10.1.2.3"),
                (Entity::IpAddress, "fe80::1"),
                (Entity::MacAddress, "aa-bb-cc-dd-ee-ff"),
                (Entity::Phone, "+1 (415) 555-2671"),
                (Entity::Phone, "+44 20 7946 0018"),
                (Entity::Person, "张三"),
                (Entity::Person, "Jane Doe"),
            ] {
                let fake = fake(entity, value, &canonical(entity, value), &random).unwrap();
                assert!(is_fake(entity, &fake), "{fake}");
                assert!(!is_fake(entity, value), "{value}");
            }
        }
        for (entity, value) in [(Entity::Phone, "13812345678"), (Entity::CardNumber, "4111111111111111"), (Entity::Phone, "110")] {
            assert_eq!(fake(entity, value, &canonical(entity, value), &[7; 32]), None);
        }
    }
}
