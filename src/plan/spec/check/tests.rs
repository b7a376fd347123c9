//! Every pair of options, every field, every message.

use serde_json::{Map, Value, json};

use super::*;
use crate::types::{Bits, Coding};

/// Returns a value of every option that is accepted by itself.
fn sample(field: &str) -> Value {
    match field {
        "bits" | "activation_bits" => json!(4),
        "group_size" => json!("channel"),
        "method" => json!("minmax"),
        "symmetric" | "activation_symmetric" => json!(true),
        "include" | "exclude" | "drop" => json!(["attn"]),
        "bits_for" => json!(["mlp=2"]),
        "min_share" => json!(0.5),
        "min_sqnr" => json!(-3.5),
        "target_size" => json!("1.5 GB"),
        "target_bpw" => json!(3.2),
        "dtype" => json!("BF16"),
        "shard_size" => json!(1000),
        "gguf_type" => json!("Q4_K"),
        "gguf_type_for" => json!(["mlp=Q8_0"]),
        "comfy_type" => json!("w4a8"),
        "comfy_type_for" => json!(["mlp=fp8"]),
        "mlx_type" => json!("int6"),
        "mlx_type_for" => json!(["mlp=mxfp4"]),
        "misfit" => json!("keep"),
        "gguf_architecture" | "gguf_pre" => json!("flux"),
        "activations" | "hessians" => json!("a.parquet"),
        "time_groups" => json!(3),
        "time_method" => json!("uniform"),
        "equalize" => json!("weights"),
        other => panic!("no sample of {other}"),
    }
}

fn options() -> impl Iterator<Item = &'static str> {
    Spec::FIELDS.into_iter().filter(|field| *field != "format")
}

fn spec(format: &str, fields: &[&str]) -> Spec {
    let mut json: Map<String, Value> = fields.iter().map(|field| ((*field).to_owned(), sample(field))).collect();
    json.insert("format".into(), json!(format));
    Spec::from_json(&Value::from(json).to_string()).unwrap()
}

#[test]
fn every_pair_of_options_is_accepted_or_refused_as_listed() {
    // Written out apart from the rules: by format, what it takes beside what all take, and the pairs that exclude each other.
    let parts = "bits bits_for equalize group_size method symmetric min_sqnr target_size target_bpw hessians";
    let takes = [
        ("parquet", parts),
        ("arrow", parts),
        ("safetensors", "bits bits_for equalize group_size method symmetric dtype shard_size"),
        (
            "compressed-tensors",
            "bits bits_for equalize group_size method symmetric shard_size min_sqnr target_size target_bpw",
        ),
        (
            "gguf",
            "bits bits_for equalize gguf_type gguf_type_for misfit gguf_architecture gguf_pre min_sqnr target_size target_bpw",
        ),
        ("comfy", "comfy_type comfy_type_for method shard_size min_sqnr target_size target_bpw"),
        (
            "mlx",
            "bits bits_for equalize group_size method mlx_type mlx_type_for shard_size min_sqnr target_size target_bpw",
        ),
    ];
    let all_take = "include exclude drop min_share activations";
    let with_activations = "time_groups time_method activation_bits activation_symmetric";
    let apart = [
        ("bits", "target_size target_bpw gguf_type mlx_type"),
        ("bits_for", "gguf_type mlx_type"),
        ("target_size", "target_bpw gguf_type comfy_type mlx_type"),
        ("target_bpw", "gguf_type comfy_type mlx_type"),
        ("equalize", "min_sqnr target_size target_bpw hessians"),
        ("hessians", "symmetric min_sqnr"),
    ];
    let listed = |list: &str, option: &str| list.split(' ').any(|listed| listed == option);
    let excluded = |a: &str, b: &str| apart.iter().any(|(one, others)| *one == a && listed(others, b));
    let mut checked = 0;
    for (format, own) in takes {
        for (a, b) in options().flat_map(|a| options().map(move |b| (a, b))) {
            let taken = |option: &str| {
                let needed = listed(with_activations, option) && (a == "activations" || b == "activations");
                listed(own, option) || listed(all_take, option) || needed
            };
            let weighs = !["parquet", "arrow"].contains(&format) && [a, b].contains(&"activations");
            let weighed = weighs && [a, b].contains(&"min_sqnr");
            let expected = taken(a) && taken(b) && !excluded(a, b) && !excluded(b, a) && !weighed;
            let result = spec(format, &[a, b]).check();
            assert_eq!(result.is_ok(), expected, "{format}: {a} and {b}: {result:?}");
            checked += 1;
        }
    }
    assert_eq!(checked, 7 * 30 * 30);
}

#[test]
fn entropy_coded_weights_take_any_bits_and_no_groups() {
    for option in options().filter(|option| *option != "method") {
        let format = if matches!(option, "gguf_type" | "misfit") { "gguf" } else { "parquet" };
        let with = |method: Option<Coding>| Spec { method, ..spec(format, &[option]) }.check();
        // Weights are equalized among themselves by groups and scales alone.
        let refused = ["group_size", "symmetric", "hessians", "equalize", "gguf_type", "misfit"].contains(&option);
        let accepted = with(None).is_ok() && !refused;
        assert_eq!(with(Some(Coding::Entropy)).is_ok(), accepted, "{option}: {:?}", with(Some(Coding::Entropy)));
    }
    let bits = |json: &str| Spec::from_json(json).unwrap().check();
    assert_eq!(bits(r#"{"method": "entropy", "bits": 2.5, "bits_for": ["a=7.25"]}"#), Ok(()));
    assert!(bits(r#"{"method": "search", "bits": 2.5}"#).is_err());
    assert!(bits(r#"{"method": "search", "bits_for": ["a=2.5"]}"#).is_err());
    let equalized = r#"{"method": "entropy", "bits": 3, "activations": "a.parquet", "equalize": 0.5}"#;
    assert_eq!(bits(equalized), Ok(()));
}

#[test]
fn the_rules_name_fields() {
    let fields: std::collections::BTreeSet<&str> = options().collect();
    for rule in &RULES {
        let (a, b) = match rule {
            Excludes(a, b, _) | Needs(a, b) => (a, b),
            NotEntropy(a, _) => (a, &"method"),
        };
        assert!(fields.contains(a) && fields.contains(b), "{a}, {b}");
    }
    let all: Vec<&str> = Spec::FIELDS.into_iter().filter(|field| *field != "format").collect();
    let written = spec("parquet", &all).given().unwrap();
    assert!(written.keys().eq(std::collections::BTreeSet::from(Spec::FIELDS)));
}

#[test]
fn a_spec_reads_back_as_written() {
    for field in options() {
        let spec = spec("gguf", &[field]);
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(Spec::from_json(&text).unwrap(), spec, "{text}");
        assert_ne!(spec, Spec { format: "gguf".into(), ..Spec::default() });
    }
}

#[test]
fn an_error_names_the_field_and_the_problem() {
    let error = |json: &str| Spec::from_json(json).and_then(|spec| spec.check()).unwrap_err().to_string();
    for (json, expected) in [
        ("{\"bits\": 5}", "`bits` must be 2, 3, 4 or 8, not 5"),
        ("{\"bit\": 4}", "unknown field `bit`"),
        ("{\"include\": [\"(a\"]}", "`include[0]` '(a' is not a regular expression: unclosed group"),
        ("{\"bits_for\": [\"a\"]}", "`bits_for[0]` 'a' is not of the form REGEX=VALUE"),
        ("{\"bits_for\": [\"a=5\"]}", "`bits_for[0]` 'a=5': bits must be 2, 3, 4 or 8, not 5"),
        ("{\"gguf_type\": \"Q4_K_M\"}", "a mixture is one of them and `gguf_type_for` 'REGEX=TYPE'"),
        ("{} {}", "the spec must be a JSON object: trailing characters"),
        ("[4]", "the spec must be a JSON object: invalid type: sequence"),
        ("{\"group_size\": 0}", "`group_size` must be 1 to 4294967295 or 'channel', not '0'"),
        ("{\"target_bpw\": -1}", "`target_bpw` must be a number above 0, not -1"),
        ("{\"target_size\": 0}", "`target_size` must be at least 1 byte, not 0"),
        ("{\"activations\": \"a\", \"time_groups\": 0}", "`time_groups` must be at least 1, not 0"),
        ("{\"equalize\": 0.5}", "`equalize` 0.5 needs `activations`; without, use `equalize` weights"),
        (
            "{\"hessians\": \"h\", \"equalize\": \"weights\"}",
            "`hessians` cannot be used with `equalize`: Hessians are those of inputs that are not equalized",
        ),
        ("{\"shard_size\": 9}", "`shard_size` needs `format` safetensors, compressed-tensors, comfy or mlx"),
        ("{\"time_groups\": 2}", "`time_groups` needs `activations`"),
    ] {
        let error = error(json);
        assert!(error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn a_profile_sets_what_is_not_given_and_applies() {
    let profile: crate::plan::profile::Profile = "edge".parse().unwrap();
    for format in formats::ALL.map(Format::name) {
        for field in options() {
            let spec = spec(format, &[field]);
            let (before, after) = (spec.check(), spec.with_profile(profile).check());
            assert_eq!(before, after, "{format} {field}");
        }
    }
    let filled = spec("parquet", &["activations", "group_size"]).with_profile(profile);
    assert_eq!((filled.bits, filled.time_groups), (Some(Bits::Two.into()), Some(16)));
    assert_eq!(filled.group_size, Some(crate::types::GroupSize::CHANNEL));
}
