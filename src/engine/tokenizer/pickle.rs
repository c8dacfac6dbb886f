//! Reads the baseline's `tokenizer.pkl` without executing anything, and writes one.
//!
//! A pickle is a program for a stack machine. This one knows the instructions that build numbers, strings, bytes, tuples
//! and dictionaries, and takes note of one class, `tiktoken.core.Encoding`, as a name; every other instruction and every
//! other name is refused. What an instruction builds lies in one list and is referred to by index, so a pickle can't
//! make more values than it has bytes, nor nest them.

use std::path::Path;

use super::{SPECIAL_TOKENS, SPLIT_PATTERN, TokenizerError};

/// Index of a value among those built so far.
type Index = usize;

/// What an instruction built.
#[derive(Debug)]
enum Value<'p> {
    /// `None` or a truth value: nothing that a tokenizer holds.
    Other,
    Int(i64),
    Text(&'p str),
    Bytes(&'p [u8]),
    Tuple,
    Dict(Vec<(Index, Index)>),
    /// A name that stands for a class.
    Class,
    /// An instance of that class, with what was given as its state.
    Object(Option<Index>),
}

/// One step's failure, placed later.
type Step<T> = Result<T, String>;

struct Machine<'p> {
    bytes: &'p [u8],
    at: usize,
    values: Vec<Value<'p>>,
    stack: Vec<Index>,
    marks: Vec<usize>,
    memo: std::collections::HashMap<usize, Index>,
}

/// Reads the ranks. `path` is for messages.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TokenizerError> {
    let mut machine =
        Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: Default::default() };
    machine
        .run()
        .and_then(|top| machine.ranks(top))
        .map_err(|problem| TokenizerError::malformed(path, format!("byte {}", machine.at), problem))
}

impl<'p> Machine<'p> {
    /// Runs to the end, and gives the value that is left.
    fn run(&mut self) -> Step<Index> {
        loop {
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            0x80 => self.protocol(),
            // A frame's length is a hint for buffering.
            0x95 => self.take(8).map(|_| ()),
            0x8c | b'X' | 0x8d => self.text(opcode),
            b'C' | b'B' | 0x8e => self.byte_string(opcode),
            b'K' | b'M' | b'J' | 0x8a => self.integer(opcode),
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b')' => self.push(Value::Tuple),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            0x93 => self.class_by_stack(),
            b'c' => self.class_by_lines(),
            0x81 => self.new_object(),
            b's' => self.set_one(),
            b'u' => self.set_many(),
            b'b' => self.build(),
            0x94 => self.remember(self.memo.len()),
            b'q' => self.take(1).and_then(|n| self.remember(usize::from(n[0]))),
            b'r' => self.length(4).and_then(|n| self.remember(n)),
            b'h' => self.take(1).and_then(|n| self.recall(usize::from(n[0]))),
            b'j' => self.length(4).and_then(|n| self.recall(n)),
            _ => Err(format!("instruction 0x{opcode:02x} has no place in a tokenizer; nothing was executed")),
        }
    }

    fn take(&mut self, count: usize) -> Step<&'p [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(format!("the pickle ends here; {count} more bytes were announced"));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A little-endian length of `width` bytes.
    fn length(&mut self, width: usize) -> Step<usize> {
        let mut wide = [0u8; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "a length past this machine's address space".into())
    }

    fn push(&mut self, value: Value<'p>) -> Step<()> {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
        Ok(())
    }

    fn pop(&mut self) -> Step<Index> {
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return Err("a value is taken from below a mark".into());
        }
        self.stack.pop().ok_or_else(|| "a value is taken from an empty stack".into())
    }

    fn protocol(&mut self) -> Step<()> {
        match self.take(1)?[0] {
            2..=5 => Ok(()),
            other => Err(format!("pickle protocol {other} is not known; 2 to 5 are")),
        }
    }

    fn text(&mut self, opcode: u8) -> Step<()> {
        let width = match opcode {
            0x8c => 1,
            b'X' => 4,
            _ => 8,
        };
        let length = self.length(width)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a string is not UTF-8".to_string())?;
        self.push(Value::Text(text))
    }

    fn byte_string(&mut self, opcode: u8) -> Step<()> {
        let width = match opcode {
            b'C' => 1,
            b'B' => 4,
            _ => 8,
        };
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes))
    }

    fn integer(&mut self, opcode: u8) -> Step<()> {
        let value = match opcode {
            b'K' => self.length(1)? as i64,
            b'M' => self.length(2)? as i64,
            b'J' => i64::from(self.length(4)? as u32 as i32),
            _ => self.long_integer()?,
        };
        self.push(Value::Int(value))
    }

    /// Two's complement, little-endian, any width up to 8 bytes.
    fn long_integer(&mut self) -> Step<i64> {
        let width = self.length(1)?;
        if width > 8 {
            return Err(format!("a number of {width} bytes is no rank"));
        }
        let digits = self.take(width)?;
        let negative = digits.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xFF } else { 0 }; 8];
        wide[..width].copy_from_slice(digits);
        Ok(i64::from_le_bytes(wide))
    }

    fn class_by_stack(&mut self) -> Step<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.values[module], &self.values[name]) {
            (Value::Text(module), Value::Text(name)) => self.class(module, name),
            _ => Err("a class is named by something other than text".into()),
        }
    }

    fn class_by_lines(&mut self) -> Step<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.class(module, name)
    }

    fn line(&mut self) -> Step<&'p str> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err("a name without an end".into());
        };
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".into())
    }

    fn class(&mut self, module: &str, name: &str) -> Step<()> {
        if (module, name) != ("tiktoken.core", "Encoding") {
            return Err(format!(
                "the pickle asks for `{module}.{name}`; only `tiktoken.core.Encoding` is known, and nothing was executed"
            ));
        }
        self.push(Value::Class)
    }

    fn new_object(&mut self) -> Step<()> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        match (&self.values[class], &self.values[arguments]) {
            (Value::Class, Value::Tuple) => self.push(Value::Object(None)),
            _ => Err("an object is made of something other than a class".into()),
        }
    }

    fn set_one(&mut self) -> Step<()> {
        let (value, key) = (self.pop()?, self.pop()?);
        self.extend_top(vec![(key, value)])
    }

    fn set_many(&mut self) -> Step<()> {
        let mark = self.marks.pop().ok_or("items without a mark")?;
        let items = self.stack.split_off(mark.min(self.stack.len()));
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key without a value".into());
        }
        self.extend_top(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn extend_top(&mut self, pairs: Vec<(Index, Index)>) -> Step<()> {
        let top = *self.stack.last().ok_or("items for nothing")?;
        match &mut self.values[top] {
            Value::Dict(items) => {
                items.extend(pairs);
                Ok(())
            }
            _ => Err("items for something other than a dictionary".into()),
        }
    }

    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let top = *self.stack.last().ok_or("a state for nothing")?;
        match &mut self.values[top] {
            Value::Object(slot) => {
                *slot = Some(state);
                Ok(())
            }
            _ => Err("a state for something other than an object".into()),
        }
    }

    fn remember(&mut self, number: usize) -> Step<()> {
        let top = *self.stack.last().ok_or("nothing to remember")?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: usize) -> Step<()> {
        let index = *self.memo.get(&number).ok_or_else(|| format!("value {number} was never remembered"))?;
        self.stack.push(index);
        Ok(())
    }

    /// The ranks of an `Encoding`, in order, the rest of its state checked against the baseline's.
    fn ranks(&self, top: Index) -> Step<Vec<Vec<u8>>> {
        let Value::Object(Some(state)) = self.values[top] else {
            return Err("no tokenizer object in the pickle".into());
        };
        if let Value::Text(name) = self.values[state] {
            return Err(format!(
                "the pickle only names the published encoding `{name}`; its ranks are not in the file"
            ));
        }
        let Value::Dict(state) = &self.values[state] else {
            return Err("the tokenizer's state is no dictionary".into());
        };
        match self.field(state, "pat_str")? {
            Value::Text(pattern) if *pattern == SPLIT_PATTERN => {}
            Value::Text(pattern) => return Err(format!("text is split by {pattern:?}, here by {SPLIT_PATTERN:?}")),
            _ => return Err("`pat_str` is not text".into()),
        }
        let Value::Dict(ranks) = self.field(state, "mergeable_ranks")? else {
            return Err("`mergeable_ranks` is no dictionary".into());
        };
        let mut table = super::rank_table::RankTable::with_capacity(ranks.len());
        for &(key, value) in ranks {
            match (&self.values[key], &self.values[value]) {
                (Value::Bytes(bytes), Value::Int(rank)) => table.set(*rank, bytes)?,
                _ => return Err("`mergeable_ranks` holds something other than bytes and numbers".into()),
            }
        }
        let ranks = table.finish()?;
        self.check_special_tokens(state, ranks.len())?;
        Ok(ranks)
    }

    fn field(&self, state: &[(Index, Index)], name: &str) -> Step<&Value<'p>> {
        state
            .iter()
            .rev()
            .find(|(key, _)| matches!(self.values[*key], Value::Text(text) if text == name))
            .map(|&(_, value)| &self.values[value])
            .ok_or_else(|| format!("the tokenizer's state has no `{name}`"))
    }

    fn check_special_tokens(&self, state: &[(Index, Index)], offset: usize) -> Step<()> {
        let Value::Dict(items) = self.field(state, "special_tokens")? else {
            return Err("`special_tokens` is no dictionary".into());
        };
        let found = items.iter().map(|&(key, value)| match (&self.values[key], &self.values[value]) {
            (Value::Text(name), Value::Int(id)) => Ok((name.to_string(), *id)),
            _ => Err("`special_tokens` holds something other than text and numbers".to_string()),
        });
        super::check_special_tokens(found.collect::<Step<Vec<_>>>()?, offset)
    }
}

/// Bytes of a pickle (protocol 4) from which the baseline's `RustBPETokenizer.from_directory` makes the same tokenizer.
pub(super) fn write(ranks: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0x80, 4];
    push_text(&mut out, "tiktoken.core");
    push_text(&mut out, "Encoding");
    out.extend([0x93, b')', 0x81, b'}', b'(']);
    push_text(&mut out, "name");
    push_text(&mut out, "rustbpe");
    push_text(&mut out, "pat_str");
    push_text(&mut out, SPLIT_PATTERN);
    push_text(&mut out, "mergeable_ranks");
    out.extend([b'}', b'(']);
    for (rank, bytes) in ranks.iter().enumerate() {
        out.push(b'B');
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
        push_integer(&mut out, rank);
    }
    out.push(b'u');
    push_text(&mut out, "special_tokens");
    out.extend([b'}', b'(']);
    for (i, name) in SPECIAL_TOKENS.iter().enumerate() {
        push_text(&mut out, name);
        push_integer(&mut out, ranks.len() + i);
    }
    out.extend(b"uub.");
    out
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_integer(out: &mut Vec<u8>, value: usize) {
    out.push(b'J');
    out.extend((value as u32).to_le_bytes());
}
