//! The program's only signal handler.

use std::ops::ControlFlow;

use super::Exit;
use crate::run::Stop;

/// Calls `on_signal` at every interrupt or termination signal; when it breaks, the program ends at once with exit code 130.
pub fn catch(mut on_signal: impl FnMut() -> ControlFlow<()> + Send + 'static) {
    let handler = move || {
        if on_signal().is_break() {
            std::process::exit(Exit::Interrupted as i32);
        }
    };
    if let Err(error) = handle(handler) {
        tell!("warning: signals can't be caught ({error}); an interrupt will lose unsaved work");
    }
}

/// Calls `handler`, on a thread of its own, at every interrupt, termination or hang-up. What was ignored when the program began
/// stays ignored: hang-ups by `nohup`, interrupts by a shell that starts a script's command in the background.
#[cfg(unix)]
fn handle(mut handler: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let ignored = ignored();
    // Signals are counted from 1.
    let caught = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = signal_hook::iterator::Signals::new(caught)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(|_| handler()))?;
    Ok(())
}

#[cfg(not(unix))]
fn handle(handler: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(handler)
}

/// The signals that the program was started with ignored, a bit each, where the system tells.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::path::PathBuf::from(format!("/proc/{}/status", std::process::id()));
    let status = nanochat_artifacts::files::read_text(&status, 1 << 16).unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}

/// Requests a stop at the first signal; the third ends the program at once. `messages` go to standard error at the first
/// and the second signal.
pub fn stop_on_signals(messages: [&'static str; 2]) -> Stop {
    let stop = Stop::default();
    let requested = stop.clone();
    catch(move || {
        let Some(message) = messages.get(requested.request() as usize) else { return ControlFlow::Break(()) };
        if !message.is_empty() {
            tell!("");
            tell!("{message}");
        }
        ControlFlow::Continue(())
    });
    stop
}

/// Stops a run after its step, with a checkpoint; at once where there is nothing to save, as while data is prepared.
pub fn stop_runs() -> Stop {
    let stop = Stop::default();
    let requested = stop.clone();
    catch(move || {
        let before = requested.request();
        if requested.nothing_to_save() {
            tell!("");
            tell!("stopped; nothing was trained since the last run or checkpoint, and the same command goes on");
            return ControlFlow::Break(());
        }
        let message = match before {
            0 => "stopping and writing a checkpoint (a third signal ends the program at once)",
            1 => {
                "still writing the checkpoint; the next signal ends the program at once, and the last checkpoint stays valid"
            }
            _ => return ControlFlow::Break(()),
        };
        tell!("");
        tell!("{message}");
        ControlFlow::Continue(())
    });
    stop
}
