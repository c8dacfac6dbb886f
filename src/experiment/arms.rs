//! Arms: from the spec's section to checked arms, and the cells that each of them carries out.

use std::collections::BTreeMap;

use serde_json::Value;

use nanochat_artifacts::check_name;
use nanochat_plan::{ARM_AXIS, ArmEngine, ArmPlan, InitPlan};

use crate::Cell;
use crate::config::document::{ArmSpec, Ruleset, SpecDocument};
use crate::config::{Diagnostic, Merged, suggest};

/// A checked arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm {
    /// What goes into the plans of its runs.
    pub plan: ArmPlan,
    /// Folder of its checkout, as the spec names it.
    pub checkout: Option<String>,
}

/// Flags that an arm can't set, and the key of the spec that sets them for all arms.
const TAKEN: [(&str, &str); 19] = [
    ("run", ""),
    ("device-type", "hardware"),
    ("depth", "model.depth"),
    ("aspect-ratio", "model.aspect_ratio"),
    ("head-dim", "model.head_dim"),
    ("max-seq-len", "model.sequence_len"),
    ("window-pattern", "model.window_pattern"),
    ("num-iterations", "budget.iterations"),
    ("target-flops", "budget.flops"),
    ("target-param-data-ratio", "budget.param_data_ratio"),
    ("device-batch-size", "hardware.device_batch_size"),
    ("total-batch-size", "optimizer.total_batch_size"),
    ("resume-from-step", ""),
    ("eval-every", "eval.every"),
    ("eval-tokens", "eval.tokens"),
    ("core-metric-every", "eval.core"),
    ("core-metric-max-per-task", "eval.core"),
    ("save-every", ""),
    ("model-tag", ""),
];

/// The arms of a spec, the control first; none where it names none.
///
/// # Errors
/// Everything that is wrong with them.
pub fn read(document: &SpecDocument, merged: &Merged) -> Result<Vec<Arm>, Vec<Diagnostic>> {
    let mut reader = Reader { merged, problems: Vec::new() };
    let Some(specs) = &document.arms else {
        if document.control.is_some() {
            reader.problem(&["control"], "`control` names an arm, and the spec has no `arms`", "state the `arms`");
        }
        reader.init(document, &[]);
        return if reader.problems.is_empty() { Ok(Vec::new()) } else { Err(reader.problems) };
    };
    let mut arms: Vec<Arm> = specs.iter().filter_map(|(name, spec)| reader.arm(name, spec)).collect();
    reader.alike(&arms);
    reader.control(document, specs);
    reader.rivals(document);
    reader.init(document, &arms);
    arms.sort_by_key(|arm| Some(&arm.plan.name) != document.control.as_ref());
    if reader.problems.is_empty() { Ok(arms) } else { Err(reader.problems) }
}

struct Reader<'a> {
    merged: &'a Merged,
    problems: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn problem(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let problem = Diagnostic::error("arms", message).at(self.merged.place(path)).help(help);
        self.problems.push(problem);
    }

    fn arm(&mut self, name: &str, spec: &ArmSpec) -> Option<Arm> {
        if check_name("the arm's name", name).is_err() || name.len() > 40 {
            let help = "letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 40";
            self.problem(&["arms", name], format!("an arm can't be called `{}`", suggest::brief(name)), help);
        }
        let Some(engine) = spec.engine else {
            let help = "`engine: karpathy` with a commit, or `engine: native`";
            self.problem(&["arms", name], format!("`arms.{name}` has no `engine`"), help);
            return None;
        };
        match engine {
            ArmEngine::Native => {
                let stated = [
                    ("commit", spec.commit.is_some()),
                    ("checkout", spec.checkout.is_some()),
                    ("flags", spec.flags.is_some()),
                ];
                for (key, _) in stated.into_iter().filter(|(_, stated)| *stated) {
                    let message = format!("`arms.{name}.{key}` is for checkouts, and this arm's engine is `native`");
                    self.problem(&["arms", name, key], message, "leave it out, or write `engine: karpathy`");
                }
            }
            ArmEngine::Karpathy if spec.commit.is_none() => {
                let help = "`git rev-parse HEAD` in the checkout prints it";
                self.problem(&["arms", name], format!("`arms.{name}` has no `commit`"), help);
            }
            ArmEngine::Karpathy => {}
        }
        let flags = self.flags(name, spec);
        let plan = ArmPlan { name: name.to_owned(), engine, commit: spec.commit.clone(), flags };
        Some(Arm { plan, checkout: spec.checkout.clone() })
    }

    fn flags(&mut self, arm: &str, spec: &ArmSpec) -> BTreeMap<String, String> {
        let mut flags = BTreeMap::new();
        for (flag, value) in spec.flags.iter().flatten() {
            let path = ["arms", arm, "flags", flag];
            let plain = flag.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            if !plain || flag.is_empty() || flag.starts_with('-') {
                let help = "write it as the script's help does, without the leading `--`: warmdown-ratio";
                self.problem(&path, format!("`{}` is no name of a flag", suggest::brief(flag)), help);
            } else if let Some((_, key)) = TAKEN.iter().find(|(taken, _)| taken == flag) {
                let help = match *key {
                    "" => "leave it out: this program sets it".to_owned(),
                    key => format!("set `{key}`, which holds for all arms"),
                };
                self.problem(&path, format!("`--{flag}` can't differ between arms"), help);
            } else if *value == Value::Bool(false) {
                self.problem(&path, format!("`--{flag}` can't be false"), "leave a switch out to have it off");
            } else {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                flags.insert(flag.clone(), text);
            }
        }
        flags
    }

    fn alike(&mut self, arms: &[Arm]) {
        for (place, arm) in arms.iter().enumerate() {
            if let Some(other) = arms[..place].iter().find(|other| other.plan.is_same_as(&arm.plan)) {
                let name = arm.plan.name.clone();
                let message = format!("`arms.{name}` is the same as `arms.{}`", other.plan.name);
                self.problem(
                    &["arms", &name],
                    message,
                    "give it another commit, engine or flags; `nanochat noise` runs one arm against itself",
                );
            }
        }
    }

    fn control(&mut self, document: &SpecDocument, specs: &BTreeMap<String, ArmSpec>) {
        let names = suggest::list(specs.keys().map(String::as_str));
        match &document.control {
            None => self.problem(
                &["arms"],
                "`control` is missing",
                format!("name the arm that the others are compared with: {names}"),
            ),
            Some(control) if !specs.contains_key(control) => {
                let message = format!("`control` names `{}`, which is no arm", suggest::brief(control));
                self.problem(&["control"], message, format!("the arms are {names}"));
            }
            Some(_) => {}
        }
        if document.ruleset == Ruleset::V1 {
            self.problem(&["arms"], "arms are judged by rules v2", "write `ruleset: v2`, with `quality: { claim: … }`");
        }
    }

    fn rivals(&mut self, document: &SpecDocument) {
        let baseline = &document.baseline;
        let rivals = [("results", baseline.results.is_some()), ("cell", baseline.cell.is_some())];
        for (key, _) in rivals.into_iter().filter(|(_, stated)| *stated) {
            let message = format!("`baseline.{key}` and `arms` both say what the runs are compared with");
            self.problem(&["baseline", key], message, "keep one of them; `null` takes back what `extends` brings");
        }
    }

    /// Weights of the control need a control that draws some.
    fn init(&mut self, document: &SpecDocument, arms: &[Arm]) {
        let control = arms.iter().find(|arm| Some(&arm.plan.name) == document.control.as_ref());
        if document.init == InitPlan::Control && !control.is_some_and(|arm| arm.plan.is_foreign()) {
            let help = "write `init: random`, or name a control with `engine: karpathy`";
            self.problem(&["init"], "`init: control` needs a control arm that is a checkout", help);
        }
        if document.init == InitPlan::Baseline && !arms.is_empty() {
            self.problem(
                &["init"],
                "with `arms` there is no baseline whose weights could be taken",
                "write `init: control`",
            );
        }
    }
}

/// Cells as an arm carries them out.
pub fn carried_out_by(arm: &Arm, cells: Vec<Cell>) -> Vec<Cell> {
    let carried_out = |mut cell: Cell| {
        cell.axes.insert(ARM_AXIS.to_owned(), Value::from(arm.plan.name.as_str()));
        cell.order.insert(0, ARM_AXIS.to_owned());
        cell.settings.arm = Some(arm.plan.clone());
        if arm.plan.is_foreign() {
            // A checkout draws its own weights, with the run's seed.
            cell.settings.init = InitPlan::Random;
        }
        cell
    };
    cells.into_iter().map(carried_out).collect()
}
