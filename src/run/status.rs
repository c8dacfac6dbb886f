//! The state of a plan's run on disk.

use nanochat_artifacts::{Environment, RunFolder, RunStatus, Summary, read_document};
use nanochat_engine::checkpoint::Checkpoints;
use nanochat_plan::RunPlan;

/// The state of a plan's run on disk.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// No usable results.
    New,
    /// Finished, with this plan.
    Done {
        /// Its summary.
        summary: Box<Summary>,
        /// Its environment, if recorded.
        environment: Option<Box<Environment>>,
    },
    /// The stored results belong to another plan under the same name.
    Changed {
        /// Hash of the stored plan.
        stored: String,
    },
    /// Stopped by an error.
    Failed {
        /// The recorded reason.
        reason: String,
    },
    /// Has a checkpoint to continue from.
    Interrupted {
        /// Steps done at the newest checkpoint.
        step: u64,
    },
}

/// Reads the state from a run's folder. Unreadable documents count as absent: the run starts over and replaces them.
pub fn state_of(plan: &RunPlan, folder: &RunFolder) -> RunState {
    let summary = read_document::<Summary>(&folder.summary()).ok();
    if let Some(summary) = &summary {
        if summary.plan_hash != plan.plan_hash {
            return RunState::Changed { stored: summary.plan_hash.clone() };
        }
        if summary.status == RunStatus::Finished {
            let environment = read_document(&folder.environment()).ok().map(Box::new);
            return RunState::Done { summary: Box::new(summary.clone()), environment };
        }
    }
    let newest = Checkpoints::open(&folder.checkpoints()).ok().and_then(|store| store.steps().last().copied());
    match (newest, summary) {
        (Some(step), _) => RunState::Interrupted { step },
        (None, Some(summary)) if summary.status == RunStatus::Failed => {
            RunState::Failed { reason: summary.reason.unwrap_or_default() }
        }
        _ => RunState::New,
    }
}
