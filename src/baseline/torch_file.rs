//! Writes a PyTorch file that holds one vector of 32-bit integers: the baseline's `token_bytes.pt`.
//!
//! The format (`torch.save`): a zip archive of stored entries, a pickle that rebuilds the tensor and the raw numbers
//! beside it. Written here byte by byte, so that no Python is needed; read by `torch.load` with its safe loader.

/// Bytes of the file.
pub fn int32_vector(values: &[u32]) -> Vec<u8> {
    let numbers: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut archive = Archive::default();
    archive.add("token_bytes/data.pkl", &pickle(values.len() as u32));
    archive.add("token_bytes/byteorder", b"little");
    archive.add("token_bytes/data/0", &numbers);
    archive.add("token_bytes/version", b"3\n");
    archive.finish()
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)` in pickle protocol 2.
fn pickle(count: u32) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    let global = |out: &mut Vec<u8>, name: &str| {
        out.push(b'c');
        out.extend(name.as_bytes());
    };
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let integer = |out: &mut Vec<u8>, value: u32| {
        out.push(b'J');
        out.extend(value.to_le_bytes());
    };
    global(&mut out, "torch._utils\n_rebuild_tensor_v2\n");
    out.extend(b"((");
    text(&mut out, "storage");
    global(&mut out, "torch\nIntStorage\n");
    text(&mut out, "0");
    text(&mut out, "cpu");
    integer(&mut out, count);
    // End of the storage's tuple, and its persistent id; then offset 0, size and stride as tuples, False, no hooks.
    out.extend(b"tQK\0");
    integer(&mut out, count);
    out.extend([0x85, b'K', 1, 0x85, 0x89]);
    global(&mut out, "collections\nOrderedDict\n");
    out.extend(b")RtR.");
    out
}

/// A zip archive of stored entries.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Archive {
    fn add(&mut self, name: &str, content: &[u8]) {
        let offset = self.bytes.len() as u32;
        // Version needed, flags, stored, no time, then checksum, both sizes, length of the name, no extra field.
        let mut common = Vec::new();
        for half in [20u16, 0, 0, 0, 0x21] {
            common.extend(half.to_le_bytes());
        }
        for word in [crc32(content), content.len() as u32, content.len() as u32] {
            common.extend(word.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);

        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&common);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(content);

        self.directory.extend(b"PK\x01\x02\x14\0");
        self.directory.extend(&common);
        // No comment, first disk, no attributes.
        self.directory.extend([0; 10]);
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.entries += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let (start, length) = (self.bytes.len() as u32, self.directory.len() as u32);
        self.bytes.extend(&self.directory);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(start.to_le_bytes());
        self.bytes.extend([0; 2]);
        self.bytes
    }
}

/// The checksum of zip archives (reflected, polynomial 0xEDB88320), a bit at a time: a vocabulary's file is small.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanochat_engine::checkpoint::baseline::{TorchValue, read_torch_file};

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().expect("a folder");
        for values in [vec![], vec![7], (0..5000).map(|i| i % 17).collect::<Vec<u32>>()] {
            let path = folder.path().join("token_bytes.pt");
            std::fs::write(&path, int32_vector(&values)).expect("written");
            let read = read_torch_file(&path, &candle_core::Device::Cpu).expect("readable");
            let TorchValue::Tensor(tensor) = read else { panic!("no tensor: {read:?}") };
            assert_eq!(tensor.dims(), [values.len()]);
            let read: Vec<i32> = tensor.to_vec1().expect("32-bit integers");
            assert_eq!(read, values.iter().map(|&value| value as i32).collect::<Vec<_>>());
        }
    }
}
