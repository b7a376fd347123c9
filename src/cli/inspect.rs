//! `arrow-quant inspect`: the tensors of a model, from the headers alone.

use std::{
    collections::BTreeMap,
    io::{Write, stdout},
    path::PathBuf,
};

use super::{CliError, table};
use crate::{
    model::{Model, tensor::Tensor},
    run::pipeline::PlannedPipeline,
    storage::escape::escaped,
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A safetensors file, a folder of shards, a diffusers folder, or one that compressed-tensors packed or quantize made
    model: PathBuf,
    /// Print JSON, one object per tensor
    #[arg(long)]
    json: bool,
}

/// Returns a line that names the weights beside a model that are no part of it, or nothing.
pub(super) fn passed_over(model: &Model) -> String {
    match model.passed_over() {
        [] => String::new(),
        names => format!("not read, since they are no part of the model: {}\n", escaped(&names.join(", "))),
    }
}

/// Returns a line that names what lies beside a model and is not copied, or nothing.
pub(super) fn left_behind(names: &[String]) -> String {
    const NAMED: usize = 8;
    let Some(more) = names.len().checked_sub(NAMED).filter(|more| *more > 0) else {
        return if names.is_empty() { String::new() } else { format!("not copied: {}\n", escaped(&names.join(", "))) };
    };
    format!("not copied: {} and {more} more\n", escaped(&names[..NAMED].join(", ")))
}

/// Returns a line that names the parts of a pipeline that are copied, and one on what is not.
pub(super) fn copied_parts(pipeline: &PlannedPipeline) -> String {
    let copied = pipeline.copied().into_iter().collect::<Vec<_>>().join(", ");
    format!("{}copied as they are: {}", left_behind(pipeline.left_behind()), escaped(&copied))
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    let model = Model::open(&arguments.model)?;
    let mut out = stdout().lock();
    let parameters = |tensor: &Tensor| tensor.elements() as u64;
    if arguments.json {
        for tensor in model.tensors() {
            let line = serde_json::json!({
                "name": tensor.name, "layer": tensor.layer, "module": tensor.module,
                "dtype": tensor.dtype_name().to_owned(), "shape": tensor.shape,
                "parameters": parameters(tensor), "bytes": tensor.bytes(), "file": model.file_of(tensor).name,
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let names: Vec<_> = model.tensors().iter().map(|tensor| escaped(&tensor.name)).collect();
    let width = table::width("tensor", names.iter());
    writeln!(out, "{:<width$}  {:<18} {:<7} {:>10} {:>10}", "tensor", "shape", "dtype", "parameters", "bytes")?;
    let mut dtypes: BTreeMap<String, u64> = BTreeMap::new();
    for (tensor, name) in model.tensors().iter().zip(&names) {
        *dtypes.entry(tensor.dtype_name().to_owned()).or_default() += parameters(tensor);
        writeln!(
            out,
            "{name:<width$}  {:<18} {:<7} {:>10} {:>10}",
            format!("{:?}", tensor.shape),
            tensor.dtype_name().to_owned(),
            table::quantity(parameters(tensor)),
            table::bytes(tensor.bytes() as u64),
        )?;
    }
    write!(out, "{}", passed_over(&model))?;
    let dtypes: Vec<_> = dtypes.iter().map(|(dtype, count)| format!("{dtype} {}", table::quantity(*count))).collect();
    Ok(writeln!(
        out,
        "{} tensors in {}, {} parameters ({}), {}",
        model.tensors().len(),
        if model.files().len() == 1 { "1 file".to_owned() } else { format!("{} files", model.files().len()) },
        table::quantity(model.tensors().iter().map(parameters).sum()),
        dtypes.join(", "),
        table::bytes(model.total_bytes()),
    )?)
}
