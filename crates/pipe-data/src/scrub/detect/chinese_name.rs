//! Chinese names of people: a surname of the list and characters of given names, behind a word that announces a person
//! (姓名：, 收件人, 客户 …), before a title (先生, 女士, 老师 …), or right before a telephone number.

use super::super::{Entity, Verdict};
use super::scan::{Found, Scan};
use super::words::{DOUBLE_SURNAMES, GIVEN, NOT_GIVEN, NOT_NAMES, SURNAMES, WORDY_SURNAMES};

/// Words that announce a name, by their last character.
const ANNOUNCING: &[(char, &[&str])] = &[
    (
        '人',
        &[
            "联系人",
            "收件人",
            "寄件人",
            "发件人",
            "收货人",
            "发货人",
            "持卡人",
            "登记人",
            "申请人",
            "负责人",
            "经办人",
            "委托人",
            "受益人",
            "投保人",
            "保险人",
            "承租人",
            "出租人",
            "签收人",
            "担保人",
            "监护人",
            "当事人",
            "法人",
            "代表人",
            "报案人",
            "嫌疑人",
            "证人",
            "病人",
            "购房人",
            "购买人",
            "借款人",
            "代理人",
            "候选人",
            "被告人",
            "举报人",
            "投诉人",
            "取件人",
            "下单人",
            "付款人",
            "收款人",
            "填表人",
            "办理人",
            "本人",
            "主持人",
            "入住人",
            "乘车人",
            "乘机人",
            "预订人",
            "用户本人",
            "纳税人",
            "開戶人",
            "聯繫人",
            "收貨人",
            "经纪人",
            "车主本人",
            "继承人",
            "捐款人",
            "订购人",
            "租客人",
            "发布人",
            "参保人",
        ],
    ),
    ('名', &["姓名", "户名", "开户名", "真名", "实名", "本名", "氏名", "名前名"]),
    ('户', &["客户", "用户", "租户", "住户", "商户", "储户", "账户名户"]),
    ('者', &["患者", "死者", "伤者", "受害者", "求职者", "消费者", "肇事者"]),
    ('客', &["旅客", "乘客", "顾客", "访客", "租客"]),
    ('主', &["车主", "业主", "房主", "失主", "货主", "雇主", "机主", "卡主", "店主"]),
    ('生', &["医生", "学生", "考生", "实习生", "研究生"]),
    ('工', &["员工", "职工", "新员工"]),
    ('员', &["驾驶员", "快递员", "业务员", "销售员", "会员", "队员", "学员", "职员", "配送员", "保险员"]),
    ('告', &["原告", "被告"]),
    ('家', &["买家", "卖家", "专家"]),
    ('叫', &["我叫", "他叫", "她叫", "名叫", "名字叫", "的叫"]),
    ('亲', &["父亲", "母亲"]),
    ('偶', &["配偶"]),
    ('机', &["司机"]),
    ('方', &["甲方", "乙方", "承租方", "出租方", "买方", "卖方"]),
    ('属', &["家属", "亲属"]),
];

/// Titles that stand behind a name, by their last character.
const TITLES: &[(char, &[&str])] = &[
    ('生', &["先生", "医生"]),
    ('士', &["女士", "护士", "博士"]),
    ('师', &["老师", "律师", "医师"]),
    ('姐', &["小姐", "大姐"]),
    ('理', &["经理"]),
    ('授', &["教授"]),
    ('任', &["主任"]),
    ('学', &["同学"]),
    ('傅', &["师傅"]),
    ('夫', &["大夫"]),
    ('长', &["校长", "院长", "局长", "处长", "部长", "科长", "队长", "董事长"]),
    ('官', &["法官", "警官"]),
    ('记', &["书记"]),
    ('演', &["导演"]),
    ('监', &["总监"]),
    ('姨', &["阿姨"]),
    ('叔', &["叔叔"]),
    ('志', &["同志"]),
    ('奶', &["奶奶"]),
    ('爷', &["爷爷", "大爷"]),
    ('哥', &["大哥"]),
];

/// The words that announce a name, and the titles that follow one.
pub(super) fn words() -> impl Iterator<Item = &'static [&'static str]> {
    ANNOUNCING.iter().chain(TITLES).map(|(_, words)| *words)
}

/// The title that `head` ends with, whose last character is `c`.
fn title_of(head: &str, c: char) -> Option<&'static str> {
    TITLES.iter().find(|(last, _)| *last == c)?.1.iter().find(|title| head.ends_with(**title)).copied()
}

/// Whether a title begins `text`.
fn begins_title(text: &str) -> bool {
    TITLES.iter().any(|(_, titles)| titles.iter().any(|title| text.starts_with(title)))
}

/// At the last character of a word that announces a name or follows one, as its last two tell.
pub(super) fn anchor(scan: &mut Scan<'_>, at: usize, c: char) {
    let text = scan.text;
    let behind = at + c.len_utf8();
    let head = &text[scan.floor.min(at)..behind];
    if let Some(title) = title_of(head, c)
        && let Some((start, end)) = before_title(scan, behind - title.len())
    {
        // The title stays: it says nothing of who it is.
        scan.push(Found::new(Entity::Person, start, end, 0.75, Verdict::Context));
        return;
    }
    let Some((_, words)) = ANNOUNCING.iter().find(|(last, _)| *last == c) else { return };
    if !words.iter().any(|word| head.ends_with(word)) {
        return;
    }
    let mut start = behind;
    let mut marked = false;
    for filler in ["姓名", "名字", "名称", "信息", "本人", "/Name", "（签字）"] {
        if text[start..].starts_with(filler) {
            start += filler.len();
        }
    }
    for _ in 0..3 {
        for filler in ["：", ":", "是", "为", "叫", " ", "\t", "\u{3000}", "「", "“", "\"", "【"] {
            if text[start..].starts_with(filler) {
                start += filler.len();
                marked |= matches!(filler, "：" | ":" | "叫");
            }
        }
    }
    if let Some(end) = name_at(text, start, marked) {
        scan.push(Found::new(Entity::Person, start, end, 0.7, Verdict::Context));
    }
}

fn given(c: char) -> bool {
    GIVEN.has(c)
}

/// The first two Han characters, of three bytes each.
fn first_two(text: &str) -> &[u8] {
    text.get(..6).unwrap_or("").as_bytes()
}

fn han(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

/// A name that begins at `start`: where it ends. `marked`: a colon stands before it, so that nearly any two or three
/// characters up to the next sign are one.
fn name_at(text: &str, start: usize, marked: bool) -> Option<usize> {
    let rest = &text[start..];
    let mut characters = rest.chars();
    let double = DOUBLE_SURNAMES.has_exactly(first_two(rest));
    let first = characters.next()?;
    let surname = if double {
        first_two(rest).len()
    } else if SURNAMES.has(first) {
        first.len_utf8()
    } else {
        return None;
    };
    let wordy = WORDY_SURNAMES.has(first);
    if NOT_NAMES.has_exactly(first_two(rest))
        || wordy
            && !marked
            && !double
            && rest.chars().nth(2).is_some_and(han)
            && !begins_title(&rest[rest.chars().take(3).map(char::len_utf8).sum()..])
    {
        return None;
    }
    let mut behind = rest[surname..].chars();
    let (second, third, fourth) = (behind.next()?, behind.next(), behind.next());
    // `王某`, `李某某`.
    if second == '某' {
        return Some(start + surname + if third == Some('某') { 6 } else { 3 });
    }
    if !han(second) || NOT_GIVEN.has(second) && !given(second) {
        return None;
    }
    let two = start + surname + second.len_utf8();
    let ends = |c: Option<char>| c.is_none_or(|c| !han(c));
    if ends(third) {
        return (marked || given(second)).then_some(two);
    }
    let third = third?;
    let title = |at: usize| begins_title(&text[at..]);
    if title(two) {
        return Some(two);
    }
    let three = two + third.len_utf8();
    let common = !NOT_GIVEN.has(third);
    if common
        && (given(third) && given(second) || ends(fourth) && (marked || given(third)))
        && (ends(fourth) || title(three) || !follows_verb(&text[two..]))
    {
        return Some(three);
    }
    given(second).then_some(two)
}

/// Whether what follows two characters is a word and no second given name.
fn follows_verb(rest: &str) -> bool {
    [
        "完成", "开了", "开具", "来电", "通过", "成功", "可以", "办理", "立即", "发来", "明确", "同意", "平时", "学习", "真的", "明天", "方便",
        "致电", "来自", "来到", "先前", "信息", "申请", "特此",
    ]
    .iter()
    .any(|verb| rest.starts_with(verb))
}

/// The name that ends right before a title.
fn before_title(scan: &Scan<'_>, at: usize) -> Option<(usize, usize)> {
    let text = scan.text;
    let mut starts = [0; 4];
    let mut characters = ['\0'; 4];
    let mut count = 0;
    let mut start = at;
    for c in text[scan.floor.min(at)..at].chars().rev().take(4) {
        if !han(c) {
            break;
        }
        start -= c.len_utf8();
        starts[count] = start;
        characters[count] = c;
        count += 1;
    }
    let thanked = |k: usize| characters[k] == '谢' && k + 1 < count && matches!(characters[k + 1], '感' | '谢' | '多' | '致');
    let surname = |c: char| SURNAMES.has(c);
    let listed = |start: usize| NOT_NAMES.has_exactly(first_two(&text[start..at]));
    // With two given characters, then with one, then the surname alone; the double surnames first.
    for names in [4usize, 3, 2] {
        if count >= names && DOUBLE_SURNAMES.has_exactly(first_two(&text[starts[names - 1]..at])) {
            return Some((starts[names - 1], at));
        }
    }
    if count >= 3 && !thanked(2) && surname(characters[2]) && given(characters[1]) && given(characters[0]) && !listed(starts[2]) {
        return Some((starts[2], at));
    }
    let wordy = count >= 2 && (thanked(1) || WORDY_SURNAMES.has(characters[1]) && count > 2);
    if count >= 2 && !wordy && surname(characters[1]) && given(characters[0]) && !surname(characters[0]) && !listed(starts[1]) {
        return Some((starts[1], at));
    }
    if count >= 2 && !wordy && surname(characters[1]) && given(characters[0]) && !listed(starts[1]) && (count == 2 || !given(characters[2])) {
        return Some((starts[1], at));
    }
    let alone = count >= 1 && surname(characters[0]) && (!WORDY_SURNAMES.has(characters[0]) || count == 1);
    let prefixed = count == 1 || count >= 2 && !listed(starts[1]);
    (alone && prefixed).then_some((starts[0], at))
}

/// `张三13812345678`, `张三，电话138…` : a run of two or three Han characters that ends before a number.
pub(super) fn before_number(scan: &Scan<'_>, number: usize) -> Option<Found> {
    // Four bytes at most may stand between the name and the number.
    if scan.bits.before(|block| block.high, number) >> (u64::BITS - 5) == 0 || !scan.wants(Entity::Person) {
        return None;
    }
    let text = scan.text;
    let from = scan.floor.min(number);
    let head = text[from..number].trim_end_matches(['，', ',', '：', ':', ' ', '\t', '（', '(', '+']);
    if text[from..number].len() - head.len() > 4 {
        return None;
    }
    let end = from + head.len();
    let mut start = end;
    let mut count = 0;
    for c in head.chars().rev().take(4) {
        if !han(c) {
            break;
        }
        start -= c.len_utf8();
        count += 1;
    }
    let fits = (2..=3).contains(&count) && name_at(text, start, false) == Some(end);
    fits.then_some(Found::new(Entity::Person, start, end, 0.6, Verdict::Context))
}
