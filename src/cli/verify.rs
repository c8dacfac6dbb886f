//! `nanochat verify`: recompute every scorecard and report, check every document and hash, and train drawn runs again.

use std::path::PathBuf;

use nanochat_artifacts::{ResultsRoot, Tree};
use nanochat_lab::scorecard::compare::Stale;
use nanochat_lab::verify::{Verification, verify};
use serde_json::json;

use super::annotations::{Level, annotate, file};
use super::{CliError, CliResult, Exit};
use crate::run::{Replay, Replayed, RunError, made_by_other_code, replay};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The results folder; the reports are in `reports/` next to it
    #[arg(default_value = "results")]
    results: PathBuf,
    /// Folder of the templates of the reports
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Train N recorded runs again from nothing, and compare losses, weights and figures with the recording; exits with 5
    /// when one of them can't be trained here
    #[arg(long, value_name = "N", default_value_t = 0)]
    replay: usize,
    /// Which runs are drawn for `--replay`
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Fail where other code made a recording than this build's
    #[arg(long)]
    require_fresh: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Output,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Output {
    /// Lines for people
    #[default]
    Text,
    /// JSON for scripts
    Json,
    /// Annotations of GitHub Actions
    Github,
}

pub fn execute(args: Args) -> CliResult {
    if !args.results.is_dir() {
        let help = "give the folder that holds the experiments' results, `results` by default";
        return Err(CliError::usage(format!("there is no folder `{}`", args.results.display()), Some(help)));
    }
    let root = ResultsRoot::of_results(&args.results).map_err(CliError::invalid)?;
    let found = verify(&root, args.templates.as_deref()).map_err(CliError::failed)?;
    // What can't be read is among the findings already.
    let other_code = Tree::folder(root.project()).and_then(|tree| made_by_other_code(&tree)).unwrap_or_default();
    let replays = match replays(&args, &root) {
        Err(RunError::Stopped) => return Ok(Exit::Interrupted),
        replays => replays.map_err(CliError::failed)?,
    };
    match args.format {
        Output::Json => super::output::plain_json(&json!({
            "experiments": found.experiments, "runs": found.runs, "files": found.files, "findings": found.findings,
            "other_code": other_code, "replays": replays,
        }))?,
        Output::Text => print_text(&found, &other_code, &replays),
        Output::Github => print_github(&found, &other_code, &replays, args.require_fresh),
    }
    let differs = replays.iter().any(|one| matches!(one.outcome, Replayed::Differs(_)));
    let not_here = replays.iter().any(|one| matches!(one.outcome, Replayed::NotHere(_)));
    let stale = args.require_fresh && !other_code.is_empty();
    Ok(match () {
        () if !found.findings.is_empty() || differs || stale => Exit::Failed,
        () if not_here || replays.len() < args.replay => Exit::NothingCompared,
        () => Exit::Done,
    })
}

fn replays(args: &Args, root: &ResultsRoot) -> Result<Vec<Replay>, RunError> {
    if args.replay == 0 {
        return Ok(Vec::new());
    }
    let stop = super::signals::stop_on_signals(["ending the replay; what is recorded stays as it is", ""]);
    let mut progress = super::progress::Progress::default();
    let total = args.replay;
    let mut number = 0;
    replay(root, (total, args.seed), &stop, &mut |plan, step| {
        let event = match step {
            None => {
                number += 1;
                crate::run::Event::Preparing { plan, number, total, flops_after: 0.0 }
            }
            Some(step) => crate::run::Event::Run { plan, step },
        };
        progress.show(event);
    })
}

/// What a replay showed, in one sentence.
fn told(replay: &Replay) -> String {
    match &replay.outcome {
        Replayed::Identical => "the same losses and weights as recorded, bit for bit".to_string(),
        Replayed::WithinBounds => "within the bounds of another machine or build".to_string(),
        Replayed::Differs(problems) => format!("differs from the recording: {}", problems.join("; ")),
        Replayed::NotHere(reason) => format!("can't be replayed here: {reason}"),
    }
}

fn print_text(found: &Verification, other_code: &[Stale], replays: &[Replay]) {
    found.findings.iter().for_each(|one| say!("{}: {}", one.file, one.problem));
    other_code.iter().for_each(|one| say!("warning: {}: {}", one.experiment, one.reason));
    replays.iter().for_each(|one| say!("replayed {}/{}: {}", one.experiment, one.run, told(one)));
    let problems = match found.findings.len() {
        0 => "all as recomputed".to_string(),
        count => format!("{count} problems"),
    };
    say!("{} experiments, {} runs, {} files: {problems}", found.experiments, found.runs, found.files);
}

fn print_github(found: &Verification, other_code: &[Stale], replays: &[Replay], require_fresh: bool) {
    found.findings.iter().for_each(|one| annotate(Level::Error, &file(&one.file), "nanochat verify", &one.problem));
    let level = if require_fresh { Level::Error } else { Level::Warning };
    for one in other_code {
        let record = format!("results/{}/experiment.json", one.experiment);
        annotate(level, &file(&record), "made by other code", &one.reason);
    }
    for one in replays {
        let level = match one.outcome {
            Replayed::Differs(_) => Level::Error,
            Replayed::NotHere(_) => Level::Warning,
            Replayed::Identical | Replayed::WithinBounds => Level::Notice,
        };
        let summary = format!("results/{}/{}/summary.json", one.experiment, one.run);
        annotate(level, &file(&summary), "replay", &told(one));
    }
    say!("{} experiments, {} runs, {} files", found.experiments, found.runs, found.files);
}
