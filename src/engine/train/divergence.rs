//! When a run has diverged, and where it may go back to.

use candle_core::Tensor;

use super::{Snapshot, TrainError};
use crate::model::{Gpt, Gradients};

/// How often a run may go back.
pub(super) const MOST_ROLLBACKS: usize = 3;
/// A loss above this many times a uniform guess's has exploded: random weights, and any that learned something, are below.
const EXPLODED: f64 = 2.0;

/// The last step up to `step` at which the plan schedules a snapshot; 0 is one.
pub(super) fn scheduled_before(step: u64, every: u64) -> u64 {
    step.checked_rem(every).map_or(0, |beyond| step - beyond)
}

/// Refuses a step's loss that is no number or has exploded.
pub(super) fn refuse(loss: f64, step: u64, model: &Gpt, gradients: &Gradients) -> Result<(), TrainError> {
    let limit = EXPLODED * (model.shape().vocab_size as f64).ln();
    if loss.is_finite() && loss <= limit {
        return Ok(());
    }
    let seen = if loss.is_finite() {
        format!("the loss exploded to {loss:.3} (above {limit:.3}, twice that of a uniform guess)")
    } else {
        format!("the loss became {loss}")
    };
    let weights =
        model.parameters().iter().find(|(_, tensor)| !is_finite(tensor)).map(|(name, _)| format!("weights `{name}`"));
    let gradient = || {
        let broken = gradients.tensors().iter().find(|(_, tensor)| !is_finite(tensor));
        broken.map(|(name, _)| format!("gradient of `{name}`"))
    };
    let largest = || {
        let sizes = gradients.tensors().iter().filter_map(|(name, tensor)| Some((name, norm(tensor)?)));
        sizes
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(name, norm)| format!("largest gradient that of `{name}`, of norm {norm:.3e}"))
    };
    let place = match weights.or_else(gradient) {
        Some(place) => format!(", first seen in the {place}"),
        None => largest().map(|place| format!(", the {place}")).unwrap_or_default(),
    };
    Err(TrainError::Diverged { step, what: format!("{seen}{place}") })
}

/// Refuses a snapshot that couldn't be gone on from: NaN or infinity in any tensor.
pub(super) fn refuse_broken(snapshot: &Snapshot) -> Result<(), TrainError> {
    for (group, tensors) in &snapshot.tensors {
        if let Some((name, _)) = tensors.iter().find(|(_, tensor)| tensor.dtype().is_float() && !is_finite(tensor)) {
            let what = format!("`{name}` of the {group} holds what is no finite number");
            return Err(TrainError::Diverged { step: snapshot.step, what });
        }
    }
    Ok(())
}

/// Whether all entries are finite. Their sum of magnitudes is not where one of them isn't; where it overflows, they are
/// looked at one by one.
fn is_finite(tensor: &Tensor) -> bool {
    let sum = tensor.abs().and_then(|values| values.sum_all()).and_then(|sum| sum.to_scalar::<f32>());
    let each = || {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        values.is_ok_and(|values| values.iter().all(|value| value.is_finite()))
    };
    sum.is_ok_and(f32::is_finite) || each()
}

fn norm(tensor: &Tensor) -> Option<f64> {
    // Not every GPU has f64.
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).ok()?;
    Some(values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt())
}
