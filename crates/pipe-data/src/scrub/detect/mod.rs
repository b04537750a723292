//! Finds personal data: one pass over the bytes stops at anchors, and bounded parsers around each decide.
//!
//! ```text
//! text ──bits of 64 bytes──▶ stops: digit runs, @ : = and . - inside words, introduced capitals, some Han characters
//!          │                   │
//!          │ full-width?       ▼
//!          └──▶ fold, again    number window · host · label · name · chain of address parts ──▶ validators ──▶ hits
//! ```
//!
//! An anchor is what every value of some type must contain: an e-mail address its `@`, a card its digits, a Chinese
//! address its 路 or 号. Bits of the classes of all bytes tell where one may be, and how far a run of digits or letters goes
//! (`bits`). Context words are looked for only within a bounded window before a candidate that needs them: those of ASCII word
//! by word (`phrases`), others with an automaton. No parser reads more than a fixed number of bytes around its anchor, so that
//! any text takes linear time. Boundaries are digit runs or ASCII: a Unicode `\b` sees none between a Han character and a
//! digit.

mod address;
mod anchors;
mod bank;
mod bits;
mod chinese_address;
mod chinese_name;
mod context;
mod date;
mod fold;
mod identity;
mod name;
mod network;
mod number;
mod overlap;
mod phone;
mod phrases;
mod place;
mod plate;
mod scan;
mod secret;
mod sets;
mod words;

use super::{Entity, Hit};
use anchors::Anchors;
use bits::Bits;
use fold::Folded;
pub(super) use overlap::resolve_overlaps;
use scan::{Scan, Stop};

/// What is found in a text, and the memory that finding needs: kept from text to text.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) hits: Vec<Hit>,
    bits: Bits,
}

impl Scratch {
    /// What a long text needed is given back: a record may have megabytes.
    const MOST: usize = 1 << 20;

    pub(super) const fn new() -> Scratch {
        Scratch { hits: Vec::new(), bits: Bits::new() }
    }

    /// Whether it is small enough to be kept.
    pub(super) fn is_kept(&self) -> bool {
        self.bits.capacity() <= Scratch::MOST
    }
}

/// What is looked for, and how hard.
#[derive(Debug, Clone, Default)]
pub(super) struct DetectorOptions {
    pub(super) entities: Vec<Entity>,
    /// Also what is as often harmless: short telephone numbers and dates without a context word, names of a list.
    pub(super) strict: bool,
}

pub(super) struct Detector {
    /// Bits of [`Entity::bit`].
    types: u32,
    strict: bool,
    anchors: Anchors,
}

impl Detector {
    pub(super) fn new(options: &DetectorOptions) -> Detector {
        let types = options.entities.iter().fold(0, |types, entity| types | entity.bit());
        Detector { types, strict: options.strict, anchors: Anchors::new(types, options.strict) }
    }

    /// Hits in order, none overlapping another, in the place of what is in `scratch`; offsets are those of `text`.
    pub(super) fn find_into(&self, text: &str, scratch: &mut Scratch) {
        let Scratch { hits, bits } = scratch;
        hits.clear();
        if self.types == 0 {
            return;
        }
        bits.read(text.as_bytes());
        if Scan::new(text, bits, self, hits).run(true) == Stop::Folds {
            hits.clear();
            let folded = Folded::new(text);
            bits.read(folded.text.as_bytes());
            Scan::new(&folded.text, bits, self, hits).run(false);
            for hit in hits.iter_mut() {
                (hit.start, hit.end) = folded.range(hit.start, hit.end);
            }
        }
        resolve_overlaps(hits);
    }
}
