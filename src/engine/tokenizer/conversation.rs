//! Conversations as ids, with a mask of what an assistant is to learn (`render_conversation` in `nanochat/tokenizer.py`).
//!
//! `<|bos|>`, then each message between its start and end token. The mask is 1 on what the assistant says, its end token
//! and its calls of the calculator included, and 0 on everything else, the calculator's answers included. A system
//! message has no tokens of its own: it is put before the first user message, two line ends between.

use serde_json::Value;

use super::{Tokenizer, special};

/// Ids of a conversation and what of it is learnt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 1 where the assistant is to learn the token, else 0; as long as `ids`.
    pub mask: Vec<u8>,
}

/// A conversation, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// System message first, if any; then user and assistant by turns.
    pub messages: Vec<Message>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in parts.
    pub content: Content,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sets the scene.
    System,
    /// Asks.
    User,
    /// Replies.
    Assistant,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// A reply with calls of the calculator in it.
    Parts(Vec<Part>),
}

/// A part of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Its text.
    pub text: String,
}

/// What a part of a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// Words of the assistant.
    Text,
    /// A call of the calculator.
    Python,
    /// The calculator's answer.
    PythonOutput,
}

/// Why a conversation can't be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversationError {
    /// Nothing to render.
    #[error("a conversation needs at least one message besides the system's")]
    Empty,
    /// A message out of turn.
    #[error(
        "message {index} is from the {found}, but the {expected} is due; user and assistant take turns, the user first"
    )]
    OutOfTurn {
        /// Which message, 0 the first after the system's.
        index: usize,
        /// Who spoke.
        found: Role,
        /// Who should have.
        expected: Role,
    },
    /// Parts where only text may stand.
    #[error("message {index}: only an assistant's message can be in parts")]
    UnexpectedParts {
        /// Which message, 0 the first.
        index: usize,
    },
    /// A completion was asked for, and there is no reply to leave out.
    #[error("the last message must be the assistant's: it is left out, to be completed")]
    NoReply,
    /// Not the JSON of a conversation.
    #[error("{place}: {problem}")]
    Malformed {
        /// Where, as a path of keys.
        place: String,
        /// What was expected.
        problem: &'static str,
    },
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        })
    }
}

impl Conversation {
    /// Reads `{"messages": [{"role", "content"}]}`, the content a string or a list of `{"type", "text"}`.
    ///
    /// # Errors
    /// The place of the first thing that is not so.
    pub fn from_json(value: &Value) -> Result<Self, ConversationError> {
        let messages = value["messages"].as_array().ok_or_else(|| malformed("messages", "expected a list"))?;
        let messages = messages.iter().enumerate().map(|(i, message)| read_message(&format!("messages[{i}]"), message));
        Ok(Self { messages: messages.collect::<Result<_, _>>()? })
    }
}

fn malformed(place: impl Into<String>, problem: &'static str) -> ConversationError {
    ConversationError::Malformed { place: place.into(), problem }
}

fn read_message(place: &str, value: &Value) -> Result<Message, ConversationError> {
    let role = match value["role"].as_str() {
        Some("system") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => return Err(malformed(format!("{place}.role"), "expected `system`, `user` or `assistant`")),
    };
    let content = match &value["content"] {
        Value::String(text) => Content::Text(text.clone()),
        Value::Array(parts) => {
            let parts = parts.iter().enumerate().map(|(i, part)| read_part(&format!("{place}.content[{i}]"), part));
            Content::Parts(parts.collect::<Result<_, _>>()?)
        }
        _ => return Err(malformed(format!("{place}.content"), "expected text or a list of parts")),
    };
    Ok(Message { role, content })
}

fn read_part(place: &str, value: &Value) -> Result<Part, ConversationError> {
    let kind = match value["type"].as_str() {
        Some("text") => PartKind::Text,
        Some("python") => PartKind::Python,
        Some("python_output") => PartKind::PythonOutput,
        _ => return Err(malformed(format!("{place}.type"), "expected `text`, `python` or `python_output`")),
    };
    let text = value["text"].as_str().ok_or_else(|| malformed(format!("{place}.text"), "expected text"))?;
    Ok(Part { kind, text: text.to_string() })
}

/// Appends to a rendering.
struct Renderer<'t> {
    tokenizer: &'t Tokenizer,
    rendered: Rendered,
}

impl Renderer<'_> {
    fn special(&mut self, name: &str, learnt: u8) {
        self.rendered.ids.extend(self.tokenizer.special_id(name));
        self.rendered.mask.resize(self.rendered.ids.len(), learnt);
    }

    fn text(&mut self, text: &str, learnt: u8) {
        self.tokenizer.encode_into(text, &mut self.rendered.ids);
        self.rendered.mask.resize(self.rendered.ids.len(), learnt);
    }

    fn between(&mut self, start: &str, text: &str, end: &str, learnt: u8) {
        self.special(start, learnt);
        self.text(text, learnt);
        self.special(end, learnt);
    }

    fn reply(&mut self, content: &Content) {
        self.special(special::ASSISTANT_START, 0);
        match content {
            Content::Text(text) => self.text(text, 1),
            Content::Parts(parts) => parts.iter().for_each(|part| match part.kind {
                PartKind::Text => self.text(&part.text, 1),
                PartKind::Python => self.between(special::PYTHON_START, &part.text, special::PYTHON_END, 1),
                PartKind::PythonOutput => self.between(special::OUTPUT_START, &part.text, special::OUTPUT_END, 0),
            }),
        }
        self.special(special::ASSISTANT_END, 1);
    }
}

impl Tokenizer {
    /// Renders a conversation and cuts it to `max_tokens` tokens.
    ///
    /// # Errors
    /// No message, a message out of turn, or parts in a message that is not the assistant's.
    pub fn render_conversation(
        &self,
        conversation: &Conversation,
        max_tokens: usize,
    ) -> Result<Rendered, ConversationError> {
        self.render(&conversation.messages, max_tokens)
    }

    /// Renders all but the last message, which is the assistant's, and the token that opens a reply
    /// (`render_for_completion`). Cut to 2,048 tokens before that token, as the baseline does.
    ///
    /// # Errors
    /// As [`Self::render_conversation`], and when the last message is not the assistant's.
    pub fn render_for_completion(&self, conversation: &Conversation) -> Result<Vec<u32>, ConversationError> {
        const MAX_TOKENS: usize = 2048;
        let Some((Message { role: Role::Assistant, .. }, messages)) = conversation.messages.split_last() else {
            return Err(ConversationError::NoReply);
        };
        let mut ids = self.render(messages, MAX_TOKENS)?.ids;
        ids.extend(self.special_id(special::ASSISTANT_START));
        Ok(ids)
    }

    fn render(&self, messages: &[Message], max_tokens: usize) -> Result<Rendered, ConversationError> {
        let (scene, messages) = match messages {
            [Message { role: Role::System, content }, rest @ ..] => (Some(plain(content, 0)?), rest),
            all => (None, all),
        };
        if messages.is_empty() {
            return Err(ConversationError::Empty);
        }
        let mut renderer = Renderer { tokenizer: self, rendered: Rendered::default() };
        renderer.special(special::BOS, 0);
        for (index, message) in messages.iter().enumerate() {
            let expected = if index % 2 == 0 { Role::User } else { Role::Assistant };
            if message.role != expected {
                return Err(ConversationError::OutOfTurn { index, found: message.role, expected });
            }
            match (expected, scene) {
                (Role::Assistant, _) => renderer.reply(&message.content),
                (_, Some(scene)) if index == 0 => {
                    let text = format!("{scene}\n\n{}", plain(&message.content, 1)?);
                    renderer.between(special::USER_START, &text, special::USER_END, 0);
                }
                _ => renderer.between(special::USER_START, plain(&message.content, index)?, special::USER_END, 0),
            }
        }
        let mut rendered = renderer.rendered;
        rendered.ids.truncate(max_tokens);
        rendered.mask.truncate(max_tokens);
        Ok(rendered)
    }
}

fn plain(content: &Content, index: usize) -> Result<&str, ConversationError> {
    match content {
        Content::Text(text) => Ok(text),
        Content::Parts(_) => Err(ConversationError::UnexpectedParts { index }),
    }
}
