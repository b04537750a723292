//! Candidates: what might be a value of each type. Validators decide.
//!
//! Boundaries are digit runs or ASCII: a Unicode `\b` sees none between a Han character and a digit. Every pattern is of
//! bounded length but for what follows a `://` or a path's `/`, which no validator refuses: so trying again costs no more
//! than linear time. Lengths are those of RFC 5321 and RFC 1035.

use super::Entity;
use super::validate::{self, Candidate};

/// One pattern with its validator.
pub(super) struct Pattern {
    pub(super) entity: Entity,
    pub(super) regex: &'static str,
    /// The accepted length from the candidate's start, and the score; absent: no value.
    pub(super) accept: fn(&Candidate<'_>) -> Option<(usize, f32)>,
}

/// Extensions: `x123`, `ext. 12`, `转8001`.
macro_rules! extension {
    () => {
        r"(?:(?i: ?(?:x|ext\.?|extension) ?|转)[0-9]{1,6})?"
    };
}

pub(super) const PATTERNS: &[Pattern] = &[
    Pattern { entity: Entity::Url, regex: r#"(?i)(?:https?|ftp|wss?)://[!#-;=?-~]+"#, accept: validate::url },
    Pattern {
        entity: Entity::Url,
        regex: r#"(?i)www\.[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,6}(?::[0-9]{1,5})?(?:[/?\#][!#-;=?-~]*)?"#,
        accept: validate::url,
    },
    Pattern { entity: Entity::Url, regex: r#"(?i)(?:[a-z0-9-]{1,63}\.){1,6}[a-z]{2,12}(?::[0-9]{1,5})?(?:/[!#-;=?-~]*)?"#, accept: validate::domain },
    Pattern { entity: Entity::Email, regex: r"(?i)[a-z0-9][a-z0-9._%+'-]{0,63}@(?:[a-z0-9-]{1,63}\.){1,6}[a-z]{2,24}", accept: validate::email },
    Pattern { entity: Entity::UserHandle, regex: r"@[\p{L}\p{N}_]{1,30}", accept: validate::handle },
    Pattern { entity: Entity::IpAddress, regex: r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", accept: validate::ipv4 },
    Pattern {
        entity: Entity::IpAddress,
        regex: r"(?i)(?:[0-9a-f]{0,4}:){2,7}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-f]{0,4})",
        accept: validate::ipv6,
    },
    Pattern { entity: Entity::CardNumber, regex: r"[0-9](?:[ -]?[0-9]){12,18}", accept: validate::card },
    // +44 (0)20 7946 0018, 0041 44 668 18 00
    Pattern {
        entity: Entity::Phone,
        regex: concat!(r"(?:\+ ?|00)[1-9][0-9]{0,2}(?:[ .\-/]{0,2}\(?[0-9]{1,6}\)?){2,7}", extension!()),
        accept: validate::international,
    },
    // (415) 555-0123, 1-415-555-0123, 001-415-555-0123 x12, 415.555.0123
    Pattern {
        entity: Entity::Phone,
        regex: concat!(r"(?:(?:\+?1|001)[ .\-]{0,2})?(?:\([0-9]{3}\)[ .\-]{0,2}|[0-9]{3}[ .\-/]{1,2})[0-9]{3}[ .\-]{1,2}[0-9]{4}", extension!()),
        accept: validate::grouped,
    },
    // 4155550123
    Pattern { entity: Entity::Phone, regex: concat!(r"1?[2-9][0-9]{2}[2-9][0-9]{6}", extension!()), accept: validate::plain_ten },
    // 138 1234 5678, +86-13812345678
    Pattern {
        entity: Entity::Phone,
        regex: r"(?:(?:\+ ?|00)?86[ \-]?)?1[3-9][0-9](?:[ \-]?[0-9]{4}[ \-]?[0-9]{4}|[ \-]?[0-9]{3}[ \-]?[0-9]{5})",
        accept: validate::chinese_mobile,
    },
    // 010-12345678, (0755) 1234567转801
    Pattern {
        entity: Entity::Phone,
        regex: concat!(r"\(?0[1-9][0-9]{1,2}\)?[ \-]?[0-9]{7,8}(?:-[0-9]{1,5})?", extension!()),
        accept: validate::landline,
    },
    // 020 7946 0018, (01632) 960 123, 06 12 34 56 78, 030/1234567
    Pattern {
        entity: Entity::Phone,
        regex: concat!(r"\(?0[0-9]{1,5}\)?[ .\-/]{1,2}[0-9]{2,8}(?:[ .\-/][0-9]{2,6}){0,4}", extension!()),
        accept: validate::leading_zero,
    },
    // 07700900123
    Pattern { entity: Entity::Phone, regex: r"0[1-9][0-9]{8,9}", accept: validate::leading_zero },
];
