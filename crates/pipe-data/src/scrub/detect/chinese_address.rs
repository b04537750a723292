//! Chinese addresses: chains of 省 市 区 县 镇 路 号 栋 单元 室, from a road or a number outwards.

use std::sync::LazyLock;

use super::super::{Entity, Verdict};
use super::scan::{Found, Scan};
use super::sets::{CharSet, WordSet};

/// How many characters an address has before its road, and behind it.
const BACK: usize = 30;
const FORWARD: usize = 40;

/// What stands before an address and is no part of it: words of two characters, and of one.
static LEADS: LazyLock<WordSet> = LazyLock::new(|| WordSet::new("地址|住址|家住|住所|寄给|收货|户籍|籍贯|现住|居住|前往|门牌|所地"));
static SHORT_LEADS: LazyLock<CharSet> = LazyLock::new(|| CharSet::new("住在于到是为从往至址和与经沿的了去我他她有走过离"));
/// Names of places that begin with such a character.
static NOT_LEADS: LazyLock<WordSet> =
    LazyLock::new(|| WordSet::new("和平|和县|和田|于洪|于田|于都|为民|经济|经开|经一|经二|经三|经四|经五|经六|经七|经八|有色|至善|住建"));

static BUILDING_STARTS: LazyLock<CharSet> =
    LazyLock::new(|| CharSet::new(&BUILDINGS.iter().filter_map(|word| word.chars().next()).collect::<String>()));
static UNIT_STARTS: LazyLock<CharSet> = LazyLock::new(|| CharSet::new(&UNITS.iter().filter_map(|word| word.chars().next()).collect::<String>()));

/// Those that say that an address follows.
const SAYING: &[&str] = &[
    "地址",
    "住址",
    "住在",
    "家住",
    "住所地",
    "住所",
    "寄到",
    "寄往",
    "寄至",
    "送到",
    "送至",
    "收货",
    "位于",
    "坐落",
    "户籍",
    "籍贯",
    "现住",
    "居住",
    "搬到",
    "发到",
    "快递到",
    "门牌",
    "住",
    "人在",
];

fn han(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

/// What ends a part with its number in front: 100号, 3栋, 801室.
const UNITS: &[&str] = &[
    "号楼", "号院", "号房", "单元", "号", "號", "弄", "巷", "栋", "棟", "幢", "座", "层", "楼", "室", "户", "院", "组", "队", "房", "区", "期", "米",
];
/// What ends a part that is a name.
const BUILDINGS: &[&str] = &[
    "小区", "大厦", "广场", "花园", "公寓", "家园", "苑", "大楼", "中心", "城", "村", "园", "馆", "里", "府", "庭", "墅", "东门", "西门", "南门",
    "北门", "场", "厦", "校区", "座",
];

/// An address around a road, a village or a county whose last character is at `at`.
pub(super) fn around(scan: &Scan<'_>, at: usize) -> Option<Found> {
    let text = scan.text;
    let c = scan.char_at(at)?;
    let behind = at + c.len_utf8();
    let before = scan.char_before(at)?;
    let road = match c {
        '路' | '街' | '巷' => true,
        '道' => matches!(before, '大' | '街' | '干' | '辅') || scan.byte(behind).is_ascii_digit(),
        '同' => before == '胡',
        _ => false,
    };
    let place = matches!(c, '村' | '镇' | '乡' | '区' | '县');
    if !(road || place)
        || c == '区' && matches!(before, '市' | '小' | '地' | '社' | '景' | '园' | '片')
        || before < '\u{4e00}' && !before.is_ascii_digit()
    {
        return None;
    }
    // 道路, 线路, 路上, 街上: words and no names.
    if road
        && (matches!(before, '道' | '线' | '马' | '公' | '铁' | '一' | '走' | '半' | '上' | '网' | '电' | '思' | '出' | '套' | '高' | '逛')
            && !scan.byte(behind).is_ascii_digit())
    {
        return None;
    }
    // A road or a village behind decides for the whole chain.
    if place && text[behind..].chars().take(10).take_while(|c| han(*c)).any(|c| matches!(c, '路' | '街' | '巷' | '镇' | '乡' | '村' | '道')) {
        return None;
    }
    let (end, units, numbered) = forward(scan, behind);
    if !numbered && !leads_near(scan, at) {
        return None;
    }
    let (start, levels, said) = back(scan, at)?;
    let length = text[start..at].chars().count();
    if length < 1 {
        return None;
    }
    let accepted = if road {
        numbered && (length >= 2 || levels > 0) || levels >= 2 || said && (length >= 2 || units > 0) || levels == 1 && units > 0 && numbered
    } else {
        let levels = levels + usize::from(matches!(c, '区' | '县' | '镇' | '乡' | '村'));
        numbered && levels >= 2 || levels >= 3 || said && levels >= 2 && length >= 3
    };
    accepted.then_some(Found::new(Entity::Address, start, end, if numbered { 0.85 } else { 0.7 }, Verdict::Format))
}

/// An address from a number whose unit follows: `盛世小区3栋801室` has no road.
pub(super) fn behind_number(scan: &Scan<'_>, at: usize) -> Option<Found> {
    let text = scan.text;
    let unit = ["号楼", "栋", "幢", "单元", "弄", "号院"].iter().find(|unit| text[at..].starts_with(**unit))?;
    let digits = scan.bytes[..at].iter().rev().take(6).take_while(|b| b.is_ascii_digit()).count();
    let number = at - digits;
    let (end, units, _) = forward(scan, at + unit.len());
    let (start, levels, said) = back(scan, number)?;
    let named = BUILDINGS.iter().any(|building| text[start..number].ends_with(building)) && text[start..number].chars().count() >= 3;
    (levels > 0 || said || named && units > 0).then_some(Found::new(Entity::Address, start, end, 0.75, Verdict::Format))
}

/// Whether what an address needs that has no number may stand before: a level of administration, or a word that says so.
fn leads_near(scan: &Scan<'_>, at: usize) -> bool {
    scan.text[scan.floor.min(at)..at].chars().rev().take(BACK).take_while(|c| *c >= '\u{80}').any(|c| {
        matches!(
            c,
            '省' | '市' | '区' | '县' | '州' | '镇' | '乡' | '址' | '住' | '到' | '往' | '至' | '于' | '在' | '货' | '籍' | '落' | '牌' | '：'
        )
    }) || scan.before(at) < 0x80
}

/// Where an address begins that goes on at `at`, how many levels of administration it names, and whether a word says
/// that it is one.
fn back(scan: &Scan<'_>, at: usize) -> Option<(usize, usize, bool)> {
    let text = scan.text;
    let mut least = scan.floor.max(at.saturating_sub(BACK * 3)).min(at);
    while !text.is_char_boundary(least) {
        least += 1;
    }
    let mut start = at;
    for c in text[least..at].chars().rev() {
        if !(han(c) || c.is_ascii_alphanumeric() || matches!(c, '-')) {
            break;
        }
        start -= c.len_utf8();
    }
    // Digits and letters do not begin one.
    let mut head = &text[start..at];
    let from = start;
    // Behind the last word that leads to it; names of provinces and cities hold none of these words but these.
    let mut begin = 0;
    for (offset, c) in head.char_indices() {
        let two = head.as_bytes().get(offset..offset + 6).unwrap_or_default();
        if SHORT_LEADS.has(c) && !within_name(head, offset, c, two) {
            begin = offset + c.len_utf8();
        } else if han(c) && LEADS.has_exactly(two) {
            begin = offset + two.len();
        }
    }
    let told = &head[..begin];
    head = &head[begin..];
    let trimmed = head.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-');
    let start = from + begin + (head.len() - trimmed.len());
    let before = &text[least..start];
    let said =
        SAYING.iter().any(|word| told.ends_with(word) || before.trim_end_matches(['：', ':', ' ', '是', '在', '为', '于', '/']).ends_with(word));
    let mut levels = 0;
    let mut previous = 0;
    for (offset, c) in trimmed.char_indices() {
        if matches!(c, '省' | '市' | '区' | '县' | '州' | '镇' | '乡' | '盟' | '旗') {
            if offset > previous {
                levels += 1;
            }
            previous = offset + c.len_utf8();
        }
    }
    (start < at).then_some((start, levels, said))
}

/// Whether a leading character is part of a place's name: 和平区, 为民路, 于洪区, 呼和浩特.
fn within_name(head: &str, offset: usize, lead: char, two: &[u8]) -> bool {
    NOT_LEADS.has_exactly(two)
        || lead == '和' && head[..offset].ends_with('呼')
        || lead == '经' && head[..offset].ends_with(['东', '西', '南', '北'])
        || lead == '为' && head[..offset].ends_with(['有', '无'])
}

/// The end of the last word of a building in a run of Han characters.
fn building_end(run: &str) -> Option<usize> {
    let mut end = None;
    for (at, c) in run.char_indices() {
        if BUILDING_STARTS.has(c)
            && let Some(building) = BUILDINGS.iter().find(|building| run[at..].starts_with(**building) && (at > 0 || building.len() > 3))
        {
            end = Some(at + building.len());
        }
    }
    end
}

/// Parts behind a road: their end, how many, and whether a number is among them.
fn forward(scan: &Scan<'_>, from: usize) -> (usize, usize, bool) {
    let text = scan.text;
    let mut limit = (from + FORWARD * 3).min(text.len());
    while !text.is_char_boundary(limit) {
        limit -= 1;
    }
    let mut end = from;
    let (mut units, mut numbered) = (0, false);
    while units < 8 && end < limit {
        let rest = &text[end..limit];
        // `3号楼`, `A座`, `12层`, `B-204室`; Chinese numerals too.
        let digits = rest
            .find(|c: char| {
                !(c.is_ascii_alphanumeric()
                    || matches!(
                        c,
                        '-' | '－' | '一' | '二' | '三' | '四' | '五' | '六' | '七' | '八' | '九' | '十' | '百' | '甲' | '乙' | '丙' | '丁'
                    ))
            })
            .unwrap_or(rest.len());
        if digits > 0 && digits <= 18 {
            let behind = &rest[digits..];
            if behind.starts_with(|c| UNIT_STARTS.has(c))
                && let Some(unit) = UNITS.iter().find(|unit| behind.starts_with(**unit))
            {
                if *unit == "米" {
                    break;
                }
                end += digits + unit.len();
                units += 1;
                numbered = true;
                continue;
            }
            // A room's number may end the address without its word.
            let bare = rest[..digits].bytes().all(|b| b.is_ascii_digit() || b == b'-') && (2..=6).contains(&digits);
            if bare
                && units > 0
                && !behind.starts_with(['年', '月', '日', '元', '块', '人', '个', '点'])
                && !behind.starts_with(|c: char| c.is_ascii_digit())
            {
                end += digits;
            }
            break;
        }
        // `远洋大厦`, `盛世长安小区`: Han up to the word of a building.
        let run: usize = rest.chars().take(12).take_while(|c| han(*c)).map(char::len_utf8).sum();
        if !numbered || run == 0 {
            break;
        }
        match building_end(&rest[..run]) {
            Some(length) => {
                end += length;
                units += 1;
            }
            _ => break,
        }
    }
    (end, units, numbered)
}
