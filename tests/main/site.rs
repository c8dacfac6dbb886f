//! `site` over a project whose results changed between two commits.

use std::process::Command;

use super::program::{Project, root};

fn git(project: &Project, arguments: &[&str]) {
    let identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
    let ran = Command::new("git").current_dir(project.path()).args(identity).args(arguments).output().expect("git");
    assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn copied_experiment(project: &Project) -> String {
    let recorded = root().join("results/books");
    for entry in ["experiment.json", "scorecard.json"] {
        let text = std::fs::read_to_string(recorded.join(entry)).unwrap();
        project.write(&format!("results/books/{entry}"), &text);
    }
    std::fs::read_to_string(recorded.join("scorecard.json")).unwrap()
}

#[test]
fn pages_show_the_history_and_where_verdicts_changed() {
    let project = Project::new();
    let scorecard = copied_experiment(&project);
    project.write("reports/books.html", "<!doctype html><title>report</title>");
    git(&project, &["init", "-q"]);
    git(&project, &["add", "results", "reports"]);
    git(&project, &["commit", "-qm", "Record <books>"]);
    let verdict = |text: &str| text.replace("\"verdict\": \"missing\"", "\"verdict\": \"not_comparable\"");
    assert_ne!(verdict(&scorecard), scorecard, "the record has no missing verdict to change");
    project.write("results/books/scorecard.json", &verdict(&scorecard));
    git(&project, &["commit", "-qam", "Record it on another machine"]);
    project.write("results/books/scorecard.json", "no longer a scorecard");
    git(&project, &["commit", "-qam", "Break it"]);
    project.write("results/books/scorecard.json", &scorecard);

    project.run(&["site", "--out", "public"]).exits(0);
    assert_eq!(project.files("public"), ["public/books.html", "public/index.html", "public/reports/books.html"]);
    let page = std::fs::read_to_string(project.path().join("public/books.html")).unwrap();
    assert!(page.contains("Record &lt;books&gt;") && page.contains("Record it on another machine"), "{page}");
    assert_eq!(page.matches("<td><code>").count(), 2, "two commits that can be read");
    assert!(page.contains("not committed") && page.contains("1 earlier recording is left out"), "{page}");
    assert!(page.matches(">changed</span>").count() >= 2, "the verdict went and came back: {page}");
    // The template engine writes a slash as an entity.
    let index = std::fs::read_to_string(project.path().join("public/index.html")).unwrap().replace("&#x2f;", "/");
    assert!(index.contains("href=\"books.html\"") && index.contains("href=\"reports/books.html\""), "{index}");
    for text in [&page, &index] {
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("<script"), "{text}");
    }
}

#[test]
fn outside_of_a_repository_there_is_the_present_alone() {
    let project = Project::new();
    copied_experiment(&project);
    project.run(&["site", "--out", "public"]).exits(0);
    let page = std::fs::read_to_string(project.path().join("public/books.html")).unwrap();
    assert!(page.contains("not committed") && !page.contains("<td><code>"), "{page}");
}

#[test]
fn pages_show_what_the_spec_gained_and_lost() {
    let project = Project::new();
    let scorecard = copied_experiment(&project);
    project.write("experiments/books.yaml", "name: books\nseeds: [42]\n");
    git(&project, &["init", "-q"]);
    git(&project, &["add", "results", "experiments/books.yaml"]);
    git(&project, &["commit", "-qm", "Record it"]);
    project.write("experiments/books.yaml", "name: books\nseeds: [42, 43] # <two>\n");
    project
        .write("results/books/scorecard.json", &scorecard.replace("\"verdict\": \"missing\"", "\"verdict\": \"fail\""));
    git(&project, &["commit", "-qam", "Ask two seeds"]);
    project.write("reports/books.html", "<!doctype html><title>report</title>");
    project.run(&["site", "--out", "public"]).exits(0);
    let linked = std::fs::read_to_string(project.path().join("public/experiments/books.yaml")).unwrap();
    assert!(linked.contains("[42, 43]"), "the report links to its spec: {linked}");
    let page = std::fs::read_to_string(project.path().join("public/books.html")).unwrap();
    assert!(page.contains("<span class=\"removed\">-seeds: [42]</span>"), "{page}");
    assert!(page.contains("<span class=\"added\">+seeds: [42, 43] # &lt;two&gt;</span>"), "{page}");
}
