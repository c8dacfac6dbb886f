//! The head of a request. Bodies are not read: nothing here takes any.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// The longest head that is read, in bytes.
const LONGEST: usize = 16 << 10;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers, by names in lower case.
    headers: Vec<(String, String)>,
}

impl Request {
    /// Reads a request; none when it is none, too long, or not whole within the time.
    ///
    /// # Errors
    /// The connection breaks, or is silent for longer than it allows.
    pub fn read(stream: &mut impl Read, within: Duration) -> io::Result<Option<Self>> {
        let began = Instant::now();
        let (mut head, mut piece) = (Vec::new(), [0; 1024]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut piece)?;
            head.extend_from_slice(piece.get(..count).unwrap_or_default());
            if count == 0 || head.len() > LONGEST || began.elapsed() > within {
                return Ok(None);
            }
        }
        Ok(Self::parse(&head))
    }

    fn parse(head: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        if !version.starts_with("HTTP/1.") || first.next().is_some() || !target.starts_with('/') {
            return None;
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let name = name.to_ascii_lowercase();
            // Of two hosts, who knows which is meant.
            if headers.iter().any(|(earlier, _)| *earlier == name && name == "host") {
                return None;
            }
            headers.push((name, value.trim().to_string()));
        }
        Some(Self { method: method.to_string(), target: target.to_string(), headers })
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut text: &[u8]) -> Option<Request> {
        Request::read(&mut text, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn heads_are_read_and_what_is_none_refused() {
        let request = read(b"GET /a?b=c HTTP/1.1\r\nHost: x:1\r\nAuthorization:  Bearer t \r\n\r\nrest").unwrap();
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a?b=c"));
        assert_eq!((request.header("host"), request.header("authorization")), (Some("x:1"), Some("Bearer t")));
        let long = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; LONGEST + 1]].concat();
        for broken in [
            &b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"[..],
            b"GET http://x/ HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1 x\r\n\r\n",
            b"GET / HTTP/2\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n",
            b"",
            &long,
        ] {
            assert_eq!(read(broken), None, "{}", String::from_utf8_lossy(&broken[..broken.len().min(60)]));
        }
    }
}
