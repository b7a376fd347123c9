//! The recipes: the queries that the command line runs, as the files under `sql/` have them.

/// A query that does one job over the tables its header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// The file's name without `.sql`.
    pub name: &'static str,
    /// The text, header comment included.
    pub sql: &'static str,
}

impl Recipe {
    /// Returns the summary of the recipe: the first line of its header.
    pub fn summary(&self) -> &'static str {
        let line = self.sql.lines().next().unwrap_or_default();
        line.trim_start_matches("-- ").trim_start_matches(self.name).trim_start_matches(": ")
    }
}

/// Quantizes the chosen tensors and copies the others unchanged.
pub const QUANTIZE: Recipe = Recipe { name: "quantize", sql: include_str!("../../sql/quantize.sql") };
/// Encodes every row as a format for engines stores it.
pub const EXPORT: Recipe = Recipe { name: "export", sql: include_str!("../../sql/export.sql") };
/// Measures what each tensor would lose at each width.
pub const MIXED_PRECISION: Recipe =
    Recipe { name: "mixed_precision", sql: include_str!("../../sql/mixed_precision.sql") };
/// Quantizes for the least error of the output, where the inputs of a layer are known.
pub const GPTQ: Recipe = Recipe { name: "gptq", sql: include_str!("../../sql/gptq.sql") };
/// Shows what each tensor became.
pub const REPORT: Recipe = Recipe { name: "report", sql: include_str!("../../sql/report.sql") };
/// Compares two models, tensor by tensor.
pub const COMPARE: Recipe = Recipe { name: "compare", sql: include_str!("../../sql/compare.sql") };

/// Quantizes activations by groups of timesteps.
pub const TIME_GROUPS: Recipe = Recipe { name: "time_groups", sql: include_str!("../../sql/time_groups.sql") };
/// Quantizes activations alike at all timesteps.
pub const STATIC: Recipe = Recipe { name: "static", sql: include_str!("../../sql/static.sql") };
/// Finds the factors that equalize channels.
pub const EQUALIZATION: Recipe = Recipe { name: "equalization", sql: include_str!("../../sql/equalization.sql") };
/// Measures the channels of weights that factors are made of.
pub const WEIGHT_EQUALIZATION: Recipe =
    Recipe { name: "weight_equalization", sql: include_str!("../../sql/weight_equalization.sql") };
/// Weighs candidates for the factors.
pub const EQUALIZATION_COST: Recipe =
    Recipe { name: "equalization_cost", sql: include_str!("../../sql/equalization_cost.sql") };
/// Quantizes as [`QUANTIZE`], equalized.
pub const EQUALIZE: Recipe = Recipe { name: "equalize", sql: include_str!("../../sql/equalize.sql") };

/// Encodes as [`EXPORT`], equalized.
pub const EXPORT_EQUALIZED: Recipe =
    Recipe { name: "export_equalized", sql: include_str!("../../sql/export_equalized.sql") };

/// Every recipe.
pub const ALL: [Recipe; 13] = [
    QUANTIZE,
    EXPORT,
    MIXED_PRECISION,
    GPTQ,
    REPORT,
    COMPARE,
    TIME_GROUPS,
    STATIC,
    EQUALIZATION,
    WEIGHT_EQUALIZATION,
    EQUALIZATION_COST,
    EQUALIZE,
    EXPORT_EQUALIZED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_says_in_its_first_line_what_it_does_and_what_it_needs_below() {
        for recipe in ALL {
            assert!(recipe.sql.starts_with(&format!("-- {}: ", recipe.name)), "{}", recipe.name);
            assert!(recipe.sql.contains("\n-- Needs "), "{}", recipe.name);
            assert!(!recipe.summary().is_empty() && !recipe.summary().starts_with('-'), "{}", recipe.name);
        }
    }
}
