//! 'Did you mean': the nearest of the allowed words, when one is near.

use std::borrow::Cow;

/// Longest text in bytes that a message quotes in full, or that is compared with words that are allowed.
const MAX_QUOTED: usize = 60;

/// A text as messages quote it: its beginning, when it is long.
pub fn brief(text: &str) -> Cow<'_, str> {
    match text.get(..text.floor_char_boundary(MAX_QUOTED)) {
        Some(start) if start.len() < text.len() => format!("{start}…").into(),
        _ => text.into(),
    }
}

/// The allowed word nearest to what was written, unless even that is far off.
pub fn nearest<'a>(written: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > MAX_QUOTED {
        return None;
    }
    let written = written.to_lowercase();
    let scored = allowed.into_iter().map(|word| (score(&written, &word.to_lowercase()), word));
    scored.filter(|(score, _)| *score >= 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// Likeness from 0 to 1, indifferent to the choice of separators.
fn score(a: &str, b: &str) -> f64 {
    let plain = |text: &str| text.replace(['_', '-', ' ', '.'], "");
    let (a, b) = (plain(a), plain(b));
    if a == b { 1.0 } else { strsim::jaro_winkler(&a, &b).max(strsim::normalized_damerau_levenshtein(&a, &b)) }
}

/// A list of words for a message: `a`, `b`, `c`.
pub fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The help of a word that isn't allowed.
pub fn help<'a>(written: &str, allowed: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let choice = list(allowed.clone());
    match nearest(written, allowed) {
        Some(word) => format!("did you mean `{word}`? Allowed here: {choice}"),
        None => format!("allowed here: {choice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_not() {
        let keys = ["depth", "aspect_ratio", "head_dim", "sequence_len", "window_pattern"];
        for (written, expected) in [
            ("dept", Some("depth")),
            ("Depth", Some("depth")),
            ("aspect-ratio", Some("aspect_ratio")),
            ("seqence_len", Some("sequence_len")),
            ("headdim", Some("head_dim")),
            ("optimizer", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, keys), expected, "{written}");
        }
    }
}
