//! The environment of a run: machine, program, libraries.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use nanochat_artifacts::{Environment, file_sha256};
use nanochat_plan::{DeviceKind, RunPlan};

use crate::hardware;

/// Digest of this build's code that decides figures.
pub const DECIDING_CODE: &str = env!("NANOCHAT_DECIDING_CODE");

/// Describes this machine and this program.
pub fn environment(plan: &RunPlan, hardware_matches: bool) -> Environment {
    let machine = hardware::this_machine();
    let mut libraries = BTreeMap::from(
        [("candle-core", env!("NANOCHAT_CANDLE_VERSION")), ("gemm", env!("NANOCHAT_GEMM_VERSION"))]
            .map(|(name, version)| (name.to_string(), version.to_string())),
    );
    if plan.device == DeviceKind::Cuda {
        libraries.extend(nanochat_engine::device::built().map(|built| ("cuda".to_string(), built.release())));
        libraries.extend(machine.gpus.first().map(|gpu| ("nvidia-driver".to_string(), gpu.driver.clone())));
    }
    Environment {
        schema: "nanochat.environment/v1".to_string(),
        program_version: env!("CARGO_PKG_VERSION").to_string(),
        code_commit: option_env!("NANOCHAT_CODE_COMMIT").map(str::to_string),
        code_clean: option_env!("NANOCHAT_CODE_CLEAN").map(|clean| clean == "true"),
        deciding_code_sha256: Some(DECIDING_CODE.to_string()),
        binary_sha256: binary_sha256().to_string(),
        os: machine.os.clone(),
        arch: machine.arch.clone(),
        cpu: machine.cpu.clone(),
        cpu_stepping: machine.cpu_stepping.clone(),
        cpu_features: machine.cpu_features.clone(),
        cores: machine.cores,
        threads: rayon::current_num_threads() as u64,
        memory_bytes: machine.memory_bytes,
        gpus: if plan.device == DeviceKind::Cpu {
            Vec::new()
        } else {
            machine.gpus.iter().map(|gpu| gpu.name.clone()).collect()
        },
        machine_id: machine.machine_id(),
        libraries,
        finished_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        hardware_matches_profile: hardware_matches,
        block: None,
    }
}

/// Hash of the running executable, read once; empty if it can't be read.
fn binary_sha256() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let hash = std::env::current_exe().ok().and_then(|path| file_sha256(&path).ok());
        hash.unwrap_or_default()
    })
}
