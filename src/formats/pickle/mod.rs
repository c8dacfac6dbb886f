//! Python pickles (protocols 2 to 5), read as data and written.
//!
//! A pickle is a program for a stack machine that can call anything importable. [`Pickle::read`] executes nothing: it
//! builds a tree of [`Node`]s in which a global stays a name and a call stays a callee with its arguments.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Node, NodeId, Pickle};
pub use write::PickleWriter;

/// The opcodes that are read and written, by the names that Python's `pickletools` gives them.
pub mod opcode {
    pub const APPEND: u8 = b'a';
    pub const APPENDS: u8 = b'e';
    pub const BINBYTES: u8 = b'B';
    pub const BINBYTES8: u8 = 0x8e;
    pub const BINFLOAT: u8 = b'G';
    pub const BINGET: u8 = b'h';
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const BINPERSID: u8 = b'Q';
    pub const BINPUT: u8 = b'q';
    pub const BINUNICODE: u8 = b'X';
    pub const BINUNICODE8: u8 = 0x8d;
    pub const BUILD: u8 = b'b';
    pub const EMPTY_DICT: u8 = b'}';
    pub const EMPTY_LIST: u8 = b']';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const FRAME: u8 = 0x95;
    pub const GLOBAL: u8 = b'c';
    pub const LONG1: u8 = 0x8a;
    pub const LONG_BINGET: u8 = b'j';
    pub const LONG_BINPUT: u8 = b'r';
    pub const MARK: u8 = b'(';
    pub const MEMOIZE: u8 = 0x94;
    pub const NEWFALSE: u8 = 0x89;
    pub const NEWOBJ: u8 = 0x81;
    pub const NEWTRUE: u8 = 0x88;
    pub const NONE: u8 = b'N';
    pub const PROTO: u8 = 0x80;
    pub const REDUCE: u8 = b'R';
    pub const SETITEM: u8 = b's';
    pub const SETITEMS: u8 = b'u';
    pub const SHORT_BINBYTES: u8 = b'C';
    pub const SHORT_BINUNICODE: u8 = 0x8c;
    pub const STACK_GLOBAL: u8 = 0x93;
    pub const STOP: u8 = b'.';
    pub const TUPLE: u8 = b't';
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
}
