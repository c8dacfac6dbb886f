//! The verdict over all cells is the worst of them: `fail`, then `inconclusive`, `not_comparable`, `missing`, `pass`.

use super::quality::undecided;
use crate::artifacts::{CellSummary, ExperimentDocuments, Judgement, Verdict};

/// How bad a verdict is: the higher, the worse.
pub fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Missing => 1,
        Verdict::NotComparable => 2,
        Verdict::Inconclusive => 3,
        Verdict::Fail => 4,
    }
}

/// The worst judgement over cells, with planned runs that never started counting as missing evidence.
pub(super) fn over(
    cells: &[CellSummary],
    get: impl Fn(&CellSummary) -> &Judgement,
    absent: &[String],
    metric: &str,
) -> Judgement {
    let judged: Vec<_> = cells.iter().map(|cell| (cell.label.as_str(), get(cell))).collect();
    let worst = worst_of(&judged, cells.len());
    let lacking = absent.first().map(|first| {
        let more = if absent.len() > 1 { format!(" and {} more", absent.len() - 1) } else { String::new() };
        undecided(
            metric,
            Verdict::Missing,
            format!("`{first}`{more} not started; `nanochat run` takes up what is missing"),
        )
    });
    match (worst, lacking) {
        (Some(worst), Some(lacking)) if severity(worst.verdict) <= severity(lacking.verdict) => Judgement {
            verdict: lacking.verdict,
            reason: format!("{}; so far: {}", lacking.reason, worst.reason),
            ..worst
        },
        (Some(worst), _) => worst,
        (None, Some(lacking)) => lacking,
        (None, None) => undecided(metric, Verdict::Missing, "no runs are planned"),
    }
}

/// Reproducibility over the cells that were planned with repeats: it is a property of the engine, not of each cell.
pub(super) fn over_repeated(cells: &[CellSummary], documents: &ExperimentDocuments, absent: &[String]) -> Judgement {
    let repeated: Vec<CellSummary> = cells.iter().filter(|cell| repeats_planned(cell, documents)).cloned().collect();
    let rested_on = if repeated.is_empty() { cells } else { &repeated };
    over(rested_on, |cell| &cell.reproducibility, absent, "reproducibility")
}

fn repeats_planned(cell: &CellSummary, documents: &ExperimentDocuments) -> bool {
    let runs: Vec<_> = documents.runs.iter().filter(|run| cell.runs.contains(&run.plan.run_id)).collect();
    super::reproducibility::has_repeats(&runs)
}

fn worst_of(judged: &[(&str, &Judgement)], cells: usize) -> Option<Judgement> {
    let mut worst: Option<(&str, &Judgement)> = None;
    for (label, judgement) in judged {
        if worst.is_none_or(|(_, worst)| severity(judgement.verdict) > severity(worst.verdict)) {
            worst = Some((label, judgement));
        }
    }
    let (label, judgement) = worst?;
    if judged.len() == 1 && cells == 1 {
        return Some(judgement.clone());
    }
    let alike = judged.iter().filter(|(_, other)| other.verdict == judgement.verdict).count();
    let whole = judged.len();
    let reason = if judged.len() == 1 {
        format!("{label}: {}", judgement.reason)
    } else if alike == whole {
        format!("all {whole} cells alike; {label}: {}", judgement.reason)
    } else {
        format!("{alike} of {whole} cells, the worst verdict among them; {label}: {}", judgement.reason)
    };
    Some(Judgement { reason, ..judgement.clone() })
}
