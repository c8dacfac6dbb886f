//! The page of `nanochat watch --serve`: what runs are doing, for the browser.
//!
//! It reads artifacts and leases, and changes nothing. It answers on this machine's own address, or with a token that is in no
//! request's address; to hosts by the name it was asked to serve. Answers are made once for all visitors. A connection is one
//! request, has a thread of its own and a time within which it ends, so that a slow visitor holds nobody up.

mod answers;
mod curves;
mod error;
mod request;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use nanochat_artifacts::{ResultsRoot, hex};

pub use error::ServeError;

use answers::{Answer, Answers};
use request::Request;

/// Answers that may be on their way at once; further visitors are sent away.
const MOST_AT_ONCE: usize = 32;
/// Between two looks whether to end.
const LOOK: Duration = Duration::from_millis(20);
/// The longest time that a visitor may take to send a request, and to take a piece of its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every answer says to browsers: nothing from elsewhere, no markup from text, no frames.
const HEADERS: [(&str, &str); 6] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
];

/// A page that listens, and isn't answered yet.
pub struct Page {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<String>,
    answers: Arc<Answers>,
}

impl Page {
    /// Listens. An address that other machines reach has to be asked for with `expose`; it gets a token.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn listen(address: SocketAddr, expose: bool, root: ResultsRoot) -> Result<Self, ServeError> {
        if !address.ip().is_loopback() && !expose {
            return Err(ServeError::Exposed { address });
        }
        let token = if expose { Some(token()?) } else { None };
        let failed = |error: io::Error| ServeError::Address { address, reason: error.to_string() };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, token, answers: Arc::new(Answers::new(root)) })
    }

    /// Where a browser finds it. The token is behind the `#`, which browsers keep to themselves.
    pub fn location(&self) -> String {
        let token = self.token.as_ref().map(|token| format!("#token={token}")).unwrap_or_default();
        format!("http://{}/{token}", self.address)
    }

    /// Answers until `stop` says so.
    pub fn serve(&self, stop: &dyn Fn() -> bool) {
        let on_their_way = Arc::new(AtomicUsize::new(0));
        while !stop() {
            let Ok((stream, _)) = self.listener.accept() else {
                std::thread::sleep(LOOK);
                continue;
            };
            if on_their_way.load(Ordering::SeqCst) >= MOST_AT_ONCE {
                continue;
            }
            on_their_way.fetch_add(1, Ordering::SeqCst);
            let (answers, count) = (self.answers.clone(), on_their_way.clone());
            let (address, token) = (self.address, self.token.clone());
            let started = std::thread::Builder::new().name("answer".into()).spawn(move || {
                // A visitor who has left needs no answer.
                let _ = attend(stream, address, token.as_deref(), &answers);
                count.fetch_sub(1, Ordering::SeqCst);
            });
            if started.is_err() {
                on_their_way.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

/// Reads a request and sends its answer.
fn attend(mut stream: TcpStream, address: SocketAddr, token: Option<&str>, answers: &Answers) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(request) = Request::read(&mut stream, PATIENCE)? else {
        return send(&mut stream, &Answer::status(400), true);
    };
    let answer = refuse(&request, address, token).unwrap_or_else(|| answers.to(&request.target));
    send(&mut stream, &answer, request.method != "HEAD")
}

/// Why a request isn't answered.
fn refuse(request: &Request, address: SocketAddr, token: Option<&str>) -> Option<Answer> {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Some(Answer::status(405));
    }
    // A page of another host whose name leads here would be of this page's origin.
    if !is_own_host(request.header("host"), address) {
        return Some(Answer::status(403));
    }
    let given = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match token {
        Some(token) if request.target.starts_with("/api/") && !is_same(token, given.unwrap_or_default()) => {
            Some(Answer::status(401))
        }
        _ => None,
    }
}

/// Whether a request asks this host by an address, not by some name: with all addresses served, any; else the one.
fn is_own_host(host: Option<&str>, address: SocketAddr) -> bool {
    let Some(host) = host else { return false };
    if let Ok(asked) = host.parse::<SocketAddr>() {
        return asked.port() == address.port() && (address.ip().is_unspecified() || asked.ip() == address.ip());
    }
    address.ip().is_loopback() && host == format!("localhost:{}", address.port())
}

/// Whether two texts are the same, in a time that doesn't tell how far they are.
fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a.as_bytes()), Sha256::digest(b.as_bytes()));
    a.iter().zip(b.iter()).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// 128 random bits.
fn token() -> Result<String, ServeError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| ServeError::NoToken { reason: error.to_string() })?;
    Ok(hex(&bytes))
}

fn send(stream: &mut TcpStream, answer: &Answer, with_body: bool) -> io::Result<()> {
    let Answer { status, kind, body } = answer;
    let mut head = format!("HTTP/1.1 {status} Answer\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in HEADERS {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    if with_body {
        stream.write_all(body)?;
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_addresses_are_hosts() {
        let own: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        for host in ["127.0.0.1:8080", "localhost:8080"] {
            assert!(is_own_host(Some(host), own), "{host}");
        }
        for host in ["127.0.0.1", "127.0.0.1:80", "evil.example:8080", "localhost.evil:8080", "10.0.0.1:8080", ""] {
            assert!(!is_own_host(Some(host), own), "{host}");
        }
        assert!(!is_own_host(None, own));
        let all: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        assert!(is_own_host(Some("10.0.0.1:8080"), all) && !is_own_host(Some("evil.example:8080"), all));
    }

    #[test]
    fn other_machines_are_answered_on_request_alone() {
        let address: SocketAddr = "0.0.0.0:0".parse().unwrap();
        assert!(matches!(Page::listen(address, false, ResultsRoot::new("")), Err(ServeError::Exposed { .. })));
        let token = token().unwrap();
        assert!(is_same(&token, &token.clone()) && !is_same(&token, "") && !is_same(&token, &token[1..]));
    }
}
