//! A run of an arm that was made elsewhere: what its script printed and its `meta_<step>.json` become the documents that a
//! run made here leaves. They record neither data nor tokenizer nor batches, so that no verdict rests on such a run.

use std::path::Path;

use nanochat_artifacts::{RunFolder, Summary, create_folder, files, write_document};
use nanochat_engine::checkpoint::RunLock;
use nanochat_experiment::config::suggest;
use nanochat_plan::{ArmPlan, RunPlan};

use super::arm::{BASELINE_SEED, Carried, Matching};
use super::import::{Imported, read_run};
use super::{BaselineError, arm_summary, launch};
use crate::run::{RunState, state_of};

/// What the pair of an imported run and any other differs in, as far as anybody can say.
const UNRECORDED: &str = "what the imported run read (its files record neither data nor tokenizer nor batches)";
/// Flags of the plan that decide nothing of what is compared. The steps are compared as they were made.
const INDIFFERENT: [&str; 5] = ["device-type", "eval-every", "num-iterations", "sample-every", "save-every"];

/// The planned run of that name.
///
/// # Errors
/// None has it.
pub fn planned_run<'p>(plans: &'p [RunPlan], run_id: &str) -> Result<&'p RunPlan, BaselineError> {
    plans.iter().find(|plan| plan.run_id == run_id).ok_or_else(|| {
        let nearest = suggest::nearest(run_id, plans.iter().map(|plan| plan.run_id.as_str()));
        let nearest = nearest.map(|nearest| format!("did you mean `{nearest}`? ")).unwrap_or_default();
        BaselineError::NoRun { run_id: run_id.to_string(), nearest }
    })
}

/// Records what `log` and `meta` say as the run of `plan`.
///
/// # Errors
/// The plan is not of an arm that a checkout carries out, or of another seed than the script's own; the files can't be read
/// or are of a run with another budget, shape or other flags; the run is recorded already and `force` isn't given; another
/// process has it; a document can't be written.
pub fn import_arm(
    plan: &RunPlan,
    folder: &RunFolder,
    (log, meta): (&Path, &Path),
    force: bool,
) -> Result<Summary, BaselineError> {
    let refused = |reason: String| BaselineError::NotOfArm { run_id: plan.run_id.clone(), reason };
    let Some(arm) = plan.arm.as_ref().filter(|arm| arm.is_foreign()) else {
        return Err(refused("no checkout carries it out: this program trains it itself".to_string()));
    };
    if plan.seed != BASELINE_SEED {
        return Err(refused(format!(
            "its seed is {}, and the script alone always has {BASELINE_SEED}: `nanochat arm run` gives it another",
            plan.seed
        )));
    }
    let imported = read_run(log, meta)?;
    let differences = differences(plan, arm, &imported)?;
    if !differences.is_empty() {
        return Err(refused(format!("the files are of another run: {}", differences.join("; "))));
    }
    if !force && matches!(state_of(plan, folder), RunState::Done { .. }) {
        return Err(refused("it is recorded already; `--force` replaces it".to_string()));
    }
    create_folder(folder.path())?;
    let lock = RunLock::acquire(folder.path()).map_err(crate::run::RunError::from)?;
    let summary = write(plan, folder, imported)?;
    drop(lock);
    Ok(summary)
}

fn write(plan: &RunPlan, folder: &RunFolder, imported: Imported) -> Result<Summary, BaselineError> {
    // What an earlier run left about the machine doesn't hold for this one, which was made on an unknown one.
    files::remove(&folder.environment()).map_err(BaselineError::io("remove", &folder.environment()))?;
    let output = folder.output();
    files::remove(&output).map_err(BaselineError::io("remove", &output))?;
    files::write_new(&output, &imported.log).map_err(BaselineError::io("write", &output))?;
    write_document(&folder.plan(), plan)?;
    let unknown = Matching {
        data_sha256: String::new(),
        tokenizer_sha256: String::new(),
        first_batch_sha256: String::new(),
        first_validation_batch_sha256: String::new(),
        evaluation_probe: None,
        differences: vec![UNRECORDED.to_string()],
    };
    let Imported { run, attention, .. } = imported;
    let device_memory = run.peak_rss_bytes;
    let carried =
        Carried { run, launched: None, attention, device_memory, last_lines: Vec::new(), devices: Vec::new() };
    let summary = arm_summary::summarize(plan, folder, &carried, &unknown)?;
    arm_summary::write(folder, &summary)?;
    Ok(summary)
}

/// In what the run that the files describe differs from the planned one, each as a phrase with both values.
fn differences(plan: &RunPlan, arm: &ArmPlan, imported: &Imported) -> Result<Vec<String>, BaselineError> {
    let run = &imported.run;
    let mut found = Vec::new();
    let mut compare = |what: &str, planned: String, seen: String| {
        if planned != seen {
            found.push(format!("{what} {seen} for {planned}"));
        }
    };
    compare("steps", plan.num_iterations.to_string(), run.steps.to_string());
    compare("tokens a step", plan.total_batch_size.to_string(), run.total_batch_size.to_string());
    compare("arithmetic in", plan.dtype.to_string(), run.dtype.to_string());
    for flag in launch::flags(plan, Some(arm))? {
        let (name, planned) = named(&flag);
        let seen = run.flags.iter().map(|flag| named(flag)).find(|(other, _)| *other == name);
        match seen {
            _ if INDIFFERENT.contains(&name) => {}
            Some((_, seen)) if same_value(planned, seen) => {}
            Some((_, seen)) => compare(&format!("--{name}"), planned.to_string(), seen.to_string()),
            None => compare(&format!("--{name}"), planned.to_string(), "left out".to_string()),
        }
    }
    if run.model != plan.model {
        found.push("another shape of the model".to_string());
    }
    Ok(found)
}

/// Name and value of a flag as it would be typed; a flag without a value is on.
fn named(flag: &str) -> (&str, &str) {
    let flag = flag.trim_start_matches('-');
    flag.split_once('=').unwrap_or((flag, "true"))
}

/// Whether two values are the same number or the same words.
fn same_value(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}
