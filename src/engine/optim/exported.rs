//! This program's optimizer state as the baseline saves it (`setup_optimizer` and `MuonAdamW` there).

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::imported::baseline_groups;
use super::{LearningRates, OptimError, StepSettings};
use nanochat_plan::ModelShape;
use nanochat_plan::parameters::{Group, ParameterLayout};
use nanochat_step::adamw_rule;

/// Added to the root of AdamW's second moment.
const EPSILON: f64 = 1e-10;
/// Steps of Muon's iteration.
const ITERATIONS: i64 = 5;
/// Decay of Muon's second moment.
const SECOND_DECAY: f64 = 0.9;

/// A setting of one of the baseline's groups.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// A number.
    Number(f64),
    /// A whole number.
    Whole(i64),
    /// Two decays.
    Pair([f64; 2]),
}

/// One of the baseline's groups with the state of its parameters.
#[derive(Debug)]
pub struct SavedGroup {
    /// `adamw` or `muon`.
    pub kind: &'static str,
    /// Settings by name.
    pub settings: Vec<(&'static str, Setting)>,
    /// State of each parameter in the optimizer's order. Muon keeps the stacked state of a group at its first parameter.
    pub state: Vec<BTreeMap<&'static str, Tensor>>,
}

/// State that [`super::MuonAdamW::state`] gave, as the baseline's groups. `settings` are those of the last step.
///
/// # Errors
/// State that lacks a parameter's.
pub fn to_baseline(
    shape: &ModelShape,
    state: &BTreeMap<String, Tensor>,
    rates: &LearningRates,
    settings: &StepSettings,
) -> Result<Vec<SavedGroup>, OptimError> {
    let layout = ParameterLayout::new(shape);
    let group_of = |name: &String| layout.entries().iter().find(|entry| entry.parameter.name() == *name);
    let find = |kind: &str, name: &str| {
        let key = format!("{kind}.{name}");
        state.get(&key).ok_or_else(|| OptimError::State { problems: vec![format!("it has no `{key}`")] })
    };
    let groups = baseline_groups(shape).into_iter().map(|(kind, names)| {
        let group = names.first().and_then(group_of).map_or(Group::Muon, |entry| entry.group);
        let settings = group_settings(group, shape.n_embd, rates, settings);
        let state = match kind {
            "muon" => stacked(&names, &find)?,
            _ => names
                .iter()
                .map(|name| {
                    let moments = ["exp_avg", "exp_avg_sq"].map(|kind| Ok((kind, find(kind, name)?.clone())));
                    moments.into_iter().collect()
                })
                .collect::<Result<_, OptimError>>()?,
        };
        Ok(SavedGroup { kind, settings, state })
    });
    groups.collect()
}

/// What the baseline keeps of a group beside its state.
fn group_settings(
    group: Group,
    width: usize,
    rates: &LearningRates,
    settings: &StepSettings,
) -> Vec<(&'static str, Setting)> {
    let rate = |initial: f64| {
        [("lr", Setting::Number(initial * settings.lr_multiplier)), ("initial_lr", Setting::Number(initial))]
    };
    if group != Group::Muon {
        let rule = adamw_rule(group, width, rates);
        let own = [
            ("betas", Setting::Pair(rule.betas)),
            ("eps", Setting::Number(EPSILON)),
            ("weight_decay", Setting::Number(rule.weight_decay)),
        ];
        return rate(rule.learning_rate).into_iter().chain(own).collect();
    }
    let own = [
        ("momentum", Setting::Number(settings.muon_momentum)),
        ("ns_steps", Setting::Whole(ITERATIONS)),
        ("beta2", Setting::Number(SECOND_DECAY)),
        ("weight_decay", Setting::Number(settings.muon_weight_decay)),
    ];
    // The factor for tall matrices is not in the group's rate there.
    rate(rates.matrix).into_iter().chain(own).collect()
}

/// The state of a group of matrices, stacked, at the first of them.
fn stacked<'a>(
    names: &[String],
    find: &dyn Fn(&str, &str) -> Result<&'a Tensor, OptimError>,
) -> Result<Vec<BTreeMap<&'static str, Tensor>>, OptimError> {
    let mut state = vec![BTreeMap::new(); names.len()];
    for kind in ["momentum_buffer", "second_momentum_buffer"] {
        let own = names.iter().map(|name| find(kind, name)).collect::<Result<Vec<_>, _>>()?;
        let tensor = Tensor::stack(&own, 0)?;
        if let Some(first) = state.first_mut() {
            first.insert(kind, tensor);
        }
    }
    Ok(state)
}
