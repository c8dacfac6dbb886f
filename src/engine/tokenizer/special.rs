//! The special tokens, in the order in which they follow the ranks (`SPECIAL_TOKENS` in `nanochat/tokenizer.py`).

/// Delimits documents: every one begins with it.
pub const BOS: &str = "<|bos|>";
/// Opens a user's message.
pub const USER_START: &str = "<|user_start|>";
/// Closes a user's message.
pub const USER_END: &str = "<|user_end|>";
/// Opens a reply.
pub const ASSISTANT_START: &str = "<|assistant_start|>";
/// Closes a reply.
pub const ASSISTANT_END: &str = "<|assistant_end|>";
/// Opens a call of the calculator.
pub const PYTHON_START: &str = "<|python_start|>";
/// Closes a call of the calculator.
pub const PYTHON_END: &str = "<|python_end|>";
/// Opens the calculator's answer.
pub const OUTPUT_START: &str = "<|output_start|>";
/// Closes the calculator's answer.
pub const OUTPUT_END: &str = "<|output_end|>";

/// All of them, in the order of their ids.
pub const SPECIAL_TOKENS: [&str; 9] =
    [BOS, USER_START, USER_END, ASSISTANT_START, ASSISTANT_END, PYTHON_START, PYTHON_END, OUTPUT_START, OUTPUT_END];
