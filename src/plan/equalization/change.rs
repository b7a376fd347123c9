//! The change that equalization makes to one tensor, and its inverse.

use arrow_array::{Array, ArrayRef, Int64Array, ListArray, types::Float32Type};

use super::folds::{Kind, Segment};
use crate::compute::{ComputeError, equalize_rows};

/// The change of a tensor: `weight * factors[place in the row] * row_factors[row] + offsets[place]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// One number for each weight of a row. `None` means 1.
    pub factors: Option<Vec<f32>>,
    /// One number for each row. `None` means 1.
    pub row_factors: Option<Vec<f32>>,
    /// One number for each weight of a row. `None` means 0.
    pub offsets: Option<Vec<f32>>,
    /// The scale that its input is multiplied by at run time.
    pub input_scale: Option<Vec<f32>>,
    /// The tensors that are divided by its factors instead.
    pub folded_into: Vec<String>,
    /// The layers whose factors it is divided by.
    pub carries: Vec<String>,
}

impl Change {
    /// Makes a segment carry one over the factors.
    pub(super) fn divide(&mut self, Segment { first, kind, .. }: Segment, rows: usize, length: usize, factors: &[f32]) {
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

    /// Returns the three lists without gaps, and those that bring the weights back.
    pub(super) fn filled(&self, rows: usize, length: usize) -> Result<[Vec<f32>; 6], String> {
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

    /// Returns the change of a tensor with so many rows of this length.
    ///
    /// # Errors
    /// Returns an error if a list has another length than the tensor.
    pub fn applied(&self, rows: usize, length: usize) -> Result<RowChange, String> {
        let [factors, row_factors, offsets, _, _, _] = self.filled(rows, length)?;
        Ok(RowChange::new([factors, row_factors, offsets]))
    }

    /// Returns the inverse of the change.
    ///
    /// # Errors
    /// Returns the errors of [`Self::applied`].
    pub fn back(&self, rows: usize, length: usize) -> Result<RowChange, String> {
        let [_, _, _, factors, row_factors, offsets] = self.filled(rows, length)?;
        Ok(RowChange::new([factors, row_factors, offsets]))
    }

    /// Returns the note for a report.
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

/// The change of the rows of a tensor: its [`Change`], or the inverse. Made once.
#[derive(Debug)]
pub struct RowChange {
    factors: ListArray,
    row_factors: ListArray,
    offsets: ListArray,
}

impl RowChange {
    fn new(all: [Vec<f32>; 3]) -> Self {
        let [factors, row_factors, offsets] = all.map(|list| lists([Some(&list)].into_iter()));
        Self { factors, row_factors, offsets }
    }

    /// Returns some rows changed: `List<Float32>`, the first of them the row `first` of the tensor.
    ///
    /// # Errors
    /// Returns an error if rows have another length or are more than the tensor has, or if a result is not finite.
    pub fn rows(&self, weights: &dyn Array, first: usize) -> Result<ArrayRef, ComputeError> {
        let channels = Int64Array::from_iter_values(first as i64..(first + weights.len()) as i64);
        equalize_rows(weights, &self.factors, &channels, &self.row_factors, Some(&self.offsets))
    }
}

/// Lists as Arrow has them.
pub(super) fn lists<'a>(rows: impl Iterator<Item = Option<&'a Vec<f32>>>) -> ListArray {
    ListArray::from_iter_primitive::<Float32Type, _, _>(rows.map(|row| Some(row?.iter().copied().map(Some))))
}
