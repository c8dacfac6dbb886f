//! PyTorch's own files read as they were written, and hostile ones refused without harm.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use zip::ZipWriter;

use super::archive::Archive;
use super::*;
use crate::FormatError;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity")
}

/// A zip archive of stored entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        archive.start_file(*name, write::options(content.len())).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Pickle bytes of a short string.
fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// Pickle bytes of a tuple of whole numbers.
fn numbers(numbers: &[i32]) -> Vec<u8> {
    let items: Vec<u8> = numbers.iter().flat_map(|number| [b"J".as_slice(), &number.to_le_bytes()].concat()).collect();
    [b"(".as_slice(), &items, b"t"].concat()
}

/// Pickle bytes of a tensor as PyTorch writes it.
fn tensor(class: &str, key: &str, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let storage = [
        b"(".as_slice(),
        &text("storage"),
        format!("ctorch\n{class}\n").as_bytes(),
        &text(key),
        &text("cpu"),
        b"K\x01tQ",
    ]
    .concat();
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice(),
        &storage,
        b"J",
        &offset.to_le_bytes(),
        &numbers(shape),
        &numbers(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// Reads a `.pt` file with that object and those storages.
fn read(object: &[u8], storages: &[(&str, &[u8])]) -> Result<TorchValue, FormatError> {
    let pickle = [b"\x80\x02", object, b"."].concat();
    let named: Vec<(String, &[u8])> = storages.iter().map(|(key, bytes)| (format!("m/data/{key}"), *bytes)).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("m/data.pkl", &pickle), ("m/byteorder", b"little")];
    entries.extend(named.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    read_bytes(&archive(&entries))
}

fn read_bytes(bytes: &[u8]) -> Result<TorchValue, FormatError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pt");
    fs::write(&path, bytes).unwrap();
    read_torch_file(&path, &Device::Cpu)
}

fn storage(count: usize) -> Vec<u8> {
    (0..count).flat_map(|value| (value as f32).to_le_bytes()).collect()
}

#[test]
fn views_of_a_storage_are_read_in_their_own_order() {
    let data = storage(12);
    let cases: [(i32, &[i32], &[i32], Vec<f32>); 5] = [
        (0, &[3, 4], &[4, 1], (0..12).map(|value| value as f32).collect()),
        (2, &[2, 2], &[1, 4], vec![2.0, 6.0, 3.0, 7.0]),
        (11, &[1], &[77], vec![11.0]),
        (5, &[0, 3], &[3, 1], vec![]),
        (0, &[0, i32::MAX, i32::MAX, i32::MAX], &[0, 0, 0, 0], vec![]),
    ];
    for (offset, shape, strides, expected) in cases {
        let value = read(&tensor("FloatStorage", "0", offset, shape, strides), &[("0", &data)]).unwrap();
        let TorchValue::Tensor(tensor) = value else { panic!("a tensor") };
        let dims: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        assert_eq!(tensor.dims(), dims);
        assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
    }
}

/// Each would do harm to a reader that trusts sizes, or recurses, or makes what a pickle names.
#[test]
fn hostile_objects_are_refused() {
    let (data, large) = (storage(4), storage(9000));
    let of = |shape: &[i32], strides: &[i32]| tensor("FloatStorage", "0", 0, shape, strides);
    let doubled = (0..28).fold(b"]q\x00K\x01a".to_vec(), |pickle, level: u8| {
        let put = [b"]q".as_slice(), &[level + 1], b"h", &[level], b"ah", &[level], b"a"].concat();
        [pickle, put].concat()
    });
    let text_again = [b"](".as_slice(), &text(&"x".repeat(1000)), b"q\x00", &b"h\x00".repeat(1000), b"e"].concat();
    let nested = [b"K\x01".as_slice(), &vec![0x85; 1 << 20]].concat();
    let many = [b"](".as_slice(), &tensor("FloatStorage", "1", 0, &[9000], &[1]).repeat(10), b"e"].concat();
    let nine = [1; 9];
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "a call of the system",
            b"cos\nsystem\n(X\x07\x00\x00\x00echo hitR".to_vec(),
            "byte 2, opcode 0x63: it names `os.system`",
        ),
        ("a stacked global", [text("os"), text("system"), b"\x93)R".to_vec()].concat(), "names `os.system`"),
        ("a class", b"csubprocess\nPopen\n)\x81}b".to_vec(), "names `subprocess.Popen`"),
        ("a bare name", b"ctorch\nFloatStorage\n".to_vec(), "`torch.FloatStorage` stands where a value"),
        ("a call of a storage", b"ctorch\nFloatStorage\n)R".to_vec(), "calls `torch.FloatStorage`"),
        ("a call of a call", b"ctorch\nFloatStorage\n)R)R".to_vec(), "calls something without a name"),
        ("bytes", b"C\x01a".to_vec(), "an object of this kind"),
        ("doubled twenty-eight times", doubled, "without end"),
        ("a text a thousand times", text_again, "without end"),
        ("nested a million deep", nested, "too deep"),
        ("a list in itself", b"]q\x00h\x00a".to_vec(), "too deep"),
        ("broad by stride zero", of(&[1 << 30, 1 << 30], &[0, 0]), "more elements than its storage"),
        ("larger than its storage", of(&[5], &[1]), "has only 16 bytes"),
        ("past its storage by stride", of(&[2], &[7]), "has only 16 bytes"),
        ("sizes that overflow", of(&[i32::MAX, i32::MAX, i32::MAX, 2], &[1, 1, 1, 1]), "absurd"),
        ("a negative size", of(&[-1], &[1]), "no tuple of sizes"),
        ("nine dimensions", of(&nine, &nine), "no tuple of sizes"),
        ("a negative offset", tensor("FloatStorage", "0", -1, &[1], &[1]), "no size"),
        ("shape and strides apart", of(&[2, 2], &[1]), "don't fit"),
        ("a storage that is not there", tensor("FloatStorage", "../../etc/passwd", 0, &[1], &[1]), "no entry"),
        ("a storage of another kind", tensor("UntypedStorage", "0", 0, &[1], &[1]), "names `torch.UntypedStorage`"),
        ("arguments too few", b"ctorch._utils\n_rebuild_tensor_v2\n)R".to_vec(), "lacks arguments"),
        ("a parameter of nothing", b"ctorch._utils\n_rebuild_parameter\n)R".to_vec(), "a parameter has no tensor"),
        ("one storage ten times", many, "larger than the file"),
    ];
    for (name, object, expected) in cases {
        let Err(error) = read(&object, &[("0", &data), ("1", &large)]) else { panic!("{name} was read") };
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
}

#[test]
fn hostile_archives_are_refused() {
    let pickle: &[u8] = b"\x80\x02N.";
    let good = archive(&[("m/data.pkl", pickle), ("m/byteorder", b"little")]);
    assert!(matches!(read_bytes(&good), Ok(TorchValue::None)));
    let find = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).position(|found| found == part).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let renamed = |from: &str, to: &str| {
        let mut bytes = archive(&[("m/data.pkl", pickle), (from, b"little")]);
        while let Some(at) = bytes.windows(from.len()).position(|found| found == from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        bytes
    };
    let directory = find(&good, b"PK\x01\x02");
    let second = directory + 4 + find(&good[directory + 4..], b"PK\x01\x02");
    let end = good.len() - 22;
    let mut wide = good.clone();
    wide[directory + 20..directory + 28].fill(0xff);
    let mut overlapping = good.clone();
    overlapping.copy_within(directory + 42..directory + 46, second + 42);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "Could not find EOCD"),
        ("no archive", b"PK but not one".repeat(9), "Could not find EOCD"),
        ("something before it", [b"junk".as_slice(), &good].concat(), "No CDFH found"),
        ("two pickles", archive(&[("a/data.pkl", pickle), ("b/data.pkl", pickle)]), "no single `data.pkl`"),
        ("an entry twice", renamed("m/datb.pkl", "m/data.pkl"), "the same name"),
        ("an entry outside", renamed("m/datb.pkl", "../../.pkl"), "leads out of the archive"),
        ("an absolute entry", renamed("m/datb.pkl", "/etc/x.pkl"), "leads out of the archive"),
        ("big-endian", archive(&[("m/data.pkl", pickle), ("m/byteorder", b"big")]), "not little-endian"),
        ("compressed", changed(directory + 10, 8), "compressed or encrypted"),
        ("encrypted", changed(directory + 8, 1), "compressed or encrypted"),
        ("a flipped byte of content", changed(find(&good, b"\x80\x02N.") + 2, b'K'), "Invalid checksum"),
        ("two lengths", changed(directory + 24, 200), "two lengths"),
        ("more entries than there are", changed(end + 10, 9), "Multi-disk"),
        ("a directory past the end", changed(end + 18, 0xff), "Invalid CDFH offset"),
        ("a directory elsewhere", changed(end + 16, 1), "No CDFH found"),
        ("a header elsewhere", changed(directory + 42, 1), "Invalid local file header"),
        ("one entry in another", overlapping, "overlap"),
        (
            "longer than the archive",
            {
                let mut bytes = good.clone();
                bytes[directory + 20..directory + 28].fill(0x7f);
                bytes
            },
            "cut off",
        ),
        ("wide lengths without a field", wide, "cut off"),
    ];
    for (name, bytes, expected) in cases {
        let error = read_bytes(&bytes).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// A directory past the limit is refused before it fills the memory.
#[test]
fn a_directory_without_end_is_refused() {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let name = "x".repeat(60_000);
    for number in 0..300 {
        archive.start_file(format!("{number}{name}"), write::options(0)).unwrap();
    }
    let bytes = archive.finish().unwrap().into_inner();
    let error = read_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("larger than any model's"), "{error}");
}
/// Cuts and flips of real files: an error, or a value, never a panic; a storage's flip is always found.
#[test]
fn damaged_files_never_panic() {
    for name in ["model_000016.pt", "optim_000016_rank0.pt", "token_bytes.pt"] {
        let whole = fs::read(fixtures().join("checkpoint").join(name)).unwrap();
        let mut random = 0x2545_f491_4f6c_dd1du64;
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        for _ in 0..150 {
            assert!(read_bytes(&whole[..below(whole.len())]).is_err(), "{name} cut");
            let mut flipped = whole.clone();
            flipped[below(whole.len())] ^= 1 << below(8);
            let _ = read_bytes(&flipped);
        }
        // The pickle and the directory are much smaller than the storages, so flips there are tried separately.
        let pickle = whole.windows(2).position(|two| two == b"\x80\x02").unwrap();
        for _ in 0..150 {
            let mut flipped = whole.clone();
            flipped[pickle + below(2000.min(whole.len() - pickle))] ^= 1 << below(8);
            let _ = read_bytes(&flipped);
            let mut flipped = whole.clone();
            flipped[whole.len() - 1 - below(2000.min(whole.len()))] ^= 1 << below(8);
            let _ = read_bytes(&flipped);
        }
    }
}

#[test]
fn every_kind_of_value_and_element_is_written() {
    let device = &Device::Cpu;
    let tensors = [DType::F64, DType::F16, DType::BF16, DType::U8, DType::I16, DType::I32, DType::I64];
    let mut items: Vec<TorchValue> = tensors
        .iter()
        .map(|dtype| Tensor::arange(0f32, 6.0, device).unwrap().reshape((2, 3)).unwrap().to_dtype(*dtype).unwrap())
        .map(TorchValue::Tensor)
        .collect();
    items.push(TorchValue::Tensor(Tensor::new(2.5f32, device).unwrap()));
    items.push(TorchValue::Tensor(Tensor::zeros((0, 3), DType::F32, device).unwrap()));
    // Written row by row, whatever its layout.
    items.push(TorchValue::Tensor(Tensor::arange(0f32, 6.0, device).unwrap().reshape((2, 3)).unwrap().t().unwrap()));
    let numbers = [i64::MIN, -1, 0, 255, 70_000, i64::from(i32::MAX) + 1, i64::MAX];
    items.extend(numbers.map(TorchValue::Int));
    items.extend([TorchValue::None, TorchValue::Bool(true), TorchValue::Bool(false), TorchValue::Float(-0.1)]);
    items.extend([TorchValue::Text("é\n".into()), TorchValue::List(Vec::new()), TorchValue::Dict(Vec::new())]);
    let written = TorchValue::Dict(vec![(TorchValue::Int(7), TorchValue::List(items))]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values.pt");
    write_torch_file(&path, &written).unwrap();
    assert_eq!(
        format!("{:?}", described(&read_torch_file(&path, device).unwrap())),
        format!("{:?}", described(&written))
    );
    let odd = TorchValue::Tensor(Tensor::zeros(2, DType::U32, device).unwrap());
    let refused = write_torch_file(&folder.path().join("odd.pt"), &odd).unwrap_err();
    assert!(refused.to_string().contains("no elements of type u32"), "{refused}");
}

/// A value with its tensors as types, sizes and numbers.
fn described(value: &TorchValue) -> Vec<String> {
    match value {
        TorchValue::List(items) => [vec!["list".into()], items.iter().flat_map(described).collect()].concat(),
        TorchValue::Dict(entries) => {
            let items = entries.iter().flat_map(|(key, value)| [described(key), described(value)].concat());
            [vec!["dictionary".into()], items.collect()].concat()
        }
        TorchValue::Tensor(tensor) => {
            let numbers = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            vec![format!("{:?} {:?} {numbers:?}", tensor.dtype(), tensor.dims())]
        }
        other => vec![format!("{other:?}")],
    }
}

/// Archives past 4 GiB have 64-bit lengths; here every entry of the second has them.
#[test]
fn wide_archives_read_back_and_entries_are_aligned() {
    let contents: Vec<Vec<u8>> = (0..40).map(|length| vec![length as u8 + 1; length * 9]).collect();
    for length in [0, 1 << 32] {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (number, content) in contents.iter().enumerate() {
            writer.start_file(format!("m/{number}"), write::options(length)).unwrap();
            writer.write_all(content).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        let mut archive = Archive::open(Cursor::new(&bytes)).unwrap();
        assert_eq!(archive.names().count(), contents.len());
        for (number, content) in contents.iter().enumerate() {
            let name = format!("m/{number}");
            assert_eq!(&archive.read(&name, 0, content.len() as u64).unwrap(), content, "{name}, length {length}");
            let place = bytes.windows(content.len().max(1)).position(|found| found == content.as_slice());
            assert!(content.is_empty() || place.unwrap() % 64 == 0, "{name}");
        }
        assert_eq!(archive.read("m/9", 80, 1).unwrap(), [10]);
        assert!(archive.read("m/9", 80, 2).unwrap_err().contains("has only 81 bytes"));
    }
}

#[test]
fn a_written_archive_holds_what_torch_looks_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pair.pt");
    let pair = Tensor::new(&[1u8, 2], &Device::Cpu).unwrap();
    write_torch_file(&path, &TorchValue::Tensor(pair)).unwrap();
    let mut archive = Archive::open(fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(archive.names().collect::<Vec<_>>(), ["pair/byteorder", "pair/data.pkl", "pair/data/0", "pair/version"]);
    assert_eq!(archive.read("pair/byteorder", 0, 6).unwrap(), b"little");
    assert_eq!(archive.read("pair/version", 0, 2).unwrap(), b"3\n");
    assert_eq!(archive.read("pair/data/0", 0, 2).unwrap(), [1, 2]);
    let twice = write_torch_file(&path, &TorchValue::None).unwrap_err();
    assert!(matches!(twice, FormatError::Io { action: "create", .. }), "{twice}");
}
