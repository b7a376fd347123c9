//! GGUF from outside: the same bytes for any threads, read by every command, no misfit in silence.

use std::{fs, path::Path};

use arrow_quant::storage::gguf::header::{Element, Header};
use safetensors::Dtype;

use crate::{
    cli::{Place, contents, fail, succeed},
    model::{f32_bytes, noise, small, write},
};

/// Rows of 512, of 96, and of 50 that divide into no blocks.
fn model() -> (Place, String) {
    let place = Place::new();
    let matrix = |rows: usize, length: usize, seed| f32_bytes(&noise(rows * length, seed));
    write(
        &place.path("m.safetensors"),
        &[
            ("double_blocks.0.img_attn.proj.weight", Dtype::F32, vec![40, 512], matrix(40, 512, 1)),
            ("double_blocks.0.img_mlp.0.weight", Dtype::F32, vec![64, 512], matrix(64, 512, 2)),
            ("double_blocks.0.odd.weight", Dtype::F32, vec![16, 96], matrix(16, 96, 3)),
            ("double_blocks.0.rest.weight", Dtype::F32, vec![8, 50], matrix(8, 50, 4)),
            ("double_blocks.0.norm.scale", Dtype::F32, vec![512], matrix(1, 512, 5)),
        ],
    );
    let model = place.text("m.safetensors");
    (place, model)
}

/// The names of the tensors' types.
fn kinds(file: &Path) -> Vec<(String, &'static str)> {
    let bytes = fs::read(file).unwrap();
    let header = Header::parse(&bytes, file).unwrap();
    header.entries.into_iter().map(|entry| (entry.name, Element::name(entry.element))).collect()
}

#[test]
fn any_threads_give_the_same_bytes_and_what_was_written_is_carried_on() {
    let (place, model) = model();
    let run = |source: &str, out: &str, more: &[&str]| {
        let out = place.text(out);
        succeed(&[&["quantize", source, "--output", &out, "--format", "gguf"], more].concat());
        contents(Path::new(&out)).remove(Path::new("model.gguf")).unwrap()
    };
    let one = run(&model, "one", &["--threads", "1", "--gguf-type-for", "mlp=Q6_K"]);
    assert_eq!(one, run(&model, "two", &["--threads", "2", "--gguf-type-for", "mlp=Q6_K"]));
    assert_eq!(one, run(&model, "loaded", &["--batch", "--gguf-type-for", "mlp=Q6_K"]));
    // Read and written as it stands: not a bit changes.
    assert_eq!(one, run(&place.text("one"), "again", &["--exclude", "."]));
    let compared = succeed(&["compare", &place.text("one"), &place.text("again")]);
    assert_eq!(compared.matches("identical").count(), 5, "{compared}");
}

#[test]
fn types_follow_the_options_and_misfits_are_said() {
    let (place, model) = model();
    let out = place.text("out");
    let run = |more: &[&str]| {
        succeed(
            &[&["quantize", &model, "--output", &out, "--format", "gguf", "--overwrite", "--report"], more].concat(),
        )
    };
    let kinds = || kinds(&place.path("out/model.gguf")).into_iter().map(|(_, kind)| kind).collect::<Vec<_>>();
    for (bits, kind) in [("2", "Q2_K"), ("3", "Q3_K"), ("4", "Q4_K"), ("8", "Q8_0")] {
        run(&["--bits", bits]);
        assert!(kinds().contains(&kind), "{bits}: {:?}", kinds());
    }
    let report = run(&["--gguf-type", "Q6_K"]);
    assert!(report.contains("Q8_0 instead of Q6_K: rows of 96"), "{report}");
    assert!(report.contains("kept: rows of 50 do not divide into blocks of 256"), "{report}");
    run(&["--gguf-type", "Q6_K", "--misfit", "keep"]);
    assert_eq!(kinds().iter().filter(|kind| **kind == "F32").count(), 3);
    let arguments = ["quantize", &model, "--output", &out, "--format", "gguf", "--overwrite", "--misfit", "error"];
    let error = fail(1, &arguments);
    assert!(error.contains("tensor 'double_blocks.0.odd.weight': rows of 96 do not divide"), "{error}");
    for (rule, expected) in [
        ("mlp", "'mlp' is not of the form REGEX=VALUE"),
        ("mlp=Q9", "unknown GGUF type 'Q9'; expected one of F32, F16, BF16, Q4_0"),
        ("mlp=F64", "unknown GGUF type 'F64'"),
        ("(=Q4_K", "is not a regular expression"),
        ("nowhere=Q4_K", "matches no quantized tensor"),
    ] {
        let other = place.text("other");
        let arguments = ["quantize", &model, "--output", &other, "--format", "gguf", "--gguf-type-for", rule];
        let error = fail(if rule == "nowhere=Q4_K" { 1 } else { 2 }, &arguments);
        assert!(error.contains(expected), "{error}");
    }
    for kind in ["q4_k", "F64", "int4:g32:symmetric:BF16"] {
        let error = fail(2, &["quantize", &model, "--output", &out, "--format", "gguf", "--gguf-type", kind]);
        let expected = format!("unknown GGUF type '{kind}'; expected one of F32, F16, BF16, Q4_0, Q4_1");
        assert!(error.contains(&expected) && !error.contains("mixture"), "{error}");
    }
    let error = fail(2, &["quantize", &model, "--output", &out, "--format", "gguf", "--gguf-type", "Q4_K_M"]);
    assert!(error.contains("a mixture is one of them and --gguf-type-for 'REGEX=TYPE'"), "{error}");
    let error = fail(2, &["quantize", &model, "--output", &place.text("other"), "--gguf-type", "Q4_K"]);
    assert!(error.contains("--gguf-type needs --format gguf"), "{error}");
}

#[test]
fn what_is_in_the_way_or_cut_off_is_said_before_any_work() {
    let (place, model) = model();
    let out = place.text("out");
    let run = |output: &str, more: &[&str]| {
        fail(1, &[&["quantize", &model, "--output", output, "--format", "gguf"], more].concat())
    };
    succeed(&["quantize", &model, "--output", &out, "--format", "gguf"]);
    assert!(run(&out, &[]).contains("exists already; give another output, or replace it with --overwrite"));
    assert!(run(&place.text("model.gguf"), &[]).contains("looks like a file name; --output takes a folder"));
    for more in [&[][..], &["--overwrite"], &["--resume"]] {
        assert!(run(&model, more).contains("is a file; the output is a folder"));
    }
    // Bits that are chosen by measurement: the output is looked at first.
    let error = fail(1, &["quantize", &model, "--output", &out, "--bits", "2", "--min-sqnr", "200"]);
    assert!(error.contains("exists already"), "{error}");
    let copy = format!("COPY (SELECT * FROM safetensors('{model}')) TO '{out}' STORED AS GGUF");
    assert!(fail(1, &["sql", &copy]).contains("is a folder; rows are written to a file"));

    let whole = fs::read(place.path("out/model.gguf")).unwrap();
    let cut = place.text("cut.gguf");
    for (bytes, expected) in [
        (0, "cut.gguf: is cut off: 4 bytes are needed at byte 0, and 0 are left"),
        (40, "too many for its 40 bytes"),
        (whole.len() / 2, "tensor 'double_blocks.0.img_mlp.0.weight': is cut off"),
    ] {
        fs::write(&cut, &whole[..bytes]).unwrap();
        let commands = [&["quantize", &cut, "--output", "x"][..], &["compare", &model, &cut], &["inspect", &cut]];
        for command in commands {
            let error = fail(1, command);
            assert!(error.contains(expected), "{command:?}: {error}");
        }
    }
}

#[test]
fn a_file_is_a_table_like_any_other() {
    let (place, model) = model();
    let out = place.text("out");
    succeed(&["quantize", &model, "--output", &out, "--format", "gguf", "--bits", "8"]);
    let query = format!(
        "SELECT b.dtype, min(sqnr(a.weights, b.weights)) > 40 AS near FROM safetensors('{model}') a JOIN \
         gguf('{out}/model.gguf') b ON a.name = b.name AND a.channel = b.channel GROUP BY b.dtype ORDER BY b.dtype"
    );
    let answer = succeed(&["sql", &query]);
    assert!(answer.contains("Q8_0") && answer.contains("F32") && !answer.contains("false"), "{answer}");
    let parts = place.text("parts");
    succeed(&["quantize", &out, "--output", &parts, "--bits", "4"]);
    assert!(succeed(&["inspect", &out]).contains("Q8_0"));
    assert!(succeed(&["compare", &model, &parts]).contains("all that differ"));
}

#[test]
fn what_no_format_of_blocks_has_is_refused_or_carried() {
    let place = Place::new();
    small(&place.path("m.safetensors"));
    let (model, out) = (place.text("m.safetensors"), place.text("out"));
    succeed(&["quantize", &model, "--output", &out, "--format", "gguf"]);
    let compared = succeed(&["compare", &model, &out]);
    assert!(!compared.contains("missing") && !compared.contains("shape"), "{compared}");
    let mut values = noise(4 * 256, 3);
    values[256 + 3] = 1e6;
    write(&place.path("large.safetensors"), &[("a.weight", Dtype::F32, vec![4, 256], f32_bytes(&values))]);
    let large = place.text("large.safetensors");
    let error = fail(1, &["quantize", &large, "--output", &out, "--format", "gguf", "--overwrite"]);
    assert!(error.contains("'a.weight': row 1, element 3 is 1000000, which is beyond what Q4_K holds"), "{error}");
    write(&place.path("bytes.safetensors"), &[("a", Dtype::U8, vec![4], vec![0; 4])]);
    let error =
        fail(1, &["quantize", &place.text("bytes.safetensors"), "--output", &place.text("b"), "--format", "gguf"]);
    assert!(error.contains("has no tensor that GGUF has a type for: 'a' is U8"), "{error}");
}
