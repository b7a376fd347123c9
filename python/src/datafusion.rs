//! Every function for the `datafusion` wheel, through its C interface.

use std::sync::Arc;

use arrow_quant::sql::functions::{aggregate_functions, scalar_functions};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion_ffi::{udaf::FFI_AggregateUDF, udf::FFI_ScalarUDF};
use pyo3::{prelude::*, types::PyCapsule};

use crate::error::{Kind, of_query};

enum Exported {
    Scalar(Arc<ScalarUDF>),
    Aggregate(Arc<AggregateUDF>),
}

/// A function that the `datafusion` wheel can take over.
#[pyclass(frozen, module = "arrow_quant._lib")]
pub struct Function {
    function: Exported,
}

#[pymethods]
impl Function {
    #[getter]
    fn name(&self) -> &str {
        match &self.function {
            Exported::Scalar(function) => function.name(),
            Exported::Aggregate(function) => function.name(),
        }
    }

    #[getter]
    fn is_aggregate(&self) -> bool {
        matches!(self.function, Exported::Aggregate(_))
    }

    fn __datafusion_scalar_udf__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let Exported::Scalar(function) = &self.function else {
            return Err(Kind::Argument.exception("this function is an aggregate"));
        };
        PyCapsule::new_with_value(py, FFI_ScalarUDF::from(Arc::clone(function)), c"datafusion_scalar_udf")
    }

    fn __datafusion_aggregate_udf__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let Exported::Aggregate(function) = &self.function else {
            return Err(Kind::Argument.exception("this function is not an aggregate"));
        };
        PyCapsule::new_with_value(py, FFI_AggregateUDF::from(Arc::clone(function)), c"datafusion_aggregate_udf")
    }
}

/// Returns every function, in the order of the list.
#[pyfunction]
pub fn exported_functions() -> PyResult<Vec<Function>> {
    let scalars = scalar_functions().map_err(|error| of_query(&error))?;
    let scalars = scalars.into_iter().map(|function| Exported::Scalar(Arc::new(function)));
    let aggregates = aggregate_functions(None).into_iter().map(|function| Exported::Aggregate(Arc::new(function)));
    Ok(scalars.chain(aggregates).map(|function| Function { function }).collect())
}
