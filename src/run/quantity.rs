//! Sizes and counts as people read them.

/// Returns `12.3 MB`, in powers of ten, as disks are sold.
pub fn bytes(count: u64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Returns `7.6 G`, in powers of ten.
pub fn quantity(count: u64) -> String {
    scaled(count, &["", "k", "M", "G", "T", "P", "E"])
}

fn scaled(count: u64, units: &[&str]) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95) + usize::from(unit > 0 && value < 9.995);
    format!("{value:.digits$} {}", units[unit]).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let shown: Vec<_> = [0, 999, 1000, 12_345, 99_960, 999_600, 15_200_000_000].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "12.3 kB", "100 kB", "1.00 MB", "15.2 GB"]);
        assert_eq!(quantity(22_713_216), "22.7 M");
    }
}
