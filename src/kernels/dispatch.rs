//! One body, compiled once for each instruction set; the best one that the CPU has is called.
//!
//! The clones of the `multiversion` crate are nested inside its dispatcher, where neither a test nor a
//! bench can call them one by one. Here `kernel::on(target, ..)` runs the very code that `kernel(..)`
//! would run on a CPU of that kind, so bit equality is tested on what ships.

/// An instruction set that kernels are compiled for. A value exists only for one that this CPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target(pub(super) Level);

/// What [`Target`] wraps: kept apart so that no value can be made outside of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What the compiler's target has: SSE2 on x86-64, NEON on 64-bit Arm.
    Baseline,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Target {
    /// The narrowest: what every CPU of this architecture has.
    pub const BASELINE: Self = Self(Level::Baseline);

    /// Every target that this CPU can run, the narrowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let mut targets = vec![Self::BASELINE];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                targets.push(Self(Level::Avx2));
            }
            if Self::best().0 == Level::Avx512 {
                targets.push(Self(Level::Avx512));
            }
        }
        targets.into_iter()
    }

    /// The widest that this CPU can run.
    #[inline]
    pub fn best() -> Self {
        // The standard library caches what it detects: these are loads and bit tests.
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Self(Level::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                return Self(Level::Avx2);
            }
        }
        Self::BASELINE
    }

    /// The name that benches print: `baseline`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }
}

/// Compiles a function for every [`Target`].
///
/// `kernel! { pub fn f(..) -> R { .. } }` gives `f(..)`, which runs on the best target, and
/// `f::on(target, ..)`, which runs on the one named. Functions that the body calls must be
/// `#[inline(always)]`: only what is inlined is compiled for the target.
///
/// Rust never contracts `a * b + c`, so that every target computes the same bits.
macro_rules! kernel {
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[inline]
        pub fn $name($($arg: $type),*) $(-> $ret)? {
            $name::on($crate::kernels::dispatch::Target::best() $(, $arg)*)
        }

        #[doc = concat!("[`", stringify!($name), "`](fn@", stringify!($name), ") on a target of choice.")]
        pub mod $name {
            #[allow(unused_imports, reason = "a body may need nothing from its file")]
            use super::*;
            use $crate::kernels::dispatch::{Level, Target};

            #[inline(always)]
            #[allow(clippy::inline_always, reason = "inlining is what compiles it for the target")]
            fn body($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
            fn avx512($($arg: $type),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) $(-> $ret)? {
                body($($arg),*)
            }

            fn baseline($($arg: $type),*) $(-> $ret)? {
                body($($arg),*)
            }

            /// The kernel on `target`.
            #[allow(clippy::too_many_arguments, reason = "one more than the kernel")]
            #[inline]
            pub fn on(target: Target $(, $arg: $type)*) $(-> $ret)? {
                match target.0 {
                    Level::Baseline => baseline($($arg),*),
                    // SAFETY: a `Target` of this level exists only where the CPU has its features.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => unsafe { avx512($($arg),*) },
                }
            }
        }
    };
}
pub(super) use kernel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_target_is_the_last_available() {
        let available: Vec<_> = Target::available().collect();
        assert_eq!(available.first(), Some(&Target::BASELINE));
        assert_eq!(available.last(), Some(&Target::best()));
        assert_eq!(Target::BASELINE.name(), "baseline");
    }
}
