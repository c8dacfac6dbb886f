//! Every file operation of a save fails in turn; a run that had a loadable checkpoint always keeps one.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// With an error, before it has done anything; the operations after it work.
    Refused,
    /// The process dies before the operation: nothing works from there on.
    CrashBefore,
    /// The process dies right after the operation.
    CrashAfter,
    /// A file is cut off in the middle of a write, with an error; the operations after it work.
    ShortWrite,
}

/// The disk, with a fault at one operation.
struct Faulty {
    calls: AtomicU64,
    at: u64,
    fault: Fault,
}

impl Faulty {
    fn guard<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let dead = || Err(io::Error::other("the process is dead"));
        match self.fault {
            Fault::Refused if call == self.at => Err(io::ErrorKind::StorageFull.into()),
            Fault::CrashBefore if call >= self.at => dead(),
            Fault::CrashAfter if call == self.at => act().and_then(|_| dead()),
            Fault::CrashAfter if call > self.at => dead(),
            _ => act(),
        }
    }
}

impl FileOperations for Faulty {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.guard(|| Disk.create_folder(path))
    }

    fn write(&self, path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let short = self.fault == Fault::ShortWrite && self.calls.load(Ordering::Relaxed) == self.at;
        self.guard(|| {
            if !short {
                return Disk.write(path, content);
            }
            let mut whole = Vec::new();
            content(&mut whole)?;
            fs::write(path, &whole[..whole.len() / 2])?;
            Err(io::ErrorKind::StorageFull.into())
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.guard(|| Disk.sync_folder(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.guard(|| Disk.rename(from, to))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        // A removal that is interrupted has removed a part.
        let half = self.fault != Fault::ShortWrite && self.calls.load(Ordering::Relaxed) == self.at;
        if half && let Some(first) = fs::read_dir(path)?.flatten().next() {
            fs::remove_file(first.path())?;
        }
        self.guard(|| Disk.remove_folder(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.guard(|| Disk.list(path))
    }

    fn open(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        self.guard(|| Disk.open(path))
    }
}

const FAULTS: [Fault; 4] = [Fault::Refused, Fault::CrashBefore, Fault::CrashAfter, Fault::ShortWrite];

/// Saves steps 10 and 20, then `step` with a fault at operation `at`. Gives whether the fault struck.
fn save_with_fault(step: u64, keep: usize, at: u64, fault: Fault) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let good = store(folder.path());
    good.save(10, &groups(10), &state(10), 0).unwrap();
    good.save(20, &groups(20), &state(20), 0).unwrap();
    let faulty = Arc::new(Faulty { calls: AtomicU64::new(0), at, fault });
    let context = format!("step {step}, keep {keep}, operation {at}, {fault:?}");
    let outcome = Checkpoints::with_files(folder.path(), faulty.clone())
        .and_then(|store| store.save(step, &groups(99), &state(99), keep));
    let struck = faulty.calls.load(Ordering::Relaxed) > at;

    // A new process looks at what is there.
    let loaded = good.latest(&Device::Cpu).unwrap_or_else(|error| panic!("{context}: {error}"));
    let loaded = loaded.unwrap_or_else(|| panic!("{context}: no checkpoint is left"));
    let old = loaded.step == 20 && loaded.state == state(20) && hashes(&loaded.tensors) == hashes(&groups(20));
    let new = loaded.step == step && loaded.state == state(99) && hashes(&loaded.tensors) == hashes(&groups(99));
    assert!(old || new, "{context}: step {} came back", loaded.step);
    assert!(new || outcome.is_err(), "{context}: the save was said to be done");
    assert!(loaded.skipped.is_empty(), "{context}: {:?}", loaded.skipped);

    // And it goes on: the next save works, clears up, and is found.
    good.save(step + 5, &groups(7), &state(7), 1).unwrap_or_else(|error| panic!("{context}, next save: {error}"));
    assert_eq!(good.latest(&Device::Cpu).unwrap().unwrap().state, state(7), "{context}");
    assert_eq!(names(folder.path()), [format!("step_{:06}", step + 5)], "{context}");
    struck
}

/// Known failure 4 of the baseline: the only good checkpoint was overwritten.
#[test]
fn known_failure_4_no_fault_in_a_save_leaves_a_run_without_a_checkpoint() {
    // A new step, with and without pruning; a step that is there already; a step before the newest.
    for (step, keep) in [(30, 0), (30, 1), (20, 0), (20, 1), (15, 1)] {
        for fault in FAULTS {
            let struck = (0..).take_while(|&at| save_with_fault(step, keep, at, fault)).count();
            assert!(struck > 15, "only {struck} operations were tried");
        }
    }
}
