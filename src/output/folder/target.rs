//! The check of an output's target, before anything is measured or written.

use std::path::Path;

use super::{
    entries::Entries,
    existing::Existing,
    place::{Left, check_replaced},
};
use crate::storage::{atomic_file::exists, error::IoError, folder::manifest::Manifest};

/// The endings of files that an output holds: a folder of such a name would be taken for one.
const FILES: [&str; 4] = ["gguf", "safetensors", "parquet", "arrow"];

/// Checks that an output can go to its place, by what is there and what is left of another run.
pub(super) fn check(target: &Path, partial: &Path, existing: Existing, left: &Left) -> Result<(), IoError> {
    let refuse = |path: &Path, problem: &str| Err(IoError::file(path, problem));
    let resumed = match left {
        Left::Run(unfinished) if existing == Existing::Resume => Some(unfinished.existing),
        _ => None,
    };
    if !exists(target)? {
        if FILES.iter().any(|file| target.extension().is_some_and(|extension| extension == *file)) {
            let problem = "looks like a file name; `output` takes a folder (drop the extension)";
            return refuse(target, problem);
        }
    } else if !target.is_dir() {
        return refuse(target, "is a file; the output is a folder that holds the weights and what goes with them");
    } else if existing == Existing::Resume
        && resumed.is_none()
        && Manifest::read(target).is_ok_and(|there| there.complete)
    {
        return refuse(target, "is complete already; there is nothing to resume");
    } else if resumed == Some(Existing::Refuse) {
        let problem = "came while a run that does not replace it was unfinished; move it away to go on with `resume`, or \
                       begin again with `overwrite`";
        return refuse(target, problem);
    } else {
        check_replaced(target, resumed.unwrap_or(existing))?;
    }
    match left {
        Left::Nothing => Ok(()),
        _ if existing.replaces() => Entries::of_unfinished(partial)?.check(existing == Existing::Force).map(drop),
        Left::Unknown(error) if existing == Existing::Refuse => {
            refuse(partial, &format!("is of a run of which nothing is known: {error}"))
        }
        Left::Run(_) if existing == Existing::Refuse => {
            let problem = "was left by a run that did not finish; go on with `resume`, or begin again with `overwrite`";
            refuse(partial, problem)
        }
        Left::Run(_) | Left::Unknown(_) => Ok(()),
    }
}
