//! Words beside a value that say what it is.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::super::Entity;
use super::phrases::Phrases;
use super::scan::Scan;

/// How far before a value a context word is looked for: some twenty characters, of three bytes in Chinese.
const REACH: usize = 72;
const REACH_ASCII: usize = 44;

/// Kinds of context words, as bits.
pub(super) mod kind {
    pub(in super::super) const PHONE: u32 = 1;
    pub(in super::super) const CARD: u32 = 1 << 1;
    pub(in super::super) const RESIDENT: u32 = 1 << 2;
    pub(in super::super) const SSN: u32 = 1 << 3;
    pub(in super::super) const PASSPORT: u32 = 1 << 4;
    pub(in super::super) const PERMIT: u32 = 1 << 5;
    pub(in super::super) const LICENCE: u32 = 1 << 6;
    pub(in super::super) const IMEI: u32 = 1 << 7;
    pub(in super::super) const BIRTH: u32 = 1 << 8;
    pub(in super::super) const QQ: u32 = 1 << 9;
    pub(in super::super) const WECHAT: u32 = 1 << 10;
    pub(in super::super) const RECORD: u32 = 1 << 11;
    pub(in super::super) const SECRET: u32 = 1 << 12;
    pub(in super::super) const POSTCODE: u32 = 1 << 13;
    pub(in super::super) const PLACE: u32 = 1 << 14;
    /// What names a thing and no person: orders, products, versions.
    pub(in super::super) const THING: u32 = 1 << 15;
    pub(in super::super) const ADDRESS: u32 = 1 << 16;
    pub(in super::super) const COMPANY: u32 = 1 << 17;
    pub(in super::super) const IBAN: u32 = 1 << 18;
    pub(in super::super) const VERSION: u32 = 1 << 19;
    pub(in super::super) const PLATE: u32 = 1 << 20;
}
use kind::*;

/// Each kind with its words, lower case, parted by bars. The longest at a place counts.
const WORDS: &[(u32, &str)] = &[
    (
        PHONE,
        "phone|telephone|tel|mobile|mob|cell|cellphone|cell phone|phone number|fax|call|calling|dial|ring|text me|texting|sms|\
         reach|my number|her number|his number|their number|our number|number is|answering at|contact|hotline|whatsapp|telegram|\
         signal|viber|landline|callback|pager|handy|telefon|téléphone|teléfono|telefono|rufnummer|mobil|portable|móvil|celular|\
         office|work|home|emergency|电话|手机|联系方式|联络方式|致电|来电|拨打|座机|固话|传真|热线|短信|号码是|联系我|打给|手提|電話|手機|携帯|전화|연락처|휴대폰|телефон|тел",
    ),
    (
        CARD,
        "card|cards|credit card|debit card|card number|card no|cc|visa|mastercard|amex|american express|maestro|discover|\
         unionpay|jcb|pan number|银行卡|卡号|信用卡|储蓄卡|借记卡|工行卡|建行卡|农行卡|中行卡|招行卡|交行卡|银联|银行账号|银行帐号|银行账户|收款账号|账号|帐号|账户|bank card|\
         bank account|工资卡|信用卡号|银行卡号",
    ),
    (
        RESIDENT,
        "身份证|身份証|证件号|证件号码|身份号码|身分证|id card|identity card|resident id|id number|identity number|公民身份|证号|sfz|居民身份证|身份证号码|身份证号|居住证",
    ),
    (SSN, "ssn|social security|social security number|social security no|ss#|ss number|social|社会安全号|社安号|社会保险号|itin"),
    (PASSPORT, "passport|passport number|passport no|passports|护照|護照|旅券|reisepass|passeport|pasaporte|护照号|护照号码|여권"),
    (
        PERMIT,
        "通行证|回乡证|台胞证|往来港澳|往来台湾|居留证|永久居留|居留许可|大陆通行证|入台证|签注|residence permit|travel permit|permit|green card|通行証|permit number|\
         permit no",
    ),
    (
        LICENCE,
        "driver license|drivers license|driver's license|driver’s license|driver's license number|driver license number|\
         drivers license number|driver’s license number|driving license|driving licence|driver's licence|driver licence|\
         driving licence number|licence number|license number|dl|driver's lic|dl number|驾驶证|驾照|驾驶执照|驾驶证号|档案编号|führerschein|\
         permis de conduire",
    ),
    (IMEI, "imei|meid|imei号|imei码|imei number|设备号|串号|手机串号|imei1|imei2|imeisv"),
    (
        BIRTH,
        "born|born on|dob|date of birth|birth date|birthdate|birthday|birth|d.o.b|bday|b-day|date-of-birth|date_of_birth|\
         birth_date|出生|生日|生于|出生日期|出生年月|出生于|诞生|生年月日|geb|geboren|geburtsdatum|né le|née le|nacido|nacida|fecha de nacimiento|\
         date de naissance|nato il|nata il|geboortedatum|생년월일|родился|родилась|年生",
    ),
    (QQ, "qq|qq号|qq号码|qq是|扣扣|企鹅号|q号|qq number|加q|qq群|qq群号"),
    (WECHAT, "wechat|weixin|wx|vx|微信|微信号|薇信|v信|威信|wechat id|微信id|微信账号"),
    (
        RECORD,
        "tracking|tracking number|tracking no|waybill|shipment|parcel|快递单|快递单号|运单|运单号|物流单号|单号是|快递号|顺丰单号|顺丰|圆通|中通|申通|韵达|mrn|\
         medical record|medical record number|patient id|patient number|病历号|病历|病案号|住院号|门诊号|就诊卡|就诊卡号|就诊号|检查号|社保号|社保卡|医保卡|医保号|医保卡号|\
         社会保障号|学号|工号|学籍号|准考证|准考证号|会员号|会员卡号|保单号|公积金|student id|student number|employee id|employee number|staff id|member id|\
         member number|membership|insurance id|insurance number|policy number|health card|national insurance|\
         national insurance number|nino|ni number|nhs|nhs number|nhs no|aadhaar|aadhar|pan card|pan|uid|tax id|tax number|\
         tax identification|taxpayer|utr|steuer-id|steueridentifikationsnummer|steuernummer|sozialversicherungsnummer|\
         krankenversicherungsnr|krankenversicherungsnummer|versichertennummer|マイナンバー|個人番号|주민등록번호|주민번호|주민|account number|\
         account no|acct|account|routing|routing number|reference number|medicare|medicaid|voter id|tin number|customer id|\
         customer number|beneficiary|纳税人识别号|军官证|士兵证|残疾证|教师证|执业证|资格证|insee|dni|nif|cpf|curp|bsn|pesel|cuit|codice fiscale|cnic|\
         emirates id|nric|hkid|social insurance",
    ),
    (
        SECRET,
        "password|passwd|pwd|passcode|passphrase|secret|api key|apikey|api_key|access key|access token|auth token|token|\
         secret key|private key|credentials|密码|口令|密钥|令牌|秘钥|pin|pin code|验证码",
    ),
    (POSTCODE, "zip|zip code|zipcode|postal code|postcode|post code|邮编|邮政编码|郵遞區號|postleitzahl|code postal"),
    (
        PLACE,
        "latitude|longitude|lat|lng|lon|long|gps|coordinates|coordinate|coords|located at|location|position|geo|geolocation|纬度|\
         经度|坐标|经纬度|定位|北纬|东经|南纬|西经",
    ),
    (
        THING,
        "order|order number|order no|order id|po|item|product|product code|sku|serial|serial number|serial no|s/n|isbn|issn|doi|\
         ref|reference|invoice|invoice number|article|model|part|part number|batch|lot|price|code|error code|ticket|case|barcode|\
         upc|ean|asin|transaction|transaction id|id|session|commit|hash|checksum|build|rfc|page|pages|article number|patent|订单|\
         订单号|单号|编号|流水号|交易号|发票|发票号|序列号|型号|批号|货号|商品|条码|产品|合同号|合同编号|工单|凭证号|价格|金额|总计|期号|文号|代码|版号|许可证|备案号|编码|bestellnummer|\
         artikelnummer|rechnung|rechnungsnummer|calculate|timestamp|epoch",
    ),
    (
        ADDRESS,
        "address|addresses|addr|lives at|living at|residing at|resides at|located in|ship to|shipping|deliver to|delivered to|\
         mail to|billing|mailing|residence|street|地址|住址|住在|家住|住所|寄到|寄往|寄至|送到|送至|送货|收货|位于|坐落|户籍|籍贯|现住|居住|住|快递到|发到|搬到|户口|门牌|\
         anschrift|adresse|wohnhaft|dirección|indirizzo|sent to",
    ),
    (COMPANY, "信用代码|社会信用|统一社会信用代码|机关代码|组织代码|组织机构代码|税号|纳税人识别号|企业代码|uscc|credit code|社会组织代码|注册号"),
    (IBAN, "iban|bank account number|bankverbindung"),
    (VERSION, "version|ver|v|release|rev|build number|firmware|版本|版本号|固件|升级到|更新到|section|chapter|clause|第"),
    (PLATE, "车牌|车牌号|车号|牌照|plate|license plate|licence plate|号牌"),
];

struct Automaton {
    words: AhoCorasick,
    kinds: Vec<u32>,
}

static AUTOMATON: LazyLock<Automaton> = LazyLock::new(|| {
    let pairs: Vec<(u32, &str)> = WORDS.iter().flat_map(|(kind, words)| words.split('|').map(|word| (*kind, word))).collect();
    let words = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::DFA))
        .build(pairs.iter().map(|(_, word)| *word))
        .expect("the words are part of the program and tested");
    Automaton { words, kinds: pairs.iter().map(|(kind, _)| *kind).collect() }
});

/// The words of ASCII by their first letters up to another sign.
static PHRASES: LazyLock<Phrases> = LazyLock::new(|| {
    let words = WORDS.iter().flat_map(|(kind, words)| words.split('|').map(|word| (*kind, word)));
    Phrases::new(words.filter(|(_, word)| word.is_ascii()).map(|(kind, word)| (word, kind)))
});

/// What the words before a value say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context {
    /// All kinds in reach.
    pub(super) kinds: u32,
    /// That of the nearest word.
    pub(super) nearest: u32,
    /// Bytes between the nearest word and the value.
    pub(super) gap: usize,
}

impl Context {
    /// A word of this kind, and none nearer that speaks of another thing.
    pub(super) fn says(self, kind: u32) -> bool {
        self.nearest & kind != 0 || (self.kinds & kind != 0 && self.nearest & (THING | VERSION) == 0)
    }

    /// The nearest word names a thing, right before the value.
    pub(super) fn names_thing(self) -> bool {
        self.nearest & (THING | VERSION) != 0 && self.gap <= 12
    }
}

/// The words between the scan's floor and `at`, within reach.
pub(super) fn before(scan: &Scan<'_>, at: usize) -> Context {
    let near = scan.floor.max(at.saturating_sub(REACH_ASCII)).min(at);
    let mut context = Context::default();
    let add = |kind: u32, end: usize| {
        context.kinds |= kind;
        context.nearest = kind;
        context.gap = at - end;
    };
    if scan.is_ascii(near, at) {
        ascii_words(scan, near, at, add);
    } else {
        let mut from = scan.floor.max(at.saturating_sub(REACH));
        while !scan.text.is_char_boundary(from) {
            from += 1;
        }
        words(scan.bytes, from, at, add);
    }
    context
}

/// Whether a word of `kind` stands right behind a value, in the same line: `455 6186 office`.
pub(super) fn follows(scan: &Scan<'_>, at: usize, kind: u32) -> bool {
    let text = scan.text;
    let mut until = (at + 16).min(text.len());
    while !text.is_char_boundary(until) {
        until -= 1;
    }
    let until = text.as_bytes()[at..until].iter().position(|b| *b == b'\n').map_or(until, |line| at + line);
    // What a new sentence says is about something else.
    let until = text.as_bytes()[at..until].windows(2).position(|pair| matches!(pair, b". " | b"! " | b"? ")).map_or(until, |end| at + end);
    let mut found = false;
    // A word that names the next value stands before a colon.
    let add = |word: u32, end: usize| found |= word & kind != 0 && !text[end..].trim_start().starts_with([':', '：']);
    match scan.is_ascii(at, until) {
        true => ascii_words(scan, at, until, add),
        false => words(scan.bytes, at, until, add),
    }
    found
}

/// In any script, by the automaton.
fn words(bytes: &[u8], from: usize, until: usize, mut each: impl FnMut(u32, usize)) {
    let automaton = &*AUTOMATON;
    let mut at = from;
    while let Some(found) = automaton.words.find(Input::new(bytes).range(at..until)) {
        let (start, end) = (found.start(), found.end());
        if bytes[start].is_ascii_alphabetic() && start > 0 && bytes[start - 1].is_ascii_alphabetic() {
            // The end of a longer word hides none that begins behind its first letter.
            at = start + 1;
            continue;
        }
        if !cut_behind(bytes, end, until) {
            each(automaton.kinds[found.pattern().as_usize()], end);
        }
        at = end;
    }
}

/// In ASCII, and at most sixty-four bytes: a word after the other is looked up, and most are told by their first letters to
/// be in no list.
fn ascii_words(scan: &Scan<'_>, from: usize, until: usize, mut each: impl FnMut(u32, usize)) {
    if from >= until {
        return;
    }
    debug_assert!(until - from <= 64);
    let phrases = &*PHRASES;
    let letters = scan.bits.from(|block| block.alpha, from) & (u64::MAX >> (64 - (until - from)));
    let mut starts = letters & !(letters << 1 | u64::from(scan.before(from).is_ascii_alphabetic()));
    while starts != 0 {
        let offset = starts.trailing_zeros();
        let (start, length) = (from + offset as usize, (letters >> offset).trailing_ones() as usize);
        starts &= starts - 1;
        let Some((kind, end)) = phrases.longest(scan.bytes, start, length, until) else { continue };
        // What a phrase holds is no word of its own.
        starts &= u64::MAX.checked_shl((end - from) as u32).unwrap_or(0);
        if !cut_behind(scan.bytes, end, until) {
            each(kind, end);
        }
    }
}

fn cut_behind(bytes: &[u8], end: usize, until: usize) -> bool {
    bytes[end - 1].is_ascii_alphabetic() && end < until && bytes[end].is_ascii_alphabetic() && !plural(bytes, end)
}

fn plural(bytes: &[u8], at: usize) -> bool {
    bytes[at] == b's' && !bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
}

/// What may stand between two values of one list.
pub(super) fn is_list_gap(gap: &[u8]) -> bool {
    if gap.len() > 8 {
        return false;
    }
    match gap {
        [] | b" " | b", " => return true,
        // No list goes on with such a letter.
        [b' ', b'b'..=b'n' | b'p'..=b'z' | b'A'..=b'Z' | b'(' | b'<', ..] => return false,
        _ => {}
    }
    let Ok(gap) = std::str::from_utf8(gap) else { return false };
    let gap = gap.trim();
    matches!(gap, "" | "," | "/" | ";" | "|" | "、" | "，" | "；" | "or" | "and" | "&" | "和" | "或" | "及" | "与")
}

/// What a value says of those that follow it in a list.
pub(super) fn of_entity(entity: Entity) -> Context {
    let kind = match entity {
        Entity::Phone => PHONE,
        Entity::CardNumber => CARD,
        Entity::CnResidentId => RESIDENT,
        Entity::UsSsn => SSN,
        Entity::SocialAccount => QQ,
        _ => 0,
    };
    Context { kinds: kind, nearest: kind, gap: 0 }
}
