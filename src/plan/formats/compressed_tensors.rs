//! The `pack-quantized` format of compressed-tensors, which transformers, vLLM and `SGLang` load.
//!
//! Of a linear module `m` it holds `m.weight_packed` (codes in words of 32 bits), `m.weight_scale`, `m.weight_shape` and,
//! where there are zero points, `m.weight_zero_point`, packed down the columns. `config.json` says which modules.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    config::{is_transposed, put, read_config},
    export::{Export, TensorExport, is_decoded, leave_out_companions},
    format::Format,
    magnitudes::{keep_small, least_of_half_scales},
    module_names::{names_any, patterns},
    shards::{Content, NewTensor, lay_out},
};
use crate::{
    model::{Model, tensor::Tensor},
    plan::{selection::Choice, spec::Spec},
    storage::{
        dtype::{Dtype, dtype_of, float_of},
        error::IoError,
        row_layout::Order,
    },
    types::{Encoding, Float, Packed, QuantizeOptions},
};

/// The `pack-quantized` format of compressed-tensors.
pub struct CompressedTensors;

impl Format for CompressedTensors {
    fn name(&self) -> &'static str {
        "compressed-tensors"
    }

    fn summary(&self) -> &'static str {
        "transformers and vLLM; vLLM reads 2 and 3 bits without zero points, in recent versions"
    }

    fn options(&self) -> &'static [&'static str] {
        &[
            "bits",
            "bits_for",
            "group_size",
            "method",
            "symmetric",
            "shard_size",
            "equalize",
            "min_sqnr",
            "target_size",
            "target_bpw",
        ]
    }

    fn is_fused_by_engines(&self) -> bool {
        true
    }

    fn loads_in_pipeline(&self, library: &str) -> bool {
        library == "transformers"
    }

    fn plan(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Option<Export>, IoError> {
        plan(model, choices, spec).map(Some)
    }
}

/// Plans the files. A tensor that the format cannot hold quantized is carried, and its note says why.
///
/// # Errors
/// The model has no `config.json`, or one that is no JSON object; it is quantized already; a header would be longer than
/// the format allows.
fn plan(model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Export, IoError> {
    let mut config = read_config(model, "compressed-tensors")?;
    for (tensor, choice) in model.tensors().iter().zip(&mut *choices) {
        let transposed = is_transposed(&config, tensor).then(|| TRANSPOSED.to_owned());
        if let Some(reason) = choice.options.and_then(|options| transposed.or_else(|| misfit(tensor, options))) {
            *choice = Choice { note: reason, ..Choice::default() };
        }
    }
    keep_small(model, choices, |tensor, choice| {
        let bits = choice.options?.bits.get();
        (float_of(tensor.dtype).unwrap_or(Float::F16) == Float::F16)
            .then(|| least_of_half_scales(&format!("int{bits}"), bits))
    })?;
    let encodings = model.tensors().iter().zip(&*choices).map(|(tensor, choice)| {
        let float = float_of(tensor.dtype);
        let encoding = match choice.options {
            Some(options) => Some(Encoding::Packed(packed(options, float.unwrap_or(Float::F16)))),
            None if tensor.is_plain() && !is_decoded(tensor) => None,
            None => float.map(Encoding::Float),
        };
        TensorExport { encoding, ..TensorExport::default() }
    });
    let exports: Vec<TensorExport> = encodings.collect();
    let left_out = leave_out_companions(model, choices, spec)?;
    let mut tensors = Vec::new();
    for (source, (tensor, export)) in model.tensors().iter().zip(&exports).enumerate() {
        if left_out[source] {
            continue;
        }
        match export.encoding {
            Some(Encoding::Packed(packed)) => tensors.extend(of_module(source, tensor, packed)),
            other => tensors.push(NewTensor::carried(source, tensor, other)),
        }
    }
    let mut layout = lay_out(model, &tensors, spec.shard_bytes())?;
    config.insert("quantization_config".to_owned(), quantization_config(model, choices)?);
    put(&mut layout, config);
    Ok(Export { tensors: exports, layout: Arc::new(layout) })
}

/// The note of layers whose rows are inputs.
const TRANSPOSED: &str = "stored as [inputs, outputs], which no linear layer that compressed-tensors quantizes is";

/// Returns the reason why the format cannot hold a tensor quantized so.
fn misfit(tensor: &Tensor, options: QuantizeOptions) -> Option<String> {
    if tensor.shape.len() != 2 || !tensor.name.ends_with(".weight") {
        return Some("compressed-tensors quantizes linear modules alone: tensors 'NAME.weight' of rank 2".to_owned());
    }
    let size = options.group_size();
    let fits = options.is_per_row() || tensor.row_length.is_multiple_of(size as usize);
    (!fits).then(|| format!("rows of {} are not whole groups of {size}, as compressed-tensors asks", tensor.row_length))
}

fn packed(options: QuantizeOptions, float: Float) -> Packed {
    Packed {
        bits: options.bits,
        group_size: (!options.is_per_row()).then(|| options.group_size()),
        symmetric: options.symmetric,
        // Loaders know scales of up to 32 bits.
        scale: if float == Float::F64 { Float::F32 } else { float },
        method: options.method,
    }
}

/// The tensors of a quantized module. Those with rows are in the order of the shares of an encoded row.
fn of_module(source: usize, tensor: &Tensor, packed: Packed) -> Vec<NewTensor> {
    let (rows, length) = (tensor.rows, tensor.row_length);
    let groups = packed.groups(length).unwrap_or(1);
    let code_bytes = packed.code_bytes(length);
    let new = |suffix: &str, dtype, shape: &[usize], content| {
        let (name, shape) = (format!("{}_{suffix}", tensor.name), shape.to_vec());
        NewTensor { source, name, dtype, shape, content }
    };
    let in_rows = |row_bytes| Content::Rows { row_bytes, order: Order::Rows };
    let shape = [rows as i64, length as i64].iter().flat_map(|size| size.to_le_bytes()).collect();
    let scale_bytes = packed.scale.bytes();
    let mut tensors = vec![
        new("packed", Dtype::I32, &[rows, code_bytes / 4], in_rows(code_bytes)),
        new("scale", dtype_of(packed.scale), &[rows, groups], in_rows(groups * scale_bytes)),
    ];
    if !packed.symmetric {
        let order = Order::Down { bits: packed.bits };
        let words = (rows * packed.bits.get() as usize).div_ceil(32);
        let content = Content::Rows { row_bytes: groups, order };
        tensors.push(new("zero_point", Dtype::I32, &[words, groups], content));
    }
    tensors.push(new("shape", Dtype::I64, &[2], Content::Known(shape)));
    tensors
}

/// Heads that a file may lack, since they are tied to an embedding, and that engines make all the same.
const HEADS: [&str; 8] = [
    "lm_head",
    r"re:(.*\.)?lm_head(\..*)?$",
    r"re:(.*\.)?embed_out$",
    r"re:(.*\.)?(score|classifier|qa_outputs)$",
    r"re:(.*\.)?cls\.(predictions|seq_relationship)(\..*)?$",
    r"re:(.*\.)?(vocab_projector|generator_lm_head|vocab_transform)$",
    r"re:(transformer\.)?output_layer$",
    "re:proj_out$",
];

/// The bits, the size of the groups and whether there are no zero points. `None` means left as it is.
type Fate = Option<(u8, u32, bool)>;

/// Returns the entry of `config.json`: one group for each way to quantize, and what is left as it is.
fn quantization_config(model: &Model, choices: &[Choice]) -> Result<Value, IoError> {
    let modules = model.tensors().iter().zip(choices).filter_map(|(tensor, choice)| {
        let options = choice.options.as_ref();
        let fate: Fate = options.map(|options| (options.bits.get(), options.group_size(), options.symmetric));
        // A loader looks for scales of every linear module that no name or pattern leaves out.
        let module = tensor.name.strip_suffix(".weight").filter(|_| tensor.shape.len() == 2)?;
        Some((module, fate))
    });
    let modules: Vec<(&str, Fate)> = modules.collect();
    let mut named = patterns(&modules);
    let mut ignore = named.remove(&None).unwrap_or_default();
    let quantized = || modules.iter().filter(|(_, fate)| fate.is_some()).map(|(module, _)| *module);
    for head in HEADS {
        let named = names_any(head, quantized());
        if !named.map_err(|error| IoError::Request(format!("the table of heads: {error}")))? {
            ignore.insert(head.to_owned());
        }
    }
    // The widest first: transformers 5.24 decodes all modules by the first group if it is told to decompress them at once.
    // Codes of fewer bits are then too few for it, which is an error; codes of more bits would be decoded to wrong weights.
    let groups = named.into_iter().rev().filter_map(|(fate, targets)| Some((fate?, targets))).enumerate();
    let groups = groups.map(|(number, ((bits, size, symmetric), targets))| {
        let per_row = size == QuantizeOptions::PER_ROW;
        let group = json!({
            "targets": targets,
            "input_activations": null,
            "output_activations": null,
            "format": "pack-quantized",
            "weights": {
                "num_bits": bits,
                "type": "int",
                "symmetric": symmetric,
                "strategy": if per_row { "channel" } else { "group" },
                "group_size": if per_row { Value::Null } else { size.into() },
                "dynamic": false,
                "actorder": null,
                "block_structure": null,
                "observer": "minmax",
                "observer_kwargs": {},
            },
        });
        (format!("group_{number}"), group)
    });
    let groups: serde_json::Map<String, Value> = groups.collect();
    Ok(json!({
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "global_compression_ratio": null,
        "kv_cache_scheme": null,
        "ignore": ignore,
        "config_groups": groups,
    }))
}
