//! Any bytes as a `.pt` file of the baseline's: as the whole archive, and as the pickle within a sound one.

#![no_main]

mod place;

use std::path::Path;

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use nanochat::checkpoint::baseline::read_torch_file;

fuzz_target!(|bytes: &[u8]| {
    let told = |path: &Path| {
        if let Err(error) = read_torch_file(path, &Device::Cpu) {
            assert!(!error.to_string().is_empty());
        }
    };
    told(&place::file("whole.pt", bytes));
    let storage: Vec<u8> = (0..64).collect();
    let archive = archive(&[("m/data.pkl", bytes), ("m/byteorder", b"little"), ("m/data/0", &storage)]);
    told(&place::file("pickle.pt", &archive));
});

/// A zip archive of stored entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let offset = file.len() as u32;
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for number in [crc32(content), content.len() as u32, content.len() as u32] {
            common.extend(number.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(*content);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (offset, length, count) = (file.len() as u32, directory.len() as u32, entries.len() as u16);
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    [count, count].iter().for_each(|count| file.extend(count.to_le_bytes()));
    [length, offset].iter().for_each(|number| file.extend(number.to_le_bytes()));
    file.extend([0, 0]);
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (!(crc & 1)).wrapping_add(1)))
    })
}
