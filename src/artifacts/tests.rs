//! Round trips, refusals and determinism of documents, tables and names.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

fn summary() -> Summary {
    Summary {
        schema: "nanochat.summary/v1".into(),
        run_id: "d4-s42-0123abcd".into(),
        plan_hash: "0".repeat(64),
        status: RunStatus::Finished,
        reason: None,
        steps: 20,
        tokens: 20 * 1024,
        final_val_bpb: Some(1.25),
        min_val_bpb: Some(0.1 + 0.2),
        core_metric: None,
        train_loss: Some(1e-7),
        tokens_per_second: Some(12_345.678_9),
        training_seconds: 2.0,
        elapsed_seconds: 3.5,
        startup_seconds: None,
        peak_rss_bytes: u64::MAX,
        peak_device_bytes: None,
        weights_sha256: Some("a".repeat(64)),
        initial_weights_sha256: None,
        loss_trace_sha256: None,
        data_sha256: "b".repeat(64),
        tokenizer_sha256: "c".repeat(64),
        bundle_sha256: None,
        first_batch_sha256: None,
        files_sha256: BTreeMap::from([("steps.parquet".into(), "d".repeat(64))]),
        rollbacks: Vec::new(),
        adopted_steps: 0,
        continued_from: Vec::new(),
        arm: None,
    }
}

fn steps(count: u64) -> Vec<StepRow> {
    (0..count)
        .map(|step| StepRow {
            step,
            tokens: (step + 1) * 1024,
            loss: 5.0 / (step as f64 + 1.3),
            lr_multiplier: 1.0,
            muon_momentum: 0.85 + step as f64 * 1e-3,
            muon_weight_decay: 0.2,
            seconds: 0.1 + step as f64 * 1e-4,
            rss_bytes: 1 << 30,
        })
        .collect()
}

#[test]
fn documents_come_back_equal() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("deep/er/summary.json");
    write_document(&path, &summary()).expect("written");
    assert_eq!(read_document::<Summary>(&path).expect("read"), summary());
    let left: Vec<_> = std::fs::read_dir(path.parent().expect("parent")).expect("listed").collect();
    assert_eq!(left.len(), 1, "no temporary file stays behind");
}

#[test]
fn json_is_canonical() {
    #[derive(serde::Serialize)]
    struct Example {
        zebra: u128,
        apple: Vec<(u64, f64)>,
        middle: Option<i64>,
        nothing: BTreeMap<String, String>,
        text: &'static str,
        negative: i64,
    }
    let example = Example {
        zebra: 2_490_368_000_000_000_000_000,
        apple: vec![(1, 0.1), (2, 1e21), (3, 100.0)],
        middle: None,
        nothing: BTreeMap::new(),
        text: "a \"quoted\"\nline \u{7}",
        negative: -7,
    };
    let expected = r#"{
  "apple": [
    [
      1,
      0.1
    ],
    [
      2,
      1e+21
    ],
    [
      3,
      100.0
    ]
  ],
  "middle": null,
  "negative": -7,
  "nothing": {},
  "text": "a \"quoted\"\nline \u0007",
  "zebra": 2490368000000000000000
}
"#;
    let text = canonical_json(Path::new("x.json"), &example).expect("written");
    assert_eq!(text, expected);
    serde_json::from_str::<serde_json::Value>(&text).expect("other readers take it");
}

#[test]
fn numbers_that_json_lacks_are_named() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("summary.json");
        let document = Summary { train_loss: Some(value), ..summary() };
        let error = write_document(&path, &document).expect_err("refused");
        assert!(error.to_string().contains("`train_loss`"), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn broken_documents_are_blamed_with_their_place() {
    let good = canonical_json(Path::new("s.json"), &summary()).expect("text");
    let cases = [
        (good.replace("\"steps\": 20", "\"steps\": -20"), "line ", "invalid value"),
        (good.replace("\"steps\": 20,", ""), "line ", "missing field `steps`"),
        (good.replace("\"steps\": 20", "\"step\": 20"), "line ", "unknown field `step`"),
        (good.replace("\"steps\": 20", "\"steps\": 20, \"steps\": 20"), "line ", "duplicate field `steps`"),
        (good.replace("summary/v1", "plan/v1"), "expected `nanochat.summary/v1`", "a `nanochat.plan/v1` document"),
        (good.replace("\"schema\"", "\"schemata\""), "expected `nanochat.summary/v1`", "without a `schema`"),
        (good[..good.len() / 2].to_string(), "line ", "EOF"),
        (format!("{good} trailing"), "line ", "trailing characters"),
        (String::new(), "line 1", "EOF"),
    ];
    for (text, place, what) in cases {
        let error = parse_document::<Summary>(Path::new("s.json"), text.as_bytes()).expect_err("refused").to_string();
        assert!(error.contains(place) && error.contains(what) && error.contains("s.json"), "{error}");
    }
}

#[test]
fn tables_come_back_equal_and_byte_identical() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
    for count in [0, 1, 3000] {
        write_steps(&first, &steps(count)).expect("written");
        write_steps(&second, &steps(count)).expect("written");
        assert_eq!(read_steps(&first).expect("read"), steps(count));
        assert_eq!(file_sha256(&first).expect("hash"), file_sha256(&second).expect("hash"));
    }
    let eval = |step, val_bpb| EvalRow {
        step,
        tokens: step * 10,
        val_bpb,
        core_metric: None,
        training_seconds: 1.5,
        eval_seconds: 0.25,
        rss_bytes: Some(1 << 30),
    };
    let evals = vec![eval(0, Some(3.0)), eval(5, None)];
    write_evals(&first, &evals).expect("written");
    assert_eq!(read_evals(&first).expect("read"), evals);
    assert!(read_steps(&first).expect_err("wrong columns").to_string().contains("no column `loss`"));
    std::fs::write(&first, b"PAR1 no more").expect("written");
    assert!(matches!(read_steps(&first), Err(ArtifactError::Table { .. })));
}

#[test]
fn throughput_leaves_warm_up_out() {
    let mut rows = steps(14);
    rows.iter_mut().for_each(|row| row.seconds = if row.step <= LAST_WARMUP_STEP { 9.0 } else { row.step as f64 });
    assert_eq!(median_tokens_per_second(&rows, 1200), Some(100.0), "steps 11, 12, 13: the middle one took 12 s");
    assert_eq!(training_seconds(&rows), 36.0);
    assert_eq!(steady_steps(&rows[..5]).len(), 4, "short runs leave the first step out");
    assert_eq!(steady_steps(&rows[..1]).len(), 1);
    assert_eq!(median_tokens_per_second(&[], 1200), None);
}

#[test]
fn names_stay_inside_their_folder() {
    let root = ResultsRoot::new("/project");
    for name in ["d20-matched", "a.b_c-1", "9lives", "console"] {
        assert!(root.experiment(name).is_ok(), "{name}");
    }
    let long = "x".repeat(crate::MAX_NAME_BYTES + 1);
    let bad = [
        "", ".", "..", "../up", "a/b", "a\\b", ".hidden", "-rf", "a b", "nul", "COM1.txt", "dot.", "é", "a\0b", "a\nb",
        &long,
    ];
    for name in bad {
        assert!(root.experiment(name).is_err(), "{name:?}");
        assert!(ExperimentFolder::at("/x").run(name).is_err(), "{name:?}");
        assert!(root.baseline("92d63d4e8bb4df75c3b71618f31ddde2378b2bcd", name).is_err(), "{name:?}");
    }
    let commit = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd";
    let baseline = root.baseline(commit, "d20").expect("fine");
    assert_eq!(baseline, Path::new("/project/results/baselines/92d63d4e8bb4/d20.json"));
    assert_eq!(root.report_html("x").expect("fine"), Path::new("/project/reports/x.html"));
}

#[test]
fn atomic_writing_replaces_or_leaves_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file");
    write_atomic(&path, b"old").expect("written");
    write_atomic(&path, b"new").expect("replaced");
    assert_eq!(std::fs::read(&path).expect("read"), b"new");
    let under_a_file = path.join("child");
    let error = write_atomic(&under_a_file, b"x").expect_err("a file stands in the way");
    assert!(error.to_string().contains("create the folder"), "{error}");
    assert_eq!(std::fs::read(&path).expect("read"), b"new");
}

/// A file of a few kilobytes that stands for rows without number, by its description or by the heads of its pages.
#[test]
fn tables_that_claim_more_than_their_length_can_hold_are_refused() {
    use polars_parquet_format::thrift::protocol::{TCompactInputProtocol, TCompactOutputProtocol};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("steps.parquet");
    let row = steps(1).remove(0);
    write_steps(&path, &vec![row.clone(); 300_000]).expect("written");
    let honest = std::fs::read(&path).expect("read");
    assert!(honest.len() < 60_000, "{} bytes", honest.len());
    let refused = |what: &str| {
        let error = read_steps(&path).expect_err(what).to_string();
        assert!(error.contains("stand for more than"), "{what}: {error}");
    };
    refused("as it says itself");

    let (body, footer) = honest.split_at(honest.len() - 8);
    let length = u32::from_le_bytes(footer[..4].try_into().expect("four bytes")) as usize;
    let (body, description) = body.split_at(body.len() - length);
    let mut protocol = TCompactInputProtocol::new(description, 1 << 20);
    let mut said = polars_parquet_format::FileMetaData::read_from_in_protocol(&mut protocol).expect("a description");
    said.num_rows = 4;
    for group in &mut said.row_groups {
        group.num_rows = 4;
        group
            .columns
            .iter_mut()
            .filter_map(|column| column.meta_data.as_mut())
            .for_each(|column| column.num_values = 4);
    }
    let mut lying = body.to_vec();
    let mut out = TCompactOutputProtocol::new(&mut lying);
    let written = said.write_to_out_protocol(&mut out).expect("written") as u32;
    lying.extend(written.to_le_bytes());
    lying.extend(b"PAR1");
    std::fs::write(&path, lying).expect("written");
    refused("though it says four rows");

    write_steps(&path, &vec![row; 8000]).expect("written");
    assert_eq!(read_steps(&path).expect("a run of equal steps is no trap").len(), 8000);
}

#[test]
fn a_run_counts_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scorecard/project/results/judged");
    let text = std::fs::read_to_string(project.join("experiment.json")).expect("read");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let runs = record["runs"].as_array_mut().expect("runs");
    runs.push(runs[0].clone());
    let path = folder.path().join("experiment.json");
    std::fs::write(&path, record.to_string()).expect("written");
    let error = read_document::<ExperimentRecord>(&path).expect_err("a run named twice").to_string();
    assert!(error.contains("is named twice"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_are_not_followed_and_what_is_read_is_bounded() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("secret"), "secret").expect("written");
    symlink(at("secret"), at("link")).expect("a link");
    symlink("/dev/zero", at("endless")).expect("a link");
    symlink(at("absent"), at("dangling")).expect("a link");
    for name in ["link", "endless", "dangling"] {
        for opened in [files::open(&at(name)), files::open_or_create(&at(name)), files::append(&at(name))] {
            assert!(opened.expect_err(name).to_string().contains("it is a link"), "{name}");
        }
    }
    assert!(!at("absent").exists() && std::fs::read(at("secret")).expect("read") == b"secret");
    assert!(files::read_named(&at("endless"), 10).expect_err("a device").to_string().contains("no regular file"));
    assert!(
        files::read_named(Path::new("/proc/self/status"), 10)
            .expect_err("long")
            .to_string()
            .contains("more than the 10")
    );
    assert!(files::read(&at("secret"), 5).expect_err("long").to_string().contains("6 bytes, more than the 5"));
    assert_eq!(files::read_named(&at("link"), 6).expect("the user named it"), b"secret");
    let pipe = std::process::Command::new("mkfifo").arg(at("pipe")).status();
    assert!(pipe.is_ok_and(|status| status.success()) && files::read(&at("pipe"), 10).is_err(), "a pipe is no file");

    std::fs::create_dir_all(at("real/inner")).expect("made");
    symlink(at("real"), at("results")).expect("a link");
    let error = files::beneath(folder.path(), "results/inner").expect_err("a link").to_string();
    assert!(error.contains("results`") && error.contains("it is a link"), "{error}");
    for outside in ["../x", "/etc/passwd", "real/../../x"] {
        assert!(files::beneath(folder.path(), outside).is_err(), "{outside}");
    }
    assert_eq!(files::beneath(folder.path(), "./real/new").expect("inside"), at("real").join("new"));
    assert!(ResultsRoot::new(folder.path()).experiment("inner").is_err());

    assert!(files::remove_flat_folder(&at("real")).is_err() && at("real/inner").exists(), "it holds a folder");
    assert!(files::remove_flat_folder(&at("results")).is_err() && at("real").exists(), "it is a link");
}
