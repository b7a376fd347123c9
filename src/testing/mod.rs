//! Fixtures that the tests of several floors share.

pub(crate) mod arrays;
pub(crate) mod samples;
