//! Tests of the kernels together: tables, trellis, streams, the digest.

use super::{
    choose::{Histogram, fill_rates, first_guess, histograms},
    decode::{Stream, decode},
    encode::{MOST_WORDS, encode, state_bytes},
    family::TableId,
    trellis::{RATES, SLOPE, in_steps, trellis},
    *,
};
use crate::{kernels::dispatch::Target, testing::samples::Random};

/// Returns a stream as it is stored.
fn stream(table: TableId, state: u32, words: &[u16]) -> Vec<u8> {
    let mut bytes = vec![table.0];
    bytes.extend(&state.to_le_bytes()[..state_bytes(state)]);
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

fn write(target: Target, levels: &[[i32; LANES]], tables: &[TableId; LANES]) -> Vec<Vec<u8>> {
    let room = MOST_WORDS * levels.len() + 1;
    let mut words = vec![0; LANES * room];
    let ends = encode::on(target, levels, tables, &mut words);
    ends.iter()
        .enumerate()
        .map(|(lane, (state, count))| {
            let end = (lane + 1) * room;
            stream(tables[lane], *state, &words[end - count..end])
        })
        .collect()
}

fn read(target: Target, streams: &[Vec<u8>], length: usize) -> (Vec<[i32; LANES]>, [bool; LANES]) {
    let lanes = std::array::from_fn(|lane| Stream::new(&streams[lane]).unwrap());
    let mut levels = vec![[0; LANES]; length];
    let whole = decode::on(target, &lanes, &mut levels);
    (levels, whole)
}

/// Returns levels of a path through the trellis, of about this spread, some of them far out.
fn path(random: &mut Random, length: usize, spread: f64) -> Vec<i32> {
    let mut state = 0;
    (0..length)
        .map(|_| {
            let far = if random.bits().is_multiple_of(50) { 40.0 } else { 1.0 };
            let most = f64::from(MOST_LEVEL / 2 - 1);
            let symbol = (random.normal() * spread * far).round().clamp(-most, most) as i32;
            let level = 2 * symbol + (state & 1) as i32;
            state = next_state(state, symbol);
            level
        })
        .collect()
}

fn lanes_of(rows: &[Vec<i32>]) -> Vec<[i32; LANES]> {
    (0..rows[0].len()).map(|i| std::array::from_fn(|lane| rows[lane][i])).collect()
}

#[test]
fn every_table_sums_to_4096_and_codes_its_distribution_to_a_thirtieth_of_a_bit() {
    for id in 0..=255u8 {
        let table = TableId(id);
        if table.raw_bits() > 0 {
            continue;
        }
        for parity in 0..2usize {
            let symbols = table.table().symbols[parity * 256..][..129].iter();
            assert_eq!(symbols.map(|symbol| symbol >> 16).sum::<u32>(), 4096, "{id} {parity}");
            // The same distribution, by the C library.
            let step = f64::from(table.spread());
            let density = |symbol: i32| {
                let x = (f64::from(symbol) + parity as f64 / 2.0).abs();
                match table.shape() {
                    0 => (-x * x * 12.0 / (step / 3.0).exp2()).exp2(),
                    1 => (-x.powf(1.5) * 12.0 / (step / 4.0).exp2()).exp2(),
                    2 => (-x * 12.0 / (step / 6.0).exp2()).exp2(),
                    _ => (1.0 + x * x * 64.0 / (step / 3.0).exp2()).powi(-2),
                }
            };
            let all: f64 = (-5000..5000).map(density).sum();
            let (mut entropy, mut bits) = (0.0, 0.0);
            for symbol in -5000..5000 {
                let p = density(symbol) / all;
                let magnitude = family::magnitude(symbol, parity as u32);
                let rate = table.table().rates[parity][family::entry_of(magnitude) as usize];
                entropy -= if p > 0.0 { p * p.log2() } else { 0.0 };
                bits += p * f64::from(rate) / 256.0;
            }
            assert!(bits < entropy + 0.033, "table {id}, parity {parity}: {bits} for {entropy}");
        }
    }
}

#[test]
fn levels_of_every_spread_come_back_and_take_the_bits_that_were_promised() {
    let mut random = Random::new(3);
    for spread in [0.0, 0.05, 0.3, 1.0, 4.0, 15.0, 70.0, 400.0, 3000.0, 200_000.0] {
        for length in [0usize, 1, 2, 3, 9, 384, 4096] {
            let rows: Vec<Vec<i32>> = (0..LANES).map(|_| path(&mut random, length, spread)).collect();
            let levels = lanes_of(&if length == 0 { vec![vec![]; LANES] } else { rows });
            let sum = |lane: usize| levels.iter().map(|levels| u64::from(levels[lane].unsigned_abs())).sum();
            let mut tables: [TableId; LANES] = std::array::from_fn(|lane| first_guess(sum(lane), length));
            let mut found = vec![Histogram::EMPTY; LANES];
            histograms(&levels, &tables.map(TableId::raw_bits), &mut found);
            let mut promised = [0; LANES];
            for lane in 0..LANES {
                (tables[lane], promised[lane]) = found[lane].best(tables[lane]);
            }
            let streams = write(Target::best(), &levels, &tables);
            assert!(spread > 0.0 || streams.iter().all(|stream| stream.len() < 3), "zeros take no room");
            for target in Target::available() {
                assert_eq!(write(target, &levels, &tables), streams, "{}", target.name());
                let (back, whole) = read(target, &streams, length);
                assert!(whole.iter().all(|whole| *whole), "{spread} {length}");
                assert_eq!(back, levels, "{}, spread {spread}, length {length}", target.name());
            }
            for (stream, promised) in streams.iter().zip(promised) {
                let (bits, promised) = (8.0 * stream.len() as f64, promised as f64 / 256.0);
                // The family's byte, the state's end; rates of what is escaped and of frequencies are rounded.
                assert!(bits <= 28.0 + 1.01 * promised, "{spread} {length}: {bits}, {promised}");
            }
        }
    }
}

#[test]
fn the_trellis_finds_the_best_of_all_paths() {
    let mut random = Random::new(8);
    for spread in [4u8, 14, 22, 30, 40, 55] {
        let table = TableId::new(random.bits() as u8 % 4, spread);
        let mut rates = [0.0; LANES * RATES];
        rates.chunks_exact_mut(RATES).for_each(|rates| fill_rates(table, SLOPE, rates));
        let size = 0.5 * (f64::from(spread) / 6.0).exp2();
        let weights: Vec<[f32; LANES]> =
            (0..8).map(|_| std::array::from_fn(|_| (random.normal() * size) as f32)).collect();
        let raw_bits = [table.raw_bits() as i32; LANES];
        let mut levels = vec![[0; LANES]; 8];
        trellis(&weights, &rates, &raw_bits, &mut [[0; LANES]; 8], &mut levels);
        let rate = |level: i32| f64::from(rates[((level >> table.raw_bits()).clamp(-128, 127) + 128) as usize]);
        for lane in 0..LANES {
            let cost = |levels: &[i32]| -> f64 {
                let weights = weights.iter().map(|weights| f64::from(weights[lane]));
                levels.iter().zip(weights).map(|(n, w)| (w - f64::from(*n)).powi(2) + rate(*n)).sum()
            };
            let least = (0..256u32)
                .map(|choices| {
                    let mut state = 0;
                    let path: Vec<i32> = (0..8)
                        .map(|i| {
                            let class = (state & 1) + 2 * (choices >> i & 1);
                            let offset = f64::from(class);
                            let nearest =
                                ((f64::from(weights[i][lane]) - offset) / 4.0).round_ties_even() * 4.0 + offset;
                            state = next_state(state, nearest as i32 >> 1);
                            nearest as i32
                        })
                        .collect();
                    cost(&path)
                })
                .fold(f64::MAX, f64::min);
            let mut state = 0;
            let found: Vec<i32> = levels.iter().map(|levels| levels[lane]).collect();
            for level in &found {
                assert_eq!(*level as u32 & 1, state & 1, "spread {spread}: {found:?} leaves the trellis");
                state = next_state(state, *level >> 1);
            }
            assert!(cost(&found) <= least * 1.000_01 + 1e-4, "spread {spread}: {} above {least}", cost(&found));
        }
    }
}

#[test]
fn weights_in_steps_round_half_to_even_and_are_the_same_on_every_target() {
    let weights: Vec<f32> = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e30, -1e30, f32::MAX, 1e-45].repeat(5);
    for (step, want) in [(1.0, [-2, -2, 0, 0, 2, 2, MOST_LEVEL, -MOST_LEVEL, MOST_LEVEL, 0]), (0.0, [0; 10])] {
        for target in Target::available() {
            let (mut steps, mut levels) = ([[0.0; LANES]; 50], [[0; LANES]; 50]);
            let sum = in_steps::on(target, &weights, step, 3, &mut steps, &mut levels);
            let lane: Vec<i32> = levels.iter().map(|levels| levels[3]).collect();
            assert_eq!(lane, want.repeat(5));
            assert_eq!(sum, want.iter().map(|level| u64::from(level.unsigned_abs())).sum::<u64>() * 5);
        }
    }
}

#[test]
fn every_target_chooses_the_same_levels() {
    let mut random = Random::new(4);
    for table in [TableId::new(0, 20), TableId::new(3, 5), TableId::new(2, 45)] {
        let mut rates = [0.0; LANES * RATES];
        rates.chunks_exact_mut(RATES).for_each(|rates| fill_rates(table, SLOPE, rates));
        let weights: Vec<[f32; LANES]> =
            (0..500).map(|_| std::array::from_fn(|_| (random.heavy() * 5.0) as f32)).collect();
        let run = |target| {
            let mut levels = vec![[0; LANES]; 500];
            let raw_bits = [table.raw_bits() as i32; LANES];
            trellis::on(target, &weights, &rates, &raw_bits, &mut [[0; LANES]; 500], &mut levels);
            levels
        };
        for target in Target::available() {
            assert_eq!(run(target), run(Target::BASELINE), "{}", target.name());
        }
    }
}

#[test]
fn streams_that_were_changed_are_noticed_and_never_read_outside() {
    let mut random = Random::new(5);
    let rows: Vec<Vec<i32>> = (0..LANES).map(|i| path(&mut random, 200, 0.3 * (i as f64 + 1.0))).collect();
    let tables = std::array::from_fn(|lane| TableId::new(lane as u8 % 4, 10 + 3 * lane as u8));
    let good = write(Target::best(), &lanes_of(&rows), &tables);
    // Changed bits, cut streams, inserted bytes: a changed bit may give other weights and nothing else.
    let (mut tried, mut missed) = ([0; 3], [0; 3]);
    for change in (0..3).cycle().take(600) {
        let spoiled: Vec<Vec<u8>> = good
            .iter()
            .map(|stream| {
                let (mut stream, at) = (stream.clone(), random.bits() as usize % stream.len());
                match change {
                    0 => stream[at] ^= 1 << (random.bits() % 8),
                    1 => stream.truncate(at.max(1)),
                    _ => stream.insert(at, random.bits() as u8),
                }
                stream
            })
            .collect();
        let (levels, whole) = read(Target::best(), &spoiled, 200);
        for lane in 0..LANES {
            let same = levels.iter().zip(&rows[lane]).all(|(levels, level)| levels[lane] == *level);
            tried[change] += 1;
            missed[change] += usize::from(whole[lane] && !same);
        }
    }
    assert!(
        missed[0] * 4 < tried[0] && missed[1] * 100 < tried[1] && missed[2] * 100 < tried[2],
        "{missed:?} of {tried:?}"
    );
    assert!(Stream::new(&[]).is_none());
}

/// The digest (FNV-1a) of the streams below when this test was written, on x86-64.
const DIGEST: u64 = 0x8732_2a81_0b79_1f3d;

#[test]
fn every_target_writes_the_bytes_that_were_committed() {
    for target in Target::available() {
        let mut digest = 0xcbf2_9ce4_8422_2325u64;
        for (length, step) in [(1usize, 0.3f32), (33, 2.0), (384, 0.7), (2000, 0.1), (384, 0.002), (100, 1e-5)] {
            let mut random = Random::new(length as u64);
            let (mut steps, mut levels) = (vec![[0.0; LANES]; length], vec![[0; LANES]; length]);
            let mut tables = [TableId(0); LANES];
            for (lane, table) in tables.iter_mut().enumerate() {
                // A quotient of uniforms has heavy tails, and needs no function of the C library.
                let mut uniform = || (2.0 * random.uniform() - 1.0) as f32;
                let weights: Vec<f32> = (0..length).map(|_| uniform() / (uniform().abs() + 0.03)).collect();
                *table = first_guess(in_steps::on(target, &weights, step, lane, &mut steps, &mut levels), length);
            }
            let mut found = vec![Histogram::EMPTY; LANES];
            let mut choose = |levels: &[[i32; LANES]], tables: &mut [TableId; LANES]| {
                histograms::on(target, levels, &tables.map(TableId::raw_bits), &mut found);
                for (table, histogram) in tables.iter_mut().zip(&found) {
                    *table = histogram.best(*table).0;
                }
            };
            choose(&levels, &mut tables);
            let mut rates = [0.0; LANES * RATES];
            for (rates, table) in rates.chunks_exact_mut(RATES).zip(tables) {
                fill_rates(table, SLOPE, rates);
            }
            let raw_bits = tables.map(|table| table.raw_bits() as i32);
            trellis::on(target, &steps, &rates, &raw_bits, &mut vec![[0; LANES]; length], &mut levels);
            choose(&levels, &mut tables);
            let streams = write(target, &levels, &tables);
            assert_eq!(read(target, &streams, length), (levels, [true; LANES]), "{}", target.name());
            for byte in streams.iter().flatten() {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        assert_eq!(digest, DIGEST, "{digest:#018x}, {}", target.name());
    }
}
