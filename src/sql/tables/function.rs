//! `safetensors('path')`, `gguf('path')` and `tensors('path')`: a model as a table without a name.

use std::{path::Path, sync::Arc};

use datafusion::{
    catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{Result, ScalarValue, plan_err},
    logical_expr::Expr,
};

use super::{WeightsTable, external, tensors::tensors_table};
use crate::model::Model;

/// The choice between a model's two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// One row per output channel.
    Weights,
    /// One row per tensor.
    Tensors,
}

/// A table function whose only argument is the path of a model.
#[derive(Debug)]
pub struct ModelFunction {
    /// The name in SQL.
    pub name: &'static str,
    /// The table that it returns.
    pub kind: TableKind,
}

impl TableFunctionImpl for ModelFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let name = self.name;
        let [Expr::Literal(ScalarValue::Utf8(Some(path)) | ScalarValue::Utf8View(Some(path)), _)] = args.exprs() else {
            return plan_err!("{name} takes one argument, the path of a model in single quotes");
        };
        let model = Arc::new(Model::open(Path::new(path)).map_err(external)?);
        match self.kind {
            TableKind::Weights => Ok(Arc::new(WeightsTable::new(model))),
            TableKind::Tensors => tensors_table(&model),
        }
    }
}
