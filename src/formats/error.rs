//! Why a file of another program's format can't be read or written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file of another program's format can't be read or written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum FormatError {
    /// The file system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    #[diagnostic(help("check the path, its permissions and the free space; a file that exists is never overwritten"))]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A pickle that is broken, or that asks for more than its reader allows.
    #[error("cannot read the pickle in `{}`: {place}: {reason}", path.display())]
    #[diagnostic(help("pickles are read as data and nothing in them is executed; get the file again from its source"))]
    Pickle {
        /// The file that holds the pickle.
        path: PathBuf,
        /// Byte and opcode.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that isn't what `torch.save` writes.
    #[error("cannot read `{}` as a PyTorch file: {reason}", path.display())]
    #[diagnostic(help("only archives that `torch.save` wrote are read; get the file again from its source"))]
    Torch {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A value that can't be written to a PyTorch file.
    #[error("cannot write `{}` as a PyTorch file: {reason}", path.display())]
    #[diagnostic(help("PyTorch stores f64, f32, f16, bf16, u8, i16, i32 and i64: convert the tensor to one of them"))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What it can't hold.
        reason: String,
    },
    /// An ONNX graph that can't be read or computed.
    #[error("cannot evaluate the ONNX graph `{}`: {reason}", path.display())]
    #[diagnostic(help("only graphs that this program exported are evaluated: export the model again"))]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl FormatError {
    /// Adds action and place to an error of the file system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
