//! Files over the network, several at a time: each grows as `<file>.part`, is checked whole, and then gets its name.
//!
//! An attempt that brings something new sets the count of attempts back, so that a slow or shaky connection gets there. What
//! a server sends is held against the lengths that it states and the digest that is known; a file that fails after it was
//! continued from an earlier one is downloaded once more from the start.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nanochat_artifacts::{files, sync_folder};

use super::DownloadError;
use super::client::{Client, Failure, Response};
use super::error::size;
use super::verify::{self, Kind};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 18;
/// Bytes that show what kind of file it is.
const HEAD: usize = 4;

/// A file to download.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Where it comes from.
    pub url: String,
    /// Where it goes.
    pub path: PathBuf,
    /// What it should be.
    pub kind: Kind,
    /// Its digest, where that is known.
    pub sha256: Option<String>,
}

/// What happens meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// Files that are here already, and files to download.
    Begins {
        /// Files here.
        here: usize,
        /// Files to download.
        missing: usize,
        /// Bytes of the latter, about.
        bytes: u64,
    },
    /// Bytes of a file arrived, or were here of an earlier attempt.
    Received {
        /// How many.
        bytes: u64,
    },
    /// A file that was here is not what it should be, and is downloaded again.
    Replaced {
        /// Its name.
        file: &'a str,
        /// What is wrong with it.
        problem: &'a str,
    },
    /// Waits before the next attempt.
    Waits {
        /// Name of the file.
        file: &'a str,
        /// Why.
        reason: &'a str,
        /// How long.
        wait: Duration,
    },
    /// A file is complete and checked.
    Completed {
        /// Its name.
        file: &'a str,
        /// Its length.
        bytes: u64,
    },
}

/// Who is told of events, from several threads.
pub type Watch<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// What a download came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Where the files lie.
    pub folder: PathBuf,
    /// Files downloaded now.
    pub downloaded: usize,
    /// Files that were here already.
    pub kept: usize,
    /// Bytes downloaded now.
    pub bytes: u64,
}

/// A complete file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: String,
}

/// Free bytes of the disk that holds a folder, where that is known.
pub(crate) type FreeBytes<'a> = &'a (dyn Fn(&Path) -> Option<u64> + Sync);

/// Downloads files, several at a time; `completed` gets each as it is done. After the first error no other file is begun.
pub(crate) fn fetch_all(
    client: &Client,
    wanted: &[Wanted],
    free: FreeBytes<'_>,
    watch: Watch<'_>,
    completed: &(dyn Fn(&Wanted, &Fetched) -> Result<(), DownloadError> + Sync),
) -> Result<(), DownloadError> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<DownloadError>> = Mutex::new(None);
    let has_failed = || failed.lock().map_or(true, |failed| failed.is_some());
    let work = || {
        while let Some(file) = wanted.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !has_failed()) {
            let done = fetch(client, file, free, watch).and_then(|fetched| completed(file, &fetched));
            if let (Err(error), Ok(mut failed)) = (done, failed.lock()) {
                failed.get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..client.patience.parallel.clamp(1, wanted.len().max(1)) {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap_or_default().map_or(Ok(()), Err)
}

/// Downloads one file to its end.
pub(crate) fn fetch(
    client: &Client,
    wanted: &Wanted,
    free: FreeBytes<'_>,
    watch: Watch<'_>,
) -> Result<Fetched, DownloadError> {
    let mut part = Part::open(&wanted.path)?;
    watch(Event::Received { bytes: part.length });
    let name = name(&wanted.path);
    let (mut furthest, mut failures, mut continued) = (part.length, 0, part.length > 0);
    let mut expected = wanted.sha256.clone();
    loop {
        let attempt = Attempt { client, wanted, free, watch };
        match attempt.run(&mut part, &mut expected) {
            Ok(()) => match part.check(wanted, expected.as_deref()) {
                Ok(fetched) => {
                    part.put_in_place(&wanted.path)?;
                    watch(Event::Completed { file: &name, bytes: fetched.bytes });
                    return Ok(fetched);
                }
                // What was here before may have been another file's.
                Err(_) if continued => {
                    part.clear()?;
                    (furthest, continued) = (0, false);
                }
                Err(error) => {
                    part.remove()?;
                    return Err(error);
                }
            },
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(reason, asked)) => {
                failures = if part.length > furthest { 1 } else { failures + 1 };
                furthest = furthest.max(part.length);
                if failures >= client.patience.attempts {
                    return Err(DownloadError::GaveUp { url: wanted.url.clone(), attempts: failures, reason });
                }
                let wait = client.patience.wait(failures, asked);
                watch(Event::Waits { file: &name, reason: &reason, wait });
                std::thread::sleep(wait);
            }
        }
    }
}

/// File name of a path.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The path of an unfinished file.
pub(crate) fn part_of(whole: &Path) -> PathBuf {
    let mut name = whole.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

struct Attempt<'a> {
    client: &'a Client,
    wanted: &'a Wanted,
    free: FreeBytes<'a>,
    watch: Watch<'a>,
}

impl Attempt<'_> {
    /// Asks for what is missing, and writes what comes. Fine when the file is as long as the server says.
    fn run(&self, part: &mut Part, expected: &mut Option<String>) -> Result<(), Failure> {
        let mut response = self.client.get(&self.wanted.url, part.length)?;
        if expected.is_none() {
            expected.clone_from(&response.sha256);
        }
        match response.start {
            None if response.total == Some(part.length) => return Ok(()),
            None => {
                part.clear().map_err(Failure::Final)?;
                return Err(Failure::Passing("the unfinished file is longer than the server's".into(), None));
            }
            Some(0) if part.length > 0 => part.clear().map_err(Failure::Final)?,
            Some(_) => {}
        }
        self.refuse_without_space(part, response.total)?;
        self.receive(part, &mut response)?;
        match response.total {
            Some(total) if part.length < total => {
                let reason = format!("the connection ended after {} of {}", size(part.length), size(total));
                Err(Failure::Passing(reason, None))
            }
            _ => Ok(()),
        }
    }

    fn refuse_without_space(&self, part: &Part, total: Option<u64>) -> Result<(), Failure> {
        let folder = self.wanted.path.parent().unwrap_or(Path::new("."));
        let needed = total.unwrap_or(0).saturating_sub(part.length);
        match (self.free)(folder) {
            Some(free) if free < needed => Err(Failure::Final(DownloadError::space(folder, needed, free))),
            _ => Ok(()),
        }
    }

    fn receive(&self, part: &mut Part, response: &mut Response) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK];
        let mut head: Option<Vec<u8>> = (part.length == 0).then(Vec::new);
        loop {
            let read = match response.body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Passing(format!("the connection broke: {error}"), None)),
            };
            let bytes = &buffer[..read];
            if let Some(first) = &mut head {
                first.extend(bytes.iter().take(HEAD - first.len()));
                if first.len() == HEAD {
                    let told = verify::foreign_head(self.wanted.kind, first, &response.content_type);
                    if let Some(told) = told {
                        part.remove().map_err(Failure::Final)?;
                        return Err(Failure::Final(DownloadError::Content { url: self.wanted.url.clone(), told }));
                    }
                    head = None;
                }
            }
            part.write(bytes).map_err(Failure::Final)?;
            (self.watch)(Event::Received { bytes: read as u64 });
        }
    }
}

/// An unfinished file, which one process has at a time.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Part {
    /// The unfinished file of a path, with what it holds.
    fn open(whole: &Path) -> Result<Self, DownloadError> {
        let path = part_of(whole);
        let mut file = files::open_or_create(&path).map_err(DownloadError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(DownloadError::Busy { path }),
            // A file system without locks, as some network ones.
            Err(fs::TryLockError::Error(_)) => {}
        }
        let length = file.seek(SeekFrom::End(0)).map_err(DownloadError::io(&path))?;
        Ok(Self { path, file, length })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        let written = self.file.seek(SeekFrom::Start(self.length)).and_then(|_| self.file.write_all(bytes));
        written.map_err(DownloadError::io(&self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), DownloadError> {
        self.length = 0;
        self.file.set_len(0).map_err(DownloadError::io(&self.path))
    }

    fn remove(&mut self) -> Result<(), DownloadError> {
        self.clear()?;
        files::remove(&self.path).map_err(DownloadError::io(&self.path))
    }

    /// Holds the whole file against its kind and the digest that is known.
    fn check(&mut self, wanted: &Wanted, expected: Option<&str>) -> Result<Fetched, DownloadError> {
        let url = wanted.url.clone();
        if let Some(problem) = verify::problem(wanted.kind, &mut self.file).map_err(DownloadError::io(&self.path))? {
            let help = "try again, or name another server with HF_ENDPOINT or --from".to_owned();
            return Err(DownloadError::Damaged { url, problem, help });
        }
        let sha256 = verify::sha256(&mut self.file).map_err(DownloadError::io(&self.path))?;
        match expected.filter(|expected| *expected != sha256) {
            Some(expected) => {
                let problem = format!("its SHA-256 is {sha256}, not {expected}");
                let help = format!(
                    "another server may have the file as it was; to accept this one, take the line of {} out of {}",
                    name(&wanted.path),
                    super::sums::FILE
                );
                Err(DownloadError::Damaged { url, problem, help })
            }
            None => Ok(Fetched { bytes: self.length, sha256 }),
        }
    }

    fn put_in_place(&mut self, path: &Path) -> Result<(), DownloadError> {
        self.file.sync_all().map_err(DownloadError::io(&self.path))?;
        fs::rename(&self.path, path).map_err(DownloadError::io(path))?;
        Ok(sync_folder(path.parent().unwrap_or(Path::new(".")))?)
    }
}
