//! Why the page can't be served.

/// Why the page can't be served.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ServeError {
    /// The address is seen by other machines, and the user didn't ask for that.
    #[error("{address} can be reached from other machines")]
    #[diagnostic(help(
        "name 127.0.0.1, or add `--expose`: then the page asks for a token, which is in the address that is printed"
    ))]
    Exposed {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}: {reason}")]
    #[diagnostic(help(
        "another program has this port, or it is not this user's to take: name another, such as 127.0.0.1:8081"
    ))]
    Address {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// No random numbers for the token.
    #[error("the system gives no random numbers for a token: {reason}")]
    #[diagnostic(help("serve on 127.0.0.1 without `--expose`, which needs none"))]
    NoToken {
        /// What the system says.
        reason: String,
    },
}
