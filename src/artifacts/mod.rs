//! What happened: folder layout, typed rows, atomic writing. Together with `checkpoint` the only room that knows file names.

mod documents;

pub use documents::*;
