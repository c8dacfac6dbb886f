//! Any bytes as a `.pt` file: as the whole archive, and as the pickle within a sound one.

#![no_main]

mod place;

use std::io::{Cursor, Write};
use std::path::Path;

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use nanochat::formats::torch::read_torch_file;
use zip::ZipWriter;
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;

fuzz_target!(|bytes: &[u8]| {
    let read = |path: &Path| {
        if let Err(error) = read_torch_file(path, &Device::Cpu) {
            assert!(!error.to_string().is_empty());
        }
    };
    read(&place::file("whole.pt", bytes));
    let storage: Vec<u8> = (0..64).collect();
    let entries: [(&str, &[u8]); 3] = [("m/data.pkl", bytes), ("m/byteorder", b"little"), ("m/data/0", &storage)];
    read(&place::file("pickle.pt", &archive(&entries).expect("entries in memory")));
});

/// A zip archive of stored entries.
fn archive(entries: &[(&str, &[u8])]) -> ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        archive.start_file(*name, options)?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}
