//! Sources that another tool quantized in a way that is not read: their scales are matrices of floats, and no weights.

use crate::{
    model::{Model, said},
    storage::{
        dtype::Dtype::{self, BF16, F4, F6_E2M3, F6_E3M2, F8_E4M3, F8_E5M2, F16, F32, I8, I16, I32, I64, U8, U32},
        error::IoError,
    },
};

/// A way to store quantized weights, and what marks a tensor as such codes.
#[derive(Debug)]
pub struct Foreign {
    /// The name that people give it.
    pub method: &'static str,
    /// The end of the name of the codes; the rest is the stem.
    pub codes: &'static str,
    /// The types that the codes may have; empty: any.
    pub dtypes: &'static [Dtype],
    /// The tensors that stand beside the codes: every one of these after the stem.
    pub beside: &'static [&'static str],
}

const INTEGERS: &[Dtype] = &[I8, U8, I16, I32, U32, I64, F4, F6_E2M3, F6_E3M2];

/// The table; the first row that fits a tensor counts.
pub const FOREIGN: &[Foreign] = &[
    row("GPTQ", ".qweight", &[I32], &[".qzeros", ".scales", ".g_idx"]),
    row("AWQ or GPTQ", ".qweight", &[I32], &[".qzeros", ".scales"]),
    row("Marlin", ".qweight", &[I32], &[".scales"]),
    row("QQQ or Marlin", ".B", &[I32], &[".s"]),
    row("Nunchaku (SVDQuant)", ".qweight", &[], &[".wscales"]),
    row("EXL2", ".q_weight", &[I32], &[".q_scale"]),
    row("EXL3", ".trellis", &[], &[".suh", ".svh"]),
    row("AQLM", ".codes", &[], &[".codebooks"]),
    row("VPTQ", ".indices", &[], &[".centroids.weight"]),
    row("VPTQ", ".indices", &[], &[".centroids"]),
    row("QuIP#", ".Qidxs", &[], &[".SU", ".SV"]),
    row("HQQ", ".W_q", &[], &[]),
    row("quanto", ".weight._data", &[], &[".weight._scale"]),
    row("torchao", "._weight_qdata", &[], &[]),
    row("torchao", ".weight:qdata", &[], &[]),
    row("bitsandbytes (4 bits)", ".weight", &[], &[".weight.absmax"]),
    row("bitsandbytes (8 bits)", ".weight", &[I8], &[".SCB"]),
    row("bitsandbytes (8 bits)", ".weight", &[I8], &[".weight_format"]),
    row("NVFP4", ".weight", &[U8, F4], &[".weight_scale", ".weight_scale_2"]),
    row("NVFP4 of compressed-tensors", ".weight_packed", &[U8], &[".weight_global_scale"]),
    row("MXFP4 of compressed-tensors", ".weight_packed", &[U8], &[".weight_scale"]),
    row("Marlin 2:4 of compressed-tensors", ".weight_packed", &[], &[".scale_packed"]),
    row("Marlin 2:4 of compressed-tensors", ".weight_packed", &[], &[".meta"]),
    row("compressed-tensors, packed", ".weight_packed", INTEGERS, &[]),
    row("sparse 2:4 of compressed-tensors", ".compressed", &[], &[".bitmask"]),
    row("MXFP4", "_blocks", &[U8, F4], &["_scales"]),
    row("SDNQ with low-rank factors", ".weight", &[], &[".scale", ".svd_up"]),
    row("SDNQ with zero points", ".weight", &[], &[".scale", ".zero_point"]),
    row("HIGGS", ".weight", &[], &[".scales", ".tables"]),
    row("integers with weight_scale (INT8 or INT4)", ".weight", INTEGERS, &[".weight_scale"]),
    row("integers with weight_scale_inv", ".weight", INTEGERS, &[".weight_scale_inv"]),
    row("EETQ", ".weight", INTEGERS, &[".weight_scales"]),
    row("SDNQ or ComfyUI (integers with a scale)", ".weight", INTEGERS, &[".scale"]),
    row("integers with scale_weight", ".weight", INTEGERS, &[".scale_weight"]),
    row("integers with scales", ".weight", INTEGERS, &[".scales"]),
    row("integers with _scale", "", INTEGERS, &["_scale"]),
    row("integers with _scales", "", INTEGERS, &["_scales"]),
    row("GPTQ or AWQ", ".qweight", &[], &[]),
    row("quantized, with low-rank factors", ".weight", &[F8_E4M3, F8_E5M2, F16, BF16, F32], &[".svd_up", ".svd_down"]),
];

const fn row(
    method: &'static str,
    codes: &'static str,
    dtypes: &'static [Dtype],
    beside: &'static [&'static str],
) -> Foreign {
    Foreign { method, codes, dtypes, beside }
}

/// The values that `quant_method` may have: tensors that are read, or that [`FOREIGN`] knows.
const READ: [&str; 7] = ["compressed-tensors", "fp8", "fbgemm_fp8", "modelopt", "modelopt_fp8", "mxfp8", "comfy_quant"];

/// Checks that nothing in a model is quantized in a way that is not read.
///
/// # Errors
/// Returns an error that names the method, the file and the tensor if a tensor is codes by [`FOREIGN`], or the file alone
/// where `config.json` names a method that is not read.
pub fn check(model: &Model) -> Result<(), IoError> {
    let has = |stem: &str, suffix: &str| model.tensor(&format!("{stem}{suffix}")).is_some();
    for tensor in model.tensors().iter().filter(|tensor| tensor.is_plain()) {
        let fits = |foreign: &&Foreign| {
            let stem = tensor.name.strip_suffix(foreign.codes);
            (foreign.dtypes.is_empty() || foreign.dtypes.contains(&tensor.dtype))
                && stem.is_some_and(|stem| foreign.beside.iter().all(|suffix| has(stem, suffix)))
        };
        let Some(foreign) = FOREIGN.iter().find(fits) else { continue };
        let method = foreign.method;
        let problem = format!(
            "holds the codes of a model that is quantized already: {method}, which is not read; begin with the model in \
             floats, or in fp8"
        );
        return Err(IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem));
    }
    let config = said::config(model.folder());
    for quantization in said::quantization(&config) {
        // MLX names no method.
        if quantization["quant_method"].is_null() && !quantization["group_size"].is_null() {
            continue;
        }
        let method = quantization["quant_method"].as_str().unwrap_or("a method without a name");
        if !READ.contains(&method) {
            let problem = format!(
                "says that the model is quantized with {method}, which is not read; begin with the model in floats, or \
                 take out what says so if its tensors are floats"
            );
            return Err(IoError::file(&model.folder().join(crate::model::discover::CONFIG), problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{storage::dtype::Dtype, testing::models::write};

    /// Returns why a model is refused that holds codes of a row and what stands beside them.
    fn refusal(foreign: &Foreign) -> String {
        let folder = tempfile::tempdir().unwrap();
        let dtype = foreign.dtypes.first().copied().unwrap_or(Dtype::I8);
        let codes = format!("model.layers.0.mlp.up_proj{}", foreign.codes);
        let beside: Vec<String> =
            foreign.beside.iter().map(|suffix| format!("model.layers.0.mlp.up_proj{suffix}")).collect();
        let bytes = vec![0; 8 * 16 * dtype.bits() / 8];
        let mut tensors: Vec<(&str, Dtype, &[usize], &[u8])> = vec![(&codes, dtype, &[8, 16], &bytes)];
        tensors.extend(beside.iter().map(|name| (name.as_str(), Dtype::F32, &[2, 4][..], &[0; 32][..])));
        let path = folder.path().join("model.safetensors");
        write(&path, &tensors);
        check(&Model::open(&path).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn codes_of_every_row_are_refused_by_method_file_and_tensor() {
        for foreign in FOREIGN {
            let message = refusal(foreign);
            assert!(message.contains("is quantized already: "), "{foreign:?}: {message}");
            assert!(message.contains("model.safetensors: tensor 'model.layers.0.mlp.up_proj"), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
            let earlier = FOREIGN.iter().take_while(|other| !std::ptr::eq(*other, foreign));
            let named = earlier.chain([foreign]).any(|row| message.contains(row.method));
            assert!(named, "{foreign:?}: {message}");
        }
    }

    #[test]
    fn floats_and_integers_without_scales_are_no_codes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write(
            &path,
            &[
                ("a.weight", Dtype::F32, &[2, 4], &[0; 32]),
                ("a.scale", Dtype::F32, &[4], &[0; 16]),
                ("a.scales", Dtype::F32, &[2, 4], &[0; 32]),
                ("position_ids", Dtype::I64, &[1, 2], &[0; 16]),
                ("mask.weight", Dtype::U8, &[2, 4], &[0; 8]),
            ],
        );
        check(&Model::open(&path).unwrap()).unwrap();
    }
}
