//! Any bytes as a folder of exported safetensors: its description, the record of the export and the tensors, parted by zero
//! bytes.

#![no_main]

mod place;

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use nanochat::trained::Trained;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    for name in ["exported/config.json", "exported/export.json", "exported/model.safetensors"] {
        let path = place::file(name, parts.next().unwrap_or_default());
        // The record may be missing.
        if name.ends_with("export.json") && std::fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            std::fs::remove_file(path).expect("removed");
        }
    }
    match Trained::open(&place::folder().join("exported"), None, None, &Device::Cpu) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(_) => panic!("there is no tokenizer"),
    }
});
