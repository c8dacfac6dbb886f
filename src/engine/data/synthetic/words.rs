//! The words and templates of the synthetic corpus. Their order and number decide its bytes, so they never change.
//!
//! Both texts have sections, each under a heading `# name`. An entry of `words.txt` may have several forms, separated by
//! slashes: one and many, to be done and done. A line of `templates.txt` is a step with alternatives, of which one is
//! chosen.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a line of a section of templates does.
pub(super) enum Step {
    /// Adds a sentence to the paragraph.
    Sentence(Vec<String>),
    /// `> `: adds a line.
    Line(Vec<String>),
    /// `? `: a question that the text answers, and the answer.
    Question(String, String),
    /// `¶`: ends the paragraph.
    Paragraph,
}

/// The entries of a section of `words.txt`.
pub(super) fn words(section: &str) -> &'static [&'static str] {
    static WORDS: LazyLock<HashMap<&str, Vec<&str>>> = LazyLock::new(|| {
        let sections = sections(include_str!("words.txt"));
        sections.map(|(name, lines)| (name, lines.flat_map(|line| line.split(", ")).collect())).collect()
    });
    &WORDS[section]
}

/// The forms of an entry.
pub(super) fn forms<const N: usize>(entry: &'static str) -> [&'static str; N] {
    let mut forms = entry.split('/');
    std::array::from_fn(|_| forms.next().unwrap_or_default())
}

/// The steps of a section of `templates.txt`.
pub(super) fn templates(section: &str) -> &'static [Step] {
    static TEMPLATES: LazyLock<HashMap<&str, Vec<Step>>> = LazyLock::new(|| {
        let sections = sections(include_str!("templates.txt"));
        sections.map(|(name, lines)| (name, lines.map(step).collect())).collect()
    });
    &TEMPLATES[section]
}

fn sections(text: &str) -> impl Iterator<Item = (&str, std::str::Lines<'_>)> {
    text.split("# ").skip(1).filter_map(|section| section.split_once('\n')).map(|(name, body)| (name, body.lines()))
}

fn step(line: &str) -> Step {
    let alternatives = |text: &str| text.split(" | ").map(|template| template.replace("\\n", "\n")).collect();
    if line == "¶" {
        Step::Paragraph
    } else if let Some((question, answer)) = line.strip_prefix("? ").and_then(|both| both.split_once(" | ")) {
        Step::Question(question.to_string(), answer.to_string())
    } else if let Some(line) = line.strip_prefix("> ") {
        Step::Line(alternatives(line))
    } else {
        Step::Sentence(alternatives(line))
    }
}
