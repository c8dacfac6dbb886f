//! The baseline's own files read as they were written, and hostile ones refused without harm.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::checkpoint::tensors_sha256;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity")
}

fn run_tensors(prefix: &str) -> BTreeMap<String, Tensor> {
    let tensors = candle_core::safetensors::load(fixtures().join("trajectory.safetensors"), &Device::Cpu).unwrap();
    tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor))).collect()
}

#[test]
fn weights_are_bitwise_those_of_the_run_that_saved_them() {
    let loaded = load(&fixtures().join("checkpoint"), None, &Device::Cpu).unwrap();
    assert_eq!((loaded.step, loaded.mended.len()), (16, 0));
    assert_eq!(tensors_sha256(&loaded.weights).unwrap(), tensors_sha256(&run_tensors("final.")).unwrap());
    assert_eq!(loaded.model_config["n_embd"], 24);
    assert_eq!(loaded.meta["dataloader_state_dict"]["epoch"], 8);
    let error = load(&fixtures().join("checkpoint"), Some(15), &Device::Cpu).unwrap_err();
    assert!(matches!(error, CheckpointError::NoSuchStep { step: 15, available, .. } if available == [16]));
}

#[test]
fn token_lengths_are_those_of_the_tokenizer() {
    let lengths = load_token_bytes(&fixtures().join("checkpoint/token_bytes.pt")).unwrap();
    let tokenizer = crate::tokenizer::Tokenizer::load(&fixtures().join("tokenizer_310.tiktoken")).unwrap();
    assert_eq!(lengths, tokenizer.token_bytes());
}

/// Groups in the baseline's order, each with the state that its kind of optimizer keeps.
#[test]
fn optimizer_state_comes_in_the_order_of_its_groups() {
    let groups = load_optimizer(&fixtures().join("checkpoint"), 16, 0, &Device::Cpu).unwrap();
    let kinds: Vec<(&str, usize)> = groups.iter().map(|group| (group.kind.as_str(), group.state.len())).collect();
    let adamw = [("adamw", 1), ("adamw", 1), ("adamw", 1), ("adamw", 1), ("adamw", 1), ("adamw", 3)];
    assert_eq!(kinds[..6], adamw);
    assert_eq!(kinds[6..], [("muon", 1), ("muon", 4), ("muon", 1), ("muon", 1)], "gate, square, narrow and wide");
    for group in &groups {
        let names: Vec<&String> = group.state[0].keys().collect();
        match group.kind.as_str() {
            "adamw" => assert_eq!(names, ["exp_avg", "exp_avg_sq", "step"]),
            _ => assert_eq!(names, ["momentum_buffer", "second_momentum_buffer"]),
        }
        assert!(group.settings["initial_lr"] > 0.0);
    }
    assert_eq!(groups[0].state[0]["exp_avg"].dims(), [320, 24], "the head");
    assert_eq!(groups[0].state[0]["step"].to_scalar::<f64>().unwrap(), 16.0);
    assert_eq!(groups[7].state[0]["momentum_buffer"].dims(), [4, 24, 24], "stacked");
}

/// A zip archive of stored entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let offset = file.len() as u32;
        let crc = super::archive::crc32(content);
        let lengths = [content.len() as u32, content.len() as u32];
        let common = |out: &mut Vec<u8>| {
            out.extend([20, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            out.extend(crc.to_le_bytes());
            lengths.iter().for_each(|length| out.extend(length.to_le_bytes()));
            out.extend((name.len() as u16).to_le_bytes());
            out.extend([0, 0]);
        };
        file.extend(b"PK\x03\x04");
        common(&mut file);
        file.extend(name.as_bytes());
        file.extend(*content);
        directory.extend(b"PK\x01\x02\x14\x00");
        common(&mut directory);
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

fn dictionary(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"}(".as_slice(), &items, b"u"].concat()
}

/// Reads a `.pt` file with that object and those storages.
fn read(object: &[u8], storages: &[(&str, &[u8])]) -> Result<TorchValue, CheckpointError> {
    let pickle = [b"\x80\x02", object, b"."].concat();
    let named: Vec<(String, &[u8])> = storages.iter().map(|(key, bytes)| (format!("m/data/{key}"), *bytes)).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("m/data.pkl", &pickle), ("m/byteorder", b"little")];
    entries.extend(named.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    read_bytes(&archive(&entries))
}

fn read_bytes(bytes: &[u8]) -> Result<TorchValue, CheckpointError> {
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
    let cases: [(i32, &[i32], &[i32], Vec<f32>); 4] = [
        (0, &[3, 4], &[4, 1], (0..12).map(|value| value as f32).collect()),
        (2, &[2, 2], &[1, 4], vec![2.0, 6.0, 3.0, 7.0]),
        (11, &[1], &[77], vec![11.0]),
        (5, &[0, 3], &[3, 1], vec![]),
    ];
    for (offset, shape, strides, expected) in cases {
        let value = read(&tensor("FloatStorage", "0", offset, shape, strides), &[("0", &data)]).unwrap();
        let TorchValue::Tensor(tensor) = value else { panic!("a tensor") };
        let dims: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        assert_eq!(tensor.dims(), dims);
        assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
    }
}

/// Old checkpoints, and those of compiled models in bf16, are mended as the baseline's own loader mends them.
#[test]
fn old_and_compiled_checkpoints_are_mended() {
    let folder = tempfile::tempdir().unwrap();
    let meta = serde_json::json!({ "model_config": { "n_layer": 3, "n_embd": 24 } });
    fs::write(folder.path().join("meta_000007.json"), meta.to_string()).unwrap();
    let half: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect();
    let object = dictionary(&[("_orig_mod.lm_head.weight", tensor("BFloat16Storage", "0", 0, &[2], &[1]))]);
    let pickle = [b"\x80\x02", object.as_slice(), b"."].concat();
    fs::write(folder.path().join("model_000007.pt"), archive(&[("m/data.pkl", &pickle), ("m/data/0", &half)])).unwrap();
    let loaded = load(folder.path(), None, &Device::Cpu).unwrap();
    let values = |name: &str| loaded.weights[name].to_vec1::<f32>().unwrap();
    assert_eq!(values("lm_head.weight"), [1.5, -2.0]);
    assert_eq!((values("resid_lambdas"), values("x0_lambdas")), (vec![1.0; 3], vec![0.0; 3]));
    assert_eq!((loaded.model_config["window_pattern"].as_str(), loaded.mended.len()), (Some("L"), 3));
}

/// Each would do harm to a reader that runs pickles, trusts sizes, or recurses.
#[test]
fn hostile_objects_are_refused() {
    let (data, large) = (storage(4), storage(9000));
    let of = |shape: &[i32], strides: &[i32]| tensor("FloatStorage", "0", 0, shape, strides);
    let doubled = (0..28).fold(b"]q\x00K\x01a".to_vec(), |pickle, level: u8| {
        let put = [b"]q".as_slice(), &[level + 1], b"h", &[level], b"ah", &[level], b"a"].concat();
        [pickle, put].concat()
    });
    let nested = [b"K\x01".as_slice(), &vec![0x85; 1 << 20]].concat();
    let many = [b"(".as_slice(), &tensor("FloatStorage", "1", 0, &[9000], &[1]).repeat(10), b"l"].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a call of the system", b"cos\nsystem\n(X\x07\x00\x00\x00echo hitR".to_vec(), "calls `os.system`"),
        ("a stacked global", [text("os"), text("system"), b"\x93)R".to_vec()].concat(), "calls `os.system`"),
        ("a class", b"csubprocess\nPopen\n)\x81}b".to_vec(), "calls `subprocess.Popen`"),
        ("a bare name", b"cbuiltins\neval\n".to_vec(), "names `builtins.eval`"),
        ("a call of a call", b"cos\nsystem\n)R)R".to_vec(), "calls something without a name"),
        ("doubled twenty-eight times", doubled, "without end"),
        ("nested a million deep", nested, "too deep"),
        ("a list in itself", b"]q\x00h\x00a".to_vec(), "too deep"),
        ("a string of 4 GB", b"X\xff\xff\xff\xffab".to_vec(), "ends early"),
        ("bytes of 2^63", b"\x8e\x00\x00\x00\x00\x00\x00\x00\x80".to_vec(), "ends early"),
        ("an integer of 255 bytes", [b"\x8a\xff".as_slice(), &[0x7f; 255]].concat(), "more than 64 bits"),
        ("an unknown opcode", b"i".to_vec(), "opcode 0x69"),
        ("nothing on the stack", Vec::new(), "stack is empty"),
        ("no mark", b"K\x01t".to_vec(), "no mark"),
        ("a missing memo", b"h\x05".to_vec(), "not kept"),
        ("a key without a value", b"}(K\x01u".to_vec(), "no value"),
        ("an entry of a number", b"K\x01K\x01K\x01s".to_vec(), "something other than a dictionary"),
        ("broad by stride zero", of(&[1 << 30, 1 << 30], &[0, 0]), "more elements than its storage"),
        ("larger than its storage", of(&[5], &[1]), "has only 16 bytes"),
        ("past its storage by stride", of(&[2], &[7]), "has only 16 bytes"),
        ("sizes that overflow", of(&[i32::MAX, i32::MAX, i32::MAX, 2], &[1, 1, 1, 1]), "absurd"),
        ("a negative size", of(&[-1], &[1]), "no tuple of sizes"),
        ("a negative offset", tensor("FloatStorage", "0", -1, &[1], &[1]), "no size"),
        ("shape and strides apart", of(&[2, 2], &[1]), "don't fit"),
        ("a storage that is not there", tensor("FloatStorage", "../../etc/passwd", 0, &[1], &[1]), "no entry"),
        ("a storage of another kind", tensor("UntypedStorage", "0", 0, &[1], &[1]), "unknown class"),
        ("arguments too few", b"ctorch._utils\n_rebuild_tensor_v2\n)R".to_vec(), "lacks arguments"),
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
    let good = archive(&[("m/data.pkl", pickle)]);
    assert!(matches!(read_bytes(&good), Ok(TorchValue::None)));
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let directory = good.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    let end = good.len() - 22;
    let mut wide = good.clone();
    wide[directory + 20..directory + 28].fill(0xff);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "no zip archive"),
        ("no archive", b"PK but not one".repeat(9), "no zip archive"),
        ("two pickles", archive(&[("a/data.pkl", pickle), ("b/data.pkl", pickle)]), "no single `data.pkl`"),
        ("an entry twice", archive(&[("m/data.pkl", pickle), ("m/data.pkl", pickle)]), "there twice"),
        ("big-endian", archive(&[("m/data.pkl", pickle), ("m/byteorder", b"big")]), "not little-endian"),
        ("compressed", changed(directory + 10, 8), "compressed"),
        ("a flipped byte of content", changed(30 + 10 + 2, b'K'), "differs from its checksum"),
        ("two lengths", changed(directory + 20, 200), "two lengths"),
        ("more entries than there are", changed(end + 10, 9), "cut off"),
        ("a directory past the end", changed(end + 16, 0xff), "cut off"),
        ("a directory elsewhere", changed(end + 16, 1), "broken"),
        ("a header elsewhere", changed(directory + 42, 1), "not where the directory says"),
        ("wide lengths without a field", wide, "cut off"),
    ];
    for (name, bytes, expected) in cases {
        let error = read_bytes(&bytes).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
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
        // The pickle and the directory are small beside the storages; flips there are tried apart.
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

/// What this program writes it reads, and real files come through a round trip with every tensor's bits.
#[test]
fn files_written_here_hold_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(&fixtures().join("checkpoint"), None, &Device::Cpu).unwrap();
    save(folder.path(), 16, &loaded.weights, &loaded.meta).unwrap();
    let again = load(folder.path(), None, &Device::Cpu).unwrap();
    assert_eq!(tensors_sha256(&again.weights).unwrap(), tensors_sha256(&loaded.weights).unwrap());
    assert_eq!((again.step, again.meta, again.mended.len()), (16, loaded.meta.clone(), 0));
    // A file that is there is never written over.
    let twice = save(folder.path(), 16, &loaded.weights, &loaded.meta).unwrap_err();
    assert!(matches!(twice, CheckpointError::Io { action: "create", .. }), "{twice}");

    let lengths = load_token_bytes(&fixtures().join("checkpoint/token_bytes.pt")).unwrap();
    save_token_bytes(&folder.path().join("token_bytes.pt"), &lengths).unwrap();
    assert_eq!(load_token_bytes(&folder.path().join("token_bytes.pt")).unwrap(), lengths);

    // Every kind of value, as the optimizer's state has them.
    let state = read_torch_file(&fixtures().join("checkpoint/optim_000016_rank0.pt"), &Device::Cpu).unwrap();
    write_torch_file(&folder.path().join("optim_000016_rank0.pt"), &state).unwrap();
    let groups = |folder: &Path| load_optimizer(folder, 16, 0, &Device::Cpu).unwrap();
    let (ours, theirs) = (groups(folder.path()), groups(&fixtures().join("checkpoint")));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((&ours.kind, &ours.settings), (&theirs.kind, &theirs.settings));
        for (ours, theirs) in ours.state.iter().zip(&theirs.state) {
            assert_eq!(tensors_sha256(ours).unwrap(), tensors_sha256(theirs).unwrap());
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
    // Written row by row, wherever its elements lie.
    items.push(TorchValue::Tensor(Tensor::arange(0f32, 6.0, device).unwrap().reshape((2, 3)).unwrap().t().unwrap()));
    let numbers = [i64::MIN, -1, 0, 255, 70_000, i64::from(i32::MAX) + 1, i64::MAX];
    items.extend(numbers.map(TorchValue::Int));
    items.extend([TorchValue::None, TorchValue::Bool(true), TorchValue::Bool(false), TorchValue::Float(-0.1)]);
    items.extend([TorchValue::Text("é\n".into()), TorchValue::List(Vec::new()), TorchValue::Dict(Vec::new())]);
    let written = TorchValue::Dict(vec![(TorchValue::Int(7), TorchValue::List(items))]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values.pt");
    write_torch_file(&path, &written).unwrap();
    assert_eq!(format!("{:?}", told(&read_torch_file(&path, device).unwrap())), format!("{:?}", told(&written)));
    let odd = TorchValue::Tensor(Tensor::zeros(2, DType::U32, device).unwrap());
    let refused = write_torch_file(&folder.path().join("odd.pt"), &odd).unwrap_err();
    assert!(refused.to_string().contains("no elements of type u32"), "{refused}");
}

/// A value with its tensors as types, sizes and numbers.
fn told(value: &TorchValue) -> Vec<String> {
    match value {
        TorchValue::List(items) => [vec!["list".into()], items.iter().flat_map(told).collect()].concat(),
        TorchValue::Dict(entries) => {
            let told = entries.iter().flat_map(|(key, value)| [told(key), told(value)].concat());
            [vec!["dictionary".into()], told.collect()].concat()
        }
        TorchValue::Tensor(tensor) => {
            let numbers = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            vec![format!("{:?} {:?} {numbers:?}", tensor.dtype(), tensor.dims())]
        }
        other => vec![format!("{other:?}")],
    }
}

/// Archives past 4 GiB have 64-bit fields; here every number past 100 has them.
#[test]
fn wide_archives_read_back_and_entries_are_aligned() {
    let contents: Vec<Vec<u8>> = (0..40).map(|length| vec![length as u8 + 1; length * 9]).collect();
    for limit in [100, u64::from(u32::MAX)] {
        let mut writer = archive_writer::ArchiveWriter::with_limit(Vec::new(), limit);
        for (number, content) in contents.iter().enumerate() {
            writer.add(&format!("m/{number}"), content).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut archive = archive::Archive::open(std::io::Cursor::new(&bytes)).unwrap();
        assert_eq!(archive.names().count(), contents.len());
        for (number, content) in contents.iter().enumerate() {
            let name = format!("m/{number}");
            assert_eq!(&archive.read(&name, 0, content.len() as u64).unwrap(), content, "{name}, limit {limit}");
            let place = bytes.windows(content.len().max(1)).position(|found| found == content.as_slice());
            assert!(content.is_empty() || place.unwrap() % 64 == 0, "{name}");
        }
    }
}
