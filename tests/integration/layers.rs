//! The floors of docs/design.md: a file imports only from its own floor and those below it, and no files form a ring.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Each floor, or room of one, with those that its files may import from; the first row that fits a file counts. Every
/// room may import from itself.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("types", &[]),
    ("kernels", &["types"]),
    ("compute", &["kernels", "types"]),
    ("storage", &["compute", "kernels", "types"]),
    ("model", &["storage", "compute", "kernels", "types"]),
    ("plan", &["model", "storage", "compute", "types"]),
    ("output", &["model", "storage", "compute", "types"]),
    ("sql/functions", &["sql/memory", "compute", "types"]),
    ("sql/sinks", &["sql/pass_exec", "output", "storage", "types"]),
    ("sql/tables", &["output", "model", "storage", "types"]),
    ("sql", &["model", "storage", "compute", "types"]),
    ("run", &["sql", "output", "plan", "model", "storage", "compute", "types"]),
    ("cli", &["run", "sql", "output", "plan", "model", "storage", "types"]),
];

/// Crates that a floor must not name.
const MUST_NOT_NAME: [(&str, &[&str]); 7] = [
    ("types", &["arrow_array", "datafusion", "std::fs"]),
    ("kernels", &["arrow", "arrow_array", "arrow_schema", "datafusion", "std::fs"]),
    ("compute", &["datafusion", "std::fs", "parquet"]),
    ("storage", &["datafusion"]),
    ("model", &["datafusion"]),
    ("plan", &["datafusion"]),
    ("output", &["datafusion"]),
];

/// Compiled for tests alone.
const TESTS: [&str; 2] = ["tests.rs", "never_loses.rs"];

/// The code of a file: no comments, no tests, and of a literal only its quotes.
fn code(text: &str) -> String {
    // A visibility is no import.
    let text = text.split("#[cfg(test)]").next().unwrap_or_default().replace("pub(in crate::", "pub(");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut code = String::new();
    for line in lines {
        // What stands between quotes is no path, and a comment at the end of a line is none either.
        let quoted = line.split('"').enumerate().map(|(at, piece)| if at % 2 == 0 { piece } else { "" });
        let line = quoted.collect::<Vec<_>>().join("\"\"");
        code.push_str(line.split(" // ").next().unwrap_or_default());
        code.push('\n');
    }
    code
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

/// The files of `src` by name, but for those of tests.
fn files() -> BTreeMap<String, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    rust_files(&source, &mut found);
    found
        .into_iter()
        .filter(|path| !TESTS.iter().any(|name| path.ends_with(name)) && !path.starts_with(source.join("testing")))
        .map(|path| {
            let name = path.strip_prefix(&source).unwrap().to_str().unwrap().to_string();
            (name, code(&fs::read_to_string(path).unwrap()))
        })
        .collect()
}

/// The paths of a `use` tree, and the name that each has afterwards.
fn leaves(tree: &str) -> Vec<(String, String)> {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, tree.rsplit("::").next().unwrap_or(tree)));
        return vec![(path.trim().to_owned(), alias.trim().to_owned())];
    };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let mut depth = 0;
    let parts = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let below = parts.filter(|part| !part.trim().is_empty()).flat_map(leaves);
    let whole = |(path, alias): (String, String)| match path.as_str() {
        "self" => {
            let path = head.trim().trim_end_matches("::").to_owned();
            let last = path.rsplit("::").next().unwrap_or(&path).to_owned();
            (path, if alias == "self" { last } else { alias })
        }
        _ => (format!("{}{path}", head.trim()), alias),
    };
    below.map(whole).collect()
}

/// The crate's modules and what they import, read as text.
struct House {
    /// The file of each module; a module's path has no `crate::`.
    modules: BTreeMap<String, String>,
    /// What each name stands for that a module brings in, as a path from the crate's root.
    names: BTreeMap<String, BTreeMap<String, String>>,
    /// For each file those that it imports from, with a path that says so.
    imports: BTreeMap<String, BTreeMap<String, String>>,
}

/// The path of the module that a file is.
fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { String::new() } else { path.replace('/', "::") }
}

/// One path below another.
fn below(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

impl House {
    fn of(files: &BTreeMap<String, String>) -> Self {
        let modules = files.keys().map(|file| (module_of(file), file.clone())).collect();
        let mut house = Self { modules, names: BTreeMap::new(), imports: BTreeMap::new() };
        let mut uses: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut rests = BTreeMap::new();
        for (file, code) in files {
            let module = module_of(file);
            let mut rest = String::new();
            for statement in code.split_inclusive(';') {
                let begin = statement.rfind("use ").filter(|at| {
                    let before = statement[..*at].trim_end();
                    before.is_empty() || before.ends_with(['{', '}', ';', ']', ')']) || before.ends_with("pub")
                });
                let Some(begin) = begin.filter(|_| statement.ends_with(';')) else {
                    rest.push_str(statement);
                    continue;
                };
                rest.push_str(&statement[..begin]);
                let exports = statement[..begin].trim_end().ends_with("pub");
                for (path, name) in leaves(&statement[begin + "use ".len()..statement.len() - 1]) {
                    // A macro names its own module, from wherever it is used.
                    if let Some(path) = house.absolute(&module, &path).filter(|path| *path != below(&module, &name)) {
                        // What is exported again is an import of whoever names it.
                        if !exports {
                            uses.entry(file).or_default().push(path.clone());
                        }
                        house.names.entry(module.clone()).or_default().insert(name, path);
                    }
                }
            }
            rests.insert(file, rest);
        }
        for (file, rest) in rests {
            let module = module_of(file);
            let paths = uses.remove(file.as_str()).unwrap_or_default().into_iter();
            let paths: Vec<String> = paths.chain(house.paths_in(&module, &rest)).collect();
            let found = paths.into_iter().filter_map(|path| Some((house.file_of(&path)?, path)));
            let found = found.filter(|(target, _)| target != file).collect();
            house.imports.insert(file.clone(), found);
        }
        house
    }

    /// A path as a module writes it, from the crate's root; none for one of another crate.
    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        let (head, rest) = path.split_once("::").unwrap_or((path, ""));
        let parent = |module: &str| module.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned());
        match head {
            "crate" | "$crate" => Some(rest.to_owned()),
            "self" => Some(below(module, rest)),
            "super" if rest == "super" || rest.starts_with("super::") => self.absolute(&parent(module), rest),
            "super" => Some(below(&parent(module), rest)),
            _ if self.modules.contains_key(&below(module, head)) => Some(below(module, path)),
            _ => None,
        }
    }

    /// The paths of two names and more in code outside of `use`, from the crate's root: those whose first name leads into
    /// the crate.
    fn paths_in(&self, module: &str, code: &str) -> Vec<String> {
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let words = code.split(|c| !is_name(c)).map(|word| word.trim_matches(':')).filter(|word| word.contains("::"));
        let absolute = |word: &str| {
            let (head, rest) = word.split_once("::")?;
            match self.names.get(module).and_then(|names| names.get(head)) {
                Some(path) => Some(format!("{path}::{rest}")),
                None => self.absolute(module, word),
            }
        };
        words.filter_map(absolute).collect()
    }

    /// The file that defines what a path from the crate's root names; what a module re-exports is followed.
    fn file_of(&self, path: &str) -> Option<String> {
        let mut module = String::new();
        for (at, name) in path.split("::").enumerate() {
            if self.modules.contains_key(&below(&module, name)) {
                module = below(&module, name);
                continue;
            }
            if let Some(other) = self.names.get(&module).and_then(|names| names.get(name)) {
                let rest: Vec<&str> = path.split("::").skip(at + 1).collect();
                let followed = if rest.is_empty() { other.clone() } else { format!("{other}::{}", rest.join("::")) };
                return self.file_of(&followed);
            }
            break;
        }
        self.modules.get(&module).filter(|_| !module.is_empty()).cloned()
    }

    /// A ring of files each of which imports from the next, if there is one.
    fn ring(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.imports.keys().find_map(|file| self.ring_from(file, &mut Vec::new(), &mut done))
    }

    fn ring_from<'a>(
        &'a self,
        file: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|before| *before == file) {
            return Some(way[start..].iter().map(|file| (*file).to_owned()).collect());
        }
        if done.contains(file) {
            return None;
        }
        way.push(file);
        let ring = self.imports[file].keys().find_map(|next| self.ring_from(next, way, done));
        way.pop();
        done.insert(file);
        ring
    }
}

/// The row of a file.
fn row(file: &str) -> Option<(&'static str, &'static [&'static str])> {
    MAY_USE.into_iter().find(|(floor, _)| file.starts_with(&format!("{floor}/")))
}

#[test]
fn no_floor_imports_from_one_above_it() {
    let mut checked = 0;
    for (file, imports) in House::of(&files()).imports {
        let Some((floor, allowed)) = row(&file) else { continue };
        for (target, path) in imports {
            let within = |floor: &str| target.starts_with(&format!("{floor}/")) || target == format!("{floor}.rs");
            let fits = within(floor) || allowed.iter().any(|floor| within(floor));
            assert!(fits, "src/{file} imports crate::{path} of src/{target}; {floor} may import from {allowed:?}");
            checked += 1;
        }
    }
    assert!(checked > 800, "only {checked} imports found: the search is broken");
}

#[test]
fn no_files_form_a_ring() {
    let ring = House::of(&files()).ring();
    assert_eq!(ring, None, "each imports from the next, and the last from the first");
}

#[test]
fn every_folder_is_a_floor() {
    for file in files().into_keys().filter(|file| !["lib.rs", "main.rs"].contains(&file.as_str())) {
        assert!(row(&file).is_some(), "src/{file} is on no floor");
    }
}

#[test]
fn no_floor_names_a_crate_that_belongs_above_it() {
    for (name, code) in files() {
        let floor = name.split('/').next().unwrap();
        for (_, forbidden) in MUST_NOT_NAME.iter().filter(|(of, _)| *of == floor) {
            for word in *forbidden {
                let found = code.match_indices(word).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    let after = code[at + word.len()..].chars().next();
                    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                    !joins(before) && !joins(after)
                });
                assert!(!found, "src/{name} names {word}");
            }
        }
    }
}

#[test]
fn the_search_follows_groups_super_modules_and_what_is_exported_again() {
    let files = [
        ("lib.rs", "pub mod a;\npub mod b;"),
        ("a/mod.rs", "mod one;\nmod two;\npub use one::{One, Other as Another};"),
        ("a/one.rs", "use super::two;\nfn f() { two::g(); }"),
        ("a/two.rs", "use crate::b::{self, c::{C, D}};\nuse std::fs;\nfn g() { super::Another::new(); b::c::h() }"),
        ("b/mod.rs", "pub mod c;\nfn f() -> \"crate::a::one\" { c::h() }"),
        ("b/c.rs", "fn h() -> super::super::a::One {} // crate::a::two\n"),
    ];
    let files = files.map(|(file, text)| (file.to_owned(), code(text))).into();
    let house = House::of(&files);
    let of = |file: &str| house.imports[file].keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("a/one.rs"), ["a/two.rs"]);
    assert_eq!(of("a/two.rs"), ["a/one.rs", "b/c.rs", "b/mod.rs"]);
    assert_eq!(of("b/mod.rs"), ["b/c.rs"]);
    assert_eq!(of("b/c.rs"), ["a/one.rs"]);
    assert_eq!(house.ring().unwrap(), ["a/one.rs", "a/two.rs"]);
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
