//! Parquet shards: row groups from the metadata, and of the columns only `text`.

use std::fs::File;
use std::path::{Path, PathBuf};

use polars::prelude::{DataType, ParquetReader, SerReader as _};

use super::DataError;

/// The column that holds the documents.
const COLUMN: &str = "text";

/// One parquet file.
#[derive(Debug)]
pub(super) struct ParquetShard {
    path: PathBuf,
    /// First row of each row group, and the number of rows at the end.
    starts: Vec<usize>,
}

impl ParquetShard {
    /// Reads the metadata. Errors when the file is no parquet, is cut off, or has no text column `text`.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut reader = ParquetReader::new(File::open(path).map_err(DataError::io(path))?);
        let metadata = reader.get_metadata().map_err(|error| damaged(path, &error))?;
        let mut starts = vec![0];
        for group in &metadata.row_groups {
            starts.push(starts[starts.len() - 1] + group.num_rows());
        }
        let schema = reader.schema().map_err(|error| damaged(path, &error))?;
        match schema.get(COLUMN) {
            None => {
                let names = schema.iter_names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                Err(DataError::parquet(
                    path,
                    format!("no column `{COLUMN}`, only {names}; the documents must stand there"),
                ))
            }
            Some(field) if DataType::from_arrow_field(field) != DataType::String => {
                let found = DataType::from_arrow_field(field);
                Err(DataError::parquet(path, format!("column `{COLUMN}` holds {found}, expected text")))
            }
            Some(_) => Ok(Self { path: path.to_path_buf(), starts }),
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
        let (start, count) = (self.starts[group], self.starts[group + 1] - self.starts[group]);
        let file = File::open(&self.path).map_err(DataError::io(&self.path))?;
        let frame = ParquetReader::new(file)
            .with_columns(Some(vec![COLUMN.to_string()]))
            .with_slice(Some((start, count)))
            .finish()
            .map_err(|error| damaged(&self.path, &error))?;
        let texts =
            frame.column(COLUMN).and_then(|column| column.str()).map_err(|error| damaged(&self.path, &error))?;
        if texts.len() != count {
            return Err(DataError::Changed { path: self.path.clone() });
        }
        let mut documents = Vec::with_capacity(count);
        for (row, text) in texts.iter().enumerate() {
            let text = text.ok_or_else(|| {
                let row = start + row;
                DataError::parquet(
                    &self.path,
                    format!("row {row} of column `{COLUMN}` is null; every row must hold a document"),
                )
            })?;
            documents.push(text.to_string());
        }
        Ok(documents)
    }
}

fn damaged(path: &Path, error: &polars::prelude::PolarsError) -> DataError {
    DataError::parquet(path, format!("can't be read as parquet; is it cut off or damaged? ({error})"))
}
