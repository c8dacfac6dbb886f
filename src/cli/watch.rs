//! `nanochat watch`: what the runs are doing, on a terminal or as a page for the browser.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use nanochat_artifacts::{ExperimentFolder, ResultsRoot};
use nanochat_lab::live::{self, ExperimentLive, RunLive};

use super::bar::thousands;
use super::output::{number, table};
use super::signals::stop_on_signals;
use super::{CliError, CliResult, Exit, outside};
use crate::run::duration;
use crate::serve::Page;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Most runs that are shown on a terminal; those that run come first.
const SHOWN: usize = 30;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The experiment; by default all that have runs queued or running
    experiment: Option<String>,
    /// Serve a page for the browser at this address, such as 127.0.0.1:8080, instead of printing
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "experiment")]
    serve: Option<std::net::SocketAddr>,
    /// With --serve: ask for a token, and allow an address that other machines can reach. The connection is not encrypted
    #[arg(long, requires = "serve")]
    expose: bool,
    /// Folder of the project, which holds `results/`
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
}

pub fn execute(args: Args) -> CliResult {
    let root = ResultsRoot::new(&args.project);
    if let Some(address) = args.serve {
        return serve(address, args.expose, root);
    }
    let folders = folders(&root, args.experiment.as_deref())?;
    let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
    if !terminal {
        let mut shown = false;
        for folder in &folders {
            let experiment = live::of_experiment(folder).map_err(CliError::failed)?;
            if args.experiment.is_some() || experiment.is_open() {
                say_lines!("{}", lines(&experiment));
                shown = true;
            }
        }
        if !shown {
            say!("nothing is queued or running; `nanochat watch EXPERIMENT` shows one that isn't");
        }
        return Ok(Exit::Done);
    }
    let stop = stop_on_signals(["", ""]);
    let mut screen = Screen::default();
    loop {
        let states: Vec<ExperimentLive> =
            folders.iter().filter_map(|folder| live::of_experiment(folder).ok()).collect();
        let open: Vec<&ExperimentLive> =
            states.iter().filter(|state| args.experiment.is_some() || state.is_open()).collect();
        let text = open.iter().map(|state| lines(state)).collect::<Vec<_>>().join("\n\n");
        if stop.requested() || !open.iter().any(|state| state.is_open()) {
            screen.clear();
            say_lines!("{}", if text.is_empty() { "nothing is queued or running" } else { &text });
            return Ok(Exit::Done);
        }
        screen.text(&text);
        std::thread::sleep(LOOK);
    }
}

/// Serves the page until a signal comes.
fn serve(address: std::net::SocketAddr, expose: bool, root: ResultsRoot) -> CliResult {
    let page = Page::listen(address, expose, root).map_err(CliError::invalid)?;
    let stop = stop_on_signals(["", ""]);
    say!("{}", page.location());
    tell!("Ctrl-C ends it; runs go on");
    page.serve(&|| stop.requested());
    Ok(Exit::Done)
}

/// The experiments that are asked for.
fn folders(root: &ResultsRoot, name: Option<&str>) -> Result<Vec<ExperimentFolder>, CliError> {
    let all = root.experiments().map_err(CliError::failed)?;
    let Some(name) = name else { return Ok(all) };
    let one: Vec<_> = all.into_iter().filter(|folder| folder.name() == name).collect();
    if one.is_empty() {
        let message = format!("there are no results of `{name}` under `{}`", root.results().display());
        return Err(CliError::usage(message, Some("`nanochat list` shows all experiments with results")));
    }
    Ok(one)
}

/// An experiment in lines.
fn lines(experiment: &ExperimentLive) -> String {
    let mut rows = table(&["run", "state", "where", "step", "loss", "bpb", "tokens/s", "left", "last sign"]);
    let mut runs: Vec<&RunLive> = experiment.runs.iter().chain(&experiment.timing).collect();
    runs.sort_by_key(|run| !run.state.is_running());
    for run in runs.iter().take(SHOWN) {
        rows.add_row(row(run));
    }
    let more = runs.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("\n… and {more} more") } else { String::new() };
    format!("{}\n{rows}{more}", headline(experiment))
}

/// How many of its runs do what, and the time that is left.
pub fn headline(experiment: &ExperimentLive) -> String {
    let left = experiment.seconds_left.map(|seconds| format!("; about {} left", duration(seconds))).unwrap_or_default();
    format!("{}: {}{left}", experiment.name, experiment.counts())
}

fn row(run: &RunLive) -> [String; 9] {
    let dash = || "–".to_string();
    let host = run.host.clone().filter(|_| run.state.is_running() || run.silent_seconds.is_some());
    [
        run.run_id.clone(),
        run.state.name().to_string(),
        host.unwrap_or_else(dash),
        run.steps.map_or_else(dash, |steps| format!("{}/{steps}", run.step)),
        number(run.loss, 4),
        number(run.val_bpb, 4),
        run.tokens_per_second.map_or_else(dash, thousands),
        run.seconds_left.map_or_else(dash, duration),
        run.silent_seconds.map_or_else(dash, |seconds| format!("{} ago", duration(seconds))),
    ]
}

/// Lines that are drawn over again and again; without a terminal, a line at every change of the counts.
#[derive(Default)]
pub struct Screen {
    bar: Option<ProgressBar>,
    counts: String,
}

impl Screen {
    /// Shows how an experiment stands.
    pub fn show(&mut self, folder: &ExperimentFolder) {
        // A document that is being replaced is there at the next look.
        let Ok(experiment) = live::of_experiment(folder) else { return };
        if std::io::stderr().is_terminal() {
            self.text(&lines(&experiment));
        } else if experiment.counts() != self.counts {
            self.counts = experiment.counts();
            tell!("{}: {}", experiment.name, self.counts);
        }
    }

    /// Shows these lines in the place of the last ones.
    pub fn text(&mut self, text: &str) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        bar.set_message(outside::lines(text));
        bar.tick();
    }

    /// Prints a line that stays.
    pub fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell!("{text}")),
            None => tell!("{text}"),
        }
    }

    /// Removes what is shown.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
