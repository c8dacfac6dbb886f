//! From the merged spec to an experiment: rules, seeds, cells, each problem at the place that caused it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use nanochat_artifacts::{QualityRule, check_name};
use nanochat_plan::{ARM_AXIS, Settings};

use super::matrix::{self, CellSettings};
use super::problem::Problem;
use super::settings::{self, Context};
use super::{Cell, Experiment, arms, claims, paths};
use crate::config::document::{BaselineSpec, SpecDocument};
use crate::config::{Diagnostic, LayerKind, Loaded, Merged, SpecErrors, VocabularyReader, merge};

/// How the folder of the runs that measure an experiment's noise ends.
pub const NOISE_SUFFIX: &str = "-noise";
/// Names that results and reports use for something else.
const RESERVED_NAMES: [&str; 4] = ["baselines", "bench", "leaderboard", "LEADERBOARD.md"];

/// Cells that are told of when many have the same fault.
const MAX_FAULTS: usize = 20;

/// Makes an experiment of a loaded spec.
pub fn read(loaded: Loaded) -> Result<Experiment, SpecErrors> {
    let subject = loaded.path.display().to_string();
    let mut problems = loaded.diagnostics;
    let merged = loaded.merged;
    if !problems.is_empty() {
        return Err(SpecErrors::new(subject, problems));
    }
    let mut base = merged.to_json();
    if let Some(object) = base.as_object_mut() {
        object.remove("matrix");
    }
    let document = match SpecDocument::deserialize(&base) {
        Ok(document) => document,
        Err(error) => return Err(SpecErrors::one(subject, Diagnostic::error("bad-spec", error.to_string()))),
    };
    let arms = arms::read(&document, &merged).unwrap_or_else(|found| {
        problems.extend(found);
        Vec::new()
    });
    let cells = match matrix::expand(&merged, &base) {
        Ok(cells) => {
            of_each_arm(&arms, &cells, |cells| read_cells(&merged, &base, cells, loaded.vocabulary, &mut problems))
        }
        Err(found) => {
            problems.extend(found);
            Vec::new()
        }
    };
    let name = document.name.clone().unwrap_or_default();
    let is_reserved = RESERVED_NAMES.iter().any(|reserved| reserved.eq_ignore_ascii_case(&name));
    if is_reserved || name.to_ascii_lowercase().ends_with(NOISE_SUFFIX) {
        let message =
            format!("`{name}` can't be an experiment's name: `results/` and `reports/` hold something else under it");
        problems.push(Diagnostic::error("bad-value", message).at(merged.place(&["name"])).help("choose another name"));
    } else if let Err(error) = check_name("the experiment's name", &name) {
        problems.push(Diagnostic::error("bad-value", error.to_string()).at(merged.place(&["name"])));
    }
    let baseline = document.baseline;
    problems.extend(baseline.cell.as_ref().and_then(|control| wrong_control(&merged, &baseline, control, &cells)));
    problems.extend(claims::wrong(&merged, document.ruleset, &document.quality, &document.speed));
    if !problems.is_empty() {
        return Err(SpecErrors::new(subject, problems));
    }
    let warnings = warnings(&merged, &cells);
    let control = document.control.map(|name| BTreeMap::from([(ARM_AXIS.to_owned(), Value::from(name))]));
    let of_control = arms.first().and_then(|arm| arm.plan.commit.clone());
    Ok(Experiment {
        name,
        description: document.description,
        baseline_commit: of_control.unwrap_or(baseline.commit),
        baseline_results: baseline.results,
        control: control.or(baseline.cell),
        arms,
        baseline_variants: baseline.variants,
        seeds: document.seeds.unwrap_or_else(|| document.seed.into_iter().collect()),
        quality: QualityRule {
            claim: document.quality.claim,
            metric: document.quality.metric,
            relative: document.quality.tolerance.relative,
            absolute: document.quality.tolerance.absolute,
        },
        speed: claims::speed(document.ruleset, document.speed),
        reproducibility: document.reproducibility,
        drift: document.eval.drift,
        ruleset: claims::word(document.ruleset).to_owned(),
        cells,
        stand_in: loaded.stand_in,
        warnings,
        path: loaded.path,
        layers: merged,
    })
}

/// The cells of every arm, or the matrix's own where there are none. Cells that differ in another arm's values are one.
fn of_each_arm(
    arms: &[arms::Arm],
    cells: &[CellSettings],
    mut read: impl FnMut(&[CellSettings]) -> Vec<Cell>,
) -> Vec<Cell> {
    if arms.is_empty() {
        return read(cells);
    }
    let of_arm = |arm: &arms::Arm| {
        let mut own: Vec<CellSettings> = Vec::new();
        for cell in cells.iter().map(|cell| cell.of_arm(&arm.plan.name)) {
            if !own.contains(&cell) {
                own.push(cell);
            }
        }
        arms::carried_out_by(arm, read(&own))
    };
    arms.iter().flat_map(of_arm).collect()
}

/// The meaning of every cell.
fn read_cells(
    merged: &Merged,
    base: &Value,
    cells: &[CellSettings],
    reader: Option<VocabularyReader>,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Cell> {
    let stand_in = matrix::stand_in_patch(merged).unwrap_or_else(matrix::nothing);
    let known: RefCell<HashMap<String, Result<Option<usize>, String>>> = RefCell::default();
    let vocabulary = |path: &str| {
        let look = || paths::vocabulary(path, reader);
        known.borrow_mut().entry(path.to_owned()).or_insert_with(look).clone()
    };
    let mut read = Vec::with_capacity(cells.len());
    for cell in cells {
        let mut document = base.clone();
        cell.apply(&mut document);
        merge::overlay(&mut document, &stand_in);
        match read_cell(merged, cell, &document, &vocabulary) {
            Ok((settings, assumed_vocabulary)) => {
                let mut axes = matrix::complete_axes(cell, cells, &document);
                axes.retain(|key, _| !matrix::sets(&stand_in, key));
                let order =
                    cell.0.iter().map(|setting| setting.key.clone()).filter(|key| axes.contains_key(key)).collect();
                read.push(Cell { axes, order, settings, assumed_vocabulary });
            }
            Err(found) => problems.extend(found),
        }
        if problems.len() >= MAX_FAULTS {
            break;
        }
    }
    read
}

fn read_cell(
    merged: &Merged,
    cell: &CellSettings,
    document: &Value,
    vocabulary: &dyn Fn(&str) -> Result<Option<usize>, String>,
) -> Result<(Settings, bool), Vec<Diagnostic>> {
    let stated = |key: &str| {
        let steps: Vec<&str> = key.split('.').collect();
        let by_layer = merged.origin(&steps).is_some_and(|(layer, _)| layer.kind != LayerKind::Defaults);
        by_layer || cell.path_of(key).is_some()
    };
    let blame = |problem: Problem| diagnostic(merged, cell, problem);
    let document = SpecDocument::deserialize(document)
        .map_err(|error| vec![Diagnostic::error("bad-spec", error.to_string()).at(merged.place(&["matrix"]))])?;
    let read = settings::read(&document, &Context { stated: &stated, vocabulary });
    let read = read.map_err(|problems| problems.into_iter().map(blame).collect::<Vec<_>>())?;
    match read.0.plan("", &BTreeMap::new(), 0) {
        Ok(_) => Ok(read),
        Err(error) => {
            let problem = Problem::new("impossible", error.key(), error.to_string());
            Err(vec![blame(Problem { help: error.help(), ..problem })])
        }
    }
}

/// A problem at the place that caused it: the cell's own value, else the layer's.
fn diagnostic(merged: &Merged, cell: &CellSettings, problem: Problem) -> Diagnostic {
    let steps: Vec<String> = problem.key.split('.').map(str::to_owned).collect();
    let place = match cell.path_of(&problem.key) {
        Some(path) => merged.place(path),
        None => merged.place(&steps),
    };
    Diagnostic::error(problem.code, problem.message).at(place).help_if_any(problem.help)
}

/// What is wrong with the control, if anything: it must name one cell of several, and there must be no recording.
fn wrong_control(
    merged: &Merged,
    baseline: &BaselineSpec,
    control: &BTreeMap<String, Value>,
    cells: &[Cell],
) -> Option<Diagnostic> {
    let wrong = |message: String, help: String| {
        Some(Diagnostic::error("control", message).at(merged.place(&["baseline", "cell"])).help(help))
    };
    if baseline.results.is_some() {
        let message = "`baseline.cell` and `baseline.results` both say what the runs are held against";
        return wrong(
            message.to_owned(),
            "keep one of them; `results: null` takes back what `extends` brings".to_owned(),
        );
    }
    let axes: Vec<&str> = cells.first().map(|cell| cell.order.iter().map(String::as_str).collect()).unwrap_or_default();
    if let Some(unknown) = control.keys().find(|key| !axes.contains(&key.as_str())) {
        let help = match axes.as_slice() {
            [] => "there is no matrix: say in `matrix` what to vary".to_owned(),
            axes => format!("the axes are {}", axes.join(", ")),
        };
        return wrong(format!("`baseline.cell` names `{unknown}`, which the matrix doesn't vary"), help);
    }
    let named = |cell: &&Cell| control.iter().all(|(key, value)| cell.axes.get(key) == Some(value));
    match cells.iter().filter(named).count() {
        1 if cells.len() > 1 => None,
        0 => wrong("no cell of the matrix has the values of `baseline.cell`".to_owned(), LISTED.to_owned()),
        1 => wrong("`baseline.cell` is the only cell: nothing is held against it".to_owned(), LISTED.to_owned()),
        many => wrong(
            format!("{many} cells of the matrix have the values of `baseline.cell`; the control is one cell"),
            format!("state all of {}", axes.join(", ")),
        ),
    }
}

const LISTED: &str = "`nanochat plan SPEC` lists the cells";

/// What the author should know of a valid spec.
fn warnings(merged: &Merged, cells: &[Cell]) -> Vec<Diagnostic> {
    let assumed = cells.iter().find(|cell| cell.assumed_vocabulary);
    let warning = assumed.map(|cell| {
        let size = cell.settings.dials.vocab_size;
        let message = format!("the tokenizer is not here, so its vocabulary is assumed to be {size}");
        let help = format!("put the tokenizer there, or state its size: `tokenizer.vocab_size: {size}`");
        Diagnostic::warning("assumed-vocabulary", message).at(merged.place(&["tokenizer", "path"])).help(help)
    });
    warning.into_iter().collect()
}
