//! Published vocabularies that compression is held against: GPT-2's and GPT-4's ranks with the split patterns that belong to
//! them. They only count tokens; the ranks come from files that the user has (`r50k_base.tiktoken`, `cl100k_base.tiktoken`).

use std::path::Path;

use fancy_regex::Regex;

use super::merge::merge_piece;
use super::vocabulary::Vocabulary;
use super::{TokenizerError, tiktoken};

/// Which published vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishedName {
    /// GPT-2's, 50,256 ranks.
    Gpt2,
    /// GPT-4's, 100,256 ranks.
    Gpt4,
}

impl PublishedName {
    /// The expression that cuts text (OpenAI's `tiktoken_ext/openai_public.py`, in its plain form).
    fn pattern(self) -> &'static str {
        match self {
            Self::Gpt2 => r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            Self::Gpt4 => {
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            }
        }
    }
}

/// A published vocabulary.
#[derive(Debug)]
pub struct Published {
    vocabulary: Vocabulary,
    pattern: Regex,
}

impl Published {
    /// Reads its ranks from a `.tiktoken` file.
    ///
    /// # Errors
    /// A file that can't be read, or isn't such a file.
    pub fn load(name: PublishedName, path: &Path) -> Result<Self, TokenizerError> {
        let bytes = nanochat_artifacts::files::read_named(path, super::files::LARGEST_FILE)
            .map_err(TokenizerError::io(path))?;
        let malformed = |problem: String| TokenizerError::malformed(path, "whole file", problem);
        let vocabulary =
            Vocabulary::new(tiktoken::read(path, &bytes)?).map_err(|error| malformed(error.to_string()))?;
        let pattern = Regex::new(name.pattern()).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { vocabulary, pattern })
    }

    /// Tokens by rank.
    pub fn ranks(&self) -> usize {
        self.vocabulary.ranks().len()
    }

    /// How many tokens a text comes to.
    ///
    /// # Errors
    /// A text on which the expression gives up.
    pub fn count(&self, text: &str) -> Result<usize, TokenizerError> {
        let (mut ids, mut count) = (Vec::new(), 0);
        for piece in self.pattern.find_iter(text) {
            let piece = piece.map_err(|error| TokenizerError::Split { problem: error.to_string() })?;
            ids.clear();
            match self.vocabulary.id(piece.as_str().as_bytes()) {
                Some(id) => ids.push(id),
                None => merge_piece(&self.vocabulary, piece.as_str().as_bytes(), &mut ids),
            }
            count += ids.len();
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn tokens_are_counted_by_the_patterns_that_belong_to_the_ranks() {
        // The bytes, and what "hello" and numbers of three digits come to.
        let merged = ["he", "ll", "hell", "hello", " hello", "12", "123", "34", " 1"];
        let bytes = (0..=255u8).map(|byte| vec![byte]);
        let ranks: Vec<Vec<u8>> = bytes.chain(merged.map(|text| text.as_bytes().to_vec())).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ranks.tiktoken");
        Tokenizer::from_ranks(ranks).unwrap().save_as(&path, crate::tokenizer::TokenizerFormat::Tiktoken).unwrap();
        let [gpt2, gpt4] = [PublishedName::Gpt2, PublishedName::Gpt4].map(|name| Published::load(name, &path).unwrap());
        assert_eq!(gpt2.ranks(), 265);
        // "hello", " hello"; numbers in one piece ("123", "4") or by three ("123", "4"); "12" of " 12" after a space or not.
        for (text, two, four) in [("hello hello", 2, 2), ("1234", 2, 2), (" 123", 2, 2), ("hello's", 3, 3), ("", 0, 0)]
        {
            assert_eq!((gpt2.count(text).unwrap(), gpt4.count(text).unwrap()), (two, four), "{text:?}");
        }
        let missing = Published::load(PublishedName::Gpt2, &folder.path().join("none.tiktoken"));
        assert!(matches!(missing, Err(TokenizerError::Io { .. })), "{missing:?}");
        std::fs::write(&path, "aGk= 0\n").unwrap();
        assert!(Published::load(PublishedName::Gpt4, &path).unwrap_err().to_string().contains("256 single bytes"));
    }
}
