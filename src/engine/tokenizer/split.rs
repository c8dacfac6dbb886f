//! Cuts text into the pieces within which bytes are merged.
//!
//! The rule is the baseline's regular expression ([`SPLIT_PATTERN`]). A backtracking engine spends most of an encoder's
//! time on it, so the same rule stands here as a scanner over four character classes; the tests hold it against the
//! expression itself. Where the engine would give up (more than a million steps back over white space) the scanner
//! goes on, in linear time.

use std::sync::LazyLock;

/// The baseline's expression (`SPLIT_PATTERN` in `nanochat/tokenizer.py`).
pub const SPLIT_PATTERN: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// What the expression tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Class {
    /// None of the others: punctuation, symbols, marks, unassigned.
    Other = 0,
    /// `\p{L}`.
    Letter = 1,
    /// `\p{N}`.
    Number = 2,
    /// `\s`, carriage return and line feed excepted.
    Space = 3,
    /// `[\r\n]`.
    Newline = 4,
}

/// Characters a page of the class table.
const PAGE: usize = 256;

/// Class of every character in two stages: most of the 4,352 pages are equal and stored once.
struct ClassTable {
    page_of: Vec<u16>,
    pages: Vec<[Class; PAGE]>,
}

/// Classes of the first 128 characters, where nearly all text of Western languages lies.
const ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut code = 0u8;
    while code < 128 {
        classes[code as usize] = match code {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\r' | b'\n' => Class::Newline,
            b' ' | 0x09 | 0x0B | 0x0C => Class::Space,
            _ => Class::Other,
        };
        code += 1;
    }
    classes
};

static CLASSES: LazyLock<ClassTable> = LazyLock::new(ClassTable::build);

impl ClassTable {
    fn build() -> Self {
        let mut flat = vec![Class::Other; 0x11_0000];
        mark(&mut flat, r"\p{L}", Class::Letter);
        mark(&mut flat, r"\p{N}", Class::Number);
        mark(&mut flat, r"\s", Class::Space);
        mark(&mut flat, r"[\r\n]", Class::Newline);
        let mut pages: Vec<[Class; PAGE]> = Vec::new();
        let mut page_of = Vec::with_capacity(flat.len() / PAGE);
        for chunk in flat.as_chunks::<PAGE>().0 {
            let index = pages.iter().position(|page| page == chunk).unwrap_or_else(|| {
                pages.push(*chunk);
                pages.len() - 1
            });
            page_of.push(index as u16);
        }
        Self { page_of, pages }
    }

    #[inline]
    fn of(&self, c: char) -> Class {
        let code = c as usize;
        self.pages[self.page_of[code / PAGE] as usize][code % PAGE]
    }
}

/// Writes `class` over every character that the one-class expression matches.
fn mark(flat: &mut [Class], expression: &str, class: Class) {
    let Ok(hir) = regex_syntax::parse(expression) else {
        unreachable!("a constant expression parses");
    };
    if let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(ranges)) = hir.kind() {
        for range in ranges.ranges() {
            flat[range.start() as usize..=range.end() as usize].fill(class);
        }
    }
}

/// The pieces of `text`, in order; joined they give `text` again.
pub fn pieces(text: &str) -> Pieces<'_> {
    Pieces { text, position: 0 }
}

/// Iterator over the pieces of a text.
pub struct Pieces<'t> {
    text: &'t str,
    position: usize,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t str;

    #[inline]
    fn next(&mut self) -> Option<&'t str> {
        if self.position >= self.text.len() {
            return None;
        }
        let start = self.position;
        self.position = self.piece_end(start);
        Some(&self.text[start..self.position])
    }
}

impl Pieces<'_> {
    /// Class and length in bytes of the character at `at`, or none at the end.
    #[inline]
    fn class_at(&self, at: usize) -> Option<(Class, usize)> {
        let byte = *self.text.as_bytes().get(at)?;
        if byte < 128 {
            return Some((ASCII[byte as usize], 1));
        }
        let c = self.text[at..].chars().next()?;
        Some((CLASSES.of(c), c.len_utf8()))
    }

    /// End of the run of `class` from `at` on.
    #[inline]
    fn run_end(&self, class: Class, mut at: usize) -> usize {
        while let Some((found, len)) = self.class_at(at)
            && found == class
        {
            at += len;
        }
        at
    }

    /// End of the piece that starts at `start`, which is not the end of the text.
    #[inline]
    fn piece_end(&self, start: usize) -> usize {
        let Some((first, len)) = self.class_at(start) else { return self.text.len() };
        let after = start + len;
        match first {
            Class::Letter => self.run_end(Class::Letter, after),
            Class::Number => match self.class_at(after) {
                Some((Class::Number, len)) => after + len,
                _ => after,
            },
            Class::Newline => self.space_end(start),
            Class::Space | Class::Other => self.led_end(first, start, after),
        }
    }

    /// End of a piece whose first character may lead a word or a run of punctuation.
    fn led_end(&self, first: Class, start: usize, after: usize) -> usize {
        let bytes = self.text.as_bytes();
        if bytes[start] == b'\''
            && let Some(end) = self.contraction_end(after)
        {
            return end;
        }
        let next = self.class_at(after);
        match (first, next) {
            (_, Some((Class::Letter, len))) => self.run_end(Class::Letter, after + len),
            (Class::Other, _) => self.punctuation_end(after),
            (_, Some((Class::Other, len))) if bytes[start] == b' ' => self.punctuation_end(after + len),
            _ => self.space_end(start),
        }
    }

    /// End of an English contraction after an apostrophe; the long s folds to s.
    fn contraction_end(&self, after: usize) -> Option<usize> {
        let rest = &self.text.as_bytes()[after..];
        let first = rest.first()?.to_ascii_lowercase();
        if matches!(first, b's' | b'd' | b'm' | b't') {
            return Some(after + 1);
        }
        if rest.starts_with("ſ".as_bytes()) {
            return Some(after + "ſ".len());
        }
        let second = rest.get(1)?.to_ascii_lowercase();
        matches!((first, second), (b'l', b'l') | (b'v', b'e') | (b'r', b'e')).then_some(after + 2)
    }

    /// End of a run of punctuation and the line ends right after it.
    fn punctuation_end(&self, at: usize) -> usize {
        self.run_end(Class::Newline, self.run_end(Class::Other, at))
    }

    /// End of a piece of white space: up to the last line end of the run; else, before a word, all but the last
    /// character, which leads that word.
    fn space_end(&self, start: usize) -> usize {
        let mut at = start;
        let mut last = start;
        let mut newline_end = None;
        while let Some((class, len)) = self.class_at(at) {
            match class {
                Class::Newline => newline_end = Some(at + len),
                Class::Space => {}
                _ => break,
            }
            last = at;
            at += len;
        }
        match newline_end {
            Some(end) => end,
            None if at == self.text.len() || last == start => at,
            None => last,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_expression(text: &str) -> Vec<&str> {
        let expression = fancy_regex::Regex::new(SPLIT_PATTERN).unwrap();
        expression.find_iter(text).map(|found| found.unwrap().as_str()).collect()
    }

    fn check(text: &str) {
        assert_eq!(pieces(text).collect::<Vec<_>>(), by_expression(text), "{text:?}");
    }

    #[test]
    fn every_alternative_cuts_as_the_expression_does() {
        for text in [
            "",
            " ",
            "Hello, world! It's I'LL we'Ve 'ſo 'real 'll'll don'T 's",
            "  two  spaces\n\n\n next \r\n\r\n  end  ",
            "a\t\tb \u{a0}c\u{2003}\u{2003}d",
            "12345 1 22 333 ①②③ ⅷⅷⅷ १२३",
            "...!!!\n\n\r x ?!\u{301}é e\u{301}",
            "\n \n \n",
            "   \n   x",
            "\u{85}\u{85}x \u{2028}y",
            "你好，世界 🌍🌍 \u{200d}👩‍👩‍👧",
            "'",
            "''s",
            "-'s-",
            "<|bos|>",
        ] {
            check(text);
        }
    }

    #[test]
    fn every_character_has_the_class_of_the_expression() {
        let expression = fancy_regex::Regex::new(SPLIT_PATTERN).unwrap();
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            // Two of it, then a letter: parts letters, numbers, leaders and runs from each other.
            let text = format!("{c}{c}a");
            let cut: Vec<&str> = expression.find_iter(&text).map(|found| found.unwrap().as_str()).collect();
            assert_eq!(pieces(&text).collect::<Vec<_>>(), cut, "U+{:04X}", c as u32);
        }
    }

    #[test]
    fn a_long_run_of_spaces_takes_linear_time() {
        let text = format!("{}x", " ".repeat(3_000_000));
        assert_eq!(pieces(&text).map(str::len).collect::<Vec<_>>(), [2_999_999, 2]);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_as_the_expression_does(text in any::<String>()) {
            check(&text);
        }

        #[test]
        fn dense_mixtures_are_cut_as_the_expression_does(text in r"[ \t\r\n'a-eA-ESTLVRſ0-9.,!é一\u{a0}\u{301}🙂]{0,40}") {
            check(&text);
        }
    }
}
