//! Documents as canonical JSON: sorted keys, one value a line, floats in their shortest exact form, integers exact
//! beyond 64 bits. Two documents are equal exactly when their bytes are.
//!
//! NaN and the infinities are refused by name instead of turning into `null`.

use std::fmt::Write as _;
use std::path::Path;

use figment::value::{Num, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ArtifactError, files, write_atomic};

/// The longest document that is read, in bytes.
pub const LONGEST_DOCUMENT: u64 = 64 << 20;
/// The longest document of a single run. There may be thousands of runs, and all are held in memory.
pub const LONGEST_OF_A_RUN: u64 = 1 << 20;

/// A document kind: names its schema.
pub trait Document: Serialize + DeserializeOwned {
    /// The `schema` entry of every document of this kind.
    const SCHEMA: &'static str;
    /// The longest file that is taken for one of this kind, in bytes.
    const LONGEST: u64 = LONGEST_DOCUMENT;

    /// The `schema` entry of this one.
    fn schema(&self) -> &str;
}

/// Reads a document and checks its `schema` entry.
///
/// # Errors
/// [`ArtifactError::Io`] when it can't be read, [`ArtifactError::WrongSchema`] when it is of another kind,
/// [`ArtifactError::Malformed`] with line and column otherwise.
pub fn read_document<T: Document>(path: &Path) -> Result<T, ArtifactError> {
    let text = files::read(path, T::LONGEST).map_err(|e| ArtifactError::io("read", path, e))?;
    parse_document(path, &text)
}

/// Parses a document that was read from `path` (which only serves error messages).
pub fn parse_document<T: Document>(path: &Path, text: &[u8]) -> Result<T, ArtifactError> {
    #[derive(serde::Deserialize)]
    struct Head {
        schema: Option<String>,
    }
    let malformed = |error: serde_json::Error| {
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text).to_string();
        ArtifactError::Malformed {
            path: path.to_path_buf(),
            line: error.line(),
            column: error.column(),
            message,
            document: T::SCHEMA,
        }
    };
    let head: Head = serde_json::from_slice(text).map_err(malformed)?;
    if head.schema.as_deref() != Some(T::SCHEMA) {
        return Err(ArtifactError::WrongSchema { path: path.to_path_buf(), expected: T::SCHEMA, found: head.schema });
    }
    serde_json::from_slice(text).map_err(malformed)
}

/// Writes a document atomically as canonical JSON.
pub fn write_document<T: Document>(path: &Path, document: &T) -> Result<(), ArtifactError> {
    if document.schema() != T::SCHEMA {
        return Err(ArtifactError::WrongSchema {
            path: path.to_path_buf(),
            expected: T::SCHEMA,
            found: Some(document.schema().to_string()),
        });
    }
    write_atomic(path, canonical_json(path, document)?.as_bytes())
}

/// The canonical JSON text of any serialisable value, newline at the end; `path` only serves error messages.
pub fn canonical_json<T: Serialize>(path: &Path, value: &T) -> Result<String, ArtifactError> {
    let tree = Value::serialize(value)
        .map_err(|e| ArtifactError::Unwritable { path: path.to_path_buf(), message: e.to_string() })?;
    let mut text = String::new();
    let mut writer = Writer { out: &mut text, key: Vec::new() };
    writer.value(&tree, 0).map_err(|problem| match problem {
        Problem::NotFinite { key, value } => ArtifactError::NotFinite { path: path.to_path_buf(), key, value },
    })?;
    text.push('\n');
    Ok(text)
}

enum Problem {
    NotFinite { key: String, value: f64 },
}

struct Writer<'a> {
    out: &'a mut String,
    key: Vec<String>,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Problem> {
        match value {
            Value::String(_, text) => self.string(text),
            Value::Char(_, c) => self.string(&c.to_string()),
            Value::Bool(_, b) => self.out.push_str(if *b { "true" } else { "false" }),
            Value::Empty(..) => self.out.push_str("null"),
            Value::Num(_, number) => self.number(*number)?,
            Value::Dict(_, entries) => {
                let entries = entries.iter().map(|(key, value)| (Some(key), value));
                self.group('{', '}', entries, depth)?;
            }
            Value::Array(_, items) => self.group('[', ']', items.iter().map(|value| (None, value)), depth)?,
        }
        Ok(())
    }

    fn group<'v>(
        &mut self,
        open: char,
        close: char,
        items: impl ExactSizeIterator<Item = (Option<&'v String>, &'v Value)>,
        depth: usize,
    ) -> Result<(), Problem> {
        self.out.push(open);
        let count = items.len();
        for (index, (key, value)) in items.enumerate() {
            self.line(depth + 1);
            self.key.push(key.cloned().unwrap_or_else(|| index.to_string()));
            if let Some(key) = key {
                self.string(key);
                self.out.push_str(": ");
            }
            self.value(value, depth + 1)?;
            self.key.pop();
            if index + 1 < count {
                self.out.push(',');
            }
        }
        if count > 0 {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        self.out.push('\n');
        (0..depth).for_each(|_| self.out.push_str("  "));
    }

    fn string(&mut self, text: &str) {
        self.out.push_str(&serde_json::Value::from(text).to_string());
    }

    fn number(&mut self, number: Num) -> Result<(), Problem> {
        match (number.to_u128(), number.to_i128(), number) {
            (_, _, Num::F32(f)) => self.float(f64::from(f)),
            (_, _, Num::F64(f)) => self.float(f),
            (Some(integer), _, _) => {
                let _ = write!(self.out, "{integer}");
                Ok(())
            }
            (_, Some(integer), _) => {
                let _ = write!(self.out, "{integer}");
                Ok(())
            }
            (None, None, _) => Ok(()),
        }
    }

    fn float(&mut self, value: f64) -> Result<(), Problem> {
        match serde_json::Number::from_f64(value) {
            Some(number) => {
                let _ = write!(self.out, "{number}");
                Ok(())
            }
            None => Err(Problem::NotFinite { key: self.key.join("."), value }),
        }
    }
}
