//! `nanochat watch --serve` over a socket: what it shows, and what visitors can't do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::program::Project;
use super::run_experiment::TINY;

/// Text that a page which made markup of it would carry out.
const HOSTILE: &str = "<img src=x onerror=alert(1)><script>alert(2)</script>";

/// The served page; it ends when dropped.
pub struct Served {
    process: Child,
    address: String,
    token: Option<String>,
}

impl Served {
    /// Starts `watch --serve` with these arguments.
    pub fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.command(&[&["watch", "--serve"], arguments].concat());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let place = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{line}"));
        let (address, token) = place.split_once('/').unwrap();
        let token = token.strip_prefix("#token=").map(str::to_string);
        Self { process, address: address.to_string(), token }
    }

    /// Processor time that the server has taken, where Linux tells: the 14th and 15th field, in hundredths of a second.
    pub fn processor_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
        Some(fields.map(|ticks| ticks.parse::<f64>().unwrap_or_default()).sum::<f64>() / 100.0)
    }

    fn connect(&self) -> TcpStream {
        let port = self.address.rsplit_once(':').unwrap().1.parse().unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends the head of a request and reads the whole answer: its status, its head, its body.
    fn ask(&self, first: &str, headers: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        write!(stream, "{first} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_string())
    }

    /// The answer to a path: its status, its head, its body.
    pub fn get(&self, path: &str) -> (u16, String, String) {
        self.ask(&format!("GET {path}"), &format!("Host: {}\r\n", self.address))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn with_results() -> Project {
    let project = Project::new();
    let spec = TINY.replace("description: small enough for a test", &format!("description: '{HOSTILE}'"));
    project.write("tiny.yaml", &spec.replace("repeats: 1", "repeats: 0"));
    let run = ["run", "tiny.yaml", "--allow-hardware-mismatch", "--set", "hardware.device_batch_size=4"];
    project.run(&run).exits(0);
    project
}

#[test]
fn a_page_shows_runs_and_leaves_hostile_text_as_text() {
    let project = with_results();
    let served = Served::start(&project, &["127.0.0.1:0"]);
    let (status, head, page) = served.get("/");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    // The page itself holds nothing from outside; its script never makes markup of what it is given.
    assert!(!page.contains("<img") && page.contains("/watch.js"), "{page}");
    let script = served.get("/watch.js").2;
    for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"] {
        let allowed = markup == "http://" && script.matches(markup).count() == 1;
        assert!(allowed || !script.contains(markup), "{markup}");
    }
    let (_, head, body) = served.get("/api/experiment?name=tiny");
    assert!(head.contains("content-type: application/json"), "{head}");
    let live: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(live["description"], HOSTILE);
    assert_eq!((&live["runs"][0]["state"], &live["runs"][0]["step"]), (&"finished".into(), &12.into()));
    assert!(live["scorecard"].as_array().is_some_and(|card| card.len() == 3), "{live:#}");
    let curves: Value = serde_json::from_str(&served.get("/api/curves?name=tiny").2).unwrap();
    assert_eq!(curves[0]["loss"].as_array().unwrap().len(), 12);
    assert_eq!(curves[0]["val_bpb"].as_array().unwrap().len(), 4);
    let run = live["runs"][0]["run_id"].as_str().unwrap();
    assert!(served.get(&format!("/api/log?name=tiny&run={run}")).2.contains("\"loss\""));
    let all: Value = serde_json::from_str(&served.get("/api/experiments").2).unwrap();
    assert_eq!(all[0]["counts"], "1 finished");
}

#[test]
fn a_page_answers_its_own_visitors_alone_and_changes_nothing() {
    let project = with_results();
    let before = project.files("");
    let served = Served::start(&project, &["127.0.0.1:0"]);
    let own = format!("Host: {}\r\n", served.address);
    for host in ["Host: evil.example\r\n", &own.replace("127.0.0.1", "evil.example"), ""] {
        let (status, _, body) = served.ask("GET /api/experiments", host);
        assert!([400, 403].contains(&status) && !body.contains("tiny"), "{host}: {status} {body}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(served.ask(&format!("{method} /api/experiments"), &own).0, 405, "{method}");
    }
    for path in [
        "/../Cargo.toml",
        "/api/experiment?name=..",
        "/api/experiment?name=%2e%2e",
        "/api/experiment?name=nothing",
        "/api/experiment",
        "/api/log?name=tiny&run=../../../../etc",
        "/api/log?name=tiny&run=",
        "/etc/passwd",
    ] {
        assert_eq!(served.get(path).0, 404, "{path}");
    }
    assert_eq!(project.files(""), before);
}

#[test]
fn a_slow_visitor_and_one_that_leaves_hold_nobody_up() {
    let project = with_results();
    let served = Served::start(&project, &["127.0.0.1:0"]);
    // Half a request, and whole ones whose answers nobody reads.
    let mut half = served.connect();
    half.write_all(b"GET /api/exp").unwrap();
    let slow: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = served.connect();
            write!(stream, "GET /watch.js HTTP/1.1\r\nHost: {}\r\n\r\n", served.address).unwrap();
            stream
        })
        .collect();
    let mut gone = served.connect();
    write!(gone, "GET /api/curves?name=tiny HTTP/1.1\r\nHost: {}\r\n\r\n", served.address).unwrap();
    drop(gone);
    for _ in 0..3 {
        assert_eq!(served.get("/api/experiments").0, 200);
    }
    drop((half, slow));
    assert_eq!(served.get("/").0, 200);
}

#[test]
fn other_machines_need_the_flag_and_the_token() {
    let project = with_results();
    let refused = project.run(&["watch", "--serve", "0.0.0.0:0"]).exits(2);
    assert!(refused.told().contains("--expose"), "{}", refused.stderr());
    let served = Served::start(&project, &["127.0.0.1:0", "--expose"]);
    let token = served.token.clone().expect("a token");
    let host = format!("Host: {}\r\n", served.address);
    for wrong in ["", "Authorization: Bearer \r\n", "Authorization: Bearer 00000000000000000000000000000000\r\n"] {
        assert_eq!(served.ask("GET /api/experiments", &format!("{host}{wrong}")).0, 401, "{wrong}");
    }
    let right = format!("{host}Authorization: Bearer {token}\r\n");
    assert_eq!(served.ask("GET /api/experiments", &right).0, 200);
    // Page, style and script say nothing of the results.
    assert_eq!(served.get("/").0, 200);
}
