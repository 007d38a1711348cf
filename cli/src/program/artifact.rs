//! What layers leave and read: values, files, folders, bytes.
//!
//! It is unaware of layers. A value is JSON, so that layers in any language read it; files and bytes go through untouched.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use laminar_core::json;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::{Builder, TempDir, TempPath};

use super::failure::{Context, Failure, Result};

/// What is being made among the outputs, and is no artifact yet, is called so.
pub(super) const UNFINISHED: &str = ".laminar-";

/// Something that a layer can leave, and another can read.
///
/// Every type that owns its data and is [`Serialize`] and [`DeserializeOwned`] is one, as a JSON file; [`File`], [`Folder`],
/// [`Bytes`] and [`Shards`](super::Shards) are kept as they are. Implement it for a type of your own to keep it in another
/// format.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an artifact of a layer",
    label = "what a layer leaves or reads must be an artifact",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, with data that it owns (`String`, not `&str`)",
    note = "for several artifacts declare it in `laminar::artifacts! {{ … }}`; for files there are `laminar::File`, `Folder` and `Bytes`"
)]
pub trait Artifact: Sized + Send + 'static {
    /// The ending of its name: `.json`; empty for none.
    const ENDING: &'static str;

    /// Writes it: a file or a folder, at a path where there is nothing yet.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(self, to: &Path) -> Result<()>;

    /// Reads it. What is there must not be changed.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(from: &Path) -> Result<Self>;

    /// Takes it from a value, where there is no file: in conditions and settings, which the scheduler asks for.
    ///
    /// # Errors
    /// When it is no value, or not of this kind.
    fn from_value(value: Value) -> Result<Self> {
        drop(value);
        Err(Failure::new("only values can be read by the scheduler, no files"))
    }

    /// The value that it is.
    #[doc(hidden)]
    fn into_value(self) -> Result<Value> {
        Err(Failure::new("it is no value"))
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Artifact for T {
    const ENDING: &'static str = ".json";

    fn save(self, to: &Path) -> Result<()> {
        let mut text = json::to_vec(&self).context("cannot write the value as JSON")?;
        text.push(b'\n');
        fs::write(to, text).context(format!("cannot write `{}`", to.display()))
    }

    fn load(from: &Path) -> Result<T> {
        let text = read(from)?;
        serde_json::from_slice(&text).context(unlike::<T>(&shown(from)))
    }

    fn from_value(value: Value) -> Result<T> {
        serde_json::from_value(value).context(unlike::<T>("the value"))
    }

    fn into_value(self) -> Result<Value> {
        json::to_value(&self).context("cannot write the value as JSON")
    }
}

fn unlike<T>(what: &str) -> String {
    format!("{what} is no `{}`", std::any::type_name::<T>())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).context(format!("cannot read {}", shown(path)))
}

/// The folder that a program reads the artifacts of an execution in is called so. In it are folders for each artifact.
pub(super) const RESULTS: &str = ".results-";

/// An artifact by its path; one of an execution, whose path says nothing, by its layer and its name.
pub(super) fn shown(path: &Path) -> String {
    let is_ours = |name: Component<'_>| name.as_os_str().as_bytes().starts_with(RESULTS.as_bytes());
    let ours = path.components().position(is_ours);
    let own: PathBuf = path.components().skip(ours.map_or(0, |at| at + 2)).collect();
    format!("`{}`", own.display())
}

/// Bytes as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Artifact for Bytes {
    const ENDING: &'static str = "";

    fn save(self, to: &Path) -> Result<()> {
        fs::write(to, self.0).context(format!("cannot write `{}`", to.display()))
    }

    fn load(from: &Path) -> Result<Bytes> {
        read(from).map(Bytes)
    }
}

/// A file: one that a layer makes, or one that another has left, which can only be read.
///
/// ```
/// # use laminar::File;
/// # fn table() -> laminar::Result<File> {
/// let table = File::create()?;
/// std::fs::write(&table, "x,y\n1,2\n")?;
/// Ok(table)
/// # }
/// # assert_eq!(std::fs::read_to_string(table()?)?, "x,y\n1,2\n");
/// # Ok::<(), laminar::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
    /// One that is new is gone with the last who knows it, unless it has been left.
    new: Option<Arc<TempPath>>,
}

impl File {
    /// A new, empty file, where it need not be copied when it is left.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create() -> io::Result<File> {
        let path = Builder::new().prefix(UNFINISHED).tempfile_in(scratch())?.into_temp_path();
        Ok(File { path: path.to_path_buf(), new: Some(Arc::new(path)) })
    }

    /// A file that is there already: it is copied when it is left.
    pub fn at(path: impl Into<PathBuf>) -> File {
        File { path: path.into(), new: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for File {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Artifact for File {
    const ENDING: &'static str = "";

    fn save(self, to: &Path) -> Result<()> {
        let told = || format!("cannot leave the file `{}`", self.path.display());
        if self.new.is_some() && fs::rename(&self.path, to).is_ok() {
            // A temporary file is its owner's alone.
            let mode = fs::metadata(to).map(|metadata| shared(&metadata)).context(told())?;
            return fs::set_permissions(to, mode).context(told());
        }
        fs::copy(&self.path, to).map(drop).context(told())
    }

    fn load(from: &Path) -> Result<File> {
        fs::metadata(from).context(format!("cannot read {}", shown(from)))?;
        Ok(File::at(from))
    }
}

fn shared(metadata: &fs::Metadata) -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode();
    fs::Permissions::from_mode(mode | 0o644)
}

/// A folder: one that a layer makes, or one that another has left, which can only be read.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    new: Option<Arc<TempDir>>,
}

impl Folder {
    /// A new, empty folder, where it need not be copied when it is left.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create() -> io::Result<Folder> {
        let folder = Builder::new().prefix(UNFINISHED).tempdir_in(scratch())?;
        Ok(Folder { path: folder.path().to_path_buf(), new: Some(Arc::new(folder)) })
    }

    /// A folder that is there already: it is copied when it is left.
    pub fn at(path: impl Into<PathBuf>) -> Folder {
        Folder { path: path.into(), new: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, in byte order of the names.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn entries(&self) -> io::Result<Vec<File>> {
        Ok(entries(&self.path)?.into_iter().map(File::at).collect())
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Artifact for Folder {
    const ENDING: &'static str = "";

    fn save(self, to: &Path) -> Result<()> {
        let told = || format!("cannot leave the folder `{}`", self.path.display());
        if self.new.is_some() && fs::rename(&self.path, to).is_ok() {
            use std::os::unix::fs::PermissionsExt;
            return fs::set_permissions(to, fs::Permissions::from_mode(0o755)).context(told());
        }
        copy(&self.path, to).context(told())
    }

    fn load(from: &Path) -> Result<Folder> {
        entries(from).context(format!("cannot read {}", shown(from)))?;
        Ok(Folder::at(from))
    }
}

/// The paths in a folder, in byte order.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    all.sort_unstable();
    Ok(all)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy(&entry.path(), &target)?,
            kind if kind.is_symlink() => std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?,
            _ => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

thread_local! {
    static SCRATCH: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Where new files are made: among the outputs of the layer that this thread evaluates, else where temporary files are.
fn scratch() -> PathBuf {
    SCRATCH.with_borrow(|folder| folder.clone()).unwrap_or_else(std::env::temp_dir)
}

/// Calls something with new files being made in this folder, and removes those that were not left.
pub(super) fn scratching<T>(folder: &Path, call: impl FnOnce() -> T) -> T {
    struct Restore(PathBuf);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCRATCH.set(None);
            for path in entries(&self.0).unwrap_or_default() {
                let is_unfinished =
                    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(UNFINISHED));
                if is_unfinished {
                    let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
                }
            }
        }
    }
    SCRATCH.set(Some(folder.to_path_buf()));
    let _restore = Restore(folder.to_path_buf());
    call()
}
