//! The layers of docs/design.md: a module imports only what stands below it.

use std::{fs, path::Path};

/// Each layer with the modules of this crate that it may name.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("kernels", &["kernels"]),
    ("types", &["types"]),
    ("compute", &["compute", "kernels", "types"]),
    ("io", &["io", "compute", "kernels", "types"]),
    ("sql/functions", &["sql::functions", "sql::memory", "compute", "types"]),
    ("sql/tables", &["sql::tables", "io", "types"]),
    ("sql", &["sql", "io", "compute", "types"]),
    ("cli", &["cli", "sql", "io", "types"]),
];

/// Crates that a layer must not name.
const MUST_NOT_NAME: [(&str, &[&str]); 4] = [
    ("kernels", &["arrow", "arrow_array", "arrow_schema", "datafusion", "std::fs"]),
    ("types", &["arrow_array", "datafusion", "std::fs"]),
    ("compute", &["datafusion", "std::fs", "parquet"]),
    ("io", &["datafusion"]),
];

/// The code of a file: no comments, no tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn rust_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn files() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    rust_files(&source, &mut found);
    found
        .into_iter()
        // Compiled for tests alone.
        .filter(|path| !["tests.rs", "kernels/samples.rs", "kernels/digest.rs"].iter().any(|name| path.ends_with(name)))
        .map(|path| {
            let name = path.strip_prefix(&source).unwrap().to_str().unwrap().to_string();
            (name, code(&fs::read_to_string(path).unwrap()))
        })
        .collect()
}

/// The modules that `crate::` paths of a file name, one per path.
fn named_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            // `use crate::{io::Model, types::Bits}`: the names at the first level.
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => modules.push(std::mem::take(&mut item)),
                    _ => {}
                }
                if c != ',' || depth > 0 {
                    item.push(c);
                }
            }
            modules.push(item);
        } else {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            modules.push(rest[..end].to_string());
        }
    }
    modules.into_iter().map(|module| module.trim().to_string()).filter(|module| !module.is_empty()).collect()
}

#[test]
fn no_layer_names_one_above_it() {
    let mut checked = 0;
    for (name, code) in files() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(layer, _)| name.starts_with(&format!("{layer}/"))) else {
            continue;
        };
        for module in named_modules(&code) {
            let fits = allowed.iter().any(|allowed| {
                module == *allowed || module.strip_prefix(allowed).is_some_and(|rest| rest.starts_with("::"))
            });
            assert!(fits, "src/{name} names crate::{module}; it may name {allowed:?}");
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} imports found: the search is broken");
}

#[test]
fn no_layer_names_a_crate_that_belongs_above_it() {
    for (name, code) in files() {
        let layer = name.split('/').next().unwrap();
        for (_, forbidden) in MUST_NOT_NAME.iter().filter(|(of, _)| *of == layer) {
            for word in *forbidden {
                let found = code.match_indices(word).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    let after = code[at + word.len()..].chars().next();
                    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                    !joins(before) && (!joins(after) || word.ends_with('<'))
                });
                assert!(!found, "src/{name} names {word}");
            }
        }
    }
}

#[test]
fn the_search_sees_through_groups() {
    assert_eq!(
        named_modules("use crate::{io::{A, B}, types::Bits};\ncrate::sql::x()"),
        ["io::{A, B}", "types::Bits", "sql::x"]
    );
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    rust_files(&root, &mut found);
    for path in found {
        assert!(fs::read_to_string(&path).unwrap().starts_with("//! "), "{}", path.display());
    }
}
