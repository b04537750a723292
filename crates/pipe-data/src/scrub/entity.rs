//! Types of personal data, and what a detector says of a value it found.

use serde::{Deserialize, Serialize};

macro_rules! entities {
    ($($variant:ident $name:literal $placeholder:literal $doc:literal,)*) => {
        /// Types of personal data.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Entity {
            $(#[doc = $doc] $variant,)*
            /// Of a policy file's own patterns: its position among them.
            Custom(u8),
        }

        impl Entity {
            /// All that pipe knows itself.
            pub const ALL: &[Entity] = &[$(Entity::$variant),*];

            /// As pipeline files and reports name it; a custom one's name is in its policy.
            pub fn name(self) -> &'static str {
                match self {
                    $(Entity::$variant => $name,)*
                    Entity::Custom(_) => "custom",
                }
            }

            /// That in [`Entity::ALL`]; of a custom one, the place behind the last.
            pub(super) const fn position(self) -> u8 {
                enum Position { $($variant),* }
                match self {
                    $(Entity::$variant => Position::$variant as u8,)*
                    Entity::Custom(_) => Entity::ALL.len() as u8,
                }
            }

            /// One bit for each type that pipe knows itself, for sets of them.
            pub(super) const fn bit(self) -> u32 {
                match self {
                    Entity::Custom(_) => 0,
                    _ => 1 << self.position(),
                }
            }

            /// What stands in its place; a custom one's is in its policy.
            pub fn placeholder(self) -> &'static str {
                match self {
                    $(Entity::$variant => $placeholder,)*
                    Entity::Custom(_) => "<CUSTOM>",
                }
            }
        }
    };
}

// Kept in step with `pipe_core::config::ENTITIES` by a test.
entities! {
    Email "email" "<EMAIL>" "E-mail addresses.",
    Phone "phone" "<PHONE>" "Telephone numbers, mobile and landline; no service numbers.",
    Url "url" "<URL>" "Any URL or bare domain.",
    UrlCredentials "url_credentials" "<URL>" "URLs with a password, token or signature in them.",
    UserHandle "user_handle" "<USER>" "`@name`.",
    IpAddress "ip_address" "<IP>" "IPv4 and IPv6.",
    MacAddress "mac_address" "<MAC>" "Hardware addresses of network cards.",
    CardNumber "card_number" "<CARD>" "Bank cards: Luhn and a known prefix.",
    Iban "iban" "<IBAN>" "International bank account numbers: mod 97.",
    UsSsn "us_ssn" "<SSN>" "US social security numbers.",
    CnResidentId "cn_resident_id" "<ID_CARD>" "Chinese resident identity cards, 18 and 15 digits.",
    Passport "passport" "<PASSPORT>" "Passports.",
    Permit "permit" "<PERMIT>" "Chinese travel and residence permits.",
    DriverLicense "driver_license" "<LICENSE>" "Driving licences, beside a context word.",
    LicensePlate "license_plate" "<PLATE>" "Chinese licence plates, new-energy and special ones too.",
    CnCreditCode "cn_credit_code" "<CREDIT_CODE>" "Unified social credit codes: mod 31.",
    Imei "imei" "<IMEI>" "Device numbers of mobile phones: Luhn.",
    Coordinates "coordinates" "<COORDINATES>" "Latitude and longitude.",
    DateOfBirth "date_of_birth" "<BIRTH_DATE>" "Dates beside a context word of birth.",
    SocialAccount "social_account" "<ACCOUNT>" "QQ and WeChat accounts beside a context word.",
    RecordNumber "record_number" "<RECORD_NUMBER>" "Parcel, medical record and other personal numbers beside a context word.",
    Secret "secret" "<SECRET>" "API keys, tokens, private keys and passwords.",
    Person "person" "<PERSON>" "Names of people.",
    Address "address" "<ADDRESS>" "Postal addresses.",
}

/// What the validator of a value said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A checksum or a full grammar holds.
    Valid,
    /// The checksum fails, but a context word stands beside it: typos are personal data.
    ChecksumFailed,
    /// The format fits.
    Format,
    /// Found by the words around it.
    Context,
    /// In a list of words.
    Listed,
    /// Found by a policy's own pattern.
    Pattern,
    /// Found by a model.
    Model,
}

impl Verdict {
    /// In the order of their numbers.
    pub(super) const ALL: [Verdict; 7] =
        [Verdict::Valid, Verdict::ChecksumFailed, Verdict::Format, Verdict::Context, Verdict::Listed, Verdict::Pattern, Verdict::Model];

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::ChecksumFailed => "checksum_failed",
            Verdict::Format => "format",
            Verdict::Context => "context",
            Verdict::Listed => "listed",
            Verdict::Pattern => "pattern",
            Verdict::Model => "model",
        }
    }
}

/// A found value: byte offsets into the text, never the text itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    pub entity: Entity,
    pub start: usize,
    pub end: usize,
    /// How sure its validator is, up to 1.
    pub score: f32,
    pub verdict: Verdict,
}
