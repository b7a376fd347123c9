//! The language of CONTRIBUTING.md: how doc comments begin, words that are retired, sentences that are too long.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A doc comment names its thing or says what a function does; it does not begin with a question.
const FIRST_WORDS: [&str; 9] = ["What", "Whether", "How", "Where", "Which", "Who", "Why", "Those", "Told"];

/// Phrases that have a plainer form: the phrase, and that form.
const RETIRED: [(&str, &str); 18] = [
    ("such a word", "name the argument"),
    ("bearable", "rounded for display"),
    ("as it was meant", "verified"),
    ("with what was meant", "verified"),
    ("carried over", "copied unchanged"),
    ("carried as stored", "copied unchanged"),
    ("carried as it is", "copied unchanged"),
    ("those that are carried", "those that are copied unchanged"),
    ("lie apart", "differ"),
    ("is no more than what", "is at most"),
    ("the model that is right", "the reference model"),
    ("'help' helps", "type 'help' for help"),
    ("its SQL is another", "the query differs"),
    ("has not the bytes that", "differs in size from"),
    ("was read back as other than", "verification failed"),
    ("the query broke off", "the query failed unexpectedly"),
    ("must have as many", "must have the same number"),
    ("is no type of GGUF", "unknown GGUF type"),
];

/// The pages that strangers read first.
const PAGES: [&str; 6] =
    ["README.md", "docs/cli.md", "docs/formats.md", "docs/python.md", "docs/python_torch.md", "docs/time_aware.md"];

/// The most words of a sentence on these pages.
const LONGEST_SENTENCE: usize = 30;

/// Returns the problems of one line of a source file.
fn problems_of_line(line: &str) -> Vec<String> {
    let text = line.trim_start();
    let mut problems = Vec::new();
    if let Some(comment) = ["/// ", "//! ", "\"\"\""].iter().find_map(|mark| text.strip_prefix(mark)) {
        let first = comment.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if FIRST_WORDS.contains(&first) {
            problems.push(format!("a doc comment begins with '{first}': name the thing, or begin with a verb"));
        }
        if comment.contains("; none: ") {
            problems.push("write '`None` means ...' instead of 'none: ...'".to_owned());
        }
    }
    problems.extend(retired(text));
    problems
}

/// Returns a problem for each retired phrase in a line.
fn retired(line: &str) -> Vec<String> {
    let lower = line.to_lowercase();
    let found = RETIRED.iter().filter(|(phrase, _)| lower.contains(&phrase.to_lowercase()));
    found.map(|(phrase, better)| format!("'{phrase}' is retired; write '{better}'")).collect()
}

/// Returns the sentences of a Markdown page: paragraphs and list items, without code, tables, headings and pictures.
fn sentences(page: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    let mut code = false;
    for line in page.lines() {
        let text = line.trim();
        let indented = line.starts_with("    ");
        let fence = text.starts_with("```");
        code ^= fence;
        let skipped = fence
            || code
            || indented
            || text.is_empty()
            || ["|", "#", "![", ">>>", "..."].iter().any(|mark| text.starts_with(mark));
        if skipped || text.starts_with("- ") {
            paragraphs.push(String::new());
        }
        if !skipped {
            let paragraph = paragraphs.last_mut().unwrap();
            paragraph.push_str(text);
            paragraph.push(' ');
        }
    }
    let ended = paragraphs.iter().map(|text| text.replace(". ", ".\n").replace(": ", ":\n").replace("? ", "?\n"));
    let lines = ended.flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
    lines.filter(|line| !line.is_empty()).collect()
}

/// Returns the files below `folder` with one of these endings, without those that a tool makes.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            found.push(path);
        }
    }
    found
}

/// Returns a line for each problem that `find` sees in a file.
fn problems(paths: Vec<PathBuf>, find: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let lines = text.lines().enumerate();
        all.extend(
            lines
                .flat_map(|(at, line)| find(line).into_iter().map(move |problem| (at, problem)))
                .map(|(at, problem)| format!("{name}:{}: {problem}", at + 1)),
        );
    }
    all
}

#[test]
fn sources_use_the_words_of_the_glossary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths =
        ["src", "python/src", "benches", "examples"].iter().flat_map(|folder| files(&root.join(folder), &["rs"]));
    let paths: Vec<_> = paths.collect();
    assert!(paths.len() > 100, "{} files of source", paths.len());
    let found = problems(paths, problems_of_line);
    assert!(found.is_empty(), "{} problems (CONTRIBUTING.md has the rules):\n{}", found.len(), found.join("\n"));
}

#[test]
fn documents_and_recipes_use_the_words_of_the_glossary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md")];
    paths.extend(files(&root.join("docs"), &["md"]));
    paths.extend(files(&root.join("sql"), &["sql"]));
    let found = problems(paths, retired);
    assert!(found.is_empty(), "{} problems (CONTRIBUTING.md has the rules):\n{}", found.len(), found.join("\n"));
}

#[test]
fn sentences_of_the_readme_and_the_guides_are_short() {
    for page in PAGES {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let sentences = sentences(&text);
        assert!(sentences.len() > 5, "{page}: {} sentences", sentences.len());
        let long = |sentence: &&String| sentence.split_whitespace().count() > LONGEST_SENTENCE;
        let long: Vec<_> = sentences.iter().filter(long).collect();
        assert!(long.is_empty(), "{page}: sentences of more than {LONGEST_SENTENCE} words: {long:#?}");
    }
}

#[test]
fn the_rules_find_what_they_forbid() {
    assert_eq!(problems_of_line("    /// Whether it is decoded.").len(), 1);
    assert_eq!(problems_of_line("//! What a run reads.").len(), 1);
    assert_eq!(problems_of_line("\"\"\"How a run is read.").len(), 1);
    assert_eq!(problems_of_line("/// The family; none: it has no name.").len(), 1);
    assert_eq!(problems_of_line("    // With --symmetric such a word is not needed.").len(), 1);
    assert!(problems_of_line("/// Returns what a run reads, and whether it may.").is_empty());
    assert!(problems_of_line("// Which of them comes first does not matter: a comment, not documentation.").is_empty());
    let page = "# A heading\n\nOne two. Three\nfour: five.\n\n```sh\ncode here. more\n```\n\n- an item\n- and | one\n";
    assert_eq!(sentences(page), ["One two.", "Three four:", "five.", "- an item", "- and | one"].map(str::to_owned));
}
