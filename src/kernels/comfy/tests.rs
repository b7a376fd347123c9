//! Golden bytes of comfy-kitchen 0.2.40, every target against every other, and the error of searches.

use super::{
    float8::{E2M1, code_of_e2m1, e4m3, near_e2m1, of_e4m3},
    *,
};
use crate::{
    kernels::{dispatch::Target, widen::widen_f8_e4m3},
    testing::samples::{db, normal, rows},
    types::Comfy,
};

/// Returns the rows of the first golden matrix.
fn golden() -> [Vec<f32>; 2] {
    [0, 256].map(|start| (start..start + 256).map(|i| (((37 * i) % 101) as f32 - 50.0) / 64.0).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn rotated(row: &[f32], size: usize) -> Vec<f32> {
    let mut row = row.to_vec();
    rotate(&mut row, size);
    row
}

#[test]
fn a_rotation_is_its_own_inverse_and_that_of_comfy_kitchen() {
    let first: Vec<f32> = rotated(&golden()[0], 256).iter().take(8).map(|x| x * 1024.0).collect();
    assert_eq!(first, [-295.0, 499.0, 1091.0, -337.0, 53.0, -365.0, -581.0, 11.0]);
    let mut unit = [0.0; 16];
    unit[0] = 4.0;
    let row = rotated(&unit, 16);
    assert_eq!(row, [1., 1., 1., -1., 1., 1., 1., -1., 1., 1., 1., -1., -1., -1., -1., 1.]);
    let integers: Vec<f32> = (0..1024).map(|i| ((i * 37) % 255) as f32 - 127.0).collect();
    for size in [4, 16, 64, 256, 1024] {
        assert_eq!(rotated(&rotated(&integers, size), size), integers, "{size}");
        for target in Target::available() {
            let mut row = integers.clone();
            rotate::on(target, &mut row, size);
            assert_eq!(row, rotated(&integers, size), "{} {size}", target.name());
        }
    }
    // Runs that are too short stay.
    assert_eq!(rotated(&[1.0, 2.0, 3.0], 4), [1.0, 2.0, 3.0]);
}

#[test]
fn codes_of_rows_are_those_of_comfy_kitchen() {
    let [first, second] = golden();
    let mut codes = [0; 256];
    assert_eq!(encode_int8(&first, &mut codes).to_le_bytes(), [0x26, 0x93, 0xc9, 0x3b]);
    assert_eq!(hex(&codes[..16]), "81df3d9af856b41270cd2b89e745a200");
    for (size, start) in [(256, "e42f67e005dec901dafe5cfce7c0d22f"), (64, "ecff65aa"), (16, "2ac2fee8")] {
        let scale = encode_int8(&rotated(&first, size), &mut codes);
        assert!(hex(&codes).starts_with(start), "{size}");
        if size == 256 {
            assert_eq!(hex(&scale.to_le_bytes()), "69342a3c");
            assert_eq!(hex(&encode_int8(&rotated(&second, size), &mut codes).to_le_bytes()), "53a9243c");
        }
    }
    let mut codes = [0; 128];
    for (size, start) in [(256, "3ee6e00d0e05cf3d11fe1f1e1ff424d0"), (64, "0fb60f4c"), (16, "d2f01d3b")] {
        let scale = encode_int4(&rotated(&first, size), false, &mut codes);
        assert!(hex(&codes).starts_with(start), "{size}");
        if size == 256 {
            assert_eq!(hex(&scale.to_le_bytes()), "0000413e");
        }
    }
    assert_eq!(encode_int8(&[0.0; 4], &mut codes), 1e-30);
}

#[test]
fn codes_in_groups_are_those_of_comfy_kitchen() {
    let row = rotated(&golden()[0], 256);
    let (mut codes, mut scales, mut fits, mut integers) = ([0; 128], [0; 16], [0.0; 16], [0.0; 256]);
    let scale = encode_grouped4(&row, &Comfy::LEVELS, false, &mut fits, &mut codes, &mut scales);
    assert_eq!(hex(&codes[..16]), "c54f4882747f25c3bb63a5a3a54fbf29");
    assert_eq!(hex(&scales), "6c6965706c6a696e6e64686c6b6b6a6f");
    assert_eq!(hex(&scale.to_le_bytes()), "0b5b293c");
    decode_grouped4(&codes, &scales, 16, &Comfy::LEVELS, &mut integers);
    let bytes: Vec<u8> = integers.iter().map(|x| *x as i8 as u8).collect();
    assert_eq!(hex(&bytes[..16]), "e7305edc05dcc305dcfb5efbe7c3d030");

    let mut codes = [0; 192];
    let scale = encode_grouped6(&row, false, &mut fits, &mut codes, &mut scales);
    assert_eq!(hex(&codes[..16]), "d87d610005fae9e3bca2998f765fdea4");
    assert_eq!(hex(&scales), "46413e4945424246473c414543444247");
    assert_eq!(hex(&scale.to_le_bytes()), "ce66293c");
    decode_grouped6(&codes, &scales, 16, &mut integers);
    let bytes: Vec<u8> = integers.iter().map(|x| *x as i8 as u8).collect();
    assert_eq!(hex(&bytes[..8]), "e42e66e004ddc800");

    let scale = encode_grouped4(&[0.0; 256], &Comfy::LEVELS, false, &mut fits, &mut codes, &mut scales);
    assert_eq!((scale, scales[0]), (1e-8, 0x38));
    decode_grouped4(&codes, &scales, 16, &Comfy::LEVELS, &mut integers);
    assert_eq!(integers, [0.0; 256]);
}

#[test]
fn small_floats_are_those_of_comfy_kitchen() {
    let [first, second] = golden();
    let most = first.iter().chain(&second).fold(0f32, |most, x| most.max(x.abs()));
    let mut codes = [0; 256];
    assert_eq!(hex(&(most / 448.0).to_le_bytes()), "4992e43a");
    encode_fp8(&first, most / 448.0, &mut codes);
    assert_eq!(hex(&codes[..16]), "feef75fbdd7af8687cf372fdeb77fa00");

    let (mut codes, mut scales) = ([0; 128], [0; 16]);
    assert_eq!(hex(&(most / 2688.0).to_le_bytes()), "86619839");
    encode_nvfp4(&first, most / 2688.0, false, &mut codes, &mut scales);
    assert_eq!(hex(&codes[..16]), "fb5e96e27c4fa5e06d27c4fa6e16d37b");
    assert_eq!(hex(&scales), "7e7e7d7e7e7d7e7d7e7d7e7d7e7d7e7d");

    let (mut codes, mut scales) = ([0; 256], [0; 8]);
    encode_mxfp8(&first, &mut codes, &mut scales);
    assert_eq!(hex(&codes[..16]), "fced74fadc78f7667bf270fcea76f900");
    assert_eq!(scales, [0x76; 8]);
    encode_mxfp8(&[0.0; 32], &mut codes, &mut scales);
    assert_eq!((codes[0], scales[0]), (0, 0));
}

#[test]
fn every_small_float_comes_back_and_ties_go_to_even() {
    let all: Vec<u8> = (0..=255).collect();
    let mut values = [0.0; 256];
    widen_f8_e4m3(&all, &mut values);
    for (code, value) in all.iter().zip(values) {
        if value.is_nan() {
            continue;
        }
        assert_eq!(of_e4m3(*code).to_bits(), value.to_bits(), "{code:#x}");
        assert_eq!(e4m3(value), *code, "{value}");
    }
    for (x, code) in [(2f32.powi(-10), 0), (1.0625, 0x38), (1.1875, 0x3a), (465.0, 0x7e), (-1e30, 0xfe)] {
        assert_eq!(e4m3(x), code, "{x}");
    }
    for pair in (0..0x7eu8).map(|code| [code, code + 1]) {
        let [low, high] = pair.map(of_e4m3);
        let middle = f32::midpoint(low, high);
        assert_eq!(e4m3(middle), pair[usize::from(pair[0] % 2 == 1)]);
        assert_eq!((e4m3(middle.next_down()), e4m3(middle.next_up())), (pair[0], pair[1]));
    }
    for (code, value) in E2M1.iter().take(8).enumerate() {
        assert_eq!((near_e2m1(*value), code_of_e2m1(*value)), (*value, code as u8));
    }
    for (x, near) in [(0.25, 0.0), (0.75, 1.0), (1.25, 1.0), (1.75, 2.0), (2.5, 2.0), (3.5, 4.0), (5.0, 4.0)] {
        assert_eq!(near_e2m1(x), near, "{x}");
    }
}

/// The bytes of a row in every layout: what targets must agree on.
fn encoded(target: Option<Target>, row: &[f32], search: bool) -> Vec<u8> {
    let length = row.len() / 64 * 64;
    let row = &row[..length];
    let most = row.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
    let (mut codes, mut scales, mut fits) = (vec![0; length], vec![0; length / 16], vec![0.0; length / 16]);
    let mut out = Vec::new();
    macro_rules! run {
        ($kernel:ident($($argument:expr),*)) => {
            match target {
                Some(target) => $kernel::on(target, $($argument),*),
                None => $kernel($($argument),*),
            }
        };
    }
    let mut keep = |scale: f32, codes: &mut Vec<u8>, scales: &mut Vec<u8>| {
        out.extend_from_slice(&scale.to_le_bytes());
        out.append(&mut codes.clone());
        out.append(&mut scales.clone());
        codes.fill(0);
        scales.fill(0);
    };
    let scale = run!(encode_int8(row, &mut codes));
    keep(scale, &mut codes, &mut scales);
    let scale = run!(encode_int4(row, search, &mut codes));
    keep(scale, &mut codes, &mut scales);
    let scale = run!(encode_grouped4(row, &Comfy::LEVELS, search, &mut fits, &mut codes, &mut scales));
    keep(scale, &mut codes, &mut scales);
    let scale = run!(encode_grouped6(row, search, &mut fits, &mut codes, &mut scales));
    keep(scale, &mut codes, &mut scales);
    run!(encode_fp8(row, most / 448.0, &mut codes));
    keep(0.0, &mut codes, &mut scales);
    run!(encode_nvfp4(row, most / 2688.0, search, &mut codes, &mut scales));
    keep(0.0, &mut codes, &mut scales);
    run!(encode_mxfp8(row, &mut codes, &mut scales));
    keep(0.0, &mut codes, &mut scales);
    out
}

#[test]
fn every_target_gives_the_same_bytes() {
    for row in rows().filter(|row| row.len() >= 64 && row.iter().all(|x| x.abs() < 1e30)).step_by(3) {
        for search in [false, true] {
            let one = encoded(None, &row, search);
            for target in Target::available() {
                assert!(encoded(Some(target), &row, search) == one, "{} {}", target.name(), row.len());
            }
        }
    }
}

#[test]
fn a_search_loses_less_than_the_rule_of_comfy_kitchen() {
    let row = normal(1 << 14, 7);
    let most = row.iter().fold(0f32, |most, x| most.max(x.abs()));
    let (mut codes, mut scales) = (vec![0; row.len()], vec![0; row.len() / 16]);
    let (mut fits, mut back) = (vec![0.0; row.len() / 16], vec![0.0; row.len()]);
    let mut nvfp4 = |search| {
        encode_nvfp4(&row, most / 2688.0, search, &mut codes, &mut scales);
        decode_nvfp4(&codes, &scales, most / 2688.0, &mut back);
        db(&row, &back)
    };
    let (rule, search) = (nvfp4(false), nvfp4(true));
    assert!(search > rule + 1.2, "nvfp4: {rule} {search}");
    let mut grouped = |bits: u8, search| {
        let scale = if bits == 4 {
            let scale = encode_grouped4(&row, &Comfy::LEVELS, search, &mut fits, &mut codes, &mut scales);
            decode_grouped4(&codes, &scales, 16, &Comfy::LEVELS, &mut back);
            scale
        } else {
            let scale = encode_grouped6(&row, search, &mut fits, &mut codes, &mut scales);
            decode_grouped6(&codes, &scales, 16, &mut back);
            scale
        };
        multiply(&mut back, scale);
        db(&row, &back)
    };
    for (bits, more) in [(4, 0.2), (6, 0.0)] {
        let (rule, search) = (grouped(bits, false), grouped(bits, true));
        assert!(search > rule + more, "{bits} bits: {rule} {search}");
    }
    let mut int4 = |search| {
        let scale = encode_int4(&row, search, &mut codes);
        decode_int4(&codes, &mut back);
        multiply(&mut back, scale);
        db(&row, &back)
    };
    let (rule, search) = (int4(false), int4(true));
    assert!(search > rule + 0.5, "4 bits a row: {rule} {search}");
}
