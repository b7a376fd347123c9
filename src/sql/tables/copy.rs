//! `COPY (SELECT ...) TO 'x.safetensors' STORED AS SAFETENSORS`, and `TO 'x.gguf' STORED AS GGUF`.

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
use crate::output::spooled_rows::{Container, RowGatherer};

/// A format that COPY writes. Reading goes through the weights table.
#[derive(Debug, Clone)]
pub struct ModelFormat {
    container: Container,
}

impl ModelFormat {
    /// `STORED AS SAFETENSORS`.
    pub const SAFETENSORS: Self = Self { container: Container::Safetensors };
    /// `STORED AS GGUF`.
    pub const GGUF: Self = Self { container: Container::Gguf { architecture: None } };

    const fn name(&self) -> &'static str {
        match self.container {
            Container::Safetensors => "SAFETENSORS",
            Container::Gguf { .. } => "GGUF",
        }
    }

    fn refuse_to_read<T>(&self) -> Result<T> {
        let (stored, function) = (self.name(), GetExt::get_ext(self));
        not_impl_err!("{stored} is read by CREATE EXTERNAL TABLE ... STORED AS {stored} or {function}('path')")
    }
}

impl GetExt for ModelFormat {
    fn get_ext(&self) -> String {
        self.name().to_lowercase()
    }
}

/// `format.` is what the parser puts before an option without a namespace.
const ARCHITECTURE: &str = "format.architecture";

impl FileFormatFactory for ModelFormat {
    fn create(&self, _: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        let mut format = self.clone();
        for (option, value) in options {
            match &mut format.container {
                Container::Gguf { architecture } if option == ARCHITECTURE => *architecture = Some(value.clone()),
                Container::Gguf { .. } => {
                    return plan_err!("COPY ... STORED AS GGUF takes the option 'architecture', not '{option}'");
                }
                Container::Safetensors => {
                    return plan_err!("COPY ... STORED AS SAFETENSORS takes no options, not '{option}'");
                }
            }
        }
        Ok(Arc::new(format))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl FileFormat for ModelFormat {
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
        self.refuse_to_read()
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
        self.refuse_to_read()
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        _: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !config.table_partition_cols.is_empty() {
            return plan_err!("COPY ... STORED AS {} writes one file; it takes no PARTITIONED BY", self.name());
        }
        let url = config.original_url.as_str();
        let path = url.strip_prefix("file://").unwrap_or(url);
        if path.is_empty() || path.ends_with('/') || path.contains("://") {
            return plan_err!("COPY ... STORED AS {} takes the path of a local file, not '{url}'", self.name());
        }
        let (path, container) = (PathBuf::from(path), self.container.clone());
        let sink = ModelSink { path, container, schema: input.schema() };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }

    /// Asked for only to read, which `create_physical_plan` refuses.
    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(ArrowSource::new_file_source(schema))
    }
}

/// Takes the rows of one file.
#[derive(Debug)]
struct ModelSink {
    path: PathBuf,
    container: Container,
    schema: SchemaRef,
}

impl DisplayAs for ModelSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ModelSink: {}", self.path.display())
    }
}

#[async_trait]
impl DataSink for ModelSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, mut rows: SendableRecordBatchStream, _: &Arc<TaskContext>) -> Result<u64> {
        let mut gatherer = RowGatherer::create(&self.path, self.container.clone()).map_err(external)?;
        while let Some(batch) = rows.next().await {
            gatherer.add(&batch?).map_err(external)?;
        }
        gatherer.finish().map_err(external)
    }
}
