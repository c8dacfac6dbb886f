//! How a run's process is started: the plan's flags with the arm's, the launcher that hands the run's seed over, and several
//! processes where there are several devices.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use nanochat_artifacts::files;
use nanochat_plan::{ArmPlan, RunPlan};

use super::arm::{BASELINE_SEED, Request};
use super::base_folder::BaseFolder;
use super::python::Launch;
use super::{BaselineError, flags_of};

/// The module that trains.
const TRAINING_MODULE: &str = "scripts.base_train";
/// The longest evidence that is read, in bytes.
const LONGEST_EVIDENCE: u64 = 1 << 16;

/// What the launcher saw inside the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Launched {
    /// How often the fixed seed was asked for.
    pub seed_requests: u64,
    /// Hash of the model's weights before the first step.
    pub initial_weights_sha256: Option<String>,
    /// Why there is no hash.
    pub problem: Option<String>,
}

/// The flags of a run: those of the plan, the arm's own in their place or after them.
pub(super) fn flags(plan: &RunPlan, arm: Option<&ArmPlan>) -> Result<Vec<String>, BaselineError> {
    let mut flags = flags_of(plan)?;
    let none = BTreeMap::new();
    for (name, value) in arm.map_or(&none, |arm| &arm.flags) {
        let own = if value == "true" { format!("--{name}") } else { format!("--{name}={value}") };
        match flags
            .iter_mut()
            .find(|flag| flag.strip_prefix("--").and_then(|flag| flag.split('=').next()) == Some(name))
        {
            Some(flag) => *flag = own,
            None => flags.push(own),
        }
    }
    Ok(flags)
}

/// The command of a run, without its flags: the module itself, or the launcher with the run's seed where there is an arm.
pub(super) fn command(request: &Request<'_>) -> Result<Command, BaselineError> {
    if request.arm.is_none() {
        return Ok(request.python.module(request.checkout, TRAINING_MODULE));
    }
    let evidence = evidence_file(request.base);
    files::remove(&evidence).map_err(BaselineError::io("remove", &evidence))?;
    let seeds = (BASELINE_SEED, request.plan.seed);
    let launch = Launch { evidence: &evidence, seeds, module: TRAINING_MODULE, processes: request.plan.device_count };
    Ok(request.python.launcher(request.checkout, &launch))
}

/// What the launcher wrote; nothing where it didn't come so far.
pub(super) fn evidence(base: &BaseFolder) -> Launched {
    let read = files::read(&evidence_file(base), LONGEST_EVIDENCE);
    read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn evidence_file(base: &BaseFolder) -> PathBuf {
    base.path().join("launched.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_an_arm_take_the_place_of_the_plans() {
        let own = |name: &str, value: &str| (name.to_string(), value.to_string());
        let arm = ArmPlan {
            name: "candidate".into(),
            engine: nanochat_plan::ArmEngine::Karpathy,
            commit: None,
            flags: BTreeMap::from([own("warmdown-ratio", "0.5"), own("fp8", "true"), own("fp8-recipe", "rowwise")]),
        };
        let plan = crate::baseline::tests::stand_in_plan();
        let (plain, merged) = (flags(&plan, None).expect("flags"), flags(&plan, Some(&arm)).expect("flags"));
        let new: Vec<_> = merged.iter().filter(|flag| !plain.contains(flag)).collect();
        assert_eq!(new, ["--warmdown-ratio=0.5", "--fp8", "--fp8-recipe=rowwise"]);
        assert_eq!(merged.len(), plain.len() + 2);
    }
}
