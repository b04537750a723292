//! The library's unigram trainer (Kudo 2018), with what it leaves to chance put in order.

use pipe_core::config::TrainTokenizerConfig;
use pipe_core::{Error, Result};
use tokenizers::AddedToken;
use tokenizers::models::unigram::{Unigram, UnigramTrainer};

use super::SPECIAL;

/// What the trainer adds to the score from one character to the next that its own model lost.
const PENALTY: f64 = 0.0001;

/// Pieces with their log probabilities, special tokens first. `words` are sorted.
pub(super) fn train(config: &TrainTokenizerConfig, words: Vec<(String, u64)>) -> Result<Vec<(String, f64)>> {
    let failed =
        || Error::stage("the unigram tokenizer cannot be trained on these words").hint("raise `vocab_size`, or train a `wordpiece` tokenizer");
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(config.vocab_size as u32)
        .special_tokens(SPECIAL.iter().map(|token| AddedToken::from(*token, true)).collect())
        .unk_token(Some(SPECIAL[1].to_owned()))
        .build()
        .map_err(|_| failed())?;
    let sentences = scaled(words);
    // It sums floating-point numbers by chunks, as many as there are threads.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| Error::internal(format!("cannot start a thread: {e}")))?;
    let mut model = Unigram::default();
    // It panics on words that it cannot score.
    let trained = pool.install(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trainer.do_train(sentences, &mut model).is_ok())));
    if !matches!(trained, Ok(true)) {
        return Err(failed());
    }
    let mut pieces: Vec<(String, f64)> = model.iter().cloned().collect();
    let mut own = pieces.split_off(SPECIAL.len().min(pieces.len()));
    settle(&mut own);
    pieces.extend(own);
    Ok(pieces)
}

/// It counts in 32 bits, all words together.
fn scaled(words: Vec<(String, u64)>) -> Vec<(String, u32)> {
    let total: u64 = words.iter().map(|(_, count)| count).sum();
    let divisor = total.div_ceil(u64::from(u32::MAX / 2)).max(1);
    words.into_iter().map(|(word, count)| (word, (count / divisor).max(1) as u32)).collect()
}

/// Characters that the trainer's model lost come back with scores that rise from the lowest one in steps, in the order of a hash
/// set. Here they get the same scores in the order of Unicode.
fn settle(pieces: &mut [(String, f64)]) {
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let is_character = |piece: &str| piece.chars().count() == 1;
    let (mut lost, mut penalty) = (Vec::new(), 0.0);
    loop {
        let score: f64 = lowest + penalty;
        let found = (0..pieces.len()).filter(|at| is_character(&pieces[*at].0) && pieces[*at].1.to_bits() == score.to_bits());
        let before = lost.len();
        lost.extend(found);
        if lost.len() == before {
            break;
        }
        penalty += PENALTY;
    }
    let mut characters: Vec<String> = lost.iter().map(|at| pieces[*at].0.clone()).collect();
    characters.sort_unstable();
    for (at, character) in lost.into_iter().zip(characters) {
        pieces[at].0 = character;
    }
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}
