//! Weights to blocks.

use super::{
    super::{
        dispatch::kernel,
        narrow::half,
        params::{max_code, reciprocal, round_clamped},
        search::tile::{Buffer, LANES, Tile},
    },
    BlockType, affine, legacy,
    pack::{self, SuperBlock},
    schedule, symmetric,
};

/// Encodes whole blocks of 32, one after the other.
#[inline(always)]
fn each<const BYTES: usize>(weights: &[f32], out: &mut [u8], encode: impl Fn(&[f32; 32], &mut [u8; BYTES])) {
    for (weights, out) in weights.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        encode(weights, out);
    }
}

/// Codes of a sub-block as the search counted them.
#[inline(always)]
fn codes<const BITS: usize>(weights: &[f32], inverse: f32, z: f32, codes: &mut [u8]) {
    for (w, code) in weights.iter().zip(codes) {
        *code = round_clamped(w * inverse + z, max_code::<BITS>());
    }
}

/// How the types of 256 are searched. Methods, as a closure would not be compiled for the target.
trait Scheme {
    /// Elements of a sub-block.
    const SUB: usize;
    type Step;
    type Found;
    /// The best parameters of a tile of sixteen sub-blocks.
    fn search(tile: &Tile, steps: &[Self::Step]) -> Self::Found;
    /// The super-block whose sub-blocks begin at `lane`.
    fn block(found: &Self::Found, lane: usize, weights: &[f32; 256]) -> SuperBlock;
}

/// With minimums. `SCALES` is the largest code of a scale, `TOGETHER` the sub-blocks of a super-block.
struct Affine<const BITS: usize, const SCALES: usize, const TOGETHER: usize>;

impl<const BITS: usize, const SCALES: usize, const TOGETHER: usize> Scheme for Affine<BITS, SCALES, TOGETHER> {
    const SUB: usize = 256 / TOGETHER;
    type Step = affine::Step;
    type Found = affine::Candidate;

    #[inline(always)]
    fn search(tile: &Tile, steps: &[affine::Step]) -> affine::Candidate {
        affine::search::<BITS, SCALES, TOGETHER>(tile, steps)
    }

    #[inline(always)]
    fn block(found: &affine::Candidate, lane: usize, weights: &[f32; 256]) -> SuperBlock {
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
    type Found = symmetric::Candidate;

    #[inline(always)]
    fn search(tile: &Tile, steps: &[symmetric::Step]) -> symmetric::Candidate {
        symmetric::search::<BITS, SCALES>(tile, steps)
    }

    #[inline(always)]
    fn block(found: &symmetric::Candidate, lane: usize, weights: &[f32; 256]) -> SuperBlock {
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

/// Encodes whole blocks of 256, sixteen sub-blocks at a time.
#[inline(always)]
fn searched<S: Scheme, const BYTES: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    steps: &[S::Step],
    pack: impl Fn(&SuperBlock, &mut [u8; BYTES]),
) {
    let mut buffer = Buffer::EMPTY;
    let blocks = weights.as_chunks::<256>().0;
    let per_tile = S::SUB * LANES / 256;
    let mut start = 0;
    for (blocks, out) in blocks.chunks(per_tile).zip(out.as_chunks_mut::<BYTES>().0.chunks_mut(per_tile)) {
        let weights = blocks.as_flattened();
        let importance = importance.and_then(|importance| importance.get(start..start + weights.len()));
        start += weights.len();
        let found = S::search(&Tile::of_groups(weights, importance, S::SUB, &mut buffer), steps);
        for (i, (weights, out)) in blocks.iter().zip(out).enumerate() {
            pack(&S::block(&found, i * 256 / S::SUB, weights), out);
        }
    }
}

kernel! {
    /// Encodes weights to blocks, [`BlockType::bytes`] for every [`BlockType::elements`] of them; what is no whole block
    /// is left alone.
    ///
    /// The types of 32 elements give the bits of llama.cpp's `NumPy` reference (`gguf.quants.quantize`). Those of 256 are
    /// searched for the least squared error, each error times its weight in `importance` where given: numbers of at least
    /// 0, one per weight. The types of 32 take no importance.
    ///
    /// No weight may be larger than 65504, the largest f16.
    ///
    /// ```
    /// use arrow_quant::kernels::gguf::{BlockType, decode_blocks, encode_blocks};
    ///
    /// let weights: Vec<f32> = (0..256).map(|i| (i as f32).sin()).collect();
    /// let (mut blocks, mut back) = ([0; 144], [0.0; 256]);
    /// encode_blocks(BlockType::Q4_K, &weights, None, &mut blocks);
    /// decode_blocks(BlockType::Q4_K, &blocks, &mut back);
    /// assert!(weights.iter().zip(&back).all(|(a, b)| (a - b).abs() < 0.1));
    /// ```
    pub fn encode_blocks(kind: BlockType, weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match kind {
            BlockType::Q4_0 => each(weights, out, legacy::q4_0),
            BlockType::Q4_1 => each(weights, out, legacy::q4_1),
            BlockType::Q5_0 => each(weights, out, legacy::q5_0),
            BlockType::Q5_1 => each(weights, out, legacy::q5_1),
            BlockType::Q8_0 => each(weights, out, legacy::q8_0),
            BlockType::Q2_K => searched::<Affine<2, 15, 16>, 84>(weights, importance, out, schedule::Q2_K, pack::q2_k),
            BlockType::Q3_K => searched::<Symmetric<3, 32>, 110>(weights, importance, out, schedule::Q3_K, pack::q3_k),
            BlockType::Q4_K => searched::<Affine<4, 63, 8>, 144>(weights, importance, out, schedule::Q4_K, pack::q4_k),
            BlockType::Q5_K => searched::<Affine<5, 63, 8>, 176>(weights, importance, out, schedule::Q5_K, pack::q5_k),
            BlockType::Q6_K => searched::<Symmetric<6, 128>, 210>(weights, importance, out, schedule::Q6_K, pack::q6_k),
        }
    }
}
