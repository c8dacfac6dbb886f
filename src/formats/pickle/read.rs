//! The stack machine that reads a pickle. Nodes lie in one list and refer to each other by index, so cycles do no harm;
//! every opcode adds at most one node and takes its operands out of the input, so memory is bounded by the input.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::opcode::*;
use crate::FormatError;

/// Most objects that a pickle may hold; a vocabulary of a million tokens has two million.
const MAX_NODES: usize = 4 << 20;

/// Index of a node in its [`Pickle`].
pub type NodeId = usize;

/// One object. Strings and bytes are borrowed from the pickle.
#[derive(Debug, Clone, PartialEq)]
pub enum Node<'p> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(&'p str),
    /// A `bytes`.
    Bytes(&'p [u8]),
    /// A tuple.
    Tuple(Vec<NodeId>),
    /// A list.
    List(Vec<NodeId>),
    /// A dictionary's entries, in order of insertion, repeated keys included.
    Dict(Vec<(NodeId, NodeId)>),
    /// A name that Python would import: module and attribute.
    Global(&'p str, &'p str),
    /// A call that Python would make, or an object that it would construct.
    Call {
        /// The global that would be called.
        callee: NodeId,
        /// The tuple of arguments.
        arguments: NodeId,
        /// State that would be set on the result afterwards.
        state: Option<NodeId>,
    },
    /// An object kept outside the pickle, by its id.
    Persistent(NodeId),
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle<'p> {
    path: PathBuf,
    bytes: &'p [u8],
    nodes: Vec<Node<'p>>,
    /// For each node, the place of the opcode that made it.
    places: Vec<usize>,
    root: NodeId,
}

impl<'p> Pickle<'p> {
    /// Reads a whole pickle. `path` is for messages. `globals` are the names, as `module.attribute`, that the pickle may
    /// refer to; any other is refused.
    ///
    /// # Errors
    /// The pickle is broken, or it holds an opcode or a global that isn't allowed.
    pub fn read(path: &Path, bytes: &'p [u8], globals: &[&str]) -> Result<Self, FormatError> {
        let pickle = Self { path: path.into(), bytes, nodes: Vec::new(), places: Vec::new(), root: 0 };
        let mut machine = Machine { pickle, globals, at: 0, position: 0, stack: Vec::new(), memo: HashMap::new() };
        loop {
            machine.at = machine.position;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { root, ..machine.pickle }),
                Err(reason) => return Err(machine.pickle.error_at(machine.at, reason)),
            }
        }
    }

    /// Index of the object that the pickle describes.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// The node of an index.
    pub fn node(&self, id: NodeId) -> &Node<'p> {
        self.nodes.get(id).unwrap_or(&Node::None)
    }

    /// Elements of a tuple or list.
    pub fn items(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// A string.
    pub fn text(&self, id: NodeId) -> Option<&'p str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer.
    pub fn int(&self, id: NodeId) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Module and attribute of a global.
    pub fn global(&self, id: NodeId) -> Option<(&'p str, &'p str)> {
        match self.node(id) {
            Node::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// The value of the last entry with this string as its key.
    pub fn field(&self, id: NodeId, name: &str) -> Option<NodeId> {
        let Node::Dict(entries) = self.node(id) else { return None };
        entries.iter().rev().find(|(key, _)| self.text(*key) == Some(name)).map(|(_, value)| *value)
    }

    /// An error about one object, with its place in the pickle.
    pub fn error(&self, id: NodeId, reason: impl Into<String>) -> FormatError {
        self.error_at(self.places.get(id).copied().unwrap_or_default(), reason)
    }

    fn error_at(&self, byte: usize, reason: impl Into<String>) -> FormatError {
        let opcode = self.bytes.get(byte).map(|opcode| format!(", opcode 0x{opcode:02x}")).unwrap_or_default();
        let place = format!("byte {byte}{opcode}");
        FormatError::Pickle { path: self.path.clone(), place, reason: reason.into() }
    }
}

/// An entry of the machine's stack.
enum Slot {
    Mark,
    Node(NodeId),
}

struct Machine<'a, 'p> {
    pickle: Pickle<'p>,
    globals: &'a [&'a str],
    /// Place of the current opcode.
    at: usize,
    /// Place of the next byte.
    position: usize,
    stack: Vec<Slot>,
    memo: HashMap<u64, NodeId>,
}

/// What one opcode gives, or the reason why it is refused.
type Step<T = ()> = Result<T, String>;

impl<'p> Machine<'_, 'p> {
    /// Carries out one opcode; gives the root at the end.
    fn step(&mut self) -> Step<Option<NodeId>> {
        let opcode = self.take::<1>()?[0];
        match opcode {
            STOP => return self.pop().map(Some),
            PROTO => self.protocol()?,
            // A frame's length is a hint for buffering.
            FRAME => drop(self.take::<8>()?),
            MARK => self.stack.push(Slot::Mark),
            NONE => self.push(Node::None)?,
            NEWTRUE | NEWFALSE => self.push(Node::Bool(opcode == NEWTRUE))?,
            BININT | BININT1 | BININT2 | LONG1 => self.integer(opcode)?,
            BINFLOAT => {
                let value = f64::from_be_bytes(self.take()?);
                self.push(Node::Float(value))?;
            }
            SHORT_BINUNICODE => self.string(1)?,
            BINUNICODE => self.string(4)?,
            BINUNICODE8 => self.string(8)?,
            SHORT_BINBYTES => self.byte_string(1)?,
            BINBYTES => self.byte_string(4)?,
            BINBYTES8 => self.byte_string(8)?,
            EMPTY_TUPLE => self.push(Node::Tuple(Vec::new()))?,
            TUPLE1 | TUPLE2 | TUPLE3 => self.tuple_of(usize::from(opcode - TUPLE1) + 1)?,
            TUPLE => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items))?;
            }
            EMPTY_LIST => self.push(Node::List(Vec::new()))?,
            APPEND => {
                let item = self.pop()?;
                self.extend_list(&[item])?;
            }
            APPENDS => {
                let items = self.pop_to_mark()?;
                self.extend_list(&items)?;
            }
            EMPTY_DICT => self.push(Node::Dict(Vec::new()))?,
            SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            SETITEMS => {
                let items = self.pop_to_mark()?;
                self.extend_dict(&items)?;
            }
            MEMOIZE => self.memoize(self.memo.len() as u64)?,
            BINPUT | LONG_BINPUT => {
                let key = self.length(if opcode == BINPUT { 1 } else { 4 })?;
                self.memoize(key)?;
            }
            BINGET | LONG_BINGET => {
                let key = self.length(if opcode == BINGET { 1 } else { 4 })?;
                self.recall(key)?;
            }
            GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            STACK_GLOBAL => self.stack_global()?,
            REDUCE | NEWOBJ => self.call()?,
            BUILD => self.build()?,
            BINPERSID => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))?;
            }
            _ => return Err("the opcode is not allowed here; nothing was executed".into()),
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Step {
        match self.take::<1>()?[0] {
            2..=5 => Ok(()),
            other => Err(format!("pickle protocol {other} is not known; 2 to 5 are")),
        }
    }

    fn take<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.slice(N as u64)?.try_into().map_err(|_| "the pickle ends early".to_string())
    }

    fn slice(&mut self, length: u64) -> Step<&'p [u8]> {
        let rest = self.pickle.bytes.get(self.position..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| format!("the pickle ends early: {length} more bytes are expected"))?;
        self.position += taken.len();
        Ok(taken)
    }

    /// A little-endian number of so many bytes, at most 8.
    fn length(&mut self, width: u64) -> Step<u64> {
        let digits = self.slice(width)?;
        Ok(digits.iter().rev().fold(0, |number, digit| (number << 8) | u64::from(*digit)))
    }

    /// A length in little-endian bytes, then as many bytes.
    fn counted(&mut self, width: u64) -> Step<&'p [u8]> {
        let length = self.length(width)?;
        self.slice(length)
    }

    fn line(&mut self) -> Step<&'p str> {
        let rest = self.pickle.bytes.get(self.position..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("a name has no end")?;
        let line = self.slice(length as u64)?;
        self.position += 1;
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".into())
    }

    fn push(&mut self, node: Node<'p>) -> Step {
        let id = self.pickle.nodes.len();
        if id == MAX_NODES {
            return Err(format!("the pickle holds more than {MAX_NODES} objects"));
        }
        self.pickle.nodes.push(node);
        self.pickle.places.push(self.at);
        self.stack.push(Slot::Node(id));
        Ok(())
    }

    fn pop(&mut self) -> Step<NodeId> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_to_mark(&mut self) -> Step<Vec<NodeId>> {
        let mark = self.stack.iter().rposition(|slot| matches!(slot, Slot::Mark)).ok_or("the stack has no mark")?;
        let items = self.stack.split_off(mark).into_iter().filter_map(|slot| match slot {
            Slot::Node(id) => Some(id),
            Slot::Mark => None,
        });
        Ok(items.collect())
    }

    fn top(&self) -> Step<NodeId> {
        match self.stack.last() {
            Some(Slot::Node(id)) => Ok(*id),
            Some(Slot::Mark) => Err("a value is taken from below a mark".into()),
            None => Err("the stack is empty".into()),
        }
    }

    fn top_node(&mut self) -> Step<&mut Node<'p>> {
        let id = self.top()?;
        self.pickle.nodes.get_mut(id).ok_or_else(|| "the stack is empty".into())
    }

    fn integer(&mut self, opcode: u8) -> Step {
        let (width, is_signed) = match opcode {
            BININT1 => (1, false),
            BININT2 => (2, false),
            BININT => (4, true),
            _ => (self.length(1)?, true),
        };
        if width > 8 {
            return Err(format!("an integer of {width} bytes has more than 64 bits"));
        }
        let number = self.length(width)?;
        let unused = 64 - 8 * width as u32;
        let value = match number.checked_shl(unused) {
            Some(shifted) if is_signed => (shifted as i64) >> unused,
            _ => number as i64,
        };
        self.push(Node::Int(value))
    }

    fn string(&mut self, width: u64) -> Step {
        let text = std::str::from_utf8(self.counted(width)?).map_err(|_| "a string is not UTF-8")?;
        self.push(Node::Text(text))
    }

    fn byte_string(&mut self, width: u64) -> Step {
        let bytes = self.counted(width)?;
        self.push(Node::Bytes(bytes))
    }

    fn tuple_of(&mut self, count: usize) -> Step {
        let mut items = (0..count).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        items.reverse();
        self.push(Node::Tuple(items))
    }

    fn extend_list(&mut self, items: &[NodeId]) -> Step {
        match self.top_node()? {
            Node::List(list) => list.extend_from_slice(items),
            _ => return Err("items are added to something other than a list".into()),
        }
        Ok(())
    }

    /// Adds keys and values to the dictionary on top.
    fn extend_dict(&mut self, items: &[NodeId]) -> Step {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a dictionary's key has no value".into());
        }
        match self.top_node()? {
            Node::Dict(entries) => entries.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err("entries are added to something other than a dictionary".into()),
        }
        Ok(())
    }

    fn memoize(&mut self, key: u64) -> Step {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Step {
        let id = *self.memo.get(&key).ok_or_else(|| format!("object {key} was never memoized"))?;
        self.stack.push(Slot::Node(id));
        Ok(())
    }

    fn stack_global(&mut self) -> Step {
        let (name, module) = (self.pop()?, self.pop()?);
        match (self.pickle.text(module), self.pickle.text(name)) {
            (Some(module), Some(name)) => self.global(module, name),
            _ => Err("a global's name is no string".into()),
        }
    }

    fn global(&mut self, module: &'p str, name: &'p str) -> Step {
        let is_allowed = self.globals.iter().any(|global| global.rsplit_once('.') == Some((module, name)));
        if !is_allowed {
            let allowed = self.globals.join("`, `");
            return Err(format!(
                "it names `{module:.100}.{name:.100}`; only `{allowed}` may be named, and nothing was executed"
            ));
        }
        self.push(Node::Global(module, name))
    }

    /// A call, which stays one, except `OrderedDict()`: it pickles itself as this call followed by its entries.
    fn call(&mut self) -> Step {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Node::Tuple(items) = self.pickle.node(arguments) else {
            return Err("the arguments of a call are no tuple".into());
        };
        match self.pickle.global(callee) {
            Some(("collections", "OrderedDict")) if items.is_empty() => self.push(Node::Dict(Vec::new())),
            Some(_) => self.push(Node::Call { callee, arguments, state: None }),
            None => Err("it calls something without a name".into()),
        }
    }

    /// State for the object below: kept with a call, dropped for a dictionary (PyTorch's `_metadata`).
    fn build(&mut self) -> Step {
        let new_state = self.pop()?;
        match self.top_node()? {
            Node::Call { state, .. } => *state = Some(new_state),
            Node::Dict(_) => {}
            _ => return Err("state is set on something other than an object".into()),
        }
        Ok(())
    }
}
