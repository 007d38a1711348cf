//! What an engine tells about itself, as the core wants to hear it.

use std::collections::BTreeSet;

use laminar_core::container::Feature;
use laminar_core::executor::Probe;

use crate::dialect::Facts;

/// The facts as a probe. `bareness`: why there is no supervisor inside, if so; `own`: the container that we are in.
pub(crate) fn probe(facts: &Facts, bareness: Option<String>, own: Option<&str>) -> Probe {
    let always = [
        Feature::Image,
        Feature::Gpus,
        Feature::Workdir,
        Feature::User,
        Feature::Network,
        Feature::Mounts,
        Feature::Env,
        Feature::Entrypoint,
        Feature::ReadOnly,
        Feature::Capabilities,
        Feature::Platform,
        Feature::ShmSize,
        Feature::Pull,
        Feature::Options,
    ];
    let limits = [Feature::Cpu, Feature::Memory, Feature::PidsLimit].into_iter().zip(facts.limits);
    let mut shown = vec![("rootless", if facts.rootless { "yes" } else { "no" }.to_owned())];
    shown.extend(facts.shown.iter().cloned());
    if facts.selinux {
        shown.push(("selinux", "yes".to_owned()));
    }
    if let Some(own) = own {
        shown.push(("laminar is in", format!("the container `{own}`; layers run beside it")));
    }
    if let Some(why) = bareness {
        shown.push(("supervisor inside", format!("none: {why}; docs/containers.md says what that weakens")));
    }
    Probe {
        version: facts.version.clone(),
        facts: shown,
        enforces: always
            .into_iter()
            .chain(limits.filter_map(|(key, enforced)| enforced.then_some(key)))
            .collect::<BTreeSet<_>>(),
        cpu_millis: facts.cpus * 1000,
        memory: facts.memory,
    }
}

/// Whether this program runs on a machine of this architecture, as engines call them.
pub(crate) fn fits(arch: &str) -> bool {
    let ours: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["x86_64", "amd64"],
        "aarch64" => &["aarch64", "arm64"],
        other => return arch == other,
    };
    ours.contains(&arch)
}
