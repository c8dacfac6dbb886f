//! Shards, whatever the server does.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use super::server::{Answer, Request, Server};
use crate::{Client, Climbmix, DownloadError, Environment, Event, Patience, Report, climbmix_address};

/// Bytes with a parquet file's ends.
fn parquet(length: usize) -> Vec<u8> {
    let middle = (0..length.max(40) - 12).map(|at| (at * 7 % 251) as u8);
    b"PAR1".iter().copied().chain(middle).chain(20u32.to_le_bytes()).chain(*b"PAR1").collect()
}

fn patience() -> Patience {
    let (first_wait, silence) = (Duration::from_millis(1), Duration::from_millis(300));
    Patience { attempts: 3, first_wait, silence, parallel: 2 }
}

/// What a download came to, and the waits before further attempts.
struct Downloaded {
    report: Result<Report, DownloadError>,
    waits: Vec<String>,
    replaced: usize,
}

fn download_into(folder: &Path, address: &str, shards: u64, free: Option<u64>, verify: bool) -> Downloaded {
    let client = Client::new(address, Some("hf_secret"), patience()).expect("a client");
    let told = Mutex::new((Vec::new(), 0));
    let wanted = Climbmix { address: address.to_owned(), folder: folder.to_path_buf(), shards, verify };
    let report = wanted.download(&client, &|_| free, &|event| {
        let mut told = told.lock().expect("the list");
        match event {
            Event::Waits { reason, .. } => told.0.push(reason.to_owned()),
            Event::Replaced { .. } => told.1 += 1,
            _ => {}
        }
    });
    let (waits, replaced) = told.into_inner().expect("the list");
    Downloaded { report, waits, replaced }
}

fn download(folder: &Path, server: &Server) -> Downloaded {
    download_into(folder, &server.address(), 1, None, false)
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const WHOLE: [&str; 3] = ["SHA256SUMS", "shard_00000.parquet", "shard_06542.parquet"];

#[test]
fn shards_are_downloaded_once_under_the_baselines_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(|request| Answer::file(&parquet(50_000), request));
    let report = download(folder.path(), &server).report.expect("downloaded");
    assert_eq!((report.downloaded, report.kept, report.bytes), (2, 0, 100_000));
    assert_eq!(files(folder.path()), WHOLE);
    let report = download_into(folder.path(), &server.address(), 2, None, false).report.expect("downloaded");
    assert_eq!((report.downloaded, report.kept, server.requests().len()), (1, 2, 3));
    let mirrored = Environment { endpoint: Some("https://mirror.example/".into()), token: None };
    let address = climbmix_address(&mirrored);
    assert_eq!(address, "https://mirror.example/datasets/karpathy/climbmix-400b-shuffle/resolve/main");
}

/// A server that fails at first, and then sends the file.
fn recovers(first: impl Fn(&Request, &[u8]) -> Answer + Send + Sync + 'static) -> (Server, Downloaded, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(move |request| match request.earlier {
        0 => first(request, &parquet(50_000)),
        _ => Answer::file(&parquet(50_000), request),
    });
    let done = download(folder.path(), &server);
    assert!(done.report.is_ok(), "{:?}", done.report);
    assert_eq!(files(folder.path()), WHOLE);
    let bytes = std::fs::read(folder.path().join(WHOLE[1])).expect("a shard");
    assert_eq!(bytes, parquet(50_000));
    (server, done, bytes)
}

#[test]
fn what_is_cut_off_goes_on_where_it_stopped() {
    let (server, done, _) = recovers(|_, bytes| Answer::body(bytes).cut(20_000));
    assert_eq!(done.waits.len(), 2);
    let starts: Vec<_> = server.requests().iter().filter_map(Request::start).collect();
    assert_eq!(starts, [20_000, 20_000]);
}

#[test]
fn busy_and_failing_servers_are_asked_again() {
    for status in [429, 500, 502, 503, 504] {
        let (_, done, _) = recovers(move |_, _| Answer::status(status).header("Retry-After", "0"));
        assert_eq!(done.waits, vec![format!("the server answers {status}"); 2]);
    }
}

#[test]
fn a_silent_server_is_left_and_asked_again() {
    let silent = |_: &Request, bytes: &[u8]| Answer::body(bytes).pause(10_000, Duration::from_secs(3));
    let (server, done, _) = recovers(silent);
    assert_eq!(done.waits.len(), 2, "{:?}", done.waits);
    assert_eq!(server.requests().iter().filter_map(Request::start).collect::<Vec<_>>(), [10_000, 10_000]);
}

#[test]
fn a_slow_server_that_brings_a_little_each_time_gets_there() {
    let folder = tempfile::tempdir().expect("a folder");
    // Ten attempts, more than are made in a row without progress.
    let server = Server::start(|request| Answer::file(&parquet(50_000), request).cut(5_000));
    assert!(download(folder.path(), &server).report.is_ok());
    assert_eq!(files(folder.path()), WHOLE);
}

#[test]
fn redirects_are_followed_and_the_token_stays_behind() {
    let storage = Server::start(|request| Answer::file(&parquet(50_000), request));
    let target = storage.address();
    let hub = Server::start(move |request| {
        Answer::status(302).header("Location", &format!("{target}{}?signed=1", request.path))
    });
    let folder = tempfile::tempdir().expect("a folder");
    download(folder.path(), &hub).report.expect("downloaded");
    let token = |request: &Request| request.headers.get("authorization").cloned();
    assert!(hub.requests().iter().all(|request| token(request).as_deref() == Some("Bearer hf_secret")));
    assert_eq!(storage.requests().len(), 2);
    assert!(storage.requests().iter().all(|request| token(request).is_none()));
}

/// What comes of a server that never sends the file; nothing but the list of digests may be left.
fn refused(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> DownloadError {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(answer);
    let error = download(folder.path(), &server).report.expect_err("an error");
    let left = files(folder.path());
    assert!(left.iter().all(|name| name.ends_with(".part")), "{left:?}");
    error
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let circle = refused(|request| Answer::status(301).header("Location", &request.path));
    assert!(matches!(&circle, DownloadError::Redirect { reason, .. } if reason.contains("redirects in a row")));
    let absent = refused(|_| Answer::status(404));
    assert!(matches!(absent, DownloadError::Refused { status: 404, .. }));
    let secret = refused(|_| Answer::status(401));
    let help = miette::Diagnostic::help(&secret).expect("help").to_string();
    assert!(help.contains("HF_TOKEN"), "{help}");
    let page = refused(|_| Answer::body(b"<!DOCTYPE html><p>Log in").header("Content-Type", "text/html"));
    assert!(page.to_string().contains("an HTML page in place of parquet"), "{page}");
    let failing = refused(|_| Answer::status(503));
    assert!(matches!(failing, DownloadError::GaveUp { attempts: 3, .. }), "{failing}");
    let short = refused(|_| Answer::body(b"PAR1 and no footer at all"));
    assert!(short.to_string().contains("no parquet footer"), "{short}");
    let other = refused(|request| {
        Answer::file(&parquet(50_000), request).header("X-Linked-Etag", &format!("\"{}\"", "0".repeat(64)))
    });
    assert!(other.to_string().contains("its SHA-256 is"), "{other}");
}

#[test]
fn nobody_listening_is_an_error_with_the_address() {
    let address = Server::start(|_| Answer::status(500)).address();
    let folder = tempfile::tempdir().expect("a folder");
    let error = download_into(folder.path(), &address, 1, None, false).report.expect_err("an error");
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn an_unfinished_file_is_gone_on_with_or_begun_again() {
    let whole = parquet(50_000);
    for (before, starts) in [
        (whole[..30_000].to_vec(), vec![30_000]),
        (whole.clone(), vec![50_000]),
        // Of another file: found when it is checked, and begun again.
        (vec![1; 30_000], vec![30_000]),
        (vec![1; 60_000], vec![60_000]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("shard_00000.parquet.part"), before).expect("an unfinished file");
        let server = Server::start(|request| Answer::file(&parquet(50_000), request));
        download(folder.path(), &server).report.expect("downloaded");
        let asked: Vec<_> = server.requests().iter().filter_map(Request::start).collect();
        assert_eq!(asked, starts);
        assert_eq!(files(folder.path()), WHOLE);
        let bytes = std::fs::read(folder.path().join(WHOLE[1])).expect("a shard");
        assert!(bytes == whole, "the shard is the server's");
    }
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("shard_00000.parquet.part"), b"PAR1 something").expect("an unfinished file");
    let server = Server::start(|_| Answer::body(&parquet(50_000)));
    download(folder.path(), &server).report.expect("downloaded");
    assert!(std::fs::read(folder.path().join(WHOLE[1])).expect("a shard") == parquet(50_000));
}

#[test]
fn too_small_a_disk_is_found_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(|request| Answer::file(&parquet(50_000), request));
    let refused = download_into(folder.path(), &server.address(), 1, Some(1_000_000), false).report;
    assert!(matches!(&refused, Err(DownloadError::Space { free, .. }) if free == "1.0 MB"), "{refused:?}");
    assert!(files(folder.path()).is_empty() && server.requests().is_empty());
    // A shard that is larger than they usually are.
    let large = Server::start(|_| Answer::body(b"PAR1").header("Content-Length", "900000000000"));
    let refused = download_into(folder.path(), &large.address(), 1, Some(300_000_000), false).report;
    assert!(matches!(&refused, Err(DownloadError::Space { needed, .. }) if needed == "900.0 GB"), "{refused:?}");
}

#[test]
fn damaged_shards_are_replaced_and_changed_ones_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(|request| Answer::file(&parquet(50_000), request));
    download(folder.path(), &server).report.expect("downloaded");
    let shard = folder.path().join(WHOLE[1]);
    std::fs::write(&shard, &parquet(50_000)[..40_000]).expect("a damaged shard");
    let done = download(folder.path(), &server);
    assert_eq!((done.report.expect("downloaded").downloaded, done.replaced), (1, 1));
    let mut other = parquet(50_000);
    other[100] ^= 1;
    std::fs::write(&shard, other).expect("another shard");
    assert_eq!(download(folder.path(), &server).report.expect("kept").downloaded, 0);
    let done = download_into(folder.path(), &server.address(), 1, None, true);
    assert_eq!((done.report.expect("downloaded").downloaded, done.replaced), (1, 1));
    assert!(std::fs::read(&shard).expect("a shard") == parquet(50_000));
}

#[test]
fn two_processes_do_not_write_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = std::fs::File::create(folder.path().join("shard_00000.parquet.part")).expect("a file");
    part.lock().expect("a lock");
    let server = Server::start(|request| Answer::file(&parquet(50_000), request));
    let refused = download(folder.path(), &server).report;
    assert!(matches!(refused, Err(DownloadError::Busy { .. })), "{refused:?}");
}

#[test]
fn addresses_that_cannot_be_used_are_named() {
    for address in
        ["huggingface.co", "ftp://x.example", "https://", "https://u:s3cret@x.example", "https://u:s3cret@ x"]
    {
        let refused = Client::new(address, None, patience()).err().expect("refused").to_string();
        assert!(refused.contains("no address to download from") && !refused.contains("s3cret"), "{refused}");
    }
}
