//! `equalization.parquet`: what equalization changed of every tensor, as a file.

use std::{path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, RecordBatch, StringViewArray,
    builder::{ListBuilder, StringBuilder},
    cast::AsArray,
    types::Float32Type,
};

use super::{
    change::{Change, lists},
    changes::Equalization,
};
use crate::{
    storage::{error::IoError, parquet_table},
    types::{
        equalization::{FACTORS, FOLDED_INTO, INPUT_SCALE, OFFSETS, ROW_FACTORS, equalization_schema},
        weights::NAME,
    },
};

impl Equalization {
    /// Returns the table of [`equalization_schema`].
    ///
    /// # Errors
    /// Returns an error if Arrow refuses to build the batch.
    pub fn batch(&self, folder: &Path) -> Result<RecordBatch, IoError> {
        let changes = || self.changes.values();
        let mut names = ListBuilder::new(StringBuilder::new());
        for change in changes() {
            change.folded_into.iter().for_each(|name| names.values().append_value(name));
            names.append(!change.folded_into.is_empty());
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringViewArray::from_iter_values(self.changes.keys())),
            Arc::new(lists(changes().map(|change| change.factors.as_ref()))),
            Arc::new(lists(changes().map(|change| change.row_factors.as_ref()))),
            Arc::new(lists(changes().map(|change| change.offsets.as_ref()))),
            Arc::new(lists(changes().map(|change| change.input_scale.as_ref()))),
            Arc::new(names.finish()),
        ];
        RecordBatch::try_new(equalization_schema(), columns).map_err(IoError::arrow(folder))
    }

    /// Reads what a run wrote.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not such a table.
    pub fn read(path: &Path) -> Result<Self, IoError> {
        let schema = equalization_schema();
        let mut all = Self::default();
        for batch in parquet_table::open(path, &schema, "an equalization", 64)? {
            let batch = batch.map_err(IoError::arrow(path))?;
            let column = |name| parquet_table::column(path, &batch, &schema, name);
            let list = |name, row: usize| {
                let lists = column(name)?;
                let lists = lists.as_list::<i32>();
                let values = |row| lists.value(row).as_primitive::<Float32Type>().values().to_vec();
                Ok::<_, IoError>(lists.is_valid(row).then(|| values(row)))
            };
            let (names, into) = (column(NAME)?, column(FOLDED_INTO)?);
            for row in 0..batch.num_rows() {
                let folded = into.as_list::<i32>();
                let folded = folded.is_valid(row).then(|| folded.value(row));
                let change = Change {
                    factors: list(FACTORS, row)?,
                    row_factors: list(ROW_FACTORS, row)?,
                    offsets: list(OFFSETS, row)?,
                    input_scale: list(INPUT_SCALE, row)?,
                    folded_into: folded.iter().flat_map(strings).collect(),
                    carries: Vec::new(),
                };
                all.changes.insert(names.as_string_view().value(row).to_owned(), change);
            }
        }
        Ok(all)
    }
}

fn strings(array: &ArrayRef) -> Vec<String> {
    array.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}
