//! Tables that a query names by their path: `FROM 'model.safetensors'`, `FROM 'OUT'`, `FROM 'report.parquet'`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use datafusion::{
    catalog::{DynamicFileCatalog, TableProvider, UrlTableFactory},
    common::Result,
    datasource::dynamic_file::DynamicListTableFactory,
    execution::context::SessionContext,
};

use super::{WeightsTable, external};
use crate::model::Model;

/// Makes tables of paths: weights tables of models, and `DataFusion`'s own of Parquet, CSV and JSON files.
#[derive(Debug, Default)]
struct PathTables {
    files: DynamicListTableFactory,
}

#[async_trait]
impl UrlTableFactory for PathTables {
    async fn try_new(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let path = with_home(name);
        let is_folder = path.is_dir();
        if !is_folder && !is_model_file(&path) {
            return self.files.try_new(&path.to_string_lossy()).await;
        }
        match Model::open(&path) {
            Ok(model) => Ok(Some(Arc::new(WeightsTable::new(Arc::new(model))))),
            // A folder without a model may hold tables.
            Err(error) => match self.files.try_new(&path.to_string_lossy()).await {
                Ok(Some(table)) if is_folder => Ok(Some(table)),
                // A bare name may be meant for a table, and the folder be there by chance.
                _ if !name.contains(['/', '\\', '.']) => Ok(None),
                _ => Err(external(error)),
            },
        }
    }
}

/// Returns true if a path ends as those of models do.
fn is_model_file(path: &Path) -> bool {
    let ends = |ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    ends("safetensors") || ends("gguf") || path.to_string_lossy().ends_with(".safetensors.index.json")
}

/// Returns the path that a name means: a leading `~/` is the home of the user.
fn with_home(name: &str) -> PathBuf {
    let home = name.strip_prefix("~/").and_then(|rest| Some(std::env::home_dir()?.join(rest)));
    home.unwrap_or_else(|| PathBuf::from(name))
}

/// Returns the context with tables by path as well. A table that is registered under the same name goes first.
pub fn with_paths(context: SessionContext) -> SessionContext {
    let tables = Arc::new(PathTables::default());
    let factory: Arc<dyn UrlTableFactory> = Arc::clone(&tables) as _;
    let catalogs = DynamicFileCatalog::new(Arc::clone(context.state().catalog_list()), factory);
    let context: SessionContext = context.into_state_builder().with_catalog_list(Arc::new(catalogs)).build().into();
    tables.files.session_store().with_state(context.state_weak_ref());
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_told_by_their_endings_and_home_is_found() {
        for (path, is_model) in [
            ("a/b.safetensors", true),
            ("B.GGUF", true),
            ("m.safetensors.index.json", true),
            ("report.parquet", false),
            ("layers", false),
        ] {
            assert_eq!(is_model_file(Path::new(path)), is_model, "{path}");
        }
        assert_eq!(with_home("~x/y"), Path::new("~x/y"));
        if let Some(home) = std::env::home_dir() {
            assert_eq!(with_home("~/m"), home.join("m"));
        }
    }
}
