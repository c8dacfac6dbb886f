//! One process a run: an advisory lock that the operating system releases when its holder dies, however it dies, and a lease
//! that holds for every machine that sees the folder, on file systems without locks too.
//!
//! The lease is renewed by a thread of its own, which also writes how far the run is. A holder that was overtaken, since it
//! stood still for longer than the lease says, finds [`RunLock::is_lost`] and writes nothing more.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nanochat_artifacts::files;
use nanochat_artifacts::lease::{self, EXPIRES_AFTER, Held, NotTaken, Owner, RENEWED_EVERY, RunProgress, Seen};

use super::CheckpointError;

/// Name of the lock file. It stays behind when the lock is released: removing it would let two processes hold locks on
/// two files of the same name.
const FILE: &str = ".lock";

/// Holds a folder for this process until dropped.
#[derive(Debug)]
pub struct RunLock {
    shared: Arc<Shared>,
    heart: Option<JoinHandle<()>>,
    // Dropped last: who gets the lock finds the lease released.
    _file: File,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    lost: Arc<AtomicBool>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    held: Option<Held>,
    progress: RunProgress,
    renewed: Instant,
    ended: bool,
}

impl RunLock {
    /// Takes the folder for this process, creating it when it is missing. What a dead holder has left is free: at once on this
    /// machine, after its lease has expired on another.
    ///
    /// Errors: [`CheckpointError::Locked`] names the holder.
    pub fn acquire(folder: &Path) -> Result<Self, CheckpointError> {
        Self::acquire_for(folder, None)
    }

    /// The same, as part of a cluster's job.
    ///
    /// Errors: as [`RunLock::acquire`].
    pub fn acquire_for(folder: &Path, job: Option<&str>) -> Result<Self, CheckpointError> {
        std::fs::create_dir_all(folder).map_err(CheckpointError::io("create the folder", folder))?;
        let path = folder.join(FILE);
        let mut file = files::open_or_create(&path).map_err(CheckpointError::io("open the lock file", &path))?;
        let has_lock = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                let seen = lease::current(folder).ok().flatten();
                let holder = local_holder(&mut file).unwrap_or_else(|| remote_holder(seen.as_ref()));
                return Err(CheckpointError::Locked { folder: folder.to_path_buf(), holder });
            }
            Err(TryLockError::Error(error)) if has_no_locks(&error) => false,
            Err(TryLockError::Error(source)) => {
                return Err(CheckpointError::Io { action: "lock", path, source });
            }
        };
        let held =
            lease::take(folder, &this_process(job), EXPIRES_AFTER, has_lock).map_err(|refused| match refused {
                NotTaken::Held(seen) => {
                    CheckpointError::Locked { folder: folder.to_path_buf(), holder: remote_holder(Some(&seen)) }
                }
                NotTaken::Refused(error) => CheckpointError::Lease(error),
            })?;
        let noted =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(CheckpointError::io("write the lock file", &path))?;
        let state = State { held: Some(held), progress: RunProgress::default(), renewed: Instant::now(), ended: false };
        let shared = Arc::new(Shared {
            folder: folder.to_path_buf(),
            lost: Arc::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let beating = shared.clone();
        let heart = std::thread::Builder::new().name("lease".into()).spawn(move || beating.beat());
        let heart = heart.map_err(CheckpointError::io("start the thread that renews the lease of", folder))?;
        Ok(Self { shared, heart: Some(heart), _file: file })
    }

    /// Notes how far the run is; the lease says so at its next renewal.
    pub fn note(&self, change: impl FnOnce(&mut RunProgress)) {
        change(&mut self.shared.state().progress);
    }

    /// How far the run is.
    pub fn progress(&self) -> RunProgress {
        self.shared.state().progress
    }

    /// Says how far the run is now, rather than at the next renewal.
    pub fn publish(&self) {
        self.shared.renew(&mut self.shared.state());
    }

    /// Set once another process has taken the run over.
    pub fn lost(&self) -> Arc<AtomicBool> {
        self.shared.lost.clone()
    }

    /// Whether another process has taken the run over.
    pub fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Refuses to go on when another process may have the run: who stood still for long asks first.
    ///
    /// Errors: [`CheckpointError::Lost`].
    pub fn require(&self) -> Result<(), CheckpointError> {
        let mut state = self.shared.state();
        if state.renewed.elapsed() >= EXPIRES_AFTER / 2 {
            self.shared.renew(&mut state);
        }
        drop(state);
        match self.is_lost() {
            true => Err(CheckpointError::Lost { folder: self.shared.folder.clone() }),
            false => Ok(()),
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
        let mut state = self.shared.state();
        if let Some(held) = state.held.take() {
            // What can't be released expires.
            let _ = held.release(state.progress);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews until the end.
    fn beat(&self) {
        let mut state = self.state();
        while !state.ended && !self.lost.load(Ordering::SeqCst) {
            let waited = self.changed.wait_timeout(state, RENEWED_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !state.ended {
                self.renew(&mut state);
            }
        }
    }

    /// Writes the lease anew. It is lost when somebody else has the run, or when it couldn't be written for so long that
    /// somebody else may.
    fn renew(&self, state: &mut State) {
        let progress = state.progress;
        let owns = state.held.as_mut().map_or(Ok(false), |held| held.renew(progress));
        match owns {
            Ok(true) => state.renewed = Instant::now(),
            Err(_) if state.renewed.elapsed() < EXPIRES_AFTER => {}
            Ok(false) | Err(_) => self.lost.store(true, Ordering::SeqCst),
        }
    }
}

/// Whether a file system has no locks at all.
fn has_no_locks(error: &io::Error) -> bool {
    /// `ENOLCK` of Linux.
    const NO_LOCKS_AVAILABLE: i32 = 37;
    error.kind() == io::ErrorKind::Unsupported
        || (cfg!(target_os = "linux") && error.raw_os_error() == Some(NO_LOCKS_AVAILABLE))
}

/// This process as an owner of runs.
fn this_process(job: Option<&str>) -> Owner {
    let boot_id = files::read_text(Path::new("/proc/sys/kernel/random/boot_id"), 100).ok();
    Owner {
        host: sysinfo::System::host_name().unwrap_or_else(|_| "unknown".to_string()),
        pid: std::process::id(),
        boot_id: boot_id.map(|text| text.trim().to_string()),
        job: job.map(str::to_string),
    }
}

/// Who holds the lock, as far as its file tells.
fn local_holder(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    match text.trim().parse::<u32>().ok()? {
        process if process == std::process::id() => Some("this very process".to_string()),
        process => Some(format!("process {process}")),
    }
}

/// Who holds the lease, as far as it tells.
fn remote_holder(seen: Option<&Seen>) -> String {
    let Some(Seen { lease: Some(lease), .. }) = seen else { return "another process".to_string() };
    let Owner { host, pid, job, .. } = &lease.owner;
    let job = job.as_ref().map(|job| format!(", job {job}")).unwrap_or_default();
    format!("process {pid} on {host}{job} (last sign of life {})", lease.renewed_at)
}
