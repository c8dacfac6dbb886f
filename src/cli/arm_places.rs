//! Arguments that say where checkouts and their environments are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::CliError;
use crate::baseline::{ArmArgumentError, Place, Places};
use nanochat_experiment::Experiment;

#[derive(Debug, Clone, clap::Args)]
pub struct PlaceArgs {
    /// The checkout of karpathy/nanochat; with arms NAME=FOLDER for one of them
    #[arg(long, value_name = "[NAME=]FOLDER")]
    checkout: Vec<String>,
    /// Interpreter of the environment with the checkout's packages, likewise; `.venv` in the checkout by default
    #[arg(long, value_name = "[NAME=]PATH")]
    python: Vec<String>,
    /// Folder for the checkouts' data, checkpoints and compiled kernels, which is kept; a temporary one by default
    #[arg(long, value_name = "FOLDER")]
    base_dir: Option<PathBuf>,
    /// Stop a run of a checkout after this time; it is recorded as failed
    #[arg(long, value_name = "SECONDS", visible_alias = "arm-timeout", default_value_t = 86400)]
    baseline_timeout: u64,
}

impl PlaceArgs {
    /// The places of a spec's arms.
    pub fn places(&self, experiment: &Experiment, hardware_matches: bool) -> Result<Places, CliError> {
        Ok(Places {
            checkouts: by_arm(&self.checkout, experiment)?,
            pythons: by_arm(&self.python, experiment)?,
            base_dir: self.base_dir.clone(),
            timeout: Duration::from_secs(self.baseline_timeout),
            hardware_matches,
        })
    }

    /// The arguments again, for another start of the program; none where a path isn't text.
    pub fn words(&self) -> Option<Vec<String>> {
        let mut words: Vec<String> = self.checkout.iter().map(|place| format!("--checkout={place}")).collect();
        words.extend(self.python.iter().map(|place| format!("--python={place}")));
        if let Some(folder) = &self.base_dir {
            words.push(format!("--base-dir={}", folder.to_str()?));
        }
        words.push(format!("--baseline-timeout={}", self.baseline_timeout));
        Some(words)
    }

    /// The place of the one baseline; none where the arguments don't name one.
    pub fn place(&self, hardware_matches: bool) -> Option<Place<'_>> {
        let ([checkout], [python]) = (self.checkout.as_slice(), self.python.as_slice()) else { return None };
        Some(Place {
            checkout: Path::new(checkout),
            python: Path::new(python),
            base_dir: self.base_dir.as_deref(),
            timeout: Duration::from_secs(self.baseline_timeout),
            hardware_matches,
        })
    }
}

/// Folders by the name of the arm; one without a name is for all arms that have none of their own.
fn by_arm(arguments: &[String], experiment: &Experiment) -> Result<BTreeMap<String, PathBuf>, CliError> {
    let names: Vec<&str> = experiment.arms.iter().map(|arm| arm.plan.name.as_str()).collect();
    crate::baseline::by_arm(arguments, &names).map_err(|error: ArmArgumentError| CliError::invalid(error))
}
