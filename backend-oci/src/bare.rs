//! Variables for containers without a supervisor inside, which would unwrap them. Pure.

/// Beginnings of names that mean something to an engine's client, to what it starts, or to the libraries they are made of.
const BEGINNINGS: [&str; 22] = [
    "BUILDAH_",
    "BUILDKIT_",
    "CONMON",
    "CONTAINER",
    "CONTAINERS_",
    "CNI_",
    "DBUS_",
    "DOCKER_",
    "GLIBC_",
    "GO",
    "LC_",
    "LD_",
    "LISTEN_",
    "MALLOC_",
    "NOTIFY_",
    "PODMAN_",
    "REGISTRY_",
    "SSH_",
    "SSL_",
    "STORAGE_",
    "XDG_",
    "_",
];

/// Whole names of that kind.
const NAMES: [&str; 14] = [
    "HOME",
    "HOSTALIASES",
    "LANG",
    "LANGUAGE",
    "LOCALDOMAIN",
    "LOGNAME",
    "PATH",
    "PWD",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "RES_OPTIONS",
];

/// Whether a variable of this name may change what the engine's client does.
pub(crate) fn means_something_to_clients(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    NAMES.contains(&&*upper) || upper.ends_with("_PROXY") || BEGINNINGS.iter().any(|begin| upper.starts_with(begin))
}

/// Whether every client reads this value back from a line of a file as it is.
pub(crate) fn fits_a_line(value: &str) -> bool {
    // Clients read lines of 64 KiB at most; and some take quotes away.
    value.len() < 32 * 1024 && !value.contains(['\n', '\r', '\0']) && !value.starts_with(['"', '\'', '`'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_the_client_is_kept_from_it() {
        for name in
            ["PATH", "HOME", "https_proxy", "NO_PROXY", "DOCKER_HOST", "LD_PRELOAD", "GODEBUG", "XDG_RUNTIME_DIR"]
        {
            assert!(means_something_to_clients(name), "{name}");
        }
        for name in ["TOKEN", "DATA", "PATHS", "MY_PATH", "LEARNING_RATE", "AWS_SECRET_ACCESS_KEY"] {
            assert!(!means_something_to_clients(name), "{name}");
        }
    }
}
