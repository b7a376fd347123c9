//! Ctrl-C while a command works.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{CliError, options};
use crate::run::Cancel;

/// Does the work on this thread while one of the runtime listens for Ctrl-C.
pub fn until_interrupted<T>(work: impl FnOnce(&Cancel) -> Result<T, CliError>) -> Result<T, CliError> {
    let runtime = options::runtime(Some(1))?;
    let cancel = Arc::new(Cancel::new(false));
    let seen = Arc::clone(&cancel);
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
    });
    let result = work(&cancel);
    runtime.shutdown_timeout(Duration::ZERO);
    result
}
