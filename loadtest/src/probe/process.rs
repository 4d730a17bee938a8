//! CPU time and memory of processes, from /proc. Everywhere else than on Linux: None.

use std::{fs, time::Duration};

/// Clock ticks of /proc per second: USER_HZ, 100 on every Linux that this runs on.
pub(super) const TICKS_PER_SECOND: u64 = 100;

/// What one line of `/proc/<pid>/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// utime + stime.
    own_ticks: u64,
    /// cutime + cstime: of children that have ended and were waited for.
    children_ticks: u64,
}

/// CPU time of a process, user and system, without its children.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    read(pid).map(|stat| ticks(stat.own_ticks))
}

/// CPU time of a process, of its ended children and of those that live.
pub(crate) fn cpu_with_children(pid: u32) -> Option<Duration> {
    let own = read(pid)?;
    let children: u64 = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // A process that ends meanwhile is counted by its parent from then on.
        .filter_map(read)
        .filter(|stat| stat.parent == pid)
        .map(|stat| stat.own_ticks + stat.children_ticks)
        .sum();
    Some(ticks(own.own_ticks + own.children_ticks + children))
}

/// Resident memory in bytes.
pub(crate) fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

fn read(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in parentheses, which may hold anything; the rest counts
/// from behind it.
fn parse(stat: &str) -> Option<Stat> {
    let rest = &stat[stat.rfind(')')? + 1..];
    let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        own_ticks: field(14)? + field(15)?,
        children_ticks: field(16)? + field(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_program_name() {
        let line = "42 (a) b) S 7 42 42 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 1 0 5 6 7";
        let expected = Stat { parent: 7, own_ticks: 33, children_ticks: 77 };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("42 (short) S 7"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_a_stat() {
        let pid = std::process::id();
        assert!(rss_bytes(pid).is_some_and(|bytes| bytes > 100_000));
        // In this order: time goes on.
        let alone = cpu(pid);
        assert!(cpu_with_children(pid) >= alone);
        assert!(cpu(pid).is_some());
    }
}
