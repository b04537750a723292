//! What a trained tokenizer is to those who use it, and that it is always the same.

use std::process::Command;

use pipe_core::Silent;
use pipe_core::config::{TokenizerKind, TrainTokenizerConfig};
use tokenizers::Tokenizer;

use super::words::WordCounts;
use super::{files, learn};

const KINDS: [TokenizerKind; 3] = [TokenizerKind::Wordpiece, TokenizerKind::Bpe, TokenizerKind::Unigram];

fn config(kind: TokenizerKind, vocab_size: usize) -> TrainTokenizerConfig {
    TrainTokenizerConfig { kind, vocab_size, ..TrainTokenizerConfig::default() }
}

/// Two scripts, and far more pairs of equal frequency than there is room for.
fn corpus() -> Vec<String> {
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    (0..300)
        .map(|_| {
            let word: String = (0..2 + next(7)).map(|_| char::from(b'a' + next(12) as u8)).collect();
            let han: String = (0..1 + next(4)).filter_map(|_| char::from_u32(0x4e00 + next(300) as u32)).collect();
            format!("{word}{han}，{word} Ünder {}", next(500))
        })
        .collect()
}

/// `tokenizer.json` of a tokenizer that was trained on `texts`.
fn trained(texts: &[String], config: &TrainTokenizerConfig) -> String {
    let mut counts = WordCounts::new(files::skeleton(config).unwrap());
    for batch in texts.chunks(97) {
        counts.add(batch).unwrap();
    }
    let (pieces, _) = learn(config, counts.finish(), &Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    files::write(config, &pieces, 64, folder.path()).unwrap();
    std::fs::read_to_string(folder.path().join("tokenizer.json")).unwrap()
}

#[test]
fn all_kinds_read_what_they_were_trained_on() {
    let texts = corpus();
    for kind in KINDS {
        let tokenizer: Tokenizer = trained(&texts, &config(kind, 600)).parse().unwrap();
        assert!(tokenizer.get_vocab_size(true) <= 600, "{kind:?}");
        assert!(tokenizer.get_vocab_size(true) > 450, "{kind:?}");
        let encoding = tokenizer.encode(("Under，under", "under"), true).unwrap();
        let tokens = encoding.get_tokens();
        assert_eq!((tokens[0].as_str(), tokens[tokens.len() - 1].as_str()), ("[CLS]", "[SEP]"), "{kind:?}");
        assert_eq!((encoding.get_type_ids()[1], *encoding.get_type_ids().last().unwrap()), (0, 1), "{kind:?}");
        // So frequent a word is one piece; but a unigram model begins with what different words have in common.
        assert!(tokens.len() == 7 || kind == TokenizerKind::Unigram, "{kind:?}: {tokens:?}");
        assert!(!encoding.get_ids().contains(&1), "{kind:?}: {tokens:?}");
        assert!(tokenizer.encode("丂龥", false).unwrap().get_ids().contains(&1), "{kind:?}");
    }
}

#[test]
fn the_vocabulary_is_the_library_s_where_it_has_no_choice() {
    use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
    use tokenizers::tokenizer::{Model, Trainer};
    // No two pairs are ever equally frequent.
    let words = ["ab", "abc", "abcd", "abcde", "xy", "xyz", "好吃"];
    let texts: Vec<String> = words.iter().enumerate().flat_map(|(n, word)| vec![(*word).to_owned(); 4 << n]).collect();
    let config = TrainTokenizerConfig { tokenize_chinese_chars: false, ..config(TokenizerKind::Wordpiece, 60) };
    let ours: Tokenizer = trained(&texts, &config).parse().unwrap();
    let mut trainer = WordPieceTrainer::builder().show_progress(false).vocab_size(60 - 5).min_frequency(2).build();
    trainer.feed(texts.iter(), |text| Ok(vec![text.to_owned()])).unwrap();
    let mut theirs = WordPiece::default();
    trainer.train(&mut theirs).unwrap();
    let mut ours: Vec<String> = ours.get_vocab(false).into_keys().filter(|piece| !piece.starts_with('[')).collect();
    let mut theirs: Vec<String> = theirs.get_vocab().into_keys().collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[test]
fn a_small_vocabulary_keeps_the_frequent_characters_and_its_size() {
    let texts: Vec<String> = (0..40).flat_map(|n| vec![char::from_u32(0x4e00 + n).unwrap().to_string(); 50 - n as usize]).collect();
    for kind in KINDS {
        let tokenizer: Tokenizer = trained(&texts, &config(kind, 32)).parse().unwrap();
        assert!(tokenizer.get_vocab_size(true) <= 32, "{kind:?}");
        let limited = TrainTokenizerConfig { limit_alphabet: Some(10), ..config(kind, 1000) };
        let limited: Tokenizer = trained(&texts, &limited).parse().unwrap();
        let known = |text: &str| !limited.encode(text, false).unwrap().get_ids().contains(&1);
        // `▁` is a character of a unigram tokenizer.
        assert!(known("\u{4e00}") && known("\u{4e08}") && !known("\u{4e0a}"), "{kind:?}");
    }
}

#[test]
fn nothing_to_train_on_is_an_error() {
    for kind in KINDS {
        let config = config(kind, 100);
        assert!(learn(&config, Vec::new(), &Silent).is_err());
        for texts in [vec!["a".to_owned()], vec!["aaaaaaaa ".repeat(2000)], vec!["1".repeat(60)]] {
            let tokenizer: Tokenizer = trained(&texts, &config).parse().unwrap();
            assert!(tokenizer.get_vocab_size(true) > 5, "{kind:?}");
        }
    }
}

/// The name of the test below, and the variable that turns it into what its children run.
const CHILD: (&str, &str) = ("tokenize::train::tests::bytes_depend_on_no_process_and_no_threads", "PIPE_TEST_TRAIN_TOKENIZER");

/// In processes of their own: each has other seeds for its hash maps.
#[test]
fn bytes_depend_on_no_process_and_no_threads() {
    if std::env::var_os(CHILD.1).is_some() {
        for kind in KINDS {
            println!("digest {kind:?} {}", pipe_core::digest::of_bytes(trained(&corpus(), &config(kind, 600)).as_bytes()));
        }
        return;
    }
    let digests = |threads: &str| -> Vec<String> {
        let test = std::env::current_exe().unwrap();
        let output =
            Command::new(test).args([CHILD.0, "--exact", "--nocapture"]).env(CHILD.1, "1").env("RAYON_NUM_THREADS", threads).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().filter_map(|line| Some(line.split_once("digest ")?.1.to_owned())).collect()
    };
    let first = digests("1");
    assert_eq!(first.len(), KINDS.len());
    for threads in ["1", "2", "8", "3"] {
        assert_eq!(digests(threads), first, "{threads} threads");
    }
}
