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

/// Makes a constant of each file under `sql/`, and a list of them.
macro_rules! recipes {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: Recipe =
            Recipe { name: $name, sql: include_str!(concat!("../../sql/", $name, ".sql")) };)*

        /// Every recipe.
        pub const ALL: &[Recipe] = &[$($constant),*];
    };
}

recipes! {
    /// Quantizes the chosen tensors and copies the others unchanged.
    QUANTIZE = "quantize";
    /// Entropy-codes the chosen tensors and copies the others unchanged.
    QUANTIZE_ENTROPY = "quantize_entropy";
    /// Encodes every row as a format for engines stores it.
    EXPORT = "export";
    /// Factors what GPTQ needs to know of the inputs of each layer.
    HESSIAN_FACTORS = "hessian_factors";
    /// Measures what each tensor would lose at each width.
    MIXED_PRECISION = "mixed_precision";
    /// Measures what each tensor would lose in each type of a format for engines.
    MIXED_TYPES = "mixed_types";
    /// Measures what each tensor would take and lose at each step.
    ENTROPY_STEPS = "entropy_steps";
    /// Shows what each tensor became.
    REPORT = "report";
    /// Compares two models, tensor by tensor.
    COMPARE = "compare";
    /// Brings back what equalization changed, for [`COMPARE`].
    BROUGHT_BACK = "brought_back";
    /// Gives the bytes of rows whose weights cannot be compared, for [`COMPARE`].
    STORED_BYTES = "stored_bytes";
    /// Selects the activations of the layers that are quantized.
    ACTIVATIONS = "activations";
    /// Quantizes activations by groups of timesteps.
    TIME_GROUPS = "time_groups";
    /// Measures what the quantizers of activations do to them.
    ROUNDING_NOISE = "rounding_noise";
    /// Finds the factors that equalize channels.
    EQUALIZATION = "equalization";
    /// Measures the channels of weights that factors are made of.
    WEIGHT_EQUALIZATION = "weight_equalization";
    /// Weighs candidates for the factors.
    EQUALIZATION_COST = "equalization_cost";
}

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
