//! The names of options in messages: each face spells them its own way.

use std::borrow::Cow;

/// Replaces every option that a message names in backticks by its spelling, such as `--group-size` for `group_size`.
///
/// Messages below the command line and Python name options as the fields of [`Spec`](crate::plan::spec::Spec) and of the run's settings
/// do. A word in backticks that is not lowercase ASCII with underscores stays.
///
/// ```
/// use arrow_quant::plan::spec::spelling::spell;
///
/// let message = spell("`group_size` needs `format` parquet", |option| format!("--{}", option.replace('_', "-")));
/// assert_eq!(message, "--group-size needs --format parquet");
/// ```
pub fn spell(message: &str, spelling: impl Fn(&str) -> String) -> Cow<'_, str> {
    let mut spelled = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once('`') {
        let Some((option, next)) = after.split_once('`') else { break };
        spelled.push_str(before);
        if !option.is_empty() && option.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            spelled.push_str(&spelling(option));
            rest = next;
        } else {
            // The second backtick may open the next word.
            spelled.push('`');
            rest = after;
        }
    }
    if spelled.is_empty() { Cow::Borrowed(message) } else { Cow::Owned(spelled + rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_are_spelled() {
        let spelled = |message: &'static str| spell(message, str::to_uppercase).into_owned();
        assert_eq!(spelled("no option"), "no option");
        assert_eq!(spelled("`bits` and `a.b` and `bits`"), "BITS and `a.b` and BITS");
        assert_eq!(spelled("a ` alone"), "a ` alone");
        assert_eq!(spelled("`` `bits`"), "`` BITS");
    }
}
