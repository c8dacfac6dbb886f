//! A hundred and more malformed inputs of every kind that the program reads: each a clear error that names its file, no
//! panic, no code run, memory bounded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::Device;
use nanochat::artifacts::bytes_sha256;
use nanochat::checkpoint::{Checkpoints, baseline};
use nanochat::data::Corpus;
use nanochat::evals::core::Bundle;
use nanochat::formats::torch::read_torch_file;
use nanochat::plan::{DataPlan, OnCoreError};
use nanochat::tokenizer::Tokenizer;
use nanochat::trained::Trained;
use serde_json::{Value, json};

use super::program::root;

/// What may be in memory at the peak, beside this test binary's own some tens of MiB.
const MOST_MEMORY: u64 = 512 << 20;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(root().join("fixtures").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Cases so far, and the folder that they lie in.
struct Cases {
    folder: tempfile::TempDir,
    count: usize,
}

impl Cases {
    /// A new folder with these files.
    fn files(&self, files: &[(&str, &[u8])]) -> PathBuf {
        let folder = self.folder.path().join(format!("case_{}", self.count));
        for (name, bytes) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// Reads something malformed, which must be refused by an error that names `place`.
    fn refused<T, E: std::fmt::Display>(&mut self, what: &str, place: &str, read: impl FnOnce() -> Result<T, E>) {
        self.count += 1;
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(read)) else { panic!("{what}: panicked") };
        let Err(error) = outcome else { panic!("{what}: was accepted") };
        let text = error.to_string();
        assert!(text.contains(place), "{what}: the error doesn't name `{place}`: {text}");
        assert!(text.len() < 4000, "{what}: an error of {} bytes helps nobody", text.len());
    }
}

/// Cuts of a whole file at places spread over it, the first after nothing.
fn cuts(whole: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    (0..count).map(move |number| &whole[..(whole.len() - 1) * number / count])
}

fn torch_files(cases: &mut Cases) {
    for name in ["model_000016.pt", "optim_000016_rank0.pt", "token_bytes.pt"] {
        let whole = fixture(&format!("parity/checkpoint/{name}"));
        for cut in cuts(&whole, 8) {
            let path = cases.files(&[(name, cut)]).join(name);
            cases.refused("a cut .pt file", name, || read_torch_file(&path, &Device::Cpu));
        }
    }
    let meta = fixture("parity/checkpoint/meta_000016.json");
    let model = fixture("parity/checkpoint/model_000016.pt");
    let metas: [&[u8]; 5] = [b"", b"[]", b"{\"model_config\": 7}", &meta[..40], &[b'['; 100_000]];
    for meta in metas {
        let folder = cases.files(&[("meta_000016.json", meta), ("model_000016.pt", &model)]);
        cases.refused("a broken description", "meta_000016.json", || baseline::load(&folder, None, &Device::Cpu));
    }
}

fn tokenizers(cases: &mut Cases) {
    let mut refused = |what: &str, name: &str, bytes: &[u8]| {
        let path = cases.files(&[(name, bytes)]).join(name);
        cases.refused(what, name, || Tokenizer::load(&path));
    };
    let pickle = fixture("tokenizer/tokenizer_1024.pkl");
    cuts(&pickle, 8).for_each(|cut| refused("a cut pickle", "tokenizer.pkl", cut));
    let hostile: [(&str, Vec<u8>); 8] = [
        ("a call of the system", b"\x80\x04cos\nsystem\nX\x04\x00\x00\x00true\x85R.".to_vec()),
        ("eval by the stack", b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.".to_vec()),
        ("a reduce of a number", b"\x80\x04K\x01K\x02R.".to_vec()),
        ("an extension", b"\x80\x04\x82\x01.".to_vec()),
        ("a persistent id", b"\x80\x04P1\n.".to_vec()),
        ("bytes of 2^63", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.".to_vec()),
        ("a hundred thousand marks", [b"\x80\x04".as_slice(), &[b'('; 100_000]].concat()),
        ("a million nested tuples", [b"\x80\x04N".as_slice(), &vec![0x85; 1 << 20], b"."].concat()),
    ];
    hostile.iter().for_each(|(what, bytes)| refused(what, "tokenizer.pkl", bytes));
    let ranks = String::from_utf8(fixture("tokenizer/tokenizer_1024.tiktoken")).unwrap();
    let edited = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = ranks.lines().map(String::from).collect();
        edit(&mut lines);
        lines.join("\n").into_bytes()
    };
    let broken: [(&str, Vec<u8>); 7] = [
        ("nothing", Vec::new()),
        ("no UTF-8", vec![0xff; 64]),
        ("a gap", edited(&|lines| drop(lines.remove(300)))),
        ("a rank twice", edited(&|lines| lines.push(lines[300].clone()))),
        ("a rank of 2^40", edited(&|lines| lines.push("enp6eg== 1099511627776".into()))),
        ("no base64", edited(&|lines| lines[5] = "%%%% 5".into())),
        ("one line of 4 MiB", vec![b'A'; 4 << 20]),
    ];
    broken.iter().for_each(|(what, bytes)| refused(what, "x.tiktoken", bytes));

    let sound = Tokenizer::load(&root().join("fixtures/tokenizer/tokenizer_1024.tiktoken")).unwrap();
    let sound: Value = serde_json::from_str(&sound.to_json().unwrap()).unwrap();
    type Spoil = fn(&mut Value);
    let spoils: [(&str, Spoil); 9] = [
        ("merges in a circle", |json| {
            json["model"]["merges"][0] = json!(["Ġt", "h"]);
            json["model"]["merges"][1] = json!(["h", "Ġt"]);
        }),
        ("a merge of itself", |json| json["model"]["merges"][9] = json!(["Ġ", "Ġ"])),
        ("a merge of unknown parts", |json| json["model"]["merges"][9] = json!(["ω", "ψ"])),
        ("a merge of three", |json| json["model"]["merges"][9] = json!(["a", "b", "c"])),
        ("merges without end", |json| json["model"]["merges"] = vec![json!(["a", "b"]); 200_000].into()),
        ("a rank of 2^53", |json| json["model"]["vocab"]["Ġt"] = json!(9_007_199_254_740_993u64)),
        ("a rank below 0", |json| json["model"]["vocab"]["Ġt"] = json!(-1)),
        ("a vocabulary that is a list", |json| json["model"]["vocab"] = json!([1, 2])),
        ("special tokens over others", |json| json["added_tokens"][0]["id"] = json!(0)),
    ];
    for (what, spoil) in spoils {
        let mut json = sound.clone();
        spoil(&mut json);
        refused(what, "tokenizer.json", json.to_string().as_bytes());
    }
    for bytes in [b"".as_slice(), b"\xff\xfe{", b"null", &[b'['; 200_000], &[b'{'; 10]] {
        refused("no JSON of a tokenizer", "tokenizer.json", bytes);
    }
}

/// A checkpoint whose manifest is right and whose `model.safetensors` lies.
fn checkpoints(cases: &mut Cases) {
    let header = |text: &str, data: usize| {
        [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes(), &vec![0; data]].concat()
    };
    let deep = format!("{{\"a\":{}", "[".repeat(50_000));
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("half a length", vec![1, 0, 0]),
        ("a header of 2^63 bytes", [&(1u64 << 63).to_le_bytes()[..], b"{}"].concat()),
        ("a header of 4 GiB", [&(1u64 << 32).to_le_bytes()[..], b"{}"].concat()),
        ("a header that is no JSON", header("{{{{", 0)),
        ("a header nested fifty thousand deep", header(&deep, 0)),
        ("data past the end", header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, 8)),
        ("data before the start", header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[-16,0]}}"#, 16)),
        ("offsets the wrong way", header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#, 16)),
        ("a shape of 2^60", header(r#"{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,16]}}"#, 16)),
        (
            "a shape that overflows",
            header(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, 0),
        ),
        ("an unknown type", header(r#"{"a":{"dtype":"F7","shape":[4],"data_offsets":[0,16]}}"#, 16)),
        (
            "two tensors in one place",
            header(
                r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
                16,
            ),
        ),
        ("bytes that belong to nobody", header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 64)),
    ];
    let entry = |bytes: &[u8]| json!({ "bytes": bytes.len(), "sha256": bytes_sha256(bytes) });
    let spelled = |value: &Value| format!("{}\n", serde_json::to_string_pretty(value).unwrap()).into_bytes();
    for (what, model) in &lies {
        let files = json!({ "model.safetensors": entry(model), "state.json": entry(b"{}") });
        let manifest = spelled(&json!({ "files": files, "schema": "nanochat.checkpoint/v1", "step": 7 }));
        let folder = cases.files(&[
            ("step_000007/manifest.json", &manifest),
            ("step_000007/model.safetensors", model),
            ("step_000007/state.json", b"{}"),
        ]);
        let store = Checkpoints::open(&folder).unwrap();
        cases.refused(what, "model.safetensors", || store.load(7, &Device::Cpu));
    }
    let names = ["../state.json", "/etc/passwd", "state.json/../state.json", "", "."];
    let strange = names.map(|name| {
        let mut files = serde_json::Map::new();
        files.insert(name.into(), entry(b"{}"));
        spelled(&json!({ "files": files, "schema": "nanochat.checkpoint/v1", "step": 7 }))
    });
    let others = [
        b"".to_vec(),
        b"{}".to_vec(),
        vec![b'['; 100_000],
        b"{\"files\":{},\"schema\":\"other/v1\",\"step\":7}".to_vec(),
    ];
    for manifest in strange.iter().chain(&others) {
        let folder = cases.files(&[("step_000007/manifest.json", manifest), ("state.json", b"{}")]);
        let store = Checkpoints::open(&folder).unwrap();
        cases.refused("a strange manifest", "step_000007", || store.load(7, &Device::Cpu));
    }
}

fn texts(cases: &mut Cases) {
    let mut refused = |what: &str, files: &[(&str, &[u8])], place: &str, plan: &dyn Fn(String) -> DataPlan| {
        let folder = cases.files(files);
        cases.refused(what, place, || {
            Corpus::open(&plan(folder.display().to_string()), Path::new("")).and_then(|corpus| corpus.sha256())
        });
    };
    let parquet = |path: String| DataPlan::parquet(path);
    let endless = [b"PAR1".as_slice(), &[0xff; 4096], &u32::MAX.to_le_bytes(), b"PAR1"].concat();
    let zeros = [b"PAR1".as_slice(), &[0; 4096], &64u32.to_le_bytes(), b"PAR1"].concat();
    let garbage: [&[u8]; 6] = [b"", b"PAR1", b"PAR1PAR1", &endless, &zeros, &[0x15; 10_000]];
    for bytes in garbage {
        let files: [(&str, &[u8]); 2] = [("shard_0.parquet", bytes), ("shard_1.parquet", bytes)];
        refused("no parquet", &files, "shard_", &parquet);
    }
    let jsonl = |path| DataPlan::Jsonl { path, field: "text".into() };
    let deep = [b"{\"text\": ".as_slice(), &[b'['; 100_000]].concat();
    let lines: [&[u8]; 6] =
        [b"{\"text\": \"a\"", b"{\"texts\": \"a\"}\n", b"{\"text\": 7}\n", b"\xff\xff\n", b"[1]\n", &deep];
    for bytes in lines {
        let files: [(&str, &[u8]); 2] = [("a.jsonl", bytes), ("b.jsonl", b"{\"text\": \"b\"}\n")];
        refused("broken JSON lines", &files, "a.jsonl", &jsonl);
    }
    refused("text that is no UTF-8", &[("a.txt", b"a\xffb"), ("b.txt", b"b")], "a.txt", &|path| DataPlan::Text {
        path,
    });
}

fn bundles(cases: &mut Cases) {
    let yaml = b"icl_tasks:\n-\n  label: t\n  dataset_uri: a.jsonl\n  num_fewshot: [0]\n  icl_task_type: schema\n";
    let line = b"{\"context_options\": [\"a\", \"b\"], \"continuation\": \"c\", \"gold\": 0}\n";
    let csv = b"Eval Task,Random baseline\nt,50\n";
    let names = ["core.yaml", "eval_meta_data.csv", "eval_data/a.jsonl"];
    let sound: [&[u8]; 3] = [yaml, csv, line];
    let files: Vec<(&str, &[u8])> = names.into_iter().zip(sound).collect();
    Bundle::open(&cases.files(&files), None, OnCoreError::Stop).expect("the sound one");
    cases.count += 1;
    for name in names {
        let without: Vec<(&str, &[u8])> = files.iter().filter(|(other, _)| *other != name).copied().collect();
        let place = name.rsplit('/').next().unwrap();
        let folder = cases.files(&without);
        cases.refused("a missing file", place, || Bundle::open(&folder, None, OnCoreError::Stop));
        for bytes in [b"\xff\xff".as_slice(), b"[[[[", b"\0"] {
            let folder = cases.files(&[without.as_slice(), &[(name, bytes)]].concat());
            cases.refused("garbage", place, || Bundle::open(&folder, None, OnCoreError::Stop));
        }
    }
}

/// Descriptions of models that say what can't be, beside sound weights and the other way round.
fn models(cases: &mut Cases) {
    let meta: Value = serde_json::from_slice(&fixture("parity/checkpoint/meta_000016.json")).unwrap();
    let weights = fixture("parity/checkpoint/model_000016.pt");
    let sound = meta["model_config"].clone();
    let lies = [
        ("n_layer", json!(1_000_000_000_000_000u64)),
        ("vocab_size", json!(u64::MAX)),
        ("n_embd", json!(0)),
        ("n_embd", json!(1u64 << 40)),
        ("n_head", json!(-1)),
        ("n_head", json!(u64::MAX)),
        ("n_layer", json!(999)),
        ("sequence_len", json!("long")),
        ("window_pattern", json!("")),
        ("n_kv_head", Value::Null),
    ];
    let mut exported = std::collections::HashMap::new();
    exported
        .insert("lm_head.weight", candle_core::Tensor::zeros((8, 4), candle_core::DType::F32, &Device::Cpu).unwrap());
    let stored = cases.folder.path().join("model.safetensors");
    candle_core::safetensors::save(&exported, &stored).unwrap();
    let stored = std::fs::read(stored).unwrap();
    for (key, value) in lies {
        let mut config = sound.clone();
        config[key] = value;
        let mut meta = meta.clone();
        meta["model_config"] = config.clone();
        let (meta, config) = (meta.to_string(), config.to_string());
        let folder = cases.files(&[("meta_000016.json", meta.as_bytes()), ("model_000016.pt", &weights)]);
        cases.refused(key, "_000016.", || Trained::open(&folder, None, None, &Device::Cpu));
        let folder = cases.files(&[("config.json", config.as_bytes()), ("model.safetensors", &stored)]);
        cases.refused(key, &folder.display().to_string(), || Trained::open(&folder, None, None, &Device::Cpu));
    }
    let config = sound.to_string();
    for cut in cuts(&stored, 6).chain([[0xff; 64].as_slice()]) {
        let folder = cases.files(&[("config.json", config.as_bytes()), ("model.safetensors", cut)]);
        cases.refused("cut weights", "model.safetensors", || Trained::open(&folder, None, None, &Device::Cpu));
    }
    let folder = cases.files(&[
        ("config.json", config.as_bytes()),
        ("export.json", b"{\"schema\": 1}"),
        ("model.safetensors", &stored),
    ]);
    cases.refused("a record of another kind", "export.json", || Trained::open(&folder, None, None, &Device::Cpu));
}

/// All of it, in a process whose memory is watched.
#[test]
#[ignore = "only means something alone in its process"]
fn alone_in_its_process() {
    let mut cases = Cases { folder: tempfile::tempdir().unwrap(), count: 0 };
    for kind in [torch_files, tokenizers, checkpoints, texts, bundles, models] {
        kind(&mut cases);
    }
    println!("cases: {}; peak: {}", cases.count, nanochat::device::memory::peak_resident_bytes());
}

#[test]
fn a_hundred_malformed_inputs_are_refused_within_bounds() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["malformed::alone_in_its_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{text}\n{}", String::from_utf8_lossy(&child.stderr));
    let figures = text.lines().find_map(|line| line.split_once("cases: ")?.1.split_once("; peak: "));
    let (count, peak) = figures.unwrap_or_else(|| panic!("no figures in {text}"));
    assert!(count.parse::<usize>().unwrap() >= 100, "{count} cases");
    assert!(peak.trim().parse::<u64>().unwrap() < MOST_MEMORY, "{peak} bytes at the peak");
}
