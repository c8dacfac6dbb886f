//! `nanochat data download`: the baseline's training data, and the tasks of the CORE metric.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use nanochat_download::{
    Client, Climbmix, DownloadError, EVAL_BUNDLE_FOLDER, EVAL_BUNDLE_URL, Environment, EvalBundle, Event, Patience,
    Report, climbmix_address,
};
use nanochat_engine::data::resolve;
use nanochat_plan::{CLIMBMIX_FOLDER, CLIMBMIX_SHARDS, CLIMBMIX_VALIDATION};

use super::{CliError, CliResult, Exit, Format, signals};
use crate::hardware::free_bytes;

/// Without a terminal, progress is printed at most this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Download data of the baseline. Proxies come from HTTPS_PROXY and NO_PROXY, a mirror of the Hugging Face hub from HF_ENDPOINT,
/// a token for it from HF_TOKEN.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Training data: the first shards of ClimbMix, some 100 MB each, and its validation shard
    Climbmix {
        /// Training shards
        #[arg(long, value_name = "N", default_value_t = CLIMBMIX_SHARDS,
              value_parser = clap::value_parser!(u64).range(1..=CLIMBMIX_VALIDATION))]
        shards: u64,
        /// Folder for them
        #[arg(long, value_name = "FOLDER", default_value = CLIMBMIX_FOLDER)]
        out: String,
        /// Shards to download at a time
        #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
        jobs: u64,
        #[command(flatten)]
        how: How,
    },
    /// The tasks of the CORE metric, some 162 MB
    EvalBundle {
        /// Folder for them
        #[arg(long, value_name = "FOLDER", default_value = EVAL_BUNDLE_FOLDER)]
        out: String,
        #[command(flatten)]
        how: How,
    },
}

/// What both have in common.
#[derive(Debug, clap::Args)]
struct How {
    /// Address to download from instead: of the folder with the shards, or of the archive
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Compare what is there already with its SHA-256 too
    #[arg(long)]
    verify: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn execute(args: Args) -> CliResult {
    // What is unfinished is gone on with, so that nothing has to be put in order first.
    signals::catch(|| {
        tell!("stopped; the same command goes on from here");
        ControlFlow::Break(())
    });
    let environment = Environment::read();
    let progress = Progress::default();
    let watch = |event: Event<'_>| progress.show(&event);
    let (format, done) = match args.what {
        What::Climbmix { shards, out, jobs, how } => {
            let address = how.from.clone().unwrap_or_else(|| climbmix_address(&environment));
            let patience = Patience { parallel: jobs as usize, ..Patience::default() };
            let wanted = Climbmix { address, folder: folder(&out), shards, verify: how.verify };
            let client = Client::new(&wanted.address, environment.token.as_deref(), patience);
            (how.format, client.and_then(|client| wanted.download(&client, &free_bytes, &watch)))
        }
        What::EvalBundle { out, how } => {
            let address = how.from.unwrap_or_else(|| EVAL_BUNDLE_URL.to_owned());
            let wanted = EvalBundle { address, folder: folder(&out), verify: how.verify };
            // The archive doesn't come from the hub, so its token doesn't go there.
            let client = Client::new(&wanted.address, None, Patience::default());
            (how.format, client.and_then(|client| wanted.download(&client, &free_bytes, &watch)))
        }
    };
    progress.finish();
    let report = done.map_err(|error| match error {
        DownloadError::Address { .. } | DownloadError::Token { .. } => CliError::invalid(error),
        error => CliError::failed(error),
    })?;
    print(&report, format);
    Ok(Exit::Done)
}

fn folder(out: &str) -> PathBuf {
    resolve(out.trim_end_matches('/'), Path::new(""))
}

fn print(report: &Report, format: Format) {
    let Report { folder, downloaded, kept, bytes } = report;
    if format == Format::Json {
        let document = json!({ "folder": folder, "downloaded": downloaded, "kept": kept, "bytes": bytes });
        super::output::say_json(&format!("{document:#}"));
        return;
    }
    say!("{}: {downloaded} files new ({}), {kept} kept", folder.display(), indicatif::DecimalBytes(*bytes));
}

/// A bar on a terminal, plain lines otherwise.
#[derive(Default)]
struct Progress(Mutex<State>);

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    expected: u64,
    received: u64,
    last_line: Option<Instant>,
}

impl Progress {
    fn show(&self, event: &Event<'_>) {
        let Ok(mut state) = self.0.lock() else { return };
        match event {
            Event::Begins { here, missing, bytes } => {
                let about = indicatif::DecimalBytes(*bytes);
                state.line(&format!("{here} files are here, {missing} to download, about {about}"));
                state.begin(*bytes);
            }
            Event::Received { bytes } => state.receive(*bytes),
            Event::Replaced { file, problem } => state.line(&format!("{file}: {problem}; it is downloaded again")),
            Event::Waits { file, reason, wait } => {
                state.line(&format!("{file}: {reason}; trying again in {} s", wait.as_secs_f64().ceil()));
            }
            Event::Completed { file, bytes } => {
                state.line(&format!("{file}: {}", indicatif::DecimalBytes(*bytes)));
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.0.lock().ok().and_then(|mut state| state.bar.take()) {
            bar.finish_and_clear();
        }
    }
}

impl State {
    fn begin(&mut self, bytes: u64) {
        self.expected = bytes;
        self.last_line = Some(Instant::now());
        if bytes > 0 && std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
            let template = "  {bar:24} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
    }

    fn receive(&mut self, bytes: u64) {
        self.received += bytes;
        match &self.bar {
            Some(bar) => bar.inc(bytes),
            None if self.last_line.is_some_and(|last| last.elapsed() >= LINE_INTERVAL) => {
                let [received, expected] = [self.received, self.expected].map(indicatif::DecimalBytes);
                self.line(&format!("{received} of about {expected}"));
                self.last_line = Some(Instant::now());
            }
            None => {}
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell!("{text}")),
            None => tell!("{text}"),
        }
    }
}
