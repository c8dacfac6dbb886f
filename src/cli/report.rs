//! `nanochat report`: render the reports of an experiment from its artifacts.

use std::path::{Path, PathBuf};

use nanochat_artifacts::{ExperimentFolder, ResultsRoot};
use nanochat_lab::report;
use nanochat_lab::scorecard;

use super::{CliError, CliResult, Exit, Format, names};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of an experiment, or its results folder
    #[arg(add = names::experiments())]
    experiment: String,
    /// Folder of templates that replace the built-in ones of the same name
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Recompute the scorecard first
    #[arg(long)]
    recompute: bool,
    /// Folder of the project, which holds `results/` and `reports/`
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn execute(args: Args) -> CliResult {
    let (root, folder) = find(&args.experiment, &args.project)?;
    if let Some(templates) = args.templates.as_ref().filter(|templates| !templates.is_dir()) {
        return Err(CliError::usage(format!("there is no folder `{}`", templates.display()), None));
    }
    if args.recompute || !folder.scorecard().is_file() {
        scorecard::update(&folder, root.project()).map_err(CliError::failed)?;
    }
    let sources = report::Sources::read(&folder, root.project()).map_err(CliError::failed)?;
    let rendered = report::render(&sources, args.templates.as_deref()).map_err(CliError::failed)?;
    let written = report::write(&root, &sources.scorecard.experiment, &rendered).map_err(CliError::failed)?;
    report::refresh_leaderboard(&root).map_err(CliError::failed)?;
    match args.format {
        Format::Json => super::output::json(&written)?,
        Format::Text => say_lines!("{}\n{}", written.markdown.display(), written.html.display()),
    }
    Ok(Exit::Done)
}

/// An experiment by its results folder, or by its name under the project's `results/`.
pub(super) fn find(experiment: &str, project: &Path) -> Result<(ResultsRoot, ExperimentFolder), CliError> {
    let folder = ExperimentFolder::at(experiment.trim_end_matches('/'));
    if folder.record().is_file() {
        let results = folder.path().canonicalize().ok().and_then(|path| path.parent().map(Path::to_path_buf));
        let root = match results {
            Some(results) => ResultsRoot::of_results(&results).map_err(CliError::invalid)?,
            None => ResultsRoot::new(project),
        };
        return Ok((root, folder));
    }
    let root = ResultsRoot::new(project);
    let folder = root.experiment(experiment).map_err(CliError::invalid)?;
    if !folder.record().is_file() {
        let message = format!("there are no results of `{experiment}` under `{}`", root.results().display());
        let others = "`nanochat list` shows all experiments with results; `nanochat run SPEC` makes results";
        return Err(CliError::usage(message, Some(&names::help(experiment, &root, others))));
    }
    Ok((root, folder))
}
