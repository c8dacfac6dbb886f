//! Reads Python pickles (protocols 2 to 5) as data.
//!
//! A pickle is a program for a stack machine that can call anything importable. Here it builds nodes in an arena:
//! a named global stays a name, a call stays a callee with its arguments, a persistent id stays an id. Who reads the
//! result decides which names it knows. Every opcode adds at most one node and takes its operands out of the input,
//! so memory is bounded by the input's length; cycles are harmless, as nodes refer to each other by index.

use std::collections::HashMap;

/// Index of a node in its [`Pickle`].
pub type NodeId = usize;

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// A `bytes` or `bytearray`.
    Bytes(Vec<u8>),
    /// A tuple.
    Tuple(Vec<NodeId>),
    /// A list.
    List(Vec<NodeId>),
    /// A set or frozen set.
    Set(Vec<NodeId>),
    /// A dictionary's entries, in order of insertion, repeated keys included.
    Dict(Vec<(NodeId, NodeId)>),
    /// A name that Python would import: module and attribute.
    Global(String, String),
    /// A call that Python would make, or an object it would construct.
    Call {
        /// What would be called.
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
#[derive(Debug, Clone, PartialEq)]
pub struct Pickle {
    nodes: Vec<Node>,
    root: NodeId,
}

impl Pickle {
    /// Reads a whole pickle. The error says where and why.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine { bytes, position: 0, nodes: Vec::new(), stack: Vec::new(), memo: HashMap::new() };
        loop {
            let at = machine.position;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { nodes: machine.nodes, root }),
                Err(reason) => return Err(format!("the pickle is broken at byte {at}: {reason}")),
            }
        }
    }

    /// Index of the object that the pickle describes.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// The node of an index.
    pub fn node(&self, id: NodeId) -> &Node {
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
    pub fn text(&self, id: NodeId) -> Option<&str> {
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
    pub fn global(&self, id: NodeId) -> Option<(&str, &str)> {
        match self.node(id) {
            Node::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }
}

/// An entry of the machine's stack.
enum Slot {
    Mark,
    Node(NodeId),
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    nodes: Vec<Node>,
    stack: Vec<Slot>,
    memo: HashMap<u64, NodeId>,
}

type Step<T = ()> = Result<T, String>;

impl Machine<'_> {
    /// Carries out one opcode; gives the root at the end. The names are those of Python's `pickletools`.
    #[rustfmt::skip] // a table, one opcode a line
    fn step(&mut self) -> Step<Option<NodeId>> {
        let opcode = self.take::<1>()?[0];
        match opcode {
            0x80 => self.protocol()?,                 // PROTO
            0x95 => drop(self.take::<8>()?),          // FRAME
            b'.' => return self.pop().map(Some),      // STOP
            b'(' => self.stack.push(Slot::Mark),      // MARK
            b'0' => drop(self.stack.pop()),           // POP
            b'1' => drop(self.pop_to_mark()?),        // POP_MARK
            b'2' => self.duplicate()?,                // DUP
            b'N' => self.push(Node::None),            // NONE
            0x88 => self.push(Node::Bool(true)),      // NEWTRUE
            0x89 => self.push(Node::Bool(false)),     // NEWFALSE
            b'J' => { let value = i32::from_le_bytes(self.take()?); self.push(Node::Int(value.into())) } // BININT
            b'K' => { let value = u8::from_le_bytes(self.take()?); self.push(Node::Int(value.into())) } // BININT1
            b'M' => { let value = u16::from_le_bytes(self.take()?); self.push(Node::Int(value.into())) } // BININT2
            0x8a => self.long()?,                     // LONG1
            b'G' => { let value = f64::from_be_bytes(self.take()?); self.push(Node::Float(value)) } // BINFLOAT
            0x8c => self.string(1)?,                  // SHORT_BINUNICODE
            b'X' => self.string(4)?,                  // BINUNICODE
            0x8d => self.string(8)?,                  // BINUNICODE8
            b'C' => self.byte_string(1)?,             // SHORT_BINBYTES
            b'B' => self.byte_string(4)?,             // BINBYTES
            0x8e | 0x96 => self.byte_string(8)?,      // BINBYTES8, BYTEARRAY8
            b')' => self.push(Node::Tuple(Vec::new())), // EMPTY_TUPLE
            0x85 => self.tuple_of(1)?,                // TUPLE1
            0x86 => self.tuple_of(2)?,                // TUPLE2
            0x87 => self.tuple_of(3)?,                // TUPLE3
            b't' => { let items = self.pop_to_mark()?; self.push(Node::Tuple(items)) } // TUPLE
            b']' => self.push(Node::List(Vec::new())), // EMPTY_LIST
            b'l' => { let items = self.pop_to_mark()?; self.push(Node::List(items)) } // LIST
            b'a' => { let item = self.pop()?; self.extend_list(&[item])? } // APPEND
            b'e' => { let items = self.pop_to_mark()?; self.extend_list(&items)? } // APPENDS
            b'}' => self.push(Node::Dict(Vec::new())), // EMPTY_DICT
            b'd' => { let items = self.pop_to_mark()?; self.push(Node::Dict(Vec::new())); self.extend_dict(&items)? } // DICT
            b's' => { let value = self.pop()?; let key = self.pop()?; self.extend_dict(&[key, value])? } // SETITEM
            b'u' => { let items = self.pop_to_mark()?; self.extend_dict(&items)? } // SETITEMS
            0x8f => self.push(Node::Set(Vec::new())), // EMPTY_SET
            0x90 => { let items = self.pop_to_mark()?; self.extend_set(&items)? } // ADDITEMS
            0x91 => { let items = self.pop_to_mark()?; self.push(Node::Set(items)) } // FROZENSET
            b'q' => { let key = u8::from_le_bytes(self.take()?); self.memoize(key.into())? } // BINPUT
            b'r' => { let key = u32::from_le_bytes(self.take()?); self.memoize(key.into())? } // LONG_BINPUT
            0x94 => self.memoize(self.memo.len() as u64)?, // MEMOIZE
            b'h' => { let key = u8::from_le_bytes(self.take()?); self.recall(key.into())? } // BINGET
            b'j' => { let key = u32::from_le_bytes(self.take()?); self.recall(key.into())? } // LONG_BINGET
            b'c' => { let module = self.line()?; let name = self.line()?; self.push(Node::Global(module, name)) } // GLOBAL
            0x93 => self.stack_global()?,             // STACK_GLOBAL
            b'R' | 0x81 => self.call()?,              // REDUCE, NEWOBJ
            b'b' => self.build()?,                    // BUILD
            b'Q' => { let id = self.pop()?; self.push(Node::Persistent(id)) } // BINPERSID
            other => return Err(format!("the opcode 0x{other:02x} is not read here")),
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Step {
        match self.take::<1>()?[0] {
            2..=5 => Ok(()),
            other => Err(format!("protocol {other} is not read here")),
        }
    }

    fn take<const N: usize>(&mut self) -> Step<[u8; N]> {
        let slice = self.slice(N as u64)?;
        slice.try_into().map_err(|_| "it ends early".to_string())
    }

    fn slice(&mut self, length: u64) -> Step<&[u8]> {
        let length = usize::try_from(length).map_err(|_| "it ends early")?;
        let end = self.position.checked_add(length).ok_or("it ends early")?;
        let slice = self.bytes.get(self.position..end).ok_or("it ends early")?;
        self.position = end;
        Ok(slice)
    }

    /// A length in little-endian bytes, then as many bytes.
    fn counted(&mut self, width: u64) -> Step<Vec<u8>> {
        let mut length = [0u8; 8];
        for (to, from) in length.iter_mut().zip(self.slice(width)?) {
            *to = *from;
        }
        Ok(self.slice(u64::from_le_bytes(length))?.to_vec())
    }

    fn line(&mut self) -> Step<String> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("a name has no end")?;
        let text = String::from_utf8(self.slice(length as u64)?.to_vec()).map_err(|error| error.to_string())?;
        self.position += 1;
        Ok(text)
    }

    fn push(&mut self, node: Node) {
        self.stack.push(Slot::Node(self.nodes.len()));
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Step<NodeId> {
        match self.stack.pop() {
            Some(Slot::Node(id)) => Ok(id),
            _ => Err("the stack is empty".into()),
        }
    }

    fn pop_to_mark(&mut self) -> Step<Vec<NodeId>> {
        let mut items = Vec::new();
        loop {
            match self.stack.pop() {
                Some(Slot::Node(id)) => items.push(id),
                Some(Slot::Mark) => break,
                None => return Err("the stack has no mark".into()),
            }
        }
        items.reverse();
        Ok(items)
    }

    fn top(&self) -> Step<NodeId> {
        match self.stack.last() {
            Some(Slot::Node(id)) => Ok(*id),
            _ => Err("the stack is empty".into()),
        }
    }

    fn top_node(&mut self) -> Step<&mut Node> {
        let id = self.top()?;
        self.nodes.get_mut(id).ok_or_else(|| "the stack is empty".into())
    }

    fn duplicate(&mut self) -> Step {
        let id = self.top()?;
        self.stack.push(Slot::Node(id));
        Ok(())
    }

    fn long(&mut self) -> Step {
        let length = self.take::<1>()?[0];
        let digits = self.slice(length.into())?;
        let sign = digits.last().map_or(0, |last| if last & 0x80 == 0 { 0 } else { 0xff });
        if digits.iter().skip(8).any(|&digit| digit != sign) {
            return Err("an integer has more than 64 bits".into());
        }
        let mut wide = [sign; 8];
        for (to, from) in wide.iter_mut().zip(digits) {
            *to = *from;
        }
        let value = i64::from_le_bytes(wide);
        if digits.len() > 8 && (value < 0) != (sign != 0) {
            return Err("an integer has more than 64 bits".into());
        }
        self.push(Node::Int(value));
        Ok(())
    }

    fn string(&mut self, width: u64) -> Step {
        let text = String::from_utf8(self.counted(width)?).map_err(|error| error.to_string())?;
        self.push(Node::Text(text));
        Ok(())
    }

    fn byte_string(&mut self, width: u64) -> Step {
        let bytes = self.counted(width)?;
        self.push(Node::Bytes(bytes));
        Ok(())
    }

    fn tuple_of(&mut self, count: usize) -> Step {
        let mut items = (0..count).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        items.reverse();
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn extend_list(&mut self, items: &[NodeId]) -> Step {
        match self.top_node()? {
            Node::List(list) => list.extend_from_slice(items),
            _ => return Err("items are added to something other than a list".into()),
        }
        Ok(())
    }

    fn extend_set(&mut self, items: &[NodeId]) -> Step {
        match self.top_node()? {
            Node::Set(set) => set.extend_from_slice(items),
            _ => return Err("items are added to something other than a set".into()),
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
        let id = *self.memo.get(&key).ok_or("it refers to an object that was not kept")?;
        self.stack.push(Slot::Node(id));
        Ok(())
    }

    fn stack_global(&mut self) -> Step {
        let (name, module) = (self.pop()?, self.pop()?);
        let text = |id: NodeId| match self.nodes.get(id) {
            Some(Node::Text(text)) => Ok(text.clone()),
            _ => Err("a global's name is no string".to_string()),
        };
        let global = Node::Global(text(module)?, text(name)?);
        self.push(global);
        Ok(())
    }

    /// A call, which stays one, except `OrderedDict()`: it pickles itself as this call followed by its entries.
    fn call(&mut self) -> Step {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let is_ordered_dict = matches!(
            self.nodes.get(callee),
            Some(Node::Global(module, name)) if module == "collections" && name == "OrderedDict"
        );
        let has_none = matches!(self.nodes.get(arguments), Some(Node::Tuple(items)) if items.is_empty());
        self.push(if is_ordered_dict && has_none {
            Node::Dict(Vec::new())
        } else {
            Node::Call { callee, arguments, state: None }
        });
        Ok(())
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
