//! Codes of variable length: a trellis of four states chooses levels, and range ANS writes them in as many bits as they need.
//!
//! A group of weights is one stream of bytes that decodes alone. A level is a whole number `n`, its weight `n` times the step.
//!
//! **Trellis** (Ungerboeck's code of four states, as in trellis-coded quantization: Marcellin and Fischer 1990; with entropy
//! coding: Fischer and Wang 1992). Bit 0 of the state is the parity of the next level, so that the levels at hand are two
//! steps apart; the other half of the levels is at hand where the path through the states pays for it. What is coded is the
//! *symbol* `m = floor(n / 2)`.
//!
//! **Tables.** A group names its distribution of symbols by one byte: the shape in the high two bits, the spread in the low
//! six. [`family`] makes every table from that byte by integer arithmetic, so that no table is stored.
//!
//! **Coder** (range ANS, Duda 2013): a state of 32 bits, frequencies that sum to 4,096, words of 16 bits. The state begins at
//! 165 and must end there. It fills up before the first word is written, so that a stream pays 8 bits for its end and not 16.
//!
//! Groups are independent: [`LANES`] groups of the same length are encoded or decoded side by side, one in each lane.

pub mod choose;
pub mod decode;
pub mod encode;
pub mod family;
#[cfg(test)]
mod tests;
pub mod trellis;

/// Groups that are encoded or decoded side by side.
pub const LANES: usize = 16;

/// The state of a coder before the last weight of a group. A decoder that does not end there was given a damaged stream: one
/// that was cut, that has another table, or whose words were moved. A changed bit may pass as another weight, as in codes of a
/// fixed width; files have digests.
pub const FIRST_STATE: u32 = 0xa5;

/// The largest magnitude of a level that a stream can hold.
pub const MOST_LEVEL: i32 = 1 << 20;

/// The largest number of weights in a group: their stream takes less than 2^16 bytes.
pub const MOST_GROUP: usize = 1 << 13;

/// Returns the state after `state` where `symbol` was coded: a shift register of two bits with one tap.
#[inline(always)]
pub(super) fn next_state(state: u32, symbol: i32) -> u32 {
    ((state >> 1) ^ (symbol as u32 & 1)) | ((state & 1) << 1)
}
