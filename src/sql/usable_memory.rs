//! The amount of memory that this process may use.

use std::{fs::read_to_string, path::Path};

/// Returns the bytes that this process may use, where the system tells: the memory of the machine, or less where its
/// control group or `ulimit` says so.
pub fn usable() -> Option<u64> {
    let machine = kibibytes(&read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let groups = groups(&read_to_string("/proc/self/cgroup").unwrap_or_default(), Path::new("/sys/fs/cgroup"));
    let limits = limits(&read_to_string("/proc/self/limits").unwrap_or_default());
    [groups, limits].into_iter().flatten().fold(machine, u64::min).into()
}

/// Returns the value of a line such as `VmHWM:  1024 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Returns the least limit of the control groups that a process is in, and of those around them. `text` lists the
/// groups, as `/proc/self/cgroup` does; they are folders below `root`, in one tree for memory (version 1) or in all
/// (version 2).
fn groups(text: &str, root: &Path) -> Option<u64> {
    let limits = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let (tree, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        // A container may see its own group as the root of the tree, but be told its place in the host's.
        let around = Path::new(group.trim_start_matches('/')).ancestors();
        around.filter_map(|group| read_to_string(tree.join(group).join(file)).ok()?.trim().parse().ok()).min()
    });
    limits.min()
}

/// Returns the least limit of address space and data that `text` sets, as `/proc/self/limits` does.
fn limits(text: &str) -> Option<u64> {
    let names = ["Max address space", "Max data size"];
    let values = text.lines().filter_map(|line| names.iter().find_map(|name| line.strip_prefix(name)));
    values.filter_map(|line| line.split_whitespace().next()?.parse().ok()).min()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_process_may_use_no_more_than_the_machine_has() {
        let machine = kibibytes(&read_to_string("/proc/meminfo").unwrap(), "MemTotal:").unwrap();
        assert!((1..=machine).contains(&usable().unwrap()));
    }

    #[test]
    fn the_least_limit_of_the_groups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: &str, file: &str, text: &str| {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join(file), text).unwrap();
        };
        write("jobs/one", "memory.max", "max\n");
        write("jobs", "memory.max", "2000\n");
        write("memory/old", "memory.limit_in_bytes", "3000\n");
        write("memory", "memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(groups("0::/jobs/one\n", root.path()), Some(2000));
        assert_eq!(groups("9:name=systemd:/\n4:memory:/old\n", root.path()), Some(3000));
        assert_eq!(groups("4:cpu,memory:/of/the/host\n", root.path()), Some(9_223_372_036_854_771_712));
        assert_eq!(groups("1:cpu:/\n", root.path()), None);
    }

    #[test]
    fn a_limit_of_address_space_counts() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max data size             unlimited            unlimited            bytes     \n\
                    Max address space         4096                 unlimited            bytes     \n";
        assert_eq!(limits(text), Some(4096));
        assert_eq!(limits(&text.replace("4096", "unlimited")), None);
    }
}
