//! What the system says of this process, from /proc. Elsewhere than on Linux: `None`.

use std::fs;

/// Resident memory, in bytes.
pub fn resident_bytes() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Open descriptors.
pub fn open_descriptors() -> Option<usize> {
    // Looking is one more.
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_has_memory_and_another_descriptor_with_each_file() {
        assert!(resident_bytes().unwrap() > 100_000);
        let before = open_descriptors().unwrap();
        // Other tests open and close some meanwhile, but not so many.
        let files: Vec<_> =
            (0..500).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        assert!(open_descriptors().unwrap() >= before + files.len() - 200);
    }
}
