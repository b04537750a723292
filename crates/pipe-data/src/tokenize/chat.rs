//! Chats as texts, by a Jinja template as tokenizers carry it.
//!
//! What templates may use is what transformers gives them: blocks are trimmed, strings have Python's methods, and there are
//! `raise_exception` and `tojson`. There is no `strftime_now`: today's date would make other tokens of the same rows tomorrow, and
//! templates that ask whether it is there have a date of their own.

use std::io;
use std::path::Path;

use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use pipe_core::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter};

/// One turn of a chat. No `Debug`: raw text.
#[derive(Clone, Serialize)]
pub struct Turn {
    pub role: String,
    pub content: String,
}

/// A template that was compiled.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// The given template, or the one of the tokenizer in `folder`: `chat_template.jinja`, or `tokenizer_config.json`.
    pub fn open(folder: &Path, given: Option<&str>) -> Result<ChatTemplate> {
        let config: Value =
            std::fs::read(folder.join("tokenizer_config.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let own = || {
            std::fs::read_to_string(folder.join("chat_template.jinja")).ok().or_else(|| match &config["chat_template"] {
                Value::String(template) => Some(template.clone()),
                // Several by name.
                Value::Array(all) => all.iter().find(|one| one["name"] == "default").and_then(|one| one["template"].as_str()).map(str::to_owned),
                _ => None,
            })
        };
        let template = given.map(str::to_owned).or_else(own).ok_or_else(|| {
            Error::input(format!("the tokenizer in {} has no chat template", folder.display()))
                .hint("set `chat_template` in the tokenize stage, or use the tokenizer of a model that was trained on chats")
        })?;
        let token = |name: &str| {
            let token = &config[name];
            token.as_str().or_else(|| token["content"].as_str()).unwrap_or_default().to_owned()
        };
        ChatTemplate::compile(template, token("bos_token"), token("eos_token"))
    }

    fn compile(template: String, bos: String, eos: String) -> Result<ChatTemplate> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, template)
            .map_err(|e| Error::input(format!("the chat template cannot be read (line {}): {}", e.line().unwrap_or(0), e.kind())))?;
        Ok(ChatTemplate { environment, bos, eos })
    }

    /// The text of a chat; with `add_generation_prompt` up to where the assistant is to answer.
    pub fn render(&self, turns: &[Turn], add_generation_prompt: bool) -> Result<String> {
        let template = self.environment.get_template(NAME).map_err(|_| Error::internal("the chat template is gone"))?;
        let text = template.render(context! {
            messages => turns, add_generation_prompt => add_generation_prompt, tools => (), documents => (), bos_token => self.bos, eos_token => self.eos,
        });
        // Its own message may quote a turn.
        text.map_err(|e| Error::input(format!("the chat template fails on a chat (line {}): {}", e.line().unwrap_or(0), e.kind())))
    }

    /// What stands after an answer; absent where that cannot be told.
    pub fn after_answers(&self) -> Option<String> {
        const ANSWER: &str = "answer";
        let turn = |role: &str, content: &str| Turn { role: role.into(), content: content.into() };
        let text = self.render(&[turn("user", "question"), turn("assistant", ANSWER)], false).ok()?;
        Some(text[text.rfind(ANSWER)? + ANSWER.len()..].to_owned())
    }

    /// The text of a chat, and the parts of it, in bytes, that the assistant says, with what ends each.
    pub fn render_with_answers(&self, turns: &[Turn]) -> Result<(String, Vec<(usize, usize)>)> {
        let text = self.render(turns, false)?;
        let mut answers = Vec::new();
        for (at, turn) in turns.iter().enumerate() {
            if turn.role != "assistant" {
                continue;
            }
            let (before, after) = (self.render(&turns[..at], true)?, self.render(&turns[..=at], false)?);
            if !after.starts_with(&before) || !text.starts_with(&after) {
                return Err(Error::input("the chat template writes a turn otherwise once others follow, so that the answers cannot be told apart")
                    .hint("set `completion_only_loss: false`, or another `chat_template`"));
            }
            answers.push((before.len(), after.len()));
        }
        Ok((text, answers))
    }
}

/// As Python's `json.dumps(…, ensure_ascii=False)` writes it, which is what transformers' templates get.
fn to_json(value: &minijinja::Value, kwargs: Kwargs) -> Result<minijinja::Value, minijinja::Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let failed = |_| minijinja::Error::new(ErrorKind::BadSerialization, "a value that is no JSON");
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(indent.as_bytes())))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, PythonFormatter)),
    };
    written.map_err(failed)?;
    Ok(minijinja::Value::from_safe_string(String::from_utf8_lossy(&out).into_owned()))
}

/// A space after each comma and colon.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'].strip() + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn turn(role: &str, content: &str) -> Turn {
        Turn { role: role.into(), content: content.into() }
    }

    #[test]
    fn answers_are_found_with_what_ends_them() {
        let template = ChatTemplate::compile(CHATML.into(), String::new(), String::new()).unwrap();
        let turns = [turn("user", "Hi "), turn("assistant", "Hello, 你好"), turn("user", "Bye"), turn("assistant", "Bye!")];
        let (text, answers) = template.render_with_answers(&turns).unwrap();
        let said: Vec<&str> = answers.iter().map(|&(start, end)| &text[start..end]).collect();
        assert_eq!(said, ["Hello, 你好<|im_end|>\n", "Bye!<|im_end|>\n"]);
        assert_eq!(template.render(&turns[..1], true).unwrap(), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn json_is_python_s_and_a_date_is_not_there() {
        let template = |text: &str| ChatTemplate::compile(text.into(), String::new(), String::new()).unwrap();
        let turns = [turn("user", "it's <b> 中")];
        assert_eq!(template("{{ messages | tojson }}").render(&turns, false).unwrap(), r#"[{"role": "user", "content": "it's <b> 中"}]"#);
        let guarded = template("{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %} {{ tools is none }}");
        assert!(guarded.render(&turns, false).unwrap().to_lowercase().ends_with("2024 true"));
        assert_eq!(template(CHATML).after_answers().unwrap(), "<|im_end|>\n");
    }

    #[test]
    fn a_template_that_refuses_or_is_none_is_an_error_without_text() {
        let refuses = ChatTemplate::compile("{{ raise_exception('no ' + messages[0]['content']) }}".into(), String::new(), String::new()).unwrap();
        let error = refuses.render(&[turn("user", "secret")], false).unwrap_err();
        assert!(!error.message.contains("secret"), "{error}");
        assert!(ChatTemplate::compile("{% for %}".into(), String::new(), String::new()).is_err());
    }
}
