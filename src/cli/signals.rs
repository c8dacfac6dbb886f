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
    if let Err(error) = ctrlc::set_handler(handler) {
        tell!("warning: signals can't be caught ({error}); an interrupt will lose unsaved work");
    }
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

/// Stops a run after its step, with a checkpoint.
pub fn stop_runs() -> Stop {
    stop_on_signals([
        "stopping after this step and writing a checkpoint (a third signal ends the program at once)",
        "still writing the checkpoint; the next signal ends the program at once, and the last checkpoint stays valid",
    ])
}
