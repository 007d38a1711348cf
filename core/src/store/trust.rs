//! Whether a root can be relied on: whoever can write to it decides what executions are said to have done, and where we write.
//!
//! It is ours, or the machine's administrator's; and it is closed to writers who are neither its owner nor of its group. A group
//! that may write was let in on purpose: laminar makes nothing that a group can write to.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::folder::Root;

use super::error::StoreError;

/// Checks the root and the folders in it that all executions share, as far as they are there.
///
/// # Errors
/// [`StoreError::Untrusted`]; when they cannot be looked at.
pub fn check(root: &Root) -> Result<(), StoreError> {
    let ours = rustix::process::geteuid().as_raw();
    look(root.path(), |owner| [ours, 0].contains(&owner))?;
    for folder in [root.executions(), root.objects()] {
        // Whose they are was for those to decide who may write to the root.
        look(&folder, |_| true)?;
    }
    Ok(())
}

fn look(folder: &Path, may_own: impl Fn(u32) -> bool) -> Result<(), StoreError> {
    let found = match folder.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|source| StoreError::file("look at", folder, source))?,
    };
    let untrusted = |reason| Err(StoreError::Untrusted { path: folder.to_owned(), reason });
    if !may_own(found.uid()) {
        return untrusted(format!("belongs to another user (uid {})", found.uid()));
    }
    if found.mode() & 0o002 != 0 {
        return untrusted("can be written to by everybody".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{Permissions, create_dir_all, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_root_that_others_can_write_to_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(&folder.path().join("root")).unwrap();
        check(&root).unwrap();
        create_dir_all(root.objects()).unwrap();
        for folder in [root.path().to_owned(), root.objects()] {
            set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
            let told = check(&root).unwrap_err().to_string();
            assert_eq!(told, format!("`{}` can be written to by everybody", folder.display()));
            set_permissions(&folder, Permissions::from_mode(0o775)).unwrap();
            check(&root).unwrap();
        }
    }

    #[test]
    fn a_root_of_another_user_is_told() {
        let folder = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(folder.path(), Some(65534), None).is_ok() {
            let root = Root::new(folder.path()).unwrap();
            let told = check(&root).unwrap_err().to_string();
            assert_eq!(told, format!("`{}` belongs to another user (uid 65534)", folder.path().display()));
        }
    }
}
