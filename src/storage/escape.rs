//! Texts of others, such as names of tensors, as a terminal may show them.

use std::fmt;

/// Returns a text as one line: control characters, and those that turn the direction of text, become escapes as in a Rust
/// string. Everything else stays as it is.
///
/// ```
/// use arrow_quant::storage::escape::escaped;
///
/// assert_eq!(escaped(&"层.w\n\u{1b}[2J"), r"层.w\n\u{1b}[2J");
/// ```
#[must_use]
pub fn escaped(text: &dyn fmt::Display) -> String {
    let text = text.to_string();
    if !text.contains(is_hidden) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_hidden(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Returns true if a terminal would obey a character, not show it.
fn is_hidden(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_the_rest_stays() {
        for (text, shown) in [
            ("model.layers.0.é.层.🦀\\n", "model.layers.0.é.层.🦀\\n"),
            ("a\tb\r\nc\0", r"a\tb\r\nc\u{0}"),
            ("\u{1b}[31mred\u{7f}\u{9b}m", r"\u{1b}[31mred\u{7f}\u{9b}m"),
            ("a\u{202e}b\u{2066}c\u{200f}\u{2028}", r"a\u{202e}b\u{2066}c\u{200f}\u{2028}"),
        ] {
            assert_eq!(escaped(&text), shown);
        }
    }
}
