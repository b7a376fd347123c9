//! Groups of weights to streams and back, as many side by side as there are lanes.

use crate::kernels::entropy::{
    LANES,
    choose::{Histogram, fill_rates, first_guess, histograms},
    decode::{Stream, decode},
    encode::{MOST_WORDS, encode, state_bytes},
    family::TableId,
    trellis::{RATES, SLOPE, in_steps, trellis},
};

/// Buffers that are reused from group to group.
pub(in crate::compute) struct GroupEncoder {
    weights: Vec<[f32; LANES]>,
    levels: Vec<[i32; LANES]>,
    decisions: Vec<[u8; LANES]>,
    rates: Vec<f32>,
    histograms: Vec<Histogram>,
    words: Vec<u16>,
}

impl Default for GroupEncoder {
    fn default() -> Self {
        Self {
            weights: Vec::new(),
            levels: Vec::new(),
            decisions: Vec::new(),
            rates: Vec::new(),
            histograms: vec![Histogram::EMPTY; LANES],
            words: Vec::new(),
        }
    }
}

impl GroupEncoder {
    /// Encodes up to [`LANES`] groups of the same length, each with its step, and hands each stream to `write`.
    ///
    /// A weight is cut to `MOST_LEVEL` steps; a step of 0 makes all its levels 0.
    pub(in crate::compute) fn encode(&mut self, groups: &[(&[f32], f32)], mut write: impl FnMut(usize, &[u8], &[u16])) {
        let lanes = groups.len().min(LANES);
        let length = groups.first().map_or(0, |(weights, _)| weights.len());
        self.weights.clear();
        self.weights.resize(length, [0.0; LANES]);
        self.levels.clear();
        self.levels.resize(length, [0; LANES]);
        self.decisions.resize(length, [0; LANES]);
        self.rates.resize(LANES * RATES, 0.0);
        let mut tables = [TableId(0); LANES];
        for (lane, (weights, step)) in groups.iter().enumerate().take(lanes) {
            let sum = in_steps(weights, *step, lane, &mut self.weights, &mut self.levels);
            tables[lane] = first_guess(sum, length);
        }
        self.choose(&mut tables);
        for (rates, table) in self.rates.chunks_exact_mut(RATES).zip(tables) {
            fill_rates(table, SLOPE, rates);
        }
        let raw_bits = tables.map(|table| table.raw_bits() as i32);
        if let Some(rates) = self.rates.first_chunk() {
            trellis(&self.weights, rates, &raw_bits, &mut self.decisions[..length], &mut self.levels);
        }
        self.choose(&mut tables);
        let room = MOST_WORDS * length + 1;
        self.words.resize(LANES * room, 0);
        let ends = encode(&self.levels, &tables, &mut self.words[..LANES * room]);
        for (lane, (state, words)) in ends.into_iter().enumerate().take(lanes) {
            let mut head = [0; 5];
            head[0] = tables[lane].0;
            head[1..].copy_from_slice(&state.to_le_bytes());
            let end = (lane + 1) * room;
            write(lane, &head[..=state_bytes(state)], &self.words[end - words..end]);
        }
    }

    /// Replaces each lane's table with the best one for its levels.
    fn choose(&mut self, tables: &mut [TableId; LANES]) {
        histograms(&self.levels, &tables.map(TableId::raw_bits), &mut self.histograms);
        for (table, histogram) in tables.iter_mut().zip(&self.histograms) {
            *table = histogram.best(*table).0;
        }
    }
}

/// Buffers that are reused from group to group.
#[derive(Default)]
pub(in crate::compute) struct GroupDecoder {
    levels: Vec<[i32; LANES]>,
}

impl GroupDecoder {
    /// Decodes the streams of up to [`LANES`] groups of `length` weights. Returns the levels, a group in each lane, and
    /// whether each stream is one that was made.
    pub(in crate::compute) fn decode(&mut self, streams: &[&[u8]], length: usize) -> (&[[i32; LANES]], [bool; LANES]) {
        let mut lanes = [Stream::NONE; LANES];
        let mut whole = [true; LANES];
        for ((lane, whole), bytes) in lanes.iter_mut().zip(&mut whole).zip(streams) {
            match Stream::new(bytes) {
                Some(stream) => *lane = stream,
                None => *whole = false,
            }
        }
        self.levels.resize(length, [0; LANES]);
        let ended = decode(&lanes, &mut self.levels[..length]);
        for (whole, ended) in whole.iter_mut().zip(ended) {
            *whole &= ended;
        }
        (&self.levels[..length], whole)
    }
}
