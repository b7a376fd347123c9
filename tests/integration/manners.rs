//! Streams that are full or closed, and names that a terminal would obey.

use std::process::Command;

use safetensors::Dtype;

use crate::{
    cli::{PROGRAM, Place, fail, succeed},
    model::{f32_bytes, noise, small, write},
};

#[test]
fn full_and_closed_streams_end_in_an_exit_code() {
    let place = Place::new();
    small(&place.path("model.safetensors"));
    for (arguments, code) in [
        ("inspect nowhere 2>/dev/full", 1),
        ("inspect nowhere 2>&-", 1),
        ("--bitz 2>/dev/full", 2),
        ("2>/dev/full", 2),
        ("--help >/dev/full", 1),
        ("inspect model.safetensors >/dev/full", 1),
        ("recipes quantize >/dev/full", 1),
        ("sql 'SELECT 1' >/dev/full", 1),
        ("sql 'SELECT 1' >&- 2>&-", 0),
        ("quantize model.safetensors --output full 2>/dev/full", 0),
        ("quantize model.safetensors --output closed 2>&- >&-", 0),
        ("inspect model.safetensors | true; exit ${PIPESTATUS[0]}", 0),
    ] {
        let script = format!("'{PROGRAM}' {arguments}");
        let output = Command::new("bash").args(["-c", &script]).current_dir(place.path(".")).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
        assert!(stderr.lines().count() <= 1 && !stderr.contains("panicked"), "{arguments}: {stderr}");
    }
}

/// Everything but the end of a line is shown, not obeyed.
fn is_shown(text: &str) -> bool {
    !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}')
}

#[test]
fn names_of_any_length_are_shown_and_never_obeyed() {
    let place = Place::new();
    let (odd, long) = ("0.\u{1b}[2J\t\u{202e}b.weight", format!("1.{}.weight", "n".repeat(70_000)));
    let model = |to: &str, values: &[f32]| {
        let tensor = |name: &'static str, values: &[f32]| (name, Dtype::F32, vec![32, 64], f32_bytes(values));
        let long = (long.as_str(), Dtype::F32, vec![32, 64], f32_bytes(&noise(2048, 2)));
        write(&place.path(to), &[tensor(odd, values), long]);
        place.text(to)
    };
    let (good, out) = (model("m.safetensors", &noise(2048, 1)), place.text("out"));
    let table = format!("layers={good}");
    for arguments in [
        &["inspect", &good][..],
        &["quantize", &good, "--dry-run"],
        &["quantize", &good, "--output", &out, "--report"],
        &["inspect", &out],
        &["compare", &good, &out],
        &["sql", "SELECT name, count(*) FROM layers GROUP BY name", "--table", &table],
    ] {
        let text = succeed(arguments);
        assert!(is_shown(&text) && text.contains(r"0.\u{1b}[2J\t\u{202e}b"), "{arguments:?}: {text}");
    }
    let mut values = noise(2048, 1);
    values[70] = f32::NAN;
    let bad = model("bad.safetensors", &values);
    let error = fail(1, &["quantize", &bad, "--output", &place.text("none")]);
    assert!(is_shown(&error), "{error}");
    assert!(
        error.contains(r"bad.safetensors: tensor '0.\u{1b}[2J\t\u{202e}b.weight': row 1, element 6 is NaN"),
        "{error}"
    );
}
