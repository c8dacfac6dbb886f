//! What requests are answered with. Each answer is kept for a moment, so that many visitors cost as much as one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use nanochat_artifacts::{ExperimentFolder, ResultsRoot, RunFolder, Scorecard, read_document};
use nanochat_lab::live::{self, ExperimentLive};
use nanochat_lab::scorecard::verdict_name;

use super::curves::{Curves, tail};

/// How long an answer holds.
const FRESH: Duration = Duration::from_millis(1000);
/// Most answers that are kept.
const MOST_KEPT: usize = 200;
/// Most runs whose curves are sent: those that run first.
const MOST_CURVES: usize = 60;
/// Bytes of a log's end.
const TAIL: u64 = 16 << 10;

const HTML: &str = include_str!("../../templates/watch.html");
const CSS: &str = include_str!("../../templates/watch.css");
const JS: &str = include_str!("../../templates/watch.js");

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its media type.
    pub kind: &'static str,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A status, and nothing else.
    pub fn status(status: u16) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: Vec::new() }
    }

    fn text(kind: &'static str, text: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, kind, body: text.into() }
    }

    fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::text("application/json", body),
            Err(_) => Self::status(500),
        }
    }
}

/// Makes answers from a project's artifacts.
pub struct Answers {
    root: ResultsRoot,
    kept: Mutex<HashMap<String, (Instant, Answer)>>,
    curves: Mutex<HashMap<String, Arc<Mutex<HashMap<String, Curves>>>>>,
}

impl Answers {
    /// Of a project.
    pub fn new(root: ResultsRoot) -> Self {
        Self { root, kept: Mutex::default(), curves: Mutex::default() }
    }

    /// The answer to a request's path and query.
    pub fn to(&self, url: &str) -> Answer {
        match url {
            "/" => return Answer::text("text/html; charset=utf-8", HTML),
            "/watch.css" => return Answer::text("text/css; charset=utf-8", CSS),
            "/watch.js" => return Answer::text("text/javascript; charset=utf-8", JS),
            _ => {}
        }
        if let Some((made, answer)) = lock(&self.kept).get(url)
            && made.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = self.make(url).unwrap_or_else(|| Answer::status(404));
        if answer.status == 200 {
            let mut kept = lock(&self.kept);
            kept.retain(|_, (made, _)| made.elapsed() < FRESH);
            if kept.len() < MOST_KEPT {
                kept.insert(url.to_string(), (Instant::now(), answer.clone()));
            }
        }
        answer
    }

    fn make(&self, url: &str) -> Option<Answer> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        if path == "/api/experiments" {
            return Some(self.experiments());
        }
        // Names have no characters that an address would write otherwise: what has is no name.
        let value = |key: &str| query.split('&').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key));
        let folder = self.root.experiment(value("name")?.1).ok()?;
        match path {
            "/api/experiment" => experiment(&folder),
            "/api/curves" => self.curves(&folder),
            "/api/log" => {
                let run = folder.run(value("run")?.1).ok()?;
                Some(Answer::text("text/plain; charset=utf-8", tail(&run, TAIL)))
            }
            _ => None,
        }
    }

    fn experiments(&self) -> Answer {
        let folders = self.root.experiments().unwrap_or_default();
        let states = folders.iter().filter_map(|folder| live::of_experiment(folder).ok());
        let short = |one: ExperimentLive| json!({ "name": one.name, "counts": one.counts(), "open": one.is_open(), "runs": one.runs.len() });
        Answer::json(&states.map(short).collect::<Vec<Value>>())
    }

    fn curves(&self, folder: &ExperimentFolder) -> Option<Answer> {
        let experiment = live::of_experiment(folder).ok()?;
        let known = lock(&self.curves).entry(folder.name()).or_default().clone();
        let mut known = lock(&known);
        let mut runs: Vec<_> = experiment.runs.iter().collect();
        runs.sort_by_key(|run| !run.state.is_running());
        let runs: Vec<RunFolder> =
            runs.into_iter().take(MOST_CURVES).filter_map(|run| folder.run(&run.run_id).ok()).collect();
        known.retain(|name, _| runs.iter().any(|run| run.name() == *name));
        for run in &runs {
            known.entry(run.name()).or_insert_with(|| Curves::new(&run.name())).update(run);
        }
        Some(Answer::json(&runs.iter().filter_map(|run| known.get(&run.name())).collect::<Vec<_>>()))
    }
}

/// An experiment with the verdicts so far.
fn experiment(folder: &ExperimentFolder) -> Option<Answer> {
    #[derive(Serialize)]
    struct Shown {
        #[serde(flatten)]
        live: ExperimentLive,
        counts: String,
        scorecard: Option<Vec<Value>>,
    }
    let live = live::of_experiment(folder).ok()?;
    let scorecard = read_document::<Scorecard>(&folder.scorecard()).ok().map(|card| {
        let judged = [("quality", &card.quality), ("speed", &card.speed), ("reproducibility", &card.reproducibility)];
        let verdict = |(name, judgement): (&str, &nanochat_artifacts::Judgement)| {
            let verdict = verdict_name(judgement.verdict());
            json!({ "name": name, "verdict": verdict, "reason": judgement.reason })
        };
        judged.into_iter().map(verdict).collect()
    });
    let counts = live.counts();
    Some(Answer::json(&Shown { live, counts, scorecard }))
}

/// What a thread that panicked has left is as good as before: answers are made anew.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
