//! What a terminal can show: its width, which tables keep within by leaving out columns, and colours of verdicts.

use std::io::IsTerminal as _;

use comfy_table::{ColumnConstraint, ContentArrangement, Table};

/// The narrowest width that is taken seriously.
const NARROWEST: usize = 20;

/// Columns that standard output shows: `COLUMNS` where that is set, else the terminal's; none where it is no terminal.
pub fn width() -> Option<usize> {
    let stated = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse::<usize>().ok());
    let own = || Table::new().width().map(usize::from).filter(|_| std::io::stdout().is_terminal());
    stated.filter(|width| *width >= NARROWEST).or_else(own)
}

/// Leaves out columns until the table fits the width: those that are named, in their order.
pub fn fit(table: &mut Table, spare: &[&str]) {
    let Some(width) = width() else { return };
    for name in spare {
        if drawn(table) <= width {
            return;
        }
        let headings = table.header().map(|row| row.cell_iter().map(|cell| cell.content().to_lowercase()).collect());
        let headings: Vec<String> = headings.unwrap_or_default();
        let place = headings.iter().position(|heading| *heading == name.to_lowercase());
        if let Some(column) = place.and_then(|place| table.column_mut(place)) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
}

/// Lets the words of a table of names and values go on in further lines.
pub fn wrap_values(table: &mut Table) {
    if let Some(width) = width() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
}

/// The longest line of a table, trailing blanks left out.
fn drawn(table: &Table) -> usize {
    table.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or_default()
}

/// Text in lines that fit the width, all but the first indented; one line where there is no width.
pub fn wrap(text: &str, first: usize, indent: usize) -> String {
    let Some(width) = width() else { return text.to_owned() };
    wrap_to(text, width, first, indent)
}

/// The same for every line of a text that is no row of a table, which begins with a blank.
pub fn wrap_lines(text: &str) -> String {
    let line = |line: &str| if line.starts_with(' ') { line.to_owned() } else { wrap(line, 0, 2) };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn wrap_to(text: &str, width: usize, first: usize, indent: usize) -> String {
    let (mut wrapped, mut used) = (String::new(), first);
    for word in text.split(' ') {
        let length = word.chars().count();
        match wrapped.is_empty() {
            true => {}
            false if used + 1 + length > width => {
                wrapped.push('\n');
                wrapped.push_str(&" ".repeat(indent));
                used = indent;
            }
            false => {
                wrapped.push(' ');
                used += 1;
            }
        }
        wrapped.push_str(word);
        used += length;
    }
    wrapped
}

/// Whether verdicts are coloured: on a terminal that can, unless `NO_COLOR` is set.
pub fn has_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Colours the cells of a table that are verdicts or states, which two blanks part from the others.
pub fn paint(text: &str) -> String {
    text.split('\n').map(paint_line).collect::<Vec<_>>().join("\n")
}

fn paint_line(line: &str) -> String {
    let (mut painted, mut rest) = (String::with_capacity(line.len()), line);
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        let (margin, cell) = rest.split_at(blanks);
        painted.push_str(margin);
        let end = cell.find("  ").unwrap_or(cell.len());
        let (cell, after) = cell.split_at(end);
        let bare = cell.trim_end();
        match colour(bare) {
            Some(code) => painted.push_str(&format!("\u{1b}[{code}m{bare}\u{1b}[0m{}", &cell[bare.len()..])),
            None => painted.push_str(cell),
        }
        rest = after;
    }
    painted
}

/// The terminal's code for green, red or yellow.
fn colour(cell: &str) -> Option<&'static str> {
    match cell {
        "pass" | "done" | "finished" | "matches" => Some("32"),
        "FAIL" | "fail" | "failed" => Some("31"),
        "inconclusive" | "interrupted" | "not comparable" | "not_comparable" | "missing" | "changed" => Some("33"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_are_verdicts_are_coloured_and_words_in_text_are_not() {
        let painted = paint(" books  pass  a pass is a pass \n reason  FAIL ");
        assert_eq!(painted, " books  \u{1b}[32mpass\u{1b}[0m  a pass is a pass \n reason  \u{1b}[31mFAIL\u{1b}[0m ");
    }

    #[test]
    fn words_go_on_in_the_next_line() {
        assert_eq!(wrap_to("one two three four", 12, 4, 2), "one two\n  three four");
        assert_eq!(wrap_to("unbreakable", 5, 0, 2), "unbreakable");
    }
}
