//! Specs, broken and sound, as files.

use std::fs;
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::{Experiment, LoadOptions, load};
use nanochat_plan::{InitPlan, RunPlan};

use super::{expand, expand_cells};
use crate::config::SpecErrors;

/// A minimal spec; lines are appended.
const BASE: &str = "schema: nanochat.experiment/v1
name: case
hardware: cpu
data: { source: synthetic, bytes: 100000 }
tokenizer: { train: { vocab_size: 512 } }
";

fn render(errors: &SpecErrors) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(110);
    handler.render_report(&mut text, errors).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Loads a spec that stands in a file of its own, with `--set` arguments.
fn load_text(text: &str, overrides: &[&str]) -> Result<Experiment, SpecErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spec.yaml");
    fs::write(&path, text).unwrap();
    let overrides = overrides.iter().map(|argument| (*argument).to_owned()).collect();
    load(&path, &LoadOptions { overrides, ..LoadOptions::default() })
}

fn plans(text: &str, overrides: &[&str]) -> Vec<RunPlan> {
    match load_text(text, overrides) {
        Ok(experiment) => expand(&experiment).unwrap(),
        Err(errors) => panic!("{}", render(&errors)),
    }
}

/// Goes to the project's folder, which specs, profiles and messages are relative to; cargo starts tests in the crate's.
pub(super) fn enter_project() {
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
}

fn specs_in(folder: &str) -> Vec<PathBuf> {
    enter_project();
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths
}

/// Every broken spec is refused, with the message that its snapshot holds.
#[test]
fn broken_specs() {
    let paths = specs_in("fixtures/specs/broken");
    assert!(paths.len() >= 60);
    for path in paths {
        let errors = match load(&path, &LoadOptions::default()) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(errors) => errors,
        };
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../fixtures/specs/broken/messages" }, {
            insta::assert_snapshot!(name, render(&errors));
        });
    }
}

/// The project's own experiments validate and plan here, without their data.
#[test]
fn own_experiments_plan() {
    let paths = specs_in("experiments");
    assert!(!paths.is_empty());
    for path in paths {
        let experiment = load(&path, &LoadOptions::default()).unwrap_or_else(|errors| panic!("{}", render(&errors)));
        assert!(!expand(&experiment).unwrap().is_empty(), "{}", path.display());
        assert_eq!(Path::new(&experiment.name), path.file_stem().unwrap());
    }
}

/// A stand-in may take back what the spec says: the smoke test of a large model doesn't ask for the CORE metric.
#[test]
fn a_stand_in_replaces_and_takes_back() {
    enter_project();
    let options = LoadOptions { profile: Some("cpu-smoke".to_owned()), ..LoadOptions::default() };
    let experiment = load(Path::new("experiments/d20-matched.yaml"), &options).unwrap();
    let plans = expand(&experiment).unwrap();
    assert!(experiment.stand_in);
    assert_eq!((plans.len(), plans[0].num_iterations, plans[0].model.n_layer), (1, 2, 20));
    assert_eq!(plans[0].eval.core, None);
    assert_eq!(experiment.name, "d20-matched-cpu-smoke");
}

#[test]
fn order_of_cells_is_axes_zip_exclude_include_seeds() {
    let text = format!(
        "{BASE}seeds: [1, 2]
budget: {{ iterations: 5 }}
optimizer: {{ total_batch_size: 16384 }}
model: {{ depth: 3 }}
matrix:
  axes: {{ optimizer.scalar_lr: [0.5, 0.4], model.depth: [2, 4] }}
  zip: [{{ optimizer.matrix_lr: [0.01, 0.02], optimizer.weight_decay: [0.1, 0.2] }}]
  exclude: [{{ model.depth: 4, optimizer.scalar_lr: 0.4 }}]
  include: [{{ model.depth: 6 }}]
"
    );
    let cell = |plan: &RunPlan| (plan.optimizer.scalar_lr, plan.model.n_layer, plan.optimizer.matrix_lr, plan.seed);
    let expected = [
        (0.5, 2, 0.01, 1),
        (0.5, 2, 0.01, 2),
        (0.5, 2, 0.02, 1),
        (0.5, 2, 0.02, 2),
        (0.5, 4, 0.01, 1),
        (0.5, 4, 0.01, 2),
        (0.5, 4, 0.02, 1),
        (0.5, 4, 0.02, 2),
        (0.4, 2, 0.01, 1),
        (0.4, 2, 0.01, 2),
        (0.4, 2, 0.02, 1),
        (0.4, 2, 0.02, 2),
        (0.5, 6, 0.02, 1),
        (0.5, 6, 0.02, 2),
    ];
    assert_eq!(plans(&text, &[]).iter().map(cell).collect::<Vec<_>>(), expected);
}

/// Later layers win key by key; a choice among rivals replaces the earlier one; nothing else is lost.
#[test]
fn layers_merge_key_by_key() {
    let text =
        format!("{BASE}model: {{ depth: 4, head_dim: 64 }}\nbudget: {{ param_data_ratio: 12, wall_clock: 12h }}\n");
    let plan = &plans(&text, &["budget.iterations=7", "optimizer.total_batch_size=16384", "model.depth=2"])[0];
    assert_eq!((plan.num_iterations, plan.model.n_layer, plan.model.n_head), (7, 2, 2));
    assert_eq!(plan.wall_clock_seconds, Some(43_200.0));
    let plan = &plans(&text, &["data={source: text, path: here}", "tokenizer={path: there, vocab_size: 300}"])[0];
    assert_eq!(plan.model.vocab_size, 300);
    assert_eq!(plan.data, nanochat_plan::DataPlan::Text { path: "here".to_owned() });
}

/// A cap stops a run, which the same command continues: it is no reason to refuse one that takes longer.
#[test]
fn a_cap_on_wall_clock_refuses_nothing() {
    let text = format!("{BASE}model: {{ depth: 4 }}\nbudget: {{ param_data_ratio: 12, wall_clock: 3 }}\n");
    let [plan] = &plans(&text, &[])[..] else { panic!("one run") };
    assert!(plan.estimate.seconds.is_some_and(|seconds| seconds > 3.0));
    assert_eq!(plan.wall_clock_seconds, Some(3.0));
}

/// A cap that says so refuses a run that is estimated to take longer, where the profile says how fast it is.
#[test]
fn a_cap_that_refuses_says_so() {
    let budget =
        |cap: &str| format!("{BASE}model: {{ depth: 4 }}\nbudget: {{ param_data_ratio: 12, wall_clock: {cap} }}\n");
    let refused = load_text(&budget("{ limit: 3s, refuse: true }"), &[]).unwrap_err();
    let told = refused.diagnostics.first().map(|found| found.message.clone()).unwrap_or_default();
    assert!(told.contains("refuses what takes more than 3 s"), "{told}");
    for (cap, limit) in
        [("{ limit: 3, refuse: false }", 3.0), ("{ limit: 1000d, refuse: true }", 86_400_000.0), ("3", 3.0)]
    {
        let [plan] = &plans(&budget(cap), &[])[..] else { panic!("one run") };
        assert_eq!(plan.wall_clock_seconds, Some(limit), "{cap}");
    }
    // A later layer's plain limit keeps what an earlier one says of refusing.
    assert!(load_text(&budget("{ limit: 1000d, refuse: true }"), &["budget.wall_clock=3"]).is_err());
}

/// A section of a base spec is merged key by key, replaced as a whole, or taken back.
#[test]
fn a_section_of_a_base_is_merged_replaced_or_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let base = format!(
        "{BASE}model: {{ depth: 4 }}\nbudget: {{ iterations: 5 }}\nmatrix: {{ axes: {{ optimizer.matrix_lr: [0.1, 0.2] }} }}\n"
    );
    fs::write(folder.path().join("base.yaml"), base).unwrap();
    let cells = |own: &str| {
        let path = folder.path().join("spec.yaml");
        fs::write(&path, format!("schema: nanochat.experiment/v1\nname: own\nextends: base.yaml\n{own}")).unwrap();
        let experiment = load(&path, &LoadOptions::default()).unwrap_or_else(|errors| panic!("{}", render(&errors)));
        let axes: Vec<String> = experiment.cells.iter().map(|cell| format!("{:?}", cell.axes.keys())).collect();
        (experiment.cells.len(), axes.first().cloned().unwrap_or_default())
    };
    assert_eq!(cells("").0, 2);
    assert_eq!(cells("matrix: { axes: { model.depth: [2, 3] } }\n").0, 4);
    let (count, axes) = cells("matrix: !replace { axes: { model.depth: [2, 3, 5] } }\n");
    assert!(count == 3 && !axes.contains("matrix_lr"), "{count} {axes}");
    assert_eq!(cells("matrix: null\n"), (1, "[]".to_owned()));
}

/// Anchors have a place of their own: keys that begin with `x-`.
#[test]
fn keys_of_the_users_own_hold_anchors() {
    let text = format!("x-small: &small {{ depth: 3 }}\n{BASE}model: *small\nbudget: {{ iterations: 5 }}\n");
    let [plan] = &plans(&text, &[])[..] else { panic!("one run") };
    assert_eq!(plan.model.n_layer, 3);
    let nested = format!("{BASE}model: {{ depth: 3, x-own: 1 }}\nbudget: {{ iterations: 5 }}\n");
    let told = |text: &str, set: &[&str]| match load_text(text, set) {
        Ok(_) => panic!("{text} was taken"),
        Err(problems) => format!("{problems:?}"),
    };
    assert!(told(&nested, &[]).contains("stand at the top of a file"), "only at the top");
    let plain = format!("{BASE}model: {{ depth: 3 }}\nbudget: {{ iterations: 5 }}\n");
    assert!(told(&format!("{plain}_small: 3\n"), &[]).contains("may hold anchors"));
    assert!(told(&plain, &["x-foo=3"]).contains("`x-foo` can't be set"));
}

/// The way out that a message proposes is one.
#[test]
fn numbers_and_lists_in_other_notations_are_told_apart() {
    let plain = format!("{BASE}model: {{ depth: 3 }}\nbudget: {{ iterations: 5 }}\n");
    for (set, help) in [
        ("seeds=range(1,4)", "a list has each of its values: [1, 2, 3]"),
        ("optimizer.total_batch_size=64Ki", "write the number in full: 65536"),
        ("optimizer.total_batch_size=1.5k", "write the number in full: 1500"),
        ("optimizer.matrix_lr=1,5", "write 1.5, with a point"),
    ] {
        let problems = load_text(&plain, &[set]).err().map(|problems| format!("{problems:?}"));
        assert!(problems.as_ref().is_some_and(|told| told.contains(help)), "{set}: {problems:?}");
    }
}

/// A run's name has whole values, whatever their number.
#[test]
fn run_ids_never_cut_a_value_in_two() {
    let axes = [
        "optimizer.matrix_lr: [0.30000000000000004]",
        "optimizer.embedding_lr: [0.12345678901]",
        "optimizer.unembedding_lr: [0.0012345678]",
        "optimizer.scalar_lr: [0.123456789]",
        "optimizer.warmdown_ratio: [0.6555555, 0.65]",
        "optimizer.weight_decay: [0.2]",
    ];
    let matrix = format!("matrix: {{ axes: {{ {} }} }}", axes.join(", "));
    let text = format!("{BASE}model: {{ depth: 2 }}\nbudget: {{ iterations: 5 }}\n{matrix}\n");
    let plans = plans(&text, &[]);
    assert_eq!(plans.len(), 2);
    for plan in plans {
        let label = plan.run_id.split("-seed").next().unwrap();
        for part in label.split('-').skip(1).filter(|part| part.contains('.')) {
            let value = part.trim_start_matches(|c: char| !c.is_ascii_digit());
            let planned: Vec<String> = plan.axes.values().map(ToString::to_string).collect();
            assert!(planned.iter().any(|axis| axis == value), "{value} of {} is no planned value", plan.run_id);
        }
        assert!(plan.run_id.contains("-more-seed"), "{}", plan.run_id);
        assert!(plan.run_id.len() < 160, "{}", plan.run_id);
    }
}

/// The hash covers what decides the result, and nothing else.
#[test]
fn the_hash_covers_what_decides_the_result() {
    let text =
        format!("{BASE}model: {{ depth: 2 }}\nbudget: {{ iterations: 5 }}\noptimizer: {{ total_batch_size: 16384 }}\n");
    let hash = |overrides: &[&str]| plans(&text, overrides)[0].plan_hash.clone();
    let original = hash(&[]);
    let same: [&[&str]; 6] = [
        &["name=other"],
        &["description=other"],
        &["budget.tokens=81920"],
        &["checkpoint.every=3"],
        &["quality.tolerance.absolute=0.1"],
        &["model.head_dim=128"],
    ];
    for overrides in same {
        assert_eq!(hash(overrides), original, "{overrides:?}");
    }
    let different: [&[&str]; 10] = [
        &["seed=7"],
        &["budget.iterations=6"],
        &["model.head_dim=64"],
        &["optimizer.matrix_lr=0.03"],
        &["data.bytes=100001"],
        &["data.seed=1"],
        &["tokenizer.train.vocab_size=513"],
        &["eval.tokens=32768"],
        &["init=baseline"],
        &["hardware.dtype=bf16"],
    ];
    for overrides in different {
        assert_ne!(hash(overrides), original, "{overrides:?}");
    }
    let paths = |path: &str| hash(&["data={source: text, path: a}", &format!("data.path={path}")]);
    assert_eq!(paths("here"), paths("there"));
}

/// A spec written out in full plans to the very same runs.
#[test]
fn the_resolved_spec_plans_to_the_same_runs() {
    for path in specs_in("experiments") {
        let experiment = load(&path, &LoadOptions::default()).unwrap();
        let ids = |experiment: &Experiment| -> Vec<(String, String)> {
            expand(experiment).unwrap().into_iter().map(|plan| (plan.plan_hash, plan.run_id)).collect()
        };
        let resolved = load_text(&experiment.resolved_yaml(), &[]);
        let resolved = resolved.unwrap_or_else(|errors| panic!("{}", render(&errors)));
        assert_eq!(ids(&resolved), ids(&experiment), "{}", path.display());
    }
}

/// Run ids name the axes in the order written, which the resolved spec keeps.
#[test]
fn the_resolved_spec_keeps_the_order_of_the_matrix() {
    let text = format!(
        "{BASE}model: {{ depth: 2 }}\nbudget: {{ iterations: 5 }}
matrix:
  axes: {{ optimizer.weight_decay: [0.1], optimizer.matrix_lr: [0.02] }}
  zip: [{{ optimizer.warmup_steps: [1, 2], optimizer.total_batch_size: [16384, 32768] }}]
  include: [{{ optimizer.weight_decay: 0.2, optimizer.embedding_lr: 0.1, optimizer.total_batch_size: 16384 }}]
"
    );
    let ids = |text: &str| plans(text, &[]).into_iter().map(|plan| plan.run_id).collect::<Vec<_>>();
    let written = ids(&text);
    assert!(
        written[0].starts_with("d2-weight_decay0.1-matrix_lr0.02-warmup_steps1-total_batch_size16384-"),
        "{written:?}"
    );
    let resolved = load_text(&text, &[]).unwrap_or_else(|errors| panic!("{}", render(&errors))).resolved_yaml();
    assert_eq!(ids(&resolved), written, "{resolved}");
}

#[test]
fn repeats_share_the_hash_and_equal_cells_run_once() {
    let text = format!(
        "{BASE}seeds: [1, 2]\nmodel: {{ depth: 2 }}\noptimizer: {{ total_batch_size: 16384 }}
reproducibility: {{ repeats: 2 }}\nmatrix: {{ axes: {{ budget.tokens: [81920, 81921] }} }}\n"
    );
    let experiment = load_text(&text, &[]).unwrap_or_else(|errors| panic!("{}", render(&errors)));
    let expansion = expand_cells(&experiment, &experiment.cells).unwrap();
    let seeds: Vec<(u64, u64)> = expansion.runs.iter().map(|run| (run.seed, run.repeat)).collect();
    assert_eq!(seeds, [(1, 0), (1, 1), (1, 2), (2, 0)]);
    assert!(expansion.runs.iter().take(3).all(|run| run.plan_hash == expansion.runs[0].plan_hash));
    assert_eq!(expansion.merged.len(), 1);
    assert_eq!(expansion.merged[0].1, expansion.runs[0].run_id);
}

/// A setting from outside that the matrix would override is refused instead of ignored.
const ARMS: &str = "ruleset: v2
quality: { claim: better }
control: theirs
seeds: [42, 43]
model: { depth: 2, head_dim: 64, sequence_len: 128 }
budget: { iterations: 4 }
optimizer: { total_batch_size: 8192 }
init: control
arms:
  ours: { engine: native }
  theirs: { engine: karpathy, commit: 92d63d4e8bb4df75c3b71618f31ddde2378b2bcd }
  fork: { engine: karpathy, commit: 92d63d4e8bb4df75c3b71618f31ddde2378b2bcd, flags: { matrix-lr: 0.03, fp8: true } }
";

#[test]
fn arms_run_in_blocks_whose_order_turns_round() {
    let spec = format!("{BASE}{ARMS}matrix: {{ axes: {{ model.depth: [2, 4] }} }}\n");
    let plans = plans(&spec, &[]);
    let ids: Vec<&str> = plans.iter().map(|plan| &plan.run_id[..plan.run_id.len() - 9]).collect();
    let block = |depth: u64, seed: u64, names: [&str; 3]| names.map(|name| format!("d{depth}-{name}-seed{seed}"));
    let (forth, back) = (["theirs", "fork", "ours"], ["ours", "fork", "theirs"]);
    assert_eq!(ids, [block(2, 42, forth), block(2, 43, back), block(4, 42, forth), block(4, 43, back)].concat());
    let inits: Vec<_> = plans.iter().take(3).map(|plan| plan.init.clone()).collect();
    assert_eq!(inits, [InitPlan::Random, InitPlan::Random, InitPlan::Control]);
    let fork = plans[1].arm.as_ref().expect("an arm");
    assert_eq!(
        fork.flags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        ["fp8=true", "matrix-lr=0.03"]
    );
    let hashes: std::collections::BTreeSet<_> = plans.iter().map(|plan| &plan.plan_hash).collect();
    assert_eq!(hashes.len(), 12);
}

/// What varies in one arm leaves the others alone, and stays in their blocks.
#[test]
fn an_axis_may_vary_in_one_arm_alone() {
    let spec = format!("{BASE}{ARMS}matrix: {{ axes: {{ ours.optimizer.matrix_lr: [0.02, 0.03] }} }}\n");
    let plans = plans(&spec, &[]);
    let rates: Vec<_> =
        plans.iter().map(|plan| (plan.arm.as_ref().map_or("", |arm| &arm.name), plan.optimizer.matrix_lr)).collect();
    let forth = [("theirs", 0.02), ("fork", 0.02), ("ours", 0.02), ("ours", 0.03)];
    let back: Vec<_> = forth.iter().rev().copied().collect();
    assert_eq!(rates, [&forth[..], &back].concat());
    assert!(plans[3].run_id.starts_with("d2-ours-matrix_lr0.03-seed42-"), "{}", plans[3].run_id);
    let unknown = format!("{BASE}{ARMS}matrix: {{ axes: {{ nobody.optimizer.matrix_lr: [0.02] }} }}\n");
    assert!(load_text(&unknown, &[]).is_err());
}

/// A run of this program is the same run whether an arm is named or not.
#[test]
fn the_native_arm_has_the_hashes_of_a_spec_without_arms() {
    let without: String = ARMS
        .lines()
        .take_while(|line| !line.starts_with("arms:"))
        .filter(|line| !line.starts_with("control") && !line.starts_with("init"))
        .map(|line| format!("{line}\n"))
        .collect();
    let ours = |plan: &RunPlan| plan.arm.as_ref().is_some_and(|arm| arm.name == "ours");
    let with = ARMS.replace("init: control\n", "");
    let with: Vec<String> =
        plans(&format!("{BASE}{with}"), &[]).into_iter().filter(ours).map(|plan| plan.plan_hash).collect();
    let without: Vec<String> = plans(&format!("{BASE}{without}"), &[]).into_iter().map(|plan| plan.plan_hash).collect();
    assert_eq!(with, without);
}

#[test]
fn setting_a_key_that_varies_is_refused() {
    let text = format!(
        "{BASE}budget: {{ iterations: 5 }}\noptimizer: {{ total_batch_size: 16384 }}
matrix: {{ axes: {{ model.depth: [2, 4] }} }}\n"
    );
    let errors = load_text(&text, &["model.depth=6"]).unwrap_err();
    assert!(errors.to_string().contains("varies in the matrix"), "{errors}");
    assert_eq!(plans(&text, &["matrix.axes.model.depth=[6]"]).len(), 1);
}

/// Width and heads by hand imply the dials that the baseline's flags would need for the same shape.
#[test]
fn dials_follow_from_what_is_set_by_hand() {
    let with = |model: &str| {
        let text =
            format!("{BASE}model: {model}\nbudget: {{ iterations: 5 }}\noptimizer: {{ total_batch_size: 16384 }}\n");
        let plan = plans(&text, &[]).remove(0);
        (plan.model.n_embd, plan.model.n_head, plan.model.n_kv_head, plan.scaling.aspect_ratio, plan.scaling.head_dim)
    };
    assert_eq!(with("{ depth: 4 }"), (256, 2, 2, 64, 128));
    assert_eq!(with("{ depth: 4, n_embd: 128, n_head: 4 }"), (128, 4, 4, 32, 32));
    assert_eq!(with("{ n_layer: 4, n_embd: 128, n_head: 4, n_kv_head: 2 }"), (128, 4, 2, 32, 32));
    assert_eq!(with("{ depth: 10, aspect_ratio: 100 }"), (1024, 8, 8, 100, 128));
}
