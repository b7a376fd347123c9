//! A model opened: from the headers of its files, or from the parts of an output folder.

use std::{collections::HashMap, path::Path};

use super::{
    Model, ModelFile, comfy_layers, discover,
    header::Header,
    mlx_layers,
    output_folder::QuantizedModel,
    packed_modules,
    part_rows::PartRows,
    said,
    tensor::{Storage, Tensor},
};
use crate::storage::{
    contents::Contents,
    digest::Digest,
    error::IoError,
    folder::manifest::{MANIFEST, Manifest},
    stamp::Stamp,
};

impl Model {
    /// Opens a model and the headers of its files, which must not change while it is open.
    ///
    /// `path` is a safetensors or a GGUF file, the `*.safetensors.index.json` of a folder of shards, such a folder with or
    /// without index, a folder with one GGUF file, a diffusers folder, of which `transformer/` or `unet/` is taken, or a
    /// folder that a run made.
    ///
    /// # Errors
    /// There is no model at `path` (the message says what was looked for) or more than one (it lists them); a file is
    /// neither safetensors nor GGUF; an index and its shards disagree; a tensor is there twice.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        Self::with(path, Contents::open)
    }

    /// Like [`Self::open`], with all files read to memory first.
    ///
    /// # Errors
    /// As [`Self::open`], and what reading gives.
    pub fn load(path: &Path) -> Result<Self, IoError> {
        Self::with(path, Contents::load)
    }

    /// Like [`Self::open`], but of a folder whose inputs are to be scaled too: its weights are those of scaled inputs.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_equalized(path: &Path) -> Result<Self, IoError> {
        if is_of_parts(path)? { Self::of_parts(QuantizedModel::open(path)?) } else { Self::open(path) }
    }

    fn with(path: &Path, contents: impl Fn(&Path) -> Result<Contents, IoError>) -> Result<Self, IoError> {
        if !is_of_parts(path)? {
            return Self::of_files(discover::find(path)?, contents);
        }
        let model = QuantizedModel::open(path)?;
        if model.manifest().equalized() {
            let problem = "is equalized for inputs that are scaled: what its codes decode to is not its weights, and only \
                           compare reads it";
            return Err(IoError::file(path, problem));
        }
        Self::of_parts(model)
    }

    fn of_files(
        found: discover::Found,
        contents: impl Fn(&Path) -> Result<Contents, IoError>,
    ) -> Result<Self, IoError> {
        let mut files: Vec<ModelFile> = Vec::with_capacity(found.files.len());
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for name in found.files {
            let path = found.folder.join(&name);
            let stamp = Some(Stamp::read(&path)?);
            let contents = contents(&path)?;
            let header = Header::read(&contents, &path, files.len())?;
            for tensor in header.tensors {
                if let Some(other) = by_name.insert(tensor.name.clone(), tensors.len()) {
                    let other: &ModelFile = &files[tensors[other].file()];
                    return Err(IoError::tensor(
                        &path,
                        &tensor.name,
                        format!(
                            "is in {} too; give the path of one of the files, or an index that says which",
                            other.name
                        ),
                    ));
                }
                tensors.push(tensor);
            }
            let source_digest = source_digest(&contents, header.data_start)?;
            let bytes = contents.length();
            let Header { metadata, pairs, .. } = header;
            let contents = Some(contents);
            files.push(ModelFile { path, name, bytes, source_digest, metadata, pairs, stamp, contents });
        }
        check_split(&files)?;
        if let Some(index) = &found.index {
            index.check(|name| by_name.get(name).map(|tensor| files[tensors[*tensor].file()].name.as_str()))?;
        }
        if tensors.iter().any(packed_modules::is_packed) {
            tensors = unpacked(&found.folder, &files, tensors)?;
        }
        let pairs = files.iter().flat_map(|file| &file.metadata);
        let said: Vec<&str> =
            pairs.filter(|(key, _)| key == comfy_layers::METADATA).map(|(_, text)| text.as_str()).collect();
        if !said.is_empty() || tensors.iter().any(|tensor| tensor.name.ends_with(comfy_layers::MARKER)) {
            let path = |tensor: &Tensor| files[tensor.file()].path.as_path();
            tensors = comfy_layers::unpack(tensors, |tensor| bytes_of(&files, tensor), path, &said)?;
        }
        if tensors.iter().any(mlx_layers::is_packed) {
            let config = said::config(&found.folder);
            tensors = mlx_layers::unpack(tensors, |tensor| files[tensor.file()].path.as_path(), &config)?;
        }
        let model = Self::new(found.folder, files, tensors, None)?;
        Ok(Self { passed_over: found.passed_over, given: found.given, ..model })
    }

    /// Makes the model of an output folder.
    pub(crate) fn of_parts(model: QuantizedModel) -> Result<Self, IoError> {
        let folder = model.folder().to_owned();
        let manifest = model.manifest();
        let files = manifest.parts.iter().map(|part| ModelFile {
            path: folder.join(&part.file),
            name: part.file.clone(),
            bytes: part.bytes.unwrap_or(0) as usize,
            source_digest: part.digest.clone().unwrap_or_default(),
            metadata: Vec::new(),
            pairs: Vec::new(),
            stamp: None,
            contents: None,
        });
        let files: Vec<ModelFile> = files.collect();
        let mut begins = vec![0; manifest.tensors.len()];
        for (number, part) in manifest.parts.iter().enumerate() {
            part.rows.iter().filter(|(_, start, _)| *start == 0).for_each(|(tensor, ..)| begins[*tensor] = number);
        }
        let tensors = model.tensors().iter().zip(&manifest.tensors).zip(begins).map(|((tensor, entry), file)| {
            let bytes = entry.bytes.unwrap_or(0) as usize;
            Tensor { storage: Storage::Parts { file, bytes }, ..tensor.clone() }
        });
        let tensors = tensors.collect();
        Self::new(folder, files, tensors, Some(PartRows::new(model)))
    }
}

/// Returns true if there is a folder of parts that a run made.
fn is_of_parts(path: &Path) -> Result<bool, IoError> {
    Ok(path.join(MANIFEST).is_file() && Manifest::read(path)?.part_format().is_some())
}

/// Returns the tensors, with those that modules of compressed-tensors stand for in place of theirs.
fn unpacked(folder: &Path, files: &[ModelFile], tensors: Vec<Tensor>) -> Result<Vec<Tensor>, IoError> {
    let widths = packed_modules::widths(&said::config(folder));
    packed_modules::unpack(tensors, |tensor| bytes_of(files, tensor), |tensor| &files[tensor.file()].path, &widths)
}

/// Reads all bytes of a tensor.
fn bytes_of(files: &[ModelFile], tensor: &Tensor) -> Result<Vec<u8>, IoError> {
    let file = &files[tensor.file()];
    let range = tensor.rows_range(&(0..tensor.rows));
    let mut bytes = vec![0; range.len()];
    match &file.contents {
        Some(contents) => contents.read(range.start, &mut bytes).map(|()| bytes),
        None => Err(IoError::tensor(&file.path, &tensor.name, "lies outside its file")),
    }
}

/// Checks that all files of a split GGUF model are there, whatever they are called.
fn check_split(files: &[ModelFile]) -> Result<(), IoError> {
    for file in files {
        let said = file.metadata.iter().find(|(key, _)| key == "split.count");
        let Some(count) = said.and_then(|(_, count)| count.parse::<usize>().ok()) else { continue };
        if count > 1 && count != files.len() {
            let problem = format!(
                "says that it is one of {count} files of a model, and {} were found; all must lie in one folder, called \
                 NAME-00001-of-{count:05}.gguf and so on",
                files.len()
            );
            return Err(IoError::file(&file.path, problem));
        }
    }
    Ok(())
}

/// Places that are sampled of a file, and the bytes taken at each.
const SAMPLES: usize = 64;
const SAMPLE_BYTES: usize = 4096;

/// Returns the digest of a file's header, and of samples spread evenly over its data: reading all of it would take as long as
/// quantizing it.
fn source_digest(contents: &Contents, data_start: usize) -> Result<String, IoError> {
    let mut digest = Digest::default();
    let length = contents.length();
    digest.update(&contents.head(data_start)?);
    let step = ((length - data_start) / SAMPLES).max(SAMPLE_BYTES);
    let mut sample = [0; SAMPLE_BYTES];
    for start in (data_start..length).step_by(step) {
        let sample = &mut sample[..SAMPLE_BYTES.min(length - start)];
        contents.read(start, sample)?;
        digest.update(sample);
    }
    Ok(digest.hex())
}
