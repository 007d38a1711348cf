//! Where the engine finds what this process sees.
//!
//! Mostly in the same place. Where this process is itself in a container of that engine, its layers are siblings of that
//! container, and what is mounted into them is looked for on the engine's machine: there only what is mounted into our own
//! container from there can be had, and by another path maybe. Pure, but for links, which are followed on our side; who we are
//! is found out by `engine::beside`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// How what is seen here is called where the engine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside(Option<Own>);

/// The container that this process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    name: String,
    mounts: Vec<Mounted>,
}

/// Something that is mounted into it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounted {
    /// Where it is seen.
    here: PathBuf,
    /// Where it is on the engine's machine; nowhere, if it is memory of the container's own.
    there: Option<PathBuf>,
}

/// A path that the engine does not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unseen {
    /// Which.
    pub(crate) path: PathBuf,
    /// The container that has it to itself.
    pub(crate) container: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    #[serde(default)]
    name: String,
    #[serde(default)]
    mounts: Option<Vec<RawMount>>,
    #[serde(default)]
    host_config: RawHost,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawMount {
    #[serde(default)]
    source: String,
    destination: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHost {
    #[serde(default)]
    tmpfs: Option<std::collections::HashMap<PathBuf, String>>,
}

impl Outside {
    /// What an engine's `container inspect` shows of our own container. Nothing, if it shows none.
    pub(crate) fn parse(json: &[u8]) -> Result<Option<Outside>, String> {
        let all: Vec<Raw> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let Some(raw) = all.into_iter().next() else { return Ok(None) };
        let memory = raw.host_config.tmpfs.unwrap_or_default().into_keys();
        let memory = memory.map(|here| Mounted { here, there: None });
        let mounts = raw.mounts.unwrap_or_default().into_iter().map(|mount| Mounted {
            here: mount.destination,
            there: Some(PathBuf::from(mount.source)).filter(|there| there.is_absolute()),
        });
        let name = raw.name.trim_start_matches('/').to_owned();
        Ok(Some(Outside(Some(Own { name, mounts: memory.chain(mounts).collect() }))))
    }

    /// Whether this process is in a container of the engine.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.0.is_some()
    }

    /// What that is called.
    pub(crate) fn container(&self) -> Option<&str> {
        self.0.as_ref().map(|own| own.name.as_str())
    }

    /// Where the engine finds this absolute path.
    pub(crate) fn path<'p>(&self, path: &'p Path) -> Result<Cow<'p, Path>, Unseen> {
        let Some(own) = &self.0 else { return Ok(Cow::Borrowed(path)) };
        // A link is followed where it means what it says. What is not there yet is as its folder is.
        let real = real(path);
        let unseen = || Unseen { path: path.to_owned(), container: own.name.clone() };
        let mount = nearest(&own.mounts, |mount| Some(&mount.here), &real).ok_or_else(unseen)?;
        let there = mount.there.as_ref().ok_or_else(unseen)?;
        Ok(Cow::Owned(moved(&real, &mount.here, there)))
    }

    /// Where we see this path of the engine's machine, if we do.
    pub(crate) fn here<'p>(&self, path: &'p Path) -> Option<Cow<'p, Path>> {
        let Some(own) = &self.0 else { return Some(Cow::Borrowed(path)) };
        let mount = nearest(&own.mounts, |mount| mount.there.as_ref(), path)?;
        let here = moved(path, mount.there.as_ref()?, &mount.here);
        // Something else may be mounted on top of it.
        let is_covered = nearest(&own.mounts, |mount| Some(&mount.here), &here).is_some_and(|top| top != mount);
        (!is_covered).then_some(Cow::Owned(here))
    }
}

/// The mount that a path is in: the deepest one counts, of two in the same place the last.
fn nearest<'m>(
    mounts: &'m [Mounted],
    place: impl Fn(&'m Mounted) -> Option<&'m PathBuf>,
    path: &Path,
) -> Option<&'m Mounted> {
    let depth = |mount: &&'m Mounted| place(mount).map(|place| place.components().count());
    mounts.iter().filter(|mount| place(mount).is_some_and(|place| path.starts_with(place))).max_by_key(depth)
}

fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    let rest = path.strip_prefix(from).unwrap_or(path);
    if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) }
}

/// The path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// The ids under which an engine may know the container that this process is in, the surest first: from what the kernel shows
/// of mounts (`/proc/self/mountinfo`) and control groups (`/proc/self/cgroup`), and the host name.
///
/// None outside of containers: there no file of `/etc` is mounted from a folder of a container.
pub(crate) fn candidates(mounts: &str, groups: &str, host_name: &str) -> Vec<String> {
    // Engines keep these files for each container, in a folder of its id.
    const FILES: [&str; 4] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];
    let of_mount = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        if FILES.contains(&point) { root.split('/').rev().find(|part| is_id(part)).map(str::to_owned) } else { None }
    };
    let of_group = |line: &str| {
        let path = line.splitn(3, ':').nth(2)?;
        let part = path.rsplit(['/', '-', ':']).map(|part| part.trim_end_matches(".scope")).find(|part| is_id(part));
        part.map(str::to_owned)
    };
    let short = host_name.trim();
    let is_short = short.len() == 12 && short.bytes().all(is_digit);
    let mut seen = BTreeSet::new();
    let all = mounts.lines().filter_map(of_mount).chain(groups.lines().filter_map(of_group));
    let all = all.chain(is_short.then(|| short.to_owned()));
    all.filter(|id| seen.insert(id.clone())).collect()
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_digit)
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn inside(mounts: &[(&str, &str)]) -> Outside {
        let mounts = mounts
            .iter()
            .map(|(here, there)| Mounted { here: here.into(), there: (!there.is_empty()).then(|| there.into()) });
        Outside(Some(Own { name: "own".into(), mounts: mounts.collect() }))
    }

    fn there(outside: &Outside, path: &str) -> Option<String> {
        Some(outside.path(Path::new(path)).ok()?.to_str().unwrap().to_owned())
    }

    fn here(outside: &Outside, path: &str) -> Option<String> {
        Some(outside.here(Path::new(path))?.to_str().unwrap().to_owned())
    }

    #[test]
    fn outside_of_containers_paths_are_what_they_are() {
        let outside = Outside::default();
        assert_eq!(there(&outside, "/x/../y").unwrap(), "/x/../y");
        assert_eq!(here(&outside, "/x").unwrap(), "/x");
    }

    #[test]
    fn the_deepest_mount_counts_both_ways() {
        let outside = inside(&[("/no/flow", "/home/a/flow"), ("/no/flow/.l", "/vol/_data"), ("/no/flow/tmp", "")]);
        for (ours, theirs) in [
            ("/no/flow", "/home/a/flow"),
            ("/no/flow/x y", "/home/a/flow/x y"),
            ("/no/flow/.l", "/vol/_data"),
            ("/no/flow/.l/executions/1", "/vol/_data/executions/1"),
        ] {
            assert_eq!(there(&outside, ours).as_deref(), Some(theirs));
            assert_eq!(here(&outside, theirs).as_deref(), Some(ours));
        }
        for ours in ["/no/flow/tmp", "/no/flow/tmp/x", "/no/flows", "/no", "/"] {
            assert_eq!(there(&outside, ours), None, "{ours}");
        }
        // Under a mount of ours, and so not seen.
        for theirs in ["/home/a/flow/.l/x", "/home/a/flow/tmp", "/home/a", "/vol"] {
            assert_eq!(here(&outside, theirs), None, "{theirs}");
        }
    }

    #[test]
    fn links_are_followed_on_our_side() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        std::fs::create_dir(folder.join("data")).unwrap();
        std::os::unix::fs::symlink(folder.join("data"), folder.join("link")).unwrap();
        let data = folder.join("data");
        let outside = inside(&[(data.to_str().unwrap(), "/host/data")]);
        let link = folder.join("link");
        assert_eq!(there(&outside, link.to_str().unwrap()).as_deref(), Some("/host/data"));
        assert_eq!(there(&outside, link.join("new").to_str().unwrap()).as_deref(), Some("/host/data/new"));
        assert_eq!(there(&outside, folder.join("other").to_str().unwrap()), None);
    }

    #[test]
    fn both_engines_show_what_is_mounted_into_our_container() {
        // As docker 20.10 and podman 4.3 show them, shortened.
        let docker = r#"[{"Id": "1", "Name": "/me", "HostConfig": {"Tmpfs": {"/no/a/tmp": ""}}, "Mounts": [
            {"Type": "bind", "Source": "/home/a", "Destination": "/no/a", "Mode": "", "RW": true, "Propagation": "rprivate"},
            {"Type": "volume", "Name": "v", "Source": "/var/lib/docker/volumes/v/_data", "Destination": "/no/v", "Driver": "local"},
            {"Type": "tmpfs", "Source": "", "Destination": "/no/a/t"}]}]"#;
        let outside = Outside::parse(docker.as_bytes()).unwrap().unwrap();
        assert_eq!(there(&outside, "/no/v/x").unwrap(), "/var/lib/docker/volumes/v/_data/x");
        assert_eq!(there(&outside, "/no/a/x").unwrap(), "/home/a/x");
        let unseen = outside.path(Path::new("/no/a/t")).unwrap_err();
        assert_eq!((unseen.container.as_str(), &*unseen.path), ("me", Path::new("/no/a/t")));
        assert!(outside.path(Path::new("/no/a/tmp")).is_err());
        let podman = r#"[{"Id": "1", "Name": "me", "HostConfig": {"Tmpfs": {}}, "Mounts": null}]"#;
        assert!(Outside::parse(podman.as_bytes()).unwrap().unwrap().path(Path::new("/no")).is_err());
        assert_eq!(Outside::parse(b"[]").unwrap(), None);
    }

    #[test]
    fn our_own_container_is_known_by_what_is_mounted_into_it() {
        let id = "e73dd4eae8dc2cca2ff149d1ac0f01a5b94702083dfb1b7c1f48ea04813c3909";
        let docker =
            format!("113 95 254:0 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw");
        assert_eq!(candidates(&docker, "", "vm"), [id]);
        let podman = format!(
            "105 97 0:39 /containers/overlay-containers/{id}/userdata/.containerenv /run/.containerenv rw - tmpfs t rw"
        );
        assert_eq!(candidates(&podman, "", "x"), [id]);
        for group in [format!("0::/docker/{id}"), format!("0::/machine.slice/libpod-{id}.scope/container")] {
            assert_eq!(candidates("", &group, ""), [id]);
        }
        assert_eq!(candidates("", "0::/", &format!("{}\n", &id[..12])), [&id[..12]]);
    }

    #[test]
    fn a_host_that_has_containers_is_in_none() {
        let id = "e73dd4eae8dc2cca2ff149d1ac0f01a5b94702083dfb1b7c1f48ea04813c3909";
        let mounts = format!(
            "42 27 254:0 / / rw - ext4 /dev/vda rw\n\
             43 27 0:40 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw\n\
             44 27 254:0 /etc/real /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(candidates(&mounts, "0::/user.slice/user-0.slice/session-1.scope", "deadbeef"), [""; 0]);
    }
}
