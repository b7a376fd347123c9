//! Streams to levels, a group in each lane.

use super::{
    FIRST_STATE, LANES,
    family::{ESCAPE, FREQUENCY_BITS, HALF, SLOTS, TABLE_SLOTS, TableId, family},
    next_state,
};
use crate::kernels::dispatch::kernel;

/// The stream of a group, split into its parts.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    table: TableId,
    state: u32,
    words: &'a [[u8; 2]],
}

impl<'a> Stream<'a> {
    /// A stream that decodes to levels of no meaning, for lanes that have no group.
    pub const NONE: Self = Self { table: TableId(0), state: FIRST_STATE, words: &[] };

    /// Splits a stream: a byte for the table, the coder's state, words. `None` where there is no table.
    ///
    /// Without words the state is all that follows; with words it takes 3 bytes or 4, so that their number is whole.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (table, rest) = bytes.split_first()?;
        let state_bytes = if rest.len() < 3 { rest.len() } else { 4 - rest.len() % 2 };
        let (state, words) = rest.split_at(state_bytes);
        let state = state.iter().rev().fold(0, |state, byte| state << 8 | u32::from(*byte));
        Some(Self { table: TableId(*table), state, words: words.as_chunks::<2>().0 })
    }
}

/// Takes the next word where the state is short of one. Few streams are at their end, so that only that test is a branch.
#[inline(always)]
fn renormalize(state: &mut u32, at: &mut usize, words: &[[u8; 2]]) {
    if let Some(word) = words.get(*at) {
        let short = *state < 1 << 16;
        let longer = *state << 16 | u32::from(u16::from_le_bytes(*word));
        *state = if short { longer } else { *state };
        *at += usize::from(short);
    }
}

/// The end of a stream that is being decoded.
struct Rest<'s, 'a> {
    state: &'s mut u32,
    at: &'s mut usize,
    words: &'a [[u8; 2]],
}

impl Rest<'_, '_> {
    fn raw(&mut self, bits: u32) -> u32 {
        let value = *self.state & ((1 << bits) - 1);
        *self.state >>= bits;
        renormalize(self.state, self.at, self.words);
        value
    }

    /// Returns the symbol that follows an escape; magnitudes from `least` on are escaped.
    fn escaped(&mut self, parity: u32, least: u32) -> i32 {
        let head = self.raw(6);
        // A stream that was made has no more than 20.
        let more = (head >> 1).min(20);
        let low = self.raw(more.min(12));
        let beyond = (1 << more | self.raw(more.saturating_sub(12)) << 12 | low) - 1;
        let magnitude = (beyond + least) as i32;
        match (head & 1, parity) {
            (0, _) => magnitude,
            (_, 0) => -magnitude,
            _ => !magnitude,
        }
    }
}

kernel! {
    /// Decodes each stream to the levels of a lane. Returns true for each lane whose stream ended as one that was made does.
    pub fn decode(streams: &[Stream; LANES], levels: &mut [[i32; LANES]]) -> [bool; LANES] {
        let Some(slots) = family().slots() else { return [false; LANES] };
        let tables = streams.map(|stream| stream.table.table());
        let raw_bits = streams.map(|stream| stream.table.raw_bits());
        let raw = raw_bits.iter().any(|bits| *bits > 0);
        let first = streams.map(|stream| (stream.table.index() * TABLE_SLOTS) as u32);
        // With raw bits both parities go by the table of parity 1.
        let fixed = raw_bits.map(|bits| u32::from(bits > 0));
        let mut states = streams.map(|stream| stream.state);
        let (mut paths, mut ats) = ([0u32; LANES], [0usize; LANES]);
        for levels in levels {
            let mut at = [0; LANES];
            for i in 0..LANES {
                let parity = paths[i] & 1 | fixed[i];
                at[i] = first[i] + (parity << FREQUENCY_BITS | states[i] & ((1 << FREQUENCY_BITS) - 1));
            }
            let mut entries = [0; LANES];
            for i in 0..LANES {
                entries[i] = slots[at[i] as usize % SLOTS];
            }
            let (mut symbols, mut escapes) = ([0; LANES], 0);
            for i in 0..LANES {
                let entry = entries[i];
                states[i] = ((entry >> 12 & 0xfff) + 1).wrapping_mul(states[i] >> FREQUENCY_BITS) + (entry & 0xfff);
                symbols[i] = (entry >> 24) as i32 - HALF;
                escapes |= u32::from(entry >> 24 == u32::from(ESCAPE));
            }
            for i in 0..LANES {
                renormalize(&mut states[i], &mut ats[i], streams[i].words);
            }
            if raw || escapes != 0 {
                for i in 0..LANES {
                    let mut rest = Rest { state: &mut states[i], at: &mut ats[i], words: streams[i].words };
                    if symbols[i] == i32::from(ESCAPE) - HALF {
                        let parity = paths[i] & 1 | fixed[i];
                        symbols[i] = rest.escaped(parity, tables[i].escaped[parity as usize % 2]);
                    }
                    symbols[i] = symbols[i] << raw_bits[i] | rest.raw(raw_bits[i]) as i32;
                }
            }
            for i in 0..LANES {
                levels[i] = 2 * symbols[i] + (paths[i] & 1) as i32;
                paths[i] = next_state(paths[i], symbols[i]);
            }
        }
        std::array::from_fn(|i| states[i] == FIRST_STATE && ats[i] == streams[i].words.len())
    }
}
