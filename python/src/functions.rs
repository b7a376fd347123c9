//! The list of functions, as Python walks it.

use arrow_quant::sql::{functions::signatures, reference::entries};
use pyo3::{prelude::*, types::PyDict};

use crate::error::of_query;

/// One dict per function, in the order of the list: name, section, syntax, description, example and arguments, each of
/// which has name, kind, description and optional.
#[pyfunction]
pub fn functions(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let signatures = signatures();
    let entries = entries().map_err(|error| of_query(&error))?;
    let describe = |entry: arrow_quant::sql::reference::Entry| {
        let function = PyDict::new(py);
        function.set_item("name", &entry.name)?;
        function.set_item("section", entry.section)?;
        function.set_item("syntax", &entry.syntax)?;
        function.set_item("description", &entry.description)?;
        function.set_item("example", &entry.example)?;
        let arguments = signatures.iter().find_map(|(name, arguments)| (*name == entry.name).then_some(*arguments));
        let arguments = arguments.unwrap_or_default().iter().map(|argument| {
            let described = PyDict::new(py);
            described.set_item("name", argument.name)?;
            described.set_item("kind", format!("{:?}", argument.kind))?;
            described.set_item("description", argument.description)?;
            described.set_item("optional", argument.optional)?;
            Ok(described)
        });
        function.set_item("arguments", arguments.collect::<PyResult<Vec<_>>>()?)?;
        Ok(function)
    };
    entries.into_iter().map(describe).collect()
}
