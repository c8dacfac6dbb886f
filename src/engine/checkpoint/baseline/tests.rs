//! The baseline's own checkpoints read as they were written, and come back through a round trip.

use std::fs;
use std::path::{Path, PathBuf};

use nanochat_formats::FormatError;

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

/// Old checkpoints, and those of compiled models in bf16, are mended as the baseline's own loader mends them.
#[test]
fn old_and_compiled_checkpoints_are_mended() {
    let folder = tempfile::tempdir().unwrap();
    let meta = serde_json::json!({ "model_config": { "n_layer": 3, "n_embd": 24 } });
    fs::write(folder.path().join("meta_000007.json"), meta.to_string()).unwrap();
    let half = Tensor::new(&[1.5f32, -2.0], &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
    let named = (TorchValue::Text("_orig_mod.lm_head.weight".into()), TorchValue::Tensor(half));
    write_torch_file(&folder.path().join("model_000007.pt"), &TorchValue::Dict(vec![named])).unwrap();
    let loaded = load(folder.path(), None, &Device::Cpu).unwrap();
    let values = |name: &str| loaded.weights[name].to_vec1::<f32>().unwrap();
    assert_eq!(values("lm_head.weight"), [1.5, -2.0]);
    assert_eq!((values("resid_lambdas"), values("x0_lambdas")), (vec![1.0; 3], vec![0.0; 3]));
    assert_eq!((loaded.model_config["window_pattern"].as_str(), loaded.mended.len()), (Some("L"), 3));
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
    // An existing file is never overwritten.
    let twice = save(folder.path(), 16, &loaded.weights, &loaded.meta).unwrap_err();
    assert!(matches!(twice, CheckpointError::Format(FormatError::Io { action: "create", .. })), "{twice}");

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
