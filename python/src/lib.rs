//! `arrow_quant._lib`: the native module of the Python package. Arguments in, capsules out; no numerics.

#![allow(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]
#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "methods alone are not general enough in their lifetimes"
)]

mod aggregate;
mod call;
mod capsule;
mod datafusion;
mod error;
mod functions;
mod input;
mod memory;
mod model;
mod reader;
mod runtime;
mod session;

use pyo3::prelude::*;

#[pymodule]
fn _lib(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DATAFUSION_VERSION", ::datafusion::DATAFUSION_VERSION)?;
    module.add_class::<capsule::Array>()?;
    module.add_class::<capsule::ArrayStream>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<session::Query>()?;
    module.add_class::<datafusion::Function>()?;
    module.add_function(wrap_pyfunction!(capsule::as_array, module)?)?;
    module.add_function(wrap_pyfunction!(call::call, module)?)?;
    module.add_function(wrap_pyfunction!(aggregate::aggregate, module)?)?;
    module.add_function(wrap_pyfunction!(functions::functions, module)?)?;
    module.add_function(wrap_pyfunction!(model::quantize_model, module)?)?;
    module.add_function(wrap_pyfunction!(model::report_section, module)?)?;
    module.add_function(wrap_pyfunction!(model::spec_fields, module)?)?;
    module.add_function(wrap_pyfunction!(model::main, module)?)?;
    module.add_function(wrap_pyfunction!(datafusion::exported_functions, module)?)
}
