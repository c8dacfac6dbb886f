//! Compares the engine with every reference file: the fixtures, and the full reference folder where it is present.

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::{Check, FileOutcome, ParityError, bpb, check_file, core, figures, greedy, model, optimizer};
use nanochat_engine::device::open_device;
use nanochat_plan::DeviceKind;

/// Reference files whose names begin and end so, from the fixtures and the reference folder outside the project.
fn files(prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in [root.join("fixtures/parity"), root.join("../shared/reference")] {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            println!("skipped: there is no folder {}", folder.display());
            continue;
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        found.extend(paths.filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(prefix) && name.ends_with(suffix)
        }));
    }
    found.sort();
    found
}

/// The processor, and the GPU where there is one.
fn devices() -> Vec<Device> {
    let gpu = open_device(DeviceKind::Cuda).map_err(|error| println!("skipped on a GPU: {error}")).ok();
    [Device::Cpu].into_iter().chain(gpu).collect()
}

fn all_within(prefix: &str, suffix: &str, check: fn(&Path, &Device) -> Result<Vec<Check>, ParityError>) {
    for (device, file) in
        devices().iter().flat_map(|device| files(prefix, suffix).into_iter().map(move |file| (device, file)))
    {
        within(&file, &check(&file, device).unwrap_or_else(|error| panic!("{error}")));
    }
}

fn within(file: &Path, checks: &[Check]) {
    assert!(!checks.is_empty(), "{}: nothing was compared", file.display());
    for check in checks {
        println!("{:60} {:9.2e} {:9.2e} of {:7.0e}", check.quantity, check.max_abs, check.max_rel, check.bound);
    }
    let failed: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn models_equal_the_reference() {
    all_within("model_", ".safetensors", model::check);
}

#[test]
fn optimizer_steps_equal_the_reference() {
    all_within("optimizer_", ".safetensors", optimizer::check);
}

#[test]
fn model_figures_equal_the_reference() {
    all_within("model_figures", ".json", |file, _| figures::check(file));
}

#[test]
fn core_results_equal_the_reference_example_by_example() {
    all_within("core_results", ".json", core::check);
}

#[test]
fn greedy_continuations_equal_the_reference() {
    all_within("greedy_generation", ".json", greedy::check);
}

#[test]
fn bits_per_byte_equal_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = (root.join("fixtures/parity/bpb.json"), root.join("fixtures/parity/corpus"));
    let reference = (root.join("../shared/reference/bpb.json"), root.join("../shared/data/books"));
    for (file, data) in [fixtures, reference] {
        if file.is_file() && data.is_dir() {
            for device in devices() {
                within(&file, &bpb::check(&file, Some(&data), &device).unwrap_or_else(|error| panic!("{error}")));
            }
        } else {
            println!("skipped: there is no {} or no {}", file.display(), data.display());
        }
    }
}

#[test]
fn every_fixture_is_within_bounds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity");
    let corpus = folder.join("corpus");
    let mut compared = 0;
    for file in files("", "").into_iter().filter(|file| file.starts_with(&folder) && file.is_file()) {
        if file.extension().is_some_and(|extension| extension == "md" || extension == "py") {
            continue;
        }
        match check_file(&file, Some(&corpus), &Device::Cpu) {
            Ok(FileOutcome::Checked(checks)) => {
                within(&file, &checks);
                compared += checks.len();
            }
            Ok(FileOutcome::Skipped(reason)) => println!("{}: {reason}", file.display()),
            Err(error) => panic!("{error}"),
        }
    }
    // Models, optimizer, counts, derived values, ranks, trajectory, evaluations, continuations.
    assert!(compared > 180, "{compared}");
}
