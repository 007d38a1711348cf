//! Folders that are one user's alone, in places where everybody can make one; and folders that nobody else can write to,
//! whatever the umask.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Makes it (mode 0700), if it is not there.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Makes a folder with those above it, as far as they are not there: others may look in, where they get as far, and not write.
pub(crate) fn make_readable(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)
}

/// Whether it is ours alone: its name may be taken by somebody else, or by a link.
pub(crate) fn check(folder: &Path) -> io::Result<()> {
    let found = folder.symlink_metadata()?;
    let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    if is_ours {
        return Ok(());
    }
    let text = format!("`{}` is somebody else's, or open to others", folder.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}
