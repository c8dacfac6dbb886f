//! Snapshots, escaping of hostile text, determinism and length.

use super::text::{clean, code, escape_markdown};
use super::*;
use crate::scorecard::fabricate::{Project, Wanted};
use crate::verify::{Verification, verify};
use nanochat_artifacts::Document;

/// A project with two cells, three seeds, one repeat and a baseline for the first cell.
pub(crate) fn matrix() -> Project {
    let mut project = Project::new("depths");
    project.record.description = "Is a fifth layer worth its time?".into();
    for (depth, start) in [(4, 1.0), (5, 0.97)] {
        (42..45).for_each(|seed| {
            let bpb = start + 2e-4 * (seed as f64 - 43.0);
            drop(project.add(Wanted { seconds: 0.05 * depth as f64, ..Wanted::seed(seed, bpb).depth(depth) }));
        });
    }
    project.add(Wanted { seconds: 0.2, ..Wanted::seed(42, 1.0 - 2e-4).depth(4) }.repeat(1));
    let runs = (142..145).map(|seed| project.baseline_run(seed, 1.001 + 1e-4 * (seed as f64 - 143.0), 0.26)).collect();
    project.baseline(runs);
    project
}

fn rendered(project: &Project) -> Rendered {
    let scorecard = project.scorecard();
    let sources = Sources::with_scorecard(scorecard, &project.experiment(), project.path()).expect("sources");
    render(&sources, None).expect("rendered")
}

#[test]
fn markdown_is_one_comment() {
    let report = rendered(&matrix());
    insta::assert_snapshot!("matrix", report.markdown);
    let first = report.markdown.lines().next().expect("a line");
    assert!(first.starts_with("## ") && first.contains("Quality") && first.contains("Reproducibility"), "{first}");
    assert!(report.markdown.trim_end().ends_with("<!-- nanochat-report:depths -->"));
}

#[test]
fn an_unfinished_experiment_is_reported_too() {
    let mut project = Project::new("alone");
    project.add(Wanted { status: nanochat_artifacts::RunStatus::Failed, ..Wanted::seed(42, 1.0) });
    project.record.runs.push("s43-00000000".into());
    insta::assert_snapshot!("unfinished", rendered(&project).markdown);
    let empty = Project::new("empty");
    assert!(rendered(&empty).html.contains("no runs are planned"));
}

#[test]
fn reports_are_deterministic_and_load_nothing() {
    let project = matrix();
    let report = rendered(&project);
    assert_eq!(report, rendered(&project));
    for needle in ["<script", "http://", "https://", "@import", "url(", "src="] {
        assert!(!report.html.contains(needle), "{needle} in the HTML report");
    }
    assert_eq!(report.html.matches("<svg").count(), report.html.matches("</svg>").count());
    assert!(report.html.matches("<polyline").count() >= 4 * 6);
}

const HOSTILE: &str = "</title><script>alert(1)</script> {{ 1234*4321 }} {% raw %} | a\nb \u{202e}evil\u{2066} <!-- --> `x` [l](javascript:alert(1)) @someone #1 \" ' & \\";

#[test]
fn hostile_text_does_no_harm() {
    let mut project = Project::new("hostile");
    project.record.description = HOSTILE.into();
    project.add_with(
        Wanted { status: nanochat_artifacts::RunStatus::Failed, ..Wanted::seed(42, 1.0) },
        |plan, summary, environment| {
            summary.reason = Some(HOSTILE.into());
            plan.axes.insert(HOSTILE.into(), serde_json::Value::from(HOSTILE));
            plan.hardware = HOSTILE.into();
            environment.cpu = HOSTILE.into();
            environment.libraries.insert(HOSTILE.into(), HOSTILE.into());
            environment.code_commit = Some(HOSTILE.into());
        },
    );
    project.add(Wanted::seed(43, 1.0));
    let report = rendered(&project);
    for text in [&report.html, &report.markdown] {
        assert!(!text.contains("<script"), "a script tag");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{2066}'), "a mark that turns text around");
        assert!(text.contains("1234*4321") || text.contains("1234\\*4321"), "template syntax is text");
        assert!(!text.contains("5332114"), "template syntax was carried out");
    }
    assert_eq!(report.html.matches("<title>").count(), report.html.matches("</title>").count(), "a title was closed");
    assert_eq!(report.html.matches("<!--").count(), 0, "no comment was opened");
    assert_eq!(report.markdown.matches("<!--").count(), 1, "the marker alone");
    let outside_code: String = report.markdown.replace("\\`", "").split('`').step_by(2).collect();
    assert!(!outside_code.replace("\\]", "").contains("](javascript"), "a link");
    for line in report.markdown.lines().filter(|line| line.starts_with("| ")) {
        let cells = line.replace("\\|", "").matches('|').count();
        assert!([3, 4, 5, 6, 9, 10, 11].contains(&cells), "a table row was broken: {line}");
    }
}

/// What comes from a recording of the baseline, and from results into the leaderboard.
#[test]
fn hostile_recordings_do_no_harm() {
    let mut project = Project::new("hostile");
    let run = project.add_with(Wanted::seed(42, 1.0), |plan, _, environment| {
        plan.axes.insert("name".into(), serde_json::Value::from(HOSTILE));
        environment.machine_id = HOSTILE.into();
    });
    let base = project.baseline_run(42, 1.0, 0.3);
    let mut base = project.beside(base, nanochat_plan::Precision::Bf16, 1, &run.name());
    base.machine_id = Some(HOSTILE.into());
    base.provenance.as_mut().expect("provenance").variant = Some(HOSTILE.into());
    base.first_batch_sha256 = Some(HOSTILE.into());
    project.baseline(vec![base]);
    let report = rendered(&project);
    assert!(report.html.contains("1 block"), "the block is shown");
    crate::scorecard::update(&project.experiment(), project.path()).expect("a scorecard");
    let leaderboard = leaderboard(&project.root(), None).expect("a leaderboard");
    for text in [&report.html, &report.markdown, &leaderboard] {
        assert!(!text.contains("<script") && !text.contains('\u{202e}') && !text.contains('\u{2066}'));
        assert!(text.contains("{{ 1234") && !text.contains("5332114"), "template syntax is text");
    }
    for (text, columns) in [(&report.markdown, 0), (&leaderboard, 16)] {
        for line in text.lines().filter(|line| line.starts_with("| ") || line.starts_with("|--")) {
            let cells = line.replace("\\|", "").matches('|').count();
            assert!(columns == 0 || cells == columns, "a table row was broken: {line}");
        }
    }
    assert_eq!(report.html.matches("<!--").count() + leaderboard.matches("<!--").count(), 0);
}

#[test]
fn text_is_escaped_piece_by_piece() {
    let cases = [
        ("a|b", "a\\|b"),
        ("<b>", "&lt;b&gt;"),
        ("*x* _y_ `z`", "\\*x\\* \\_y\\_ \\`z\\`"),
        ("a\nb\r\tc", "a b  c"),
        ("@me #3", "@\u{200b}me #\u{200b}3"),
        ("https://x.y", "https:\u{200b}//x.y"),
        ("\u{202e}x\u{0}", "\u{fffd}x\u{fffd}"),
        ("![i](u)", "\\!\\[i\\](u)"),
        ("www.x.y WWW.z", "www.\u{200b}x.y WWW.\u{200b}z"),
        ("GH-1, gh-23, GH-x", "GH-\u{200b}1, gh-\u{200b}23, GH-x"),
    ];
    for (raw, escaped) in cases {
        assert_eq!(escape_markdown(raw), escaped);
    }
    assert_eq!(code("a`b|c\nd").to_string(), "`a'b\\|c d`");
    assert_eq!(clean(&"x".repeat(5000)).chars().count(), 2001);
}

#[test]
fn numbers_read_well() {
    use minijinja::value::Value;
    assert_eq!(text::grouped(Value::from(1_234_567.4)), "1\u{202f}234\u{202f}567");
    assert_eq!(text::grouped(Value::from(-999)), "−999");
    assert_eq!(text::signed(Value::from(-0.00123), Some(5)), "−0.00123");
    let small = [-0.0000286, 2e-9, 0.0, 0.05].map(|value| text::signed(Value::from(value), Some(4)));
    assert_eq!(small, ["−0.000029", "+0.000000002", "+0.0000", "+0.0500"]);
    assert_eq!(text::fixed(Value::from(()), None), "–");
    assert_eq!(text::percent(Value::from(0.002), Some(1)), "0.2%");
    for (value, words) in [
        (0.0, "0"),
        (12.34, "12.3"),
        (1.0, "1"),
        (1_500.0, "1.5k"),
        (2.5e9, "2.5B"),
        (3e18, "3.00e18"),
        (0.0123, "0.0123"),
    ] {
        assert_eq!(text::short(value), words);
    }
    assert_eq!(text::bytes(Value::from(3u64 << 30)), "3.00 GiB");
    assert_eq!(text::duration(Value::from(90.0)), "90.0 s");
}

#[test]
fn long_experiments_still_fit_a_comment() {
    let mut project = Project::new("long");
    project.steps = 12;
    for depth in 1..90 {
        drop(project.add_with(Wanted::seed(42, 1.0).depth(depth), |plan, _, _| {
            plan.axes
                .insert("optimizer.some_very_long_name_of_a_setting".into(), serde_json::Value::from("|".repeat(600)));
        }));
    }
    let report = rendered(&project);
    assert!(report.markdown.chars().count() < MAX_COMMENT_CHARS);
    assert!(report.markdown.contains("more cells are in the HTML report"));
}

#[test]
fn templates_can_be_overridden_one_by_one() {
    let project = matrix();
    let sources = Sources::with_scorecard(project.scorecard(), &project.experiment(), project.path()).expect("sources");
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("report.md"), "{{ experiment }}: {{ verdicts[0].judgement.verdict }}")
        .expect("written");
    let report = render(&sources, Some(folder.path())).expect("rendered");
    assert_eq!(report.markdown, "depths: not\\_comparable\n");
    assert!(report.html.contains("<!doctype html>"));
    for (template, words) in [("{{ nothing }}", "undefined"), ("a\n{% if %}", "report.md:2")] {
        std::fs::write(folder.path().join("report.md"), template).expect("written");
        let error = render(&sources, Some(folder.path())).expect_err("refused").to_string();
        assert!(error.contains("`report.md`") && error.contains(words), "{error}");
    }
}

#[test]
fn files_lie_where_they_are_looked_for() {
    let project = matrix();
    crate::scorecard::update(&project.write_record().experiment(), project.path()).expect("a scorecard");
    let written = update(&project.root(), "depths", None).expect("written");
    assert!(written.markdown.ends_with("reports/depths.md") && written.html.ends_with("reports/depths.html"));
    let html = std::fs::read_to_string(&written.html).expect("read");
    assert!(html.contains("depths"));
    assert_eq!(nanochat_artifacts::Scorecard::SCHEMA, "nanochat.scorecard/v1");
    if let Ok(folder) = std::env::var("NANOCHAT_TEST_KEEP_REPORTS") {
        std::fs::copy(&written.html, std::path::Path::new(&folder).join("matrix.html")).expect("kept");
    }
}

/// A verified project on disk: record, scorecard, reports.
fn recorded() -> Project {
    let project = matrix();
    crate::scorecard::update(&project.write_record().experiment(), project.path()).expect("a scorecard");
    update(&project.root(), "depths", None).expect("reports");
    project
}

/// Changes one digit of a file, the last one that follows `after`.
fn tamper(path: &Path, after: &str) {
    let mut text = std::fs::read(path).expect("read");
    let found = text.windows(after.len()).position(|window| window == after.as_bytes());
    let start = found.unwrap_or_else(|| panic!("no {after:?} in {}", path.display())) + after.len();
    let digit = text[start..].iter().position(u8::is_ascii_digit).expect("a digit") + start;
    text[digit] = if text[digit] == b'9' { b'8' } else { text[digit] + 1 };
    std::fs::write(path, text).expect("written");
}

#[test]
fn verify_accepts_what_it_can_recompute() {
    let project = recorded();
    let found = verify(&project.root(), None).expect("verified");
    assert_eq!(found.findings, []);
    assert_eq!((found.experiments, found.runs), (1, 7));
    let nothing = tempfile::tempdir().expect("a folder");
    assert_eq!(verify(&ResultsRoot::new(nothing.path()), None).expect("verified"), Verification::default());
}

#[test]
fn one_changed_digit_is_caught_wherever_it_is() {
    let places: [(&str, fn(&Project) -> PathBuf, &str, &str); 12] = [
        ("summary", |p| first_run(p).summary(), "\"final_val_bpb\": 0.", "final_val_bpb"),
        ("summary", |p| first_run(p).summary(), "\"tokens_per_second\": ", "tokens_per_second"),
        ("summary", |p| first_run(p).summary(), "\"elapsed_seconds\": ", "differs from what the artifacts say"),
        ("summary", |p| first_run(p).summary(), "\"peak_rss_bytes\": ", "differs from what the artifacts say"),
        ("summary", |p| first_run(p).summary(), "\"weights_sha256\": \"", "differs from what the artifacts say"),
        ("plan", |p| first_run(p).plan(), "\"total_flops\": ", "differs from what the artifacts say"),
        ("environment", |p| first_run(p).environment(), "\"cores\": ", "differs from what the artifacts say"),
        ("scorecard", |p| p.experiment().scorecard(), "\"mean_val_bpb\": ", "mean_val_bpb"),
        ("scorecard", |p| p.experiment().scorecard(), "\"ratio\": 1.", "ratio"),
        ("report", |p| p.root().report_markdown("depths").expect("a path"), "| Speed", "at line"),
        ("report", |p| p.root().report_html("depths").expect("a path"), "<polyline", "at line"),
        (
            "baseline",
            |p| p.path().join(p.record.baseline_results.as_ref().expect("a path")),
            "\"final_val_bpb\": ",
            "differs from what the artifacts say",
        ),
    ];
    for (what, path, place, words) in places {
        let project = recorded();
        tamper(&path(&project), place);
        let found = verify(&project.root(), None).expect("verified").findings;
        assert!(found.iter().any(|one| one.problem.contains(words)), "{what} at {place}: {found:?}");
    }
}

fn first_run(project: &Project) -> nanochat_artifacts::RunFolder {
    project.experiment().run(&project.record.runs[0]).expect("a fine name")
}

#[test]
fn changed_tables_are_caught() {
    use nanochat_artifacts::{read_evals, read_steps, write_evals, write_steps};
    let project = recorded();
    let run = first_run(&project);
    let mut steps = read_steps(&run.steps()).expect("read");
    steps[30].loss += 1e-9;
    write_steps(&run.steps(), &steps).expect("written");
    let mut evals = read_evals(&run.evals()).expect("read");
    evals.last_mut().expect("a row").val_bpb = Some(0.5);
    write_evals(&run.evals(), &evals).expect("written");
    let found = verify(&project.root(), None).expect("verified").findings;
    for (file, words) in [
        ("steps.parquet", "the summary says"),
        ("evals.parquet", "the summary says"),
        ("summary.json", "loss_trace_sha256"),
        ("summary.json", "final_val_bpb 0.9998, the tables say 0.5"),
    ] {
        assert!(
            found.iter().any(|one| one.file.ends_with(file) && one.problem.contains(words)),
            "{file}, {words}: {found:?}"
        );
    }
    let broken = recorded();
    std::fs::write(first_run(&broken).steps(), b"gone").expect("written");
    std::fs::remove_file(broken.experiment().scorecard()).expect("removed");
    std::fs::create_dir_all(broken.experiment().path().join("stranger")).expect("created");
    std::fs::copy(first_run(&broken).plan(), broken.experiment().path().join("stranger/plan.json")).expect("copied");
    let found = verify(&broken.root(), None).expect("verified").findings;
    for file in ["steps.parquet", "scorecard.json", "stranger"] {
        assert!(found.iter().any(|one| one.file.ends_with(file)), "{file}: {found:?}");
    }
}

#[test]
fn comparisons_are_rendered() {
    use nanochat_artifacts::Tree;
    let (old, mut new) = (matrix(), matrix());
    new.add(Wanted::seed(45, 0.9702).depth(5));
    old.write_record();
    new.write_record();
    let tree = |project: &Project| Tree::folder(&project.path().join("results")).expect("a folder");
    let mut comparison =
        crate::scorecard::compare::compare(&tree(&old), &tree(&new), &Default::default()).expect("compared");
    (comparison.before, comparison.after) = ("main (0123456789ab)".into(), "HEAD (ba9876543210)".into());
    let report = render_comparison(&comparison, None).expect("rendered");
    insta::assert_snapshot!("comparison", report.markdown);
    comparison.before = HOSTILE.into();
    comparison.appeared.push(HOSTILE.into());
    comparison.experiments[0].cells[0].label = HOSTILE.into();
    let report = render_comparison(&comparison, None).expect("rendered");
    for text in [report.html, report.markdown] {
        assert!(!text.contains("<script") && !text.contains('\u{202e}') && !text.contains("5332114"));
    }
}

/// Opens pages in headless Chromium where it is installed, narrow and wide: they are drawn and nothing is logged.
#[test]
fn pages_open_without_complaint() {
    let Some(browser) = ["/usr/bin/chromium", "/usr/bin/google-chrome"].iter().find(|path| Path::new(path).is_file())
    else {
        println!("skipped: Chromium is not installed");
        return;
    };
    let mut twelve = Project::new("twelve");
    for depth in 1..13 {
        (42..44).for_each(|seed| drop(twelve.add(Wanted::seed(seed, 1.2 - 0.02 * depth as f64).depth(depth))));
    }
    for (name, report) in [("matrix", rendered(&matrix())), ("twelve", rendered(&twelve))] {
        let folder = tempfile::tempdir().expect("a folder");
        let page = folder.path().join(format!("{name}.html"));
        std::fs::write(&page, &report.html).expect("written");
        for width in [390, 1280] {
            let picture = folder.path().join("page.png");
            let output = std::process::Command::new(browser)
                .args([
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-quic",
                    "--no-first-run",
                    "--hide-scrollbars",
                ])
                .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
                .args(["--enable-logging=stderr", &format!("--window-size={width},2600")])
                .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
                .arg(format!("--screenshot={}", picture.display()))
                .arg(format!("file://{}", page.display()))
                .output()
                .expect("the browser starts");
            let said = String::from_utf8_lossy(&output.stderr);
            let complaints: Vec<_> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
            assert!(complaints.is_empty(), "{name} at {width}: {complaints:?}");
            assert!(std::fs::metadata(&picture).is_ok_and(|file| file.len() > 20_000), "{name} at {width} is drawn");
            if let Ok(kept) = std::env::var("NANOCHAT_TEST_KEEP_REPORTS") {
                std::fs::copy(&picture, Path::new(&kept).join(format!("{name}-{width}.png"))).expect("kept");
            }
        }
    }
}

/// Templates may come from a stranger too: they end, they read no link, and they ask for no more than they need.
#[test]
fn hostile_templates_end_in_errors() {
    let mut project = Project::new("templates");
    project.add(Wanted::seed(42, 1.0));
    let scorecard = project.scorecard();
    let sources = Sources::with_scorecard(scorecard, &project.experiment(), project.path()).expect("sources");
    let folder = tempfile::tempdir().expect("a folder");
    let template = folder.path().join(super::templates::MARKDOWN);
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let wide = ["{{ 'x'|indent(4000000000) }}", "{{ '%1000000000d'|format(1) }}", "{{ 'x' * 4000000000 }}"];
    for hostile in wide.into_iter().chain([loops]) {
        std::fs::write(&template, hostile).expect("written");
        assert!(matches!(render(&sources, Some(folder.path())), Err(ReportError::Template { .. })), "{hostile}");
    }
    std::fs::write(&template, "{{ 1.5|fixed(65536) }} {{ 1.5|percent(65536) }} {{ 1.5|signed(65536) }}")
        .expect("written");
    let rendered = render(&sources, Some(folder.path())).expect("rendered");
    assert!(rendered.markdown.len() < 200, "{}", rendered.markdown);
    #[cfg(unix)]
    {
        std::fs::remove_file(&template).expect("removed");
        std::os::unix::fs::symlink("/etc/passwd", &template).expect("a link");
        let refused = render(&sources, Some(folder.path())).expect_err("a link").to_string();
        assert!(refused.contains("it is a link") && !refused.contains("root:"), "{refused}");
    }
}

/// Above the details: when it ran, what it took, what differs, and what each colour means beside its chart.
#[test]
fn a_report_says_what_it_took_and_what_differs() {
    let project = matrix();
    let report = rendered(&project);
    for text in [&report.html, &report.markdown] {
        assert!(text.contains("UTC") && text.contains("hours of CPU threads"), "{text}");
        assert!(text.contains("(best)") || text.contains(">best</span>"), "{text}");
        assert!(text.contains("(worst)") || text.contains(">worst</span>"), "{text}");
    }
    let charts: Vec<&str> = report.html.split("<figure class=\"chart\">").skip(1).collect();
    assert!(!charts.is_empty());
    for chart in charts {
        let chart = chart.split("</figure>").next().unwrap_or_default();
        let colours = chart.matches("<polyline").count();
        assert!(colours < 2 || chart.contains("class=\"legend\""), "{chart}");
        assert!(chart.contains("tabindex=\"0\"") || !chart.contains("<circle"), "{chart}");
    }
}

/// Links to the spec where it lies at the usual place, and to commits where they are the project's own.
#[test]
fn the_spec_and_own_commits_are_linked() {
    let project = matrix();
    let link = "](../../../commit/1234567890abcdef1234567890abcdef12345678)";
    let elsewhere = rendered(&project).markdown;
    assert!(!elsewhere.contains("](../") && elsewhere.contains("commit `1234567890ab`"), "{elsewhere}");
    std::fs::create_dir_all(project.path().join("experiments")).expect("a folder");
    std::fs::write(project.path().join("experiments/depths.yaml"), "name: depths\n").expect("a spec");
    std::fs::write(project.path().join("Cargo.toml"), "[package]\nname = \"nanochat-rs-next\"\n").expect("a manifest");
    let report = rendered(&project);
    assert!(report.markdown.contains("[`nanochat run experiments/depths.yaml`](../experiments/depths.yaml)"));
    assert!(report.markdown.contains(link) && !report.html.contains("commit/"), "{}", report.markdown);
    let html = report.html.replace("&#x2f;", "/");
    assert!(
        html.contains("<a href=\"../experiments/depths.yaml\"><code>nanochat run experiments/depths.yaml</code></a>")
    );
}
