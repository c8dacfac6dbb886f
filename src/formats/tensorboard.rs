//! Event files of TensorBoard: records of protobuf messages, each framed by its length and masked CRC-32C sums.

use prost::Message as _;

/// First message of every file, by which readers know the format.
const VERSION: &str = "brain.Event:2";

/// A scalar at a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Name of its chart.
    pub tag: &'static str,
    /// The step.
    pub step: u64,
    /// Seconds since 1970.
    pub wall_time: f64,
    /// The value; readers hold it as f32.
    pub value: f64,
}

/// `tensorflow.Event`, as far as scalars need it.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file of scalars, which should be in the order of their time; `began` is its first moment.
pub fn event_file(began: f64, scalars: &[Scalar]) -> Vec<u8> {
    let version = Event { wall_time: began, file_version: Some(VERSION.to_owned()), ..Event::default() };
    let mut file = Vec::new();
    record(&mut file, &version.encode_to_vec());
    for scalar in scalars {
        let value = Value { tag: scalar.tag.to_owned(), simple_value: Some(scalar.value as f32) };
        let event = Event {
            wall_time: scalar.wall_time,
            step: i64::try_from(scalar.step).unwrap_or(i64::MAX),
            file_version: None,
            summary: Some(Summary { value: vec![value] }),
        };
        record(&mut file, &event.encode_to_vec());
    }
    file
}

/// Length, its sum, the bytes, their sum.
fn record(file: &mut Vec<u8>, bytes: &[u8]) {
    let length = (bytes.len() as u64).to_le_bytes();
    file.extend_from_slice(&length);
    file.extend_from_slice(&masked(&length).to_le_bytes());
    file.extend_from_slice(bytes);
    file.extend_from_slice(&masked(bytes).to_le_bytes());
}

/// The sum as records hold it: rotated and offset, so that a sum over sums says something.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C of "123456789" is 0xe3069283 (RFC 3720's polynomial); rotated by 15 it is 0x2507c60d, and with the offset
    /// 0xc78ab0e5.
    #[test]
    fn sums_are_masked() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn records_are_framed_and_decode_to_what_was_written() {
        let scalar = Scalar { tag: "train/loss", step: 7, wall_time: 1.5, value: 2.25 };
        let file = event_file(1.0, std::slice::from_ref(&scalar));
        let mut rest = file.as_slice();
        let mut events = Vec::new();
        while let Some((head, body)) = rest.split_at_checked(12) {
            let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
            assert_eq!(head[8..], masked(&head[..8]).to_le_bytes());
            assert_eq!(body[length..length + 4], masked(&body[..length]).to_le_bytes());
            events.push(Event::decode(&body[..length]).unwrap());
            rest = &body[length + 4..];
        }
        assert!(rest.is_empty());
        assert_eq!(events[0].file_version.as_deref(), Some(VERSION));
        let value = &events[1].summary.as_ref().unwrap().value[0];
        assert_eq!((events[1].step, events[1].wall_time), (7, 1.5));
        assert_eq!((value.tag.as_str(), value.simple_value), ("train/loss", Some(2.25)));
    }
}
