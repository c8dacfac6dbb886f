//! When a run has diverged, and where it may go back to.

use super::{Snapshot, TrainError};
use crate::checkpoint::{Stored, StoredTensor};
use crate::engines::{Engine, Group};

/// How often a run may go back.
pub(super) const MOST_ROLLBACKS: usize = 3;
/// A loss above this many times a uniform guess's has exploded: random weights, and any that learned something, are below.
const EXPLODED: f64 = 2.0;

/// The last step up to `step` at which the plan schedules a snapshot; 0 is one.
pub(super) fn scheduled_before(step: u64, every: u64) -> u64 {
    step.checked_rem(every).map_or(0, |beyond| step - beyond)
}

/// Refuses a step's loss that is no number or has exploded.
pub(super) fn refuse(loss: f64, step: u64, engine: &dyn Engine) -> Result<(), TrainError> {
    let limit = EXPLODED * (engine.shape().vocab_size as f64).ln();
    if loss.is_finite() && loss <= limit {
        return Ok(());
    }
    let seen = if loss.is_finite() {
        format!("the loss exploded to {loss:.3} (above {limit:.3}, twice that of a uniform guess)")
    } else {
        format!("the loss became {loss}")
    };
    let (weights, gradients) = (engine.weights()?, engine.gradients()?);
    let broken = |group: &Group<'_>| group.iter().find(|(_, tensor)| !is_finite(tensor)).map(|(name, _)| name.clone());
    let in_weights = broken(&weights).map(|name| format!("weights `{name}`"));
    let in_gradient = || broken(&gradients).map(|name| format!("gradient of `{name}`"));
    let largest = || {
        let sizes = gradients.iter().filter_map(|(name, tensor)| Some((name, norm(tensor)?)));
        sizes
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(name, norm)| format!("largest gradient that of `{name}`, of norm {norm:.3e}"))
    };
    let place = match in_weights.or_else(in_gradient) {
        Some(place) => format!(", first seen in the {place}"),
        None => largest().map(|place| format!(", the {place}")).unwrap_or_default(),
    };
    Err(TrainError::Diverged { step, what: format!("{seen}{place}") })
}

/// Refuses a snapshot that couldn't be gone on from: NaN or infinity in any tensor.
pub(super) fn refuse_broken(snapshot: &Snapshot<'_>) -> Result<(), TrainError> {
    for (group, tensors) in &snapshot.tensors {
        if let Some((name, _)) = tensors.iter().find(|(_, tensor)| tensor.dtype().is_float() && !is_finite(tensor)) {
            let what = format!("`{name}` of the {group} holds what is no finite number");
            return Err(TrainError::Diverged { step: snapshot.step, what });
        }
    }
    Ok(())
}

/// Whether all entries are finite.
fn is_finite(tensor: &StoredTensor<'_>) -> bool {
    tensor.elements().is_ok_and(|values| values.iter().all(|value| value.is_finite()))
}

fn norm(tensor: &StoredTensor<'_>) -> Option<f64> {
    let values = tensor.elements().ok()?;
    Some(values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt())
}
