//! Rows that the tests of the kernels share: every length up to 300, and data of every shape.

/// A small generator of uniform numbers: tests need the same rows everywhere, not good randomness.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Standard normal.
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Student's t with three degrees of freedom: the heavy tail of trained weights.
    pub(crate) fn heavy(&mut self) -> f64 {
        let square: f64 = (0..3).map(|_| self.normal().powi(2)).sum();
        self.normal() / (square / 3.0).sqrt()
    }
}

pub(crate) fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.normal() as f32).collect()
}

pub(crate) fn heavy(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.heavy() as f32).collect()
}

/// Returns the signal-to-noise ratio of a row in dB.
pub(crate) fn db(row: &[f32], back: &[f32]) -> f64 {
    let noise: f64 = row.iter().zip(back).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let power: f64 = row.iter().map(|a| f64::from(*a).powi(2)).sum();
    10.0 * (power / noise).log10()
}

/// Returns rows of every length from 0 to 300 and a few longer ones, with data that is normal, heavy-tailed,
/// zero, constant, of one sign, sparse, denormal, or as large as f32 goes.
pub(crate) fn rows() -> impl Iterator<Item = Vec<f32>> {
    (0..=300).chain([511, 512, 1000, 1024, 4096]).flat_map(|n| {
        let seed = n as u64 + 1;
        let all = n < 70 || n % 16 < 2;
        (0..if all { 12 } else { 3 }).map(move |kind| row(kind, n, seed))
    })
}

fn row(kind: u32, n: usize, seed: u64) -> Vec<f32> {
    let heavy = heavy(n, seed);
    match kind {
        0 => normal(n, seed),
        1 => heavy,
        2 => heavy.iter().map(|x| x.abs() + 0.5).collect(),
        3 => heavy.iter().map(|x| -x.abs()).collect(),
        4 => vec![0.0; n],
        5 => vec![-0.37; n],
        6 => heavy.iter().map(|x| f32::from_bits((x.abs() * 1000.0) as u32)).collect(),
        7 => heavy.iter().map(|x| (x * f32::MAX / 8.0).clamp(-f32::MAX, f32::MAX)).collect(),
        8 => heavy.iter().enumerate().map(|(i, x)| if i % 7 == 0 { *x } else { 0.0 }).collect(),
        9 => heavy.iter().enumerate().map(|(i, x)| x * 2f32.powi((i / 32) as i32 * 3 % 90 - 45)).collect(),
        10 => heavy.iter().enumerate().map(|(i, x)| if i % 37 == 0 { x.abs() } else { -0.0 }).collect(),
        _ => heavy.iter().map(|x| x * 1e-38).collect(),
    }
}
