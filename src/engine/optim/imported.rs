//! The baseline's optimizer state under this program's names (`setup_optimizer` and `MuonAdamW` there).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::OptimError;
use crate::model::parameter_shapes;
use nanochat_plan::ModelShape;

/// State of the parameters of one of the baseline's groups, in the optimizer's order. Muon keeps the stacked state of a
/// whole group at its first parameter.
#[derive(Debug, Clone, Copy)]
pub struct GroupState<'a> {
    /// `adamw` or `muon`.
    pub kind: &'a str,
    /// By parameter.
    pub state: &'a [BTreeMap<String, Tensor>],
}

/// The baseline's state as [`super::MuonAdamW::load_state`] takes it.
///
/// # Errors
/// Groups that are not those of the shape, or lack state: every problem at once. State of one process of several isn't whole
/// and is refused for its sizes when it is loaded.
pub fn from_baseline(shape: &ModelShape, groups: &[GroupState<'_>]) -> Result<BTreeMap<String, Tensor>, OptimError> {
    let expected = baseline_groups(shape);
    if groups.len() != expected.len() {
        let told = format!("{} groups, where a model of this shape has {}", groups.len(), expected.len());
        return Err(OptimError::State { problems: vec![told] });
    }
    let (mut named, mut problems) = (BTreeMap::new(), Vec::new());
    for (number, (group, (kind, names))) in groups.iter().zip(&expected).enumerate() {
        let taken = match *kind {
            _ if group.kind != *kind => Err(format!("it is of kind `{}`, expected `{kind}`", group.kind)),
            "muon" => unstacked(group, names, &mut named),
            _ => by_parameter(group, names, &mut named),
        };
        problems.extend(taken.err().map(|problem| format!("group {number}: {problem}")));
    }
    if problems.is_empty() { Ok(named) } else { Err(OptimError::State { problems }) }
}

/// The names of each group's parameters in the baseline's order.
pub(super) fn baseline_groups(shape: &ModelShape) -> Vec<(&'static str, Vec<String>)> {
    let shapes = parameter_shapes(shape);
    let layers = |prefix: &dyn Fn(usize) -> String| -> Vec<String> {
        (0..shape.n_layer).map(prefix).filter(|name| shapes.contains_key(name)).collect()
    };
    let one = |name: &str| vec![name.to_string()];
    let mut groups = vec![
        ("adamw", one("lm_head.weight")),
        ("adamw", one("transformer.wte.weight")),
        ("adamw", layers(&|layer| format!("value_embeds.{layer}.weight"))),
        ("adamw", one("resid_lambdas")),
        ("adamw", one("x0_lambdas")),
        ("adamw", ["smear_gate.weight", "smear_lambda", "backout_lambda"].map(String::from).to_vec()),
    ];
    let matrices = ["attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj", "attn.ve_gate", "mlp.c_fc", "mlp.c_proj"];
    let mut by_shape: BTreeMap<&Vec<usize>, Vec<String>> = BTreeMap::new();
    for name in (0..shape.n_layer).flat_map(|layer| matrices.map(|m| format!("transformer.h.{layer}.{m}.weight"))) {
        if let Some(dims) = shapes.get(&name) {
            by_shape.entry(dims).or_default().push(name);
        }
    }
    groups.extend(by_shape.into_values().map(|names| ("muon", names)));
    groups
}

fn by_parameter(group: &GroupState<'_>, names: &[String], named: &mut BTreeMap<String, Tensor>) -> Result<(), String> {
    if group.state.len() != names.len() {
        return Err(format!("{} parameters, expected {}", group.state.len(), names.len()));
    }
    for (name, state) in names.iter().zip(group.state) {
        for kind in ["exp_avg", "exp_avg_sq"] {
            let tensor = state.get(kind).ok_or_else(|| format!("`{name}` has no `{kind}`"))?;
            named.insert(format!("{kind}.{name}"), tensor.clone());
        }
        let step = state.get("step").ok_or_else(|| format!("`{name}` has no `step`"))?;
        let step = step.to_dtype(DType::F64).and_then(|step| step.flatten_all()).and_then(|step| step.to_vec1::<f64>());
        let step = step.map_err(|error| format!("`step` of `{name}`: {error}"))?;
        let [step] = step.as_slice() else { return Err(format!("`step` of `{name}` is no number")) };
        let tensor = Tensor::new(&[*step as i64], &Device::Cpu).map_err(|error| error.to_string())?;
        named.insert("step".into(), tensor);
    }
    Ok(())
}

fn unstacked(group: &GroupState<'_>, names: &[String], named: &mut BTreeMap<String, Tensor>) -> Result<(), String> {
    let state = group.state.first().ok_or("it has no parameters")?;
    for kind in ["momentum_buffer", "second_momentum_buffer"] {
        let stacked = state.get(kind).ok_or_else(|| format!("it has no `{kind}`"))?;
        if stacked.dims().first() != Some(&names.len()) {
            return Err(format!("`{kind}` is of {:?}, expected {} matrices", stacked.dims(), names.len()));
        }
        for (place, name) in names.iter().enumerate() {
            let own = stacked.narrow(0, place, 1).and_then(|own| own.squeeze(0)).and_then(|own| own.contiguous());
            named.insert(format!("{kind}.{name}"), own.map_err(|error| format!("`{kind}`: {error}"))?);
        }
    }
    Ok(())
}
