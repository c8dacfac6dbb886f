//! `nanochat export`: a trained model for other programs.

use std::path::PathBuf;

use candle_core::Device;

use nanochat_artifacts::{Export, ExportLayout, ExportType};
use nanochat_export::{ExportError, ExportOptions, LARGEST_MESSAGE, export};

use super::context::open_trained;
use super::{CliError, CliResult, Exit, Format, output};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's folder, its checkpoints/, one of them, the baseline's folder of model_….pt files or one of these, or an
    /// earlier export as safetensors
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// Format to write
    #[arg(long, value_enum)]
    to: Layout,
    /// The folder to write: absent, empty, or an earlier export, which is replaced
    #[arg(long, short, value_name = "FOLDER")]
    out: PathBuf,
    /// The step to export; the newest by default
    #[arg(long)]
    step: Option<u64>,
    /// The tokenizer, if none is stored with the checkpoint
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Type of the weights in the files
    #[arg(long, value_enum, default_value_t)]
    dtype: Weights,
    /// Keep ONNX weights in a separate file, even below 2 GB
    #[arg(long)]
    external_data: bool,
    /// How to print what was done
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Layouts as the command line has them.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Layout {
    /// Weights as safetensors, tokenizer.json, and the descriptions that Hugging Face's tools look for
    Safetensors,
    /// ONNX graphs with and without key/value cache, tokenizer.json and the descriptions
    Onnx,
    /// A base folder of karpathy/nanochat: model_….pt, meta_….json, tokenizer.pkl, token_bytes.pt
    Baseline,
}

/// Types as the command line has them.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Weights {
    /// As they were trained
    #[default]
    F32,
    /// Matrices rounded to half precision
    F16,
    /// Matrices rounded to bfloat16
    Bf16,
}

pub fn execute(args: Args) -> CliResult {
    let trained = open_trained(&args.checkpoint, args.step, args.tokenizer.as_deref(), &Device::Cpu)?;
    let options = ExportOptions {
        program_commit: option_env!("NANOCHAT_CODE_COMMIT").map(str::to_string),
        layout: match args.to {
            Layout::Safetensors => ExportLayout::Safetensors,
            Layout::Onnx => ExportLayout::Onnx,
            Layout::Baseline => ExportLayout::Baseline,
        },
        weights: match args.dtype {
            Weights::F32 => ExportType::F32,
            Weights::F16 => ExportType::F16,
            Weights::Bf16 => ExportType::Bf16,
        },
        external_above: if args.external_data { 0 } else { LARGEST_MESSAGE },
    };
    let document = export(&trained, &options, &args.out).map_err(|error| match error {
        ExportError::Occupied { .. } | ExportError::Weights { .. } => CliError::invalid(error),
        error => CliError::failed(error),
    })?;
    match args.format {
        Format::Json => output::json(&document)?,
        Format::Text => print(&document, &args.out),
    }
    Ok(Exit::Done)
}

fn print(document: &Export, out: &std::path::Path) {
    let mut table = output::table(&["file", "bytes", "sha256"]);
    for (name, file) in &document.files {
        table.add_row([name.clone(), file.bytes.to_string(), file.sha256.clone()]);
    }
    say_lines!("{table}");
    for check in &document.checks {
        let bound = check.bound.map_or("not judged".to_string(), |bound| format!("at most {bound:e}"));
        say!("{}: {}: {:e} ({bound})", check.file, check.quantity, check.max_abs);
    }
    for remark in &document.remarks {
        say!("note: {remark}");
    }
    say!("wrote {}", out.display());
}
