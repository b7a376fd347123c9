//! Parts: the unit of work, a fixed and contiguous range of rows.

use std::ops::Range;

use super::Model;

/// Source bytes of a part of a large model.
pub const PART_BYTES: u64 = 128 << 20;

/// Source bytes of a part of a model of so many bytes: sixteen parts at least, so that threads share a small model
/// evenly and the disk works beside them, but none so small that opening it would count.
pub fn part_bytes(model: u64) -> u64 {
    (model / 16).clamp(PART_BYTES / 8, PART_BYTES)
}

/// Rows of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The tensor's number in its model.
    pub tensor: usize,
    /// The rows.
    pub rows: Range<usize>,
}

/// A contiguous range of rows: the end of one tensor, whole tensors, the beginning of another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// The rows, in the order of the model.
    pub runs: Vec<Run>,
    /// The source bytes of them.
    pub bytes: u64,
}

impl Part {
    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.rows.len()).sum()
    }
}

impl Model {
    /// Returns the part of these rows.
    pub fn part(&self, runs: Vec<Run>) -> Part {
        let row_bytes = |run: &Run| self.tensors().get(run.tensor).map_or(0, |tensor| tensor.row_bytes() as u64);
        let bytes = runs.iter().map(|run| run.rows.len() as u64 * row_bytes(run)).sum();
        Part { runs, bytes }
    }

    /// Cuts the model, or the tensors given by number, into parts of about `target` source bytes.
    ///
    /// The cut depends on the model, the tensors and the target alone. It lies between tensors where a part then has
    /// 3/4 to 5/4 of the target, otherwise between rows; a row longer than the target is in a part alone or with less
    /// than the target before it. Numbers that the model does not have are passed over. Every row of every tensor given
    /// is in exactly one part.
    pub fn parts(&self, tensors: Option<&[usize]>, target: u64) -> Vec<Part> {
        self.parts_of(tensors, target, 1)
    }

    /// Does the same as [`Self::parts`], but a cut between rows lies at a multiple of `together` rows of the tensor.
    pub fn parts_of(&self, tensors: Option<&[usize]>, target: u64, together: usize) -> Vec<Part> {
        let together = together.max(1);
        let target = target.max(1);
        let every: Vec<usize>;
        let tensors = if let Some(tensors) = tensors {
            tensors
        } else {
            every = (0..self.tensors().len()).collect();
            &every
        };
        let mut parts = Vec::new();
        let mut part = Part::default();
        for &number in tensors {
            let Some(tensor) = self.tensors().get(number) else { continue };
            let row_bytes = tensor.row_bytes() as u64;
            let mut row = 0;
            while row < tensor.rows {
                let remaining = (tensor.rows - row) as u64 * row_bytes;
                let rows = if part.bytes + remaining <= target + target / 4 {
                    tensor.rows - row
                } else if part.bytes >= target - target / 4 {
                    0
                } else {
                    // At least one, so that rows longer than the target come through.
                    let fitting = ((target - part.bytes) / row_bytes.max(1)) as usize;
                    (fitting / together * together).max(together).min(tensor.rows - row)
                };
                if rows > 0 {
                    part.runs.push(Run { tensor: number, rows: row..row + rows });
                    part.bytes += rows as u64 * row_bytes;
                    row += rows;
                }
                if row < tensor.rows {
                    parts.push(std::mem::take(&mut part));
                }
            }
        }
        if !part.runs.is_empty() {
            parts.push(part);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{storage::dtype::Dtype, testing::models::write};

    /// A model of U8 tensors of the shapes given, in this order.
    fn model(shapes: &[[usize; 2]]) -> (Model, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let names: Vec<String> = (0..shapes.len()).map(|i| format!("{i:02}")).collect();
        let data = vec![0; shapes.iter().map(|[rows, length]| rows * length).max().unwrap_or(0)];
        let tensors: Vec<_> =
            names.iter().zip(shapes).map(|(n, s)| (n.as_str(), Dtype::U8, &s[..], &data[..s[0] * s[1]])).collect();
        write(&path, &tensors);
        (Model::open(&path).unwrap(), folder)
    }

    fn cut(shapes: &[[usize; 2]], target: u64) -> Vec<Vec<(usize, Range<usize>)>> {
        let parts = model(shapes).0.parts(None, target);
        parts.into_iter().map(|part| part.runs.into_iter().map(|run| (run.tensor, run.rows)).collect()).collect()
    }

    #[test]
    fn a_cut_lies_between_tensors_where_that_is_near() {
        assert_eq!(cut(&[[8, 10], [4, 10], [5, 10]], 100), [vec![(0, 0..8), (1, 0..4)], vec![(2, 0..5)]]);
        assert_eq!(cut(&[[8, 10], [6, 10]], 100), [vec![(0, 0..8)], vec![(1, 0..6)]]);
    }

    #[test]
    fn a_large_tensor_is_cut_between_rows() {
        assert_eq!(cut(&[[5, 10], [20, 10]], 100), [vec![(0, 0..5), (1, 0..5)], vec![(1, 5..15)], vec![(1, 15..20)]]);
        assert_eq!(cut(&[[3, 1000]], 100), [vec![(0, 0..1)], vec![(0, 1..2)], vec![(0, 2..3)]]);
    }

    #[test]
    fn every_row_is_in_one_part_whatever_the_target() {
        let (model, _folder) = model(&[[7, 13], [0, 5], [1, 400], [100, 1], [5, 0], [31, 9]]);
        for target in [0, 1, 10, 100, 1000, u64::MAX / 4] {
            let mut rows = vec![0; model.tensors().len()];
            for part in model.parts(None, target) {
                assert!(part.bytes <= target + target / 4 || part.runs.len() == 1 || target < 400);
                for run in part.runs {
                    assert_eq!(rows[run.tensor], run.rows.start);
                    rows[run.tensor] = run.rows.end;
                }
            }
            assert!(model.tensors().iter().zip(rows).all(|(tensor, rows)| tensor.rows == rows));
        }
        for part in model.parts(None, 100) {
            assert_eq!(model.part(part.runs.clone()), part);
        }
        assert_eq!(model.parts(Some(&[3, 99]), 1000)[0].runs, [Run { tensor: 3, rows: 0..model.tensors()[3].rows }]);
    }
}
