//! `arrow_quant.json`: what an output folder holds and what it was made from.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    storage::{atomic_file::write_renamed, digest::digest_of, error::IoError},
    types::{Coding, PartFormat},
};

/// The name of the manifest in an output folder.
pub const MANIFEST: &str = "arrow_quant.json";

/// The name of the activation quantizers in an output folder.
pub const ACTIVATION_PARAMS: &str = "activation_params.parquet";
/// The name of the report in an output folder.
pub const REPORT: &str = "report.parquet";

/// The name of what each tensor takes and loses at each width, in an output folder.
pub const WIDTHS: &str = "widths.parquet";

/// The name of the factors by which an equalized model's channels were multiplied, in an output folder.
pub const EQUALIZATION: &str = "equalization.parquet";

/// The folder of the parts in an output folder.
pub const WEIGHTS: &str = "weights";

/// The option that has the digest of what equalization makes of the tensors.
pub const EQUALIZATION_DIGEST: &str = "equalization";

/// The layout of output folders that this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The layout of an equalized model whose inputs are to be scaled: as [`FORMAT_VERSION`], but what is decoded must be
/// multiplied by the `input_scale` of [`EQUALIZATION`], so that a reader that does not know of it must
/// refuse. Where all factors are folded the layout is the plain one.
pub const EQUALIZED_VERSION: u32 = 2;

/// The contents of an output folder and the sources that it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] or [`EQUALIZED_VERSION`].
    pub format_version: u32,
    /// The program's own version.
    pub version: String,
    /// True if every part is there; false in the record of an unfinished run.
    pub complete: bool,
    /// The name of the format.
    pub output_format: String,
    /// The options that it was made with, by the names of the fields of [`Spec`](crate::plan::spec::Spec).
    pub options: BTreeMap<String, serde_json::Value>,
    /// The SQL that made it.
    pub sql: String,
    /// The source files.
    pub sources: Vec<Source>,
    /// The tensors, in the order of the sources.
    pub tensors: Vec<TensorEntry>,
    /// The parts, in order; none in a complete folder of a format without parts.
    pub parts: Vec<PartEntry>,
    /// The files of a format without parts, and tables that change what the model computes; known when the folder is
    /// complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileEntry>,
    /// The names of all files that the run writes beside the manifest and the parts, sorted. `None` means that the folder is
    /// one of a version that did not list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// A file beside the parts, or in place of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest, of a table.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

impl FileEntry {
    /// Checks that the table of a folder is, byte for byte, the one that was written.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or is another.
    pub fn verify(&self, folder: &Path) -> Result<(), IoError> {
        let path = folder.join(&self.file);
        if digest_of(&path)? != (self.bytes, self.digest.clone()) {
            return Err(IoError::file(&path, "is damaged: its digest is not the one in the manifest"));
        }
        Ok(())
    }
}

/// A source file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name in the model's folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The digest of its header and of samples of its data.
    pub source_digest: String,
}

/// A tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Its dtype in the source.
    pub dtype: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// The bytes that it takes in the output; known when the folder is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartEntry {
    /// Its file, relative to the folder; empty where the format has no parts of its own.
    pub file: String,
    /// Its rows: the number of a tensor in [`Manifest::tensors`], the first of its rows and the one after the last.
    pub rows: Vec<(usize, usize, usize)>,
    /// The length of its file; known when the folder is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The digest of its file; known when the folder is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl PartEntry {
    /// Returns the number of its rows.
    pub fn row_count(&self) -> usize {
        self.rows.iter().map(|(_, start, end)| end.saturating_sub(*start)).fold(0, usize::saturating_add)
    }
}

impl Manifest {
    /// Returns the format of the parts. `None` means that the format has none.
    pub fn part_format(&self) -> Option<PartFormat> {
        self.output_format.parse().ok()
    }

    /// Returns true if the weights are entropy-coded.
    pub fn is_entropy(&self) -> bool {
        self.options.get("method").is_some_and(|method| method == Coding::ENTROPY)
    }

    /// Returns a part by its number. `folder` is the one that the manifest describes, for the message of an error.
    ///
    /// # Errors
    /// Returns an error if there is no such part.
    pub(crate) fn part(&self, folder: &Path, number: usize) -> Result<&PartEntry, IoError> {
        let parts = self.parts.len();
        let missing = || IoError::file(folder, format!("has {parts} parts, no part {number}"));
        self.parts.get(number).ok_or_else(missing)
    }

    /// Reads the manifest of a folder.
    ///
    /// # Errors
    /// Returns an error if it is missing, is not a manifest, or is one of another layout.
    pub fn read(folder: &Path) -> Result<Self, IoError> {
        /// The one field that every layout has.
        #[derive(Deserialize)]
        struct Layout {
            format_version: u32,
        }
        let path = folder.join(MANIFEST);
        let text = std::fs::read(&path).map_err(IoError::system("read", &path))?;
        let broken = |error: serde_json::Error| IoError::file(&path, format!("is not a manifest: {error}"));
        let layout: Layout = serde_json::from_slice(&text).map_err(broken)?;
        if ![FORMAT_VERSION, EQUALIZED_VERSION].contains(&layout.format_version) {
            let read = format!("this version reads {FORMAT_VERSION} and {EQUALIZED_VERSION}");
            let problem = format!("is of layout {}; {read}", layout.format_version);
            return Err(IoError::file(&path, problem));
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(broken)?;
        manifest.check().map_err(|problem| IoError::file(&path, problem))?;
        Ok(manifest)
    }

    /// Checks that its numbers and names refer to something inside the folder.
    fn check(&self) -> Result<(), String> {
        for (number, part) in self.parts.iter().enumerate() {
            if part.file != part_file(number, self.part_format()) {
                return Err(format!(
                    "part {number} is in '{}', not '{}'",
                    part.file,
                    part_file(number, self.part_format())
                ));
            }
            if part.rows.iter().any(|(tensor, start, end)| *tensor >= self.tensors.len() || start > end) {
                return Err(format!("part {number} has rows of no tensor"));
            }
        }
        let known = [ACTIVATION_PARAMS, EQUALIZATION, WIDTHS];
        let is_name =
            |file: &str| file.split('/').all(|part| !part.is_empty() && !part.contains('\\') && !part.starts_with('.'));
        let accepted = |file: &str| known.contains(&file) || (self.part_format().is_none() && is_name(file));
        if let Some(other) = self.names.iter().flatten().find(|name| !is_name(name)) {
            return Err(format!("'{other}' is not the name of a file in the folder"));
        }
        if let Some(other) = self.files.iter().find(|entry| !accepted(&entry.file)) {
            return Err(format!("the file '{}' is none of {}", other.file, known.join(", ")));
        }
        if self.equalized() && self.complete && !self.files.iter().any(|entry| entry.file == EQUALIZATION) {
            return Err(format!("layout {} needs the file {EQUALIZATION}", self.format_version));
        }
        Ok(())
    }

    /// Returns true if inputs are to be scaled at run time.
    pub fn equalized(&self) -> bool {
        self.format_version == EQUALIZED_VERSION
    }

    /// Writes the manifest to a folder: beside, then renamed.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), IoError> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| IoError::file(&path, format!("cannot be written: {error}")))?;
        write_renamed(&path, text.as_bytes())
    }

    /// Returns the difference of a run that wants to continue with this folder; `None` if it may.
    pub fn difference(&self, run: &Self) -> Option<String> {
        if self.version != run.version {
            return Some(format!("it was begun by version {}, this is {}", self.version, run.version));
        }
        if self.format_version != run.format_version {
            return Some(format!("its layout is {}, not {}", self.format_version, run.format_version));
        }
        if self.output_format != run.output_format {
            return Some(format!("its format is {}, not {}", self.output_format, run.output_format));
        }
        let keys = self.options.keys().chain(run.options.keys()).map(String::as_str);
        // The factors last: another option may be why they differ.
        for key in keys.filter(|key| *key != EQUALIZATION_DIGEST).chain([EQUALIZATION_DIGEST]) {
            let (there, here) = (self.options.get(key), run.options.get(key));
            if there != here {
                if key == EQUALIZATION_DIGEST && there.is_some() && here.is_some() {
                    let problem =
                        "its channels were equalized by other factors: the weights are not those that it began with";
                    return Some(problem.to_owned());
                }
                let show = |value: Option<&serde_json::Value>| value.map_or("none".to_owned(), ToString::to_string);
                return Some(format!("`{key}` was {}, now it is {}", show(there), show(here)));
            }
        }
        if self.sql != run.sql {
            return Some("the query differs".to_owned());
        }
        if self.sources != run.sources {
            let changed = run.sources.iter().find(|source| !self.sources.contains(source));
            return Some(changed.map_or("source files are gone".to_owned(), |source| {
                format!("the source {} has changed or is new", source.name)
            }));
        }
        if self.names != run.names {
            return Some("the files beside the weights are not those that it began with".to_owned());
        }
        (self.tensors != run.tensors
            || self.parts.len() != run.parts.len()
            || self.parts.iter().zip(&run.parts).any(|(a, b)| a.rows != b.rows))
        .then(|| "the parts differ".to_owned())
    }
}

/// Tells whether a name in an output folder is that of a part.
pub fn is_part(name: &str) -> bool {
    name.starts_with("weights/part-")
}

/// Returns the file of a part, relative to the folder; nothing where the format has no parts of its own.
pub fn part_file(number: usize, format: Option<PartFormat>) -> String {
    format.map_or_else(String::new, |format| format!("weights/part-{number:05}.{format}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            version: "2.0.0".into(),
            complete: false,
            output_format: PartFormat::Parquet.to_string(),
            options: BTreeMap::from([("bits".into(), 2.into())]),
            sql: "SELECT 1".into(),
            sources: vec![Source { name: "a".into(), bytes: 1, source_digest: "00".into() }],
            tensors: vec![TensorEntry { name: "w".into(), dtype: "F32".into(), shape: vec![2, 3], bytes: None }],
            parts: vec![PartEntry {
                file: "weights/part-00000.parquet".into(),
                rows: vec![(0, 0, 2)],
                bytes: None,
                digest: None,
            }],
            files: Vec::new(),
            names: Some(vec!["report.parquet".into()]),
        }
    }

    #[test]
    fn a_manifest_reads_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = manifest();
        manifest.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), manifest);
        manifest.parts[0].bytes = Some(5);
        manifest.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), manifest);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let good = serde_json::to_string(&manifest()).unwrap();
        for (text, expected) in [
            (String::new(), "is not a manifest: EOF"),
            ("{}".into(), "is not a manifest: missing field `format_version`"),
            (
                good.replace("\"format_version\":1", "\"format_version\":3"),
                "is of layout 3; this version reads 1 and 2",
            ),
            (
                good.replace("\"format_version\":1", "\"format_version\":2")
                    .replace("\"complete\":false", "\"complete\":true"),
                "layout 2 needs the file equalization.parquet",
            ),
            (
                good.replace("]]}],", "]]}],\"files\":[{\"file\":\"../x\",\"bytes\":1,\"digest\":\"\"}],"),
                "the file '../x' is none of activation_params.parquet, equalization.parquet",
            ),
            (good.replace("[\"report.parquet\"]", "[\"../x\"]"), "'../x' is not the name of a file in the folder"),
            (good.replace("[[0,0,2]]", "[[1,0,2]]"), "part 0 has rows of no tensor"),
            (good.replace("[[0,0,2]]", "[[0,3,2]]"), "part 0 has rows of no tensor"),
            (good.replace("weights/part-00000", "../../etc/passwd"), "part 0 is in '../../etc/passwd.parquet'"),
        ] {
            std::fs::write(folder.path().join(MANIFEST), text).unwrap();
            let message = Manifest::read(folder.path()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_difference_is_named() {
        let run = manifest();
        let changed = |change: fn(&mut Manifest)| {
            let mut there = manifest();
            change(&mut there);
            there.difference(&run)
        };
        assert_eq!(changed(|_| ()), None);
        assert_eq!(changed(|there| there.version = "1".into()).unwrap(), "it was begun by version 1, this is 2.0.0");
        assert_eq!(
            changed(|there| drop(there.options.insert("bits".into(), 4.into()))).unwrap(),
            "`bits` was 4, now it is 2"
        );
        assert_eq!(
            changed(|there| drop(there.options.insert("seed".into(), 4.into()))).unwrap(),
            "`seed` was 4, now it is none"
        );
        let digest = |digest: &str| BTreeMap::from([(EQUALIZATION_DIGEST.into(), digest.into())]);
        let difference = Manifest { options: digest("1f"), ..manifest() }
            .difference(&Manifest { options: digest("2e"), ..manifest() });
        assert!(difference.unwrap().starts_with("its channels were equalized by other factors"));
        assert_eq!(changed(|there| there.sql.clear()).unwrap(), "the query differs");
        assert_eq!(changed(|there| there.sources[0].bytes = 2).unwrap(), "the source a has changed or is new");
        assert_eq!(changed(|there| there.parts[0].rows[0].2 = 1).unwrap(), "the parts differ");
    }
}
