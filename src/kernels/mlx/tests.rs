//! Golden bytes of mlx 0.32.4 on the CPU, every target against every other, and the error of the search.

use super::*;
use crate::{
    kernels::dispatch::Target,
    testing::samples::{db, normal, rows},
    types::Float,
};

const WIDTHS: [u8; 6] = [2, 3, 4, 5, 6, 8];

/// Returns the row that the golden bytes are of.
fn golden() -> Vec<f32> {
    (0..256).map(|i| (((37 * i) % 101) as f32 - 50.0) / 64.0).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn integers_are_those_of_mlx() {
    let row = golden();
    for (bits, start, scale) in [
        (2, "dfb6dcb62db72dc76dcb6ddb72dbb2dc", "0000c8be0000c83e"),
        (3, "afce78f05e9df150bd3ae3a13a63c67b", "000048be0000483e"),
        (4, "afe4387db1f54a8ec2065b9fd3286ca0", "0000c8bd0000c83d"),
        (5, "9fa21e8b76c2ae3f0f8724b750959766", "000048bd0000483d"),
        (6, "3f1ae9a23273445bf9e6838348ac09eb", "0000c8bc0000c83c"),
        (8, "ffa143e68829cd6e0fb354f89a3bdf80", "0000c8bb4fecc43b"),
    ] {
        let (mut scales, mut biases, mut codes) = ([0.0; 4], [0.0; 4], vec![0; 32 * usize::from(bits)]);
        range(&row, bits, 64, &mut scales, &mut biases);
        encode_codes(&row, bits, 64, &scales, &biases, &mut codes);
        assert_eq!(hex(&codes[..16]), start, "{bits}");
        let stored: Vec<u8> = scales[..2].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!((hex(&stored), &biases[..2]), (scale.to_owned(), &[0.78125, -0.78125][..]), "{bits}");
    }
    // A group of one value, and of zeros.
    let (mut scales, mut biases) = ([0.0; 2], [1.0; 2]);
    range(&[[0.0; 32], [0.5; 32]].concat(), 4, 32, &mut scales, &mut biases);
    assert_eq!((scales, biases), ([-1e-7, -1e-7], [0.0, 0.5]));
}

#[test]
fn small_floats_are_those_of_mlx() {
    let row = golden();
    let (mut codes, mut scales) = ([0; 128], [0; 16]);
    encode_e2m1(&row, 32, false, &mut codes, &mut scales);
    assert_eq!((hex(&codes[..16]), &scales[..8]), ("adc3401ca5d2390cb4512a9dc4402ba5".to_owned(), &[0x7d; 8][..]));
    encode_e2m1(&row, 16, false, &mut codes, &mut scales);
    assert_eq!((hex(&codes[..16]), &scales[..8]), ("bfe5692ec7f45a0ed6724cafe6613db7".to_owned(), &[0x20; 8][..]));
    let mut codes = [0; 256];
    encode_e4m3(&row, &mut codes, &mut scales);
    assert_eq!((hex(&codes[..16]), &scales[..8]), ("fced74fadc78f7667bf270fcea76f900".to_owned(), &[0x76; 8][..]));
    // Of two that are as near, the one towards 0, which has no sign.
    let ties = [6.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.25, -0.75, -1.25, -1.75, -2.5, -3.5, -5.0, 0.0];
    let (mut codes, mut scales) = ([0; 8], [0]);
    encode_e2m1(&ties, 16, false, &mut codes, &mut scales);
    assert_eq!((codes, scales), ([0x07, 0x21, 0x43, 0x65, 0x90, 0xba, 0xdc, 0x0e], [0x38]));
    for (most, scale) in [(0.0, 127), (6.0, 127), (6.000_001, 128), (3.0, 126), (1e-44, 0), (3e38, 253)] {
        let (mut row, mut codes, mut scales) = ([0.0; 32], [0; 16], [0]);
        row[7] = most;
        encode_e2m1(&row, 32, false, &mut codes, &mut scales);
        assert_eq!(scales, [scale], "{most}");
    }
    let mut row = [0.0; 64];
    decode_e2m1(&[0x22; 32], &[0, 255], 32, &mut row);
    assert_eq!((row[0], row[32]), (2f32.powi(-127), f32::INFINITY));
    decode_e2m1(&[0x22; 32], &[0x38, 0x7f, 0xb8, 0], 16, &mut row);
    assert_eq!((row[0], row[16].is_nan(), row[32], row[48]), (1.0, true, -1.0, 0.0));
    decode_e4m3(&[0x7e, 0xff, 0x01], &[127], &mut row);
    assert_eq!(row[0], 1.0, "a block that is not whole stays");
}

/// The bytes of a row in every layout: what targets must agree on.
fn encoded(target: Option<Target>, row: &[f32]) -> Vec<u8> {
    let row = &row[..row.len() / 128 * 128];
    let importance: Vec<f32> = (0..row.len()).map(|i| if i % 5 == 0 { 1.0 } else { 0.1 }).collect();
    let mut out = Vec::new();
    macro_rules! run {
        ($kernel:ident($($argument:expr),*)) => {
            match target {
                Some(target) => $kernel::on(target, $($argument),*),
                None => $kernel($($argument),*),
            }
        };
    }
    for bits in WIDTHS {
        for (group_size, float, importance) in
            [(32, Float::BF16, None), (64, Float::F16, Some(&importance[..])), (128, Float::F32, None)]
        {
            let groups = row.len() / group_size;
            for search_too in [false, true] {
                let (mut scales, mut biases) = (vec![0.0; groups], vec![0.0; groups]);
                let (mut codes, mut back) = (vec![0; row.len() / 8 * usize::from(bits)], vec![0.0; row.len()]);
                if search_too {
                    run!(search(row, importance, bits, group_size, (float, 1.0), &mut scales, &mut biases));
                } else {
                    run!(range(row, bits, group_size, &mut scales, &mut biases));
                }
                run!(encode_codes(row, bits, group_size, &scales, &biases, &mut codes));
                run!(multiply_codes(&codes, bits, group_size, &scales, &mut back));
                run!(add_biases(&mut back, group_size, &biases));
                out.append(&mut codes);
                out.extend([scales, biases, back].concat().iter().flat_map(|x| x.to_bits().to_le_bytes()));
            }
        }
    }
    for (block, search_too) in [(16, false), (16, true), (32, false), (32, true)] {
        let (mut codes, mut scales) = (vec![0; row.len() / 2], vec![0; row.len() / block]);
        let mut back = vec![0.0; row.len()];
        run!(encode_e2m1(row, block as u32, search_too, &mut codes, &mut scales));
        run!(decode_e2m1(&codes, &scales, block as u32, &mut back));
        out.append(&mut codes);
        out.extend(back.iter().flat_map(|x| x.to_bits().to_le_bytes()));
    }
    let (mut codes, mut scales, mut back) = (vec![0; row.len()], vec![0; row.len() / 32], vec![0.0; row.len()]);
    run!(encode_e4m3(row, &mut codes, &mut scales));
    run!(decode_e4m3(&codes, &scales, &mut back));
    out.append(&mut codes);
    out.extend(back.iter().flat_map(|x| x.to_bits().to_le_bytes()));
    out
}

#[test]
fn every_target_gives_the_same_bytes() {
    for row in rows().filter(|row| row.len() >= 128 && row.iter().all(|x| x.abs() < 1e9)).step_by(5) {
        let one = encoded(None, &row);
        for target in Target::available() {
            assert!(encoded(Some(target), &row) == one, "{} {}", target.name(), row.len());
        }
    }
}

#[test]
fn the_search_loses_less_than_the_rule_of_mlx() {
    let row = normal(1 << 14, 7);
    let mut back = vec![0.0; row.len()];
    for (bits, more) in WIDTHS.into_iter().zip([1.6, 1.1, 0.9, 0.8, 0.6, 0.2]) {
        let (mut scales, mut biases) = (vec![0.0; row.len() / 64], vec![0.0; row.len() / 64]);
        let mut codes = vec![0; row.len() / 8 * usize::from(bits)];
        let [rule, found] = [false, true].map(|search_too| {
            if search_too {
                search(&row, None, bits, 64, (Float::F16, 1.0), &mut scales, &mut biases);
            } else {
                range(&row, bits, 64, &mut scales, &mut biases);
            }
            encode_codes(&row, bits, 64, &scales, &biases, &mut codes);
            multiply_codes(&codes, bits, 64, &scales, &mut back);
            add_biases(&mut back, 64, &biases);
            db(&row, &back)
        });
        assert!(found > rule + more, "{bits} bits: {rule} {found}");
    }
    for (block, more) in [(16, 1.2), (32, 0.2)] {
        let (mut codes, mut scales) = (vec![0; row.len() / 2], vec![0; row.len() / block as usize]);
        let [rule, found] = [false, true].map(|search_too| {
            encode_e2m1(&row, block, search_too, &mut codes, &mut scales);
            decode_e2m1(&codes, &scales, block, &mut back);
            db(&row, &back)
        });
        assert!(found > rule + more, "blocks of {block}: {rule} {found}");
    }
}

#[test]
fn groups_that_are_not_moderate_or_alike_lose_no_more() {
    let normal = normal(64, 3);
    for (offset, size) in [(0.0, 1.0), (1.0, 1e-3), (-100.0, 0.1), (0.0, 0.0), (3.0, 0.0)] {
        let row: Vec<f32> = normal.iter().map(|x| offset + size * x).collect();
        for bits in WIDTHS {
            let (mut scales, mut biases, mut codes) = ([0.0; 1], [0.0; 1], vec![0; 8 * usize::from(bits)]);
            let mut back = vec![0.0; 64];
            let mut error = |search_too: bool| {
                if search_too {
                    search(&row, None, bits, 64, (Float::F32, 1.0), &mut scales, &mut biases);
                } else {
                    range(&row, bits, 64, &mut scales, &mut biases);
                }
                encode_codes(&row, bits, 64, &scales, &biases, &mut codes);
                multiply_codes(&codes, bits, 64, &scales, &mut back);
                add_biases(&mut back, 64, &biases);
                row.iter().zip(&back).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
            };
            let (rule, found) = (error(false), error(true));
            assert!(found <= rule * 1.001, "{offset} {size} {bits}: {rule} {found}");
        }
    }
}
