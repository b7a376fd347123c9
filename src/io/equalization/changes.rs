//! What equalization changes of every tensor, as a file and as the table that the recipes join.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Int64Array, ListArray, ListViewArray, RecordBatch, StringViewArray,
    builder::{ListBuilder, StringBuilder},
    cast::AsArray,
    types::Float32Type,
};

use super::plan::{Folds, Kind, Segment};
use crate::{
    compute::{ComputeError, equalize_rows},
    io::{IoError, Model, columns},
    types::{
        equalization::{FACTORS, FOLDED_INTO, INPUT_SCALE, OFFSETS, ROW_FACTORS, changes_schema, equalization_schema},
        weights::NAME,
    },
};

/// What becomes of a tensor: `weight * factors[place in the row] * row_factors[row] + offsets[place]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// One number for each weight of a row; none: 1.
    pub factors: Option<Vec<f32>>,
    /// One number for each row; none: 1.
    pub row_factors: Option<Vec<f32>>,
    /// One number for each weight of a row; none: 0.
    pub offsets: Option<Vec<f32>>,
    /// What its input is to be multiplied by at run time.
    pub input_scale: Option<Vec<f32>>,
    /// The tensors that are divided by its factors instead.
    pub folded_into: Vec<String>,
    /// The layers whose factors it is divided by.
    pub carries: Vec<String>,
}

/// What becomes of the tensors of a model, by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Equalization {
    pub(super) changes: BTreeMap<String, Change>,
}

impl Equalization {
    /// What the factors of these inputs make of a model: folded where they can be, for run time where they cannot. An input
    /// has the name of the first layer that takes it.
    pub fn new(model: &Model, folds: &Folds, factors: &BTreeMap<String, Vec<f32>>) -> Self {
        let mut all = Self::default();
        for (input, factors) in factors {
            match model.number_of(input).and_then(|number| folds.of(number)) {
                None => {
                    let change = all.changes.entry(input.clone()).or_default();
                    change.input_scale = Some(factors.iter().map(|factor| 1.0 / factor).collect());
                    change.factors = Some(factors.clone());
                }
                Some(fold) => {
                    let name = |number: usize| model.tensors()[number].name.clone();
                    let consumers: Vec<String> = fold.consumers.iter().map(|number| name(*number)).collect();
                    let mut into: Vec<String> = Vec::new();
                    for segment in &fold.producers {
                        let tensor = &model.tensors()[segment.tensor];
                        let change = all.changes.entry(tensor.name.clone()).or_default();
                        change.divide(*segment, tensor.rows, tensor.row_length, factors);
                        if change.carries.last() != consumers.last() {
                            change.carries.extend(consumers.iter().cloned());
                        }
                        if !into.contains(&tensor.name) {
                            into.push(tensor.name.clone());
                        }
                    }
                    for consumer in consumers {
                        let change = all.changes.entry(consumer).or_default();
                        change.factors = Some(factors.clone());
                        change.folded_into.clone_from(&into);
                    }
                }
            }
        }
        all
    }

    /// The change of a tensor, if there is one.
    pub fn of(&self, name: &str) -> Option<&Change> {
        self.changes.get(name)
    }

    /// The layers whose factors were folded.
    pub fn folded(&self) -> usize {
        self.changes.values().filter(|change| !change.folded_into.is_empty()).count()
    }

    /// The layers whose input is to be scaled at run time.
    pub fn scaled(&self) -> usize {
        self.changes.values().filter(|change| change.input_scale.is_some()).count()
    }

    /// The table of [`equalization_schema`].
    ///
    /// # Errors
    /// Arrow refuses to build the batch.
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
    /// The file cannot be read or is not such a table.
    pub fn read(path: &Path) -> Result<Self, IoError> {
        let schema = equalization_schema();
        let mut all = Self::default();
        for batch in columns::open(path, &schema, "an equalization", 64)? {
            let batch = batch.map_err(IoError::arrow(path))?;
            let column = |name| columns::column(path, &batch, &schema, name);
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

    /// The same by other names, where `name` gives one.
    ///
    /// # Errors
    /// Those of `name`.
    pub fn renamed(self, name: impl Fn(&str) -> Result<Option<String>, IoError>) -> Result<Self, IoError> {
        let one = |(old, change): (String, Change)| Ok((name(&old)?.unwrap_or(old), change));
        Ok(Self { changes: self.changes.into_iter().map(one).collect::<Result<_, IoError>>()? })
    }

    /// The table of [`changes_schema`], one row for each tensor of the model that is changed; `stored_as` says what one is
    /// stored as that is not quantized.
    ///
    /// # Errors
    /// A list has another length than the tensor of its name.
    pub fn table(&self, model: &Model, stored_as: impl Fn(usize) -> Option<String>) -> Result<RecordBatch, IoError> {
        let mut names = Vec::new();
        let mut rows: [Vec<Vec<f32>>; 6] = Default::default();
        let mut stored = Vec::new();
        for (name, change) in &self.changes {
            let Some(number) = model.number_of(name) else { continue };
            let tensor = &model.tensors()[number];
            let lists = change.filled(tensor.rows, tensor.row_length);
            let lists = lists.map_err(|problem| IoError::tensor(model.folder(), name, problem))?;
            rows.iter_mut().zip(lists).for_each(|(rows, list)| rows.push(list));
            names.push(name.as_str());
            stored.push(stored_as(number));
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringViewArray::from_iter_values(names))];
        for rows in &rows {
            columns.push(Arc::new(ListViewArray::from(lists(rows.iter().map(Some)))));
        }
        columns.push(Arc::new(stored.into_iter().collect::<StringViewArray>()));
        RecordBatch::try_new(changes_schema(), columns).map_err(IoError::arrow(model.folder()))
    }
}

impl Change {
    fn divide(&mut self, Segment { first, kind, .. }: Segment, rows: usize, length: usize, factors: &[f32]) {
        let list = match kind {
            Kind::Rows => self.row_factors.get_or_insert_with(|| vec![1.0; rows]),
            Kind::Elements | Kind::OnePlus => self.factors.get_or_insert_with(|| vec![1.0; length]),
        };
        for (value, factor) in list[first..].iter_mut().zip(factors) {
            *value = 1.0 / factor;
        }
        if kind == Kind::OnePlus {
            let offsets = self.offsets.get_or_insert_with(|| vec![0.0; length]);
            for (offset, factor) in offsets[first..].iter_mut().zip(factors) {
                *offset = 1.0 / factor - 1.0;
            }
        }
    }

    /// The three lists without gaps, and those that bring the weights back.
    fn filled(&self, rows: usize, length: usize) -> Result<[Vec<f32>; 6], String> {
        let filled = |list: &Option<Vec<f32>>, length: usize, value: f32| match list {
            None => Ok(vec![value; length]),
            Some(list) if list.len() == length => Ok(list.clone()),
            Some(list) => Err(format!("is equalized by {} numbers where {length} are expected", list.len())),
        };
        let factors = filled(&self.factors, length, 1.0)?;
        let row_factors = filled(&self.row_factors, rows, 1.0)?;
        let offsets = filled(&self.offsets, length, 0.0)?;
        let back = |list: &[f32]| list.iter().map(|factor| 1.0 / factor).collect::<Vec<f32>>();
        let (back_factors, back_row_factors) = (back(&factors), back(&row_factors));
        // Offsets are those of vectors, which have one row and no row factor.
        let back_offsets = offsets.iter().zip(&back_factors).map(|(offset, back)| 0.0 - offset * back).collect();
        Ok([factors, row_factors, offsets, back_factors, back_row_factors, back_offsets])
    }

    /// Brings some rows of a tensor back to what they were: `List<Float32>`, the first of them the row `first`.
    ///
    /// # Errors
    /// A list has another length than the tensor.
    pub fn bring_back(&self, weights: &dyn Array, rows: usize, first: usize) -> Result<ArrayRef, ComputeError> {
        let length = weights.as_list_opt::<i32>().map_or(0, |lists| lists.value_length(0) as usize);
        let lists_of = self.filled(rows, length).map_err(ComputeError::InvalidArgument)?;
        let [_, _, _, factors, row_factors, offsets] = lists_of.map(|list| lists([Some(&list)].into_iter()));
        let channels = Int64Array::from_iter_values(first as i64..(first + weights.len()) as i64);
        equalize_rows(weights, &factors, &channels, &row_factors, Some(&offsets))
    }

    /// What there is to say of it in a report.
    pub fn note(&self) -> String {
        let mut notes = Vec::new();
        if self.input_scale.is_some() {
            notes.push("equalized by input_scale".to_owned());
        }
        if !self.folded_into.is_empty() {
            notes.push(format!("equalized, folded into {}", self.folded_into.join(", ")));
        }
        if !self.carries.is_empty() {
            notes.push(format!("divided by the factors of {}", self.carries.join(", ")));
        }
        notes.join("; ")
    }
}

fn strings(array: &ArrayRef) -> Vec<String> {
    array.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

fn lists<'a>(rows: impl Iterator<Item = Option<&'a Vec<f32>>>) -> ListArray {
    ListArray::from_iter_primitive::<Float32Type, _, _>(rows.map(|row| Some(row?.iter().copied().map(Some))))
}
