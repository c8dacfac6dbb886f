//! What the scorecard needs to know of the spec.

use super::Experiment;
use nanochat_artifacts::ExperimentRecord;
use nanochat_plan::RunPlan;

impl Experiment {
    /// The record that lies beside the results, so that they can be judged without the spec.
    pub fn record(&self, plans: &[RunPlan]) -> ExperimentRecord {
        ExperimentRecord {
            schema: "nanochat.experiment_record/v1".to_owned(),
            name: self.name.clone(),
            description: self.description.clone(),
            baseline_commit: self.baseline_commit.clone(),
            baseline_results: self.baseline_results.clone(),
            control: self.control.clone(),
            quality: self.quality.clone(),
            speed: self.speed.clone(),
            reproducibility: self.reproducibility.clone(),
            drift: self.drift,
            ruleset: self.ruleset.clone(),
            spec: None,
            runs: plans.iter().map(|plan| plan.run_id.clone()).collect(),
        }
    }
}
