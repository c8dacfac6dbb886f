//! The only place that opens connections: HTTP by `ureq`, whose proxies come from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`
//! and `NO_PROXY`.
//!
//! Redirects are followed here, so that the token goes to the server that it is for and to no other, that a file asked for
//! over TLS comes over TLS, and that what the first server says of the file is heard.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Uri, header};

use super::DownloadError;
use super::retry::{Patience, is_passing, retry_after};

/// Most redirects in a row.
const MOST_REDIRECTS: usize = 10;
/// Time to find a server and reach it.
const CONNECT: Duration = Duration::from_secs(30);

/// What the environment says of downloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `HF_ENDPOINT`: a mirror of the Hugging Face hub.
    pub endpoint: Option<String>,
    /// `HF_TOKEN`, sent to the hub or its mirror alone.
    pub token: Option<String>,
}

impl Environment {
    /// Reads the variables; an empty one is none.
    pub fn read() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self { endpoint: variable("HF_ENDPOINT"), token: variable("HF_TOKEN") }
    }
}

/// A client for one source.
pub struct Client {
    agent: ureq::Agent,
    /// Scheme, host and port that the token may be sent to, and the header.
    token: Option<(String, String)>,
    pub(crate) patience: Patience,
}

/// Why a request brought no file.
pub(crate) enum Failure {
    /// It may go better later; the server may have said when.
    Passing(String, Option<Duration>),
    /// It won't.
    Final(DownloadError),
}

/// A file, or a part of one.
pub(crate) struct Response {
    /// Where in the file the body starts; none when the part asked for is beyond the file's end.
    pub start: Option<u64>,
    /// Length of the whole file.
    pub total: Option<u64>,
    /// SHA-256 of the whole file, where the hub says it.
    pub sha256: Option<String>,
    /// The kind of content that the server names.
    pub content_type: String,
    /// The bytes.
    pub body: Box<dyn Read + Send>,
}

impl Client {
    /// A client that is as patient as said, and sends a token to the server of `address`.
    ///
    /// # Errors
    /// The address is none, or the token can't be sent.
    pub fn new(address: &str, token: Option<&str>, patience: Patience) -> Result<Self, DownloadError> {
        let origin = origin(&parse(address)?);
        let token = token.map(bearer).transpose()?.map(|token| (origin, token));
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("nanochat-rs/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence));
        Ok(Self { agent: config.build().new_agent(), token, patience })
    }

    /// Asks for a file from a byte on.
    pub(crate) fn get(&self, url: &str, start: u64) -> Result<Response, Failure> {
        let mut address = parse(url).map_err(Failure::Final)?;
        let mut sha256 = None;
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.request(&address, start)?;
            let (status, headers) = (answer.status().as_u16(), answer.headers());
            sha256 = sha256.or_else(|| linked_sha256(headers));
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return response(url, status, start, sha256, answer);
            }
            let next = text(headers, header::LOCATION.as_str());
            let next = next
                .and_then(|next| absolute(&address, next))
                .ok_or_else(|| redirect(url, "the server redirects without saying where to".to_owned()))?;
            if address.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(redirect(url, "the server redirects from https to an address without TLS".to_owned()));
            }
            address = next;
        }
        Err(redirect(url, format!("more than {MOST_REDIRECTS} redirects in a row")))
    }

    fn request(&self, address: &Uri, start: u64) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let mut request = self.agent.get(address);
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        if let Some((origin_of_token, token)) = &self.token
            && *origin_of_token == origin(address)
            && is_private(address)
        {
            request = request.header(header::AUTHORIZATION, token);
        }
        request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Http(_) => {
                let (address, reason) = (address.to_string(), error.to_string());
                Failure::Final(DownloadError::Address { address, reason })
            }
            error => Failure::Passing(reason(&error), None),
        })
    }
}

/// What an answer that is no redirect comes to.
fn response(
    url: &str,
    status: u16,
    start: u64,
    sha256: Option<String>,
    answer: ureq::http::Response<ureq::Body>,
) -> Result<Response, Failure> {
    let headers = answer.headers();
    let content_type = text(headers, "content-type").unwrap_or_default().to_owned();
    let range = text(headers, "content-range").unwrap_or_default().to_owned();
    let after_slash = range.rsplit_once('/').and_then(|(_, total)| total.parse().ok());
    let (start, total) = match status {
        200 => (Some(0), text(headers, "content-length").and_then(|length| length.parse().ok())),
        206 => match range_start(&range) {
            Some(first) if first == start => (Some(first), after_slash),
            _ => {
                return Err(Failure::Passing(
                    "the server sent another part of the file than was asked for".into(),
                    None,
                ));
            }
        },
        416 if start > 0 => (None, after_slash),
        status if is_passing(status) => {
            let wait = text(headers, "retry-after").and_then(retry_after);
            return Err(Failure::Passing(format!("the server answers {status}"), wait));
        }
        status => return Err(Failure::Final(refused(url, status))),
    };
    let body = Box::new(answer.into_body().into_reader());
    Ok(Response { start, total, sha256, content_type, body })
}

fn refused(url: &str, status: u16) -> DownloadError {
    let help = match status {
        401 | 403 => "set HF_TOKEN to a token that may read it, or check whether the network lets the address through",
        404 | 410 => "check the address: HF_ENDPOINT and --from must name a server that has the same files",
        _ => "check the address; HF_ENDPOINT or --from names a mirror",
    };
    DownloadError::Refused { url: url.to_owned(), status, help }
}

fn redirect(url: &str, reason: String) -> Failure {
    Failure::Final(DownloadError::Redirect { url: url.to_owned(), reason })
}

fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "the server is silent".to_owned(),
        ureq::Error::HostNotFound => "the server's name is not known".to_owned(),
        error => error.to_string(),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The hub names the digest of a large file where it redirects to its storage.
fn linked_sha256(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, "x-linked-etag")?.trim_matches('"').to_ascii_lowercase();
    (tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(tag)
}

fn range_start(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn parse(address: &str) -> Result<Uri, DownloadError> {
    // What stands before an @ may be a password.
    let shown = address.rsplit_once('@').map_or_else(|| address.to_owned(), |(_, rest)| format!("…@{rest}"));
    let refuse = |reason: &str| DownloadError::Address { address: shown.clone(), reason: reason.to_owned() };
    let uri: Uri = address.parse().map_err(|_| refuse("it can't be read"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(refuse("it must start with https:// or http:// and a server's name"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(refuse("it holds a user name or password; this program sends none"));
    }
    Ok(uri)
}

/// Where a `Location` header leads.
fn absolute(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let whole = match location {
        location if location.contains("://") => location.to_owned(),
        location if location.starts_with("//") => format!("{scheme}:{location}"),
        location if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        location => {
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    parse(&whole).ok()
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    format!("{scheme}://{}:{port}", uri.host().unwrap_or_default().to_ascii_lowercase())
}

/// Whether nobody on the way can read along: TLS, or this machine.
fn is_private(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https") || matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn bearer(token: &str) -> Result<String, DownloadError> {
    let token = token.trim();
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(format!("Bearer {token}")),
        false => Err(DownloadError::Token { reason: "it holds blanks, line breaks or letters outside ASCII" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_lead_where_they_say() {
        let from: Uri = "https://hub.example/a/b?x=1".parse().expect("an address");
        for (location, expected) in [
            ("https://other.example/c", Some("https://other.example/c")),
            ("//other.example/c", Some("https://other.example/c")),
            ("/c?d=1", Some("https://hub.example/c?d=1")),
            ("c", Some("https://hub.example/a/c")),
            ("ftp://other.example/c", None),
            ("https://user:word@other.example/c", None),
        ] {
            assert_eq!(absolute(&from, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn a_token_is_sent_in_secret_or_not_at_all() {
        let private = |address: &str| is_private(&address.parse().expect("an address"));
        assert!(private("https://huggingface.co/x") && private("http://127.0.0.1:80/x"));
        assert!(!private("http://huggingface.co/x"));
        assert_eq!(bearer(" hf_x\n").expect("a token"), "Bearer hf_x");
        let refused = bearer("hf x").expect_err("refused").to_string();
        assert!(!refused.contains("hf x"), "{refused}");
    }
}
