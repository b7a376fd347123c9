//! Names and messages as a terminal shows them.

use std::borrow::Cow;

/// The widest column of names; longer names stick out of it.
const WIDEST: usize = 120;

/// Escapes control characters: the names in damaged files hold what terminals obey.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escaped = |character: char| {
        let escape = character.is_control().then(|| character.escape_default());
        escape.into_iter().flatten().chain((!character.is_control()).then_some(character))
    };
    text.chars().flat_map(escaped).collect()
}

/// Returns the width of a column of names.
pub fn width<'a>(names: impl Iterator<Item = &'a str>, least: usize) -> usize {
    names.map(|name| printable(name).len()).max().unwrap_or(0).clamp(least, WIDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_columns_are_not_as_wide_as_the_longest_name() {
        assert_eq!(printable("'é\x1b[31m\0\x7f': is\u{9b}1m"), r"'é\u{1b}[31m\u{0}\u{7f}': is\u{9b}1m");
        assert_eq!(printable("blocks.0.weight"), "blocks.0.weight");
        assert_eq!(width(["blocks.0.weight", "\0"].into_iter(), 6), 15);
        assert_eq!(width(["x".repeat(70_000).as_str()].into_iter(), 6), WIDEST);
        assert_eq!(width([].into_iter(), 6), 6);
    }
}
