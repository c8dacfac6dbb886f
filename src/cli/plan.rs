//! `nanochat plan`: what an experiment would run, and what it would cost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::plan_text;
use super::{CliError, CliResult, Exit, Format};
use crate::run;
use nanochat_artifacts::{ArtifactError, BaselineResult, ResultsRoot, read_document};
use nanochat_experiment::{self as experiment, Cell, Experiment, LoadOptions};
use nanochat_lab::scorecard;
use nanochat_plan::{PlanSet, Power, RunPlan};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The experiment spec
    spec: PathBuf,
    #[command(flatten)]
    overlay: Overlay,
    /// Only cells with this axis value, such as model.depth=12; several narrow further, values of one axis add up
    #[arg(long, value_name = "AXIS=VALUE")]
    only: Vec<String>,
    /// Show for every value the layer and place that set it
    #[arg(long, conflicts_with = "resolved")]
    explain: bool,
    /// Print the resolved spec as YAML; it plans to the same hashes
    #[arg(long)]
    resolved: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is laid over a spec on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overlay {
    /// Set a value, as a dotted path and any YAML: --set model.depth=8
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Use this hardware profile instead of the spec's own
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
}

impl Overlay {
    /// As the library takes it, with the process's environment.
    pub fn options(&self) -> LoadOptions {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        LoadOptions {
            overrides: self.set.clone(),
            environment,
            profile: self.profile.clone(),
            vocabulary: Some(vocabulary_size),
        }
    }
}

/// The vocabulary size of a stored tokenizer.
pub fn vocabulary_size(path: &Path) -> Result<usize, String> {
    let tokenizer = nanochat_engine::tokenizer::Tokenizer::load(path).map_err(|error| error.to_string())?;
    Ok(tokenizer.vocab_size())
}

pub fn execute(args: Args) -> CliResult {
    let experiment = experiment::load(&args.spec, &args.overlay.options()).map_err(CliError::invalid)?;
    if args.explain {
        plan_text::explain(&experiment, args.format);
        return Ok(Exit::Done);
    }
    if args.resolved {
        print!("{}", experiment.resolved_yaml());
        return Ok(Exit::Done);
    }
    plan_text::warn(&experiment);
    let cells = select(&experiment, &args.only)?;
    let expansion = experiment::expand_cells(&experiment, cells).map_err(|error| {
        let help = error.way_out();
        CliError::usage(error, help.as_deref())
    })?;
    let refuse = |error: ArtifactError| CliError::usage(error, None);
    let root = ResultsRoot::new("");
    let folder = root.experiment(&experiment.name).map_err(refuse)?;
    let outlook = run::outlook(&expansion.runs, &folder).map_err(refuse)?;
    let power = power(&experiment, &expansion.runs, &root).map_err(refuse)?;
    match args.format {
        Format::Text => plan_text::print(&experiment, &expansion, &outlook, power.as_ref()),
        Format::Json => {
            let set = PlanSet::new(&experiment.name, expansion.runs, outlook, power);
            let text =
                nanochat_artifacts::canonical_json(&args.spec, &set).map_err(|error| CliError::usage(error, None))?;
            print!("{text}");
        }
    }
    Ok(Exit::Done)
}

/// What the planned seeds can tell; none where nobody measured the metric's noise.
fn power(experiment: &Experiment, runs: &[RunPlan], root: &ResultsRoot) -> Result<Option<Power>, ArtifactError> {
    let Some(noise) = scorecard::power::noise(root, &experiment.name, experiment.quality.metric)? else {
        return Ok(None);
    };
    let results = experiment.baseline_results.as_ref().map(Path::new).filter(|path| path.exists());
    let baseline = results.map(read_document::<BaselineResult>).transpose()?;
    Ok(Some(scorecard::power::power(&experiment.quality, runs, &noise, baseline.as_ref())))
}

/// The cells that `--only` leaves.
pub fn select<'a>(experiment: &'a Experiment, only: &[String]) -> Result<Vec<&'a Cell>, CliError> {
    let mut wanted: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for argument in only {
        let (key, value) = experiment::parse_filter(experiment, argument).map_err(CliError::invalid)?;
        wanted.entry(key).or_default().push(value);
    }
    let fits = |cell: &&Cell| {
        wanted.iter().all(|(key, values)| cell.axes.get(key).is_some_and(|value| values.contains(value)))
    };
    let cells: Vec<&Cell> = experiment.cells.iter().filter(fits).collect();
    if cells.is_empty() {
        return Err(CliError::usage("no cell has all of these values", Some("`nanochat plan SPEC` lists the cells")));
    }
    Ok(cells)
}
