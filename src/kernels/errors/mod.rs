//! Measures of the difference between two rows.

pub mod cosine_similarity;
pub mod error_bound;
pub mod error_stats;
pub mod mse;
pub mod sqnr;
