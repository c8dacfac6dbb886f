//! The device and the arithmetic that a command is asked for.

use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use nanochat_engine::device::open_device;
use nanochat_plan::{DeviceKind, Precision, UnknownWord};

use super::CliError;

/// Parses the device to compute on.
pub fn devices() -> impl TypedValueParser<Value = DeviceKind> {
    words(DeviceKind::ALL.iter().map(|kind| kind.word()), &["The processor", "The first NVIDIA GPU", "Apple's GPU"])
}

/// Parses the arithmetic to train in.
pub fn arithmetic() -> impl TypedValueParser<Value = Precision> {
    words(Precision::ALL.iter().map(|dtype| dtype.word()), &[])
}

/// Parses what weights are kept in.
pub fn weights() -> impl TypedValueParser<Value = Precision> {
    let meanings = &["As they are", "Rounded: half as many bytes to read"];
    words(Precision::ALL.iter().map(|dtype| dtype.word()), meanings)
}

/// Parses one of a type's words; help and errors list them with their meanings, as those of a `ValueEnum`.
fn words<T>(words: impl Iterator<Item = &'static str>, meanings: &[&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = UnknownWord> + Clone + Send + Sync + 'static,
{
    let mut meanings = meanings.iter().copied();
    let values = words.map(|word| match meanings.next() {
        Some(meaning) => PossibleValue::new(word).help(meaning),
        None => PossibleValue::new(word),
    });
    PossibleValuesParser::new(values.collect::<Vec<_>>()).try_map(|word| word.parse())
}

/// Opens the device that is named and never another one; the error says why it can't be opened (exit code 1).
pub fn open(kind: DeviceKind) -> Result<candle_core::Device, CliError> {
    open_device(kind).map_err(CliError::failed)
}
