//! Which bytes, and which Han characters, the pass over a text stops at: only what some wanted type needs.

use super::super::Entity;

/// What a byte means to the pass.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    Plain,
    Digit,
    At,
    Colon,
    Equals,
    Dot,
    Dash,
    Capital,
    /// The first byte of a Han character.
    Han,
    /// The first byte of another character that may have to be folded, or is `：`.
    Other,
}

pub(super) struct Anchors {
    pub(super) classes: [Class; 256],
    /// A bit for each character of the Basic Multilingual Plane.
    han: Box<[u64; 1024]>,
}

/// Last characters of the words that stand before a name, of titles that stand behind one.
const NAME_ANCHORS: &str = "人名户者客主生工员告家叫亲偶机方属士师姐理授任学傅夫长官记演监姨叔志奶爷哥";
const ADDRESS_ANCHORS: &str = "路街道巷弄村镇乡同区县";

impl Anchors {
    pub(super) fn new(types: u32) -> Anchors {
        let wants = |entities: &[Entity]| entities.iter().any(|entity| types & entity.bit() != 0);
        let mut classes = [Class::Plain; 256];
        let mut set = |bytes: &mut dyn Iterator<Item = u8>, class: Class| bytes.for_each(|b| classes[usize::from(b)] = class);
        // All but e-mail addresses, domains and handles have digits, or may have.
        set(&mut (b'0'..=b'9'), Class::Digit);
        if wants(&[Entity::Email, Entity::UserHandle]) {
            set(&mut [b'@'].into_iter(), Class::At);
        }
        if wants(&[
            Entity::Url,
            Entity::UrlCredentials,
            Entity::IpAddress,
            Entity::MacAddress,
            Entity::Secret,
            Entity::Person,
            Entity::SocialAccount,
            Entity::Address,
            Entity::UserHandle,
        ]) {
            set(&mut [b':'].into_iter(), Class::Colon);
        }
        if wants(&[Entity::Secret]) {
            set(&mut [b'='].into_iter(), Class::Equals);
        }
        if wants(&[Entity::Url, Entity::MacAddress]) {
            set(&mut [b'.'].into_iter(), Class::Dot);
        }
        if wants(&[Entity::Secret, Entity::MacAddress]) {
            set(&mut [b'-'].into_iter(), Class::Dash);
        }
        if wants(&[Entity::Person]) {
            set(&mut (b'A'..=b'Z'), Class::Capital);
        }
        set(&mut [0xc2, 0xe2, 0xe3, 0xef, 0xf0].into_iter(), Class::Other);
        let mut han = Box::new([0; 1024]);
        let mut add = |characters: &str| characters.chars().for_each(|c| han[c as usize >> 6] |= 1u64 << (c as usize & 63));
        if wants(&[Entity::Person]) {
            add(NAME_ANCHORS);
        }
        if wants(&[Entity::Address]) {
            add(ADDRESS_ANCHORS);
        }
        if wants(&[Entity::DateOfBirth]) {
            add("生");
        }
        if wants(&[Entity::SocialAccount]) {
            add("微");
        }
        if wants(&[Entity::Secret]) {
            add("密口");
        }
        if han.iter().any(|bits| *bits != 0) {
            (0xe4..=0xe9).for_each(|b: usize| classes[b] = Class::Han);
        }
        Anchors { classes, han }
    }

    /// Whether the pass stops at this Han character.
    #[inline]
    pub(super) fn stops_at(&self, code: usize) -> bool {
        self.han[code >> 6] >> (code & 63) & 1 != 0
    }
}
