//! Text from tokens as they come: a character is given out when its last byte is there.

use crate::tokenizer::Tokenizer;

/// Bytes that wait for the rest of their character.
#[derive(Debug, Default)]
pub struct TextStream {
    waiting: Vec<u8>,
}

impl TextStream {
    /// The text that a token completes. What can't become UTF-8 any more is U+FFFD, as in the text decoded as a whole.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        self.waiting.extend(tokenizer.decode_bytes(&[id]));
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.waiting) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.waiting.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, rest) = self.waiting.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(broken) = error.error_len() else {
                        self.waiting = rest.to_vec();
                        return text;
                    };
                    text.push('\u{FFFD}');
                    self.waiting = rest[broken..].to_vec();
                }
            }
        }
    }

    /// What is left when no token comes any more.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.waiting)).into_owned()
    }
}
