//! Fixtures that the tests of several floors share.

pub(crate) mod arrays;
#[cfg(feature = "io")]
pub(crate) mod models;
#[cfg(feature = "io")]
pub(crate) mod parts;
pub(crate) mod samples;
