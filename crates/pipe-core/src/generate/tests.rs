use super::*;
use crate::error::Class;
use crate::progress::Silent;

/// Counts on from the last token, 0 after 9; of the others it likes the high ones best.
struct Counter {
    rows: Vec<Vec<u32>>,
    eos: Vec<u32>,
    /// Rows of each pass.
    passes: Vec<usize>,
}

const VOCABULARY: u32 = 10;

impl Counter {
    fn new(eos: &[u32]) -> Counter {
        Counter { rows: Vec::new(), eos: eos.to_vec(), passes: Vec::new() }
    }

    fn logits(&mut self) -> Logits {
        self.passes.push(self.rows.len());
        let score = |row: &Vec<u32>, id: u32| if id == (row.last().unwrap() + 1) % VOCABULARY { 2.0 } else { f32::from(id as u8) / 10.0 };
        let values = self.rows.iter().flat_map(|row| (0..VOCABULARY).map(move |id| score(row, id))).collect();
        Logits { classes: VOCABULARY as usize, values }
    }
}

impl LanguageModel for Counter {
    fn max_length(&self) -> usize {
        12
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos
    }

    fn begin(&mut self, prompts: &PaddedPrompts) -> Result<Logits> {
        let mask = prompts.slots.attention_mask(prompts.length());
        let row = |at: usize| {
            let slots = at * prompts.length()..(at + 1) * prompts.length();
            prompts.input_ids[slots.clone()].iter().zip(&mask[slots]).filter(|(_, kept)| **kept == 1).map(|(id, _)| *id as u32).collect()
        };
        self.rows = (0..prompts.rows()).map(row).collect();
        Ok(self.logits())
    }

    fn advance(&mut self, next: &[u32]) -> Result<Logits> {
        assert_eq!(next.len(), self.rows.len());
        self.rows.iter_mut().zip(next).for_each(|(row, id)| row.push(*id));
        Ok(self.logits())
    }

    fn keep(&mut self, rows: &[usize]) -> Result<()> {
        self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
        Ok(())
    }
}

fn prompts(ids: &[&[u32]]) -> Vec<Prompt> {
    ids.iter().enumerate().map(|(row, ids)| Prompt { row: row as u64, ids: ids.to_vec() }).collect()
}

fn run(model: &mut Counter, ids: &[&[u32]], config: &GenerationConfig) -> Vec<(Vec<u32>, &'static str)> {
    let mut letters = |ids: &[u32]| ids.iter().map(|&id| char::from(b'a' + id as u8)).collect();
    let texts = generate(model, &prompts(ids), config, &mut letters, &Silent).unwrap();
    texts.into_iter().map(|text| (text.tokens, text.finish_reason.name())).collect()
}

#[test]
fn each_row_ends_for_its_own_reason_and_is_asked_no_more() {
    let mut model = Counter::new(&[8]);
    let config = GenerationConfig { max_new_tokens: 4, stop_strings: vec!["zz".into(), "de".into()], ..Default::default() };
    let texts = run(&mut model, &[&[1, 2], &[6], &[0, 9, 8], &[5, 1]], &config);
    let expected = [(vec![3, 4], "stop_string"), (vec![7, 8], "eos"), (vec![9, 0, 1, 2], "length"), (vec![2, 3, 4], "stop_string")];
    assert_eq!(texts, expected);
    assert_eq!(model.passes, [4, 4, 2, 1]);
    // None ends it, another does, and a stop string may lie across tokens but not in the prompt.
    let none = GenerationConfig { eos_token_id: Some(vec![]), ..config.clone() };
    assert_eq!(run(&mut model, &[&[6]], &none), [(vec![7, 8, 9, 0], "length")]);
    let other = GenerationConfig { eos_token_id: Some(vec![5, 2]), ..config.clone() };
    assert_eq!(run(&mut model, &[&[3], &[0]], &other), [(vec![4, 5], "eos"), (vec![1, 2], "eos")]);
    assert_eq!(run(&mut model, &[&[3]], &GenerationConfig { max_new_tokens: 1, ..config }), [(vec![4], "length")]);
}

#[test]
fn a_row_ends_where_the_positions_do() {
    let mut model = Counter::new(&[]);
    let long: Vec<u32> = (0..12).map(|at| at % 10).collect();
    let texts = run(&mut model, &[&long, &long[..10]], &GenerationConfig::default());
    assert_eq!(texts, [(vec![2], "length"), (vec![0, 1, 2], "length")]);
    for (ids, message) in [(vec![1; 13], "13 tokens, the model has 12 positions"), (vec![], "has no token")] {
        let refused = generate(&mut model, &prompts(&[&ids]), &GenerationConfig::default(), &mut |_| String::new(), &Silent).unwrap_err();
        assert!(refused.class == Class::Input && refused.message.contains(message), "{refused}");
    }
    assert!(run(&mut model, &[], &GenerationConfig::default()).is_empty());
}

#[test]
fn draws_depend_on_the_seed_and_the_row_and_not_on_the_batch() {
    let config = GenerationConfig { do_sample: true, max_new_tokens: 8, temperature: 2.0, top_k: 0, ..Default::default() };
    let mut model = Counter::new(&[0]);
    let ids: [&[u32]; 3] = [&[1], &[1], &[4, 2]];
    let together = run(&mut model, &ids, &config);
    for (row, ids) in ids.into_iter().enumerate() {
        let prompt = Prompt { row: row as u64, ids: ids.to_vec() };
        let alone = generate(&mut model, &[prompt], &config, &mut |_| String::new(), &Silent).unwrap();
        assert_eq!(alone[0].tokens, together[row].0);
    }
    assert_ne!(together[0], together[1], "rows draw numbers of their own");
    assert_ne!(run(&mut model, &ids, &GenerationConfig { seed: 7, ..config }), together);
}

#[test]
fn what_was_said_is_not_said_again_where_that_is_asked() {
    let config = GenerationConfig { max_new_tokens: 6, no_repeat_ngram_size: Some(2), ..Default::default() };
    // 1 → 2 is in the prompt: 9 is the next best there, and 9 → 0 → 1 leads there again.
    assert_eq!(run(&mut Counter::new(&[]), &[&[1, 2, 1]], &config), [(vec![9, 0, 1, 8, 9, 9], "length")]);
    let config = GenerationConfig { max_new_tokens: 3, repetition_penalty: 4.0, ..Default::default() };
    assert_eq!(run(&mut Counter::new(&[]), &[&[2, 3, 1]], &config), [(vec![9, 0, 8], "length")]);
}
