//! Whether a checkout and its Python environment can be used as the baseline.

use std::collections::BTreeMap;
use std::path::Path;

use nanochat_plan::DeviceKind;

use super::{BaselineError, Checkout, Python, SCRIPT_TIMEOUT};

/// What a checkout and its environment are, and what is wrong with them.
#[derive(Debug)]
pub struct Check {
    /// The checkout.
    pub checkout: Checkout,
    /// Versions of the environment's packages.
    pub versions: BTreeMap<String, String>,
    /// Kinds of devices that PyTorch finds.
    pub devices: Vec<String>,
    /// GPUs that PyTorch finds.
    pub gpus: Vec<String>,
    /// What is wrong; empty if they can be used.
    pub problems: Vec<BaselineError>,
}

/// Checks a checkout and its environment for `commit` and `device`.
///
/// # Errors
/// The folder is not a checkout of the baseline.
pub fn check(folder: &Path, python: &Path, commit: &str, device: DeviceKind) -> Result<Check, BaselineError> {
    let checkout = Checkout::open(folder)?;
    let python = Python::new(python);
    let problems = checkout.problems(commit);
    let mut check = Check { checkout, versions: BTreeMap::new(), devices: Vec::new(), gpus: Vec::new(), problems };
    match python.probe(SCRIPT_TIMEOUT, &|| false) {
        Ok(found) => {
            check.problems.extend(python.require(&found, device).err());
            check.versions = found.versions();
            check.devices = found.devices;
            check.gpus = found.accelerators;
        }
        Err(error) => check.problems.push(error),
    }
    Ok(check)
}
