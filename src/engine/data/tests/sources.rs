//! Every source, whole and broken.

use std::path::Path;

use crate::data::{Corpus, DataError, ShardFormat, Split, detect, write_shards};
use nanochat_plan::DataPlan;

fn synthetic(bytes: u64) -> Corpus {
    Corpus::open(&DataPlan::Synthetic { seed: 5, bytes }, Path::new("")).unwrap()
}

fn open(path: &Path) -> Result<Corpus, DataError> {
    Corpus::open(&detect(&path.display().to_string(), "text", Path::new(""))?, Path::new(""))
}

fn texts(corpus: &Corpus, split: Split) -> Vec<String> {
    corpus.documents(split).collect::<Result<_, _>>().unwrap()
}

#[test]
fn parquet_and_json_lines_read_back_the_same_corpus() {
    let corpus = synthetic(1_000_000);
    assert!(corpus.shards(Split::Train).len() > 1);
    for format in [ShardFormat::Parquet, ShardFormat::Jsonl] {
        let folder = tempfile::tempdir().unwrap();
        let written = write_shards(&corpus, folder.path(), format).unwrap();
        assert_eq!(written.len(), corpus.shards(Split::Train).len() + 1);
        let read = open(folder.path()).unwrap();
        assert_eq!(read.sha256().unwrap(), corpus.sha256().unwrap(), "{format:?}");
        for split in [Split::Train, Split::Validation] {
            let sizes = |corpus: &Corpus| -> Vec<Vec<usize>> {
                corpus.shards(split).iter().map(|shard| shard.group_sizes().to_vec()).collect()
            };
            assert_eq!(sizes(&read), sizes(&corpus));
            assert_eq!(read.size(split).unwrap(), corpus.size(split).unwrap());
        }
        let again = write_shards(&corpus, folder.path(), format);
        assert!(matches!(again, Err(DataError::Occupied { .. })));
    }
}

#[test]
fn one_file_is_parted_nine_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.txt");
    let paragraphs: Vec<String> = (0..301).map(|i| format!("paragraph {i}\r\nof two lines, ä")).collect();
    std::fs::write(&file, format!("\n \n{}\n", paragraphs.join("\n\n\t\n"))).unwrap();
    let corpus = open(&file).unwrap();
    assert_eq!(texts(&corpus, Split::Train), paragraphs[..270]);
    assert_eq!(texts(&corpus, Split::Validation), paragraphs[270..]);
    assert_eq!(corpus.shards(Split::Train)[0].group_sizes(), [128, 128, 14]);
    // A folder with this one file is the same corpus.
    assert_eq!(open(folder.path()).unwrap().sha256().unwrap(), corpus.sha256().unwrap());
}

#[test]
fn several_files_are_shards_and_the_last_is_validation() {
    let folder = tempfile::tempdir().unwrap();
    for (name, lines) in
        [("b.jsonl", "{\"text\": \"3\"}\n"), ("a.jsonl", "{\"id\": [1], \"text\": \"1\"}\n\n{\"text\":\"\\u00e4\"}")]
    {
        std::fs::write(folder.path().join(name), lines).unwrap();
    }
    std::fs::write(folder.path().join("c.jsonl.tmp"), "unfinished").unwrap();
    let corpus = open(folder.path()).unwrap();
    assert_eq!(texts(&corpus, Split::Train), ["1", "ä"]);
    assert_eq!(texts(&corpus, Split::Validation), ["3"]);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut writer, text).unwrap();
    writer.finish().unwrap()
}

/// Groups are read in any order, a file goes back to its beginning where need be, and two streams in one file are one text.
#[test]
fn compressed_json_lines_are_the_same_documents() {
    let folder = tempfile::tempdir().unwrap();
    let lines = |first: usize, end: usize| -> String {
        (first..end).map(|number| format!("{{\"text\": \"document {number} ä\"}}\n\n")).collect()
    };
    let (one, two, last) = (lines(0, 300), lines(300, 700), lines(700, 720));
    let plain = folder.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    std::fs::write(plain.join("a.jsonl"), [one.as_str(), &two].concat()).unwrap();
    std::fs::write(plain.join("b.jsonl"), &last).unwrap();
    let plain = open(&plain).unwrap();
    let packed = folder.path().join("packed");
    std::fs::create_dir(&packed).unwrap();
    std::fs::write(packed.join("a.jsonl.gz"), [gzip(one.as_bytes()), gzip(two.as_bytes())].concat()).unwrap();
    std::fs::write(packed.join("b.jsonl.zst"), zstd::encode_all(last.as_bytes(), 3).unwrap()).unwrap();
    let packed = open(&packed).unwrap();
    assert_eq!(packed.sha256().unwrap(), plain.sha256().unwrap());
    let shard = &packed.shards(Split::Train)[0];
    for group in [5, 0, 3, 4, 1, 1] {
        let expected = plain.shards(Split::Train)[0].read_group(group).unwrap();
        assert_eq!(shard.read_group(group).unwrap(), expected, "group {group}");
    }
}

#[test]
fn compressed_shards_that_are_cut_off_or_bombs_are_named() {
    let sound: &[u8] = b"{\"text\": \"x\"}\n";
    let varied: Vec<u8> = (0..2000u32)
        .flat_map(|number| format!("{{\"text\": \"{}\"}}\n", number.wrapping_mul(2654435761)).into_bytes())
        .collect();
    let cut = gzip(&varied);
    let cut = &cut[..cut.len() / 2];
    let zstd_cut = zstd::encode_all(&varied[..], 3).unwrap();
    let zstd_cut = &zstd_cut[..zstd_cut.len() / 2];
    let blanks = zstd::encode_all(&vec![b' '; 50_000_000][..], 19).unwrap();
    let padded = [gzip(sound), vec![0; 512]].concat();
    let cases: [(&str, &[u8], &str); 5] = [
        ("a.jsonl.gz", &padded, "it ends in zeros"),
        ("a.jsonl.gz", cut, "can't be decompressed"),
        ("a.jsonl.zst", zstd_cut, "can't be decompressed"),
        ("a.jsonl.gz", sound, "can't be decompressed"),
        ("a.jsonl.zst", &blanks, "stand for more than 1024 times as many"),
    ];
    for (name, bytes, expected) in cases {
        let message = error(&[(name, bytes), ("b.jsonl", sound)]);
        assert!(message.contains(name) && message.contains(expected), "{message}");
    }
}

/// Opens a folder with these files (and a sound second shard, unless `alone`) and gives the error with the folder's path
/// taken out.
fn error(files: &[(&str, &[u8])]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let read = open(folder.path()).and_then(|corpus| corpus.sha256());
    read.unwrap_err().to_string().replace(&folder.path().display().to_string(), "DATA")
}

#[test]
fn faults_are_named_with_file_and_place() {
    let sound: &[u8] = b"{\"text\": \"x\"}\n";
    let cases: [(&[(&str, &[u8])], &str); 16] = [
        (&[], "DATA: can't tell the kind of data, there are no files"),
        (
            &[("a.jsonl", sound), ("b.jsonl", sound), ("b.txt", b"x")],
            "DATA: can't tell the kind of data, there are a.jsonl, b.txt and 1 more",
        ),
        (&[("a.json", b"[]"), ("b.txt.gz", b"x")], "DATA: can't tell the kind of data, there are a.json, b.txt.gz"),
        (
            &[("a.jsonl", b"{\"text\": \"x\"}\n\xef\xbb\xbf{\"text\": \"y\"}\n"), ("b.jsonl", sound)],
            "DATA/a.jsonl, line 2: a byte order mark",
        ),
        (
            &[("a.jsonl", b"{\n  \"text\": \"x\"\n}\n"), ("b.jsonl", sound)],
            "DATA/a.jsonl, line 1: the object doesn't end",
        ),
        (
            &[("a.parquet", b"Too Many Requests"), ("b.parquet", b"")],
            "DATA/a.parquet: this is text, which begins `Too Many Requests`",
        ),
        (
            &[("a.parquet", b"\xef\xbb\xbf<!-- x --><html>"), ("b.parquet", b"")],
            "DATA/a.parquet: this is text, which begins",
        ),
        (&[("a.jsonl", sound)], "DATA: the train split has no documents"),
        (&[("a.jsonl", sound), ("b.jsonl", b"")], "DATA: the validation split has no documents"),
        (
            &[("a.jsonl", b"{\"text\": \"x\"}\n\n{\"txt\": 1}\n"), ("b.jsonl", sound)],
            "DATA/a.jsonl, line 3: no field `text`",
        ),
        (
            &[("a.jsonl", b"{\"text\": 1}"), ("b.jsonl", sound)],
            "DATA/a.jsonl, line 1: invalid type: integer `1`, expected a string",
        ),
        (
            &[("a.jsonl", b"\n[1]"), ("b.jsonl", sound)],
            "DATA/a.jsonl, line 2: a JSON array, expected an object; `jq -c '.[]'` writes one a line",
        ),
        (
            &[("a.jsonl", b"{\"text\": \"x\"} y"), ("b.jsonl", sound)],
            "DATA/a.jsonl, line 1: trailing characters (column 15)",
        ),
        (
            &[("a.jsonl", b"{\"text\": \"x\"}\n{\"text\": \"\xff\"}"), ("b.jsonl", sound)],
            "DATA/a.jsonl: not UTF-8 at byte 24",
        ),
        (&[("a.txt", b"one\n\ntwo \xc3"), ("b.txt", b"x")], "DATA/a.txt: not UTF-8 at byte 9"),
        (&[("a.parquet", b"PAR1"), ("b.parquet", b"")], "DATA/a.parquet: can't be read as parquet; is it cut off"),
    ];
    for (files, expected) in cases {
        let message = error(files);
        assert!(message.starts_with(expected), "{message:?} instead of {expected:?}");
    }
    let missing = open(Path::new("no/such/folder")).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/folder: no such folder or file"), "{missing}");
}

/// A parquet file of one column.
fn parquet(path: &Path, name: &str, column: polars::prelude::Series) {
    use polars::prelude::*;
    use polars_io::prelude::*;
    let column = column.with_name(name.into()).into_column();
    let mut frame = DataFrame::new(column.len(), vec![column]).unwrap();
    ParquetWriter::new(std::fs::File::create(path).unwrap()).finish(&mut frame).unwrap();
}

#[test]
fn faults_of_parquet_shards_are_named() {
    use polars::prelude::*;
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (folder.path().join("shard_0.parquet"), folder.path().join("shard_1.parquet"));
    let message = || {
        let read = open(folder.path()).and_then(|corpus| corpus.sha256());
        read.unwrap_err().to_string().replace(&folder.path().display().to_string(), "DATA")
    };
    parquet(&last, "text", Series::new("".into(), ["x", "y"]));
    assert!(message().starts_with("DATA/shard_1.parquet: only one parquet shard"), "{}", message());
    parquet(&first, "texts", Series::new("".into(), ["x"]));
    assert!(message().starts_with("DATA/shard_0.parquet: no column `text`, only `texts`"), "{}", message());
    parquet(&first, "text", Series::new("".into(), [1i64]));
    assert!(message().starts_with("DATA/shard_0.parquet: column `text` holds i64, expected text"), "{}", message());
    parquet(&first, "text", Series::new("".into(), [Some("x"), None]));
    assert!(message().starts_with("DATA/shard_0.parquet: row 1 of column `text` is null"), "{}", message());
    let whole = std::fs::read(&last).unwrap();
    std::fs::write(&first, &whole[..whole.len() - 9]).unwrap();
    assert!(message().starts_with("DATA/shard_0.parquet: can't be read as parquet; is it cut off"), "{}", message());
}

#[test]
fn damaged_parquet_is_an_error_never_a_panic() {
    use polars::prelude::*;
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (folder.path().join("shard_0.parquet"), folder.path().join("shard_1.parquet"));
    let texts: Vec<String> = (0..200).map(|i| format!("document {i}")).collect();
    parquet(&last, "text", Series::new("".into(), texts));
    let whole = std::fs::read(&last).unwrap();
    for i in 0..400 {
        let mut bytes = whole.clone();
        let at = i * 7919 % bytes.len();
        match i % 3 {
            0 => bytes[at] ^= 1 << (i % 8),
            1 => bytes.truncate(at),
            _ => bytes[at] = 0xFF,
        }
        std::fs::write(&first, &bytes).unwrap();
        // Some flips leave a readable file; what matters is that nothing worse than an error comes of the others.
        let _ = open(folder.path()).and_then(|corpus| corpus.sha256());
    }
}

/// The column is text however the program that wrote it had it in memory, and has the name that the plan says.
#[test]
fn a_text_column_is_read_in_any_form_and_under_any_name() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/data");
    let documents = |form: &str, field: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        for shard in ["shard_0.parquet", "shard_1.parquet"] {
            std::fs::copy(fixtures.join(format!("{form}.parquet")), folder.path().join(shard)).unwrap();
        }
        let path = folder.path().display().to_string();
        let plan = DataPlan::Parquet { path, field: field.map(str::to_owned) };
        Corpus::open(&plan, Path::new("")).and_then(|corpus| Ok((texts(&corpus, Split::Train), corpus.sha256()?)))
    };
    let (plain, sha256) = documents("plain", None).unwrap();
    assert_eq!(plain.len(), 20);
    assert_eq!((plain[1].as_str(), plain[3].as_str()), ("one with “signs” and 漢字", ""));
    for form in ["dictionary", "large_string", "string_view"] {
        assert_eq!(documents(form, None).unwrap(), (plain.clone(), sha256.clone()), "{form}");
    }
    assert_eq!(documents("other_column", Some("content")).unwrap().0, plain);
    let unnamed = documents("other_column", None).unwrap_err().to_string();
    assert!(unnamed.contains("no column `text`, only `content`") && unnamed.contains("data.field"), "{unnamed}");
    let binary = documents("binary", None).unwrap_err().to_string();
    assert!(binary.contains("column `text` holds binary, expected text"), "{binary}");
}

/// A shard of a few kilobytes that stands for gigabytes of text.
#[test]
fn a_shard_that_claims_more_than_its_length_can_hold_is_refused() {
    use polars::prelude::*;
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (folder.path().join("shard_0.parquet"), folder.path().join("shard_1.parquet"));
    parquet(&last, "text", Series::new("".into(), ["x", "y"]));
    let long = "x".repeat(200_000);
    for (what, texts) in [("rows", vec!["x"; 1_000_000]), ("bytes", vec![long.as_str(); 60])] {
        parquet(&first, "text", Series::new("".into(), texts));
        let length = std::fs::metadata(&first).unwrap().len();
        assert!(length < 16_000, "{what}: {length} bytes");
        let error = open(folder.path()).and_then(|corpus| corpus.sha256()).unwrap_err().to_string();
        assert!(error.contains("shard_0.parquet") && error.contains("stand for more than"), "{what}: {error}");
    }
}

/// Every group is read by a description of its own: the work grows with the number of groups, not with its square.
#[test]
fn many_row_groups_are_read_one_by_one() {
    use polars::prelude::*;
    use polars_io::prelude::*;
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..4_000).map(|number| format!("document {number}")).collect();
    for shard in ["a.parquet", "b.parquet"] {
        let mut frame = DataFrame::new(texts.len(), vec![Series::new("text".into(), &texts).into_column()]).unwrap();
        let file = std::fs::File::create(folder.path().join(shard)).unwrap();
        ParquetWriter::new(file).with_row_group_size(Some(2)).finish(&mut frame).unwrap();
    }
    let corpus = Corpus::open(&DataPlan::parquet(folder.path().display().to_string()), Path::new("")).unwrap();
    assert!(corpus.shards(Split::Train)[0].group_sizes().len() >= 1_000);
    let started = std::time::Instant::now();
    let read: Vec<String> = corpus.documents(Split::Train).collect::<Result<_, _>>().unwrap();
    assert_eq!(read, texts);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());

    // A file that takes its place between two reads is told, or read as it is now when it has the same form.
    let place = folder.path().join("a.parquet");
    let replaced = std::fs::read(folder.path().join("b.parquet")).unwrap();
    std::fs::write(&place, replaced).unwrap();
    std::fs::File::options().append(true).open(&place).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(corpus.shards(Split::Train)[0].read_group(0).unwrap(), texts[..2]);
    parquet(&place, "text", Series::new("".into(), ["x", "y"]));
    let changed = corpus.shards(Split::Train)[0].read_group(0);
    assert!(matches!(changed, Err(DataError::Changed { .. })), "{changed:?}");
}
