//! A web server of the test's own: each request gets the answer that the test thinks up.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Its path, as it was asked for.
    pub path: String,
    /// Its headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Requests for the same path before this one.
    pub earlier: usize,
}

impl Request {
    /// The byte that is asked for first.
    pub fn start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    sent: usize,
    pause: Option<(usize, Duration)>,
}

impl Answer {
    /// A status and nothing else.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), sent: usize::MAX, pause: None }
    }

    /// A body.
    pub fn body(bytes: &[u8]) -> Self {
        Self { body: bytes.to_vec(), ..Self::status(200) }
    }

    /// A file, or the part of it that is asked for.
    pub fn file(bytes: &[u8], request: &Request) -> Self {
        match request.start() {
            None => Self::body(bytes),
            Some(start) if start >= bytes.len() => {
                Self::status(416).header("Content-Range", &format!("bytes */{}", bytes.len()))
            }
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                Self { status: 206, ..Self::body(&bytes[start..]) }.header("Content-Range", &range)
            }
        }
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Ends the connection after so many bytes of the body.
    pub fn cut(self, sent: usize) -> Self {
        Self { sent, ..self }
    }

    /// Is silent for a while after so many bytes of the body.
    pub fn pause(self, after: usize, time: Duration) -> Self {
        Self { pause: Some((after, time)), ..self }
    }

    fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let stated = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let mut head = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", self.status);
        if !stated {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        let body = &self.body[..self.sent.min(self.body.len())];
        let (first, rest) = body.split_at(self.pause.map_or(body.len(), |(after, _)| after.min(body.len())));
        stream.write_all(first)?;
        stream.flush()?;
        if let Some((_, time)) = self.pause {
            std::thread::sleep(time);
        }
        stream.write_all(rest)
    }
}

/// The server; it ends when dropped.
pub struct Server {
    port: u16,
    log: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Starts a server on a free port of this machine.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (answer, server) = (Arc::new(answer), Self { port, log: log.clone(), ended: ended.clone() });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        server
    }

    /// Its address, without a slash at the end.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().expect("the log").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Answer, log: &Mutex<Vec<Request>>) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut lines = BufReader::new(copy).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path, headers: headers.collect(), earlier: 0 };
    {
        let mut log = log.lock().expect("the log");
        request.earlier = log.iter().filter(|earlier: &&Request| earlier.path == request.path).count();
        log.push(request.clone());
    }
    // A client that has gone away is the test's intention.
    let _ = answer(&request).send(&mut stream);
}
