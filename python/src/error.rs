//! Errors of the layers below as the exceptions of `arrow_quant.exceptions`.

use arrow_quant::{
    plan::spec::spelling::spell,
    run::RunError,
    sql::{
        error::{innermost, message},
        functions::error::FunctionError,
    },
    storage::error::IoError,
};
use arrow_schema::ArrowError;
use datafusion::common::DataFusionError;
use pyo3::{exceptions::PyKeyboardInterrupt, prelude::*, types::PyType};

/// The names of the exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An argument or an option that is not accepted.
    Argument,
    /// Values that cannot be computed with.
    Data,
    /// A file or a model that cannot be read or written.
    File,
    /// A query that cannot be planned or run.
    Query,
    /// Whatever else.
    Other,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Argument => "ArgumentError",
            Self::Data => "DataError",
            Self::File => "FileError",
            Self::Query => "QueryError",
            Self::Other => "ArrowQuantError",
        }
    }

    /// Returns true if `error` is an exception of this kind, or of one below it.
    pub fn is_kind_of(self, py: Python<'_>, error: &PyErr) -> bool {
        let class = py.import("arrow_quant.exceptions").and_then(|module| module.getattr(self.name()));
        class.is_ok_and(|class| error.is_instance(py, &class))
    }

    /// Returns the exception with a message.
    pub fn exception(self, message: &str) -> PyErr {
        Python::attach(|py| {
            let class = py.import("arrow_quant.exceptions").and_then(|module| module.getattr(self.name()));
            match class.and_then(|class| Ok(class.cast_into::<PyType>()?)) {
                Ok(class) => PyErr::from_type(class, message.to_owned()),
                Err(error) => error,
            }
        })
    }
}

/// Returns the exception of a call of a function: what the planner refuses is an argument.
pub fn of_call(error: &DataFusionError) -> PyErr {
    let kind = match of_query_kind(error) {
        Kind::Query => Kind::Argument,
        kind => kind,
    };
    kind.exception(&message(error))
}

/// Returns the exception of a query.
pub fn of_query(error: &DataFusionError) -> PyErr {
    of_query_kind(error).exception(&message(error))
}

fn of_query_kind(error: &DataFusionError) -> Kind {
    match innermost(error) {
        DataFusionError::External(inner) => match inner.downcast_ref::<IoError>() {
            Some(error) => of_io_kind(error),
            None if inner.is::<FunctionError>() => Kind::Data,
            None => Kind::Other,
        },
        DataFusionError::Plan(_)
        | DataFusionError::SQL(..)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::ResourcesExhausted(_)
        | DataFusionError::Execution(_) => Kind::Query,
        DataFusionError::ArrowError(error, _) => of_arrow_kind(error),
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) | DataFusionError::ParquetError(_) => Kind::File,
        _ => Kind::Other,
    }
}

fn of_arrow_kind(error: &ArrowError) -> Kind {
    match error {
        // What a stream of another library raised.
        ArrowError::CDataInterface(_) | ArrowError::ExternalError(_) => Kind::Other,
        _ => Kind::Data,
    }
}

fn of_io_kind(error: &IoError) -> Kind {
    match error {
        IoError::Request(_) => Kind::Argument,
        IoError::Row { .. } | IoError::Compute { .. } => Kind::Data,
        _ => Kind::File,
    }
}

/// Returns a message with the options that it names as Python writes them.
pub fn spelled(message: &str) -> String {
    spell(message, |option| format!("{option}=")).into_owned()
}

/// Returns the exception of a run.
pub fn of_run(error: &RunError) -> PyErr {
    let kind = match error {
        RunError::Io(error) => of_io_kind(error),
        RunError::Query(error) => of_query_kind(error),
        RunError::MemoryLimit { .. } => Kind::Argument,
        RunError::Cancelled(_) | RunError::Interrupted => Kind::Other,
    };
    let error = match error {
        RunError::Query(error) => message(error),
        other => other.to_string(),
    };
    kind.exception(&spelled(&error))
}

/// Returns the exception of a stream. What Python raised inside of it comes out as it went in.
pub fn of_stream(error: ArrowError) -> PyErr {
    let ArrowError::ExternalError(inner) = error else {
        // PyArrow tells in words what Python raised in a stream of its own.
        if matches!(&error, ArrowError::CDataInterface(text) if text.contains("KeyboardInterrupt")) {
            return PyKeyboardInterrupt::new_err(());
        }
        return of_arrow_kind(&error).exception(&error.to_string());
    };
    match inner.downcast::<PyErr>() {
        Ok(error) => *error,
        Err(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(error) => of_query(error),
            None => Kind::Other.exception(&inner.to_string()),
        },
    }
}
