//! Any bytes as a checkpoint: its manifest and its tensors, parted by a zero byte; tensors also under a manifest that is right.

#![no_main]

mod place;

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use nanochat::artifacts::bytes_sha256;
use nanochat::checkpoint::Checkpoints;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let manifest = parts.next().unwrap_or_default();
    let store = Checkpoints::open(&place::folder().join("checkpoints")).expect("a folder");
    place::file("checkpoints/step_000007/state.json", b"{}");
    place::file("checkpoints/step_000007/manifest.json", manifest);
    let tensors = parts.next().unwrap_or_default();
    place::file("checkpoints/step_000007/model.safetensors", tensors);
    if store.load(7, &Device::Cpu).is_ok() {
        let manifest = String::from_utf8_lossy(manifest);
        assert!(manifest.contains(&bytes_sha256(tensors)), "something was loaded that isn't hashed");
    }
    place::file("checkpoints/step_000007/model.safetensors", bytes);
    let entry = |bytes: &[u8]| {
        format!("{{\n      \"bytes\": {},\n      \"sha256\": \"{}\"\n    }}", bytes.len(), bytes_sha256(bytes))
    };
    let manifest = format!(
        "{{\n  \"files\": {{\n    \"model.safetensors\": {},\n    \"state.json\": {}\n  }},\n  \"schema\": \"nanochat.checkpoint/v1\",\n  \"step\": 7\n}}\n",
        entry(bytes),
        entry(b"{}")
    );
    place::file("checkpoints/step_000007/manifest.json", manifest.as_bytes());
    if let Err(error) = store.load(7, &Device::Cpu) {
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
});
