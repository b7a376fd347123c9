//! Tests of the pages: their figures are those of the report, and nothing in them is markup of a name.

use super::*;
use crate::{run::compare::difference::Difference, storage::dtype::Dtype, testing::models::write, types::ErrorSums};

fn loss(name: &str, bits: Option<i64>, sqnr: Option<f64>, bytes: (u64, u64)) -> Loss {
    let error = if sqnr.is_some() { 1.0 } else { 0.0 };
    Loss { name: name.into(), weights: 1000.0, bits, sqnr, error, bytes, note: "why <not>".into() }
}

fn losses() -> Vec<Loss> {
    vec![
        loss("blocks.0.fc.weight", Some(4), Some(20.0), (4000, 550)),
        loss("blocks.1.fc.weight", Some(2), Some(10.0), (4000, 300)),
        loss("blocks.1.same.weight", Some(8), Some(f64::INFINITY), (4000, 1100)),
        loss("embed<script>.weight", None, None, (9000, 9000)),
    ]
}

#[test]
fn a_section_has_the_figures_of_the_report() {
    let section = Section::of_report(&losses(), Vec::new());
    let html = section_of(&section, Path::new("x")).unwrap();
    // 1 of noise and 100 and 10 of signal: 10 log10(110 / 2).
    for text in ["3 of 4", "21.0 kB to 10.9 kB", "5.200", "17.40 dB", "blocks.*.fc.weight", "15.00 dB", "nothing lost"]
    {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert!(html.contains("embed&lt;script&gt;.weight") && html.contains("why &lt;not&gt;"), "{html}");
    assert!(!html.contains("<script"), "{html}");
    // The worst comes first.
    let worst = html.split("lost most").nth(1).unwrap();
    assert!(worst.find("blocks.1.fc.weight").unwrap() < worst.find("blocks.0.fc.weight").unwrap());
    let empty = section_of(&Section::of_report(&[], Vec::new()), Path::new("x")).unwrap();
    assert!(empty.contains("0 of 0"), "{empty}");
}

#[test]
fn a_comparison_draws_the_weights_that_differ() {
    let place = tempfile::tempdir().unwrap();
    let model = |name: &str, weights: &[f32]| {
        let bytes: Vec<u8> = weights.iter().flat_map(|x| x.to_le_bytes()).collect();
        write(&place.path().join(name), &[("fc.weight", Dtype::F32, &[4, 64], &bytes)]);
        place.path().join(name)
    };
    let weights: Vec<f32> = (0..256).map(|i| (i as f32 * 0.1).sin()).collect();
    let rounded: Vec<f32> = weights.iter().map(|x| (x * 4.0).round() / 4.0).collect();
    let (before, after) = (model("a.safetensors", &weights), model("b.safetensors", &rounded));
    let sums = ErrorSums { dot: 1.0, a2: 100.0, b2: 100.0, err2: 1.0, max_abs: 0.1, n: 256 };
    let compared = |name: &str, difference| Compared { name: name.into(), renamed: None, reordered: false, difference };
    let all = [
        compared("fc.weight", Difference::Error(sums)),
        compared("gone.weight", Difference::Missing { in_candidate: true }),
        compared("same.weight", Difference::Identical),
    ];
    let page = compare_page(&before, &after, &all).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{page}");
    assert!(page.contains("20.00 dB") && page.contains("missing in the candidate"), "{page}");
    assert_eq!(page.matches("<svg").count(), 1);
    // Nine levels: nine bins of the rounded weights rise from the ground.
    let drawn = page.split("<path d=\"").nth(2).unwrap().split('"').next().unwrap();
    let raised = drawn.split('V').skip(1).filter(|step| !step.starts_with("60")).count();
    assert_eq!(raised, 9, "{drawn}");
}
