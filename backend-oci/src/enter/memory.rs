//! What the container's own control group says about memory, as far as it can be seen from inside.
//!
//! Where the group is not the container's own (an engine without limits shows the machine's), nothing is said.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where a group's files are, by the version of control groups: the folder, the kills, the peak.
const PLACES: [(&str, &str, &str); 2] = [
    ("/sys/fs/cgroup", "memory.events", "memory.peak"),
    ("/sys/fs/cgroup/memory", "memory.oom_control", "memory.max_usage_in_bytes"),
];

/// Where the group says how many processes the kernel has killed in it for want of memory.
pub(super) struct Kills(Option<File>);

impl Kills {
    /// Looks for it, once: the group stays the same.
    pub(super) fn find() -> Kills {
        Kills(PLACES.iter().filter(|(folder, ..)| is_own(Path::new(folder))).find_map(|(folder, kills, _)| {
            let file = File::open(Path::new(folder).join(kills)).ok()?;
            count(&file).map(|_| file)
        }))
    }

    /// How many so far.
    pub(super) fn count(&self) -> Option<u64> {
        count(self.0.as_ref()?)
    }
}

fn count(file: &File) -> Option<u64> {
    let mut text = [0; 1024];
    let length = file.read_at(&mut text, 0).ok()?;
    kills_in(std::str::from_utf8(&text[..length]).ok()?)
}

/// The most memory that the group has used, in bytes.
pub(super) fn peak() -> Option<u64> {
    PLACES.iter().find_map(|(folder, _, peak)| read(folder, peak)?.trim().parse().ok())
}

fn read(folder: &str, file: &str) -> Option<String> {
    let folder = Path::new(folder);
    if is_own(folder) { std::fs::read_to_string(folder.join(file)).ok() } else { None }
}

fn is_own(folder: &Path) -> bool {
    let own = std::process::id().to_string();
    let processes = std::fs::read_to_string(folder.join("cgroup.procs"));
    processes.is_ok_and(|processes| processes.lines().any(|pid| pid == own))
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
