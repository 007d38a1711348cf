//! A datastore in the world: objects outlive the scheduler, views are folders on disk.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use laminar_core::datastore::{AdoptError, Artifact, Content, Datastore, DatastoreError, Digest, Entry, Rejection};

use crate::faults::Fault;
use crate::model::{Stage, artifact};
use crate::sabotage::Sabotage;
use crate::world::{Died, RUBBISH, State, World};

pub(crate) struct SimulatedDatastore {
    pub(crate) world: Arc<World>,
}

fn failed(verb: &'static str, path: &Path, source: std::io::Error) -> DatastoreError {
    DatastoreError::File { verb, path: path.to_owned(), source }
}

fn full() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::StorageFull)
}

fn digest(artifact: &Artifact) -> [u8; 32] {
    match &artifact.content {
        Content::File { digest, .. } => digest.hash,
        Content::Folder { manifest, .. } => manifest.hash,
    }
}

impl SimulatedDatastore {
    fn must_be_alive(&self) {
        if self.world.is_dead() || self.world.state().broken.is_some() {
            std::panic::resume_unwind(Box::new(Died));
        }
    }
}

impl Datastore for SimulatedDatastore {
    fn adopt(&self, outputs: &Path) -> Result<Vec<Artifact>, AdoptError> {
        self.must_be_alive();
        let mut state = self.world.state();
        state.step();
        state.check_adopt(outputs);
        if state.happens(Fault::AdoptFails) {
            state.present.failing = true;
            return Err(failed("write", outputs, full()).into());
        }
        let files = read(outputs).map_err(|error| failed("read", outputs, error))?;
        if files.contains_key(RUBBISH) || state.happens(Fault::AdoptRejects) {
            let reason = "is a socket; only files, folders and links can be artifacts".into();
            return Err(AdoptError::Rejected(vec![Rejection { path: RUBBISH.into(), reason }]));
        }
        let dies = state.happens(Fault::DiesInAdopt);
        let many = if dies { files.len() / 2 } else { files.len() };
        let mut artifacts = Vec::new();
        for (name, text) in files.into_iter().take(many) {
            let text = if state.is_sabotaged(Sabotage::AdoptsOtherBytes) { format!("{text}!") } else { text };
            let artifact = artifact(&name, &text);
            state.objects.insert(digest(&artifact), text);
            artifacts.push(artifact);
        }
        drop(state);
        if dies {
            self.world.die();
        }
        Ok(artifacts)
    }

    fn view(&self, artifacts: &[Artifact], folder: &Path) -> Result<(), DatastoreError> {
        self.must_be_alive();
        let mut state = self.world.state();
        state.step();
        if state.happens(Fault::ViewFails) {
            return Err(failed("make", folder, full()));
        }
        let dies = state.happens(Fault::DiesInView);
        // It appears at once, so one who dies leaves all of it or nothing.
        if (!dies || state.dice.one_in(2)) && !folder.exists() {
            std::fs::create_dir(folder).map_err(|error| failed("make", folder, error))?;
            let many = artifacts.len() - usize::from(state.is_sabotaged(Sabotage::ViewLacksOne));
            for artifact in &artifacts[..many] {
                let Some(text) = state.objects.get(&digest(artifact)) else {
                    let Content::File { digest, .. } = artifact.content else { continue };
                    state.breaks(|| format!("{digest} is on record, and not in the datastore"));
                    return Err(DatastoreError::Missing { digest });
                };
                let path = folder.join(&artifact.name);
                let parent = path.parent().unwrap_or(folder);
                std::fs::create_dir_all(parent).map_err(|error| failed("make", parent, error))?;
                std::fs::write(&path, text).map_err(|error| failed("write", &path, error))?;
            }
        }
        drop(state);
        if dies {
            self.world.die();
        }
        Ok(())
    }

    fn recall(&self, artifacts: &[Artifact]) -> Result<bool, DatastoreError> {
        self.must_be_alive();
        let mut state = self.world.state();
        state.step();
        Ok(artifacts.iter().all(|artifact| state.objects.contains_key(&digest(artifact))))
    }

    fn open(&self, digest: Digest, _: u64) -> Result<Box<dyn Read + Send>, DatastoreError> {
        Err(DatastoreError::Missing { digest })
    }

    fn entries(&self, manifest: Digest) -> Result<Vec<Entry>, DatastoreError> {
        Err(DatastoreError::Missing { digest: manifest })
    }
}

impl State {
    /// Only what an attempt that has ended well has left is adopted, and only while nobody writes there.
    fn check_adopt(&mut self, outputs: &Path) {
        self.note(|| format!("adopt     {:?}", outputs.file_name().unwrap_or_default()));
        let number: Option<u32> = outputs.file_name().and_then(|name| name.to_str()?.parse().ok());
        let of = self.model.lines.iter().find(|line| Some(line.outputs) == number && line.stage == Stage::Adopting);
        if of.is_none() {
            self.breaks(|| format!("outputs {number:?} are adopted, and no attempt there has ended well"));
        }
    }
}

/// The files of a folder, by name.
fn read(folder: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, std::fs::read_to_string(&path)?);
    }
    Ok(files)
}
