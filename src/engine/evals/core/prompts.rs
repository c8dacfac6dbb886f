//! Prompts as the baseline's templates render them.

use super::{Item, Task};

/// The prompts of a question after its examples: one an option, or, for language modelling, without and with the
/// continuation.
pub(super) fn render(task: &Task, item: &Item, shots: &[&Item]) -> Vec<String> {
    let delimiter = &task.delimiter;
    let examples: String = shots.iter().map(|shot| format!("{}\n\n", answered(shot, delimiter))).collect();
    match item {
        Item::MultipleChoice { query, choices, .. } => {
            choices.iter().map(|choice| format!("{examples}{query}{delimiter}{choice}")).collect()
        }
        Item::Schema { context_options, continuation, .. } => {
            context_options.iter().map(|context| format!("{examples}{context}{delimiter}{continuation}")).collect()
        }
        Item::LanguageModeling { context, continuation } => {
            let without = format!("{examples}{}{delimiter}", strip(context));
            let with = format!("{without}{continuation}");
            vec![strip(&without).to_string(), with]
        }
    }
}

/// An example with its right answer.
fn answered(item: &Item, delimiter: &str) -> String {
    let option = |options: &[String], gold: usize| options.get(gold).cloned().unwrap_or_default();
    match item {
        Item::MultipleChoice { query, choices, gold } => format!("{query}{delimiter}{}", option(choices, *gold)),
        Item::Schema { context_options, continuation, gold } => {
            format!("{}{delimiter}{continuation}", option(context_options, *gold))
        }
        Item::LanguageModeling { context, continuation } => format!("{}{delimiter}{continuation}", strip(context)),
    }
}

/// Python's `str.strip`: it counts the four information separators as blanks, which Unicode's property doesn't.
fn strip(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character))
}
