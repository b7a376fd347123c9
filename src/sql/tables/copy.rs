//! `COPY (SELECT ...) TO 'x.safetensors' STORED AS SAFETENSORS`.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{GetExt, Result, Statistics, not_impl_err, plan_err},
    datasource::{
        file_format::{FileFormat, FileFormatFactory, file_compression_type::FileCompressionType},
        physical_plan::{ArrowSource, FileScanConfig, FileSinkConfig, FileSource},
        sink::{DataSink, DataSinkExec},
        table_schema::TableSchema,
    },
    execution::{SendableRecordBatchStream, TaskContext},
    object_store::{ObjectMeta, ObjectStore},
    physical_expr::LexRequirement,
    physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan},
};
use futures::StreamExt;

use super::external;
use crate::io::export::SafetensorsGatherer;

/// The format that COPY writes. Reading goes through the weights table.
#[derive(Debug, Clone, Copy)]
pub struct SafetensorsFormat;

impl GetExt for SafetensorsFormat {
    fn get_ext(&self) -> String {
        "safetensors".to_owned()
    }
}

impl FileFormatFactory for SafetensorsFormat {
    fn create(&self, _: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        match options.keys().next() {
            Some(option) => plan_err!("COPY ... STORED AS SAFETENSORS takes no options, not '{option}'"),
            None => Ok(Arc::new(*self)),
        }
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(*self)
    }
}

const READ: &str = "safetensors are read by CREATE EXTERNAL TABLE ... STORED AS SAFETENSORS or safetensors('path')";

#[async_trait]
impl FileFormat for SafetensorsFormat {
    fn get_ext(&self) -> String {
        GetExt::get_ext(self)
    }

    fn get_ext_with_compression(&self, _: &FileCompressionType) -> Result<String> {
        Ok(GetExt::get_ext(self))
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(&self, _: &dyn Session, _: &Arc<dyn ObjectStore>, _: &[ObjectMeta]) -> Result<SchemaRef> {
        not_impl_err!("{READ}")
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        _: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&schema))
    }

    async fn create_physical_plan(&self, _: &dyn Session, _: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("{READ}")
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        _: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !config.table_partition_cols.is_empty() {
            return plan_err!("COPY ... STORED AS SAFETENSORS writes one file; it takes no PARTITIONED BY");
        }
        let url = config.original_url.as_str();
        let path = url.strip_prefix("file://").unwrap_or(url);
        if path.is_empty() || path.ends_with('/') || path.contains("://") {
            return plan_err!("COPY ... STORED AS SAFETENSORS takes the path of a local file, not '{url}'");
        }
        let sink = SafetensorsSink { path: PathBuf::from(path), schema: input.schema() };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }

    /// Asked for only to read, which `create_physical_plan` refuses.
    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(ArrowSource::new_file_source(schema))
    }
}

/// Takes the rows of one file.
#[derive(Debug)]
struct SafetensorsSink {
    path: PathBuf,
    schema: SchemaRef,
}

impl DisplayAs for SafetensorsSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SafetensorsSink: {}", self.path.display())
    }
}

#[async_trait]
impl DataSink for SafetensorsSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, mut rows: SendableRecordBatchStream, _: &Arc<TaskContext>) -> Result<u64> {
        let mut gatherer = SafetensorsGatherer::create(&self.path).map_err(external)?;
        while let Some(batch) = rows.next().await {
            gatherer.add(&batch?).map_err(external)?;
        }
        gatherer.finish().map_err(external)
    }
}
