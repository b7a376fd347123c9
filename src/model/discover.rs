//! The files that a path means: a safetensors or GGUF file, a folder of shards, a diffusers folder.

use std::path::{Path, PathBuf};

use super::{file_sets, index::Index};
use crate::storage::error::IoError;

/// The name of a model's configuration.
pub const CONFIG: &str = "config.json";

/// The file of a diffusers pipeline that names its parts.
pub(super) const PIPELINE: &str = "model_index.json";

const EXTENSION: &str = ".safetensors";
const INDEX_EXTENSION: &str = ".safetensors.index.json";
const GGUF_EXTENSION: &str = ".gguf";

/// The files that a path means.
#[derive(Debug)]
pub struct Found {
    /// The folder that holds them.
    pub folder: PathBuf,
    /// Their names in it, sorted.
    pub files: Vec<String>,
    /// The index that names them, where there is one.
    pub index: Option<Index>,
    /// Weights beside them that are no part of the model.
    pub passed_over: Vec<String>,
    /// The name of the file that was given. `None` means that a folder was.
    pub given: Option<String>,
}

/// Finds the model of a path.
///
/// # Errors
/// There is none, or more than one, or a part of one.
pub fn find(path: &Path) -> Result<Found, IoError> {
    let kind = std::fs::metadata(path).map_err(IoError::system("open", path))?;
    if !kind.is_dir() {
        let name = file_name(path)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let found = if is_index(&name) { of_index(folder, &name)? } else { of_file(folder, &name)? };
        return Ok(Found { given: Some(name), ..found });
    }
    let listing = Listing::of(path)?;
    let denoiser = || component(path, &listing).ok().filter(|_| path.join(PIPELINE).exists());
    if listing.holds_model() {
        return match denoiser() {
            Some(component) => of_folder(&component, Listing::of(&component)?),
            None => of_folder(path, listing),
        };
    }
    let component = component(path, &listing)?;
    let listing = Listing::of(&component)?;
    of_folder(&component, listing)
}

/// The files of the model that a file belongs to.
fn of_file(folder: PathBuf, name: &str) -> Result<Found, IoError> {
    if file_sets::is_shard(name) {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        for index in Listing::of(here)?.indices {
            let found = of_index(folder.clone(), &index);
            if let Ok(found) = found
                && found.files.iter().any(|file| file == name)
            {
                return Ok(found);
            }
        }
    }
    Ok(Found { files: file_sets::all_of(&folder, name)?, folder, index: None, passed_over: Vec::new(), given: None })
}

/// The files of a folder that holds a model itself.
fn of_folder(folder: &Path, listing: Listing) -> Result<Found, IoError> {
    let standard = |extension: &'static str| move |name: &&String| file_sets::is_standard(name, extension);
    let plain = listing.files.iter().find(standard(EXTENSION));
    let standard: Vec<&String> = listing.indices.iter().filter(standard(INDEX_EXTENSION)).collect();
    let mut found = match (&listing.indices[..], &standard[..], plain) {
        (_, [index], _) => of_index(folder.to_owned(), index)?,
        // An index of a variant beside the file that loaders take where no variant is asked for.
        (_, [], Some(file)) => of_file(folder.to_owned(), file)?,
        ([index], ..) => of_index(folder.to_owned(), index)?,
        ([], ..) if listing.files.is_empty() => {
            of_file(folder.to_owned(), file_sets::choose(folder, &listing.gguf, "GGUF files")?)?
        }
        ([], ..) => of_file(folder.to_owned(), file_sets::choose(folder, &listing.files, "files")?)?,
        (several, ..) => {
            let problem = format!("holds {} indices; give the path of one: {}", several.len(), several.join(", "));
            return Err(IoError::file(folder, problem));
        }
    };
    let all = listing.files.into_iter().chain(listing.gguf);
    found.passed_over = all.filter(|name| !found.files.contains(name)).collect();
    Ok(found)
}

fn of_index(folder: PathBuf, name: &str) -> Result<Found, IoError> {
    let index = Index::read(&folder.join(name))?;
    Ok(Found { files: index.files(&folder)?, index: Some(index), folder, passed_over: Vec::new(), given: None })
}

/// Tells whether a name is that of an index, of a variant too: `model.safetensors.index.fp16.json`.
fn is_index(name: &str) -> bool {
    name.split_once(".safetensors.index.").is_some_and(|(_, end)| end.rsplit('.').next() == Some("json"))
}

/// The sub-folder of a diffusers folder that is quantized.
fn component(path: &Path, listing: &Listing) -> Result<PathBuf, IoError> {
    let mut holding = Vec::new();
    for folder in &listing.folders {
        if holds_model(&path.join(folder)) {
            holding.push(folder.as_str());
        }
    }
    // `transformer_2` of models with two denoisers counts as well: which one is meant is then the user's to say.
    let is_denoiser = |name: &&&str| name.starts_with("transformer") || name.starts_with("unet");
    let denoisers: Vec<&&str> = holding.iter().filter(is_denoiser).collect();
    match (&denoisers[..], &holding[..]) {
        ([one], _) => Ok(path.join(one)),
        ([], [one]) => Ok(path.join(one)),
        ([], []) => Err(IoError::file(
            path,
            format!(
                "holds no model; looked for *{EXTENSION}, *{INDEX_EXTENSION}, *{GGUF_EXTENSION} and sub-folders that hold \
                 them (transformer, unet){}",
                if listing.has_other_format { "; .bin and .pt files are not read" } else { "" }
            ),
        )),
        _ => {
            let problem = format!("holds several models; give the path of one sub-folder: {}", holding.join(", "));
            Err(IoError::file(path, problem))
        }
    }
}

/// Tells whether a folder holds a model itself.
pub(super) fn holds_model(folder: &Path) -> bool {
    Listing::of(folder).is_ok_and(|listing| listing.holds_model())
}

/// The names in a folder that matter, sorted; hidden ones are passed over.
#[derive(Debug, Default)]
struct Listing {
    files: Vec<String>,
    indices: Vec<String>,
    gguf: Vec<String>,
    folders: Vec<String>,
    has_other_format: bool,
}

impl Listing {
    fn of(folder: &Path) -> Result<Self, IoError> {
        let mut listing = Self::default();
        for name in names(folder)? {
            let path = folder.join(&name);
            if path.is_dir() {
                listing.folders.push(name);
            } else if is_index(&name) {
                listing.indices.push(name);
            } else if name.ends_with(EXTENSION) {
                listing.files.push(name);
            } else if name.ends_with(GGUF_EXTENSION) {
                listing.gguf.push(name);
            } else {
                listing.has_other_format |= [".bin", ".pt", ".pth", ".ckpt"].iter().any(|e| name.ends_with(e));
            }
        }
        Ok(listing)
    }

    fn holds_model(&self) -> bool {
        !self.files.is_empty() || !self.indices.is_empty() || !self.gguf.is_empty()
    }
}

/// The names in a folder, sorted, without hidden ones and those that are not UTF-8.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, IoError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(IoError::system("list", folder))? {
        let entry = entry.map_err(IoError::system("list", folder))?;
        names.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}

fn file_name(path: &Path) -> Result<String, IoError> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| IoError::file(path, "is not the path of a file with a UTF-8 name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of empty files (and so of folders) of the names given.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn shards_are_found_in_the_order_of_their_names() {
        let shards = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"];
        let folder = folder(&[shards[1], shards[0], ".c.safetensors", "config.json"]);
        for path in [folder.path().to_owned(), folder.path().join(shards[1])] {
            assert_eq!(find(&path).unwrap().files, shards);
        }
    }

    #[test]
    fn a_diffusers_folder_gives_its_denoiser() {
        for denoiser in ["transformer", "unet"] {
            let weights = format!("{denoiser}/diffusion_pytorch_model.safetensors");
            let folder = folder(&[&weights, "vae/a.safetensors", "text_encoder/model.safetensors", "model_index.json"]);
            assert_eq!(find(folder.path()).unwrap().folder, folder.path().join(denoiser));
        }
        let folder = folder(&["prior/a.safetensors", "scheduler/scheduler_config.json"]);
        assert_eq!(find(folder.path()).unwrap().folder, folder.path().join("prior"));
    }

    #[test]
    fn what_cannot_be_decided_is_an_error_that_lists_the_candidates() {
        let two = ["transformer/a.safetensors", "transformer_2/a.safetensors", "vae/a.safetensors"];
        for (names, expected) in [
            (&two[..], "holds several models; give the path of one sub-folder: transformer, transformer_2, vae"),
            (&["vae/a.safetensors", "text_encoder/a.safetensors"], "sub-folder: text_encoder, vae"),
            (
                &["a.safetensors.index.json", "a.fp16.safetensors.index.json"],
                "holds 2 indices; give the path of one: a.fp16.safetensors.index.json, a.safetensors.index.json",
            ),
            (&["config.json"], "holds no model; looked for *.safetensors, *.safetensors.index.json, *.gguf and sub-fo"),
            (&["pytorch_model.bin"], "; .bin and .pt files are not read"),
            (
                &["b.gguf", "a.gguf"],
                "holds 2 GGUF files that no index says to be one model; give the path of one: a.gguf, b.gguf",
            ),
            (&["ae.safetensors", "flux.safetensors"], "give the path of one: ae.safetensors, flux.safetensors"),
            (
                &["m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors"],
                "is one of 3 files of a model, of which 1 are missing: m-00002-of-00003.safetensors",
            ),
        ] {
            let message = find(folder(names).path()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let missing = find(Path::new("/no/such/model")).unwrap_err().to_string();
        assert!(missing.starts_with("/no/such/model: cannot open: "), "{missing}");
    }
}
