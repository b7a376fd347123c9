//! The fixed family of distributions: 256 tables of frequencies, made by integer arithmetic alone.
//!
//! The low six bits of a table's number are its spread, in sixths of an octave, the high two its shape: normal,
//! `exp(-|x|^1.5)`, Laplace, and `(1 + x^2)^-2`, which has the tails of Student's t with three degrees of freedom.
//! Spreads from `SPREADS` on code the low bits of a symbol as they are and the rest by a table below.

use std::sync::OnceLock;

/// Spreads that have a table of their own.
const SPREADS: u8 = 36;
/// Bits of the sum of all frequencies.
pub const FREQUENCY_BITS: u32 = 12;
const TOTAL: u64 = 1 << FREQUENCY_BITS;
/// The symbol that announces one outside the table.
pub(super) const ESCAPE: u8 = 128;
/// Symbols of a table are `-HALF` to `HALF - 1`, stored with `HALF` added.
pub(super) const HALF: i32 = 64;
/// Magnitudes that have a rate of their own; those above go by the bits they have.
pub(super) const MAGNITUDES: usize = 96;
/// Magnitudes over which a distribution is summed.
const SUMMED: u32 = 256;

/// A distribution's number: shape and spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableId(pub u8);

impl TableId {
    /// The number of shapes.
    pub const SHAPES: u8 = 4;

    /// Returns the table of a shape and a spread; both are cut to what there is.
    #[must_use]
    pub fn new(shape: u8, spread: u8) -> Self {
        Self(shape.min(3) << 6 | spread.min(63))
    }

    /// Returns the shape, 0 to 3.
    #[must_use]
    pub fn shape(self) -> u8 {
        self.0 >> 6
    }

    /// Returns the spread, 0 to 63.
    #[must_use]
    pub fn spread(self) -> u8 {
        self.0 & 63
    }

    /// Returns the number of low bits of a symbol that are stored as they are.
    #[must_use]
    pub fn raw_bits(self) -> u32 {
        (u32::from(self.spread()) + 6).saturating_sub(u32::from(SPREADS)) / 6
    }

    /// Returns the least and the largest spread with this many raw bits.
    pub(super) fn spreads(raw_bits: u32) -> (u8, u8) {
        let last = SPREADS - 1 + 6 * raw_bits.min(5) as u8;
        (if raw_bits == 0 { 0 } else { last - 5 }, last.min(63))
    }

    /// Returns the number of the table of the high bits of symbols, in [`Family`].
    pub(super) fn index(self) -> usize {
        let spread = self.spread() - 6 * self.raw_bits() as u8;
        usize::from(self.shape() * SPREADS + spread)
    }

    /// Returns the table of the high bits of symbols.
    pub(super) fn table(self) -> &'static Table {
        &family().tables[self.index() % TABLES]
    }
}

/// Every table.
pub(super) struct Family {
    tables: Vec<Table>,
    /// Of each slot of each table: symbol, frequency less 1 and slot in the symbol, in 8, 12 and 12 bits. A table has
    /// [`TABLE_SLOTS`] of them, those of parity 1 behind those of parity 0.
    slots: Box<[u32]>,
}

/// Slots of a table, both parities.
pub(super) const TABLE_SLOTS: usize = 2 << FREQUENCY_BITS;
const TABLES: usize = SPREADS as usize * TableId::SHAPES as usize;
/// Slots of all tables, and more so that any index can be cut to what there is by a mask.
pub(super) const SLOTS: usize = (TABLES * TABLE_SLOTS).next_power_of_two();

impl Family {
    fn new() -> Self {
        let mut family = Self { tables: Vec::with_capacity(TABLES), slots: vec![0; SLOTS].into_boxed_slice() };
        for slots in family.slots.chunks_exact_mut(TABLE_SLOTS).take(TABLES) {
            let at = family.tables.len() as u8;
            family.tables.push(Table::new(at / SPREADS, at % SPREADS, slots));
        }
        family
    }

    /// Returns all slots.
    pub(super) fn slots(&self) -> Option<&[u32; SLOTS]> {
        self.slots.first_chunk()
    }
}

/// Returns the family, which is made when it is first asked for.
pub(super) fn family() -> &'static Family {
    static FAMILY: OnceLock<Family> = OnceLock::new();
    FAMILY.get_or_init(Family::new)
}

/// Frequencies of the symbols at both parities, in the forms that coder and search want.
pub(super) struct Table {
    /// The first slot of a symbol and its frequency, in the low and the high 16 bits: of the symbols, stored as `HALF` more,
    /// and of the escape. Parity 1 begins at [`PARITY`].
    pub symbols: [u32; 2 * PARITY],
    /// 256ths of a bit that a magnitude takes; above the 64 first, by the bits of the rest.
    pub rates: [[u16; MAGNITUDES]; 2],
    /// The first magnitude that is escaped.
    pub escaped: [u32; 2],
}

/// Room for the symbols of a parity.
pub(super) const PARITY: usize = 256;

impl Table {
    fn new(shape: u8, spread: u8, slots: &mut [u32]) -> Self {
        let mut table = Self { symbols: [0; 2 * PARITY], rates: [[0; MAGNITUDES]; 2], escaped: [0; 2] };
        for (parity, slots) in slots.chunks_exact_mut(TOTAL as usize).enumerate().take(2) {
            table.fill(parity, &frequencies(shape, spread, parity), slots);
        }
        table
    }

    /// Takes over the frequencies of the magnitudes at a parity, and that of the escape, which is the last.
    fn fill(&mut self, parity: usize, frequencies: &[u16], slots: &mut [u32]) {
        let Some((&escape, kept)) = frequencies.split_last() else { return };
        self.escaped[parity] = kept.len() as u32;
        // From the middle outwards: what is most frequent begins at slot 0, where it leaves the coder's state as it is.
        let kept_symbols = kept.iter().zip(0..).flat_map(|(frequency, magnitude)| {
            let below = if parity == 0 { -magnitude } else { !magnitude };
            let symbols = if below == 0 { vec![0] } else { vec![magnitude, below] };
            symbols.into_iter().map(|symbol| ((symbol + HALF) as u32, *frequency))
        });
        let mut start = 0;
        for (symbol, frequency) in kept_symbols.chain([(u32::from(ESCAPE), escape)]) {
            let frequency = u32::from(frequency);
            self.symbols[parity * PARITY + symbol as usize] = frequency << 16 | start;
            for within in 0..frequency {
                slots[(start + within) as usize] = symbol << 24 | (frequency - 1) << 12 | within;
            }
            start += frequency;
        }
        for at in 0..MAGNITUDES {
            self.rates[parity][at] = match kept.get(at) {
                Some(&frequency) => rate(frequency),
                None => rate(escape) + 256 * escape_bits(magnitude_of(at) - kept.len() as u32) as u16,
            };
        }
    }
}

/// Returns the entry of [`Table::rates`] and of histograms for a magnitude: its own, or that of as many bits.
#[inline(always)]
pub(super) fn entry_of(magnitude: u32) -> u32 {
    const HALF: u32 = self::HALF as u32;
    if magnitude < HALF { magnitude } else { HALF + (magnitude - HALF + 1).ilog2() }
}

/// Returns a magnitude of an entry.
fn magnitude_of(entry: usize) -> u32 {
    let beyond = (entry as u32).saturating_sub(HALF as u32);
    if entry < HALF as usize { entry as u32 } else { HALF as u32 + (1 << beyond.min(20)) }
}

/// Returns the distance of a symbol from the middle: symbols of parity 1 lie half a symbol above their number.
#[inline(always)]
pub(super) fn magnitude(symbol: i32, parity: u32) -> u32 {
    if parity == 0 { symbol.unsigned_abs() } else { (symbol ^ (symbol >> 31)) as u32 }
}

/// Returns the bits that follow an escape: a sign, the number of bits of `beyond + 1`, and all but the first of those.
#[inline(always)]
pub(super) fn escape_bits(beyond: u32) -> u32 {
    6 + (beyond + 1).ilog2()
}

/// Returns the frequencies of the magnitudes 0, 1, .. that are worth a slot, and that of the escape.
fn frequencies(shape: u8, spread: u8, parity: usize) -> Vec<u16> {
    let twice = |magnitude: u32| 2 * u64::from(magnitude) + parity as u64;
    let symbols = |magnitude: usize| if magnitude == 0 && parity == 0 { 1 } else { 2 };
    let weights: Vec<u64> = (0..SUMMED).map(|magnitude| density(shape, spread, twice(magnitude))).collect();
    let mass = |from: usize| (from..weights.len()).map(|i| symbols(i) * weights[i]).sum::<u64>();
    let all = mass(0);
    let kept = weights.iter().take(HALF as usize - 1).take_while(|weight| **weight * TOTAL * 2 >= all).count();
    let escape = (mass(kept) * TOTAL / all).max(1);
    // The largest factor with which all frequencies, none of them below 1, fit.
    let scaled = |scale: u64| move |weight: &u64| ((weight * scale / all + 8) / 16).max(1);
    let sum = |scale: u64| {
        let frequencies = weights[..kept].iter().map(scaled(scale)).enumerate();
        frequencies.map(|(i, frequency)| symbols(i) * frequency).sum::<u64>() + escape
    };
    let (mut low, mut high) = (0, 32 * TOTAL);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if sum(middle) <= TOTAL { low = middle } else { high = middle }
    }
    let mut frequencies: Vec<u64> = weights[..kept].iter().map(scaled(low)).collect();
    let left = TOTAL - sum(low);
    if let Some(first) = frequencies.first_mut() {
        *first += left / symbols(0);
    }
    frequencies.push(escape + left % symbols(0));
    frequencies.into_iter().map(|frequency| frequency as u16).collect()
}

/// Returns `2^32` times the density at half of `twice`, that at 0 being 1.
fn density(shape: u8, spread: u8, twice: u64) -> u64 {
    // Twelfths of an octave that a step of the spread is worth to |x|^2, |x|^1.5, |x| and x^2.
    let octaves = u64::from(spread) * [4, 3, 2, 4][usize::from(shape)];
    let narrow = exp2_negative((octaves << 16) / 12);
    match shape {
        0 => exp2_negative((3 * twice * twice * narrow) >> 16),
        1 => exp2_negative((12 * (twice.pow(3) << 29).isqrt() * (narrow >> 4)) >> 28),
        2 => exp2_negative((6 * twice * narrow) >> 16),
        _ => {
            let inverse = (1u64 << 48) / ((1 << 16) + ((16 * twice * twice * narrow) >> 16));
            ((u128::from(inverse) * u128::from(inverse)) >> 32) as u64
        }
    }
}

/// Returns `2^32 * 2^(-x / 2^16)`.
fn exp2_negative(x: u64) -> u64 {
    if x >= 32 << 16 {
        return 0;
    }
    let mut result = 1u64 << 32;
    for (bit, root) in ROOTS.iter().enumerate() {
        if x >> (15 - bit) & 1 == 1 {
            result = (result * root) >> 32;
        }
    }
    result >> (x >> 16)
}

/// `2^32` times the square root of 1/2, its square root, and so on.
const ROOTS: [u64; 16] = {
    let (mut roots, mut root, mut i) = ([0; 16], 1u64 << 31, 0);
    while i < roots.len() {
        root = (root << 32).isqrt();
        roots[i] = root;
        i += 1;
    }
    roots
};

/// Returns the 256ths of a bit that a symbol of this frequency takes: `256 * (12 - log2(frequency))`.
fn rate(frequency: u16) -> u16 {
    let whole = frequency.ilog2();
    let (mut mantissa, mut log) = (u64::from(frequency) << (31 - whole), whole as u16);
    for _ in 0..8 {
        mantissa = (mantissa * mantissa) >> 31;
        let carry = mantissa >> 32;
        mantissa >>= carry;
        log = log << 1 | carry as u16;
    }
    256 * FREQUENCY_BITS as u16 - log
}
