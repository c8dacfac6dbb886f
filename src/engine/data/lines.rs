//! Text shards: JSON lines, a document a line, also compressed, and plain text, documents parted by blank lines.
//!
//! A shard is read once from end to end when it is opened, so that every fault is found before training starts; what is
//! kept is where each group of documents begins.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use super::DataError;
use super::packed::{self, Packing};
use nanochat_formats::disguise::disguise;

/// How documents lie in the file.
#[derive(Debug, Clone)]
pub(super) enum LineFormat {
    /// One JSON object a line.
    Jsonl {
        /// The field that holds the document.
        field: String,
    },
    /// Runs of lines that are not blank.
    Text,
}

impl LineFormat {
    /// How the files' names end.
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Jsonl { .. } => "jsonl",
            Self::Text => "txt",
        }
    }
}

/// Where a document begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Byte offset in the file.
    offset: u64,
    /// Lines before it.
    line: u64,
}

/// One text file, or a part of one.
#[derive(Debug)]
pub(super) struct LineShard {
    path: PathBuf,
    format: LineFormat,
    groups: Vec<(Place, usize)>,
    /// Where reading of a compressed file stopped, since going back to its beginning for each group would take long.
    stopped: Mutex<Option<Input>>,
}

impl LineShard {
    /// A shard of the documents that begin at `places`, in groups of `group_size`.
    pub fn new(path: &Path, format: &LineFormat, places: &[Place], group_size: usize) -> Self {
        let groups = places.chunks(group_size).map(|chunk| (chunk[0], chunk.len())).collect();
        Self { path: path.to_path_buf(), format: format.clone(), groups, stopped: Mutex::new(None) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Documents in each group.
    pub fn group_sizes(&self) -> Vec<usize> {
        self.groups.iter().map(|&(_, documents)| documents).collect()
    }

    /// The documents of one group.
    pub fn read_group(&self, group: usize) -> Result<Vec<String>, DataError> {
        let (place, count) = self.groups[group];
        let stopped = self.stopped.lock().ok().and_then(|mut stopped| stopped.take());
        let mut reader = Reader::open(&self.path, &self.format, place, stopped)?;
        let mut documents = Vec::with_capacity(count);
        for _ in 0..count {
            let (_, document) = reader.next()?.ok_or_else(|| DataError::Changed { path: self.path.clone() })?;
            documents.push(document);
        }
        if Packing::of(&self.path) != Packing::Plain
            && let Ok(mut stopped) = self.stopped.lock()
        {
            *stopped = Some(reader.input);
        }
        Ok(documents)
    }
}

/// Where every document of a file begins. Errors at the first line that is no document.
pub(super) fn index(path: &Path, format: &LineFormat) -> Result<Vec<Place>, DataError> {
    if let Some(told) = disguise(path).filter(|_| !Packing::of(path).begins(path)) {
        return Err(DataError::Disguised { path: path.to_path_buf(), told });
    }
    let mut reader = Reader::open(path, format, Place { offset: 0, line: 0 }, None)?;
    let mut places = Vec::new();
    while let Some((place, _)) = reader.next()? {
        places.push(place);
    }
    Ok(places)
}

/// How some programs begin a file of UTF-8; it is no part of the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An opened file, and where it stands.
struct Input {
    bytes: Box<dyn BufRead + Send>,
    place: Place,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input at {:?}", self.place)
    }
}

/// Reads documents one after the other.
struct Reader<'f> {
    input: Input,
    path: &'f Path,
    format: &'f LineFormat,
    line: Vec<u8>,
}

impl<'f> Reader<'f> {
    /// Reads from a place on; `stopped` is used where it stands before it.
    fn open(path: &'f Path, format: &'f LineFormat, place: Place, stopped: Option<Input>) -> Result<Self, DataError> {
        let bytes = match stopped.filter(|input| input.place.offset <= place.offset) {
            Some(mut input) => {
                let between = place.offset - input.place.offset;
                packed::skip(&mut *input.bytes, between).map_err(|error| packed::broken(path, error))?;
                input.bytes
            }
            None => packed::open(path, place.offset)?,
        };
        Ok(Self { input: Input { bytes, place }, path, format, line: Vec::new() })
    }

    /// The next document and where it begins.
    fn next(&mut self) -> Result<Option<(Place, String)>, DataError> {
        match self.format {
            LineFormat::Jsonl { field } => self.next_object(field),
            LineFormat::Text => self.next_paragraph(),
        }
    }

    /// Reads a line into `self.line` and gives where it began; none at the end of the file.
    fn read_line(&mut self) -> Result<Option<Place>, DataError> {
        self.line.clear();
        let length = self.input.bytes.read_until(b'\n', &mut self.line);
        let length = length.map_err(|error| packed::broken(self.path, error))?;
        let place = self.input.place;
        self.input.place = Place { offset: place.offset + length as u64, line: place.line + 1 };
        if place.offset == 0 && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok((length > 0).then_some(place))
    }

    fn text(&self, place: Place) -> Result<&str, DataError> {
        std::str::from_utf8(&self.line).map_err(|error| DataError::NotUtf8 {
            path: self.path.to_path_buf(),
            offset: place.offset + error.valid_up_to() as u64,
        })
    }

    fn next_object(&mut self, field: &str) -> Result<Option<(Place, String)>, DataError> {
        while let Some(place) = self.read_line()? {
            let line = self.text(place)?;
            if line.trim().is_empty() {
                continue;
            }
            let mut json = serde_json::Deserializer::from_str(line);
            let document = Field(field).deserialize(&mut json).and_then(|text| json.end().map(|()| text));
            return match document {
                Ok(document) => Ok(Some((place, document))),
                Err(error) => Err(self.fault(place, line, &error)),
            };
        }
        Ok(None)
    }

    fn fault(&self, place: Place, line: &str, error: &serde_json::Error) -> DataError {
        let problem = match line.trim_start().chars().next() {
            Some('[') => "a JSON array, expected an object; `jq -c '.[]'` writes one a line".to_owned(),
            Some('\u{feff}') => {
                "a byte order mark before the object, as joined files have it within; remove it".to_owned()
            }
            Some('{') if error.is_eof() => {
                "the object doesn't end in this line; `jq -c .` writes one a line, unless the file is cut off"
                    .to_owned()
            }
            _ => {
                // The error's own line is always 1 here, since each line is parsed alone.
                let problem = error.to_string();
                let problem = problem.split(" at line ").next().unwrap_or_default();
                format!("{problem} (column {})", error.column())
            }
        };
        DataError::Line { path: self.path.to_path_buf(), line: place.line + 1, problem }
    }

    fn next_paragraph(&mut self) -> Result<Option<(Place, String)>, DataError> {
        let mut document = String::new();
        let mut start = None;
        while let Some(place) = self.read_line()? {
            let line = self.text(place)?;
            match (line.trim().is_empty(), start) {
                (true, None) => {}
                (true, Some(_)) => break,
                (false, _) => {
                    document.push_str(line);
                    start = start.or(Some(place));
                }
            }
        }
        document.truncate(document.trim_end_matches(['\r', '\n']).len());
        Ok(start.map(|place| (place, document)))
    }
}

/// Takes one text field out of a JSON object, without keeping the others.
struct Field<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a JSON object with the document in `{}`", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut document = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == self.0 {
                document = Some(map.next_value::<String>()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        document.ok_or_else(|| {
            serde::de::Error::custom(format!("no field `{}`; name the right one by `data.field`", self.0))
        })
    }
}
