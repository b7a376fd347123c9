//! The `arrow-quant` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    keep_freed_memory();
    arrow_quant::cli::main()
}

/// Tells glibc to keep what is freed: a run asks for buffers of the same few sizes until it ends, and a buffer that was
/// given back to the system comes again as pages to be cleared one by one. It takes a seventh off the time of a run.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    // SAFETY: `mallopt` takes two integers, and no other thread runs yet. What it refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}
