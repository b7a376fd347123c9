//! The `arrow-quant` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    keep_freed_memory();
    #[cfg(unix)]
    outlive_the_largest_file();
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

/// Tells the system not to end the process where a file would pass the largest size that is allowed (`ulimit -f`): the write
/// then fails with an error that names the file.
#[cfg(unix)]
fn outlive_the_largest_file() {
    // SAFETY: to ignore a signal calls no code of ours, and no other thread runs yet.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
