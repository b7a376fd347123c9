//! Codes of 2 to 6 and of 8 bits to bytes and back, least significant bit first.
//!
//! A row starts on a byte; unused bits of its last byte are zero. Eight codes fill whole bytes at every width; each such cell is
//! packed by shifting in one register.

use crate::kernels::dispatch::kernel;

/// Codes in a cell: what fills whole bytes at every width.
const CELL: usize = 8;

/// Returns the low `count` bits of each field of `width` bits.
const fn fields(count: usize, width: usize) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < 64 {
        mask |= (u64::MAX >> (64 - count)) << at;
        at += width;
    }
    mask
}

/// Joins each two fields of `WIDTH` bits whose low `BITS` bits are used. Above four bits a code, what moves would meet what it leaves.
#[inline(always)]
const fn join<const BITS: usize, const WIDTH: usize>(x: u64) -> u64 {
    let moved = x >> (WIDTH - BITS);
    if 2 * BITS <= WIDTH {
        return (x | moved) & const { fields(2 * BITS, 2 * WIDTH) };
    }
    x & const { fields(BITS, 2 * WIDTH) } | moved & const { fields(BITS, 2 * WIDTH) << BITS }
}

/// Returns the reverse of [`join`].
#[inline(always)]
const fn part<const BITS: usize, const WIDTH: usize>(x: u64) -> u64 {
    let moved = x << (WIDTH - BITS);
    if 2 * BITS <= WIDTH {
        return (x | moved) & const { fields(BITS, WIDTH) };
    }
    x & const { fields(BITS, 2 * WIDTH) } | moved & const { fields(BITS, 2 * WIDTH) << WIDTH }
}

/// Packs the eight codes of `cell`, one in each byte, into the low `8 * BITS` bits.
#[inline(always)]
const fn pack_cell<const BITS: usize>(cell: u64) -> u64 {
    match BITS {
        2 => join::<8, 32>(join::<4, 16>(join::<2, 8>(cell))),
        3 => join::<12, 32>(join::<6, 16>(join::<3, 8>(cell))),
        4 => join::<16, 32>(join::<8, 16>(join::<4, 8>(cell))),
        5 => join::<20, 32>(join::<10, 16>(join::<5, 8>(cell))),
        6 => join::<24, 32>(join::<12, 16>(join::<6, 8>(cell))),
        _ => cell,
    }
}

/// Returns the reverse of [`pack_cell`].
#[inline(always)]
const fn unpack_cell<const BITS: usize>(packed: u64) -> u64 {
    match BITS {
        2 => part::<2, 8>(part::<4, 16>(part::<8, 32>(packed))),
        3 => part::<3, 8>(part::<6, 16>(part::<12, 32>(packed))),
        4 => part::<4, 8>(part::<8, 16>(part::<16, 32>(packed))),
        5 => part::<5, 8>(part::<10, 16>(part::<20, 32>(packed))),
        6 => part::<6, 8>(part::<12, 16>(part::<24, 32>(packed))),
        _ => packed,
    }
}

#[inline(always)]
pub(in crate::kernels) fn pack_codes<const BITS: usize>(codes: &[u8], packed: &mut [u8]) {
    if BITS == 8 {
        for (out, code) in packed.iter_mut().zip(codes) {
            *out = *code;
        }
        return;
    }
    let (cells, rest) = codes.as_chunks::<CELL>();
    let (bytes, tail) = packed.split_at_mut(packed.len().min(cells.len() * BITS));
    for (out, cell) in bytes.chunks_exact_mut(BITS).zip(cells) {
        out.copy_from_slice(&pack_cell::<BITS>(u64::from_le_bytes(*cell)).to_le_bytes()[..BITS]);
    }
    let mut cell = [0; CELL];
    cell[..rest.len()].copy_from_slice(rest);
    for (out, byte) in tail.iter_mut().zip(pack_cell::<BITS>(u64::from_le_bytes(cell)).to_le_bytes()) {
        *out = byte;
    }
}

#[inline(always)]
pub(in crate::kernels) fn unpack_codes<const BITS: usize>(packed: &[u8], codes: &mut [u8]) {
    if BITS == 8 {
        for (out, code) in codes.iter_mut().zip(packed) {
            *out = *code;
        }
        return;
    }
    let (cells, rest) = codes.as_chunks_mut::<CELL>();
    let (bytes, tail) = packed.split_at(packed.len().min(cells.len() * BITS));
    for (cell, bytes) in cells.iter_mut().zip(bytes.chunks_exact(BITS)) {
        let mut word = [0; CELL];
        word[..BITS].copy_from_slice(bytes);
        *cell = unpack_cell::<BITS>(u64::from_le_bytes(word)).to_le_bytes();
    }
    let mut word = [0; CELL];
    for (byte, packed) in word.iter_mut().zip(tail) {
        *byte = *packed;
    }
    for (out, code) in rest.iter_mut().zip(unpack_cell::<BITS>(u64::from_le_bytes(word)).to_le_bytes()) {
        *out = code;
    }
}

kernel! {
    /// Packs codes, one a byte and below `2^bits`, into `ceil(codes.len() * bits / 8)` bytes.
    ///
    /// `bits` is 2 to 6; every other value is taken as 8.
    ///
    /// ```
    /// let mut packed = [0; 4];
    /// arrow_quant::kernels::pack::pack(&[0, 1, 7, 8, 9, 10, 14, 15], 4, &mut packed);
    /// assert_eq!(packed, [0x10, 0x87, 0xa9, 0xfe]);
    /// ```
    pub fn pack(codes: &[u8], bits: u8, packed: &mut [u8]) {
        match bits {
            2 => pack_codes::<2>(codes, packed),
            3 => pack_codes::<3>(codes, packed),
            4 => pack_codes::<4>(codes, packed),
            5 => pack_codes::<5>(codes, packed),
            6 => pack_codes::<6>(codes, packed),
            _ => pack_codes::<8>(codes, packed),
        }
    }
}

kernel! {
    /// Unpacks `codes.len()` codes: the reverse of [`pack`](fn@pack).
    ///
    /// ```
    /// let mut codes = [0; 5];
    /// arrow_quant::kernels::pack::unpack(&[0xe4, 0x02], 2, &mut codes);
    /// assert_eq!(codes, [0, 1, 2, 3, 2]);
    /// ```
    pub fn unpack(packed: &[u8], bits: u8, codes: &mut [u8]) {
        match bits {
            2 => unpack_codes::<2>(packed, codes),
            3 => unpack_codes::<3>(packed, codes),
            4 => unpack_codes::<4>(packed, codes),
            5 => unpack_codes::<5>(packed, codes),
            6 => unpack_codes::<6>(packed, codes),
            _ => unpack_codes::<8>(packed, codes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::dispatch::Target, testing::samples::Random};

    /// Packs bit by bit, as the format is defined.
    fn naive(codes: &[u8], bits: usize) -> Vec<u8> {
        let mut packed = vec![0; (codes.len() * bits).div_ceil(8)];
        for (i, code) in codes.iter().enumerate() {
            for bit in 0..bits {
                packed[(i * bits + bit) / 8] |= (code >> bit & 1) << ((i * bits + bit) % 8);
            }
        }
        packed
    }

    #[test]
    fn every_target_packs_every_length_as_defined_and_back() {
        let mut random = Random::new(7);
        for bits in [2u8, 3, 4, 5, 6, 8] {
            for n in (0..=300).chain([1000, 4096]) {
                let codes: Vec<u8> = (0..n).map(|_| (random.bits() >> 32) as u8 & (0xff >> (8 - bits))).collect();
                let want = naive(&codes, bits.into());
                for target in Target::available() {
                    let mut packed = vec![0xff; want.len()];
                    pack::on(target, &codes, bits, &mut packed);
                    assert_eq!(packed, want, "{bits} bits, {n} codes, {}", target.name());
                    let mut back = vec![0xff; n];
                    unpack::on(target, &packed, bits, &mut back);
                    assert_eq!(back, codes, "{bits} bits, {n} codes, {}", target.name());
                }
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let packed = |codes: &[u8], bits: u8| {
            let mut out = vec![0; (codes.len() * bits as usize).div_ceil(8)];
            pack(codes, bits, &mut out);
            out
        };
        assert_eq!(packed(&[0, 1, 7, 8, 9, 10, 14, 15], 4), [0x10, 0x87, 0xa9, 0xfe]);
        assert_eq!(packed(&[0, 1, 2, 3, 0, 1, 2, 3], 2), [0xe4, 0xe4]);
        assert_eq!(packed(&[0, 1, 2, 3, 4, 5, 6, 7], 3), [0x88, 0xc6, 0xfa]);
        // Codes 2 and 5 straddle bytes: bits 6 to 8 and 15 to 17.
        assert_eq!(packed(&[0, 0, 7, 0, 0, 7, 0, 0, 5], 3), [0xc0, 0x81, 0x03, 0x05]);
        assert_eq!(packed(&[7, 7, 7], 3), [0xff, 0x01]);
        assert_eq!(packed(&[0, 255, 1], 8), [0, 255, 1]);
    }

    #[test]
    fn short_buffers_do_not_panic() {
        for bits in [2, 3, 4, 8] {
            for n in 0..40 {
                let mut packed = vec![0; 3];
                pack(&vec![1; n], bits, &mut packed);
                unpack(&packed, bits, &mut vec![0; n]);
            }
        }
    }
}
