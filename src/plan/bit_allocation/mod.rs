//! Bits for each tensor, by what each width takes and loses.

pub mod forms;
pub mod goals;
mod knapsack;
pub mod width;
