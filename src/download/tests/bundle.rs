//! The evaluation bundle: unpacked where it belongs, or not at all.

use std::io::{Cursor, Write};
use std::path::Path;
use std::time::Duration;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::server::{Answer, Server};
use crate::{Client, DownloadError, EvalBundle, Patience, Report};

const LAYOUT: [(&str, &str); 4] = [
    ("eval_bundle/core.yaml", "icl_tasks: []\n"),
    ("eval_bundle/eval_meta_data.csv", "Eval Task,Random baseline\n"),
    ("eval_bundle/eval_data/world_knowledge/one.jsonl", "{}\n"),
    ("__MACOSX/eval_bundle/._core.yaml", "from another system"),
];

fn archive(entries: &[(&str, &str)], more: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in entries {
        writer.start_file(*name, options()).expect("an entry");
        writer.write_all(text.as_bytes()).expect("a text");
    }
    more(&mut writer);
    writer.finish().expect("an archive").into_inner()
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
}

fn download(bytes: Vec<u8>, folder: &Path, free: Option<u64>) -> (Result<Report, DownloadError>, usize) {
    let server = Server::start(move |request| Answer::file(&bytes, request));
    let silence = Duration::from_secs(5);
    let patience = Patience { attempts: 1, first_wait: Duration::from_millis(1), silence, parallel: 1 };
    let address = format!("{}/eval_bundle.zip", server.address());
    let client = Client::new(&address, None, patience).expect("a client");
    let bundle = EvalBundle { address, folder: folder.to_path_buf(), verify: true };
    let report = bundle.download(&client, &|_| free, &|_| {});
    (report, server.requests().len())
}

#[test]
fn the_bundle_is_unpacked_once_and_checked() {
    let project = tempfile::tempdir().expect("a folder");
    let folder = project.path().join("cache/eval_bundle");
    let (report, _) = download(archive(&LAYOUT, |_| {}), &folder, None);
    assert_eq!(report.expect("downloaded").downloaded, 3);
    assert!(folder.join("eval_data/world_knowledge/one.jsonl").is_file());
    let left: Vec<_> = std::fs::read_dir(project.path().join("cache")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let (report, requests) = download(archive(&LAYOUT, |_| {}), &folder, None);
    assert_eq!((report.expect("kept").kept, requests), (3, 0));
    std::fs::write(folder.join("core.yaml"), "changed").expect("a change");
    let (report, _) = download(archive(&LAYOUT, |_| {}), &folder, None);
    assert!(matches!(report, Err(DownloadError::Occupied { .. })), "{report:?}");
}

/// Nothing of an archive that is refused stays.
fn refused(bytes: Vec<u8>, expected: &str) {
    let project = tempfile::tempdir().expect("a folder");
    let inside = project.path().join("a/b");
    let (report, _) = download(bytes, &inside.join("eval_bundle"), None);
    let error = report.expect_err("refused");
    assert!(matches!(error, DownloadError::Archive { .. }) && error.to_string().contains(expected), "{error}");
    assert_eq!(std::fs::read_dir(&inside).expect("a folder").count(), 0);
    assert_eq!(std::fs::read_dir(project.path()).expect("a folder").count(), 1);
}

#[test]
fn archives_that_could_do_harm_are_refused() {
    for name in ["../outside", "eval_bundle/../../outside", "/outside", "eval_bundle/..\\outside", "c:/outside"] {
        refused(archive(&[LAYOUT[0], (name, "x")], |_| {}), "leads out of the archive");
    }
    let link = |writer: &mut ZipWriter<Cursor<Vec<u8>>>| {
        writer.add_symlink("eval_bundle/link", "/etc", options()).expect("a link");
    };
    refused(archive(&LAYOUT, link), "is a link");
    refused(archive(&[LAYOUT[0], ("eval_bundle/CORE.yaml", "x")], |_| {}), "two of its entries");
    refused(archive(&LAYOUT[1..], |_| {}), "it has no `eval_bundle/core.yaml`");
    let zeros = "0".repeat(50_000_000);
    refused(archive(&[LAYOUT[0], ("eval_bundle/zeros", &zeros)], |_| {}), "more than the");
    let mut damaged = archive(&[("eval_bundle/core.yaml", &"words and more words ".repeat(40))], |_| {});
    damaged[60] ^= 0x55;
    refused(damaged, "");
    refused(b"PK\x03\x04 and nothing of an archive".to_vec(), "");
}

#[test]
fn what_is_no_bundle_is_not_overwritten_and_a_small_disk_is_found() {
    let project = tempfile::tempdir().expect("a folder");
    let (report, _) = download(archive(&LAYOUT, |_| {}), project.path(), None);
    assert!(matches!(report, Err(DownloadError::Occupied { .. })), "{report:?}");
    let (report, _) = download(archive(&LAYOUT, |_| {}), &project.path().join("bundle"), Some(20));
    assert!(matches!(report, Err(DownloadError::Space { .. })), "{report:?}");
}

/// Unpacking was interrupted: the archive is there, and half of its files.
#[test]
fn an_interrupted_unpacking_begins_again_without_a_download() {
    let project = tempfile::tempdir().expect("a folder");
    let folder = project.path().join("eval_bundle");
    std::fs::write(project.path().join("eval_bundle.zip"), archive(&LAYOUT, |_| {})).expect("an archive");
    std::fs::create_dir(project.path().join("eval_bundle.part")).expect("a folder");
    std::fs::write(project.path().join("eval_bundle.part/core.yaml"), "half").expect("a file");
    let (report, requests) = download(Vec::new(), &folder, None);
    assert_eq!((report.expect("unpacked").downloaded, requests), (3, 0));
    assert_eq!(std::fs::read_to_string(folder.join("core.yaml")).expect("a file"), LAYOUT[0].1);
}
