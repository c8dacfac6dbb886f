//! Writes pickles.

use super::opcode::*;

/// A pickle that is being written: values one after the other, containers as the opcodes that begin and end them.
#[derive(Debug)]
pub struct PickleWriter {
    out: Vec<u8>,
    protocol: u8,
}

impl PickleWriter {
    /// An empty pickle of a protocol, 2 to 5.
    pub fn new(protocol: u8) -> Self {
        Self { out: vec![PROTO, protocol], protocol }
    }

    /// Opcodes without operands.
    pub fn put(&mut self, opcodes: &[u8]) {
        self.out.extend(opcodes);
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(small) => self.operand(BININT, &small.to_le_bytes()),
            Err(_) => self.operand(LONG1, &[&[8], value.to_le_bytes().as_slice()].concat()),
        }
    }

    /// A float.
    pub fn float(&mut self, value: f64) {
        self.operand(BINFLOAT, &value.to_be_bytes());
    }

    /// A string of less than 4 GiB.
    pub fn text(&mut self, text: &str) {
        self.operand(BINUNICODE, &(text.len() as u32).to_le_bytes());
        self.out.extend(text.as_bytes());
    }

    /// Bytes, less than 4 GiB.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.operand(BINBYTES, &(bytes.len() as u32).to_le_bytes());
        self.out.extend(bytes);
    }

    /// A name that the reader imports.
    pub fn global(&mut self, module: &str, name: &str) {
        if self.protocol < 4 {
            self.operand(GLOBAL, format!("{module}\n{name}\n").as_bytes());
        } else {
            self.text(module);
            self.text(name);
            self.put(&[STACK_GLOBAL]);
        }
    }

    /// The whole pickle: the value that was written.
    pub fn finish(mut self) -> Vec<u8> {
        self.put(&[STOP]);
        self.out
    }

    fn operand(&mut self, opcode: u8, operand: &[u8]) {
        self.out.push(opcode);
        self.out.extend(operand);
    }
}
