//! Modules named by patterns that hold for what engines call them: often not quite as files call their tensors.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

/// Names each module by what becomes of it. A pattern allows anything before it, since engines and files differ there, and
/// leaves the numbers of layers and experts open where all of them are treated alike; a module whose pattern would name one
/// that is treated otherwise too is named as it is.
#[must_use]
pub fn patterns<F: Copy + Ord + Hash>(modules: &[(&str, F)]) -> BTreeMap<F, BTreeSet<String>> {
    let levels = [Numbers::Open, Numbers::Given];
    let fates: Vec<_> = levels.iter().map(|numbers| fates_by_tail(modules, *numbers)).collect();
    let mut named: BTreeMap<F, BTreeSet<String>> = BTreeMap::new();
    for (module, fate) in modules {
        let general = levels.iter().zip(&fates).find_map(|(numbers, fates)| {
            let parts = parts(module, *numbers);
            let tail = parts[begin(module)..].join(r"\.");
            (fates.get(&tail) == Some(&Some(*fate))).then(|| format!(r"re:(.*\.)?{tail}$"))
        });
        named.entry(*fate).or_default().insert(general.unwrap_or_else(|| (*module).to_owned()));
    }
    named
}

/// Tells whether a name, or a pattern after `re:`, names one of some modules, as loaders read it.
///
/// # Errors
/// The pattern is no regular expression.
pub fn names_any<'m>(name: &str, mut modules: impl Iterator<Item = &'m str>) -> Result<bool, regex::Error> {
    let Some(pattern) = name.strip_prefix("re:") else { return Ok(modules.any(|module| module == name)) };
    let pattern = regex::Regex::new(&format!("^(?:{pattern})"))?;
    Ok(modules.any(|module| pattern.is_match(module)))
}

/// The two ways to treat the numbers in a name.
#[derive(Debug, Clone, Copy)]
enum Numbers {
    Open,
    Given,
}

/// Returns what becomes of all modules that end in a tail; `None` where that differs.
fn fates_by_tail<F: Copy + Eq>(modules: &[(&str, F)], numbers: Numbers) -> HashMap<String, Option<F>> {
    let mut fates: HashMap<String, Option<F>> = HashMap::new();
    for (module, fate) in modules {
        let parts = parts(module, numbers);
        for start in 0..parts.len() {
            let known = fates.entry(parts[start..].join(r"\.")).or_insert(Some(*fate));
            *known = known.filter(|known| known == fate);
        }
    }
    fates
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// The parts of a name as patterns.
fn parts(module: &str, numbers: Numbers) -> Vec<String> {
    let one = |part: &str| match numbers {
        Numbers::Open if is_number(part) => r"\d+".to_owned(),
        Numbers::Open | Numbers::Given => regex::escape(part),
    };
    module.split('.').map(one).collect()
}

/// The part at which a name begins that engines have too: that before the first number, and otherwise all but the name of
/// the model that some have around it.
fn begin(module: &str) -> usize {
    match module.split('.').position(is_number) {
        Some(number) => number.saturating_sub(1),
        None => usize::from(module.starts_with("model.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(modules: &[(&str, u8)]) -> Vec<(u8, Vec<String>)> {
        patterns(modules).into_iter().map(|(fate, names)| (fate, names.into_iter().collect())).collect()
    }

    #[test]
    fn layers_that_are_treated_alike_are_one_pattern() {
        let modules = [
            ("model.layers.0.self_attn.q_proj", 4),
            ("model.layers.1.self_attn.q_proj", 4),
            ("model.layers.0.mlp.experts.0.up_proj", 4),
            ("model.layers.0.mlp.experts.7.up_proj", 4),
            ("model.layers.0.mlp.gate", 0),
            ("lm_head", 0),
            ("model.embed_tokens", 0),
        ];
        let expected = [
            (0, vec![r"re:(.*\.)?embed_tokens$", r"re:(.*\.)?layers\.\d+\.mlp\.gate$", r"re:(.*\.)?lm_head$"]),
            (
                4,
                vec![
                    r"re:(.*\.)?layers\.\d+\.mlp\.experts\.\d+\.up_proj$",
                    r"re:(.*\.)?layers\.\d+\.self_attn\.q_proj$",
                ],
            ),
        ];
        assert_eq!(
            named(&modules),
            expected.map(|(fate, names)| (fate, names.into_iter().map(str::to_owned).collect()))
        );
    }

    #[test]
    fn a_pattern_never_names_what_is_treated_otherwise() {
        let modules = [
            ("model.layers.0.down_proj", 8),
            ("model.layers.1.down_proj", 4),
            ("model.layers.2.down_proj", 4),
            ("vision.layers.2.down_proj", 0),
            ("proj_out", 0),
            ("single_blocks.0.proj_out", 4),
        ];
        let names = named(&modules);
        assert_eq!(names[2], (8, vec![r"re:(.*\.)?layers\.0\.down_proj$".to_owned()]));
        let four = [
            r"model.layers.2.down_proj",
            r"re:(.*\.)?layers\.1\.down_proj$",
            r"re:(.*\.)?single_blocks\.\d+\.proj_out$",
        ];
        assert_eq!(names[1], (4, four.map(str::to_owned).to_vec()));
        assert_eq!(names[0], (0, vec!["proj_out".to_owned(), "vision.layers.2.down_proj".to_owned()]));
        for (module, fate) in modules {
            for (other, patterns) in &names {
                let named = patterns.iter().any(|pattern| names_any(pattern, std::iter::once(module)).unwrap());
                assert_eq!(named, *other == fate, "{module} {other}");
            }
        }
    }
}
