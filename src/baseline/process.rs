//! Runs a child process in a group of its own: output as it comes, a timeout, a clean stop, and what it used.
//!
//! Whatever ends the run, nothing of the group stays behind. A process that ignores the polite signal is killed after a
//! grace period; one whose child keeps its pipes open doesn't delay the end.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::usage::{Meter, Usage};

/// How long a process may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long output is awaited after the process has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// Between two looks at the process.
const TICK: Duration = Duration::from_millis(20);
/// Between two samples of memory.
const MEMORY_INTERVAL: Duration = Duration::from_millis(250);
/// Pieces of output that may wait to be read.
const PIECES: usize = 64;

/// Which of its two streams the process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

/// What bounds a run.
pub struct Limits<'a> {
    /// The longest that it may take.
    pub timeout: Duration,
    /// Whether a stop was requested.
    pub stop: &'a dyn Fn() -> bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that didn't come from here.
    Killed(i32),
    /// It took too long.
    TimedOut,
    /// Somebody asked to stop.
    Stopped,
}

/// A process that ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finished {
    /// How it ended.
    pub ending: Ending,
    /// Seconds from its start to its end.
    pub elapsed_seconds: f64,
    /// What it used.
    pub usage: Usage,
}

/// A piece of output and when it came.
struct Piece {
    stream: Stream,
    bytes: Vec<u8>,
    at: Instant,
}

/// Runs `command` to its end. `output` is given each piece of output, with the seconds since the start of the process.
///
/// # Errors
/// The process can't be started.
pub fn run(
    command: &mut Command,
    limits: &Limits<'_>,
    output: &mut dyn FnMut(Stream, &[u8], f64),
) -> Result<Finished, std::io::Error> {
    own_group(command);
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (sender, pieces) = mpsc::sync_channel(PIECES);
    read_in_background(Stream::Out, child.stdout.take(), sender.clone());
    read_in_background(Stream::Error, child.stderr.take(), sender);
    let mut pass_on = |piece: Piece| output(piece.stream, &piece.bytes, (piece.at - started).as_secs_f64());

    let mut watched = Watched { meter: Meter::new(child.id()), memory_at: started, asked: None, killed: false };
    let ending = loop {
        match pieces.recv_timeout(TICK) {
            Ok(piece) => pass_on(piece),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
        }
        if let Some(ending) = watched.look(&mut child, limits, started)? {
            break ending;
        }
    };
    let elapsed_seconds = started.elapsed().as_secs_f64();
    let drained_by = Instant::now() + DRAIN;
    while let Ok(piece) = pieces.recv_timeout(drained_by.saturating_duration_since(Instant::now())) {
        pass_on(piece);
    }
    Ok(Finished { ending, elapsed_seconds, usage: watched.meter.usage() })
}

struct Watched {
    meter: Meter,
    memory_at: Instant,
    /// Why and when the process was asked to end.
    asked: Option<(Ending, Instant)>,
    killed: bool,
}

impl Watched {
    /// Looks at the process once: measures, reaps it when it has ended, asks it to end when it must.
    fn look(
        &mut self,
        child: &mut Child,
        limits: &Limits<'_>,
        started: Instant,
    ) -> Result<Option<Ending>, std::io::Error> {
        if self.memory_at.elapsed() >= MEMORY_INTERVAL || self.meter.usage().peak_rss_bytes.is_none() {
            self.meter.sample_memory();
            self.memory_at = Instant::now();
        }
        // Times are complete once the process has ended and isn't reaped yet; until then nobody else can be given its id.
        let status = match self.meter.sample_time() {
            Some(false) => None,
            Some(true) => {
                self.kill_all(child);
                Some(child.wait()?)
            }
            None => child.try_wait()?.inspect(|_| self.kill_all(child)),
        };
        if let Some(status) = status {
            return Ok(Some(self.asked.map_or_else(|| ending_of(status), |(why, _)| why)));
        }
        match self.asked {
            None if (limits.stop)() => self.ask(child, Ending::Stopped),
            None if started.elapsed() >= limits.timeout => self.ask(child, Ending::TimedOut),
            Some((_, since)) if since.elapsed() >= GRACE && !self.killed => {
                self.kill_all(child);
                // The group's leader at least, where there is no shell to send signals with.
                child.kill()?;
                self.killed = true;
            }
            _ => {}
        }
        Ok(None)
    }

    /// Ends the group, and the descendants that have left it, as the ranks of a launcher do.
    fn kill_all(&self, child: &Child) {
        signal_group(child, "KILL");
        signal_each(self.meter.family(), "KILL");
    }

    fn ask(&mut self, child: &Child, why: Ending) {
        signal_group(child, "TERM");
        self.asked = Some((why, Instant::now()));
    }
}

fn read_in_background(stream: Stream, source: Option<impl Read + Send + 'static>, sender: SyncSender<Piece>) {
    let Some(mut source) = source else { return };
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 14];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                    if sender.send(Piece { stream, bytes, at: Instant::now() }).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
}

#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_command: &mut Command) {}

/// Sends a signal to the child's whole group, through the shell, which every system with process groups has. A group
/// that is gone already is no failure.
fn signal_group(child: &Child, signal: &str) {
    if cfg!(unix) {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -\"$1\" -\"$2\"", "sh", signal, &child.id().to_string()]);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Sends a signal to processes by their ids; one that is gone is no failure.
fn signal_each(pids: &[u32], signal: &str) {
    if cfg!(unix) && !pids.is_empty() {
        let mut command = Command::new("sh");
        command.args(["-c", "signal=$1; shift; for pid; do kill -\"$signal\" \"$pid\"; done", "sh", signal]);
        command.args(pids.iter().map(u32::to_string));
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[cfg(unix)]
fn ending_of(status: std::process::ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal().map_or_else(|| Ending::Exited(status.code().unwrap_or(-1)), Ending::Killed)
}

#[cfg(not(unix))]
fn ending_of(status: std::process::ExitStatus) -> Ending {
    Ending::Exited(status.code().unwrap_or(-1))
}
