//! What there is of this machine.

use std::collections::BTreeSet;
use std::path::Path;

use laminar_core::container::Feature;
use laminar_core::executor::Probe;

pub(crate) fn probe() -> Probe {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let total = memory_total().unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    Probe {
        version: rustix::system::uname().release().to_string_lossy().into_owned(),
        facts: vec![
            ("cgroups", if unified { "v2" } else { "v1" }.to_owned()),
            ("user", rustix::process::getuid().as_raw().to_string()),
        ],
        // Nothing is to be shared by processes: what `reuse` asks for is so.
        enforces: BTreeSet::from([Feature::Env, Feature::Reuse]),
        cpu_millis: cores * 1000,
        memory: cgroup_limit(unified).map_or(total, |limit| limit.min(total)),
    }
}

fn memory_total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The lowest memory limit of the groups that this process is in.
fn cgroup_limit(unified: bool) -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let (root, file) =
        if unified { ("/sys/fs/cgroup", "memory.max") } else { ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") };
    let group = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let ours = if unified { controllers.is_empty() } else { controllers.split(',').any(|name| name == "memory") };
        ours.then_some(group)
    })?;
    let limits = Path::new(group).ancestors().filter_map(|group| {
        let inside = group.strip_prefix("/").unwrap_or(group);
        let text = std::fs::read_to_string(Path::new(root).join(inside).join(file)).ok()?;
        text.trim().parse().ok() // "max" is no limit
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_has_cores_and_memory() {
        let probe = super::probe();
        assert!(probe.cpu_millis >= 1000 && probe.memory > 1 << 20, "{probe:?}");
        assert!(probe.version.contains('.'), "{probe:?}");
    }
}
