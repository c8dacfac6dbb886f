//! One compared quantity, and the error of a file that can't be used.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One quantity compared with its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Name of the reference file.
    pub file: String,
    /// What was compared.
    pub quantity: String,
    /// Largest absolute difference (a count of mismatches for ids, hashes and integers).
    pub max_abs: f64,
    /// Largest relative difference.
    pub max_rel: f64,
    /// The bound on the difference that decides (0 where equality is demanded).
    pub bound: f64,
    /// Whether the quantity is within its bound.
    pub ok: bool,
}

/// Largest differences between two series of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Differences {
    /// Largest absolute difference; infinite when a value is not finite on one side only, or lengths differ.
    pub max_abs: f64,
    /// Largest difference relative to the reference's magnitude.
    pub max_rel: f64,
}

impl Differences {
    /// Compares `ours` with `reference`, entry by entry. A NaN or an infinity that the other side doesn't have counts as
    /// infinitely far, and so does a difference in length: a comparison never passes for lack of numbers.
    pub fn between(ours: impl IntoIterator<Item = f64>, reference: impl IntoIterator<Item = f64>) -> Self {
        let mut worst = Self::default();
        let mut ours = ours.into_iter();
        let mut reference = reference.into_iter();
        loop {
            match (ours.next(), reference.next()) {
                (None, None) => return worst,
                (Some(a), Some(b)) => worst.widen(a, b),
                _ => return Self { max_abs: f64::INFINITY, max_rel: f64::INFINITY },
            }
        }
    }

    fn widen(&mut self, ours: f64, reference: f64) {
        if ours == reference {
            return;
        }
        let absolute = (ours - reference).abs();
        let absolute = if absolute.is_nan() { f64::INFINITY } else { absolute };
        let relative = if reference == 0.0 { f64::INFINITY } else { absolute / reference.abs() };
        self.max_abs = self.max_abs.max(absolute);
        self.max_rel = self.max_rel.max(if relative.is_nan() { f64::INFINITY } else { relative });
    }
}

/// What decides whether a quantity is right.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// The largest absolute difference may be so large.
    Absolute(f64),
    /// The largest relative difference may be so large.
    Relative(f64),
}

impl Check {
    /// Compares two series of numbers.
    pub fn numbers(
        file: &Path,
        quantity: impl Into<String>,
        ours: impl IntoIterator<Item = f64>,
        reference: impl IntoIterator<Item = f64>,
        bound: Bound,
    ) -> Self {
        Self::differences(file, quantity, Differences::between(ours, reference), bound)
    }

    /// A quantity whose differences are known.
    pub fn differences(file: &Path, quantity: impl Into<String>, differences: Differences, bound: Bound) -> Self {
        let (difference, bound) = match bound {
            Bound::Absolute(bound) => (differences.max_abs, bound),
            Bound::Relative(bound) => (differences.max_rel, bound),
        };
        Self::new(file, quantity, differences, bound, difference <= bound)
    }

    /// Compares two lists that must be equal.
    pub fn equal<T: PartialEq>(file: &Path, quantity: impl Into<String>, ours: &[T], reference: &[T]) -> Self {
        Self::mismatches(file, quantity, mismatches(ours, reference), reference.len())
    }

    /// A quantity that must be equal: `mismatches` counts the entries that are not, out of `total`. No entries at all is a
    /// failure, since nothing was compared.
    pub fn mismatches(file: &Path, quantity: impl Into<String>, mismatches: usize, total: usize) -> Self {
        let share = if total == 0 { f64::INFINITY } else { mismatches as f64 / total as f64 };
        let differences = Differences { max_abs: mismatches as f64, max_rel: share };
        Self::new(file, quantity, differences, 0.0, mismatches == 0 && total > 0)
    }

    fn new(file: &Path, quantity: impl Into<String>, differences: Differences, bound: f64, ok: bool) -> Self {
        let file =
            file.file_name().map_or_else(|| file.display().to_string(), |name| name.to_string_lossy().into_owned());
        // JSON has no infinity: the largest finite number stands for it.
        let finite = |value: f64| if value.is_finite() { value } else { f64::MAX };
        Self {
            file,
            quantity: quantity.into(),
            max_abs: finite(differences.max_abs),
            max_rel: finite(differences.max_rel),
            bound,
            ok,
        }
    }
}

/// Places in which two lists differ, including those that only one has.
pub fn mismatches<T: PartialEq>(ours: &[T], reference: &[T]) -> usize {
    ours.iter().zip(reference).filter(|(ours, reference)| ours != reference).count()
        + ours.len().abs_diff(reference.len())
}

/// Why a reference file can't be checked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ParityError {
    /// The file, or one that it refers to, can't be read.
    #[error("can't read {}: {reason}", path.display())]
    #[diagnostic(help("files of one set lie in one folder, and find each other by name"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// The file is not of any kind that is known.
    #[error("{} is not a reference file of a known kind: {reason}", path.display())]
    #[diagnostic(help("`fixtures/parity/` has a file of each kind"))]
    UnknownKind {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// The engine itself failed while the figures were recomputed.
    #[error("{}: recomputing the figures failed: {reason}", path.display())]
    #[diagnostic(help("the engine refuses what this file asks for; check that it is complete"))]
    Engine {
        /// The file.
        path: PathBuf,
        /// The engine's error.
        reason: String,
    },
}

impl ParityError {
    /// The file, or one that it refers to, can't be read.
    pub fn unreadable(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Unreadable { path: path.to_path_buf(), reason: reason.to_string() }
    }

    /// The engine failed.
    pub fn engine(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Engine { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

/// Gives an error the file that it concerns.
pub trait Concerning<T> {
    /// The file, or one that it refers to, can't be read.
    fn reading(self, path: &Path) -> Result<T, ParityError>;

    /// The engine failed while the file's figures were recomputed.
    fn computing(self, path: &Path) -> Result<T, ParityError>;
}

impl<T, E: std::fmt::Display> Concerning<T> for Result<T, E> {
    fn reading(self, path: &Path) -> Result<T, ParityError> {
        self.map_err(|error| ParityError::unreadable(path, error))
    }

    fn computing(self, path: &Path) -> Result<T, ParityError> {
        self.map_err(|error| ParityError::engine(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_unfinite_number_is_infinitely_far() {
        assert_eq!(Differences::between([1.0], [1.0, 2.0]).max_abs, f64::INFINITY);
        assert_eq!(Differences::between([f64::NAN], [1.0]).max_abs, f64::INFINITY);
        assert_eq!(Differences::between([1.5, -2.0], [1.0, -2.0]), Differences { max_abs: 0.5, max_rel: 0.5 });
    }

    #[test]
    fn equality_of_nothing_fails() {
        assert!(!Check::equal::<u32>(Path::new("x"), "ids", &[], &[]).ok);
        assert!(Check::equal(Path::new("x"), "ids", &[1, 2, 3], &[1, 2, 3]).ok);
        assert!(!Check::equal(Path::new("x"), "ids", &[1, 2, 3], &[1, 2, 4]).ok);
        assert_eq!(Check::equal(Path::new("x"), "ids", &[1, 2], &[1, 3, 4]).max_abs, 2.0);
    }
}
