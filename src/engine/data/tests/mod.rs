//! Sources, batches and resume.

mod batches;
mod resume;
mod sources;
mod synthetic;
mod vocabulary;

use std::path::PathBuf;

/// A folder of the shared reference material, or none where it is absent: then the caller says so and leaves off.
fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name);
    let found = path.exists();
    if !found {
        println!("skipped: {} is not here", path.display());
    }
    found.then_some(path)
}
