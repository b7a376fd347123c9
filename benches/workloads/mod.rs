//! The models that the benchmarks quantize: real safetensors files, made before the clock starts and kept between runs.
//!
//! Weights are N(0, 0.02) times a factor per input channel, lognormal with sigma 0.3, in bf16.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use half::bf16;
use rayon::prelude::*;

/// The name and the shape of a tensor.
type Tensor = (String, Vec<usize>);

/// A model by its tensors, in the order of its files.
pub struct Workload {
    pub name: &'static str,
    pub tensors: Vec<(String, Vec<usize>)>,
    /// Files that it is cut into.
    pub shards: usize,
}

/// The names that [`workload`] knows.
pub const NAMES: [&str; 8] = ["100M", "600M", "7B", "dream-7b", "dream-block", "par-100M", "par-600M", "mem-svb"];

/// Returns the workload called `name`.
pub fn workload(name: &str) -> Option<Workload> {
    let (name, tensors, shards) = match name {
        "100M" => ("100M", llama(50_000, 768, 3072, 12), 1),
        "600M" => ("600M", llama(50_000, 1024, 4096, 24), 1),
        "7B" => ("7B", llama(50_000, 4096, 11_008, 32), 3),
        "dream-7b" => ("dream-7b", dream(28), 4),
        "dream-block" => ("dream-block", dream_layer(0), 1),
        "par-100M" => ("par-100M", repeated(50, 512, 4096), 1),
        "par-600M" => ("par-600M", repeated(100, 1024, 6144), 1),
        "mem-svb" => ("mem-svb", repeated(50, 1024, 4096), 1),
        _ => return None,
    };
    Some(Workload { name, tensors, shards })
}

fn matrix(name: String, rows: usize, length: usize) -> (String, Vec<usize>) {
    (name, vec![rows, length])
}

/// Embedding, `layers` transformer layers, head.
fn llama(vocabulary: usize, hidden: usize, inner: usize, layers: usize) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![matrix("model.embed_tokens.weight".into(), vocabulary, hidden)];
    for layer in 0..layers {
        for module in ["q", "k", "v", "o"] {
            tensors.push(matrix(format!("model.layers.{layer}.self_attn.{module}_proj.weight"), hidden, hidden));
        }
        for module in ["gate", "up"] {
            tensors.push(matrix(format!("model.layers.{layer}.mlp.{module}_proj.weight"), inner, hidden));
        }
        tensors.push(matrix(format!("model.layers.{layer}.mlp.down_proj.weight"), hidden, inner));
    }
    tensors.push(matrix("lm_head.weight".into(), vocabulary, hidden));
    tensors
}

/// One layer of Dream-7B with its two norms.
fn dream_layer(layer: usize) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (3584, 18_944);
    let name = |module: &str| format!("model.layers.{layer}.{module}.weight");
    vec![
        (name("input_layernorm"), vec![hidden]),
        matrix(name("self_attn.q_proj"), hidden, hidden),
        matrix(name("self_attn.k_proj"), 512, hidden),
        matrix(name("self_attn.v_proj"), 512, hidden),
        matrix(name("self_attn.o_proj"), hidden, hidden),
        (name("post_attention_layernorm"), vec![hidden]),
        matrix(name("mlp.gate_proj"), inner, hidden),
        matrix(name("mlp.up_proj"), inner, hidden),
        matrix(name("mlp.down_proj"), hidden, inner),
    ]
}

fn dream(layers: usize) -> Vec<(String, Vec<usize>)> {
    let embed = matrix("model.embed_tokens.weight".into(), 152_064, 3584);
    let head = matrix("lm_head.weight".into(), 152_064, 3584);
    let norm = ("model.norm.weight".into(), vec![3584]);
    std::iter::once(embed).chain((0..layers).flat_map(dream_layer)).chain([norm, head]).collect()
}

fn repeated(count: usize, rows: usize, length: usize) -> Vec<(String, Vec<usize>)> {
    (0..count).map(|layer| matrix(format!("layers.{layer}.weight"), rows, length)).collect()
}

impl Workload {
    /// Elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// Returns the folder of the model below `folder`, made when it is not there yet.
    pub fn make(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let place = folder.join(self.name);
        if place.join("complete").exists() {
            return Ok(place);
        }
        fs::create_dir_all(&place)?;
        let per_shard = self.parameters().div_ceil(self.shards as u64);
        let mut files: Vec<Vec<(usize, &Tensor)>> = vec![Vec::new()];
        let mut filled = 0;
        for (seed, tensor) in self.tensors.iter().enumerate() {
            if filled >= per_shard && files.len() < self.shards {
                files.push(Vec::new());
                filled = 0;
            }
            filled += tensor.1.iter().product::<usize>() as u64;
            if let Some(last) = files.last_mut() {
                last.push((seed, tensor));
            }
        }
        let mut map = serde_json::Map::new();
        for (i, tensors) in files.iter().enumerate() {
            let name = if files.len() == 1 {
                "model.safetensors".to_string()
            } else {
                format!("model-{:05}-of-{:05}.safetensors", i + 1, files.len())
            };
            write_file(&place.join(&name), tensors)?;
            map.extend(tensors.iter().map(|(_, (tensor, _))| (tensor.clone(), name.clone().into())));
        }
        if files.len() > 1 {
            let index = serde_json::json!({
                "metadata": { "total_size": 2 * self.parameters() },
                "weight_map": map,
            });
            fs::write(place.join("model.safetensors.index.json"), index.to_string())?;
        }
        if self.name.starts_with("dream") {
            // Says what gives the input of each layer.
            fs::write(place.join("config.json"), r#"{"model_type": "Dream"}"#)?;
        }
        fs::write(place.join("complete"), "")?;
        Ok(place)
    }
}

fn write_file(path: &Path, tensors: &[(usize, &Tensor)]) -> std::io::Result<()> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (_, (name, shape)) in tensors {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        header
            .insert(name.clone(), serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, end] }));
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let normal = NormalTable::new();
    for (seed, (_, shape)) in tensors {
        let length = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().product::<usize>() / length;
        let factors = normal.factors(length, *seed as u64);
        // A few thousand rows at a time: the largest tensor is a gigabyte.
        for start in (0..rows).step_by(2048) {
            let block: Vec<Vec<u8>> = (start..rows.min(start + 2048))
                .into_par_iter()
                .map(|row| normal.row(&factors, (*seed as u64) << 32 | row as u64))
                .collect();
            for row in block {
                file.write_all(&row)?;
            }
        }
    }
    file.flush()
}

/// 65,536 quantiles of the normal distribution: drawing one is a table look-up.
pub struct NormalTable(Vec<f32>);

impl NormalTable {
    pub fn new() -> Self {
        let count = 1 << 16;
        Self((0..count).map(|i| quantile((f64::from(i) + 0.5) / f64::from(count)) as f32).collect())
    }

    /// Returns `length` numbers N(0, 1).
    pub fn draw(&self, length: usize, seed: u64) -> impl Iterator<Item = f32> {
        let mut random = SplitMix(seed);
        let mut left = 0;
        let mut bits = 0;
        (0..length).map(move |_| {
            if left == 0 {
                (bits, left) = (random.next(), 4);
            }
            let index = bits & 0xFFFF;
            bits >>= 16;
            left -= 1;
            self.0[index as usize]
        })
    }

    /// One lognormal factor per input channel, times the weights' 0.02.
    fn factors(&self, length: usize, seed: u64) -> Vec<f32> {
        self.draw(length, seed ^ 0xFACE).map(|z| 0.02 * (0.3 * z).exp()).collect()
    }

    fn row(&self, factors: &[f32], seed: u64) -> Vec<u8> {
        let weights = self.draw(factors.len(), seed).zip(factors).map(|(z, factor)| bf16::from_f32(z * factor));
        weights.flat_map(bf16::to_le_bytes).collect()
    }
}

struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Returns the quantile function of N(0, 1), by bisection of the distribution function: it runs once per table entry.
fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if distribution(middle) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Returns the distribution function of N(0, 1), by the series of its integral (Marsaglia 2004,
/// doi:10.18637/jss.v011.i04).
fn distribution(x: f64) -> f64 {
    let (mut sum, mut term, mut i) = (x, x, 1.0);
    loop {
        i += 2.0;
        term *= x * x / i;
        let next = sum + term;
        if next == sum {
            break;
        }
        sum = next;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}
