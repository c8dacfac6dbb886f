//! Where a model comes from, and what the documents around its run say of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::ExportError;
use nanochat_artifacts::{
    Document, Environment, ExperimentFolder, ExportFigures, ExportSource, ExportVerdict, RunFolder, Scorecard, Summary,
    read_document, read_evals,
};
use nanochat_engine::checkpoint::tensors_sha256;
use nanochat_engine::trained::Trained;
use nanochat_plan::RunPlan;

/// What is known of a model's making.
pub(super) struct Origin {
    pub source: ExportSource,
    pub figures: Option<ExportFigures>,
    /// What couldn't be found out.
    pub remarks: Vec<String>,
}

impl Origin {
    /// Looks around a model's checkpoint. Documents that lack or can't be read are told of; they keep nothing from being
    /// exported.
    pub fn of(trained: &Trained) -> Result<Self, ExportError> {
        let source = ExportSource {
            program: if trained.plan.is_some() { "run" } else { "baseline" }.into(),
            experiment: trained.plan.as_ref().map(|plan| plan.experiment.clone()),
            run_id: trained.plan.as_ref().map(|plan| plan.run_id.clone()),
            plan_hash: trained.plan.as_ref().map(|plan| plan.plan_hash.clone()),
            seed: trained.plan.as_ref().map(|plan| plan.seed),
            step: trained.step,
            code_commit: None,
            code_clean: None,
            data_sha256: None,
            tokenizer_sha256: trained.tokenizer.sha256(),
            weights_sha256: tensors_sha256(trained.model.parameters())?,
        };
        let mut origin = Self { source, figures: None, remarks: Vec::new() };
        // `<experiment>/<run>/checkpoints/step_…`, whichever way the checkpoint was named.
        let folder = trained.path.canonicalize().ok();
        let run = folder.as_deref().and_then(Path::parent).and_then(Path::parent);
        if let (Some(plan), Some(run)) = (&trained.plan, run) {
            origin.look_around(plan, &RunFolder::at(run));
        }
        Ok(origin)
    }

    fn look_around(&mut self, plan: &RunPlan, run: &RunFolder) {
        // Documents of another plan's run would tell of other weights.
        let Some(summary) = self.document::<Summary>(&run.summary()).filter(|s| s.plan_hash == plan.plan_hash) else {
            self.remarks.push("the source has no finished run around it: data and figures are not told".into());
            return;
        };
        self.source.data_sha256 = Some(summary.data_sha256);
        if let Some(environment) = self.document::<Environment>(&run.environment()) {
            self.source.code_commit = environment.code_commit;
            self.source.code_clean = environment.code_clean;
        }
        let step = self.source.step;
        let evaluated = read_evals(&run.evals()).unwrap_or_default().into_iter().rfind(|row| row.step == step);
        if evaluated.is_none() {
            self.remarks.push(format!("the run has no evaluation of step {step}: its figures are not told"));
        }
        let verdicts = run.path().parent().map(|folder| self.verdicts(&ExperimentFolder::at(folder), plan));
        self.figures = Some(ExportFigures {
            tokens: step * plan.total_batch_size,
            val_bpb: evaluated.as_ref().and_then(|row| row.val_bpb),
            core_metric: evaluated.as_ref().and_then(|row| row.core_metric),
            verdicts: verdicts.unwrap_or_default(),
        });
    }

    /// The verdicts of a scorecard that rests on this run.
    fn verdicts(&mut self, folder: &ExperimentFolder, plan: &RunPlan) -> BTreeMap<String, ExportVerdict> {
        let scorecard = self.document::<Scorecard>(&folder.scorecard());
        let Some(scorecard) = scorecard.filter(|scorecard| scorecard.runs.contains(&plan.run_id)) else {
            return BTreeMap::new();
        };
        let judged = [
            ("quality", scorecard.quality),
            ("speed", scorecard.speed),
            ("reproducibility", scorecard.reproducibility),
        ];
        let told = judged.map(|(name, judgement)| {
            (name.to_string(), ExportVerdict { verdict: judgement.verdict(), reason: judgement.reason })
        });
        told.into()
    }

    /// A document, if it is there; one that can't be read is told of.
    fn document<T: Document>(&mut self, path: &Path) -> Option<T> {
        if !path.is_file() {
            return None;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        read_document(path).map_err(|_| self.remarks.push(format!("the run's {name} can't be read"))).ok()
    }
}
