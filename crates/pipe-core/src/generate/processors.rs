//! From scores to the next token, in the order in which transformers goes: what changes scores, then what takes
//! tokens out of the draw, then the draw.

use super::GenerationConfig;
use crate::batch::{argmax, softmax};
use crate::error::{Error, Result};
use crate::random::SplitMix;

/// The next token after `ids` (prompt and what was generated) by the model's `scores` of the vocabulary, which are changed.
pub(super) fn next_token(config: &GenerationConfig, ids: &[u32], scores: &mut [f32], random: &mut SplitMix) -> Result<u32> {
    process(config, ids, scores);
    let best = argmax(scores);
    if !scores[best].is_finite() {
        return Err(Error::stage("the model scores no token with a number")
            .hint("its weights are damaged or its training diverged, or `no_repeat_ngram_size` leaves no token"));
    }
    let token = if config.do_sample { draw(scores, random.next_unit()) } else { best };
    u32::try_from(token).map_err(|_| Error::internal("a vocabulary of more than 32 bits"))
}

/// What is taken out has −∞.
pub(super) fn process(config: &GenerationConfig, ids: &[u32], scores: &mut [f32]) {
    if config.repetition_penalty != 1.0 {
        penalise_repetition(ids, scores, config.repetition_penalty as f32);
    }
    if let Some(size) = config.no_repeat_ngram_size.filter(|&size| size > 0) {
        ban_repeated_ngrams(ids, scores, size);
    }
    if !config.do_sample {
        return;
    }
    if config.temperature != 1.0 {
        scores.iter_mut().for_each(|score| *score /= config.temperature as f32);
    }
    if config.top_k > 0 && config.top_k < scores.len() {
        keep_top_k(scores, config.top_k);
    }
    if config.top_p < 1.0 {
        keep_top_p(scores, config.top_p);
    }
    if let Some(min_p) = config.min_p {
        keep_min_p(scores, min_p);
    }
}

/// Once per token, however often it is there (Keskar et al. 2019).
fn penalise_repetition(ids: &[u32], scores: &mut [f32], penalty: f32) {
    let mut seen: Vec<usize> = ids.iter().map(|&id| id as usize).filter(|&id| id < scores.len()).collect();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        let score = scores[id];
        scores[id] = if score < 0.0 { score * penalty } else { score / penalty };
    }
}

/// Bans the last token of each n-gram that begins as the text ends.
fn ban_repeated_ngrams(ids: &[u32], scores: &mut [f32], size: usize) {
    if ids.len() < size {
        return;
    }
    let prefix = &ids[ids.len() + 1 - size..];
    for window in ids.windows(size).filter(|window| &window[..size - 1] == prefix) {
        if let Some(score) = scores.get_mut(window[size - 1] as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Tokens that score as the last one kept stay too.
fn keep_top_k(scores: &mut [f32], k: usize) {
    let mut sorted = scores.to_vec();
    let (_, &mut least, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    keep(scores, |_, score| score >= least);
}

/// Nucleus sampling (Holtzman et al. 2019). At least one token stays.
fn keep_top_p(scores: &mut [f32], p: f64) {
    let shares = softmax(scores);
    let mut ascending: Vec<usize> = (0..scores.len()).filter(|&id| scores[id] > f32::NEG_INFINITY).collect();
    ascending.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    ascending.pop();
    let mut sum = 0.0;
    for id in ascending {
        sum += shares[id];
        if sum > 1.0 - p {
            break;
        }
        scores[id] = f32::NEG_INFINITY;
    }
}

/// Nguyen et al. 2024.
fn keep_min_p(scores: &mut [f32], min_p: f64) {
    let shares = softmax(scores);
    let least = min_p * shares.iter().copied().fold(0.0, f64::max);
    keep(scores, |id, _| shares[id] >= least);
}

fn keep(scores: &mut [f32], stays: impl Fn(usize, f32) -> bool) {
    scores.iter_mut().enumerate().filter(|(id, score)| !stays(*id, **score)).for_each(|(_, score)| *score = f32::NEG_INFINITY);
}

/// The token at `point` (0..1) of the probabilities laid end to end.
fn draw(scores: &[f32], point: f64) -> usize {
    let shares = softmax(scores);
    let mut sum = 0.0;
    for (id, share) in shares.iter().enumerate() {
        sum += share;
        if point < sum {
            return id;
        }
    }
    // They add up to a little less than 1 where rounding says so.
    shares.iter().rposition(|&share| share > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The scores that transformers' processors leave: `tests/parity/make_generation.py`.
    #[test]
    fn scores_are_those_of_transformers() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/generation/processors.reference.json");
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let floats = |value: &Value| -> Vec<f32> { value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect() };
        let ids: Vec<u32> = serde_json::from_value(file["ids"].clone()).unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert!(cases.len() >= 9);
        for case in cases {
            let config: GenerationConfig = serde_json::from_value(case["config"].clone()).unwrap();
            let mut scores = floats(&file["scores"]);
            process(&config, &ids, &mut scores);
            // JSON has no infinity.
            let kept: Vec<usize> = (0..scores.len()).filter(|&id| scores[id] > f32::NEG_INFINITY).collect();
            assert_eq!(kept, serde_json::from_value::<Vec<usize>>(case["kept"].clone()).unwrap(), "{config:?}");
            for (id, expected) in kept.into_iter().zip(floats(&case["scores"])) {
                assert!((scores[id] - expected).abs() <= 1e-6 * expected.abs(), "{config:?}: {} {expected}", scores[id]);
            }
        }
    }

    #[test]
    fn draws_follow_the_probabilities_and_take_nothing_that_is_out() {
        let scores = [0.1f32.ln(), f32::NEG_INFINITY, 0.6f32.ln(), 0.3f32.ln(), f32::NEG_INFINITY];
        let mut random = SplitMix::new(&[1, 2]);
        let mut counts = [0; 5];
        for _ in 0..10_000 {
            counts[draw(&scores, random.next_unit())] += 1;
        }
        for (count, share) in counts.iter().zip([0.1, 0.0, 0.6, 0.3, 0.0]) {
            assert!((f64::from(*count) / 1e4 - share).abs() < 0.02, "{counts:?}");
        }
        assert_eq!((draw(&scores, 0.0), draw(&scores, 1.0)), (0, 3));
    }

    #[test]
    fn scores_that_are_no_numbers_are_an_error() {
        let config = GenerationConfig::default();
        let mut random = SplitMix::new(&[1]);
        let mut token = |scores: &mut [f32]| next_token(&config, &[], scores, &mut random);
        assert_eq!(token(&mut [1.0, 2.0, 2.0]).unwrap(), 1);
        assert!(token(&mut [f32::NAN; 3]).unwrap_err().message.contains("no token"));
        assert!(token(&mut [f32::NEG_INFINITY; 3]).is_err());
    }
}
