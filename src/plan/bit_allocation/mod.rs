//! Bits for each tensor, by what each width takes and loses.

pub mod entropy;
pub mod entropy_choices;
pub mod forms;
pub mod goals;
mod knapsack;
pub mod step_search;
pub mod width;
