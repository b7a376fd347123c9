//! Weights to blocks.

use super::{
    super::{
        dispatch::kernel,
        narrow::half,
        params::{max_code, reciprocal, round_clamped},
        search::tile::{Buffer, NARROW, Tile, WIDE},
    },
    affine, legacy,
    pack::{self, SuperBlock},
    schedule, symmetric,
};
use crate::types::Block;

/// Codes of a sub-block as the search counted them.
#[inline(always)]
fn codes<const BITS: usize>(weights: &[f32], inverse: f32, z: f32, codes: &mut [u8]) {
    for (w, code) in weights.iter().zip(codes) {
        *code = round_clamped(w * inverse + z, max_code::<BITS>());
    }
}

/// The search for the types of 256. Methods, as a closure would not be compiled for the target.
trait Scheme {
    /// Elements of a sub-block.
    const SUB: usize;
    type Step;
    type Found<const L: usize>;
    /// Returns the best parameters of a tile of sub-blocks.
    fn search<const L: usize>(tile: &Tile<L>, steps: &[Self::Step]) -> Self::Found<L>;
    /// Returns the super-block whose sub-blocks begin at `lane`.
    fn block<const L: usize>(found: &Self::Found<L>, lane: usize, weights: &[f32; 256]) -> SuperBlock;
}

/// With minimums. `SCALES` is the largest code of a scale, `TOGETHER` the sub-blocks of a super-block.
struct Affine<const BITS: usize, const SCALES: usize, const TOGETHER: usize>;

impl<const BITS: usize, const SCALES: usize, const TOGETHER: usize> Scheme for Affine<BITS, SCALES, TOGETHER> {
    const SUB: usize = 256 / TOGETHER;
    type Step = affine::Step;
    type Found<const L: usize> = affine::Candidate<L>;

    #[inline(always)]
    fn search<const L: usize>(tile: &Tile<L>, steps: &[affine::Step]) -> affine::Candidate<L> {
        affine::search::<BITS, SCALES, TOGETHER, L>(tile, steps)
    }

    #[inline(always)]
    fn block<const L: usize>(found: &affine::Candidate<L>, lane: usize, weights: &[f32; 256]) -> SuperBlock {
        let (d, dmin) = (found.d[lane], found.dmin[lane]);
        let mut block = SuperBlock { d: half(d), dmin: half(dmin), scales: [0; 16], mins: [0; 16], codes: [0; 256] };
        for i in 0..TOGETHER {
            let (scale, min) = (found.scale[lane + i], found.min[lane + i]);
            (block.scales[i], block.mins[i]) = (scale as u8, min as u8);
            let inverse = reciprocal(d * scale);
            let range = i * Self::SUB..(i + 1) * Self::SUB;
            codes::<BITS>(&weights[range.clone()], inverse, (dmin * min) * inverse, &mut block.codes[range]);
        }
        block
    }
}

/// Without minimums, sixteen sub-blocks. `SCALES` is the negative of the least code of a scale.
struct Symmetric<const BITS: usize, const SCALES: usize>;

impl<const BITS: usize, const SCALES: usize> Scheme for Symmetric<BITS, SCALES> {
    const SUB: usize = 16;
    type Step = symmetric::Step;
    type Found<const L: usize> = symmetric::Candidate<L>;

    #[inline(always)]
    fn search<const L: usize>(tile: &Tile<L>, steps: &[symmetric::Step]) -> symmetric::Candidate<L> {
        symmetric::search::<BITS, SCALES, L>(tile, steps)
    }

    #[inline(always)]
    fn block<const L: usize>(found: &symmetric::Candidate<L>, lane: usize, weights: &[f32; 256]) -> SuperBlock {
        let d = found.d[lane];
        let mut block = SuperBlock { d: half(d), dmin: 0, scales: [0; 16], mins: [0; 16], codes: [0; 256] };
        for i in 0..16 {
            let scale = found.scale[lane + i];
            block.scales[i] = scale as i8 as u8;
            let inverse = symmetric::signed_reciprocal(d * scale);
            let range = i * 16..(i + 1) * 16;
            codes::<BITS>(&weights[range.clone()], inverse, (1u32 << (BITS - 1)) as f32, &mut block.codes[range]);
        }
        block
    }
}

/// The bytes of a super-block. Apart from [`Scheme`], and no closure, for the reason given there.
trait Pack<const BYTES: usize> {
    fn pack(block: &SuperBlock, out: &mut [u8; BYTES]);
}

macro_rules! packs {
    ($($scheme:ty, $bytes:literal: $pack:ident;)*) => {
        $(impl Pack<$bytes> for $scheme {
            #[inline(always)]
            fn pack(block: &SuperBlock, out: &mut [u8; $bytes]) {
                pack::$pack(block, out);
            }
        })*
    };
}
type Q2K = Affine<2, 15, 16>;
type Q3K = Symmetric<3, 32>;
type Q4K = Affine<4, 63, 8>;
type Q5K = Affine<5, 63, 8>;
type Q6K = Symmetric<6, 128>;
packs! { Q2K, 84: q2_k; Q3K, 110: q3_k; Q4K, 144: q4_k; Q5K, 176: q5_k; Q6K, 210: q6_k; }

/// Encodes the blocks of 256 of a tile.
#[inline(always)]
fn encode_tile<S: Scheme + Pack<BYTES>, const BYTES: usize, const L: usize>(
    blocks: &[[f32; 256]],
    importance: Option<&[f32]>,
    out: &mut [[u8; BYTES]],
    steps: &[S::Step],
    buffer: &mut Buffer,
) {
    let found = S::search(&Tile::<L>::of_groups(blocks.as_flattened(), importance, S::SUB, buffer), steps);
    for (i, (weights, out)) in blocks.iter().zip(out).enumerate() {
        S::pack(&S::block(&found, i * 256 / S::SUB, weights), out);
    }
}

/// Encodes whole blocks of 256, a tile of sub-blocks at a time.
#[inline(always)]
fn searched<S: Scheme + Pack<BYTES>, const BYTES: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    steps: &[S::Step],
) {
    let mut buffer = Buffer::EMPTY;
    let blocks = weights.as_chunks::<256>().0;
    let per_tile = S::SUB * WIDE / 256;
    let mut start = 0;
    for (blocks, out) in blocks.chunks(per_tile).zip(out.as_chunks_mut::<BYTES>().0.chunks_mut(per_tile)) {
        let weights = blocks.len() * 256;
        let importance = importance.and_then(|importance| importance.get(start..start + weights));
        start += weights;
        if weights > S::SUB * NARROW {
            encode_tile::<S, BYTES, WIDE>(blocks, importance, out, steps, &mut buffer);
        } else {
            encode_tile::<S, BYTES, NARROW>(blocks, importance, out, steps, &mut buffer);
        }
    }
}

kernel! {
    /// Encodes weights to blocks, [`Block::bytes`] for every [`Block::weights`] of them; what is no whole block
    /// is left alone.
    ///
    /// The types of 32 elements give the bits of llama.cpp's `NumPy` reference (`gguf.quants.quantize`). Those of 256 are
    /// searched for the least squared error, each error times its weight in `importance` where given: numbers of at least
    /// 0, one per weight. The types of 32 take no importance.
    ///
    /// No weight may be larger than 65504, the largest f16.
    ///
    /// ```
    /// use arrow_quant::{kernels::gguf::{decode_blocks, encode_blocks}, types::Block};
    ///
    /// let weights: Vec<f32> = (0..256).map(|i| (i as f32).sin()).collect();
    /// let (mut blocks, mut back) = ([0; 144], [0.0; 256]);
    /// encode_blocks(Block::Q4_K, &weights, None, &mut blocks);
    /// decode_blocks(Block::Q4_K, &blocks, &mut back);
    /// assert!(weights.iter().zip(&back).all(|(a, b)| (a - b).abs() < 0.1));
    /// ```
    pub fn encode_blocks(kind: Block, weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match kind {
            Block::Q4_0 => each!(legacy::q4_0, weights, out),
            Block::Q4_1 => each!(legacy::q4_1, weights, out),
            Block::Q5_0 => each!(legacy::q5_0, weights, out),
            Block::Q5_1 => each!(legacy::q5_1, weights, out),
            Block::Q8_0 => each!(legacy::q8_0, weights, out),
            Block::Q2_K => searched::<Q2K, 84>(weights, importance, out, schedule::Q2_K),
            Block::Q3_K => searched::<Q3K, 110>(weights, importance, out, schedule::Q3_K),
            Block::Q4_K => searched::<Q4K, 144>(weights, importance, out, schedule::Q4_K),
            Block::Q5_K => searched::<Q5K, 176>(weights, importance, out, schedule::Q5_K),
            Block::Q6_K => searched::<Q6K, 210>(weights, importance, out, schedule::Q6_K),
        }
    }
}
