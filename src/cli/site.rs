//! `nanochat site`: static pages of all experiments with their history.

use std::path::PathBuf;

use nanochat_artifacts::{ResultsRoot, shortcoming};
use nanochat_lab::report;

use super::{CliError, CliResult, Exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; pages of an earlier call are replaced, other files stay
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of templates that replace the built-in ones of the same name
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Folder of the project, which holds `results/`
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
}

pub fn execute(args: Args) -> CliResult {
    if let Some(templates) = args.templates.as_ref().filter(|templates| !templates.is_dir()) {
        return Err(CliError::usage(format!("there is no folder `{}`", templates.display()), None));
    }
    let root = ResultsRoot::new(&args.project);
    if let Some(reason) = shortcoming(root.project()) {
        tell!("warning: the pages' history is incomplete: {reason}");
    }
    let written = report::write_site(&root, &args.out, args.templates.as_deref()).map_err(CliError::failed)?;
    say!("{} files; open {}", written.len(), args.out.join("index.html").display());
    Ok(Exit::Done)
}
