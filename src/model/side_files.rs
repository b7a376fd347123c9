//! The files beside the weights, which a model needs as well: configuration, tokenizer, code, licence.
//!
//! Everything is taken that is not weights, whatever it is called: engines look for names that nobody can list.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::discover::names;
use crate::storage::{
    error::IoError,
    folder::manifest::{ACTIVATION_PARAMS, EQUALIZATION, MANIFEST, REPORT, WIDTHS, is_part},
};

/// The ends of the names of weights, whatever reads them.
const WEIGHTS: [&str; 26] = [
    ".safetensors",
    ".gguf",
    ".ggml",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".h5",
    ".hdf5",
    ".keras",
    ".msgpack",
    ".tflite",
    ".pb",
    ".ot",
    ".mlmodel",
    ".mlpackage",
    ".mlmodelc",
    ".engine",
    ".nemo",
    ".distcp",
    ".pdparams",
    ".pte",
    ".mnn",
    ".params",
    ".llamafile",
];

/// The bytes of a file above which it is no file that goes along with a model.
const FILE_BYTES: u64 = 100_000_000;

/// The bytes of a folder above which it is a collection of data.
const FOLDER_BYTES: u64 = 1_000_000_000;

/// The entries of a folder above which it is a collection of data.
const FOLDER_ENTRIES: usize = 10_000;

/// The files that tell the folder of a saved plan.
const SAVED_PLAN: [&str; 2] = ["plan.json", "plan.sql"];

/// The bytes of a JSON file above which it is no configuration that names folders.
const CONFIG_BYTES: u64 = 1_000_000;

/// A file that goes along with the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideFile {
    /// Its name relative to the model's folder, with `/` between folders.
    pub name: String,
    /// The path of the file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// The files beside the weights.
#[derive(Debug, Default)]
pub struct SideFiles {
    /// The files that go along, by name.
    pub files: Vec<SideFile>,
    /// The files that stay behind, each with the reason.
    pub left: Vec<String>,
}

impl SideFiles {
    /// Lists what goes along with a model of a folder. `given` is the name of the file that was given instead of the folder:
    /// in a folder that no configuration says to be the model's, only files of its own name go along.
    ///
    /// Links are followed. Hidden entries, weights in any form, their indexes, outputs of runs and large data stay behind. A
    /// folder that a configuration names goes along with all that it holds.
    ///
    /// # Errors
    /// Returns an error that names the first file or folder that cannot be read.
    pub fn of(folder: &Path, given: Option<&str>) -> Result<Self, IoError> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut entries = names(folder)?;
        let own =
            given.filter(|_| !entries.iter().any(|name| name.ends_with("config.json") || name == "model_index.json"));
        if let Some(given) = own {
            let stem = given.split('.').next().unwrap_or(given);
            entries.retain(|name| {
                name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')) && !folder.join(name).is_dir()
            });
        }
        let named = named_folders(folder, &entries)?;
        Self::walk(folder, entries, named)
    }

    /// Lists what goes along with the parts of a pipeline that are `quantized`: the parts in `whole`, with all that they hold,
    /// and what lies beside them.
    ///
    /// # Errors
    /// Returns an error that names the first file or folder that cannot be read.
    pub fn of_pipeline(folder: &Path, whole: HashSet<String>, quantized: &HashSet<String>) -> Result<Self, IoError> {
        let mut entries = names(folder)?;
        entries.retain(|name| !quantized.contains(name));
        Self::walk(folder, entries, whole)
    }

    fn walk(folder: &Path, entries: Vec<String>, named: HashSet<String>) -> Result<Self, IoError> {
        let mut side = Self::default();
        let walk = Walk { root: folder, ours: folder.join(MANIFEST).is_file(), named };
        let mut above = vec![canonical(folder)?];
        for name in entries {
            let mut found = Found::default();
            walk.visit(&name, false, &mut above, &mut found)?;
            if found.is_data() {
                side.left.push(format!("{name} (more than {FOLDER_ENTRIES} files or 1 GB)"));
            } else {
                side.left.extend(found.left);
                side.files.extend(found.files);
            }
        }
        side.files.sort_by(|a, b| a.name.cmp(&b.name));
        side.left.sort();
        // What cannot be read is an error before anything is done.
        for file in &side.files {
            File::open(&file.path).map_err(IoError::system("open", &file.path))?;
        }
        Ok(side)
    }
}

/// The files of a folder that go along, and those that stay behind.
#[derive(Default)]
struct Found {
    files: Vec<SideFile>,
    left: Vec<String>,
    /// Everything that was looked at.
    entries: usize,
    /// The bytes that count towards [`FOLDER_BYTES`].
    bytes: u64,
}

impl Found {
    /// Tells whether it is a collection of data.
    fn is_data(&self) -> bool {
        self.entries > FOLDER_ENTRIES || self.bytes > FOLDER_BYTES
    }
}

/// A walk through a model's folder.
struct Walk<'a> {
    root: &'a Path,
    /// True if a run made the folder.
    ours: bool,
    /// The folders that a configuration names.
    named: HashSet<String>,
}

impl Walk<'_> {
    /// Looks at an entry, and at all that it holds. `whole` says that it lies in a folder that is named. `above` are the
    /// folders around it, which a link may lead back to.
    fn visit(&self, name: &str, whole: bool, above: &mut Vec<PathBuf>, found: &mut Found) -> Result<(), IoError> {
        found.entries += 1;
        if found.is_data() {
            return Ok(());
        }
        let path = self.root.join(name);
        let last = name.rsplit('/').next().unwrap_or(name);
        if last.contains('\\') {
            found.left.push(format!("{name} (its name has a backslash)"));
            return Ok(());
        }
        if !whole && is_weights(last) {
            found.left.push(name.to_owned());
            return Ok(());
        }
        if (!whole && is_index(last)) || (self.ours && is_of_run(name)) {
            return Ok(());
        }
        let data = fs::metadata(&path).map_err(IoError::system("open", &path))?;
        if data.is_file() {
            if !whole && data.len() > FILE_BYTES {
                found.left.push(format!("{name} (more than 100 MB)"));
            } else {
                found.bytes += if whole { 0 } else { data.len() };
                found.files.push(SideFile { name: name.to_owned(), path, bytes: data.len() });
            }
        } else if data.is_dir() {
            let real = canonical(&path)?;
            if last == "__pycache__"
                || last.ends_with(".partial")
                || (is_made(&path) && !whole && !self.named.contains(name))
                || above.contains(&real)
            {
                return Ok(());
            }
            above.push(real);
            for entry in names(&path)? {
                let inside = format!("{name}/{entry}");
                self.visit(&inside, whole || self.named.contains(name), above, found)?;
            }
            above.pop();
        } else {
            found.left.push(format!("{name} (no file)"));
        }
        Ok(())
    }
}

/// Tells by its name whether a file, or a folder of one, holds weights.
fn is_weights(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WEIGHTS.iter().any(|end| name.ends_with(end)) || name.contains(".onnx")
}

/// Tells whether a folder is an output of a run or a saved plan.
fn is_made(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file() || SAVED_PLAN.iter().all(|file| folder.join(file).is_file())
}

/// Tells by its name whether a file says which file holds which tensor: `model.safetensors.index.json` and its kin.
fn is_index(name: &str) -> bool {
    name.contains(".index.") && is_json(name)
}

fn is_json(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "json")
}

/// Tells whether an entry of an output folder is one that a run makes anew.
fn is_of_run(name: &str) -> bool {
    [MANIFEST, REPORT, WIDTHS, ACTIVATION_PARAMS, EQUALIZATION].contains(&name) || is_part(name)
}

/// Returns the folders that the configurations of a folder name: `2_Dense` in the `modules.json` of sentence-transformers.
fn named_folders(folder: &Path, entries: &[String]) -> Result<HashSet<String>, IoError> {
    let mut named = HashSet::new();
    for name in entries.iter().filter(|name| is_json(name)) {
        let path = folder.join(name);
        if !path.is_file() || fs::metadata(&path).is_ok_and(|data| data.len() > CONFIG_BYTES) {
            continue;
        }
        let text = fs::read(&path).map_err(IoError::system("read", &path))?;
        // Whoever needs what it says says that it is no JSON.
        let Ok(value) = serde_json::from_slice(&text) else { continue };
        add_folders(folder, &value, &mut named);
    }
    Ok(named)
}

fn add_folders(folder: &Path, value: &Value, named: &mut HashSet<String>) {
    match value {
        Value::String(text) => {
            let name = text.trim_start_matches("./").trim_end_matches('/');
            let inside = !name.is_empty() && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
            if inside && name.len() < 256 && folder.join(name).is_dir() {
                named.insert(name.to_owned());
            }
        }
        Value::Array(values) => values.iter().for_each(|value| add_folders(folder, value, named)),
        Value::Object(map) => map.values().for_each(|value| add_folders(folder, value, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn canonical(folder: &Path) -> Result<PathBuf, IoError> {
    fs::canonicalize(folder).map_err(IoError::system("find", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of files that hold their own names.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    fn of(folder: &Path, given: Option<&str>) -> (Vec<String>, Vec<String>) {
        let side = SideFiles::of(folder, given).unwrap();
        (side.files.into_iter().map(|file| file.name).collect(), side.left)
    }

    #[test]
    fn everything_goes_along_but_weights_their_indexes_and_what_is_hidden() {
        let along = [
            "2/a/b/deep.py",
            "LICENSE",
            "README.md",
            "config.json",
            "mel_filters.npz",
            "modeling_x.py",
            "spiece.model",
            "tekken.json",
            "x/__init__.py",
        ];
        let weights = ["consolidated.00.pth", "onnx/model.onnx", "onnx/model.onnx_data", "original/model.safetensors"];
        let gone = [
            ".git/config",
            ".gitattributes",
            "model.safetensors.index.json",
            "pytorch_model.bin.index.json",
            "x/__pycache__/a.pyc",
            "out/arrow_quant.json",
            "out/config.json",
            "out.partial/run.json",
            "plan/plan.json",
            "plan/plan.sql",
            "plan/choices.parquet",
        ];
        let folder = folder(&[&along[..], &weights, &gone].concat());
        let (files, left) = of(folder.path(), None);
        assert_eq!(files, along);
        assert_eq!(left, weights);
    }

    #[test]
    fn a_folder_that_a_configuration_names_goes_along_whole() {
        let folder = folder(&["1_Pooling/config.json", "2_Dense/model.safetensors", "3/model.safetensors"]);
        fs::write(
            folder.path().join("modules.json"),
            r#"[{"path": "1_Pooling"}, {"path": "./2_Dense/"}, {"path": ""}]"#,
        )
        .unwrap();
        let (files, left) = of(folder.path(), None);
        assert_eq!(files, ["1_Pooling/config.json", "2_Dense/model.safetensors", "modules.json"]);
        assert_eq!(left, ["3/model.safetensors"]);
    }

    #[test]
    fn of_a_file_among_others_what_bears_its_name_goes_along() {
        let folder =
            folder(&["a.safetensors", "a.yaml", "a.preview.png", "ab.txt", "notes.txt", "x/config.json", "a.d/x"]);
        assert_eq!(of(folder.path(), Some("a.safetensors")).0, ["a.preview.png", "a.yaml"]);
        fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
        let (files, _) = of(folder.path(), Some("a.safetensors"));
        assert_eq!(files.len(), 7, "{files:?}");
    }

    #[test]
    fn collections_of_data_stay_behind() {
        let folder = folder(&["config.json", "small/a.txt"]);
        for (name, bytes) in [("large.tar", FILE_BYTES + 1), ("data/a.tar", FILE_BYTES)] {
            fs::create_dir_all(folder.path().join("data")).unwrap();
            File::create(folder.path().join(name)).unwrap().set_len(bytes).unwrap();
        }
        for number in 0..10 {
            fs::hard_link(folder.path().join("data/a.tar"), folder.path().join(format!("data/{number}.tar"))).unwrap();
        }
        let (files, left) = of(folder.path(), None);
        assert_eq!(files, ["config.json", "small/a.txt"]);
        assert_eq!(left, ["data (more than 10000 files or 1 GB)", "large.tar (more than 100 MB)"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_lead_round_in_no_circle() {
        use std::os::unix::fs::symlink;

        let elsewhere = folder(&["blob", "code/a.py"]);
        let folder = folder(&["config.json"]);
        symlink(elsewhere.path().join("blob"), folder.path().join("tokenizer.json")).unwrap();
        symlink(elsewhere.path().join("code"), folder.path().join("code")).unwrap();
        symlink(folder.path(), elsewhere.path().join("code/back")).unwrap();
        symlink(".", elsewhere.path().join("code/self")).unwrap();
        assert_eq!(of(folder.path(), None).0, ["code/a.py", "config.json", "tokenizer.json"]);
        symlink("nowhere", folder.path().join("vocab.txt")).unwrap();
        let message = SideFiles::of(folder.path(), None).unwrap_err().to_string();
        assert!(message.contains("vocab.txt: cannot open: "), "{message}");
    }
}
