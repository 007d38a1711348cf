//! The folders that tasks read from: views of what layers left, built once per producing layer, and folders that link the
//! views of several layers together, built once per set of layers. Never once per task.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::left::Producer;
use super::{Blocking, EngineError};
use crate::datastore::{AdoptError, Artifact, Datastore};
use crate::executor::Inputs;
use crate::flow::Parameters;
use crate::folder::ExecutionFolder;
use crate::id::LayerId;
use crate::private;

/// The name of the parameters' view beside those of layers.
const PARAMETERS: &str = "Parameters";

type Cells<K, V> = Mutex<HashMap<K, Arc<OnceCell<V>>>>;

/// The input folders of one execution.
pub(super) struct InputFolders {
    folder: ExecutionFolder,
    datastore: Arc<dyn Datastore>,
    blocking: Blocking,
    /// What a task gets that needs no layer which left something.
    bare: Inputs,
    views: Cells<LayerId, ()>,
    sets: Cells<Vec<LayerId>, Inputs>,
    next: AtomicU32,
}

impl InputFolders {
    /// Makes the folder of those that need nothing. Blocks for a moment.
    pub(super) fn new(
        folder: &ExecutionFolder,
        datastore: Arc<dyn Datastore>,
        blocking: Blocking,
    ) -> Result<InputFolders, EngineError> {
        let view = folder.view(PARAMETERS);
        private::make_readable(&view).map_err(|source| file("make", &view, source))?;
        // Whatever is asked for by the umask: users inside containers read it too.
        std::fs::set_permissions(&view, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|source| file("open", &view, source))?;
        let next = AtomicU32::new(0);
        let views = [(PARAMETERS.to_owned(), view)];
        let bare = link(folder, &next, &views)?;
        Ok(InputFolders {
            folder: folder.clone(),
            datastore,
            blocking,
            bare,
            views: Mutex::default(),
            sets: Mutex::default(),
            next,
        })
    }

    /// Writes the parameters' view. Blocks for a moment.
    pub(super) fn write_parameters(&self, parameters: &Parameters) -> Result<(), EngineError> {
        let view = self.folder.view(PARAMETERS);
        write_parameters(&view, parameters).map_err(|source| file("write", &view, source))
    }

    /// What a task reads that needs no layer which left something.
    pub(super) fn bare(&self) -> Inputs {
        self.bare.clone()
    }

    /// What a task reads that needs these layers; views that are missing are built.
    pub(super) async fn of(self: &Arc<InputFolders>, producers: Vec<Producer>) -> Result<Inputs, EngineError> {
        let key = producers.iter().map(|producer| producer.layer).collect();
        let cell = cell(&self.sets, key);
        let inputs = cell.get_or_try_init(|| self.build(producers)).await?;
        Ok(inputs.clone())
    }

    async fn build(self: &Arc<InputFolders>, producers: Vec<Producer>) -> Result<Inputs, EngineError> {
        for producer in &producers {
            let cell = cell(&self.views, producer.layer);
            cell.get_or_try_init(|| self.view(producer.clone())).await?;
        }
        let this = Arc::clone(self);
        let link = move || {
            let named = |name: &str| (name.to_owned(), this.folder.view(name));
            let views: Vec<_> = std::iter::once(PARAMETERS)
                .chain(producers.iter().map(|producer| &*producer.name))
                .map(named)
                .collect();
            link(&this.folder, &this.next, &views)
        };
        self.blocking.run(link).await
    }

    async fn view(self: &Arc<InputFolders>, producer: Producer) -> Result<(), EngineError> {
        let this = Arc::clone(self);
        let build = move || {
            let folder = this.folder.view(&producer.name);
            let mut artifacts = producer.artifacts();
            let _hold = match producer.splits {
                Some(0) => Some(this.datastore.hold()?),
                _ => None,
            };
            if producer.splits == Some(0) {
                artifacts = this.empty(&producer.promised)?;
            }
            Ok(this.datastore.view(&artifacts, &folder)?)
        };
        self.blocking.run(build).await
    }

    /// Empty folders of these names as artifacts: what a foreach layer without splits has left.
    fn empty(&self, names: &[String]) -> Result<Vec<Artifact>, EngineError> {
        let folder =
            tempfile::tempdir_in(self.folder.path()).map_err(|source| file("make", self.folder.path(), source))?;
        for name in names {
            let path = folder.path().join(name);
            private::make_readable(&path).map_err(|source| file("make", &path, source))?;
        }
        match self.datastore.adopt(folder.path()) {
            Ok(artifacts) => Ok(artifacts),
            Err(AdoptError::Store(error)) => Err(error.into()),
            Err(AdoptError::Rejected(rejections)) => {
                let source = std::io::Error::other(AdoptError::Rejected(rejections).to_string());
                Err(file("read", folder.path(), source))
            }
        }
    }

    /// The names of the views that there are, whoever has built them.
    pub(super) fn views_that_are_there(&self) -> Result<Vec<String>, EngineError> {
        let folder = self.folder.views();
        let failed = |source| file("read", &folder, source);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn cell<K: std::hash::Hash + Eq, V>(cells: &Cells<K, V>, key: K) -> Arc<OnceCell<V>> {
    let mut cells = cells.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(cells.entry(key).or_default())
}

/// Makes a folder with a link to each view. The links are relative, so that the root may be moved.
fn link(folder: &ExecutionFolder, next: &AtomicU32, views: &[(String, PathBuf)]) -> Result<Inputs, EngineError> {
    let path = loop {
        let path = folder.inputs(next.fetch_add(1, Ordering::Relaxed));
        match std::fs::DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => break path,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(file("make", &path, source)),
        }
    };
    for (name, _) in views {
        let target = Path::new("../../views").join(name);
        let at = path.join(name);
        std::os::unix::fs::symlink(target, &at).map_err(|source| file("make", &at, source))?;
    }
    Ok(Inputs { folder: path, views: views.into() })
}

/// Tasks of an earlier scheduler may be reading them, so each file is replaced as a whole.
fn write_parameters(view: &Path, parameters: &Parameters) -> std::io::Result<()> {
    let draft = view.with_extension("draft");
    for (name, value) in parameters {
        std::fs::write(&draft, value.to_string())?;
        std::fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
        std::fs::rename(&draft, view.join(format!("{name}.json")))?;
    }
    for entry in std::fs::read_dir(view)? {
        let entry = entry?;
        let is_one = |name: &str| name.strip_suffix(".json").is_some_and(|name| parameters.contains_key(name));
        if !entry.file_name().to_str().is_some_and(is_one) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn file(verb: &'static str, path: &Path, source: std::io::Error) -> EngineError {
    EngineError::File { verb, path: path.to_owned(), source }
}
