//! `nanochat doctor`: this machine, its measured rates, and the hardware profiles that it matches.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use nanochat_experiment as experiment;
use nanochat_plan::DeviceKind;

use super::output::{plain_json, table};
use super::{CliResult, Exit, Format};
use crate::hardware::{self, Cache, DeviceRates, Machine, Rates};
use crate::run::with_help;

/// Folders that experiments write to.
const FOLDERS: [&str; 3] = ["results", "reports", "schemas"];
/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave out the measurements, which take half a second on the CPU and one on a GPU
    #[arg(long)]
    no_measure: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    libraries: BTreeMap<&'static str, &'static str>,
    machine: Machine,
    machine_id: String,
    caches: Vec<Cache>,
    disk_free_bytes: Option<u64>,
    measured: Option<Rates>,
    cuda: Cuda,
    profiles: Vec<ProfileReport>,
    folders: Vec<FolderReport>,
}

/// CUDA support of the binary, and whether the GPU can be used.
#[derive(Serialize)]
struct Cuda {
    built_with: Option<String>,
    compute_capability: Option<String>,
    device: Option<String>,
    free_bytes: Option<u64>,
    problem: Option<String>,
    /// What the GPU engine computes with.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    /// What keeps it from the GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_problem: Option<String>,
    measured: Option<DeviceRates>,
}

#[derive(Serialize)]
struct ProfileReport {
    name: String,
    matches: bool,
    differences: Vec<String>,
}

#[derive(Serialize)]
struct FolderReport {
    folder: &'static str,
    writable: bool,
}

pub fn execute(args: Args) -> CliResult {
    let machine = hardware::this_machine();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        libraries: BTreeMap::from([
            ("candle-core", env!("NANOCHAT_CANDLE_VERSION")),
            ("gemm", env!("NANOCHAT_GEMM_VERSION")),
        ]),
        machine_id: machine.machine_id(),
        caches: hardware::caches(),
        disk_free_bytes: hardware::free_bytes(Path::new(".")),
        measured: (!args.no_measure).then(hardware::measure),
        cuda: cuda(!args.no_measure),
        profiles: experiment::profile_names().into_iter().map(|name| profile_report(name, &machine)).collect(),
        folders: FOLDERS
            .map(|folder| FolderReport { folder, writable: hardware::is_writable(Path::new(folder)) })
            .into(),
        machine,
    };
    match args.format {
        Format::Text => print(&report),
        Format::Json => plain_json(&report)?,
    }
    let sound = report.folders.iter().all(|folder| folder.writable);
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

fn cuda(measured: bool) -> Cuda {
    let built = nanochat_engine::device::built();
    let opened = nanochat_engine::device::open_device(DeviceKind::Cuda);
    let device = opened.as_ref().ok();
    let memory = device.and_then(nanochat_engine::device::device_memory);
    let engine = hardware::gpu_engine();
    Cuda {
        engine_problem: engine.as_ref().and_then(|engine| engine.as_ref().err()).map(|error| with_help(error.as_ref())),
        engine: engine.and_then(Result::ok),
        built_with: built.map(|built| built.release()),
        compute_capability: built.map(|built| built.capability.to_string()),
        device: memory.as_ref().map(|memory| memory.gpu.clone()),
        free_bytes: memory.map(|memory| memory.free_bytes),
        problem: opened.as_ref().err().map(|error| with_help(error)),
        measured: device
            .filter(|_| measured)
            .map(|device| hardware::measure_device(device, hardware::GPU_SIDE, hardware::GPU_FLOATS)),
    }
}

fn profile_report(name: String, machine: &Machine) -> ProfileReport {
    let differences = match experiment::load_profile(&name) {
        Ok(profile) => {
            hardware::check(&profile, machine).err().map(|mismatch| mismatch.differences).unwrap_or_default()
        }
        Err(errors) => vec![format!("the profile can't be used: {errors}")],
    };
    ProfileReport { name, matches: differences.is_empty(), differences }
}

fn print(report: &Report) {
    let machine = &report.machine;
    let mut lines = table(&["", ""]);
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / GIB);
    let limit = if machine.memory_limit_bytes.is_some() { " (the control group's limit)" } else { "" };
    let caches: Vec<String> = report.caches.iter().map(|cache| format!("{} {}", cache.name, cache.size)).collect();
    let mut row = |name: &str, value: String| {
        lines.add_row([name.to_owned(), value]);
    };
    row("program", format!("nanochat {}", report.version));
    row(
        "libraries",
        report.libraries.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", "),
    );
    row("system", format!("{} ({})", machine.os, machine.arch));
    let stepping = machine.cpu_stepping.as_ref().map(|stepping| format!(" ({stepping})")).unwrap_or_default();
    row("processor", format!("{}{stepping}, {} cores usable", machine.cpu, machine.cores));
    row("features", machine.cpu_features.join(" "));
    row("caches", if caches.is_empty() { "unknown".to_owned() } else { caches.join(", ") });
    row("memory", format!("{}{limit}", gib(machine.memory_bytes)));
    row("disk free here", report.disk_free_bytes.map_or_else(|| "unknown".to_owned(), gib));
    for gpu in &machine.gpus {
        let capability = gpu.compute_capability.as_deref().unwrap_or("unknown");
        row(
            "gpu",
            format!("{}, {}, compute capability {capability}, driver {}", gpu.name, gib(gpu.memory_bytes), gpu.driver),
        );
    }
    if machine.gpus.is_empty() {
        row("gpu", "none found by the driver".to_owned());
    }
    if let Some(rates) = &report.measured {
        let gemm = rates.gemm_gflops.map_or_else(|| "failed".to_owned(), |rate| format!("{rate:.0} GFLOP/s"));
        row("f32 products", gemm);
        row("memory copy", format!("{:.1} GB/s", rates.copy_gbs));
    }
    cuda_rows(&report.cuda, &mut row);
    row("machine id", report.machine_id.clone());
    super::terminal::wrap_values(&mut lines);
    say_lines!("{lines}\n");
    for profile in &report.profiles {
        let verdict = if profile.matches { "matches".to_owned() } else { profile.differences.join("; ") };
        let verdict = super::terminal::wrap(&verdict, 21, 21);
        super::output::verdict_lines(&format!("profile {:<12}  {verdict}", profile.name));
    }
    say!();
    for folder in &report.folders {
        say!("folder  {:<12} {}", folder.folder, if folder.writable { "can be written" } else { "can't be written" });
    }
}

/// Rows about the GPU and its measured rates.
fn cuda_rows(cuda: &Cuda, row: &mut dyn FnMut(&str, String)) {
    if let (Some(release), Some(capability)) = (&cuda.built_with, &cuda.compute_capability) {
        row("cuda", format!("built in: {release}, for compute capability {capability} and later"));
    }
    if let Some(problem) = &cuda.problem {
        row("cuda", problem.clone());
    }
    cuda.engine.iter().chain(&cuda.engine_problem).for_each(|engine| row("gpu engine", engine.clone()));
    if let (Some(device), Some(free)) = (&cuda.device, cuda.free_bytes) {
        row("cuda device", format!("{device}, {:.1} GiB free", free as f64 / GIB));
    }
    if let Some(rates) = &cuda.measured {
        let rate = |rate: Option<f64>, unit: &str| rate.map_or("failed".to_owned(), |rate| format!("{rate:.0} {unit}"));
        row("gpu f32 products", rate(rates.f32_tflops, "TFLOP/s"));
        row("gpu bf16 products", rate(rates.bf16_tflops, "TFLOP/s"));
        row("gpu memory copy", rate(rates.copy_gbs, "GB/s"));
        rates.problems.iter().for_each(|problem| row("gpu problem", problem.clone()));
    }
}
