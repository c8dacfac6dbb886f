//! Pickles read as what they describe, and hostile ones refused with their place.

use std::path::Path;

use super::opcode::*;
use super::*;
use crate::FormatError;

const GLOBALS: [&str; 2] = ["collections.OrderedDict", "a.b.Thing"];

fn error(bytes: &[u8]) -> String {
    let error = Pickle::read(Path::new("x.pkl"), bytes, &GLOBALS).unwrap_err();
    assert!(matches!(error, FormatError::Pickle { .. }));
    error.to_string()
}

#[test]
fn values_come_back_as_they_were_written() {
    let numbers = [i64::MIN, -1, 0, 255, i64::from(i32::MIN), i64::from(i32::MAX) + 1, i64::MAX];
    for protocol in [2, 4] {
        let mut writer = PickleWriter::new(protocol);
        writer.put(&[EMPTY_DICT, MARK]);
        writer.text("numbers");
        writer.put(&[EMPTY_LIST, MARK]);
        numbers.iter().for_each(|number| writer.int(*number));
        writer.put(&[APPENDS]);
        writer.text("é\n");
        writer.put(&[MARK]);
        writer.float(-0.1);
        writer.bytes(b"\xff.");
        writer.put(&[NONE, NEWTRUE, TUPLE]);
        writer.text("thing");
        writer.global("a.b", "Thing");
        writer.put(&[EMPTY_TUPLE, NEWOBJ, EMPTY_DICT, BUILD, SETITEMS]);
        let bytes = writer.finish();
        let pickle = Pickle::read(Path::new("x.pkl"), &bytes, &GLOBALS).unwrap();
        let field = |name: &str| pickle.field(pickle.root(), name).unwrap();
        let read: Vec<_> = pickle.items(field("numbers")).unwrap().iter().map(|id| pickle.int(*id).unwrap()).collect();
        assert_eq!(read, numbers);
        let others = pickle.items(field("é\n")).unwrap().iter().map(|id| pickle.node(*id).clone());
        let expected = [Node::Float(-0.1), Node::Bytes(b"\xff."), Node::None, Node::Bool(true)];
        assert_eq!(others.collect::<Vec<_>>(), expected);
        let Node::Call { callee, arguments, state: Some(state) } = *pickle.node(field("thing")) else { panic!() };
        assert_eq!(pickle.global(callee), Some(("a.b", "Thing")));
        assert_eq!((pickle.items(arguments), pickle.node(state)), (Some([].as_slice()), &Node::Dict(Vec::new())));
        assert_eq!(pickle.field(pickle.root(), "other"), None);
    }
}

#[test]
fn every_width_of_a_number_is_read() {
    let cases: [(&[u8], i64); 7] = [
        (b"K\xff.", 255),
        (b"M\xff\xff.", 65_535),
        (b"J\xff\xff\xff\xff.", -1),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\x80.", -128),
        (b"\x8a\x05\x00\x00\x00\x00\x01.", 1 << 32),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", i64::MAX),
    ];
    for (bytes, expected) in cases {
        let pickle = Pickle::read(Path::new("x.pkl"), bytes, &[]).unwrap();
        assert_eq!(pickle.int(pickle.root()), Some(expected));
    }
}

/// Each would do harm to a reader that executes pickles, trusts lengths, or recurses.
#[test]
fn hostile_pickles_are_refused_with_byte_and_opcode() {
    let long = [b"\x8a\xff".as_slice(), &[0x7f; 255]].concat();
    let many = [b"(".as_slice(), &b"N".repeat((4 << 20) + 1), b"t."].concat();
    let named = [b"c".as_slice(), &b"m".repeat(1 << 20), b"\nsystem\n."].concat();
    let cases: Vec<(&[u8], &str)> = vec![
        (b"\x80\x04cos\nsystem\n)R.", "byte 2, opcode 0x63: it names `os.system`; only `collections.OrderedDict`"),
        (b"X\x02\0\0\0osX\x06\0\0\0system\x93.", "byte 18, opcode 0x93: it names `os.system`"),
        (b"ca\nb.Thing\n.", "it names `a.b.Thing`"),
        (&named, "mmm.system`; only"),
        (b"\x80\x09.", "byte 0, opcode 0x80: pickle protocol 9 is not known"),
        (b"X\xff\xff\xff\xffab", "opcode 0x58: the pickle ends early: 4294967295 more bytes are expected"),
        (b"\x8e\0\0\0\0\0\0\0\x80", "opcode 0x8e: the pickle ends early: 9223372036854775808 more bytes"),
        (b"N", "byte 1: the pickle ends early"),
        (b"", "byte 0: the pickle ends early"),
        (b"cos", "a name has no end"),
        (b"X\x01\0\0\0\xff.", "a string is not UTF-8"),
        (&long, "an integer of 255 bytes has more than 64 bits"),
        (&many, "byte 4194305, opcode 0x4e: the pickle holds more than 4194304 objects"),
        (b"i", "byte 0, opcode 0x69: the opcode is not allowed here; nothing was executed"),
        (b"\x82\x01.", "byte 0, opcode 0x82: the opcode is not allowed here"),
        (b"P1\n.", "byte 0, opcode 0x50: the opcode is not allowed here"),
        (b".", "byte 0, opcode 0x2e: the stack is empty"),
        (b"N(.", "byte 2, opcode 0x2e: a value is taken from below a mark"),
        (b"K\x01t", "byte 2, opcode 0x74: the stack has no mark"),
        (b"h\x05", "byte 0, opcode 0x68: object 5 was never memoized"),
        (b"}(K\x01u", "byte 4, opcode 0x75: a dictionary's key has no value"),
        (b"K\x01K\x01K\x01s", "entries are added to something other than a dictionary"),
        (b"K\x01K\x01a", "items are added to something other than a list"),
        (b"K\x01K\x01\x93", "a global's name is no string"),
        (b"K\x01)R.", "byte 3, opcode 0x52: it calls something without a name"),
        (b"ca.b\nThing\nNR.", "the arguments of a call are no tuple"),
        (b"K\x01Nb.", "state is set on something other than an object"),
    ];
    for (bytes, expected) in cases {
        let found = error(bytes);
        assert!(found.starts_with("cannot read the pickle in `x.pkl`: byte "), "{found}");
        assert!(found.contains(expected) && found.len() < 1000, "{found:?} instead of {expected:?}");
    }
}
