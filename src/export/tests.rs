//! Exports read back, targets that are in the way, weights that don't fit, damage that is noticed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::testing::{random_model, shape};
use nanochat_engine::checkpoint::{load_tensors, tensors_sha256};
use nanochat_engine::tokenizer::{SPECIAL_TOKENS, Tokenizer};
use nanochat_plan::ModelShape;

/// A vocabulary of all bytes, some pairs, and the special tokens.
pub(super) const VOCABULARY: usize = 256 + 31 + SPECIAL_TOKENS.len();

/// Full attention, windows with grouped queries, an odd depth; every parameter random, none zero.
pub(super) fn shapes() -> [ModelShape; 3] {
    [
        shape(32, VOCABULARY, 4, (2, 2), 32, "L"),
        shape(160, VOCABULARY, 4, (4, 2), 48, "SSL"),
        shape(24, VOCABULARY, 3, (3, 1), 36, "SL"),
    ]
}

pub(super) fn trained(shape: &ModelShape) -> Trained {
    let pairs = (0..31u8).map(|number| vec![b'a', b'a' + number % 26 + number / 26 * 128]);
    let ranks: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).chain(pairs).collect();
    Trained {
        model: random_model(shape, 11),
        tokenizer: Arc::new(Tokenizer::from_ranks(ranks).unwrap()),
        step: 42,
        path: "nowhere".into(),
        plan: None,
        remarks: Vec::new(),
    }
}

pub(super) fn options(layout: ExportLayout, weights: ExportType) -> ExportOptions {
    ExportOptions { layout, weights, external_above: LARGEST_MESSAGE, program_commit: None }
}

fn names(document: &Export) -> Vec<&str> {
    document.files.keys().map(String::as_str).collect()
}

#[test]
fn safetensors_hold_the_model_and_open_as_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    for (number, shape) in shapes().iter().enumerate() {
        let (trained, out) = (trained(shape), folder.path().join(format!("{number}")));
        let document = export(&trained, &options(ExportLayout::Safetensors, ExportType::F32), &out).unwrap();
        assert_eq!(
            names(&document),
            [
                "README.md",
                "config.json",
                "expected.safetensors",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json"
            ]
        );
        let back = Trained::open(&out, Some(42), None, &Device::Cpu).unwrap();
        assert_eq!((back.step, back.model.shape()), (42, shape));
        assert_eq!(tensors_sha256(back.model.parameters()).unwrap(), document.source.weights_sha256);
        assert_eq!(back.tokenizer.sha256(), document.source.tokenizer_sha256);
        assert_eq!(document.checks[0].max_abs, 0.0);
        let other = Trained::open(&out, Some(41), None, &Device::Cpu).unwrap_err();
        assert!(other.to_string().contains("of step 42, not of 41"), "{other}");
        for (name, file) in &document.files {
            assert_eq!(nanochat_artifacts::file_sha256(&out.join(name)).unwrap(), file.sha256, "{name}");
        }
    }
}

#[test]
fn matrices_are_rounded_and_scalars_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let trained = trained(&shapes()[0]);
    for (weights, dtype, units) in [(ExportType::F16, DType::F16, 11), (ExportType::Bf16, DType::BF16, 8)] {
        let out = folder.path().join(weights.word());
        let document = export(&trained, &options(ExportLayout::Safetensors, weights), &out).unwrap();
        let stored = load_tensors(&out.join("model.safetensors"), &Device::Cpu).unwrap();
        for (name, tensor) in &stored {
            assert_eq!(tensor.dtype(), if tensor.rank() == 2 { dtype } else { DType::F32 }, "{name}");
        }
        let told = document.checks.iter().find(|check| check.bound.is_none()).unwrap();
        // Some hundred roundings of 2^-units add up in the logits, which are capped at 15.
        assert!(told.max_abs > 0.0 && told.max_abs < 15.0 * 100.0 * 2f64.powi(-units), "{told:?}");
    }
    let mut large = random_model(&shapes()[0], 12);
    let head = Tensor::full(7e4f32, large.parameters()["lm_head.weight"].dims(), &Device::Cpu).unwrap();
    large.parameters_mut().insert("lm_head.weight".into(), head);
    let out = folder.path().join("large");
    let trained = Trained { model: large, ..trained };
    let refused = export(&trained, &options(ExportLayout::Safetensors, ExportType::F16), &out).unwrap_err();
    assert!(refused.to_string().contains("lm_head.weight holds numbers beyond the range of f16"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left of it");
}

#[test]
fn the_baselines_layout_reads_back_with_its_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    for (number, shape) in shapes().iter().enumerate() {
        let (trained, out) = (trained(shape), folder.path().join(format!("{number}")));
        let document = export(&trained, &options(ExportLayout::Baseline, ExportType::F32), &out).unwrap();
        let tag = format!("base_checkpoints/d{}", shape.n_layer);
        let [meta, model] = ["meta_000042.json", "model_000042.pt"].map(|name| format!("{tag}/{name}"));
        assert_eq!(
            names(&document),
            ["README.md", &meta, &model, "expected.safetensors", "tokenizer/token_bytes.pt", "tokenizer/tokenizer.pkl"]
        );
        let back = Trained::open(&out.join(&tag), None, None, &Device::Cpu).unwrap();
        assert_eq!((back.step, back.model.shape(), back.remarks.len()), (42, shape, 0));
        assert_eq!(tensors_sha256(back.model.parameters()).unwrap(), document.source.weights_sha256);
        assert_eq!(back.tokenizer.sha256(), trained.tokenizer.sha256());
        assert!(document.remarks[0].contains("optimizer state"), "what it can't do is said");
        let refused = export(&trained, &options(ExportLayout::Baseline, ExportType::Bf16), &out).unwrap_err();
        assert!(refused.to_string().contains("master weights in f32"), "{refused}");
    }
}

#[test]
fn an_earlier_export_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let trained = trained(&shapes()[2]);
    let write = |layout: ExportLayout, out: &Path| export(&trained, &options(layout, ExportType::F32), out);
    let refused = |out: &Path, reason: &str| {
        let error = write(ExportLayout::Safetensors, out).unwrap_err();
        assert!(matches!(error, ExportError::Occupied { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    // An empty folder will do, and folders above that aren't there yet.
    let out = folder.path().join("a/b/c");
    fs::create_dir_all(&out).unwrap();
    write(ExportLayout::Safetensors, &out).unwrap();
    write(ExportLayout::Baseline, &out).unwrap();
    assert!(!out.join("model.safetensors").exists() && out.join("tokenizer/tokenizer.pkl").exists());
    write(ExportLayout::Safetensors, &folder.path().join("x/y")).unwrap();

    fs::write(out.join("tokenizer/mine.txt"), "mine").unwrap();
    refused(&out, "`tokenizer/mine.txt` in it is not of the earlier export");
    assert_eq!(fs::read_to_string(out.join("tokenizer/mine.txt")).unwrap(), "mine");
    assert!(out.join("tokenizer/tokenizer.pkl").exists(), "the earlier export is whole");
    let notes = folder.path().join("notes");
    fs::create_dir(&notes).unwrap();
    fs::write(notes.join("mine.txt"), "mine").unwrap();
    refused(&notes, "no export.json of an earlier export");
    fs::write(notes.join("export.json"), "{}").unwrap();
    refused(&notes, "expected `nanochat.export/v1`");
    refused(&notes.join("mine.txt"), "it is no folder");
    fs::create_dir_all(folder.path().join("hollow/inner")).unwrap();
    refused(&folder.path().join("hollow"), "folders that are not an export's");
    refused(Path::new("/"), "no name of its own");
    refused(Path::new(".."), "no name of its own");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&out, folder.path().join("link")).unwrap();
        refused(&folder.path().join("link"), "it is no folder");
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("tmp")), "{left:?}");
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let trained = trained(&shapes()[2]);
    let options = options(ExportLayout::Safetensors, ExportType::F32);
    let below = export(&trained, &options, &file.join("below")).unwrap_err();
    assert!(below.to_string().contains("create the folder"), "{below}");
    let nowhere = export(&trained, &options, Path::new("/proc/nanochat-export")).unwrap_err();
    assert!(nowhere.to_string().contains("/proc"), "{nowhere}");
}

#[test]
fn a_differing_export_is_not_put_in_place() {
    let shape = &shapes()[0];
    let (probe, one, other) = (compare::Probe::new(shape).unwrap(), random_model(shape, 1), random_model(shape, 2));
    let [one, other] = [one, other].map(|model| probe.logits(&model).unwrap());
    let same = compare::compare("f", "q", &one, &one, Some(0.0)).unwrap();
    let differing = compare::compare("f", "q", &one, &other, Some(1e-4)).unwrap();
    assert!(judge(std::slice::from_ref(&same)).is_ok());
    let error = judge(&[same, differing]).unwrap_err();
    assert!(matches!(error, ExportError::Differs { .. }), "{error}");
    let broken = (&one * f64::NAN).unwrap();
    assert!(judge(&[compare::compare("f", "q", &one, &broken, Some(1e-4)).unwrap()]).is_err(), "NaN is no agreement");
    assert!(judge(&[compare::compare("f", "q", &one, &other, None).unwrap()]).is_ok(), "what is told is not judged");
}
