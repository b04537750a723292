//! Rows that are to be answered, as each task takes them.

use arrow_array::RecordBatch;
use pipe_core::{Error, Result, Task};

use crate::scrub::{ScrubCounts, Scrubber};
use crate::tokenize::{Turn, lists, messages, strings};

/// Rows with their ids. No `Debug`: raw text.
pub struct InputRows {
    pub ids: Vec<String>,
    pub texts: Texts,
}

/// What the rows are. No `Debug`: raw text.
pub enum Texts {
    Single(Vec<String>),
    Pairs(Vec<String>, Vec<String>),
    Words(Vec<Vec<String>>),
    Questions {
        questions: Vec<String>,
        contexts: Vec<String>,
    },
    /// With the completions that are known, to compare with.
    Prompts {
        prompts: Vec<String>,
        references: Vec<Option<String>>,
    },
    /// Up to the turn that is to be written, with what was said there where that is known.
    Chats {
        chats: Vec<Vec<Turn>>,
        references: Vec<Option<String>>,
    },
}

impl InputRows {
    /// Rows as ingest writes them.
    pub(super) fn of_batch(batch: &RecordBatch, task: Task) -> Result<InputRows> {
        let has = |column: &str| batch.column_by_name(column).is_some();
        let texts = match task {
            Task::TokenClassification => Texts::Words(lists(batch, "tokens")?),
            Task::QuestionAnswering => Texts::Questions { questions: strings(batch, "question")?, contexts: strings(batch, "context")? },
            Task::CausalLm if has("messages") => chats(messages(batch)?),
            Task::CausalLm if has("prompt") => {
                let references = strings(batch, "completion")?.into_iter().map(Some).collect();
                Texts::Prompts { prompts: strings(batch, "prompt")?, references }
            }
            Task::CausalLm => Texts::Prompts { prompts: strings(batch, "text")?, references: vec![None; batch.num_rows()] },
            _ if has("text_pair") => Texts::Pairs(strings(batch, "text")?, strings(batch, "text_pair")?),
            _ => Texts::Single(strings(batch, "text")?),
        };
        Ok(InputRows { ids: strings(batch, "id")?, texts })
    }

    /// Adds rows of the same kind.
    pub(super) fn extend(&mut self, other: InputRows) -> Result<()> {
        self.ids.extend(other.ids);
        match (&mut self.texts, other.texts) {
            (Texts::Single(texts), Texts::Single(more)) => texts.extend(more),
            (Texts::Pairs(firsts, seconds), Texts::Pairs(more_firsts, more_seconds)) => {
                firsts.extend(more_firsts);
                seconds.extend(more_seconds);
            }
            (Texts::Words(words), Texts::Words(more)) => words.extend(more),
            (Texts::Questions { questions, contexts }, Texts::Questions { questions: more_questions, contexts: more_contexts }) => {
                questions.extend(more_questions);
                contexts.extend(more_contexts);
            }
            (Texts::Prompts { prompts, references }, Texts::Prompts { prompts: more_prompts, references: known }) => {
                prompts.extend(more_prompts);
                references.extend(known);
            }
            (Texts::Chats { chats, references }, Texts::Chats { chats: more_chats, references: known }) => {
                chats.extend(more_chats);
                references.extend(known);
            }
            _ => return Err(Error::internal("rows of two kinds in one split")),
        }
        Ok(())
    }

    /// Scrubs texts that have not been. A row that the policy leaves out of training is answered all the same, with placeholders
    /// in it: every row that is asked about gets an answer.
    pub(super) fn scrub(&mut self, scrubber: &Scrubber) -> Result<u64> {
        let mut found = ScrubCounts::default();
        let mut clean = |texts: &mut Vec<String>, column: &str| -> Result<()> {
            *texts = scrubber.scrub_column(std::mem::take(texts), column, &mut found)?;
            Ok(())
        };
        match &mut self.texts {
            Texts::Single(texts) => clean(texts, "text")?,
            Texts::Pairs(firsts, seconds) => {
                clean(firsts, "text")?;
                clean(seconds, "text_pair")?;
            }
            Texts::Questions { questions, contexts } => {
                clean(questions, "question")?;
                clean(contexts, "context")?;
            }
            Texts::Prompts { prompts, references } => {
                clean(prompts, "prompt")?;
                clean_references(references, &mut clean)?;
            }
            Texts::Chats { chats, references } => {
                clean_references(references, &mut clean)?;
                for chat in chats {
                    let mut contents: Vec<String> = chat.iter_mut().map(|turn| std::mem::take(&mut turn.content)).collect();
                    clean(&mut contents, "messages")?;
                    chat.iter_mut().zip(contents).for_each(|(turn, content)| turn.content = content);
                }
            }
            Texts::Words(_) => {
                return Err(Error::usage("words are scrubbed by ingest, and these were not by the policy that the model was trained with")
                    .hint("give their ingest stage the same `scrub:`, for example `scrub: { model: path/to/the/model }`; or `scrub: false` here"));
            }
        }
        Ok(found.total())
    }
}

/// What should have been written is written beside what was.
fn clean_references(references: &mut [Option<String>], clean: &mut dyn FnMut(&mut Vec<String>, &str) -> Result<()>) -> Result<()> {
    let mut known: Vec<String> = references.iter_mut().filter_map(|reference| reference.as_mut().map(std::mem::take)).collect();
    clean(&mut known, "completion")?;
    references.iter_mut().flatten().zip(known).for_each(|(reference, text)| *reference = text);
    Ok(())
}

/// The last turn of an assistant is what is to be written.
fn chats(mut chats: Vec<Vec<Turn>>) -> Texts {
    let last = |chat: &mut Vec<Turn>| chat.pop_if(|turn| turn.role == "assistant").map(|turn| turn.content);
    let references = chats.iter_mut().map(last).collect();
    Texts::Chats { chats, references }
}
