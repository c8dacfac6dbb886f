//! Where two tokenizers part on a text.

use super::Tokenizer;

/// The first place where two tokenizers give a text other tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Tokens before it, the same for both.
    pub tokens_before: usize,
    /// Byte of the text at which the differing tokens begin.
    pub byte: usize,
    /// Line of the text, from 1 on.
    pub line: usize,
    /// Character of that line, from 1 on.
    pub column: usize,
    /// From there on, the next tokens of each.
    pub next: [Vec<Piece>; 2],
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its id.
    pub id: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Tokens shown of each from the first difference on.
const SHOWN: usize = 5;

impl Tokenizer {
    /// The first place where this tokenizer and another give a text other ids, or ids of other bytes; none where they agree.
    pub fn first_difference(&self, other: &Self, text: &str) -> Option<Difference> {
        let ids = [self, other].map(|tokenizer| tokenizer.encode(text));
        let [ours, theirs] = &ids;
        let alike = |(a, b): &(&u32, &u32)| a == b && self.bytes_of(**a) == other.bytes_of(**b);
        let before = ours.iter().zip(theirs).take_while(alike).count();
        if before == ours.len() && before == theirs.len() {
            return None;
        }
        let byte: usize = ours[..before].iter().map(|id| self.bytes_of(*id).len()).sum();
        let read = text.as_bytes().get(..byte).unwrap_or_default();
        let line_start = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let next = |tokenizer: &Self, ids: &[u32]| {
            let piece = |id: &u32| Piece { id: *id, bytes: tokenizer.bytes_of(*id).to_vec() };
            ids[before..].iter().take(SHOWN).map(piece).collect()
        };
        Some(Difference {
            tokens_before: before,
            byte,
            line: 1 + read.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + String::from_utf8_lossy(&read[line_start..]).chars().count(),
            next: [next(self, ours), next(other, theirs)],
        })
    }

    /// The first rank whose bytes another tokenizer has otherwise, or not at all; none where the ranks are equal.
    pub fn first_differing_rank(&self, other: &Self) -> Option<usize> {
        let (ours, theirs) = (self.ranks(), other.ranks());
        let alike = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        (alike < ours.len().max(theirs.len())).then_some(alike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(merged: &[&str]) -> Tokenizer {
        let bytes = (0..=255u8).map(|byte| vec![byte]);
        Tokenizer::from_ranks(bytes.chain(merged.iter().map(|text| text.as_bytes().to_vec())).collect()).unwrap()
    }

    #[test]
    fn the_first_difference_is_found_with_its_place() {
        let (plain, pairs, others) = (with(&["ab", "cd"]), with(&["ab", "cd", "abcd"]), with(&["ab", "ef"]));
        assert_eq!(plain.first_difference(&pairs, "ab cd, dc\n"), None);
        let found = plain.first_difference(&pairs, "größe ab\nüb abcd!").unwrap();
        assert_eq!((found.byte, found.line, found.column), ("größe ab\nüb ".len(), 2, 4));
        let shown = |at: usize| found.next[at].iter().map(|piece| piece.bytes.as_slice()).collect::<Vec<_>>();
        assert_eq!(shown(0), [b"ab".as_slice(), b"cd", b"!"]);
        assert_eq!(shown(1), [b"abcd".as_slice(), b"!"]);
        // The same id with other bytes is a difference.
        assert_eq!(plain.first_difference(&others, "ab ef cd").unwrap().byte, 3);
        assert_eq!(plain.first_difference(&others, ""), None);
        assert_eq!(plain.first_differing_rank(&pairs), Some(258));
        assert_eq!(plain.first_differing_rank(&others), Some(257));
        assert_eq!(plain.first_differing_rank(&with(&["ab", "cd"])), None);
    }
}
