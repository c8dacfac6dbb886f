//! `nanochat doctor`: this machine, what it measures, and which hardware profiles it matches.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::output::table;
use super::{CliError, CliResult, Exit, Format};
use crate::experiment;
use crate::hardware::{self, Cache, Machine, Rates};

/// Folders that experiments write to.
const FOLDERS: [&str; 3] = ["results", "reports", "schemas"];
/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave out the half-second measurement
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
    profiles: Vec<ProfileReport>,
    folders: Vec<FolderReport>,
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
        profiles: experiment::profile_names().into_iter().map(|name| profile_report(name, &machine)).collect(),
        folders: FOLDERS
            .map(|folder| FolderReport { folder, writable: hardware::is_writable(Path::new(folder)) })
            .into(),
        machine,
    };
    match args.format {
        Format::Text => print(&report),
        Format::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(|error| CliError::usage(error, None))?;
            println!("{text}");
        }
    }
    let sound = report.folders.iter().all(|folder| folder.writable);
    Ok(if sound { Exit::Done } else { Exit::Failed })
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
    row("processor", format!("{}, {} cores usable", machine.cpu, machine.cores));
    row("features", machine.cpu_features.join(" "));
    row("caches", if caches.is_empty() { "unknown".to_owned() } else { caches.join(", ") });
    row("memory", format!("{}{limit}", gib(machine.memory_bytes)));
    row("disk free here", report.disk_free_bytes.map_or_else(|| "unknown".to_owned(), gib));
    for gpu in &machine.gpus {
        row("gpu", format!("{}, {}, driver {}", gpu.name, gib(gpu.memory_bytes), gpu.driver));
    }
    if machine.gpus.is_empty() {
        row("gpu", "none that a driver shows".to_owned());
    }
    if let Some(rates) = &report.measured {
        let gemm = rates.gemm_gflops.map_or_else(|| "failed".to_owned(), |rate| format!("{rate:.0} GFLOP/s"));
        row("f32 products", gemm);
        row("memory copy", format!("{:.1} GB/s", rates.copy_gbs));
    }
    row("machine id", report.machine_id.clone());
    println!("{lines}\n");
    for profile in &report.profiles {
        let verdict = if profile.matches { "matches".to_owned() } else { profile.differences.join("; ") };
        println!("profile {:<12} {verdict}", profile.name);
    }
    println!();
    for folder in &report.folders {
        println!(
            "folder  {:<12} {}",
            folder.folder,
            if folder.writable { "can be written" } else { "can't be written" }
        );
    }
}
