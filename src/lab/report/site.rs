//! A site of all experiments: an index, and for each experiment its figures and verdicts over the commits that recorded them.
//! Static pages without anything from elsewhere, which work from a folder as well as from a server.

use std::path::{Path, PathBuf};

use nanochat_artifacts::{
    ArtifactError, Environment, ExperimentFolder, Judgement, LONGEST_DOCUMENT, ResultsRoot, Revision, Scorecard,
    file_diff, files, history, parse_document, read_document, read_experiment, write_atomic,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{ReportError, templates};
use crate::scorecard::verdict_name;

/// Most lines of a spec's diff that are shown.
const DIFF_LINES: usize = 120;

/// Width and height of a chart, and the room beside its area.
const CHART: (f64, f64) = (560.0, 180.0);
const ROOM: (f64, f64) = (70.0, 24.0);

/// What the index is rendered from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SiteIndex {
    /// Version of this program.
    pub version: String,
    /// The experiments, the last recorded first.
    pub experiments: Vec<SitePage>,
}

/// What the page of an experiment is rendered from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SitePage {
    /// Version of this program.
    pub version: String,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Its answer in a sentence, where its rules give one.
    pub answer: Option<String>,
    /// When its last run ended, to the day; none where that isn't recorded.
    pub finished: Option<String>,
    /// Runs finished.
    pub runs: u64,
    /// The report beside the page, where there is one.
    pub report: Option<String>,
    /// The last entry of its history.
    pub last: SiteEntry,
    /// One entry a commit, the oldest first, and one for what isn't committed.
    pub history: Vec<SiteEntry>,
    /// Its figures over the history.
    pub charts: Vec<SiteChart>,
    /// Commits whose scorecard was written in a format that this program doesn't read.
    pub unread: u64,
}

/// A scorecard at a commit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SiteEntry {
    /// First digits of the commit; none for what isn't committed.
    pub commit: Option<String>,
    /// Day of the commit.
    pub date: String,
    /// First line of its message.
    pub subject: String,
    /// Verdict on quality.
    pub quality: String,
    /// Verdict on speed.
    pub speed: String,
    /// Verdict on reproducibility.
    pub reproducibility: String,
    /// The candidate's quality.
    pub figure: Option<f64>,
    /// Candidate minus control.
    pub difference: Option<f64>,
    /// Candidate's speed over the control's.
    pub ratio: Option<f64>,
    /// Names of the verdicts that differ from those of the entry before.
    pub changed: Vec<String>,
    /// What the spec gained and lost since the entry before.
    pub spec: Option<SpecChange>,
}

/// What a spec gained and lost between two commits.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SpecChange {
    /// Its path.
    pub path: String,
    /// The lines, as a diff shows them.
    pub lines: Vec<DiffLine>,
    /// Number of lines beyond those.
    pub left_out: usize,
}

/// A line of a diff.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DiffLine {
    /// `added`, `removed`, or `kept`.
    pub kind: &'static str,
    /// The line with its mark.
    pub text: String,
}

/// A figure over the commits.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SiteChart {
    /// What it shows.
    pub title: String,
    /// Width and height of the drawing.
    pub size: (f64, f64),
    /// The line as coordinates for an SVG polyline.
    pub line: String,
    /// The points.
    pub points: Vec<SitePoint>,
    /// Lowest and highest value, with their vertical places.
    pub ends: Vec<(f64, String)>,
}

/// A figure at a commit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SitePoint {
    /// Horizontal place.
    pub x: f64,
    /// Vertical place.
    pub y: f64,
    /// The verdict there.
    pub verdict: String,
    /// Whether it differs from the one before.
    pub changed: bool,
    /// What it says.
    pub title: String,
}

/// Writes the site into a folder, over what an earlier call left there; gives the files.
///
/// # Errors
/// Documents that can't be read, a template that can't be rendered, a file that can't be written.
pub fn write_site(root: &ResultsRoot, out: &Path, overrides: Option<&Path>) -> Result<Vec<PathBuf>, ReportError> {
    let environment = templates::environment(overrides)?;
    let mut written = Vec::new();
    let mut put = |name: String, bytes: &[u8]| -> Result<(), ReportError> {
        let path = files::beneath(out, &name)?;
        write_atomic(&path, bytes)?;
        written.push(path);
        Ok(())
    };
    let mut pages = Vec::new();
    for folder in root.experiments()? {
        let Some(mut page) = page(root, &folder)? else { continue };
        if let Some(html) = contents(&root.report_html(&page.name)?)? {
            let name = format!("reports/{}.html", page.name);
            put(name.clone(), &html)?;
            page.report = Some(name);
            // The report links to its spec.
            let spec = format!("experiments/{}.yaml", page.name);
            if let Some(text) = contents(&files::beneath(root.project(), &spec)?)? {
                put(spec, &text)?;
            }
        }
        put(format!("{}.html", page.name), templates::render(&environment, templates::SITE_PAGE, &page)?.as_bytes())?;
        pages.push(page);
    }
    pages.sort_by(|a, b| b.last.date.cmp(&a.last.date).then_with(|| a.name.cmp(&b.name)));
    let index = SiteIndex { version: env!("CARGO_PKG_VERSION").to_owned(), experiments: pages };
    put("index.html".to_owned(), templates::render(&environment, templates::SITE_INDEX, &index)?.as_bytes())?;
    Ok(written)
}

/// What a file holds; none where there is none.
fn contents(path: &Path) -> Result<Option<Vec<u8>>, ReportError> {
    let read = || files::read(path, LONGEST_DOCUMENT).map_err(|error| ArtifactError::io("read", path, error));
    Ok(files::is_there(path).then(read).transpose()?)
}

/// The page of an experiment; none where nothing was ever judged.
fn page(root: &ResultsRoot, folder: &ExperimentFolder) -> Result<Option<SitePage>, ReportError> {
    let name = folder.name();
    let path = format!("results/{name}/scorecard.json");
    let revisions = history(root.project(), &path)?;
    let now: Scorecard = match read_document(&folder.scorecard()) {
        Ok(scorecard) => scorecard,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut unread = 0;
    let mut entries: Vec<(SiteEntry, Scorecard)> = Vec::new();
    for revision in &revisions {
        let Some(contents) = &revision.contents else { continue };
        match parse_document::<Scorecard>(Path::new(&path), contents) {
            Ok(scorecard) => entries.push((entry(Some(revision), &scorecard), scorecard)),
            Err(_) => unread += 1,
        }
    }
    if entries.last().is_none_or(|(_, committed)| *committed != now) {
        entries.push((entry(None, &now), now.clone()));
    }
    let mut entries: Vec<SiteEntry> = entries.into_iter().map(|(entry, _)| entry).collect();
    for place in 1..entries.len() {
        let (before, after) = entries.split_at_mut(place);
        after[0].changed = changes(&before[place - 1], &after[0]);
        after[0].spec = spec_change(root.project(), &name, &before[place - 1], &after[0]);
    }
    let last = entries.last().cloned().unwrap_or_else(|| entry(None, &now));
    Ok(Some(SitePage {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: now.description.clone(),
        answer: now.answer.clone(),
        finished: finished(folder),
        runs: now.finished,
        report: None,
        charts: charts(&entries, &now),
        last,
        history: entries,
        unread,
        name,
    }))
}

fn entry(revision: Option<&Revision>, scorecard: &Scorecard) -> SiteEntry {
    let verdict = |judgement: &Judgement| verdict_name(judgement.verdict()).to_owned();
    let finding = |judgement: &Judgement| judgement.finding().cloned().unwrap_or_default();
    SiteEntry {
        commit: revision.map(|revision| revision.commit.chars().take(12).collect()),
        date: revision.map_or_else(String::new, |revision| revision.date.chars().take(10).collect()),
        subject: revision.map_or_else(|| "not committed".to_owned(), |revision| revision.subject.clone()),
        quality: verdict(&scorecard.quality),
        speed: verdict(&scorecard.speed),
        reproducibility: verdict(&scorecard.reproducibility),
        figure: scorecard.quality.candidate.figure,
        difference: finding(&scorecard.quality).difference,
        ratio: finding(&scorecard.speed).ratio,
        changed: Vec::new(),
        spec: None,
    }
}

/// What the spec at the usual place gained and lost between two commits.
fn spec_change(project: &Path, name: &str, before: &SiteEntry, after: &SiteEntry) -> Option<SpecChange> {
    let path = format!("experiments/{name}.yaml");
    let diff = file_diff(project, &path, [before.commit.as_deref()?, after.commit.as_deref()?]);
    let kind = |line: &str| match line.as_bytes().first() {
        Some(b'+') => "added",
        Some(b'-') => "removed",
        _ => "kept",
    };
    let all: Vec<&str> = diff.lines().collect();
    let shown = all.iter().take(DIFF_LINES).map(|line| DiffLine { kind: kind(line), text: (*line).to_owned() });
    let change = SpecChange { path, lines: shown.collect(), left_out: all.len().saturating_sub(DIFF_LINES) };
    (!change.lines.is_empty()).then_some(change)
}

fn changes(before: &SiteEntry, after: &SiteEntry) -> Vec<String> {
    let verdicts = [
        ("quality", &before.quality, &after.quality),
        ("speed", &before.speed, &after.speed),
        ("reproducibility", &before.reproducibility, &after.reproducibility),
    ];
    verdicts.into_iter().filter(|(_, before, after)| before != after).map(|(name, ..)| name.to_owned()).collect()
}

/// Day of the last run's end.
fn finished(folder: &ExperimentFolder) -> Option<String> {
    let documents = read_experiment(folder).ok()?;
    let ends = documents.runs.iter().filter_map(|run| run.environment.as_ref());
    let last = ends.map(|environment: &Environment| environment.finished_at.as_str()).max()?;
    Some(last.chars().take(10).collect())
}

fn charts(history: &[SiteEntry], now: &Scorecard) -> Vec<SiteChart> {
    let metric = &now.quality.metric;
    let figures: [(String, fn(&SiteEntry) -> Option<f64>, fn(&SiteEntry) -> &str); 3] = [
        (metric.clone(), |entry| entry.figure, |entry| &entry.quality),
        (format!("{metric}, difference from the control"), |entry| entry.difference, |entry| &entry.quality),
        ("speed, ratio to the control".to_owned(), |entry| entry.ratio, |entry| &entry.speed),
    ];
    figures.into_iter().filter_map(|(title, figure, verdict)| chart(title, history, figure, verdict)).collect()
}

/// Points at equal distances, one a commit that has the figure.
fn chart(
    title: String,
    history: &[SiteEntry],
    figure: fn(&SiteEntry) -> Option<f64>,
    verdict: fn(&SiteEntry) -> &str,
) -> Option<SiteChart> {
    let values: Vec<(usize, f64)> =
        history.iter().enumerate().filter_map(|(place, entry)| Some((place, figure(entry)?))).collect();
    let low = values.iter().map(|(_, value)| *value).reduce(f64::min)?;
    let high = values.iter().map(|(_, value)| *value).reduce(f64::max)?;
    let ((width, height), (left, top)) = (CHART, ROOM);
    let spread = if high > low { high - low } else { 1.0 };
    let x = |place: usize| match history.len() {
        1 => tenths((left + width) / 2.0),
        count => tenths(left + (width - left - top) * place as f64 / (count - 1) as f64),
    };
    let y = |value: f64| match high > low {
        true => tenths(height - top - (height - 2.0 * top) * (value - low) / spread),
        false => height / 2.0,
    };
    let points: Vec<SitePoint> = values
        .iter()
        .map(|&(place, value)| {
            let entry = &history[place];
            let changed = place > 0 && verdict(&history[place - 1]) != verdict(entry);
            let commit = entry.commit.as_deref().unwrap_or("not committed");
            SitePoint {
                x: x(place),
                y: y(value),
                verdict: verdict(entry).to_owned(),
                changed,
                title: format!("{} at {commit} {}: {}", text(value), entry.date, verdict(entry).replace('_', " ")),
            }
        })
        .collect();
    let line: Vec<String> = points.iter().map(|point| format!("{},{}", point.x, point.y)).collect();
    let ends = if high > low { vec![(y(low), low), (y(high), high)] } else { vec![(y(low), low)] };
    let ends = ends.into_iter().map(|(y, value)| (y, text(value))).collect();
    Some(SiteChart { title, size: CHART, line: line.join(" "), points, ends })
}

/// Five decimals, or three digits of what is less than they show.
fn text(value: f64) -> String {
    let shown = if value == 0.0 || value.abs() >= 1e-4 { format!("{value:.5}") } else { format!("{value:.2e}") };
    shown.replace('-', "−")
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(figure: Option<f64>, quality: &str) -> SiteEntry {
        SiteEntry {
            commit: Some("0123456789ab".into()),
            date: "2026-01-02".into(),
            subject: String::new(),
            quality: quality.into(),
            speed: "off".into(),
            reproducibility: "pass".into(),
            figure,
            difference: None,
            ratio: None,
            changed: Vec::new(),
            spec: None,
        }
    }

    #[test]
    fn small_figures_keep_their_digits() {
        assert_eq!([0.0, -0.00002864, 1.5].map(text), ["0.00000", "−2.86e−5", "1.50000"]);
    }

    #[test]
    fn a_chart_has_a_point_a_commit_and_marks_changes() {
        let history = [entry(Some(1.0), "pass"), entry(None, "missing"), entry(Some(0.5), "pass")];
        let drawn = chart("bpb".into(), &history, |entry| entry.figure, |entry| &entry.quality).unwrap();
        let places: Vec<(f64, f64)> = drawn.points.iter().map(|point| (point.x, point.y)).collect();
        assert_eq!(places, [(70.0, 24.0), (536.0, 156.0)]);
        assert_eq!(drawn.points.iter().map(|point| point.changed).collect::<Vec<_>>(), [false, true]);
        assert_eq!(drawn.line, "70,24 536,156");
        assert_eq!(changes(&history[0], &history[1]), ["quality"]);
        assert!(chart("none".into(), &history, |entry| entry.ratio, |entry| &entry.speed).is_none());
    }
}
