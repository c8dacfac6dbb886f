//! Data, tokenizer and hardware: what a spec says about them, complete or refused.

use super::problem::Problem;
use crate::config::document::{DataSource, DataSpec, Device, Dtype, HardwareSpec, MatchSpec, System, TokenizerSpec};
use nanochat_plan::{DataPlan, DeviceKind, Precision, TokenizerPlan};
use nanochat_plan::{Profile, Requirements};

/// The baseline's vocabulary, characters a document and characters in all for tokenizer training.
const TRAIN_DEFAULTS: (u64, u64, u64) = (32_768, 10_000, 2_000_000_000);
/// Field of a JSON line that holds the document.
const DEFAULT_FIELD: &str = "text";
/// Share of the peak that training reaches, where the profile doesn't say.
const DEFAULT_EFFICIENCY: f64 = 0.4;

/// The data source.
pub fn data(stated: Option<&DataSpec>) -> Result<DataPlan, Vec<Problem>> {
    let example = "such as `data: { source: synthetic, bytes: 2000000 }`";
    let Some(data) = stated else {
        return Err(vec![Problem::missing("data", "nothing says what to train on").help(example)]);
    };
    let Some(source) = data.source else {
        return Err(vec![
            Problem::missing("data.source", "one of `parquet`, `jsonl`, `text`, `synthetic`").help(example),
        ]);
    };
    let mut problems = foreign_keys(data, source);
    let plan = match source {
        DataSource::Synthetic => data.bytes.map(|bytes| DataPlan::Synthetic { seed: data.seed.unwrap_or(0), bytes }),
        DataSource::Parquet => data.path.clone().map(|path| DataPlan::Parquet { path }),
        DataSource::Text => data.path.clone().map(|path| DataPlan::Text { path }),
        DataSource::Jsonl => data.path.clone().map(|path| {
            let field = data.field.clone().unwrap_or_else(|| DEFAULT_FIELD.to_owned());
            DataPlan::Jsonl { path, field }
        }),
    };
    match plan {
        Some(plan) if problems.is_empty() => return Ok(plan),
        Some(_) => {}
        None if source == DataSource::Synthetic => {
            problems.push(Problem::missing("data.bytes", "the size of the synthetic corpus").help(example));
        }
        None => {
            let problem = Problem::missing("data.path", "the folder or file that holds the documents");
            problems.push(problem.help("write it down, or pass --set data.path=FOLDER"));
        }
    }
    Err(problems)
}

/// Keys that mean nothing for the source.
fn foreign_keys(data: &DataSpec, source: DataSource) -> Vec<Problem> {
    let synthetic = source == DataSource::Synthetic;
    let rules = [
        ("data.path", data.path.is_some() && synthetic),
        ("data.field", data.field.is_some() && source != DataSource::Jsonl),
        ("data.seed", data.seed.is_some() && !synthetic),
        ("data.bytes", data.bytes.is_some() && !synthetic),
    ];
    let name = format!("{source:?}").to_lowercase();
    let refuse = |key: &str| {
        Problem::new("meaningless", key, format!("`{key}` means nothing with `source: {name}`")).help("delete it")
    };
    rules.into_iter().filter(|(_, foreign)| *foreign).map(|(key, _)| refuse(key)).collect()
}

/// The tokenizer and its vocabulary.
pub struct Tokenizer {
    /// Where it comes from.
    pub plan: TokenizerPlan,
    /// Tokens, special ones included.
    pub vocab_size: usize,
    /// The vocabulary is the baseline's, since neither the spec nor a file says.
    pub is_assumed: bool,
}

/// Reads the tokenizer's section.
pub fn tokenizer(
    stated: Option<&TokenizerSpec>,
    vocabulary: &dyn Fn(&str) -> Result<Option<usize>, String>,
) -> Result<Tokenizer, Vec<Problem>> {
    let example = "such as `tokenizer: { train: { vocab_size: 4096 } }`, or `tokenizer: { path: FOLDER }`";
    let Some(tokenizer) = stated else {
        return Err(vec![Problem::missing("tokenizer", "nothing says how text becomes tokens").help(example)]);
    };
    if let Some(train) = &tokenizer.train {
        if tokenizer.vocab_size.is_some() {
            let message = "`tokenizer.vocab_size` belongs to a stored tokenizer";
            return Err(vec![
                Problem::new("meaningless", "tokenizer.vocab_size", message).help("write it under `train`"),
            ]);
        }
        let vocab_size = train.vocab_size.unwrap_or(TRAIN_DEFAULTS.0) as usize;
        let max_chars_per_document = train.max_chars_per_document.unwrap_or(TRAIN_DEFAULTS.1);
        let max_chars = train.max_chars.unwrap_or(TRAIN_DEFAULTS.2);
        let plan = TokenizerPlan::Train { vocab_size, max_chars_per_document, max_chars };
        return Ok(Tokenizer { plan, vocab_size, is_assumed: false });
    }
    let Some(path) = &tokenizer.path else {
        return Err(vec![Problem::missing("tokenizer", "it has neither `path` nor `train`").help(example)]);
    };
    let known = match tokenizer.vocab_size {
        Some(size) => Some(size as usize),
        None => vocabulary(path).map_err(|reason| {
            let message = format!("the tokenizer at {path} can't be read: {reason}");
            vec![Problem::new("bad-tokenizer", "tokenizer.path", message)]
        })?,
    };
    let vocab_size = known.unwrap_or(TRAIN_DEFAULTS.0 as usize);
    Ok(Tokenizer { plan: TokenizerPlan::Path(path.clone()), vocab_size, is_assumed: known.is_none() })
}

/// The hardware profile.
pub fn profile(stated: Option<&HardwareSpec>) -> Result<Profile, Vec<Problem>> {
    let stated = stated.cloned().unwrap_or_default();
    let mut problems = Vec::new();
    let mut missing = |key: &str, what: &str| {
        let help = "or name a profile of experiments/hardware, such as `hardware: cpu`";
        problems.push(Problem::missing(key, what).help(help));
    };
    if stated.device.is_none() {
        missing("hardware.device", "one of `cpu`, `cuda`, `metal`");
    }
    if stated.dtype.is_none() {
        missing("hardware.dtype", "one of `f32`, `bf16`");
    }
    if stated.device_batch_size.is_none() {
        missing("hardware.device_batch_size", "sequences per device and micro-step");
    }
    let (Some(device), Some(dtype), Some(device_batch_size)) = (stated.device, stated.dtype, stated.device_batch_size)
    else {
        return Err(problems);
    };
    Ok(Profile {
        name: stated.profile.unwrap_or_else(|| "inline".to_owned()),
        device: match device {
            Device::Cpu => DeviceKind::Cpu,
            Device::Cuda => DeviceKind::Cuda,
            Device::Metal => DeviceKind::Metal,
        },
        device_count: stated.device_count.unwrap_or(1),
        dtype: precision(dtype),
        device_batch_size,
        threads: stated.threads.unwrap_or(0),
        memory_gib: stated.memory_gib,
        peak_tflops: stated.peak_tflops,
        efficiency: stated.efficiency.unwrap_or(DEFAULT_EFFICIENCY),
        memory_bandwidth_gbs: stated.memory_bandwidth_gbs,
        requirements: stated.requirements.map(requirements).unwrap_or_default(),
    })
}

/// What the machine must look like.
fn requirements(stated: MatchSpec) -> Requirements {
    let name = |system: System| match system {
        System::Linux => "linux",
        System::Macos => "macos",
        System::Windows => "windows",
    };
    Requirements {
        os: stated.os.map(|system| name(system).to_owned()),
        arch: stated.arch,
        cpu: stated.cpu,
        cpu_features: stated.cpu_features,
        min_cores: stated.min_cores,
        min_memory_gib: stated.min_memory_gib,
        gpu: stated.gpu,
        gpu_count: stated.gpu_count,
    }
}

/// Arithmetic as plans name it.
pub(super) fn precision(dtype: Dtype) -> Precision {
    match dtype {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 => Precision::Bf16,
    }
}
