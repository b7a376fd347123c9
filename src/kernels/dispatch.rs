//! One body, compiled once for each instruction set; the best one that the CPU has is called.
//!
//! `multiversion` makes the clones and chooses among them. Those inside its dispatcher cannot be called one by
//! one; so they only pass on to clones of our own, which tests and benches name: `kernel::on(target, ..)` runs the very
//! code that `kernel(..)` runs on a CPU of that kind, and bit equality is tested on what ships.

/// The list of targets, the best first, for a macro to walk: name, architecture, and what `multiversion` takes.
///
/// With AVX-512 `multiversion` asks for all that Ice Lake has: the CPUs before it slow down where it is used.
macro_rules! with_targets {
    ([$($macro:tt)*] $($arguments:tt)*) => {
        $($macro)*! {
            [
                Avx512 avx512 "x86_64" "x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl+avx2+bmi1+bmi2+popcnt";
                Avx2 avx2 "x86_64" "x86_64+avx2";
                Neon neon "aarch64" "aarch64+neon";
            ]
            $($arguments)*
        }
    };
}
pub(super) use with_targets;

macro_rules! levels {
    ([$($level:ident $name:ident $arch:tt $features:tt;)*]) => {
        /// The level that [`Target`] wraps: kept apart so that no value can be made outside of this file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(dead_code, reason = "each architecture has some")]
        pub(super) enum Level {
            $($level,)*
            /// The instruction set of the compiler's target: SSE2 on x86-64, NEON on 64-bit Arm.
            Baseline,
        }

        impl Level {
            /// The levels of this architecture, the best first.
            const ALL: &[Self] = &[$(#[cfg(target_arch = $arch)] Self::$level,)* Self::Baseline];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$level => stringify!($name),)*
                    Self::Baseline => "baseline",
                }
            }
        }

        #[allow(dead_code, reason = "as for the kernels")]
        #[multiversion::multiversion(targets($($features),*))]
        fn best_level() -> Level {
            multiversion::target::match_target! { $($features => Level::$level,)* _ => Level::Baseline }
        }
    };
}
with_targets! { [levels] }

/// An instruction set that kernels are compiled for. A value exists only for one that this CPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target(pub(super) Level);

impl Target {
    /// The narrowest: what every CPU of this architecture has.
    pub const BASELINE: Self = Self(Level::Baseline);

    /// Returns every target that this CPU can run, the narrowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let best = best_level();
        Level::ALL
            .iter()
            .copied()
            .skip_while(move |level| *level != best)
            .map(Self)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
    }

    /// Returns the widest that this CPU can run: what a kernel runs on when it is called by name.
    pub fn best() -> Self {
        Self(best_level())
    }

    /// Returns the name that benches print: `baseline`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        self.0.name()
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
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $crate::kernels::dispatch::kernel! { $(#[$meta])* pub fn $name($($arg: $type),*) -> () $body }
    };
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $ret:ty $body:block) => {
        $crate::kernels::dispatch::with_targets! {
            [$crate::kernels::dispatch::clones]
            [$(#[$meta])*] $name ($($arg: $type),*) ($($arg),*) [$(, $arg: $type)*] [$ret] $body
        }
    };
}
pub(super) use kernel;

/// The expansion of [`kernel`]: `$args` and `$call` are its parameters and their names, in parentheses.
macro_rules! clones {
    (
        [$($level:ident $target:ident $arch:tt $features:tt;)*]
        [$($meta:tt)*] $name:ident $args:tt $call:tt [$($more_args:tt)*] [$ret:ty] $body:block
    ) => {
        $($meta)*
        #[allow(dead_code, unused_unsafe, reason = "where the whole program has the features, no clone is called or safe")]
        #[multiversion::multiversion(targets($($features),*))]
        pub fn $name $args -> $ret {
            multiversion::target::match_target! {
                // SAFETY: this arm is compiled only where the features are enabled.
                $($features => unsafe { $name::$target $call },)*
                _ => $name::baseline $call,
            }
        }

        #[doc = concat!("[`", stringify!($name), "`](fn@", stringify!($name), ") on a target of choice.")]
        pub mod $name {
            #[allow(unused_imports, reason = "a body may need nothing from its file")]
            use super::*;
            use $crate::kernels::dispatch::{Level, Target};

            #[inline(always)]
            #[allow(clippy::inline_always, reason = "inlining is what compiles it for the target")]
            fn body $args -> $ret $body

            $(
                #[multiversion::target($features)]
                pub(super) fn $target $args -> $ret {
                    body $call
                }
            )*

            #[allow(dead_code, reason = "on some architectures only `on` calls it")]
            pub(super) fn baseline $args -> $ret {
                body $call
            }

            /// Returns the kernel on `target`.
            #[allow(clippy::too_many_arguments, reason = "one more than the kernel")]
            #[inline]
            pub fn on(target: Target $($more_args)*) -> $ret {
                match target.0 {
                    $(
                        // SAFETY: a `Target` of this level exists only where the CPU has its features.
                        #[cfg(target_arch = $arch)]
                        Level::$level => unsafe { $target $call },
                    )*
                    _ => baseline $call,
                }
            }
        }
    };
}
pub(super) use clones;

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
