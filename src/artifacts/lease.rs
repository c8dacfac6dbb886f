//! Leases: who works on a run, on any machine that sees its folder.
//!
//! A lease is a file `.lease-<generation>` that is created exclusively, so that of two takers only one gets a generation. The
//! highest generation owns the run. It is never removed before a higher one exists, and so nobody can go back behind it; a taker
//! that finds a higher one than its own has lost. The holder writes its file anew again and again; a lease whose file was not
//! written for the time that it states, by the clock of the file system, has expired. `owners.jsonl` records who held the run.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{ArtifactError, files, temporary_in};

/// Between two renewals.
pub const RENEWED_EVERY: Duration = Duration::from_secs(5);
/// A lease that wasn't renewed for so long has expired.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(120);

/// Beginning of a lease's file name.
const PREFIX: &str = ".lease-";
/// Name of the record of owners.
const OWNERS: &str = "owners.jsonl";
/// Every lease file is padded to this length: it is written in one piece, and never shortened while somebody reads it.
const LENGTH: usize = 2048;
/// The longest text of one field, in bytes.
const LONGEST_FIELD: usize = 200;
/// Most times that a taker who was overtaken looks again.
const ATTEMPTS: usize = 8;

/// A process that works on runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of its machine.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// Identifies the machine's start; none where the system doesn't tell.
    pub boot_id: Option<String>,
    /// The job of a cluster that it is part of.
    pub job: Option<String>,
}

impl Owner {
    /// Whether it ran on the same machine since the same start.
    fn is_beside(&self, other: &Self) -> bool {
        self.host == other.host && self.boot_id == other.boot_id
    }

    fn shortened(&self) -> Self {
        let short =
            |text: &str| -> String { text.chars().take(LONGEST_FIELD / 4).filter(|c| !c.is_control()).collect() };
        Self {
            host: short(&self.host),
            pid: self.pid,
            boot_id: self.boot_id.as_deref().map(short),
            job: self.job.as_deref().map(short),
        }
    }
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Reading data, tokenizer, weights.
    #[default]
    Preparing,
    /// Training.
    Training,
    /// Evaluating.
    Evaluating,
    /// Timing all cells in alternating blocks; its steps are blocks.
    Timing,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RunProgress {
    /// What it does.
    pub doing: Doing,
    /// Steps done.
    pub step: u64,
    /// Steps planned.
    pub steps: u64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Validation bits per byte of the last evaluation.
    pub val_bpb: Option<f64>,
    /// Tokens a second of the last steps.
    pub tokens_per_second: Option<f64>,
    /// Seconds that are left at that rate, evaluations included.
    pub seconds_left: Option<f64>,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

/// The content of a lease's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// `nanochat.lease/v1`.
    pub schema: String,
    /// Random; tells this holder from every other.
    pub token: String,
    /// Its number.
    pub generation: u64,
    /// Who holds it.
    pub owner: Owner,
    /// When it was taken, UTC, by the holder's clock.
    pub taken_at: String,
    /// When it was written last, UTC, by the holder's clock.
    pub renewed_at: String,
    /// Seconds without a renewal after which it has expired.
    pub expires_after_seconds: f64,
    /// The holder gave it back.
    pub released: bool,
    /// How far the run is.
    pub progress: RunProgress,
}

/// A lease as others see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its number.
    pub generation: u64,
    /// Its content; none while it is being written for the first time, or when it is damaged.
    pub lease: Option<Lease>,
    /// When its file was written last, by the clock of the file system.
    pub written: SystemTime,
}

impl Seen {
    /// Whether somebody holds it at `now`, a time by the clock of the file system.
    pub fn is_live(&self, now: SystemTime) -> bool {
        let allowed = self.lease.as_ref().map_or(EXPIRES_AFTER, |lease| expiry(lease.expires_after_seconds));
        let age = now.duration_since(self.written).unwrap_or_default();
        !self.lease.as_ref().is_some_and(|lease| lease.released) && age < allowed
    }

    /// Seconds since its file was written, at `now`.
    pub fn age_seconds(&self, now: SystemTime) -> f64 {
        now.duration_since(self.written).unwrap_or_default().as_secs_f64()
    }
}

/// A stated time, kept within reason whatever a file says.
fn expiry(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(EXPIRES_AFTER).min(Duration::from_secs(3600))
}

/// Why a lease wasn't taken.
#[derive(Debug)]
pub enum NotTaken {
    /// Somebody holds it.
    Held(Box<Seen>),
    /// The file system refused.
    Refused(ArtifactError),
}

impl From<ArtifactError> for NotTaken {
    fn from(error: ArtifactError) -> Self {
        Self::Refused(error)
    }
}

/// A lease that this process holds.
#[derive(Debug)]
pub struct Held {
    folder: PathBuf,
    file: File,
    lease: Lease,
}

/// The lease of a run's folder, if there was ever one.
///
/// # Errors
/// The folder can't be listed.
pub fn current(folder: &Path) -> Result<Option<Seen>, ArtifactError> {
    let Some(generation) = highest(folder)? else { return Ok(None) };
    look(folder, generation)
}

/// Removes what leases have left in a folder that is being removed.
///
/// # Errors
/// The folder can't be listed, or the system refuses.
pub fn remove(folder: &Path) -> Result<(), ArtifactError> {
    let leases = generations(folder)?.into_iter().map(|generation| path_of(folder, generation));
    for path in leases.chain([folder.join(OWNERS)]) {
        files::remove(&path).map_err(|error| ArtifactError::io("remove", &path, error))?;
    }
    Ok(())
}

/// Takes the lease of a run's folder. One that was released or has expired is free. `has_lock` says that this process holds the
/// folder's lock too: then a holder on this very machine is dead, and its lease is free at once.
///
/// # Errors
/// Somebody holds it, or the file system refuses.
pub fn take(folder: &Path, owner: &Owner, expires_after: Duration, has_lock: bool) -> Result<Held, NotTaken> {
    for _ in 0..ATTEMPTS {
        let before = match highest(folder)? {
            None => None,
            // One that has gone since was superseded: look again.
            Some(generation) => match look(folder, generation)? {
                None => continue,
                seen => seen,
            },
        };
        if let Some(seen) = &before {
            let beside = |lease: &Lease| has_lock && lease.owner.is_beside(&owner.shortened());
            let abandoned = seen.lease.as_ref().is_some_and(beside);
            if !abandoned && seen.is_live(clock(folder)?) {
                return Err(NotTaken::Held(Box::new(seen.clone())));
            }
        }
        let generation = before.as_ref().map_or(0, |seen| seen.generation) + 1;
        if let Some(held) = Held::create(folder, generation, owner, expires_after)? {
            held.settle(before.as_ref())?;
            return Ok(held);
        }
    }
    match current(folder)? {
        Some(seen) => Err(NotTaken::Held(Box::new(seen))),
        None => {
            let busy = io::Error::new(io::ErrorKind::ResourceBusy, "others take and leave it all the time");
            Err(NotTaken::Refused(ArtifactError::io("take the lease in", folder, busy)))
        }
    }
}

impl Held {
    /// Makes the file of a generation; none when somebody else was faster.
    fn create(folder: &Path, generation: u64, owner: &Owner, expires: Duration) -> Result<Option<Self>, ArtifactError> {
        let path = path_of(folder, generation);
        let file = match files::create_new(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(ArtifactError::io("create", &path, error)),
        };
        let now = stamp();
        let lease = Lease {
            schema: "nanochat.lease/v1".to_string(),
            token: token(folder)?,
            generation,
            owner: owner.shortened(),
            taken_at: now.clone(),
            renewed_at: now,
            expires_after_seconds: expires.as_secs_f64(),
            released: false,
            progress: RunProgress::default(),
        };
        let mut held = Self { folder: folder.to_path_buf(), file, lease };
        held.write()?;
        // Somebody who saw an old state of the folder may have come in below a higher one.
        if highest(folder)? == Some(generation) {
            return Ok(Some(held));
        }
        files::remove(&path).map_err(|error| ArtifactError::io("remove", &path, error))?;
        Ok(None)
    }

    /// Records the change of owner, and removes what was superseded.
    fn settle(&self, before: Option<&Seen>) -> Result<(), ArtifactError> {
        if let Some(Seen { generation, lease: Some(lease), .. }) = before
            && !lease.released
        {
            let end = OwnerEnd { generation: *generation, ended_at: &lease.renewed_at, how: "expired" };
            self.record(&end)?;
        }
        let Lease { generation, token, owner, taken_at, .. } = &self.lease;
        self.record(&OwnerStart { generation: *generation, token, taken_at, owner })?;
        for older in generations(&self.folder)?.into_iter().filter(|older| older < generation) {
            let path = path_of(&self.folder, older);
            files::remove(&path).map_err(|error| ArtifactError::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// What it says.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Writes it anew, with the progress of the run. Returns whether it still owns the run.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn renew(&mut self, progress: RunProgress) -> Result<bool, ArtifactError> {
        self.lease.progress = progress;
        self.lease.renewed_at = stamp();
        self.write()?;
        self.owns()
    }

    /// Whether no higher generation is there.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn owns(&self) -> Result<bool, ArtifactError> {
        Ok(highest(&self.folder)? == Some(self.lease.generation))
    }

    /// Gives it back, with the last progress of the run.
    ///
    /// # Errors
    /// The file system refuses; then it expires.
    pub fn release(mut self, progress: RunProgress) -> Result<(), ArtifactError> {
        if !self.owns()? {
            return Ok(());
        }
        let now = stamp();
        // The record is complete before anybody else can write to it.
        self.record(&OwnerEnd { generation: self.lease.generation, ended_at: &now, how: "released" })?;
        (self.lease.released, self.lease.progress) = (true, progress);
        self.lease.renewed_at = now;
        self.write()
    }

    fn write(&mut self) -> Result<(), ArtifactError> {
        let path = path_of(&self.folder, self.lease.generation);
        let written = padded(&self.lease).and_then(|bytes| {
            self.file.rewind()?;
            self.file.write_all(&bytes)?;
            // Other machines of a network file system see what is there after this.
            self.file.sync_data()
        });
        written.map_err(|error| ArtifactError::io("write", path, error))
    }

    fn record(&self, line: &impl Serialize) -> Result<(), ArtifactError> {
        let path = self.folder.join(OWNERS);
        let written = files::append(&path).and_then(|mut file| {
            let text = serde_json::to_string(line).map_err(io::Error::from)?;
            file.write_all((text + "\n").as_bytes())
        });
        written.map_err(|error| ArtifactError::io("write", &path, error))
    }
}

/// A line of `owners.jsonl`: somebody took the run.
#[derive(Serialize)]
struct OwnerStart<'a> {
    generation: u64,
    token: &'a str,
    taken_at: &'a str,
    owner: &'a Owner,
}

/// A line of `owners.jsonl`: somebody let the run go, or was last heard of.
#[derive(Serialize)]
struct OwnerEnd<'a> {
    generation: u64,
    ended_at: &'a str,
    how: &'static str,
}

fn padded(lease: &Lease) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(lease)?;
    if bytes.len() >= LENGTH {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the lease is too long"));
    }
    bytes.resize(LENGTH - 1, b' ');
    bytes.push(b'\n');
    Ok(bytes)
}

fn look(folder: &Path, generation: u64) -> Result<Option<Seen>, ArtifactError> {
    let path = path_of(folder, generation);
    let read = files::open(&path).and_then(|file| {
        let written = file.metadata()?.modified()?;
        let mut bytes = Vec::new();
        file.take(LENGTH as u64).read_to_end(&mut bytes)?;
        Ok((bytes, written))
    });
    match read {
        Ok((bytes, written)) => {
            let lease = serde_json::from_slice::<Lease>(&bytes).ok().filter(|lease| lease.generation == generation);
            Ok(Some(Seen { generation, lease, written }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ArtifactError::io("read", &path, error)),
    }
}

fn path_of(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{generation}"))
}

/// The generations that are there; none in a folder that isn't there.
fn generations(folder: &Path) -> Result<Vec<u64>, ArtifactError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ArtifactError::io("list", folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| ArtifactError::io("list", folder, error))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok());
        // The next one is to be counted too.
        found.extend(number.filter(|number| *number < u64::MAX));
    }
    Ok(found)
}

fn highest(folder: &Path) -> Result<Option<u64>, ArtifactError> {
    Ok(generations(folder)?.into_iter().max())
}

/// The time by the clock of the file system that holds the folder.
fn clock(folder: &Path) -> Result<SystemTime, ArtifactError> {
    let probe = temporary_in(folder).and_then(|mut file| {
        file.write_all(b"\n")?;
        file.as_file().sync_data()?;
        file.as_file().metadata()?.modified()
    });
    probe.map_err(|error| ArtifactError::io("ask for the time of", folder, error))
}

/// 128 random bits as 32 hex digits.
fn token(folder: &Path) -> Result<String, ArtifactError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| ArtifactError::io("get random numbers for", folder, io::Error::other(error.to_string())))?;
    Ok(super::hex(&bytes))
}

fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(host: &str) -> Owner {
        Owner { host: host.into(), pid: 7, boot_id: Some("boot".into()), job: Some("12_3".into()) }
    }

    fn taken(folder: &Path, host: &str) -> Held {
        take(folder, &owner(host), EXPIRES_AFTER, false).expect("free")
    }

    fn owners(folder: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(folder.join(OWNERS)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn one_holder_at_a_time_and_each_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = taken(folder.path(), "a");
        let progress = RunProgress { step: 5, steps: 10, loss: Some(2.5), ..RunProgress::default() };
        assert!(first.renew(progress).unwrap());
        let Err(NotTaken::Held(seen)) = take(folder.path(), &owner("b"), EXPIRES_AFTER, false) else { panic!("taken") };
        let lease = seen.lease.unwrap();
        assert_eq!((lease.owner.host.as_str(), lease.progress), ("a", progress));
        first.release(RunProgress::default()).unwrap();
        let second = taken(folder.path(), "b");
        assert_eq!(second.lease().generation, 2);
        let lines = owners(folder.path());
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!((&lines[0]["owner"]["host"], &lines[1]["how"]), (&"a".into(), &"released".into()));
        assert!(lines[1]["ended_at"].as_str() <= lines[2]["taken_at"].as_str());
    }

    #[test]
    fn a_lease_that_was_not_renewed_is_taken_over_and_its_holder_notices() {
        let folder = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(300);
        let mut first = take(folder.path(), &owner("a"), short, false).unwrap();
        // The lock alone says nothing about another machine.
        assert!(matches!(take(folder.path(), &owner("b"), short, true), Err(NotTaken::Held(_))));
        std::thread::sleep(Duration::from_millis(400));
        let second = taken(folder.path(), "b");
        assert!(!first.renew(RunProgress::default()).unwrap(), "the old holder goes on");
        first.release(RunProgress::default()).unwrap();
        assert!(second.owns().unwrap());
        assert_eq!(owners(folder.path())[1]["how"], "expired");
    }

    #[test]
    fn with_the_lock_a_dead_holder_of_this_machine_does_not_have_to_expire() {
        let folder = tempfile::tempdir().unwrap();
        drop(taken(folder.path(), "a"));
        assert!(matches!(take(folder.path(), &owner("a"), EXPIRES_AFTER, false), Err(NotTaken::Held(_))));
        assert_eq!(take(folder.path(), &owner("a"), EXPIRES_AFTER, true).unwrap().lease().generation, 2);
    }

    #[test]
    fn of_many_takers_one_wins_however_often_it_changes_hands() {
        let folder = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let taken = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (folder, inside, taken) = (folder.path(), &inside, &taken);
                scope.spawn(move || {
                    for _ in 0..40 {
                        let Ok(held) = take(folder, &owner(&format!("host{number}")), EXPIRES_AFTER, false) else {
                            continue;
                        };
                        use std::sync::atomic::Ordering::SeqCst;
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "two holders at once");
                        taken.fetch_add(1, SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        held.release(RunProgress::default()).unwrap();
                    }
                });
            }
        });
        assert!(taken.into_inner() >= 8);
        assert_eq!(generations(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_or_strange_lease_is_held_until_it_expires_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".lease-3"), "{ half").unwrap();
        std::fs::write(folder.path().join(".lease-x"), "").unwrap();
        assert!(matches!(take(folder.path(), &owner("a"), EXPIRES_AFTER, true), Err(NotTaken::Held(_))));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/etc/hostname", folder.path().join(".lease-4")).unwrap();
            assert!(matches!(take(folder.path(), &owner("a"), EXPIRES_AFTER, true), Err(NotTaken::Refused(_))));
        }
    }
}
