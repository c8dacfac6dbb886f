//! `results/LEADERBOARD.md`.

use std::path::{Path, PathBuf};

use nanochat_artifacts::{ResultsRoot, write_atomic};

use super::{ReportError, templates};
use crate::scorecard;

/// Renders the leaderboard over everything under `results/` that git doesn't ignore, from the scorecards as they are.
///
/// # Errors
/// Documents that can't be read, a template that can't be rendered.
pub fn leaderboard(root: &ResultsRoot, overrides: Option<&Path>) -> Result<String, ReportError> {
    let environment = templates::environment(overrides)?;
    templates::render(&environment, templates::LEADERBOARD, &scorecard::leaderboard(root)?)
}

/// Writes `results/LEADERBOARD.md`; says where.
///
/// # Errors
/// As [`leaderboard`], and a file that can't be written.
pub fn write_leaderboard(root: &ResultsRoot, overrides: Option<&Path>) -> Result<PathBuf, ReportError> {
    let path = root.leaderboard();
    write_atomic(&path, leaderboard(root, overrides)?.as_bytes())?;
    Ok(path)
}

/// Writes the leaderboard anew where a project keeps one.
///
/// # Errors
/// As [`write_leaderboard`].
pub fn refresh_leaderboard(root: &ResultsRoot) -> Result<(), ReportError> {
    if root.leaderboard().is_file() {
        write_leaderboard(root, None)?;
    }
    Ok(())
}
