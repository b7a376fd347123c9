//! One marked layer: its tensors checked against what its marker says.

use super::parts;
use crate::{
    model::tensor::Tensor,
    storage::{dtype::Dtype, error::IoError, row_layout::Order},
    types::{Comfy, ComfyLayout, Encoding, is_rotation},
};
use serde_json::Value;

/// The inputs of a rotation where nothing is said.
const ROTATION: u32 = 256;

/// The reason why a layer is not read.
pub enum Problem {
    /// Its bytes cannot be read.
    Read(IoError),
    /// Its tensors do not fit what it is marked as.
    Layer(String),
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Layer(problem)
    }
}

/// A marked layer.
pub struct Layer<'a, 't> {
    /// The tensor of its codes.
    pub weight: &'t Tensor,
    /// The JSON object that marks it.
    pub marker: &'a Value,
    /// Finds a tensor of the layer by the end of its name.
    pub find: &'a dyn Fn(&str) -> Option<&'t Tensor>,
    /// Reads the bytes of a tensor.
    pub read: &'a dyn Fn(&Tensor) -> Result<Vec<u8>, IoError>,
}

impl Layer<'_, '_> {
    /// Returns the value of a marker, at its top or among its parameters.
    fn said(&self, key: &str) -> &Value {
        let top = &self.marker[key];
        if top.is_null() { &self.marker["params"][key] } else { top }
    }

    fn number(&self, key: &str, default: u32) -> Result<u32, String> {
        match self.said(key) {
            Value::Null => Ok(default),
            value => value
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| *number > 0)
                .ok_or_else(|| format!("is marked with '{key}' {value}, which is no number above 0")),
        }
    }

    fn rotation(&self) -> Result<u32, String> {
        let size = self.number("convrot_groupsize", ROTATION)?;
        if is_rotation(size) { Ok(size) } else { Err(format!("is marked with rotations of {size}, no power of 4")) }
    }

    /// Returns the tensor that the layer stands for, and the suffixes of the tensors that it is made of; none where it is read as
    /// other tensors are.
    pub fn tensor(&self) -> Result<Option<(Tensor, Vec<&'static str>)>, Problem> {
        let format = self.said("format").as_str().unwrap_or_default();
        // ComfyUI-INT8-Fast names no format.
        let is_rows = format.is_empty() && self.said("per_row").as_bool() == Some(true);
        let columns = match self.weight.shape[..] {
            [rows, columns] if rows > 0 && columns > 0 => columns,
            _ if self.weight.dtype.is_float() => return Ok(None),
            _ => {
                let shape = &self.weight.shape;
                return Err(format!("is marked as '{format}' and has the shape {shape:?}; matrices are read").into());
            }
        };
        match format {
            "float8_e4m3fn" | "float8_e5m2" if self.weight.dtype.is_float() => Ok(None),
            "int8_tensorwise" | "" if format == "int8_tensorwise" || is_rows => {
                let mut comfy = Comfy::new(ComfyLayout::Int8);
                if self.said("convrot").as_bool() == Some(true) {
                    comfy.rotation = self.rotation()?;
                }
                self.made(comfy, columns, &[])
            }
            "convrot_w4a4" => {
                let comfy = Comfy { rotation: self.rotation()?, ..Comfy::new(ComfyLayout::W4a4) };
                self.made(comfy, 2 * columns, &[])
            }
            "asym_w4a8_int8" => self.grouped(columns),
            "nvfp4" => {
                let scale = self.one_number("weight_scale_2")?;
                if (self.find)("pre_quant_scale").is_some() {
                    return Err("has a pre_quant_scale, which multiplies what it is fed: that is not read"
                        .to_owned()
                        .into());
                }
                let comfy = Comfy { scale: scale.to_bits(), ..Comfy::new(ComfyLayout::Nvfp4) };
                self.made(comfy, 2 * columns, &["weight_scale_2"])
            }
            "mxfp8" => self.made(Comfy::new(ComfyLayout::Mxfp8), columns, &[]),
            _ if self.weight.dtype.is_float() && !is_known(format) => Ok(None),
            other => Err(format!(
                "is {} and marked as '{other}'; int8_tensorwise, asym_w4a8_int8, convrot_w4a4, float8_e4m3fn, \
                 float8_e5m2, nvfp4 and mxfp8 are read",
                self.weight.dtype
            )
            .into()),
        }
    }

    fn grouped(&self, columns: usize) -> Result<Option<(Tensor, Vec<&'static str>)>, Problem> {
        let scales = (self.find)("weight_s_rel").ok_or_else(|| "lacks its weight_s_rel".to_owned())?;
        let group_size = self.number("group_size", Comfy::GROUP_SIZE)?;
        let groups = scales.shape.get(1).copied().unwrap_or_default();
        let length = groups.saturating_mul(group_size as usize);
        let (layout, unit) = match columns.checked_mul(8) {
            Some(bits) if Some(bits) == length.checked_mul(4) => (ComfyLayout::W4a8, 4),
            Some(bits) if Some(bits) == length.checked_mul(6) => (ComfyLayout::W6a8, 16),
            _ => {
                return Err(format!(
                    "has rows of {columns} bytes, which are not {groups} groups of {group_size} codes of 4 or 6 bits"
                )
                .into());
            }
        };
        if group_size < unit || !(16 % group_size == 0 || group_size % 16 == 0) {
            return Err(format!("has groups of {group_size}, which no engine reads").into());
        }
        if (self.find)("weight_correction").is_some() {
            return Err("has a weight_correction, which ComfyUI does not read: it would decode to other weights"
                .to_owned()
                .into());
        }
        let mut comfy = Comfy { rotation: self.rotation()?, group_size, ..Comfy::new(layout) };
        let mut beside = Vec::new();
        comfy.levels = None;
        if let Some(codebook) = (self.find)("weight_codebook") {
            if layout == ComfyLayout::W6a8 {
                return Err("has codes of 6 bits and a weight_codebook; these have none".to_owned().into());
            }
            let bytes = (self.read)(codebook).map_err(Problem::Read)?;
            let levels: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
            let levels = <[u32; 16]>::try_from(levels).ok().filter(|_| codebook.dtype == Dtype::F32);
            let levels = levels.filter(|levels| levels.iter().all(|level| f32::from_bits(*level).is_finite()));
            comfy.levels = Some(levels.ok_or_else(|| "has a weight_codebook that is not 16 finite F32".to_owned())?);
            beside.push("weight_codebook");
        }
        self.made(comfy, length, &beside)
    }

    /// Reads the only number of a tensor.
    fn one_number(&self, suffix: &str) -> Result<f32, Problem> {
        let tensor = (self.find)(suffix).ok_or_else(|| format!("lacks its {suffix}"))?;
        let bytes = (self.read)(tensor).map_err(Problem::Read)?;
        let number = bytes.first_chunk().map(|bytes| f32::from_le_bytes(*bytes));
        let fits = tensor.dtype == Dtype::F32 && tensor.elements() == 1;
        let number = number.filter(|number| fits && number.is_finite() && *number >= 0.0);
        Ok(number.ok_or_else(|| format!("has a {suffix} that is not one finite F32 of at least 0"))?)
    }

    /// Makes the tensor of rows of `length` weights, from its parts; `beside` are the other tensors that it takes up.
    fn made(
        &self,
        comfy: Comfy,
        length: usize,
        beside: &[&'static str],
    ) -> Result<Option<(Tensor, Vec<&'static str>)>, Problem> {
        let rows = self.weight.rows;
        let layout = comfy.layout;
        let shares = comfy.shares(length).ok_or_else(|| {
            format!("has rows of {length} weights, which {layout} with rotations of {} does not have", comfy.rotation)
        })?;
        let mut parts = parts(layout, rows, &shares);
        if let (ComfyLayout::Int8, [_, scale]) = (layout, &mut parts[..])
            && (self.find)(scale.suffix).is_some_and(|tensor| tensor.elements() == 1)
        {
            (scale.shape, scale.order) = (Vec::new(), Order::Shared);
        }
        let mut pieces = Vec::with_capacity(parts.len());
        let mut used = beside.to_vec();
        for (part, row_bytes) in parts.into_iter().zip(shares) {
            let suffix = part.suffix;
            let tensor = if suffix == "weight" { Some(self.weight) } else { (self.find)(suffix) };
            let tensor = tensor.ok_or_else(|| format!("is marked as {layout} and lacks its {suffix}"))?;
            let piece = part.piece(tensor, rows, row_bytes);
            pieces.push(piece.map_err(|problem| format!("is marked as {layout}; {problem}"))?);
            if suffix != "weight" {
                used.push(suffix);
            }
        }
        let name = self.weight.name.clone();
        let tensor = Tensor::encoded(name, Dtype::BF16, vec![rows, length], Encoding::Comfy(comfy), pieces);
        if tensor.is_cut() {
            return Err(format!("has rows of {length} codes, which are too long").into());
        }
        Ok(Some((tensor, used)))
    }
}

/// Returns true if a format is one of `ComfyUI`'s.
fn is_known(format: &str) -> bool {
    ["int8_tensorwise", "asym_w4a8_int8", "convrot_w4a4", "float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8"]
        .contains(&format)
}
