//! Entropy-coded values: their bytes taken apart and put together, and rows of them encoded and decoded side by side.

use super::group_coder::{GroupDecoder, GroupEncoder};
use crate::{
    compute::ComputeError,
    kernels::entropy::{LANES, MOST_GROUP},
};

/// One entropy-coded value. Its fields fit together; its streams are checked as they are decoded.
#[derive(Debug, Clone, Copy)]
pub struct EntropyRow<'a> {
    /// Weights per group; each group is a stream.
    pub group_size: usize,
    /// Weights in the row.
    pub length: usize,
    /// The weight of level 1.
    pub step: f32,
    /// The lengths of all streams but the last, as 16 bits each, and the streams.
    pub codes: &'a [u8],
}

impl<'a> EntropyRow<'a> {
    /// Checks that the fields fit together.
    ///
    /// # Errors
    /// Returns what is wrong.
    pub(super) fn try_new(group_size: usize, length: usize, step: f32, codes: &'a [u8]) -> Result<Self, String> {
        if !(1..=MOST_GROUP).contains(&group_size) {
            return Err(format!("group_size is {group_size}; an entropy-coded value has 1 to {MOST_GROUP}"));
        }
        if !(step.is_finite() && step >= 0.0) {
            return Err(format!("row_scale is {step}; it must be finite and not negative"));
        }
        let row = Self { group_size, length, step, codes };
        let groups = row.groups();
        // A stream has at least its table.
        let least = groups + 2 * groups.saturating_sub(1);
        let lengths = row.lengths().fold(0usize, |sum, length| sum + usize::from(length));
        let head = 2 * groups.saturating_sub(1);
        if codes.len() < least || (groups > 0 && head + lengths >= codes.len()) || (groups == 0 && !codes.is_empty()) {
            let got = codes.len();
            return Err(format!("codes has {got} bytes, which do not hold {length} weights in {groups} streams"));
        }
        Ok(row)
    }

    /// Returns the number of groups, which is that of streams.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.length.div_ceil(self.group_size)
    }

    fn lengths(&self) -> impl Iterator<Item = u16> + use<'a> {
        let heads = self.codes.as_chunks::<2>().0.iter().take(self.groups().saturating_sub(1));
        heads.map(|bytes| u16::from_le_bytes(*bytes))
    }

    /// Returns each stream with the number of weights before it and in it.
    fn streams(&self) -> impl Iterator<Item = (&'a [u8], usize, usize)> + use<'a> {
        let (Self { group_size, length, codes, .. }, groups) = (*self, self.groups());
        let mut rest = codes.get(2 * groups.saturating_sub(1)..).unwrap_or_default();
        let mut lengths = self.lengths();
        (0..groups).map(move |group| {
            let end = lengths.next().map_or(rest.len(), usize::from).min(rest.len());
            let (stream, others) = rest.split_at(end);
            rest = others;
            let start = group * group_size;
            (stream, start, group_size.min(length - start))
        })
    }
}

/// Weights that are encoded or decoded side by side, at least, where there are as many.
const SIDE_BY_SIDE: usize = LANES * 4096;

/// Returns true if rows that have this many weights in all fill the lanes.
pub(in crate::compute) fn fills_lanes(rows: usize, weights: usize) -> bool {
    rows >= LANES || weights >= SIDE_BY_SIDE
}

/// Encodes rows side by side; its buffers are reused.
#[derive(Default)]
pub(in crate::compute) struct RowsEncoder {
    groups: GroupEncoder,
}

impl RowsEncoder {
    /// Returns the codes of each row, which has a step.
    pub(in crate::compute) fn encode(&mut self, rows: &[(&[f32], f32)], group_size: usize) -> Vec<Vec<u8>> {
        let mut jobs: Vec<(usize, &[f32])> = Vec::new();
        for (row, (weights, _)) in rows.iter().enumerate() {
            jobs.extend(weights.chunks(group_size.max(1)).map(|group| (row, group)));
        }
        // Stable: the groups of a row stay in order among those of one length, and the short one is the last of its row.
        jobs.sort_by_key(|(_, group)| std::cmp::Reverse(group.len()));
        let mut streams: Vec<Vec<Vec<u8>>> = vec![Vec::new(); rows.len()];
        for same in jobs.chunk_by(|a, b| a.1.len() == b.1.len()) {
            for jobs in same.chunks(LANES) {
                let groups: Vec<_> = jobs.iter().map(|(row, group)| (*group, rows[*row].1)).collect();
                self.groups.encode(&groups, |lane, head, words| {
                    let mut stream = Vec::with_capacity(head.len() + 2 * words.len());
                    stream.extend_from_slice(head);
                    stream.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                    streams[jobs[lane].0].push(stream);
                });
            }
        }
        streams.iter().map(|streams| join(streams)).collect()
    }
}

/// Returns the codes of a row: the lengths of all streams but the last, and the streams.
fn join(streams: &[Vec<u8>]) -> Vec<u8> {
    let mut codes = Vec::with_capacity(streams.iter().map(|stream| 2 + stream.len()).sum());
    for stream in streams.split_last().map_or(&[][..], |(_, others)| others) {
        // No stream is as long as 2^16: `MOST_GROUP` sees to it.
        codes.extend_from_slice(&u16::try_from(stream.len()).unwrap_or(u16::MAX).to_le_bytes());
    }
    for stream in streams {
        codes.extend_from_slice(stream);
    }
    codes
}

/// Decodes rows side by side; its buffers are reused.
#[derive(Default)]
pub(in crate::compute) struct RowsDecoder {
    groups: GroupDecoder,
}

impl RowsDecoder {
    /// Decodes rows to `out`, one after the other. The first of them is number `first` in errors.
    ///
    /// # Errors
    /// Returns [`ComputeError::Corrupt`] if a stream is not one that was made.
    pub(in crate::compute) fn decode(
        &mut self,
        rows: &[(usize, EntropyRow)],
        out: &mut [f32],
    ) -> Result<(), ComputeError> {
        let (mut jobs, mut start) = (Vec::new(), 0);
        for (row, value) in rows {
            jobs.extend(
                value.streams().map(|(stream, before, length)| (*row, value.step, stream, start + before, length)),
            );
            start += value.length;
        }
        jobs.sort_by_key(|job| std::cmp::Reverse(job.4));
        for same in jobs.chunk_by(|a, b| a.4 == b.4) {
            for jobs in same.chunks(LANES) {
                let streams: Vec<&[u8]> = jobs.iter().map(|job| job.2).collect();
                let length = jobs.first().map_or(0, |job| job.4);
                let (levels, whole) = self.groups.decode(&streams, length);
                for (lane, (row, step, _, start, length)) in jobs.iter().enumerate() {
                    if !whole[lane] {
                        let reason = "its codes are damaged: a stream does not end where it must".to_owned();
                        return Err(ComputeError::Corrupt { row: *row, reason });
                    }
                    for (out, levels) in out[*start..start + length].iter_mut().zip(levels) {
                        *out = (levels[lane] as f32 * step).clamp(-f32::MAX, f32::MAX);
                    }
                }
            }
        }
        Ok(())
    }
}
