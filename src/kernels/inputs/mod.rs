//! Statistics of a layer's inputs: per channel, and the Hessian with its factor.

pub mod channel;
pub mod cholesky;
pub mod hessian;
pub mod triangle;
