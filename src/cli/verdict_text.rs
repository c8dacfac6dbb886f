//! An experiment's cells and verdicts at the end of a run.

use nanochat_artifacts::{CellSummary, Judgement, Scorecard, Verdict};

use super::output::{number, table, verdict_lines};
use super::terminal;

/// Width of the column of names, and of the column of verdicts.
const COLUMNS: (usize, usize) = (16, 15);

/// Prints a row a cell: its mean, the difference from the control, the interval.
pub fn print_cells(scorecard: &Scorecard) {
    let cells = &scorecard.cells;
    if cells.len() < 2 {
        return;
    }
    let mut rows = table(&["cell", "seeds", "mean bpb", "± sd", "difference", "interval", "quality", "speed"]);
    for cell in cells {
        let name = if cell.control { format!("{} (control)", cell.label) } else { cell.label.clone() };
        rows.add_row([
            name,
            cell.seeds.len().to_string(),
            number(cell.mean_val_bpb, 5),
            number(cell.std_val_bpb, 5),
            difference(cell),
            interval(cell),
            if cell.control { "–".to_owned() } else { label(&cell.quality).to_owned() },
            if cell.control { "–".to_owned() } else { label(&cell.speed).to_owned() },
        ]);
    }
    terminal::fit(&mut rows, &["± sd", "speed", "quality", "seeds", "mean bpb", "interval"]);
    verdict_lines(&format!("{rows}\n"));
}

fn difference(cell: &CellSummary) -> String {
    let found = cell.quality.difference().filter(|_| !cell.control);
    found.map_or_else(|| "–".to_owned(), |difference| format!("{difference:+.5}"))
}

fn interval(cell: &CellSummary) -> String {
    let found = cell.quality.finding().and_then(|finding| finding.interval).filter(|_| !cell.control);
    found.map_or_else(|| "–".to_owned(), |(low, high)| format!("{low:+.5} … {high:+.5}"))
}

/// Prints the verdicts that something is claimed for, each with its reason.
pub fn print_verdicts(scorecard: &Scorecard) {
    let verdicts =
        [("quality", &scorecard.quality), ("speed", &scorecard.speed), ("reproducibility", &scorecard.reproducibility)];
    let drift = scorecard.drift.as_ref().map(|drift| ("drift", drift));
    let claimed = |(_, judgement): &(&str, &Judgement)| judgement.verdict() != Verdict::Off;
    for (name, judgement) in verdicts.into_iter().chain(drift).filter(claimed) {
        let (names, verdicts) = COLUMNS;
        let reason = match terminal::width() {
            // Under the verdict, where a line would not hold both.
            Some(_) => format!("\n  {}", terminal::wrap(&judgement.reason, 2, 2)),
            None => format!("{:pad$} {}", "", judgement.reason, pad = verdicts - label(judgement).len()),
        };
        verdict_lines(&format!("{name:<names$} {}{reason}", label(judgement)));
    }
}

/// A verdict as tables show it.
pub fn label(judgement: &Judgement) -> &'static str {
    match judgement.verdict() {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Inconclusive => "inconclusive",
        Verdict::NotComparable => "not comparable",
        Verdict::Missing => "missing",
        Verdict::Off => "off",
    }
}
