//! What the container's own control group says about memory, as far as it can be seen from inside.
//!
//! Where the group is not the container's own (an engine without limits shows the machine's), nothing is said.

use std::path::Path;

/// Where a group's files are, by the version of control groups: the folder, the kills, the peak.
const PLACES: [(&str, &str, &str); 2] = [
    ("/sys/fs/cgroup", "memory.events", "memory.peak"),
    ("/sys/fs/cgroup/memory", "memory.oom_control", "memory.max_usage_in_bytes"),
];

/// How many processes the kernel has killed in the group for want of memory.
pub(super) fn killed() -> Option<u64> {
    PLACES.iter().find_map(|(folder, kills, _)| {
        let text = read(folder, kills)?;
        kills_in(&text)
    })
}

/// The most memory that the group has used, in bytes.
pub(super) fn peak() -> Option<u64> {
    PLACES.iter().find_map(|(folder, _, peak)| read(folder, peak)?.trim().parse().ok())
}

fn read(folder: &str, file: &str) -> Option<String> {
    let folder = Path::new(folder);
    let own = std::process::id().to_string();
    let processes = std::fs::read_to_string(folder.join("cgroup.procs")).ok()?;
    if !processes.lines().any(|pid| pid == own) {
        return None;
    }
    std::fs::read_to_string(folder.join(file)).ok()
}

fn kills_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count_kills() {
        assert_eq!(kills_in("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(kills_in("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(kills_in("oom_kill_disable 0\n"), None);
    }
}
