//! The podman backend: podman's dialect of the command line that [`laminar_backend_oci`] speaks.

use laminar_backend_oci::{Dialect, Facts, Gpu, NETWORK, OciExecutor, PROGRAM, PULL, Relabel, Settings, Texts};
use laminar_core::option::{Kind, Options, Spec};
use serde_json::Value;

pub use laminar_backend_oci::{enter, is_under_way, may_be_under_way};

/// Podman's options. There is none for a remote service: it neither sees the folders of layers nor can give them back.
pub static OPTIONS: [Spec; 5] = [
    PROGRAM,
    NETWORK,
    PULL,
    Spec::new("userns", Kind::OneOf(&["keep-id", "auto"]), "the user namespace of containers, instead of podman's own"),
    Spec::new("runtime", Kind::Text, "the runtime of containers, a name or a path, such as `crun`"),
];

/// An executor over podman, with these of its options.
#[must_use]
pub fn podman(options: &Options) -> OciExecutor {
    OciExecutor::new(&PODMAN).with_settings(settings(options))
}

/// What options say of podman.
#[must_use]
pub fn settings(options: &Options) -> Settings {
    // Every command must know a runtime that the configuration does not.
    Settings::new(options, &["runtime"], &["userns"])
}

/// Podman's dialect.
pub static PODMAN: Dialect = Dialect {
    name: "podman",
    program: "podman",
    install: "install podman (https://podman.io/docs/installation), or name another backend",
    wake: "see what `podman info` says",
    about: &["info", "--format", "json"],
    // It also asks Debian which packages its programs are of, which takes four times as long as all the rest; where the list of
    // packages is nowhere, they are "Unknown".
    about_env: &[("DPKG_ADMINDIR", "/nonexistent")],
    facts,
    // Proxies of the host are no business of the layer unless it declares them.
    always: &["--no-healthcheck", "--http-proxy=false"],
    // The layer's output does not go there; what does is a supervisor that cannot do its work.
    log: &["--log-driver", "k8s-file", "--log-opt", "max-size=1m"],
    whole_log: &["--log-driver", "k8s-file", "--log-opt", "max-size=1000t"],
    quiet: &["--log-level", "error"],
    // Without `--ignore` one that is missing keeps it from removing the others, in silence.
    remove: &["rm", "--force", "--ignore", "--volumes"],
    gpus: Gpu::Device,
    relabel: Relabel::Option("relabel=shared"),
    texts: Texts {
        gone: &["no such container", "container not known"],
        // Its storage is gone; another `rm` takes the rest away.
        half_gone: &["container not known"],
        removing: &[],
        not_running: &["can only kill running containers", "container state improper", "is not running"],
        taken: &["is already in use"],
        down: &["unable to connect to podman", "cannot connect to podman"],
        forbidden: &[],
    },
    unshare: Some(&["unshare"]),
};

fn facts(info: &Value) -> Option<Facts> {
    let host = &info["host"];
    let version = info["version"]["Version"].as_str()?.to_owned();
    let rootless = host["security"]["rootless"].as_bool().unwrap_or(false);
    let cgroups = host["cgroupVersion"].as_str().unwrap_or_default();
    let controllers = host["cgroupControllers"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Without root, limits need version 2 and controllers that were handed down; podman ignores them otherwise.
    let enforced = |name: &str| {
        let there = controllers.iter().any(|controller| controller == name);
        if rootless { cgroups == "v2" && there } else { there || controllers.is_empty() }
    };
    Some(Facts {
        version,
        rootless,
        arch: host["arch"].as_str().unwrap_or_default().to_owned(),
        cpus: host["cpus"].as_u64().unwrap_or(1),
        memory: host["memTotal"].as_u64().unwrap_or(0),
        limits: [enforced("cpu"), enforced("memory"), enforced("pids")],
        selinux: host["security"]["selinuxEnabled"].as_bool().unwrap_or(false),
        shown: vec![
            ("cgroups", cgroups.to_owned()),
            ("storage", info["store"]["graphDriverName"].as_str().unwrap_or_default().to_owned()),
            ("runtime", host["ociRuntime"]["name"].as_str().unwrap_or_default().to_owned()),
        ],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn info(rootless: bool, cgroups: &str, controllers: &[&str]) -> Value {
        // Of podman 4.3, shortened.
        serde_json::json!({
            "host": {
                "arch": "amd64", "cpus": 2, "memTotal": 25_276_502_016u64, "cgroupVersion": cgroups,
                "cgroupControllers": controllers, "ociRuntime": {"name": "runc"},
                "security": {"rootless": rootless, "selinuxEnabled": false},
            },
            "store": {"graphDriverName": "overlay"}, "version": {"APIVersion": "4.3.1", "Version": "4.3.1"},
        })
    }

    #[test]
    fn the_probe_reads_what_podman_info_says() {
        let facts = facts(&info(false, "v1", &["cpuset", "cpu", "memory", "pids"])).unwrap();
        assert_eq!((facts.version.as_str(), facts.arch.as_str(), facts.rootless), ("4.3.1", "amd64", false));
        assert_eq!(facts.limits, [true; 3]);
        assert_eq!(facts.shown[2], ("runtime", "runc".to_owned()));
    }

    #[test]
    fn limits_without_root_need_delegated_controllers() {
        let limits = |cgroups, controllers: &[&str]| super::facts(&info(true, cgroups, controllers)).unwrap().limits;
        assert_eq!(limits("v1", &[]), [false; 3]);
        assert_eq!(limits("v2", &["memory", "pids"]), [false, true, true]);
    }
}
