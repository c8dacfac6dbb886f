//! Downloads from a server of the test's own.

#[path = "../../../tests/main/server.rs"]
mod server;

mod bundle;
mod shards;
