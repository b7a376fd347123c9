//! `CREATE EXTERNAL TABLE name STORED AS SAFETENSORS LOCATION 'path'`, and `STORED AS GGUF`: what the files are tells
//! what they begin with, so that both read both.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider, TableProviderFactory},
    common::{Result, plan_err},
    logical_expr::CreateExternalTable,
};

use super::{WeightsTable, external};
use crate::model::Model;

/// Makes weights tables of models.
#[derive(Debug)]
pub struct ModelTableFactory;

#[async_trait]
impl TableProviderFactory for ModelTableFactory {
    async fn create(&self, _: &dyn Session, command: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
        if !command.schema.fields().is_empty() {
            return plan_err!("a table of weights takes no columns: its schema is fixed");
        }
        if !command.table_partition_cols.is_empty() || !command.order_exprs.is_empty() {
            return plan_err!("a table of weights takes neither PARTITIONED BY nor WITH ORDER");
        }
        if let Some(option) = command.options.keys().next() {
            return plan_err!("a table of weights takes no options, not '{option}'");
        }
        let [location] = command.locations.as_slice() else {
            return plan_err!("a table of weights takes one LOCATION: a file or a folder of shards");
        };
        let model = Model::open(Path::new(location)).map_err(external)?;
        Ok(Arc::new(WeightsTable::new(Arc::new(model))))
    }
}
