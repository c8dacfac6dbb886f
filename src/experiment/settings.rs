//! What one cell of the matrix means: every setting typed, complete and consistent.

use nanochat_plan::shape::MAX_WIDTH;
use nanochat_plan::{BudgetPlan, DeriveInputs, Settings};

use super::problem::Problem;
use super::sources;
use crate::config::document::SpecDocument;

/// What the settings need to know besides the document.
pub struct Context<'a> {
    /// Whether a key was set by the user (rather than by the built-in defaults).
    pub stated: &'a dyn Fn(&str) -> bool,
    /// Vocabulary of a stored tokenizer, by path.
    pub vocabulary: &'a dyn Fn(&str) -> Result<Option<usize>, String>,
}

/// Reads the settings out of a merged document, and whether their vocabulary is assumed, since the tokenizer isn't here
/// and the spec doesn't state it.
///
/// # Errors
/// Everything that is missing or contradicts itself.
pub fn read(document: &SpecDocument, context: &Context<'_>) -> Result<(Settings, bool), Vec<Problem>> {
    let mut problems = Vec::new();
    let data = keep(sources::data(document.data.as_ref()), &mut problems);
    let tokenizer = keep(sources::tokenizer(document.tokenizer.as_ref(), context.vocabulary), &mut problems);
    let profile = keep(sources::profile(document.hardware.as_ref()), &mut problems);
    let budget = keep(budget(document), &mut problems);
    let wall_clock = document.budget.as_ref().and_then(|budget| budget.wall_clock.as_ref());
    let vocab = tokenizer.as_ref().map_or(0, |tokenizer| tokenizer.vocab_size);
    let dials = keep(dials(document, vocab, budget, context.stated), &mut problems);
    if let (Some(data), Some(tokenizer), Some(profile), Some(dials), true) =
        (data, tokenizer, profile, dials, problems.is_empty())
    {
        let settings = Settings {
            arm: None,
            data,
            tokenizer: tokenizer.plan,
            dials,
            optimizer: document.optimizer.plan.clone(),
            init: document.init.clone(),
            eval: document.eval.plan.clone(),
            checkpoint: document.checkpoint.clone(),
            on_divergence: document.on_divergence,
            wall_clock_seconds: wall_clock.and_then(|cap| cap.limit),
            refuse_longer: wall_clock.and_then(|cap| cap.refuse).unwrap_or(false),
            profile,
        };
        return Ok((settings, tokenizer.is_assumed));
    }
    Err(problems)
}

fn keep<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

fn budget(document: &SpecDocument) -> Result<BudgetPlan, Vec<Problem>> {
    let choice = "state one of `iterations`, `tokens`, `flops`, `param_data_ratio`";
    let Some(budget) = &document.budget else {
        let help = "the baseline's own budget is `budget: { param_data_ratio: 12 }`";
        return Err(vec![Problem::missing("budget", choice).help(help)]);
    };
    let stated = [
        budget.iterations.map(BudgetPlan::Iterations),
        budget.tokens.map(BudgetPlan::Tokens),
        budget.flops.map(BudgetPlan::Flops),
        budget.param_data_ratio.map(BudgetPlan::ParamDataRatio),
    ];
    let stated: Vec<BudgetPlan> = stated.into_iter().flatten().collect();
    match stated.as_slice() {
        [one] => Ok(*one),
        [] => Err(vec![Problem::new("missing-key", "budget", "`budget` has no measure").help(choice)]),
        _ => Err(vec![Problem::new("rivals", "budget", "`budget` has more than one measure").help(choice)]),
    }
}

/// The dials, with what was set by hand held against what it would follow from.
fn dials(
    document: &SpecDocument,
    tokenizer_vocab: usize,
    budget: Option<BudgetPlan>,
    stated: &dyn Fn(&str) -> bool,
) -> Result<DeriveInputs, Vec<Problem>> {
    let model = &document.model;
    let mut problems = Vec::new();
    let depth = match (model.depth, model.n_layer) {
        (Some(depth), Some(n_layer)) if depth != n_layer => {
            let message = format!("`model.n_layer` is {n_layer} but `model.depth` is {depth}; they are the same thing");
            problems.push(Problem::new("contradiction", "model.n_layer", message).help("keep one of them"));
            depth
        }
        (Some(depth), _) | (None, Some(depth)) => depth,
        (None, None) => {
            let what = "the one dial, from which the shape follows";
            problems.push(Problem::missing("model.depth", what).help("for a small model, `model: { depth: 4 }`"));
            1
        }
    };
    let mut dials = DeriveInputs {
        sequence_len: model.sequence_len,
        window_pattern: model.window_pattern.to_uppercase(),
        aspect_ratio: model.aspect_ratio,
        head_dim: model.head_dim,
        n_embd: model.n_embd,
        n_head: model.n_head,
        n_kv_head: model.n_kv_head,
        total_batch_size: document.optimizer.total_batch_size,
        weight_decay: document.optimizer.plan.weight_decay,
        ..DeriveInputs::baseline(depth, model.vocab_size.unwrap_or(tokenizer_vocab))
    };
    if let Some(width) = dials.n_embd.filter(|_| !stated("model.aspect_ratio")) {
        dials.aspect_ratio = (width / dials.depth.max(1)).max(1);
    }
    heads(&mut dials, stated, &mut problems);
    if let Some(by_hand) = model.vocab_size.filter(|&size| tokenizer_vocab > 0 && size != tokenizer_vocab) {
        let message = format!("`model.vocab_size` is {by_hand} but the tokenizer has {tokenizer_vocab} tokens");
        problems.push(Problem::new("contradiction", "model.vocab_size", message).help("leave it out"));
    }
    if dials.shape().n_embd > MAX_WIDTH {
        let message =
            format!("the model would be {} channels wide; at most {MAX_WIDTH} are planned for", dials.shape().n_embd);
        problems.push(Problem::new("bad-value", "model.aspect_ratio", message));
    }
    match budget {
        Some(budget) if problems.is_empty() => Ok(DeriveInputs { budget, ..dials }),
        _ => Err(problems),
    }
}

/// Heads set by hand decide the head dimension, unless both are stated and differ.
fn heads(dials: &mut DeriveInputs, stated: &dyn Fn(&str) -> bool, problems: &mut Vec<Problem>) {
    let width = dials.shape().n_embd;
    match dials.n_head {
        Some(heads) if heads > 0 && width.is_multiple_of(heads) => {
            let head_dim = width / heads;
            if stated("model.head_dim") && head_dim != dials.head_dim {
                let message = format!(
                    "{heads} heads over {width} channels are {head_dim} channels each, but `model.head_dim` is {}",
                    dials.head_dim
                );
                problems.push(Problem::new("contradiction", "model.n_head", message).help("keep one of the two"));
            }
            dials.head_dim = head_dim;
        }
        Some(heads) => {
            let message = format!("`model.n_head` is {heads}, which doesn't divide the width of {width} channels");
            problems.push(Problem::new("contradiction", "model.n_head", message).help(divisors(width)));
        }
        None if dials.n_embd.is_some() && !width.is_multiple_of(dials.head_dim) => {
            let message =
                format!("the width of {width} channels is not a multiple of the head dimension, {}", dials.head_dim);
            let help = format!("set `model.head_dim` or `model.n_head`; {}", divisors(width));
            problems.push(Problem::new("contradiction", "model.n_embd", message).help(help));
        }
        None => {}
    }
}

fn divisors(width: usize) -> String {
    let heads: Vec<String> = (1..=64)
        .filter(|heads| width.is_multiple_of(*heads) && (width / heads).is_multiple_of(2))
        .map(|heads| heads.to_string())
        .collect();
    format!("numbers of heads that would do: {}", heads.join(", "))
}
