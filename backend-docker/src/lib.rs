//! The docker backend: docker's dialect of the command line that [`laminar_backend_oci`] speaks.

use laminar_backend_oci::{Dialect, Facts, Gpu, NETWORK, OciExecutor, PROGRAM, PULL, Relabel, Settings, Texts};
use laminar_core::option::{Kind, Options, Spec};
use serde_json::Value;

pub use laminar_backend_oci::{enter, is_under_way, may_be_under_way};

/// Docker's options.
pub static OPTIONS: [Spec; 7] = [
    PROGRAM,
    Spec::new("context", Kind::Text, "the context of an engine on this machine, such as `rootless`"),
    Spec::new(
        "host",
        Kind::Text,
        "the socket of an engine on this machine, such as `unix:///run/user/1000/docker.sock`",
    ),
    NETWORK,
    PULL,
    // With a daemon that remaps users, what they write cannot be given back.
    Spec::new(
        "userns",
        Kind::OneOf(&["host"]),
        "the user namespace of containers: the host's, whatever the daemon says",
    ),
    Spec::new("runtime", Kind::Text, "the runtime of containers, as the daemon knows it, such as `runsc`"),
];

/// An executor over docker, with these of its options.
#[must_use]
pub fn docker(options: &Options) -> OciExecutor {
    OciExecutor::new(&DOCKER).with_settings(settings(options))
}

/// What options say of docker.
#[must_use]
pub fn settings(options: &Options) -> Settings {
    Settings::new(options, &["context", "host"], &["userns", "runtime"])
}

/// Docker's dialect.
pub static DOCKER: Dialect = Dialect {
    name: "docker",
    program: "docker",
    install: "install docker (https://docs.docker.com/engine/install), or name another backend",
    wake: "see whether its daemon runs: `docker info`, `systemctl status docker`",
    about: &["info", "--format", "{{json .}}"],
    about_env: &[],
    facts,
    always: &["--no-healthcheck"],
    // The layer's output does not go there; what does is a supervisor that cannot do its work.
    log: &["--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=1"],
    // `json-file` replaces bytes that are no UTF-8.
    whole_log: &[
        "--log-driver",
        "local",
        "--log-opt",
        "max-size=1000t",
        "--log-opt",
        "max-file=1",
        "--log-opt",
        "compress=false",
    ],
    quiet: &["--log-level", "error"],
    remove: &["rm", "--force", "--volumes"],
    gpus: Gpu::Flag,
    relabel: Relabel::Volume("z"),
    texts: Texts {
        gone: &["no such container"],
        half_gone: &[],
        removing: &["is already in progress"],
        not_running: &["is not running"],
        taken: &["is already in use by container"],
        down: &[
            "cannot connect to the docker daemon",
            "failed to connect to the docker api",
            "error during connect",
            "is the docker daemon running",
        ],
        forbidden: &[
            (
                "permission denied while trying to connect",
                "add yourself to the group `docker`, or run a rootless docker or podman",
            ),
            ("unable to resolve docker endpoint", "`docker context ls` lists the contexts that there are"),
        ],
    },
    unshare: None,
};

fn facts(info: &Value) -> Option<Facts> {
    let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
    let yes = |key: &str| info[key].as_bool().unwrap_or(false);
    let version = info["ServerVersion"].as_str().filter(|version| !version.is_empty())?.to_owned();
    let options = info["SecurityOptions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let option = |name: &str| options.iter().any(|it| it.as_str().is_some_and(|it| it.starts_with(name)));
    Some(Facts {
        version,
        rootless: option("name=rootless"),
        arch: text("Architecture"),
        cpus: info["NCPU"].as_u64().unwrap_or(1),
        memory: info["MemTotal"].as_u64().unwrap_or(0),
        limits: [yes("CpuCfsQuota"), yes("MemoryLimit"), yes("PidsLimit")],
        selinux: option("name=selinux"),
        shown: vec![("cgroups", format!("v{}", text("CgroupVersion"))), ("storage", text("Driver"))],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_reads_what_docker_info_says() {
        // Of docker 20.10, shortened.
        let info = serde_json::json!({
            "Driver": "overlay2", "MemoryLimit": true, "CpuCfsQuota": true, "PidsLimit": true, "CgroupVersion": "1",
            "Architecture": "x86_64", "NCPU": 2, "MemTotal": 25_276_502_016u64, "ServerVersion": "20.10.24+dfsg1",
            "SecurityOptions": ["name=seccomp,profile=default"],
        });
        let facts = facts(&info).unwrap();
        assert_eq!((facts.version.as_str(), facts.arch.as_str(), facts.cpus), ("20.10.24+dfsg1", "x86_64", 2));
        assert_eq!((facts.rootless, facts.selinux, facts.limits), (false, false, [true; 3]));
        assert_eq!(facts.shown, [("cgroups", "v1".to_owned()), ("storage", "overlay2".to_owned())]);
    }

    #[test]
    fn a_client_without_its_daemon_is_no_engine() {
        let info = serde_json::json!({"ServerVersion": "", "ServerErrors": ["Cannot connect"], "ClientInfo": {}});
        assert_eq!(super::facts(&info), None);
    }
}
