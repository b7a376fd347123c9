//! The public items of the documented floors, and the names at the crate's root: a change of them shows in a diff.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folders and files whose public items users see; the floors above are hidden from the documentation.
const DOCUMENTED: [&str; 4] = ["lib.rs", "types", "kernels", "compute"];

/// Returns the Rust files at a path, sorted.
fn rust_files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = paths.iter().flat_map(|path| rust_files(path));
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs"))
        .collect()
}

/// Returns the public items of a file, without its tests: kind and name, what it exports again, and whether it is hidden.
fn items(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().collect();
    let mut found = Vec::new();
    for (at, line) in code.iter().enumerate() {
        let Some(item) = line.trim_start().strip_prefix("pub ") else { continue };
        if let Some(first) = item.strip_prefix("use ") {
            let rest = code[at + 1..].iter().copied();
            let end = |line: &&str| !line.contains(';');
            let more = if first.contains(';') { 0 } else { rest.clone().take_while(end).count() + 1 };
            let whole: Vec<_> = std::iter::once(first).chain(rest.take(more)).flat_map(str::split_whitespace).collect();
            found.push(format!("use {}", whole.join(" ").trim_end_matches(';')));
            continue;
        }
        let hidden = if at > 0 && code[at - 1].trim() == "#[doc(hidden)]" { " (hidden)" } else { "" };
        let kinds = ["fn", "struct", "enum", "trait", "type", "mod"];
        let item = item.trim_start_matches("const ").trim_start_matches("async ");
        let (kind, name) = item.split_once(' ').unwrap_or((item, ""));
        let (kind, name) = if kinds.contains(&kind) { (kind, name) } else { ("value", item) };
        let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        found.push(format!("{kind} {name}{hidden}"));
    }
    found
}

#[test]
fn the_public_items_are_those_listed() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut listed = Vec::new();
    for path in DOCUMENTED.iter().flat_map(|place| rust_files(&source.join(place))) {
        let found = items(&fs::read_to_string(&path).unwrap());
        let name = path.strip_prefix(&source).unwrap().display();
        listed.extend(found.into_iter().map(|item| format!("{name}: {item}")));
    }
    assert!(listed.len() > 200, "only {} items found: the search is broken", listed.len());
    insta::assert_snapshot!(listed.join("\n"));
}

#[test]
fn items_are_found_with_their_kind() {
    let text = "pub mod a;\n#[doc(hidden)]\npub mod b;\npub use c::{\n    D,\n    E,\n};\nimpl D {\n    pub const fn f(&self) {}\n    \
                pub(crate) fn g() {}\n    pub h: u8,\n}\npub const I: u8 = 1;\n#[cfg(test)]\nmod tests {\n    pub fn t() {}\n}\n";
    assert_eq!(items(text), ["mod a", "mod b (hidden)", "use c::{ D, E, }", "fn f", "value h", "value I"]);
}
