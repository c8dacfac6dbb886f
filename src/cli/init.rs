//! `nanochat init`: writes a first spec, by flags or by asking.

use std::io::{BufRead, IsTerminal as _};
use std::path::PathBuf;

use super::{CliError, CliResult, Exit};
use crate::init::{self, Compared, InitError, Question, Template, Written};
use crate::run::{duration, project};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The spec's file; by default experiments/ and what is compared
    file: Option<PathBuf>,
    /// Kind of experiment
    #[arg(long, value_enum, default_value_t)]
    template: Kind,
    /// A key and its values, the control first: optimizer.matrix_lr=0.2,0.3; with --template arms a name and a commit, or native
    #[arg(long, value_name = "KEY=A,B")]
    compare: Vec<String>,
    /// A folder of parquet, .jsonl or .txt files, one .jsonl or .txt file, or `synthetic`
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// How much time all runs may take together: 10m, 90s, 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    time: Option<f64>,
    /// The difference in bits per byte that must be seen; it decides how many seeds there are
    #[arg(long, value_name = "BPB", value_parser = positive)]
    difference: Option<f64>,
    /// The hardware profile; by default the one of this machine
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// Kind of experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Kind {
    /// Values of one key against the first of them
    #[default]
    Ablation,
    /// Every combination of the values of several keys
    Sweep,
    /// Commits of karpathy/nanochat, or this program, against the first of them
    Arms,
    /// Depths at one budget of FLOPs
    Scaling,
}

/// What is proposed for a question.
const COMPARE: &str = "optimizer.matrix_lr=0.2,0.3";
const DATA: &str = "synthetic";
const TIME: &str = "10m";

pub fn execute(args: Args) -> CliResult {
    let asks = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let question = question(args, asks)?;
    question.check().map_err(failed)?;
    tell!("measuring this machine …");
    let written = init::write(&question, &project()).map_err(failed)?;
    print(&written, &question);
    Ok(Exit::Done)
}

fn failed(error: InitError) -> CliError {
    match error {
        InitError::Bench(_) | InitError::Run(_) | InitError::Artifact(_) => CliError::failed(error),
        _ => CliError::invalid(error),
    }
}

/// What the flags say; on a terminal what they leave open is asked for.
fn question(args: Args, asks: bool) -> Result<Question, CliError> {
    let template = match args.template {
        Kind::Ablation => Template::Ablation,
        Kind::Sweep => Template::Sweep,
        Kind::Arms => Template::Arms,
        Kind::Scaling => Template::Scaling,
    };
    let ask = |what: &str, proposed: &str| match asks {
        true => answer(&mut std::io::stdin().lock(), what, proposed),
        false => {
            Err(CliError::usage(format!("{what}: nothing says so"), Some("`nanochat init --help` shows the flags")))
        }
    };
    let compare = match (args.compare, template) {
        (compare, Template::Scaling) => compare,
        (compare, _) if compare.is_empty() => vec![ask("What is compared (--compare KEY=A,B)", COMPARE)?],
        (compare, _) => compare,
    };
    let compared: Vec<Compared> =
        compare.iter().map(|one| Compared::parse(one)).collect::<Result<_, _>>().map_err(failed)?;
    let data = args.data.map_or_else(|| ask("On which data (--data PATH, or synthetic)", DATA), Ok)?;
    let seconds = match args.time {
        Some(seconds) => seconds,
        None => time(&ask("In how much time (--time 10m)", TIME)?).map_err(|error| CliError::usage(error, None))?,
    };
    Ok(Question {
        file: args.file.unwrap_or_else(|| init::default_file(template, &compared)),
        template,
        compared,
        data: init::source(&data).map_err(failed)?,
        seconds,
        difference: args.difference,
        profile: args.profile,
    })
}

/// Asks for a line; an empty one takes what is proposed.
fn answer(input: &mut impl BufRead, what: &str, proposed: &str) -> Result<String, CliError> {
    super::output::text(&format!("{what} [{proposed}]: "));
    super::output::failure();
    let mut line = String::new();
    input.read_line(&mut line).map_err(|error| CliError::usage(format!("can't read the answer: {error}"), None))?;
    let line = line.trim();
    Ok(if line.is_empty() { proposed.to_owned() } else { line.to_owned() })
}

fn print(written: &Written, question: &Question) {
    let file = written.file.display();
    let runs = written.runs.len();
    say!("wrote {file}: {runs} runs, about {} in all", duration(written.seconds));
    if let Some(schema) = &written.schema {
        say!("wrote {}: editors check and complete specs by it", schema.display());
    }
    if let Some(ignored) = &written.ignored {
        say!("wrote {}: checkpoints and logs of runs stay out of git", ignored.display());
    }
    if let Some(attributes) = &written.attributes {
        say!("wrote {}: results have the same bytes on every system", attributes.display());
    }
    if let Some(run) = written.runs.first() {
        let model = &run.model;
        say!(
            "model: {} layers, {} wide, {} parameters; {} steps of {} tokens a run, {:.0} tokens a second here",
            model.n_layer,
            model.n_embd,
            run.parameters.total,
            run.num_iterations,
            run.total_batch_size,
            written.tokens_per_second,
        );
    }
    say!(
        "seeds: {} a cell show a difference of about {:.4} bits per byte (standard deviation {:.4}, {})",
        written.seeds,
        written.detects,
        written.deviation.value,
        written.deviation.source,
    );
    let checkouts: String = match question.template {
        Template::Arms => {
            let named = question.compared.iter().filter(|arm| arm.values[0] != "native");
            named.map(|arm| format!(" --checkout {}=FOLDER", arm.key)).collect()
        }
        _ => String::new(),
    };
    let name = written.runs.first().map_or("", |run| run.experiment.as_str());
    say!();
    say!("next:");
    say_lines!("  nanochat plan {file}\n  nanochat run {file}{checkouts}");
    say!("  git add {file} results/{name} reports/{name}.md reports/{name}.html && git commit");
}

/// A time in seconds.
fn time(text: &str) -> Result<f64, String> {
    let duration = match text.trim().parse::<f64>() {
        Ok(seconds) => Ok(seconds),
        Err(_) => text.trim().parse::<jiff::SignedDuration>().map(|time| time.as_secs_f64()),
    };
    match duration {
        Ok(seconds) if seconds >= 1.0 && seconds.is_finite() => Ok(seconds),
        _ => Err(format!("`{text}` is no time: write 10m, 90s or 1h30m")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| *value > 0.0 && value.is_finite());
    value.ok_or_else(|| format!("`{text}` is no difference in bits per byte: write a number such as 0.005"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let seconds: Vec<f64> = ["10m", "90s", "90", "1h30m", "1h 30m"].map(|text| time(text).unwrap()).to_vec();
        assert_eq!(seconds, [600.0, 90.0, 90.0, 5400.0, 5400.0]);
        assert!(["", "ten", "-5m", "0s", "inf"].into_iter().all(|text| time(text).is_err()));
    }

    #[test]
    fn an_empty_answer_takes_what_is_proposed() {
        let mut input = std::io::Cursor::new("\n data/books \n");
        assert_eq!(answer(&mut input, "data", "synthetic").unwrap(), "synthetic");
        assert_eq!(answer(&mut input, "data", "synthetic").unwrap(), "data/books");
    }
}
