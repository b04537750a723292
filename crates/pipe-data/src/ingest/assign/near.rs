//! Signatures of texts that tell near duplicates: MinHash over shingles, in bands.
//!
//! A text is the set of its shingles, runs of a few words or characters; the likeness of two texts is the share of all
//! their shingles that they have in common (Jaccard). The least of a random hash over a set is that of another set with
//! just this chance (Broder, 1997, "On the resemblance and containment of documents"). With `bands` × `rows` hashes, texts
//! of likeness s agree in all rows of some band with the chance 1 − (1 − s^rows)^bands (Leskovec, Rajaraman, Ullman,
//! "Mining of Massive Datasets", section 3.4).

use pipe_core::config::NearConfig;

/// Hashes that are computed together: they fill the registers of any processor of today.
const LANES: usize = 16;
/// Shingles that go through one group of hashes before the next group's turn.
const BLOCK: usize = 256;
/// Tokens per shingle; the settings allow no more.
const MAX_SHINGLE: usize = 32;

/// Makes signatures. Shared by all threads.
pub(in crate::ingest) struct NearSigner {
    bands: usize,
    rows: usize,
    words: usize,
    characters: usize,
    /// One per hash, filled up to whole lanes.
    factors: Vec<u32>,
    /// A shingle of tokens a, b, c is a·base² + b·base + c.
    base: u64,
    keys: [u64; 4],
}

impl NearSigner {
    pub(in crate::ingest) fn new(config: &NearConfig) -> NearSigner {
        // Hashes that no one finds in a table of common phrases, but the same ones in every run.
        let mut random = blake3::Hasher::new_derive_key("pipe near-duplicate signature v1").finalize_xof();
        let mut number = || {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let (base, keys) = (number() | 1, std::array::from_fn(|_| number() | 1));
        let hashes = (config.bands * config.rows).next_multiple_of(LANES);
        let factors = (0..hashes).map(|_| number() as u32).collect();
        let limit = |tokens: usize| tokens.clamp(1, MAX_SHINGLE);
        let (words, characters) = (limit(config.words), limit(config.characters));
        NearSigner { bands: config.bands, rows: config.rows, words, characters, factors, base, keys }
    }

    /// One number per band; none where the texts have nothing but white space. Two rows that have the same number in one
    /// band are near duplicates.
    ///
    /// Each text has shingles of its own, so that a question and its answer are not their exchange.
    pub(in crate::ingest) fn bands(&self, texts: &[&str]) -> Vec<u64> {
        let mut minima = Minima::new(&self.factors);
        for (at, text) in texts.iter().enumerate() {
            self.add_text(text, (at as u64).wrapping_mul(self.keys[0]), &mut minima);
        }
        let Some(minima) = minima.finish() else { return Vec::new() };
        let band = |(at, rows): (usize, &[u32])| rows.iter().fold(at as u64, |hash, row| self.mix(hash ^ u64::from(*row)));
        minima[..self.bands * self.rows].chunks_exact(self.rows).enumerate().map(band).collect()
    }

    fn add_text(&self, text: &str, salt: u64, minima: &mut Minima<'_>) {
        let tokens = tokens_of(text);
        let size = if tokens == Some(Tokens::Words) { self.words } else { self.characters };
        let mut shingles = Shingles::new(self.base, size);
        let mut add = |token: u64| {
            if let Some(shingle) = shingles.push(self.mix(token)) {
                minima.push(self.mix(shingle ^ salt));
            }
        };
        match tokens {
            None => return,
            Some(Tokens::Characters) => text.chars().filter(|c| is_letter(*c)).for_each(|c| add(u64::from(fold(c)))),
            Some(Tokens::Signs) => text.chars().filter(|c| !c.is_whitespace()).for_each(|c| add(u64::from(c))),
            Some(Tokens::Words) => {
                let mut word = 0;
                for c in text.chars() {
                    if is_letter(c) {
                        word = self.mix(word ^ u64::from(fold(c)));
                    } else if word != 0 {
                        add(std::mem::take(&mut word));
                    }
                }
                if word != 0 {
                    add(word);
                }
            }
        }
        if let Some(shingle) = shingles.short() {
            minima.push(self.mix(shingle ^ salt));
        }
    }

    /// Multiplies and folds, as wyhash does.
    fn mix(&self, value: u64) -> u64 {
        let product = u128::from(value ^ self.keys[1]) * u128::from(self.keys[2]);
        (product as u64) ^ (product >> 64) as u64 ^ self.keys[3]
    }
}

/// What shingles are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    /// Runs of letters and digits.
    Words,
    /// Letters and digits, where words are not set apart.
    Characters,
    /// Whatever there is: the text has neither letters nor digits.
    Signs,
}

/// What a text is mostly: a character of a script without spaces counts as much as a word of any other.
fn tokens_of(text: &str) -> Option<Tokens> {
    if text.is_ascii() && text.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        return Some(Tokens::Words);
    }
    let (mut words, mut characters, mut in_word, mut signs) = (0usize, 0usize, false, false);
    for c in text.chars() {
        let unspaced = is_unspaced(c);
        let letter = !unspaced && is_letter(c);
        characters += usize::from(unspaced);
        words += usize::from(letter && !in_word);
        in_word = letter;
        signs |= !c.is_whitespace();
    }
    match (characters > words, words > 0) {
        (true, _) => Some(Tokens::Characters),
        (false, true) => Some(Tokens::Words),
        (false, false) => signs.then_some(Tokens::Signs),
    }
}

/// Scripts that are written without spaces between words: Han, kana, Thai, Lao, Myanmar, Khmer.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{3005}'..='\u{3007}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9d}'
        | '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
        && is_letter(c)
}

fn is_letter(c: char) -> bool {
    // Most of a Chinese text, which the tables of the standard library would search for.
    matches!(c, '\u{4e00}'..='\u{9fff}') || c.is_alphanumeric()
}

/// Lower case, and full-width forms as their plain ones.
fn fold(c: char) -> char {
    match c {
        '\u{4e00}'..='\u{9fff}' => c,
        '\u{ff01}'..='\u{ff5e}' => char::from((u32::from(c) - 0xfee0) as u8).to_ascii_lowercase(),
        c if c.is_ascii() => c.to_ascii_lowercase(),
        c => c.to_lowercase().next().unwrap_or(c),
    }
}

/// Rolling hash over the last few tokens (Karp and Rabin, 1987).
struct Shingles {
    base: u64,
    /// What the oldest token was multiplied with.
    top: u64,
    last: [u64; MAX_SHINGLE],
    size: usize,
    at: usize,
    full: bool,
    hash: u64,
}

impl Shingles {
    fn new(base: u64, size: usize) -> Shingles {
        let top = (1..size).fold(1u64, |top, _| top.wrapping_mul(base));
        Shingles { base, top, last: [0; MAX_SHINGLE], size, at: 0, full: false, hash: 0 }
    }

    /// The shingle that ends with this token.
    fn push(&mut self, token: u64) -> Option<u64> {
        // Tokens that were not there yet are 0.
        let rest = self.hash.wrapping_sub(self.last[self.at].wrapping_mul(self.top));
        self.hash = rest.wrapping_mul(self.base).wrapping_add(token);
        self.last[self.at] = token;
        self.at += 1;
        if self.at == self.size {
            (self.at, self.full) = (0, true);
        }
        self.full.then_some(self.hash)
    }

    /// All tokens, if they are too few for a shingle.
    fn short(&self) -> Option<u64> {
        (!self.full && self.at > 0).then_some(self.hash)
    }
}

/// The least value of each hash over all shingles.
///
/// Hash i of a shingle is high + factor(i) · low of its two halves: hashes made of two (Kirsch and Mitzenmacher, 2006,
/// "Less hashing, same performance") are as good as independent ones here, and cost one multiplication each.
struct Minima<'f> {
    factors: &'f [u32],
    least: Vec<u32>,
    low: [u32; BLOCK],
    high: [u32; BLOCK],
    pending: usize,
    any: bool,
}

impl<'f> Minima<'f> {
    fn new(factors: &'f [u32]) -> Minima<'f> {
        Minima { factors, least: vec![u32::MAX; factors.len()], low: [0; BLOCK], high: [0; BLOCK], pending: 0, any: false }
    }

    fn push(&mut self, shingle: u64) {
        self.any = true;
        (self.low[self.pending], self.high[self.pending]) = (shingle as u32, (shingle >> 32) as u32);
        self.pending += 1;
        if self.pending == BLOCK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (low, high) = (&self.low[..self.pending], &self.high[..self.pending]);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            unsafe { lower_avx2(&mut self.least, self.factors, low, high) };
            self.pending = 0;
            return;
        }
        lower(&mut self.least, self.factors, low, high);
        self.pending = 0;
    }

    fn finish(mut self) -> Option<Vec<u32>> {
        self.flush();
        self.any.then_some(self.least)
    }
}

/// The same code in wider registers; whole numbers are the same in any.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn lower_avx2(least: &mut [u32], factors: &[u32], low: &[u32], high: &[u32]) {
    lower(least, factors, low, high);
}

#[inline(always)]
fn lower(least: &mut [u32], factors: &[u32], low: &[u32], high: &[u32]) {
    let (least, factors) = (least.as_chunks_mut::<LANES>().0, factors.as_chunks::<LANES>().0);
    for (least, factors) in least.iter_mut().zip(factors) {
        let mut now = *least;
        for (low, high) in low.iter().zip(high) {
            for lane in 0..LANES {
                now[lane] = now[lane].min(factors[lane].wrapping_mul(*low).wrapping_add(*high));
            }
        }
        *least = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> NearSigner {
        NearSigner::new(&NearConfig::default())
    }

    fn alike(a: &str, b: &str) -> bool {
        let signer = signer();
        let (a, b) = (signer.bands(&[a]), signer.bands(&[b]));
        a.iter().zip(&b).any(|(a, b)| a == b)
    }

    #[test]
    fn what_does_not_change_a_text_does_not_change_its_signature() {
        let signer = signer();
        assert_eq!(signer.bands(&["The parcel, which came LATE, was broken."]), signer.bands(&["the parcel which came late was  broken"]));
        assert_eq!(signer.bands(&["快递太慢了，包装也破了。"]), signer.bands(&["快递太慢了 包装也破了！"]));
        assert_eq!(signer.bands(&["订单ＡＢＣ１２３已经发货了吗"]), signer.bands(&["订单abc123已经发货了吗"]));
        assert_eq!(signer.bands(&["พัสดุมาช้ามาก"]), signer.bands(&["พัสดุมา ช้ามาก"]));
    }

    #[test]
    fn short_texts_are_shingles_of_themselves() {
        assert!(alike("Thank you!", "thank you"));
        assert!(!alike("thank you", "thank you so"));
        assert!(alike("好", "好。"));
        assert!(!alike("好", "不好"));
        assert!(alike("😀", "😀 "));
        assert!(!alike("😀", "😢"));
        assert!(!alike("!!!!!!!!", "????????"));
        for nothing in [&[][..], &[""], &[" \n\t\u{3000}"], &["", " "]] {
            assert!(signer().bands(nothing).is_empty());
        }
    }

    #[test]
    fn a_pair_is_not_its_exchange() {
        let (a, b) = ("how do I send a parcel back to you", "print the label and leave it at any shop");
        let signer = signer();
        let meet = |one: &[&str], other: &[&str]| signer.bands(one).iter().zip(signer.bands(other)).any(|(one, other)| *one == other);
        assert!(meet(&[a, b], &[a, b]));
        assert!(!meet(&[a, b], &[b, a]));
        assert!(meet(&[a, ""], &[a]));
    }

    #[test]
    fn scripts_are_told_apart_by_what_a_text_mostly_is() {
        for (text, tokens) in [
            ("Thank you", Some(Tokens::Words)),
            ("спасибо большое", Some(Tokens::Words)),
            ("고맙습니다 여러분", Some(Tokens::Words)),
            ("谢谢你们", Some(Tokens::Characters)),
            ("ありがとう", Some(Tokens::Characters)),
            ("ขอบคุณ", Some(Tokens::Characters)),
            ("iPhone手机壳很好", Some(Tokens::Characters)),
            ("the word 谢谢 is said to anyone who helps", Some(Tokens::Words)),
            ("！？", Some(Tokens::Signs)),
            ("...", Some(Tokens::Signs)),
            ("", None),
            ("\u{3000}", None),
        ] {
            assert_eq!(tokens_of(text), tokens, "{text}");
        }
    }

    #[test]
    fn any_number_of_bands_and_rows_works() {
        for (bands, rows, size) in [(1, 1, 1), (3, 7, 2), (64, 64, 32), (5, 4, 32)] {
            let signer = NearSigner::new(&NearConfig { bands, rows, words: size, characters: size, ..NearConfig::default() });
            let text = "one two three four five six seven ".repeat(100);
            assert_eq!(signer.bands(&[&text]).len(), bands);
            assert_eq!(signer.bands(&[&text]), signer.bands(&[text.trim()]));
        }
    }

    /// Sets of words (shingles of one word) of known likeness against the formula.
    #[test]
    fn texts_meet_as_often_as_their_likeness_says() {
        let (bands, rows) = (6, 4);
        let signer = NearSigner::new(&NearConfig { bands, rows, words: 1, ..NearConfig::default() });
        let (trials, size) = (600, 40);
        let mut word = 0u64;
        for common in [8, 20, 26, 30, 34, 38] {
            let likeness = common as f64 / (2 * size - common) as f64;
            let (mut met, mut equal) = (0usize, 0usize);
            for _ in 0..trials {
                let mut words = |count: usize| -> Vec<String> {
                    let fresh = (0..count).map(|_| {
                        word += 1;
                        format!("w{word}")
                    });
                    fresh.collect()
                };
                let shared = words(common);
                let texts: [String; 2] = std::array::from_fn(|_| [shared.clone(), words(size - common)].concat().join(" "));
                let signatures = texts.map(|text| signer.bands(&[&text]));
                let same = signatures[0].iter().zip(&signatures[1]).filter(|(a, b)| a == b).count();
                equal += same;
                met += usize::from(same > 0);
            }
            let band = likeness.powi(rows as i32);
            let expected = 1.0 - (1.0 - band).powi(bands as i32);
            let found = met as f64 / trials as f64;
            let deviation = |chance: f64, draws: usize| 4.5 * (chance * (1.0 - chance) / draws as f64).sqrt() + 0.002;
            assert!((found - expected).abs() < deviation(expected, trials), "{common}: {found} instead of {expected}");
            let found = equal as f64 / (trials * bands) as f64;
            // Bands of one pair are nearly independent.
            assert!((found - band).abs() < 2.0 * deviation(band, trials * bands), "{common}: {found} instead of {band} per band");
        }
    }

    /// The share of equal hashes against all shingles of both texts, counted one by one.
    #[test]
    fn hashes_agree_as_often_as_shingles_do() {
        let (hashes, pairs) = (64, 60);
        let signer = NearSigner::new(&NearConfig { bands: hashes, rows: 1, words: 3, characters: 4, ..NearConfig::default() });
        let mut state = 1u64;
        let mut below = |end: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) % end
        };
        for (size, between, tokens) in [(3, " ", 900), (4, "", 4000)] {
            let (mut error, mut likenesses) = (0.0, 0.0);
            for pair in 0..pairs {
                let mut token = || match between {
                    " " => format!("word{}", below(tokens)),
                    _ => char::from_u32(0x4e00 + below(tokens) as u32).unwrap().to_string(),
                };
                let one: Vec<String> = (0..120).map(|_| token()).collect();
                let mut other = one.clone();
                // From one change to twenty, evenly spread.
                let changes = 1 + pair % 20;
                (0..changes).for_each(|change| other[change * 120 / changes] = token());
                let shingles = |tokens: &[String]| tokens.windows(size).map(<[String]>::concat).collect::<std::collections::HashSet<_>>();
                let (a, b) = (shingles(&one), shingles(&other));
                let likeness = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
                let (a, b) = (signer.bands(&[&one.join(between)]), signer.bands(&[&other.join(between)]));
                error += a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / hashes as f64 - likeness;
                likenesses += likeness;
            }
            // The mean of so many draws, each of a variance of a quarter at most.
            let tolerance = 4.5 * (0.25 / (hashes * pairs) as f64).sqrt();
            assert!((error / pairs as f64).abs() < tolerance, "{error} over {pairs} pairs");
            assert!((0.4..0.8).contains(&(likenesses / pairs as f64)), "{likenesses}");
        }
    }

    #[test]
    fn wide_registers_give_the_same() {
        let numbers = |seed: u32, count: u32| -> Vec<u32> { (0..count).map(|at| (at + seed).wrapping_mul(0x9e37_79b9).rotate_left(11)).collect() };
        let (factors, low, high) = (numbers(1, 48), numbers(1000, 77), numbers(5000, 77));
        let mut minima = Minima::new(&factors);
        low.iter().zip(&high).for_each(|(low, high)| minima.push(u64::from(*high) << 32 | u64::from(*low)));
        let mut plain = vec![u32::MAX; factors.len()];
        lower(&mut plain, &factors, &low, &high);
        assert_eq!(minima.finish(), Some(plain));
    }
}
