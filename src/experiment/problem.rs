//! A problem of meaning, blamed on a key; where the key was set, the layers know.

/// What is wrong with which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable name of the kind.
    pub code: &'static str,
    /// Dotted key to blame.
    pub key: String,
    /// The sentence.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}

impl Problem {
    /// A value that can't be meant so.
    pub fn new(code: &'static str, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, key: key.into(), message: message.into(), help: None }
    }

    /// A key that must be there.
    pub fn missing(key: &str, what: &str) -> Self {
        Self::new("missing-key", key, format!("`{key}` is missing: {what}"))
    }

    /// The way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
