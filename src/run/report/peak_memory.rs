//! The memory that this process has needed.

/// The peak of this process's resident memory in bytes, where the system tells.
pub fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_peak_covers_what_was_touched() {
        let before = super::peak_resident().unwrap();
        let block = vec![1u8; 64 << 20];
        assert!(block.iter().step_by(4096).all(|byte| *byte == 1));
        assert!(super::peak_resident().unwrap() >= before.max(64 << 20));
    }
}
