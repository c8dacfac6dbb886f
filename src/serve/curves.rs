//! Curves of runs while they grow: read from where the last look ended, thinned as they get long.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use nanochat_artifacts::{RunFolder, files, read_evals, read_steps};

/// Most points of a curve. Beyond, every second one goes.
const MOST_POINTS: usize = 800;
/// Most bytes of a log that are read at a look; the rest follows at the next.
const MOST_BYTES: u64 = 8 << 20;
/// The longest line that is taken for one, in bytes.
const LONGEST_LINE: usize = 1 << 16;

/// Loss and bits per byte of one run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Curves {
    /// Run id.
    pub run_id: String,
    /// Steps and losses.
    pub loss: Vec<(u64, f64)>,
    /// Steps and bits per byte.
    pub val_bpb: Vec<(u64, f64)>,
    /// How far the log was read.
    #[serde(skip)]
    read: u64,
    /// Steps between the points of the loss; 0 for all.
    #[serde(skip)]
    stride: u64,
}

/// What matters of a line of `log.jsonl`.
#[derive(Deserialize)]
struct Line {
    step: Option<u64>,
    loss: Option<f64>,
    val_bpb: Option<f64>,
    to_step: Option<u64>,
}

impl Curves {
    /// Of a run.
    pub fn new(run_id: &str) -> Self {
        Self { run_id: run_id.to_string(), ..Self::default() }
    }

    /// Reads what the run has written since; of a run without a log, which came through git, its tables.
    pub fn update(&mut self, folder: &RunFolder) {
        if files::is_there(&folder.log()) {
            self.follow(&folder.log());
        } else if self.loss.is_empty() {
            for row in read_steps(&folder.steps()).unwrap_or_default() {
                self.add_loss(row.step + 1, row.loss);
            }
            for row in read_evals(&folder.evals()).unwrap_or_default() {
                self.val_bpb.extend(row.val_bpb.map(|bpb| (row.step, bpb)));
            }
        }
    }

    /// Reads on. What can't be read is left for the next look.
    fn follow(&mut self, path: &Path) {
        let Ok(mut file) = files::open(path) else { return };
        let length = file.metadata().map_or(0, |found| found.len());
        if length < self.read {
            // The run was started over.
            *self = Self::new(&self.run_id);
        }
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(self.read)).and_then(|_| file.take(MOST_BYTES).read_to_end(&mut bytes));
        if read.is_err() {
            return;
        }
        // A line that is being written is read when it is whole.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        let whole = if whole == 0 && bytes.len() > LONGEST_LINE { bytes.len() } else { whole };
        self.read += whole as u64;
        for line in bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n') {
            if let Ok(line) = serde_json::from_slice::<Line>(line) {
                self.add(&line);
            }
        }
    }

    fn add(&mut self, line: &Line) {
        match line {
            Line { to_step: Some(step), .. } => self.go_back(*step),
            Line { step: Some(step), loss: Some(loss), .. } => self.add_loss(step + 1, *loss),
            Line { step: Some(step), val_bpb: Some(bpb), .. } => {
                self.val_bpb.retain(|(earlier, _)| earlier < step);
                self.val_bpb.push((*step, *bpb));
            }
            _ => {}
        }
    }

    /// A run that goes on from a checkpoint comes by steps that it was at before.
    fn go_back(&mut self, step: u64) {
        self.loss.retain(|(earlier, _)| *earlier <= step);
        self.val_bpb.retain(|(earlier, _)| *earlier <= step);
    }

    fn add_loss(&mut self, step: u64, loss: f64) {
        if self.loss.last().is_some_and(|(last, _)| *last >= step) {
            self.go_back(step.saturating_sub(1));
        }
        if !loss.is_finite() || self.loss.last().is_some_and(|(last, _)| step - last < self.stride) {
            return;
        }
        self.loss.push((step, loss));
        if self.loss.len() > MOST_POINTS {
            let mut place = 0;
            self.loss.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            let span = self.loss.last().map_or(0, |(last, _)| last - self.loss.first().map_or(0, |(first, _)| *first));
            self.stride = span / self.loss.len().max(1) as u64;
        }
    }
}

/// The end of a run's log, in whole lines.
pub fn tail(folder: &RunFolder, bytes: u64) -> String {
    let path = [folder.log(), folder.output()].into_iter().find(|path| files::is_there(path));
    let read = path.and_then(|path| {
        let mut file = files::open(&path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes))).ok()?;
        let mut read = Vec::new();
        file.take(bytes).read_to_end(&mut read).ok()?;
        let text = String::from_utf8_lossy(&read).into_owned();
        Some(if length > bytes {
            text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.to_string())
        } else {
            text
        })
    });
    read.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(range: std::ops::Range<u64>) -> String {
        range.map(|step| format!("{{\"step\":{step},\"loss\":{}}}\n", 10.0 - step as f64 * 1e-4)).collect()
    }

    #[test]
    fn a_curve_grows_with_its_log_and_stays_short() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::at(folder.path());
        let mut curves = Curves::new("run");
        curves.update(&run);
        assert!(curves.loss.is_empty());
        std::fs::write(run.log(), steps(0..5) + "{\"step\":5,\"val_bpb\":2.5,\"tokens\":1}\n{\"step\":5,\"lo").unwrap();
        curves.update(&run);
        assert_eq!((curves.loss.len(), curves.val_bpb.as_slice()), (5, &[(5, 2.5)][..]));
        std::fs::write(run.log(), steps(0..5) + "{\"step\":5,\"val_bpb\":2.5,\"tokens\":1}\n" + &steps(5..7)).unwrap();
        curves.update(&run);
        assert_eq!(curves.loss.last().map(|(step, _)| *step), Some(7));
        // Resumed at step 4, then a long way on.
        let resumed = steps(0..5) + "{\"step\":5,\"val_bpb\":2.5,\"tokens\":1}\n" + &steps(5..7) + &steps(4..20_000);
        std::fs::write(run.log(), resumed).unwrap();
        curves.update(&run);
        assert!((200..=MOST_POINTS).contains(&curves.loss.len()), "{}", curves.loss.len());
        assert!(curves.loss.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(curves.loss.last().unwrap().0 > 19_900);
        // Started over.
        std::fs::write(run.log(), steps(0..3)).unwrap();
        curves.update(&run);
        assert_eq!(curves.loss.len(), 3);
        assert!(tail(&run, 60).lines().count() >= 1 && tail(&run, 60).starts_with('{'));
    }
}
