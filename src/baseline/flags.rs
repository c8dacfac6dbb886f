//! The baseline's command line for a run plan: what makes both arms train the same model on the same budget.

use nanochat_plan::{BudgetPlan, DeriveInputs, RunPlan, derive};

use super::BaselineError;

/// Flags of `scripts/base_train.py` that carry out `plan`, most of them spelled out so that a changed default in another
/// commit shows instead of hiding.
///
/// # Errors
/// The plan asks for what the baseline has no flag for: grouped queries, a width that isn't a multiple of the depth after
/// rounding to whole heads, another scaling of weight decay.
pub fn flags_of(plan: &RunPlan) -> Result<Vec<String>, BaselineError> {
    let model = &plan.model;
    let no_flag = |what: String| BaselineError::NoFlag { what };
    if model.n_kv_head != model.n_head {
        return Err(no_flag(format!("{} key/value heads for {} query heads", model.n_kv_head, model.n_head)));
    }
    let head_dim = model.n_embd / model.n_head.max(1);
    let ratio = reference_ratio(plan)?;
    let inputs = DeriveInputs {
        aspect_ratio: model.n_embd / model.n_layer.max(1),
        head_dim,
        sequence_len: model.sequence_len,
        window_pattern: model.window_pattern.clone(),
        reference_ratio: Some(ratio),
        total_batch_size: Some(plan.total_batch_size),
        budget: BudgetPlan::Iterations(plan.num_iterations),
        weight_decay: plan.optimizer.weight_decay,
        ..DeriveInputs::baseline(model.n_layer, model.vocab_size)
    };
    let derived = derive(&inputs).map_err(|error| no_flag(error.to_string()))?;
    if derived.model != *model {
        return Err(no_flag(format!(
            "a width of {} with {} layers and heads of {head_dim}: it would train a width of {}",
            model.n_embd, model.n_layer, derived.model.n_embd
        )));
    }
    if derived.weight_decay != plan.weight_decay || derived.lr_scale != plan.lr_scale {
        return Err(no_flag(format!("a weight decay of {}: it would use {}", plan.weight_decay, derived.weight_decay)));
    }
    // The baseline evaluates at step 0, at multiples, and at the end; never at all when the interval is not positive.
    let eval_every = if plan.eval.every == 0 { plan.num_iterations } else { plan.eval.every };
    let optimizer = &plan.optimizer;
    let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
    let mut flags = vec![
        flag("device-type", &super::python::device_type(plan.device)),
        flag("depth", &model.n_layer),
        flag("aspect-ratio", &inputs.aspect_ratio),
        flag("head-dim", &head_dim),
        flag("max-seq-len", &model.sequence_len),
        flag("window-pattern", &model.window_pattern),
        flag("num-iterations", &plan.num_iterations),
        flag("target-param-data-ratio", &ratio),
        flag("device-batch-size", &plan.device_batch_size),
        flag("total-batch-size", &plan.total_batch_size),
        flag("embedding-lr", &optimizer.embedding_lr),
        flag("unembedding-lr", &optimizer.unembedding_lr),
        flag("matrix-lr", &optimizer.matrix_lr),
        flag("scalar-lr", &optimizer.scalar_lr),
        flag("weight-decay", &optimizer.weight_decay),
        flag("warmup-steps", &optimizer.warmup_steps),
        flag("warmdown-ratio", &optimizer.warmdown_ratio),
        flag("final-lr-frac", &optimizer.final_lr_frac),
        flag("eval-every", &eval_every),
        flag("eval-tokens", &plan.eval.tokens),
        flag("sample-every", &-1),
        flag("save-every", &-1),
    ];
    match &plan.eval.core {
        None => flags.push(flag("core-metric-every", &-1)),
        Some(core) => {
            flags.push(flag("core-metric-every", &if core.every == 0 { plan.num_iterations } else { core.every }));
            // Any number that isn't positive means all examples there.
            flags.push(flag(
                "core-metric-max-per-task",
                &if core.max_per_task == 0 { -1 } else { core.max_per_task as i64 },
            ));
        }
    }
    Ok(flags)
}

/// The tokens-per-parameter ratio behind the plan's target tokens: the shortest decimal that gives them back.
fn reference_ratio(plan: &RunPlan) -> Result<f64, BaselineError> {
    let scaling = plan.parameters.scaling() as f64;
    let exact = plan.target_tokens as f64 / scaling;
    let candidates = (0..=15).filter_map(|digits| format!("{exact:.digits$}").parse::<f64>().ok());
    let fits = |ratio: &f64| (ratio * scaling) as u64 == plan.target_tokens;
    candidates.chain([exact]).find(fits).ok_or_else(|| BaselineError::NoFlag { what: format!("a ratio of {exact}") })
}
/// How the baseline trains a plan on all of several devices, and how that is recorded; none for one device, or for a plan
/// that it has no flags for.
pub fn on_several_devices(plan: &RunPlan) -> Option<String> {
    let flags = flags_of(plan).ok().filter(|_| plan.device_count > 1)?;
    Some(format!(
        "the baseline's arm uses all {}: in a checkout of karpathy/nanochat, `torchrun --standalone --nproc_per_node={} -m \
         scripts.base_train -- {}`; `nanochat baseline import LOG --meta FILE` records what it printed",
        plan.device_count,
        plan.device_count,
        flags.join(" ")
    ))
}
