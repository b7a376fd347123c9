//! Numbers of other widths to f32 and back, and the search for those that are not finite.

pub mod finite;
pub mod narrow;
pub mod widen;
