//! Levels to streams: range ANS from the last weight to the first, a group in each lane.

use super::{
    FIRST_STATE, LANES,
    family::{ESCAPE, FREQUENCY_BITS, HALF, PARITY, Table, TableId, escape_bits, magnitude},
};
use crate::kernels::dispatch::kernel;

/// Words of a stream for each weight, at most: 12 bits, 26 after an escape and 5 as they are.
pub const MOST_WORDS: usize = 3;

/// A coder that writes towards the front of its words.
struct Coder<'a> {
    state: u32,
    words: &'a mut [u16],
    /// The first word that is written.
    at: usize,
    table: &'static Table,
    raw_bits: u32,
}

impl<'a> Coder<'a> {
    fn new(table: TableId, words: &'a mut [u16]) -> Self {
        Self { state: FIRST_STATE, at: words.len(), words, table: table.table(), raw_bits: table.raw_bits() }
    }

    #[inline(always)]
    fn renormalize(&mut self, full: bool) {
        // A word is always written and counts where the state is full: a branch would be guessed wrong too often.
        let at = self.at.wrapping_sub(1);
        if let Some(word) = self.words.get_mut(at) {
            *word = self.state as u16;
        }
        self.state = if full { self.state >> 16 } else { self.state };
        self.at = if full { at } else { self.at };
    }

    #[inline(always)]
    fn put(&mut self, symbol: u32) {
        let (start, frequency) = (symbol & 0xffff, (symbol >> 16).max(1));
        self.renormalize(u64::from(self.state) >= u64::from(frequency) << (32 - FREQUENCY_BITS));
        let quotient = self.state / frequency;
        self.state = (quotient << FREQUENCY_BITS) + (self.state - quotient * frequency) + start;
    }

    /// Writes the low bits of `value`, at most 16.
    #[inline(always)]
    fn put_raw(&mut self, value: u32, bits: u32) {
        self.renormalize(u64::from(self.state) >= 1 << (32 - bits));
        self.state = self.state << bits | value & ((1 << bits) - 1);
    }

    /// Writes a level that has raw bits or is outside the table.
    fn put_rare(&mut self, level: i32) {
        let parity = if self.raw_bits == 0 { level as u32 & 1 } else { 1 };
        self.put_raw((level >> 1) as u32, self.raw_bits);
        let symbol = level >> (1 + self.raw_bits);
        let (magnitude, row) = (magnitude(symbol, parity), parity as usize * PARITY);
        if magnitude < self.table.escaped[parity as usize] {
            return self.put(self.table.symbols[row + (symbol + HALF) as usize % PARITY]);
        }
        let beyond = magnitude - self.table.escaped[parity as usize];
        let more = escape_bits(beyond) - 6;
        // The decoder meets these the other way round.
        self.put_raw((beyond + 1) >> 12, more.saturating_sub(12));
        self.put_raw(beyond + 1, more.min(12));
        self.put_raw(more << 1 | u32::from(symbol < 0), 6);
        self.put(self.table.symbols[row + usize::from(ESCAPE)]);
    }
}

kernel! {
    /// Writes the stream of each lane to the end of its words, which begin at `lane * words.len() / LANES` and are
    /// [`MOST_WORDS`] for each weight and 1 more. Returns the coder's last state and the number of words of each lane.
    pub fn encode(levels: &[[i32; LANES]], tables: &[TableId; LANES], words: &mut [u16]) -> [(u32, usize); LANES] {
        let each = words.len() / LANES;
        let mut places = words.chunks_exact_mut(each.max(1));
        let mut coders = tables.map(|table| Coder::new(table, places.next().unwrap_or_default()));
        let raw = coders.iter().any(|coder| coder.raw_bits > 0);
        let escaped: [[u32; LANES]; 2] = [0, 1].map(|parity| coders.each_ref().map(|coder| coder.table.escaped[parity]));
        for levels in levels.iter().rev() {
            let (mut at, mut rare) = ([0; LANES], 0);
            for i in 0..LANES {
                let (parity, symbol) = (levels[i] as u32 & 1, levels[i] >> 1);
                let limit = if parity == 0 { escaped[0][i] } else { escaped[1][i] };
                rare |= u32::from(magnitude(symbol, parity) >= limit);
                at[i] = (parity * PARITY as u32).wrapping_add((symbol + HALF) as u32);
            }
            if raw || rare != 0 {
                for (coder, level) in coders.iter_mut().zip(levels) {
                    coder.put_rare(*level);
                }
            } else {
                for (coder, at) in coders.iter_mut().zip(at) {
                    coder.put(coder.table.symbols[at as usize % (2 * PARITY)]);
                }
            }
        }
        coders.map(|coder| (coder.state, coder.words.len() - coder.at))
    }
}

/// Returns the bytes of the coder's last state in a stream: as few as hold it where no words follow, 3 or 4 otherwise.
#[must_use]
pub fn state_bytes(state: u32) -> usize {
    4 - state.leading_zeros() as usize / 8
}
