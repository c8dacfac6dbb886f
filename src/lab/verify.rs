//! Recomputes what can be recomputed: every scorecard and report from the raw artifacts, every figure of a summary from
//! its tables, every hash. Says of each file what differs; changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use nanochat_artifacts::{
    ArmsRecord, BaselineResult, Document, ExperimentDocuments, ExperimentFolder, ExperimentRecord, LONGEST_DOCUMENT,
    NoiseEntry, NoiseRecord, ResultsRoot, RunDocuments, RunTotals, Scorecard, Summary, Tables, TimingRecord,
    canonical_json, file_sha256, files, loss_trace_sha256, parse_document, read_experiment,
};
use nanochat_plan::{InitPlan, configuration_hash, plan_hash};

use crate::report::{self, ReportError, Sources};
use crate::scorecard;

/// Relative difference that a recomputed median or sum may have.
const ROUNDING: f64 = 1e-9;

/// Something that isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The file, relative to the project.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What was checked, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verification {
    /// Number of experiments.
    pub experiments: usize,
    /// Number of runs.
    pub runs: usize,
    /// Number of documents and tables that were read.
    pub files: usize,
    /// What was found, empty when all is as it should be.
    pub findings: Vec<Finding>,
}

/// Checks everything under a project's `results/`, and the reports that lie in its `reports/`.
///
/// # Errors
/// Folders that can't be listed; whatever is wrong inside a file is a finding.
pub fn verify(root: &ResultsRoot, templates: Option<&Path>) -> Result<Verification, ReportError> {
    let mut check = Check { root, found: Verification::default() };
    for path in root.baselines()? {
        check.document::<BaselineResult>(&path);
    }
    for folder in root.experiments()? {
        check.experiment(&folder, templates);
        check.noise(&folder);
    }
    check.leaderboard(templates);
    Ok(check.found)
}

struct Check<'a> {
    root: &'a ResultsRoot,
    found: Verification,
}

impl Check<'_> {
    fn blame(&mut self, path: &Path, problem: impl Into<String>) {
        let file = path.strip_prefix(self.root.project()).unwrap_or(path);
        self.found.findings.push(Finding { file: file.to_string_lossy().into_owned(), problem: problem.into() });
    }

    /// Reads a document and sees whether it is written as this program writes it.
    fn document<T: Document>(&mut self, path: &Path) -> Option<T> {
        self.found.files += 1;
        let text = match files::read(path, T::LONGEST) {
            Ok(text) => text,
            Err(error) => {
                self.blame(path, format!("can't be read: {error}"));
                return None;
            }
        };
        match parse_document::<T>(path, &text) {
            Ok(document) => {
                if canonical_json(path, &document).is_ok_and(|canonical| canonical.as_bytes() != text) {
                    self.blame(path, form(&text));
                }
                Some(document)
            }
            Err(error) => {
                self.blame(path, error.to_string());
                None
            }
        }
    }

    fn experiment(&mut self, folder: &ExperimentFolder, templates: Option<&Path>) {
        self.found.experiments += 1;
        let Some(record) = self.document::<ExperimentRecord>(&folder.record()) else { return };
        if record.name != folder.name() {
            self.blame(
                &folder.record(),
                format!("names the experiment `{}`, the folder is `{}`", record.name, folder.name()),
            );
        }
        if files::is_there(&folder.arms()) {
            self.document::<ArmsRecord>(&folder.arms());
        }
        if files::is_there(&folder.timing()) {
            self.document::<TimingRecord>(&folder.timing());
        }
        let documents = match read_experiment(folder) {
            Ok(documents) => documents,
            Err(error) => return self.blame(folder.path(), error.to_string()),
        };
        self.strangers(&documents);
        let mut tables = Tables::default();
        self.copies(&documents);
        self.same_under_other_seeds(&documents);
        for run in &documents.runs {
            self.run(run, &mut tables);
        }
        self.totals(&documents, &tables);
        self.scorecard(folder, templates);
    }

    /// Runs that lie in the folder and aren't planned.
    fn strangers(&mut self, documents: &ExperimentDocuments) {
        match documents.folder.run_folders() {
            Err(error) => self.blame(documents.folder.path(), error.to_string()),
            Ok(runs) => {
                let planned: BTreeSet<&String> = documents.record.runs.iter().collect();
                for run in runs.iter().filter(|run| !planned.contains(&run.name())) {
                    self.blame(
                        run.path(),
                        "is not among the experiment's runs; `nanochat prune` removes what no spec plans, or run the experiment that planned it",
                    );
                }
            }
        }
    }

    fn run(&mut self, run: &RunDocuments, tables: &mut Tables) {
        self.found.runs += 1;
        let folder = &run.folder;
        if let Some(plan) = self.document::<nanochat_plan::RunPlan>(&folder.plan())
            && plan.run_id != folder.name()
        {
            self.blame(&folder.plan(), format!("is the plan of `{}`", plan.run_id));
        }
        let hash = plan_hash(&run.plan);
        if hash != run.plan.plan_hash {
            self.blame(&folder.plan(), format!("says plan_hash {}, what it holds has {hash}", run.plan.plan_hash));
        }
        if run.environment.is_some() {
            self.document::<nanochat_artifacts::Environment>(&folder.environment());
        }
        if run.summary.is_none() {
            return;
        }
        let Some(summary) = self.document::<Summary>(&folder.summary()) else { return };
        if summary.run_id != run.plan.run_id {
            self.blame(&folder.summary(), format!("is the summary of `{}`", summary.run_id));
        }
        for (name, expected) in &summary.files_sha256 {
            self.hash(&folder.path().join(name), expected);
        }
        self.tables(run, &summary, tables);
    }

    /// Runs with the same table of steps: it holds measured times, which no two runs have in common.
    fn copies(&mut self, documents: &ExperimentDocuments) {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for run in &documents.runs {
            // A checkout prints its times rounded, so that two of its runs may have the same.
            let measured = |summary: &&Summary| summary.steps > 0 && summary.arm.is_none();
            let Some(summary) = run.finished().filter(measured) else { continue };
            let Some(table) = summary.files_sha256.get("steps.parquet") else { continue };
            match seen.get(table.as_str()) {
                Some(first) => {
                    let problem = format!("holds the steps of `{first}`, measured times included: it is a copy");
                    self.blame(&run.folder.steps(), problem);
                }
                None => {
                    seen.insert(table, &run.plan.run_id);
                }
            }
        }
    }

    /// Runs that say they had other seeds and yet the same losses or weights. Stored starting weights leave nothing to the seed.
    fn same_under_other_seeds(&mut self, documents: &ExperimentDocuments) {
        let mut seen: BTreeMap<(&str, &str), &RunDocuments> = BTreeMap::new();
        for run in documents.runs.iter().filter(|run| run.plan.init == InitPlan::Random) {
            let trained = |summary: &&Summary| summary.steps > 0 && summary.arm.is_none();
            let Some(summary) = run.finished().filter(trained) else { continue };
            let digests = [("losses", &summary.loss_trace_sha256), ("weights", &summary.weights_sha256)];
            for (what, digest) in digests.into_iter().filter_map(|(what, digest)| Some((what, digest.as_ref()?))) {
                let first = *seen.entry((what, digest.as_str())).or_insert(run);
                if first.plan.seed != run.plan.seed {
                    let problem = format!("has the {what} of `{}`, a run with another seed", first.plan.run_id);
                    self.blame(&run.folder.summary(), problem);
                }
            }
        }
    }

    fn hash(&mut self, path: &Path, expected: &str) {
        match file_sha256(path) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                let (found, expected) = (found.get(..12).unwrap_or(&found), expected.get(..12).unwrap_or(expected));
                self.blame(path, format!("has the SHA-256 {found}…, the summary says {expected}…"));
            }
            Err(error) => self.blame(path, error.to_string()),
        }
    }

    /// Adds a run's tables to those of the experiment, and checks what the order of its steps decides.
    fn tables(&mut self, run: &RunDocuments, summary: &Summary, tables: &mut Tables) {
        let folder = &run.folder;
        self.found.files += 2;
        let steps = match tables.add_steps(run).and_then(|()| tables.steps(run)) {
            Ok(steps) => steps,
            Err(error) => return self.blame(&folder.steps(), error.to_string()),
        };
        if steps.iter().zip(0..).any(|(row, number)| row.step != number) {
            self.blame(&folder.steps(), "has steps that are missing, repeated or out of order");
        }
        if summary.loss_trace_sha256.as_ref().is_some_and(|hash| *hash != loss_trace_sha256(&steps)) {
            self.blame(&folder.summary(), "has another loss_trace_sha256 than the steps give");
        }
        if let Err(error) = tables.add_evals(run) {
            self.blame(&folder.evals(), error.to_string());
        }
    }

    /// Compares the figures of the summaries with the totals of the tables.
    fn totals(&mut self, documents: &ExperimentDocuments, tables: &Tables) {
        let totals = match tables.totals() {
            Ok(totals) => totals,
            Err(error) => return self.blame(documents.folder.path(), format!("can't be aggregated: {error}")),
        };
        for run in documents.runs.iter().filter(|run| tables.has_both(run)) {
            let of_run = totals.get(&run.plan.run_id).cloned().unwrap_or_default();
            for problem in run.summary.iter().flat_map(|summary| contradictions(summary, &of_run)) {
                self.blame(&run.folder.summary(), problem);
            }
        }
    }

    fn scorecard(&mut self, folder: &ExperimentFolder, templates: Option<&Path>) {
        let path = folder.scorecard();
        let Some(stored) = self.document::<Scorecard>(&path) else { return };
        let computed = match scorecard::build(folder, self.root.project()) {
            Ok(computed) => computed,
            Err(error) => return self.blame(&path, format!("can't be recomputed: {error}")),
        };
        self.foreign_noise(&stored, folder);
        if let Some(difference) = first_difference(&stored, &computed) {
            self.blame(&path, format!("differs from what the artifacts say at {difference}"));
        }
        self.reports(computed, folder, templates);
    }

    /// Verdicts of rules v2 that rest on the noise of another configuration than their cell's.
    fn foreign_noise(&mut self, stored: &Scorecard, folder: &ExperimentFolder) {
        let Ok(documents) = read_experiment(folder) else { return };
        if stored.ruleset == scorecard::V1 {
            return;
        }
        for cell in &stored.cells {
            let Some(noise) = cell.quality.finding().and_then(|found| found.noise.as_ref()) else { continue };
            let run = documents.runs.iter().find(|run| cell.runs.contains(&run.plan.run_id));
            let own = run.map(|run| configuration_hash(&run.plan));
            if own != noise.configuration {
                let problem =
                    format!("rests on the noise of another configuration in `{}`: `{}`", cell.label, noise.source);
                self.blame(&folder.scorecard(), problem);
            }
        }
    }

    /// Recomputes the noise from the runs that it names.
    fn noise(&mut self, folder: &ExperimentFolder) {
        let path = folder.noise();
        if !files::is_there(&path) {
            return;
        }
        let Some(record) = self.document::<NoiseRecord>(&path) else { return };
        for stored in &record.entries {
            let Some(name) = &stored.experiment else { continue };
            let documents = self.root.experiment(name).and_then(|folder| read_experiment(&folder));
            let computed = match documents {
                Ok(documents) => scorecard::noise::measure(&documents).of(&stored.metric).cloned(),
                Err(error) => {
                    self.blame(&path, format!("rests on `{name}`: {error}"));
                    continue;
                }
            };
            // Documents of earlier versions don't say the configuration.
            let computed = computed.map(|entry| match &stored.configuration {
                None => NoiseEntry { configuration: None, ..entry },
                Some(_) => entry,
            });
            if let Some(difference) = first_difference(&Some(stored), &computed.as_ref()) {
                self.blame(
                    &path,
                    format!("differs from what the runs of `{name}` say: {}: {difference}", stored.metric),
                );
            }
        }
    }

    fn leaderboard(&mut self, templates: Option<&Path>) {
        let path = self.root.leaderboard();
        if !files::is_there(&path) {
            return;
        }
        match report::leaderboard(self.root, templates) {
            Ok(expected) => self.text(&path, &expected, "the results give", "nanochat leaderboard"),
            Err(error) => self.blame(&path, format!("can't be rendered: {error}")),
        }
    }

    fn reports(&mut self, computed: Scorecard, folder: &ExperimentFolder, templates: Option<&Path>) {
        let name = computed.experiment.clone();
        let paths = self.root.report_markdown(&name).and_then(|markdown| Ok((markdown, self.root.report_html(&name)?)));
        let (markdown, html) = match paths {
            Ok(paths) => paths,
            Err(error) => return self.blame(&folder.record(), error.to_string()),
        };
        if !files::is_there(&markdown) && !files::is_there(&html) {
            return;
        }
        let rendered = Sources::with_scorecard(computed, folder, self.root.project())
            .and_then(|sources| report::render(&sources, templates));
        match rendered {
            Err(error) => self.blame(&markdown, format!("can't be rendered: {error}")),
            Ok(rendered) => {
                self.text(&markdown, &rendered.markdown, "the scorecard gives", "nanochat report");
                self.text(&html, &rendered.html, "the scorecard gives", "nanochat report");
            }
        }
    }

    /// Holds a rendered file against what it should be.
    fn text(&mut self, path: &Path, expected: &str, source: &str, command: &str) {
        self.found.files += 1;
        match files::read_text(path, LONGEST_DOCUMENT) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                let line = 1 + found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
                self.blame(
                    path,
                    format!("differs from what {source}, first at line {line}; `{command}` writes it anew"),
                );
            }
            Err(error) => self.blame(path, format!("can't be read: {error}")),
        }
    }
}

/// What a summary says otherwise than the tables.
fn contradictions(summary: &Summary, tables: &RunTotals) -> Vec<String> {
    let mut found = Vec::new();
    let mut exact = |what: &str, said: Option<f64>, is: Option<f64>| {
        if said != is {
            found.push(format!("says {what} {}, the tables say {}", words(said), words(is)));
        }
    };
    exact("steps", Some(summary.steps as f64), tables.steps.or(Some(0.0)));
    exact("tokens", Some(summary.tokens as f64), tables.tokens.or(Some(0.0)));
    exact("train_loss", summary.train_loss, tables.train_loss);
    exact("final_val_bpb", summary.final_val_bpb, tables.final_val_bpb);
    exact("min_val_bpb", summary.min_val_bpb, tables.min_val_bpb);
    exact("core_metric", summary.core_metric, tables.core_metric);
    let mut near = |what: &str, said: Option<f64>, is: Option<f64>| {
        let same = match (said, is) {
            (Some(said), Some(is)) => (said - is).abs() <= ROUNDING * is.abs(),
            (said, is) => said == is,
        };
        if !same {
            found.push(format!("says {what} {}, the tables say {}", words(said), words(is)));
        }
    };
    near("tokens_per_second", summary.tokens_per_second, tables.tokens_per_second);
    near("training_seconds", Some(summary.training_seconds), tables.training_seconds.or(Some(0.0)));
    found
}

fn words(value: Option<f64>) -> String {
    value.map_or("nothing".to_string(), |value| value.to_string())
}

/// The dotted key and both values of the first difference between two documents.
fn first_difference<T: serde::Serialize>(stored: &T, computed: &T) -> Option<String> {
    let (stored, computed) = (serde_json::to_value(stored).ok()?, serde_json::to_value(computed).ok()?);
    difference("", &stored, &computed)
}

fn difference(key: &str, stored: &Value, computed: &Value) -> Option<String> {
    let below = |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
    match (stored, computed) {
        (a, b) if a == b => None,
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            names.into_iter().find_map(|name| {
                difference(&below(name), a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(&below(&i.to_string()), a, b))
        }
        (a, b) => Some(format!("`{key}`: {} there, {} recomputed", shortened(a), shortened(b))),
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What is wrong with the bytes of a document that reads well.
fn form(text: &[u8]) -> &'static str {
    match text.windows(2).any(|pair| pair == b"\r\n") {
        true => {
            "has the line endings of Windows, as git writes them under core.autocrlf; add `* text=auto eol=lf` to \
             .gitattributes and check it out again"
        }
        false => "is not written in the canonical form (sorted keys, one value a line, shortest floats)",
    }
}
