//! The spec as text, with a comment for each decision.

use std::fmt::Write as _;

use nanochat_plan::{DataPlan, OptimizerPlan};

use super::noise::Deviation;
use super::sizes::Size;
use super::{Question, Template, schema_beside};
use crate::run::duration;

/// The baseline that a spec without arms names.
const BASELINE: &str = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd";
/// The first seed.
const FIRST_SEED: u64 = 42;
/// Characters that a tokenizer is trained on, at most: enough for the vocabularies here.
const TOKENIZER_CHARS: u64 = 50_000_000;

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Budget {
    /// Optimizer steps.
    Iterations(u64),
    /// FLOPs.
    Flops(f64),
}

/// The values of a spec.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub size: Size,
    pub budget: Budget,
    pub warmup: u64,
    pub eval_every: u64,
    pub eval_tokens: u64,
    pub seeds: u64,
    pub profile: String,
    /// Measured rate, which the plan's times are then estimated from.
    pub tflops: Option<f64>,
    pub comments: Comments,
}

/// What the comments say.
#[derive(Debug, Clone, Default)]
pub(super) struct Comments {
    pub runs: u64,
    pub seconds: f64,
    pub tokens_per_second: f64,
    pub parameters: u64,
    pub ratio: f64,
    pub validation_tokens: u64,
    pub deviation: Option<Deviation>,
    pub detects: f64,
}

/// The spec.
pub(super) fn render(question: &Question, name: &str, draft: &Draft) -> String {
    let mut text = head(question, name, draft);
    compared(&mut text, question, draft);
    settings(&mut text, question, draft);
    judged(&mut text, question);
    text
}

/// The control alone, once, for a measurement.
pub(super) fn render_cell(question: &Question, name: &str, draft: &Draft) -> String {
    let mut text = format!("schema: nanochat.experiment/v1\nname: {name}\nseed: {FIRST_SEED}\n");
    settings(&mut text, question, draft);
    text
}

fn head(question: &Question, name: &str, draft: &Draft) -> String {
    let Comments { runs, seconds, tokens_per_second, parameters, ratio, .. } = &draft.comments;
    let (_, schema) = schema_beside(&question.file);
    let file = question.file.display();
    format!(
        "# yaml-language-server: $schema={schema}\n\
         # Written by `nanochat init` for this machine: {runs} runs in about {}, at {tokens_per_second:.0} tokens a second as\n\
         # measured here. The model has {parameters} parameters and sees {ratio:.1} tokens for each of its layers' and output's.\n\
         #   nanochat plan {file}\n#   nanochat run {file}\n\
         schema: nanochat.experiment/v1\nname: {name}\ndescription: {}\n",
        duration(*seconds),
        quoted(&description(question)),
    )
}

fn description(question: &Question) -> String {
    let names: Vec<&str> = question.compared.iter().map(|one| one.key.as_str()).collect();
    match question.template {
        Template::Ablation => {
            let one = &question.compared[0];
            format!("Is {} better than {} for {}?", one.values[1..].join(" or "), one.values[0], one.key)
        }
        Template::Sweep => format!("Which combination of {} is best?", names.join(" and ")),
        Template::Arms => format!("{}, each against {}.", names[1..].join(" and "), names[0]),
        Template::Scaling => "Which depth is best at one budget of FLOPs?".to_owned(),
    }
}

/// What is compared, with what, and how often.
fn compared(text: &mut String, question: &Question, draft: &Draft) {
    match question.template {
        Template::Arms => arms(text, question),
        template => {
            let axes: Vec<(String, Vec<String>)> = match template {
                Template::Scaling if question.compared.is_empty() => {
                    let depths = draft.size.depths().map(|depth| depth.to_string());
                    vec![("model.depth".to_owned(), depths.to_vec())]
                }
                _ => question.compared.iter().map(|one| (one.key.clone(), one.values.clone())).collect(),
            };
            let control = if template == Template::Scaling { 1 } else { 0 };
            let list = |axes: Vec<String>| axes.join(", ");
            let cell = axes.iter().map(|(key, values)| format!("{key}: {}", values[control.min(values.len() - 1)]));
            let all = axes.iter().map(|(key, values)| format!("{key}: [{}]", values.join(", ")));
            let _ = write!(
                text,
                "# What is compared: every combination of these values.\nmatrix:\n  axes: {{ {} }}\n\
                 # The control, which every other cell is judged against.\nbaseline:\n  commit: {BASELINE}\n  cell: {{ {} }}\n",
                list(all.collect()),
                list(cell.collect()),
            );
        }
    }
    let seeds: Vec<String> = (FIRST_SEED..).take(draft.seeds as usize).map(|seed| seed.to_string()).collect();
    let Comments { deviation: Some(deviation), detects, .. } = &draft.comments else { return };
    let _ = write!(
        text,
        "# One run of every cell for each seed. They show a true difference of about {detects:.4} bits per byte: the standard\n\
         # deviation of a run in such a comparison is {:.4}, {}.\nseeds: [{}]\n",
        deviation.value,
        deviation.source,
        seeds.join(", "),
    );
}

fn arms(text: &mut String, question: &Question) {
    text.push_str(
        "# What is compared: commits of karpathy/nanochat, run from checkouts, and this program (`native`).\narms:\n",
    );
    for arm in &question.compared {
        let _ = match arm.values[0].as_str() {
            "native" => writeln!(text, "  {}: {{ engine: native }}", arm.key),
            commit => writeln!(text, "  {}: {{ engine: karpathy, commit: {} }}", arm.key, commit.to_lowercase()),
        };
    }
    let control = &question.compared[0];
    let _ = writeln!(text, "# The arm that the others are judged against.\ncontrol: {}", control.key);
    if control.values[0] != "native" {
        text.push_str("# All arms start from the weights that its checkout draws.\ninit: control\n");
    }
}

/// Machine, data, model, budget, optimizer, evaluation.
fn settings(text: &mut String, question: &Question, draft: &Draft) {
    let Size { depth, aspect_ratio, head_dim, sequence_len, vocab_size, device_batch_size, .. } = draft.size;
    let rate = draft.tflops.map(|rate| format!(", peak_tflops: {}, efficiency: 1.0", digits(rate))).unwrap_or_default();
    let measured = if draft.tflops.is_some() { "; the rate was measured by training here" } else { "" };
    let _ = write!(
        text,
        "# The machine that `run` must find{measured}.\n\
         hardware: {{ profile: {}, device_batch_size: {device_batch_size}{rate} }}\n\
         # The documents; the last file of a folder, or the last tenth of a file, is the validation split.\n\
         data: {}\ntokenizer: {{ train: {{ vocab_size: {vocab_size}, max_chars: {TOKENIZER_CHARS} }} }}\n\
         # `depth` is the one dial; width, heads and the rest follow from it.\n\
         model: {{ depth: {depth}, aspect_ratio: {aspect_ratio}, head_dim: {head_dim}, sequence_len: {sequence_len}, window_pattern: L }}\n",
        draft.profile,
        data(&question.data),
    );
    let _ = match draft.budget {
        Budget::Iterations(steps) => {
            writeln!(text, "# How long each run is: optimizer steps.\nbudget: {{ iterations: {steps} }}")
        }
        Budget::Flops(flops) => {
            writeln!(text, "# How long each run is, the same for every depth.\nbudget: {{ flops: {flops:.2e} }}")
        }
    };
    let Size { total_batch_size, rate, weight_decay, .. } = draft.size;
    let OptimizerPlan { embedding_lr, unembedding_lr, matrix_lr, .. } = OptimizerPlan::BASELINE;
    let optimizer = [
        ("total_batch_size", total_batch_size.to_string()),
        ("warmup_steps", draft.warmup.to_string()),
        ("embedding_lr", digits(embedding_lr * rate)),
        ("unembedding_lr", digits(unembedding_lr * rate)),
        ("matrix_lr", digits(matrix_lr * rate)),
        ("weight_decay", weight_decay.to_string()),
    ];
    // What is compared is stated by the axes alone.
    let is_axis = |key: &str| question.compared.iter().any(|one| one.key == format!("optimizer.{key}"));
    let stated = optimizer.iter().filter(|(key, _)| !is_axis(key));
    let stated: Vec<String> = stated.map(|(key, value)| format!("{key}: {value}")).collect();
    let _ = write!(
        text,
        "# Learning rates shrink with the root of the batch, which is small here: these are {rate} times the baseline's.\n\
         optimizer:\n  {{ {} }}\n",
        stated.join(", "),
    );
    if draft.comments.validation_tokens > 0 {
        let _ = writeln!(
            text,
            "# The validation split has at least {} tokens in whole rows.",
            draft.comments.validation_tokens
        );
    }
    let Draft { eval_every, eval_tokens, .. } = draft;
    let _ =
        writeln!(text, "eval: {{ every: {eval_every}, tokens: {eval_tokens} }}\ncheckpoint: {{ every: 0, keep: 1 }}");
}

/// The claims.
fn judged(text: &mut String, question: &Question) {
    let speed = if question.has_checkouts() { "no_slower" } else { "off" };
    let _ = write!(
        text,
        "# What is claimed of the others against the control: `better`, or `no_worse` within a tolerance.\n\
         quality: {{ metric: val_bpb, claim: better }}\nspeed: {{ claim: {speed} }}\n\
         # How often each cell's first seed is run again, to see that the same seed gives the same bits.\n\
         reproducibility: {{ repeats: {}, require: bitwise }}\nruleset: v2\n",
        question.repeats(),
    );
}

fn data(data: &DataPlan) -> String {
    match data {
        DataPlan::Synthetic { seed, bytes } => format!("{{ source: synthetic, seed: {seed}, bytes: {bytes} }}"),
        DataPlan::Parquet { path, field } => {
            let field = field.as_ref().map(|field| format!(", field: {}", quoted(field))).unwrap_or_default();
            format!("{{ source: parquet, path: {}{field} }}", quoted(path))
        }
        DataPlan::Jsonl { path, field } => {
            format!("{{ source: jsonl, path: {}, field: {} }}", quoted(path), quoted(field))
        }
        DataPlan::Text { path } => format!("{{ source: text, path: {} }}", quoted(path)),
        DataPlan::Climbmix { path, shards } => {
            format!("{{ source: climbmix, path: {}, shards: {shards} }}", quoted(path))
        }
    }
}

/// A string as YAML; JSON's form is one of YAML's.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
    match text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

/// Three significant digits.
fn digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    rounded.to_string()
}
