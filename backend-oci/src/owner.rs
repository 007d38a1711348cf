//! Who a container's processes are, and whether what they write is ours.
//!
//! Pure but for [`Host::here`] and [`foreign`]. Giving files back is the executor's business.

use std::path::Path;

use crate::dialect::Facts;

/// Who runs laminar, and what that is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Whether root inside is this user.
    pub rootless: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
}

impl Host {
    /// This process under an engine.
    pub(crate) fn here(facts: &Facts) -> Host {
        Host {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rootless: facts.rootless,
            selinux: facts.selinux,
        }
    }

    /// The number inside of the user who runs laminar.
    fn inside(self) -> u32 {
        if self.rootless { 0 } else { self.uid }
    }
}

/// Who a container's processes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// What the engine is told, if anything.
    pub(crate) flag: Option<String>,
    /// Whether what they write may be somebody else's, and our folders closed to them.
    pub(crate) foreign: bool,
}

/// Who they are: whom the layer names, else whom the image names, else whoever runs laminar.
pub(crate) fn user(said: Option<&str>, image: &str, host: Host) -> User {
    let foreign = |user: &str| {
        let name = user.split(':').next().unwrap_or_default();
        let number = if name == "root" { Some(0) } else { name.parse().ok() };
        number != Some(host.inside())
    };
    match said {
        Some(user) => User { flag: Some(user.to_owned()), foreign: foreign(user) },
        None if !matches!(image.split(':').next(), None | Some("" | "0" | "root")) => {
            User { flag: None, foreign: foreign(image) }
        }
        None if host.inside() == 0 => User { flag: None, foreign: false },
        None => User { flag: Some(format!("{}:{}", host.uid, host.gid)), foreign: false },
    }
}

/// Whether something in this folder belongs to somebody else, or cannot even be looked at.
pub(crate) fn foreign(folder: &Path, uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return true };
    for entry in entries {
        let Ok(entry) = entry else { return true };
        match entry.metadata() {
            Ok(metadata) if metadata.uid() == uid && !metadata.is_dir() => {}
            Ok(metadata) if metadata.uid() == uid => {
                if foreign(&entry.path(), uid) {
                    return true;
                }
            }
            _ => return true,
        }
    }
    false
}

/// Gives everything in this folder to this user and group, the folder too. Links are given, not what they point to.
pub(crate) fn give(folder: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), uid, gid)?;
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(uid), Some(gid))?;
        }
    }
    std::os::unix::fs::lchown(folder, Some(uid), Some(gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Host = Host { uid: 0, gid: 0, rootless: false, selinux: false };
    const ALICE: Host = Host { uid: 1000, gid: 100, ..ROOT };
    const ROOTLESS: Host = Host { rootless: true, ..ALICE };

    fn told(said: Option<&str>, image: &str, host: Host) -> (Option<String>, bool) {
        let user = user(said, image, host);
        (user.flag, user.foreign)
    }

    #[test]
    fn an_image_of_root_writes_as_whoever_runs_laminar() {
        assert_eq!(told(None, "", ROOT), (None, false));
        assert_eq!(told(None, "root:root", ALICE), (Some("1000:100".into()), false));
        assert_eq!(told(None, "", ROOTLESS), (None, false));
    }

    #[test]
    fn whom_the_layer_or_the_image_names_stays_and_is_foreign_unless_it_is_us() {
        assert_eq!(told(None, "app", ALICE), (None, true));
        assert_eq!(told(None, "1000:1000", ALICE), (None, false));
        assert_eq!(told(Some("0"), "app", ALICE), (Some("0".into()), true));
        assert_eq!(told(Some("root"), "app", ROOT), (Some("root".into()), false));
        assert_eq!(told(Some("root"), "app", ROOTLESS), (Some("root".into()), false));
        assert_eq!(told(Some("1000"), "", ROOTLESS), (Some("1000".into()), true));
    }
}
