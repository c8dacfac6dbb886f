//! Parquet shards: row groups from the metadata, and of the columns only the one that holds the documents.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use polars::prelude::DataType;
use polars_io::parquet::read::FileMetadata;
use polars_io::prelude::{ParallelStrategy, ParquetReader, SerReader as _};

use nanochat_artifacts::allowances::{self, Chunk};

use super::DataError;
use super::guard::contain;
use nanochat_formats::disguise::{disguise, text_begin};

/// One parquet file.
#[derive(Debug)]
pub(super) struct ParquetShard {
    path: PathBuf,
    /// The column that holds the documents.
    column: String,
    /// Its bytes, and when it was written: what was read of it holds as long as both do.
    length: u64,
    modified: Option<SystemTime>,
    /// A description of each row group alone, so that reading one never looks at the others.
    groups: Vec<Arc<FileMetadata>>,
    /// First row of each row group, and the number of rows at the end.
    starts: Vec<usize>,
}

impl ParquetShard {
    /// Reads the metadata. Errors when the file is no parquet, is cut off, or has no such column of text.
    pub fn open(path: &Path, column: &str) -> Result<Self, DataError> {
        let opened = contain(|| Self::open_unguarded(path, column)).unwrap_or_else(|panic| Err(damaged(path, panic)));
        opened.map_err(|error| match disguise(path) {
            Some(told) => DataError::Disguised { path: path.to_path_buf(), told },
            None => match text_begin(path).filter(|begin| !begin.starts_with("PAR1")) {
                Some(begin) => DataError::parquet(
                    path,
                    format!(
                        "this is text, which begins `{begin}`; where a download has left it, download the file again"
                    ),
                ),
                None => error,
            },
        })
    }

    fn open_unguarded(path: &Path, column: &str) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io(path))?;
        let found = file.metadata().map_err(DataError::io(path))?;
        let (length, modified) = (found.len(), found.modified().ok());
        let mut reader = ParquetReader::new(file);
        let metadata = reader.get_metadata().map_err(|error| damaged(path, error))?.clone();
        let groups = alone(&metadata);
        let mut starts = vec![0usize];
        for group in &metadata.row_groups {
            let start = starts[starts.len() - 1].checked_add(group.num_rows());
            starts.push(start.ok_or_else(|| damaged(path, "more rows than can be counted"))?);
        }
        refuse_overlaps(&metadata, column, length).map_err(|reason| damaged(path, reason))?;
        // Columns are taken as the file stores them, not as the program that wrote it had them in memory: a dictionary of texts,
        // say, is stored as texts.
        let described = groups.first().cloned().unwrap_or_else(|| Arc::new(described(&metadata)));
        reader.set_metadata(described);
        let schema = reader.schema().map_err(|error| damaged(path, error))?;
        match schema.get(column) {
            None => {
                let names = schema.iter_names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let problem =
                    format!("no column `{column}`, only {names}; `data.field` names the one that holds the documents");
                Err(DataError::parquet(path, problem))
            }
            Some(field) if DataType::from_arrow_field(field) != DataType::String => {
                let found = DataType::from_arrow_field(field);
                Err(DataError::parquet(path, format!("column `{column}` holds {found}, expected text")))
            }
            Some(_) => {
                Ok(Self { path: path.to_path_buf(), column: column.to_owned(), length, modified, groups, starts })
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Documents in each row group.
    pub fn group_sizes(&self) -> Vec<usize> {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// The documents of one row group.
    pub fn read_group(&self, group: usize) -> Result<Vec<String>, DataError> {
        contain(|| self.read_group_unguarded(group)).unwrap_or_else(|panic| Err(damaged(&self.path, panic)))
    }

    /// The file, once what the group claims to hold has been held against the file's length.
    fn checked(&self, group: &FileMetadata) -> Result<File, DataError> {
        let mut file = File::open(&self.path).map_err(DataError::io(&self.path))?;
        let found = group.row_groups.first();
        let columns = found.and_then(|group| group.columns_under_root_iter(&self.column)).into_iter().flatten();
        let chunks = columns.map(|column| Chunk {
            start: column.dictionary_page_offset().unwrap_or(column.data_page_offset()),
            length: column.compressed_size(),
            values: column.num_values(),
            rows: found.map_or(0, |group| group.num_rows()),
        });
        allowances::check(&mut file, self.length, chunks).map_err(|reason| damaged(&self.path, reason))?;
        file.rewind().map_err(DataError::io(&self.path))?;
        Ok(file)
    }

    /// The description of a group. A file that was touched since is described anew, and has to be of the same form.
    fn described(&self, group: usize) -> Result<Arc<FileMetadata>, DataError> {
        let found = std::fs::metadata(&self.path).map_err(DataError::io(&self.path))?;
        if (found.len(), found.modified().ok()) == (self.length, self.modified) {
            return Ok(self.groups[group].clone());
        }
        let now = Self::open_unguarded(&self.path, &self.column)?;
        match now.starts == self.starts {
            true => Ok(now.groups[group].clone()),
            false => Err(DataError::Changed { path: self.path.clone() }),
        }
    }

    fn read_group_unguarded(&self, group: usize) -> Result<Vec<String>, DataError> {
        let (start, count) = (self.starts[group], self.starts[group + 1] - self.starts[group]);
        let described = self.described(group)?;
        let mut reader = ParquetReader::new(self.checked(&described)?);
        reader.set_metadata(described);
        // One column of one group: nothing to share among threads, and a panic stays on this one.
        let frame = reader
            .read_parallel(ParallelStrategy::None)
            .with_columns(Some(vec![self.column.clone()]))
            .finish()
            .map_err(|error| damaged(&self.path, error))?;
        let texts = frame.column(&self.column).and_then(|column| column.str());
        let texts = texts.map_err(|error| damaged(&self.path, error))?;
        if texts.len() != count {
            return Err(DataError::Changed { path: self.path.clone() });
        }
        let bytes = texts.iter().flatten().map(|text| text.len() as u64).sum();
        allowances::check_bytes(self.length, bytes).map_err(|reason| damaged(&self.path, reason))?;
        let mut documents = Vec::with_capacity(count);
        for (row, text) in texts.iter().enumerate() {
            let text = text.ok_or_else(|| {
                let row = start + row;
                let problem = format!("row {row} of column `{}` is null; every row must hold a document", self.column);
                DataError::parquet(&self.path, problem)
            })?;
            documents.push(text.to_string());
        }
        Ok(documents)
    }
}

/// A file's description without its row groups, and without what the program that wrote it says of its own types.
fn described(metadata: &FileMetadata) -> FileMetadata {
    FileMetadata {
        version: metadata.version,
        num_rows: 0,
        max_row_group_height: 0,
        created_by: metadata.created_by.clone(),
        row_groups: Vec::new(),
        key_value_metadata: None,
        schema_descr: metadata.schema_descr.clone(),
        column_orders: metadata.column_orders.clone(),
        footer_buf: metadata.footer_buf.clone(),
    }
}

/// The description of each group, as if the file held no other.
fn alone(metadata: &FileMetadata) -> Vec<Arc<FileMetadata>> {
    let groups = metadata.row_groups.iter().map(|group| {
        let (rows, row_groups) = (group.num_rows(), vec![group.clone()]);
        Arc::new(FileMetadata { num_rows: rows, max_row_group_height: rows, row_groups, ..described(metadata) })
    });
    groups.collect()
}

/// Refuses groups that lie over each other: each is read, so that a small file could stand for any amount of work.
fn refuse_overlaps(metadata: &FileMetadata, column: &str, length: u64) -> Result<(), String> {
    let mut bytes = 0u64;
    for group in &metadata.row_groups {
        for part in group.columns_under_root_iter(column).into_iter().flatten() {
            bytes = bytes.saturating_add(u64::try_from(part.compressed_size()).unwrap_or(u64::MAX));
        }
    }
    match bytes > length {
        true => Err(format!("its {} row groups claim {bytes} bytes of its {length}", metadata.row_groups.len())),
        false => Ok(()),
    }
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> DataError {
    DataError::parquet(path, format!("can't be read as parquet; is it cut off or damaged? ({reason})"))
}
