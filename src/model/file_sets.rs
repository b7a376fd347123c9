//! Files that are one model together: the shards `NAME-00001-of-00003.safetensors`, or one file.

use std::{collections::BTreeMap, path::Path};

use crate::storage::error::IoError;

/// The names that loaders look for.
const STANDARD: [&str; 2] = ["model", "diffusion_pytorch_model"];

/// The stem, the numbers and the extension that the name of a shard has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shard<'n> {
    stem: &'n str,
    number: usize,
    of: usize,
    extension: &'n str,
}

impl<'n> Shard<'n> {
    fn parse(name: &'n str) -> Option<Self> {
        let (rest, extension) = name.rsplit_once('.')?;
        let (rest, of) = rest.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        let shard = Self { stem, number: number.parse().ok()?, of: of.parse().ok()?, extension };
        (digits(number) && digits(of)).then_some(shard)
    }

    fn name(self, number: usize) -> String {
        format!("{}-{number:05}-of-{:05}.{}", self.stem, self.of, self.extension)
    }
}

/// Returns all the files of the model that a file belongs to, in their order: its shards, or it alone.
///
/// # Errors
/// Returns an error that names the shards that are missing.
pub fn all_of(folder: &Path, name: &str) -> Result<Vec<String>, IoError> {
    let Some(shard) = Shard::parse(name) else { return Ok(vec![name.to_owned()]) };
    let (there, missing): (Vec<_>, Vec<_>) = (1..=shard.of)
        .map(|number| if number == shard.number { name.to_owned() } else { shard.name(number) })
        .partition(|name| folder.join(name).exists());
    if missing.is_empty() && (1..=shard.of).contains(&shard.number) {
        return Ok(there);
    }
    let some = missing.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if missing.len() > 5 { format!(" and {} more", missing.len() - 5) } else { String::new() };
    let problem =
        format!("is one of {} files of a model, of which {} are missing: {some}{more}", shard.of, missing.len());
    Err(IoError::file(&folder.join(name), problem))
}

/// Tells whether a file is one of the shards of a model.
#[must_use]
pub fn is_shard(name: &str) -> bool {
    Shard::parse(name).is_some_and(|shard| shard.of > 1)
}

/// Tells whether a file has a name that loaders look for, before `extension`.
#[must_use]
pub fn is_standard(name: &str, extension: &str) -> bool {
    name.strip_suffix(extension).is_some_and(|stem| STANDARD.contains(&stem))
}

/// Chooses the model of a folder: the only one, or the one that has the name that loaders look for. Gives one of its files.
///
/// # Errors
/// Returns an error that lists them if there are several and none or more than one of them has such a name.
pub fn choose<'n>(folder: &Path, names: &'n [String], kind: &str) -> Result<&'n str, IoError> {
    let mut models: BTreeMap<(&str, usize), &str> = BTreeMap::new();
    for name in names {
        let key = Shard::parse(name).map_or((name.as_str(), 1), |shard| (shard.stem, shard.of));
        models.entry(key).or_insert(name);
    }
    let stem = |name: &'n str| match Shard::parse(name) {
        Some(shard) => shard.stem,
        None => name.rsplit_once('.').map_or(name, |(stem, _)| stem),
    };
    let standard: Vec<&str> = models.values().copied().filter(|name| STANDARD.contains(&stem(name))).collect();
    let all: Vec<&str> = models.into_values().collect();
    match (&all[..], &standard[..]) {
        ([one], _) | (_, [one]) => Ok(one),
        (several, _) => {
            let list = several.join(", ");
            let problem = format!(
                "holds {} {kind} that no index says to be one model; give the path of one: {list}",
                several.len()
            );
            Err(IoError::file(folder, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_number_and_how_many_there_are() {
        let shard = Shard::parse("model.fp16-00002-of-00003.safetensors").unwrap();
        assert_eq!(
            (shard.stem, shard.number, shard.of, shard.name(3).as_str()),
            ("model.fp16", 2, 3, "model.fp16-00003-of-00003.safetensors")
        );
        for name in ["model.safetensors", "a-1-of-2.gguf", "best-of-00002.gguf", "a-00001-of-0000x.gguf"] {
            assert_eq!(Shard::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_name_that_loaders_look_for_is_taken_among_several() {
        let choose = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            choose(Path::new("m"), &names, "files").map(str::to_owned).map_err(|error| error.to_string())
        };
        for (names, expected) in [
            (&["a.safetensors"][..], "a.safetensors"),
            (&["adapter_model.safetensors", "model.safetensors"], "model.safetensors"),
            (&["consolidated.safetensors", "model-00001-of-00002.safetensors"], "model-00001-of-00002.safetensors"),
            (&["model-00001-of-00002.gguf", "model.fp16-00001-of-00002.gguf"], "model-00001-of-00002.gguf"),
            (&["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"], "x-00001-of-00002.gguf"),
        ] {
            assert_eq!(choose(names).as_deref(), Ok(expected));
        }
        let message = choose(&["ae.safetensors", "flux1-dev.safetensors"]).unwrap_err();
        assert_eq!(
            message,
            "m: holds 2 files that no index says to be one model; give the path of one: ae.safetensors, flux1-dev.safetensors"
        );
        assert!(choose(&["diffusion_pytorch_model.safetensors", "model.safetensors"]).is_err());
    }
}
