//! The adapter against a stand-in: a git repository whose training script prints what a real run printed, and a shell
//! script in the place of Python. And, where `NANOCHAT_BASELINE_CHECKOUT` and `NANOCHAT_BASELINE_PYTHON` name a real one,
//! against that.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nanochat_artifacts::RunStatus;
use nanochat_engine::data::Corpus;
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_plan::{
    BudgetPlan, DataPlan, DeriveInputs, DeviceKind, EvalPlan, OptimizerPlan, Profile, RunPlan, Settings, TokenizerPlan,
};

use super::process::{self, Ending, Limits, Stream};
use super::*;

/// A plan that the baseline can train within seconds.
fn plan(data: DataPlan, iterations: u64) -> RunPlan {
    let inputs = DeriveInputs {
        aspect_ratio: 32,
        head_dim: 32,
        sequence_len: 128,
        window_pattern: "L".into(),
        total_batch_size: Some(1024),
        budget: BudgetPlan::Iterations(iterations),
        ..DeriveInputs::baseline(2, 512)
    };
    let tokenizer = TokenizerPlan::Train { vocab_size: 512, max_chars_per_document: 10_000, max_chars: 100_000 };
    let settings = Settings {
        optimizer: OptimizerPlan { warmup_steps: 5, ..OptimizerPlan::BASELINE },
        eval: EvalPlan { every: 4, tokens: 4096, core: None },
        ..Settings::baseline(inputs, data, tokenizer, Profile::cpu(4, 1))
    };
    let plan = settings.plan("stand-in", &BTreeMap::new(), 42).expect("plannable");
    RunPlan { run_id: "stand-in".into(), plan_hash: "0".repeat(64), ..plan }
}

/// The same with generated data.
pub(crate) fn stand_in_plan() -> RunPlan {
    plan(synthetic(), 8)
}

fn synthetic() -> DataPlan {
    DataPlan::Synthetic { seed: 1, bytes: 300_000 }
}

/// Corpus and a tokenizer of 512 tokens: bytes and pairs of letters.
fn resources(plan: &RunPlan) -> (Arc<Corpus>, Arc<Tokenizer>) {
    let corpus = Corpus::open(&plan.data, Path::new(env!("CARGO_MANIFEST_DIR"))).expect("a corpus");
    let mut ranks: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let letters = || b'a'..=b'z';
    ranks.extend(letters().flat_map(|a| letters().map(move |b| vec![a, b])).take(512 - 9 - 256));
    (Arc::new(corpus), Arc::new(Tokenizer::from_ranks(ranks).expect("a tokenizer")))
}

fn sh(folder: &Path, script: &str) {
    let output = Command::new("sh").arg("-ec").arg(script).current_dir(folder).output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a real run of two steps prints, at 8 steps a line each.
fn log(steps: u64) -> String {
    let mut log = String::from("COMPUTE_DTYPE: torch.float32 (set via NANOCHAT_DTYPE=float32)\nWARNING: no FA3\n");
    for step in 0..=steps {
        if step % 4 == 0 || step == steps {
            log += &format!("Step {step:05} | Validation bpb: {:.6}\n", 3.5 - step as f64 * 0.1);
        }
        if step < steps {
            let loss = 6.9 - step as f64 * 0.1;
            log += &format!(
                "step {step:05}/{steps:05} (0.00%) | loss: {loss:.6} | lrm: 1.00 | dt: 40.00ms | tok/sec: 25,600 | total time: 0.00m\n"
            );
        }
    }
    log + &format!(
        "Peak memory usage: 0.00MiB\nTotal training time: 0.00m\nMinimum validation bpb: {:.6}\n",
        3.5 - steps as f64 * 0.1
    )
}

/// A stand-in checkout and interpreter. `body` is the training script's, a shell script that finds `log.txt` in its folder.
struct StandIn {
    _folder: tempfile::TempDir,
    checkout: PathBuf,
    python: PathBuf,
}

const PROBE: &str =
    r#"{"python":"3.11.7","packages":{"torch":"2.9.1"},"missing":{},"cuda":null,"devices":["cpu"],"accelerators":[]}"#;

impl StandIn {
    fn new(body: &str, log: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let checkout = folder.path().join("checkout");
        fs::create_dir_all(checkout.join("scripts")).expect("made");
        fs::write(checkout.join("scripts/base_train.py"), body).expect("written");
        fs::write(checkout.join("log.txt"), log).expect("written");
        let identity = "-c user.name=test -c user.email=test@localhost -c commit.gpgsign=false";
        sh(&checkout, &format!("git init -q . && git add -A && git {identity} commit -qm log"));
        let python = folder.path().join("python");
        let script = format!(
            "#!/bin/sh\ntest \"$1\" = -I && shift 6\ncase \"$2\" in\nscripts.base_train) shift; exec sh scripts/base_train.py \"$@\" ;;\nprobe) echo 'nanochat-answer {PROBE}' ;;\n*) echo \"no such script: $2\" >&2; exit 1 ;;\nesac\n"
        );
        fs::write(&python, script).expect("written");
        sh(folder.path(), "chmod +x python");
        Self { checkout, python, _folder: folder }
    }

    fn checkout(&self) -> Checkout {
        Checkout::open(&self.checkout).expect("a checkout")
    }

    /// Runs the training script with a time limit.
    fn record(
        &self,
        timeout: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<nanochat_artifacts::BaselineRun, BaselineError> {
        let plan = plan(synthetic(), 8);
        let (checkout, python) = (self.checkout(), Python::new(&self.python));
        let environment = python.probe(SCRIPT_TIMEOUT, &|| false)?;
        let base = BaseFolder::temporary()?;
        let machine = crate::hardware::this_machine();
        let request = Request {
            plan: &plan,
            checkout: &checkout,
            python: &python,
            environment: &environment,
            base: &base,
            matching: &Matching::default(),
            machine: &machine,
            variant: Variant::of(&plan),
            timeout,
            block: None,
            arm: None,
            output: None,
        };
        record_run(&request, stop, &mut |_| {})
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_whole_run_is_recorded() {
    let body = "cat log.txt; echo \"$@\" > \"$NANOCHAT_BASE_DIR/seen\"; test \"$NANOCHAT_DTYPE\" = float32; test \"$OMP_NUM_THREADS\" = 1";
    let stand_in = StandIn::new(body, log(8).as_bytes());
    let run = stand_in.record(MINUTE, &|| false).expect("a result");
    assert_eq!((run.status, run.reason.clone()), (RunStatus::Finished, None));
    assert_eq!((run.steps, run.tokens), (8, 8192));
    assert_eq!(run.evals, [(0, 3.5), (4, 3.1), (8, 2.7)]);
    assert_eq!((run.final_val_bpb, run.min_val_bpb), (Some(2.7), Some(2.7)));
    assert_eq!(run.tokens_per_second, Some(25_600.0));
    assert_eq!(run.losses.len(), 8);
    let measured = run.measured.expect("measured");
    assert_eq!((measured.eval_printed_seconds.len(), measured.step_printed_seconds.len()), (3, 8));
    assert!(measured.startup_seconds.is_some_and(|seconds| run.elapsed_seconds.is_some_and(|all| seconds <= all)));
    let provenance = run.provenance.expect("provenance");
    assert_eq!(provenance.log_sha256, nanochat_artifacts::bytes_sha256(log(8).as_bytes()));
    assert_eq!(provenance.environment.get("NANOCHAT_BASE_DIR").map(String::as_str), Some("<base folder>"));
    assert!(provenance.warnings.iter().any(|warning| warning == "no FA3"), "{:?}", provenance.warnings);
    assert!(provenance.warnings.iter().any(|warning| warning.contains("checkpoint")), "{:?}", provenance.warnings);
    assert!(stand_in.checkout().changes.is_empty());
}

/// By a real interpreter: the checkout's modules alone are found, the arguments arrive, the folder is the checkout's.
#[test]
fn a_module_of_the_checkout_runs_isolated() {
    let stand_in = StandIn::new("import os, sys, helper\nprint(sys.argv[1:], helper.X, os.getcwd(), __name__)\n", b"");
    let elsewhere = stand_in._folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    fs::write(elsewhere.join("helper.py"), "X = 'of a stranger'").expect("written");
    fs::write(stand_in.checkout.join("helper.py"), "X = 'of the checkout'").expect("written");
    let (checkout, python) = (stand_in.checkout(), Python::new(Path::new("python3")));
    let mut command = python.module(&checkout, "scripts.base_train");
    let output = command.args(["--depth=2", "-c"]).env("PYTHONPATH", &elsewhere).output().expect("python3");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = format!("['--depth=2', '-c'] of the checkout {} __main__\n", checkout.path.display());
    assert_eq!(printed, wanted, "{}", String::from_utf8_lossy(&output.stderr));
    let left = fs::read_dir(&checkout.path).expect("listed").flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name() == "__pycache__"));
}

#[test]
fn failures_end_in_a_result_with_the_reason() {
    let head: String = log(8).lines().take(6).map(|line| format!("{line}\n")).collect();
    let traceback = "echo 'Traceback (most recent call last):' >&2; echo '  File \"x.py\", line 1' >&2; echo \"RuntimeError: no memory in $NANOCHAT_BASE_DIR/x\" >&2; exit 1";
    let cases: [(&str, String, &str, u64); 6] = [
        (
            "crash",
            format!("cat log.txt; {traceback}"),
            "ended with exit code 1 after 3 of 8 steps: RuntimeError: no memory in <base folder>/x",
            3,
        ),
        (
            "crash without a traceback",
            "cat log.txt; echo 'no such option' >&2; exit 2".into(),
            "exit code 2 after 3 of 8 steps: no such option",
            3,
        ),
        ("quiet end", "cat log.txt".into(), "the log ends after 3 of 8 steps", 3),
        ("killed", "cat log.txt; kill -9 $$".into(), "killed by signal 9", 3),
        ("silence", "exit 0".into(), "the log ends after 0 of 8 steps", 0),
        (
            "hang",
            "cat log.txt; sleep 600 & sleep 600".into(),
            "stopped at the time limit of 1 seconds after 3 of 8 steps",
            3,
        ),
    ];
    for (name, body, reason, steps) in cases {
        let timeout = if name == "hang" { Duration::from_secs(1) } else { MINUTE };
        let started = Instant::now();
        let run = StandIn::new(&body, head.as_bytes()).record(timeout, &|| false).expect(name);
        assert!(started.elapsed() < MINUTE, "{name}");
        assert_eq!(run.status, RunStatus::Failed, "{name}");
        let said = run.reason.unwrap_or_default();
        assert!(said.contains(reason), "{name}: {said}");
        assert_eq!(run.steps, steps, "{name}");
    }
}

#[test]
fn garbage_and_foreign_encodings_do_no_harm() {
    let clean = log(8);
    let mut dirty = vec![0xff, 0xfe, 0x00, b'\n'];
    for line in clean.lines() {
        dirty.extend([0x81, 0x40, 0xe9, 0xfc, b'\n']);
        dirty.extend(b"step 00001/00008 (nan%) | loss: nan | dt: ms | tok/sec: \xe9\n");
        dirty.extend(b"\x1b[32mstep 99999/00008 (0%) | loss: 1.0 | dt: 1.00ms | tok/sec: 1\x1b[0m\r\n");
        dirty.extend(line.as_bytes());
        dirty.push(b'\n');
    }
    dirty.extend(vec![b'x'; 3 << 20]);
    let expected = StandIn::new("cat log.txt", clean.as_bytes()).record(MINUTE, &|| false).expect("a result");
    let found = StandIn::new("cat log.txt", &dirty).record(MINUTE, &|| false).expect("a result");
    assert_eq!(found.status, RunStatus::Finished);
    assert_eq!(
        (found.losses, found.evals, found.step_seconds),
        (expected.losses, expected.evals, expected.step_seconds)
    );
}

#[test]
fn a_stop_ends_the_whole_group() {
    let stand_in = StandIn::new(
        "cat log.txt; (trap '' TERM; sleep 300) & echo $! > \"$NANOCHAT_BASE_DIR/../pid\"; sleep 300",
        b"",
    );
    let started = Instant::now();
    let stop = || started.elapsed() > Duration::from_millis(500);
    assert!(matches!(stand_in.record(MINUTE, &stop), Err(BaselineError::Stopped)));
    assert!(started.elapsed() < MINUTE);
}

#[test]
fn no_process_of_a_group_stays_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    // The child ends at once and leaves a grandchild that holds its pipes open.
    let mut command = Command::new("sh");
    command.arg("-c").arg("sleep 300 & echo $! > pid; echo out; echo words >&2; exit 3").current_dir(folder.path());
    let mut heard = Vec::new();
    let limits = Limits { timeout: MINUTE, stop: &|| false };
    let finished = process::run(&mut command, &limits, &mut |stream, bytes, _| heard.push((stream, bytes.to_vec())));
    assert_eq!(finished.expect("started").ending, Ending::Exited(3));
    assert!(heard.contains(&(Stream::Out, b"out\n".to_vec())) && heard.contains(&(Stream::Error, b"words\n".to_vec())));
    let pid = fs::read_to_string(folder.path().join("pid")).expect("a pid");
    if cfg!(target_os = "linux") {
        // A signal is delivered when the kernel gets to it, which on a busy machine is not at once.
        let gone = || {
            let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            status.map_or(true, |stat| stat.contains(") Z"))
        };
        let started = Instant::now();
        while !gone() {
            assert!(started.elapsed() < MINUTE, "the grandchild lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// As the ranks of a launcher, which have sessions of their own.
#[cfg(target_os = "linux")]
#[test]
fn a_descendant_that_left_the_group_is_ended_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("sh");
    command.arg("-c").arg("setsid sh -c 'echo $$ > pid; exec sleep 300' & sleep 1; exit 1").current_dir(folder.path());
    let limits = Limits { timeout: MINUTE, stop: &|| false };
    let finished = process::run(&mut command, &limits, &mut |_, _, _| {}).expect("started");
    assert_eq!(finished.ending, Ending::Exited(1));
    let pid = fs::read_to_string(folder.path().join("pid")).expect("a pid");
    let started = Instant::now();
    while fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(started.elapsed() < MINUTE, "the descendant lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn use_is_measured() {
    let mut command = Command::new("sh");
    command.arg("-c").arg("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
    let limits = Limits { timeout: MINUTE, stop: &|| false };
    let finished = process::run(&mut command, &limits, &mut |_, _, _| {}).expect("started");
    assert_eq!(finished.ending, Ending::Exited(0));
    if cfg!(target_os = "linux") {
        let usage = finished.usage;
        assert!(
            usage.cpu_seconds.is_some_and(|seconds| seconds > 0.0 && seconds <= finished.elapsed_seconds + 0.05),
            "{usage:?}"
        );
        assert!(usage.peak_rss_bytes.is_some_and(|bytes| bytes > 100 << 10), "{usage:?}");
    }
}

#[test]
fn a_checkout_is_checked_for_its_commit_and_changes() {
    let stand_in = StandIn::new("true", b"");
    let commit = stand_in.checkout().commit;
    assert!(stand_in.checkout().require(&commit).is_ok());
    assert!(matches!(stand_in.checkout().require(&"0".repeat(40)), Err(BaselineError::WrongCommit { .. })));
    fs::write(stand_in.checkout.join("torch.py"), "").expect("written");
    fs::write(stand_in.checkout.join("log.txt"), "changed").expect("written");
    let Err(BaselineError::Changed { changes, .. }) = stand_in.checkout().require(&commit) else { panic!("unnoticed") };
    assert_eq!(changes, ["M log.txt", "?? torch.py"]);

    let empty = tempfile::tempdir().expect("a folder");
    assert!(matches!(Checkout::open(empty.path()), Err(BaselineError::NoCheckout { .. })));
    assert!(matches!(Checkout::open(&empty.path().join("absent")), Err(BaselineError::NoCheckout { .. })));
    sh(&stand_in.checkout, "git rm -qf scripts/base_train.py");
    assert!(matches!(Checkout::open(&stand_in.checkout), Err(BaselineError::NoCheckout { .. })));
}

/// What `git status` doesn't show: changes that the index hides, modules that `.gitignore` or the repository's own
/// configuration leaves out, compiled modules, and what a link stands for.
#[test]
fn hidden_changes_of_a_checkout_are_found() {
    let stand_in = StandIn::new("true", b"as committed");
    let (place, identity) = (&stand_in.checkout, "-c user.name=test -c user.email=test@localhost");
    let changes = || Checkout::open(place).expect("a checkout").changes;
    sh(place, "printf '__pycache__/\n*.pyc\n.venv/\nnotes/\nlocal.py\n' > .gitignore; ln -s log.txt link; mkdir pkg");
    sh(place, &format!("echo 1 > pkg/gpt.py; git add -A; git {identity} -c commit.gpgsign=false commit -qm more"));
    sh(place, "mkdir -p .venv/lib notes; echo 1 > .venv/lib/torch.py; echo words > notes/today.md");
    assert_eq!(changes(), [""; 0], "an environment and notes that git ignores are nobody's concern");

    for (hide, show) in [("--assume-unchanged", "--no-assume-unchanged"), ("--skip-worktree", "--no-skip-worktree")] {
        sh(place, &format!("git update-index {hide} log.txt; echo changed > log.txt"));
        assert_eq!(changes(), ["M log.txt"], "{hide}");
        sh(place, &format!("git update-index {show} log.txt; git checkout -q log.txt"));
    }
    sh(
        place,
        "echo 1 > local.py; mkdir pkg/__pycache__; echo 1 > pkg/__pycache__/gpt.cpython-311.pyc; echo 1 > gpt.pyc",
    );
    assert_eq!(changes(), ["!! gpt.pyc", "!! local.py", "!! pkg/__pycache__/gpt.cpython-311.pyc"]);
    sh(place, "rm -r local.py gpt.pyc pkg/__pycache__; echo numpy.py > .git/info/exclude; echo 1 > numpy.py");
    assert_eq!(changes(), ["?? numpy.py"]);
    sh(place, "git add -f numpy.py");
    assert_eq!(changes(), ["?? numpy.py"], "only the commit counts");
    sh(place, "git rm -qf numpy.py; rm link; ln -s other link; mv pkg elsewhere; ln -s elsewhere pkg");
    assert_eq!(changes(), ["?? elsewhere/gpt.py", "M link", "?? pkg", "D pkg/gpt.py"]);
}

/// Git doesn't hold an object that it reads against its name: a folder that is handed over may hold others under the commit's.
#[test]
fn forged_objects_of_a_checkout_are_found() {
    let stand_in = StandIn::new("true", b"as committed");
    let (place, identity) = (&stand_in.checkout, "-c user.name=test -c user.email=test@localhost");
    sh(
        place,
        &format!(
            "mkdir -p a/b a-b; echo 1 > a/b/c; echo 2 > a.b; echo 3 > a-b/c; git add -A; git {identity} commit -qm more"
        ),
    );
    assert_eq!(Checkout::open(place).expect("a checkout").changes, [""; 0]);
    let forge = "p() { echo .git/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-); }
        old=$(git rev-parse HEAD:a/b); echo evil > a/b/c; blob=$(git hash-object -w a/b/c)
        new=$(printf \"100644 blob $blob\\tc\\n\" | git mktree); rm -f $(p $old); cp $(p $new) $(p $old)
        git ls-tree HEAD a/b/c | grep -q $blob";
    sh(place, forge);
    let Err(BaselineError::NoCheckout { reason, .. }) = Checkout::open(place) else { panic!("unnoticed") };
    assert!(reason.contains("aren't those of its commit"), "{reason}");
}

/// The repository's own configuration names a program; looking at the checkout doesn't start it.
#[test]
fn a_checkouts_configuration_starts_nothing() {
    let stand_in = StandIn::new("true", b"");
    let planted = stand_in.checkout.join("../planted");
    let program = format!("touch {}; false", planted.display());
    for key in ["core.fsmonitor", "core.pager", "diff.external", "filter.x.clean", "core.sshCommand"] {
        let set = Command::new("git").args(["config", key, &program]).current_dir(&stand_in.checkout).status();
        assert!(set.expect("git").success());
    }
    fs::write(stand_in.checkout.join(".git/info/attributes"), "* filter=x diff=x\n").expect("written");
    fs::write(stand_in.checkout.join("log.txt"), "changed").expect("written");
    assert_eq!(stand_in.checkout().changes, ["M log.txt"]);
    assert!(!planted.exists(), "the checkout's configuration started a program");
}

/// A program `python` in that folder. Another process writes it: a file that this one has open for writing is open in every child
/// that a test beside this one starts at that moment, and then can't be run.
fn script(folder: &Path, body: &str) {
    fs::write(folder.join("written"), format!("#!/bin/sh\n{body}\n")).expect("written");
    sh(folder, "rm -f python && cp written python && chmod +x python");
}

#[test]
fn an_environment_is_checked_for_packages_and_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let answers = [
        ("missing", PROBE.replace(r#""missing":{}"#, r#""missing":{"rustbpe":"ModuleNotFoundError: no"}"#)),
        ("no gpu", PROBE.to_string()),
        ("chatter", format!("warning: chatter\n{PROBE}")),
        ("garbage", "{".to_string()),
    ];
    for (name, answer) in answers {
        let path = folder.path().join("python");
        let line = answer.lines().last().unwrap_or_default();
        script(folder.path(), &format!("echo chatter\necho 'nanochat-answer {line}'\necho more"));
        let python = Python::new(&path);
        let probed = python.probe(MINUTE, &|| false);
        match name {
            "garbage" => assert!(matches!(probed, Err(BaselineError::Python { .. }))),
            "missing" => {
                let environment = probed.expect(name);
                let refused = python.require(&environment, DeviceKind::Cpu);
                assert!(refused.is_err_and(|error| error.to_string().contains("rustbpe (ModuleNotFoundError: no)")));
            }
            _ => {
                let environment = probed.expect(name);
                assert!(python.require(&environment, DeviceKind::Cpu).is_ok());
                assert!(matches!(python.require(&environment, DeviceKind::Cuda), Err(BaselineError::NoDevice { .. })));
            }
        }
    }
    for (name, body) in [("fails", "echo words >&2; exit 4"), ("silent", "true"), ("hangs", "sleep 300")] {
        let path = folder.path().join("python");
        script(folder.path(), body);
        let timeout = if name == "hangs" { Duration::from_millis(300) } else { MINUTE };
        let error = Python::new(&path).probe(timeout, &|| false).expect_err(name).to_string();
        let words = match name {
            "fails" => "exit code 4: words",
            "silent" => "doesn't answer as Python does",
            _ => "no answer within",
        };
        assert!(error.contains(words), "{name}: {error}");
    }
    let absent = Python::new(&folder.path().join("absent")).probe(MINUTE, &|| false);
    assert!(matches!(absent, Err(BaselineError::Python { .. })));
}

#[test]
fn a_base_folder_holds_the_same_documents_and_leaves_foreign_folders_alone() {
    let plan = plan(synthetic(), 8);
    let (corpus, tokenizer) = resources(&plan);
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("base");
    let base = BaseFolder::at(&place).expect("made");
    base.lay_out(&plan.data, &corpus, &tokenizer, None, Path::new("")).expect("laid out");
    let data = place.join("base_data_climbmix");
    let written = DataPlan::parquet(data.to_string_lossy());
    assert_eq!(
        Corpus::open(&written, Path::new("")).and_then(|corpus| corpus.sha256()).expect("readable"),
        corpus.sha256().expect("readable")
    );
    let read = Tokenizer::load(&place.join("tokenizer")).expect("readable");
    assert_eq!(read.sha256(), tokenizer.sha256());

    // The same documents from shards: linked, the target untouched when another layout follows.
    let links = folder.path().join("links");
    let linked = BaseFolder::at(&links).expect("made");
    let shards = Corpus::open(&written, Path::new("")).expect("a corpus");
    linked.lay_out(&written, &shards, &tokenizer, None, Path::new("")).expect("laid out");
    linked.lay_out(&written, &shards, &tokenizer, None, Path::new("")).expect("laid out again");
    let again = DataPlan::parquet(links.join("base_data_climbmix").to_string_lossy());
    assert_eq!(
        Corpus::open(&again, Path::new("")).and_then(|corpus| corpus.sha256()).expect("readable"),
        corpus.sha256().expect("readable")
    );
    assert!(BaseFolder::at(&place).is_ok());
    assert!(matches!(BaseFolder::at(&data), Err(BaselineError::ForeignFolder { .. })));
}

#[test]
fn a_recording_keeps_earlier_runs_until_a_new_one_finishes() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = nanochat_artifacts::ResultsRoot::new(folder.path());
    let commit = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd";
    let good = StandIn::new("cat log.txt", log(8).as_bytes()).record(MINUTE, &|| false).expect("a result");
    let bad = StandIn::new("exit 1", b"").record(MINUTE, &|| false).expect("a result");
    let statuses = || {
        let path = root.baseline(commit, "small").expect("a path");
        let result: nanochat_artifacts::BaselineResult = nanochat_artifacts::read_document(&path).expect("readable");
        result.runs.iter().map(|run| run.status == RunStatus::Finished).collect::<Vec<_>>()
    };
    let session = |append: bool, runs: &[&nanochat_artifacts::BaselineRun]| {
        let mut recording = Recording::open(&root, commit, "small", append).expect("opened");
        runs.iter().for_each(|run| recording.add((*run).clone()).expect("written"));
    };
    session(false, &[&good]);
    session(false, &[&bad]);
    assert_eq!(statuses(), [true, false]);
    session(false, &[&bad, &good]);
    assert_eq!(statuses(), [false, true]);
    session(true, &[&good]);
    assert_eq!(statuses(), [false, true, true]);
    assert!(Recording::open(&root, commit, "../escape", false).is_err());
    let other = format!("{}{}", &commit[..12], "0".repeat(28));
    assert!(matches!(Recording::open(&root, &other, "small", false), Err(BaselineError::ForeignRecording { .. })));
}

#[test]
fn a_finished_run_is_imported() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    if !reference.is_dir() {
        eprintln!("skipped: no recorded run beside the project");
        return;
    }
    let (log, meta) = (reference.join("base_train.log"), reference.join("checkpoint/meta_000040.json"));
    let run = import(&log, &meta).expect("imported");
    assert_eq!((run.status, run.steps, run.tokens), (RunStatus::Finished, 40, 40960));
    assert_eq!(run.final_val_bpb, Some(2.93136643889493));
    assert_eq!(run.evals.len(), 5);
    assert!(
        run.flags.contains(&"--device-batch-size=4".to_string()) && run.flags.contains(&"--warmup-steps=5".to_string())
    );

    let folder = tempfile::tempdir().expect("a folder");
    let cut = folder.path().join("cut.log");
    let text = fs::read(&log).expect("readable");
    fs::write(&cut, &text[..text.len() / 2]).expect("written");
    let cases =
        [(&cut, &meta, "steps, the description 40"), (&meta, &meta, "no training steps"), (&log, &log, "not JSON")];
    for (log, meta, words) in cases {
        let error = import(log, meta).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// The real thing, where it is at hand.
#[test]
fn the_real_baseline_reads_what_is_laid_out_for_it() {
    let place = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(checkout), Some(python)) = (place("NANOCHAT_BASELINE_CHECKOUT"), place("NANOCHAT_BASELINE_PYTHON"))
    else {
        eprintln!("skipped: NANOCHAT_BASELINE_CHECKOUT and NANOCHAT_BASELINE_PYTHON name no real baseline");
        return;
    };
    let plan = plan(synthetic(), 8);
    let (corpus, tokenizer) = resources(&plan);
    let (checkout, python) = (Checkout::open(&checkout).expect("a checkout"), Python::new(&python));
    let environment = python.probe(SCRIPT_TIMEOUT, &|| false).expect("an environment");
    python.require(&environment, plan.device).expect("complete");
    let base = BaseFolder::temporary().expect("made");
    base.lay_out(&plan.data, &corpus, &tokenizer, None, Path::new("")).expect("laid out");
    let matching =
        compare_batches(&plan, &corpus, &tokenizer, (&checkout, &python, &base), &|| false).expect("compared");
    assert_eq!(matching.differences, Vec::<String>::new());

    let weights = initial_weights(&plan, Variant::of(&plan), (&checkout, &python, &base), &|| false).expect("weights");
    let count: usize = weights.values().map(|tensor| tensor.elem_count()).sum();
    assert_eq!(count as u64, plan.parameters.total);

    let request = Request {
        plan: &plan,
        checkout: &checkout,
        python: &python,
        environment: &environment,
        base: &base,
        matching: &matching,
        machine: &crate::hardware::this_machine(),
        variant: Variant::of(&plan),
        timeout: Duration::from_secs(600),
        block: None,
        arm: None,
        output: None,
    };
    let run = record_run(&request, &|| false, &mut |_| {}).expect("a result");
    assert_eq!((run.status, run.reason.clone(), run.steps), (RunStatus::Finished, None, 8));
    let provenance = run.provenance.clone().expect("provenance");
    assert!(provenance.weights_sha256.is_some(), "{:?}", provenance.warnings);
    println!("{run:#?}");
    assert!(checkout.changes.is_empty() && Checkout::open(&checkout.path).expect("a checkout").changes.is_empty());
}
