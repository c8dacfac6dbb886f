//! `nanochat completions` and `nanochat man`: what shells and manual readers need of the command line.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::env::Shells;
use nanochat_artifacts::write_atomic;

use super::{Cli, CliError, CliResult, Exit};

/// Variable by which a shell asks the program for completions.
pub(super) const VARIABLE: &str = "COMPLETE";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// The folder, such as ~/.local/share/man/man1
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints the script that makes the shell ask this program, which knows the experiments of the folder.
pub fn execute(args: Args) -> CliResult {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(&args.shell) else {
        return Err(CliError::usage(format!("there are no completions for `{}`", args.shell), None));
    };
    let written = completer.write_registration(VARIABLE, "nanochat", "nanochat", "nanochat", &mut script);
    written.map_err(|error| CliError::usage(error, None))?;
    super::output::bytes(&script);
    Ok(Exit::Done)
}

/// Writes a page for the program and one for each command.
pub fn man(args: ManArgs) -> CliResult {
    let mut program = Cli::command();
    program.build();
    let mut pages = vec![("nanochat".to_owned(), program.clone())];
    let mut open: Vec<(String, clap::Command)> = pages.clone();
    while let Some((name, command)) = open.pop() {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set()) {
            let page = format!("{name}-{}", inner.get_name());
            pages.push((page.clone(), inner.clone()));
            open.push((page, inner.clone()));
        }
    }
    pages.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, command) in &pages {
        let mut page = Vec::new();
        let manual = clap_mangen::Man::new(command.clone()).title(name.clone());
        manual.render(&mut page).map_err(|error| CliError::usage(error, None))?;
        write_atomic(&args.out.join(format!("{name}.1")), &page).map_err(CliError::failed)?;
    }
    say!("{} pages in {}", pages.len(), args.out.display());
    Ok(Exit::Done)
}
