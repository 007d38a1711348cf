//! A datastore in the world: objects outlive the scheduler, views are folders on disk.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use laminar_core::datastore::{
    AdoptError, Allowed, Artifact, Content, Datastore, DatastoreError, Digest, Entry, EntryKind, Hold, Rejection,
};

use crate::expect::{artifacts, folder as folder_of, object};
use crate::faults::Fault;
use crate::model::{Files, Stage};
use crate::sabotage::Sabotage;
use crate::world::{RUBBISH, State, World, read_files};

pub(crate) struct SimulatedDatastore {
    pub(crate) world: Arc<World>,
}

fn failed(verb: &'static str, path: &Path, source: std::io::Error) -> DatastoreError {
    DatastoreError::File { verb, path: path.to_owned(), source }
}

fn full() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::StorageFull)
}

fn digest(artifact: &Artifact) -> Digest {
    match artifact.content {
        Content::File { digest, .. } => digest,
        Content::Folder { manifest, .. } => manifest,
    }
}

impl SimulatedDatastore {
    /// An object is read.
    fn object(&self, digest: Digest) -> Result<Arc<str>, DatastoreError> {
        self.world.must_be_alive();
        let mut state = self.world.state();
        state.step();
        state.note(|| "read".to_owned());
        let (dies, fails) = (state.happens(Fault::DiesInRead), state.happens(Fault::ReadFails));
        if fails {
            state.model.reads_failed = true;
            return Err(failed("read", Path::new("object"), std::io::Error::other("input/output error")));
        }
        let Some(text) = state.objects.get(&digest.hash).cloned() else {
            state.breaks(|| format!("{digest} is read, and not in the datastore"));
            return Err(DatastoreError::Missing { digest });
        };
        drop(state);
        if dies {
            self.world.die();
        }
        Ok(text)
    }
}

impl Datastore for SimulatedDatastore {
    fn hold(&self) -> Result<Hold, DatastoreError> {
        self.world.must_be_alive();
        let mut state = self.world.state();
        if state.happens(Fault::HoldFails) {
            state.present.failing = true;
            return Err(failed("make", Path::new("hold"), full()));
        }
        Ok(Hold::default())
    }

    fn adopt_within(&self, outputs: &Path, _: Allowed) -> Result<Vec<Artifact>, AdoptError> {
        self.world.must_be_alive();
        let mut state = self.world.state();
        state.step();
        state.check_adopt(outputs);
        if state.happens(Fault::AdoptFails) {
            state.present.failing = true;
            return Err(failed("write", outputs, full()).into());
        }
        let mut files = Files::new();
        read_files(outputs, "", &mut files).map_err(|error| failed("read", outputs, error))?;
        if files.contains_key(RUBBISH) || state.happens(Fault::AdoptRejects) {
            let reason = "is a socket; only files, folders and links can be artifacts".into();
            return Err(AdoptError::Rejected(vec![Rejection { path: RUBBISH.into(), reason }]));
        }
        let dies = state.happens(Fault::DiesInAdopt);
        if state.is_sabotaged(Sabotage::AdoptsOtherBytes) {
            files.iter_mut().filter(|(path, _)| !path.ends_with('/')).for_each(|(_, text)| text.push('!'));
        }
        let artifacts = artifacts(&files);
        let many = if dies { artifacts.len() / 2 } else { artifacts.len() };
        for artifact in &artifacts[..many] {
            let top = match artifact.content {
                Content::File { .. } => artifact.name.clone(),
                Content::Folder { .. } => format!("{}/", artifact.name),
            };
            state.objects.insert(digest(artifact).hash, object(&files, &top));
            state.damaged.remove(&digest(artifact).hash);
        }
        drop(state);
        if dies {
            self.world.die();
        }
        Ok(artifacts)
    }

    fn view(&self, artifacts: &[Artifact], folder: &Path) -> Result<(), DatastoreError> {
        self.world.must_be_alive();
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
                let digest = digest(artifact);
                let Some(text) = state.objects.get(&digest.hash) else {
                    state.breaks(|| format!("{digest} is on record, and not in the datastore"));
                    return Err(DatastoreError::Missing { digest });
                };
                let path = folder.join(&artifact.name);
                let parent = path.parent().unwrap_or(folder);
                std::fs::create_dir_all(parent).map_err(|error| failed("make", parent, error))?;
                let write = || match &artifact.content {
                    Content::File { .. } => std::fs::write(&path, &**text),
                    Content::Folder { .. } => std::fs::create_dir(&path).and_then(|()| {
                        folder_of(text).iter().try_for_each(|(name, text)| std::fs::write(path.join(name), text))
                    }),
                };
                write().map_err(|error| failed("write", &path, error))?;
            }
        }
        drop(state);
        if dies {
            self.world.die();
        }
        Ok(())
    }

    fn recall(&self, artifacts: &[Artifact]) -> Result<bool, DatastoreError> {
        self.world.must_be_alive();
        let mut state = self.world.state();
        state.step();
        if state.happens(Fault::RecallFails) {
            return Err(failed("look at", Path::new("object"), std::io::Error::other("input/output error")));
        }
        let (dies, damaged) = (state.happens(Fault::DiesInCache), state.happens(Fault::Damaged));
        if damaged {
            // Whoever looks again finds the same.
            let hash = artifacts.first().map(|artifact| digest(artifact).hash);
            state.damaged.extend(hash);
        }
        let is_good = |hash: &[u8; 32]| state.objects.contains_key(hash) && !state.damaged.contains(hash);
        let there = artifacts.iter().all(|artifact| is_good(&digest(artifact).hash));
        drop(state);
        if dies {
            self.world.die();
        }
        Ok(there)
    }

    fn open(&self, digest: Digest, _: u64) -> Result<Box<dyn Read + Send>, DatastoreError> {
        Ok(Box::new(std::io::Cursor::new(self.object(digest)?.as_bytes().to_vec())))
    }

    fn entries(&self, manifest: Digest) -> Result<Vec<Entry>, DatastoreError> {
        let entry = |(name, text): (String, String)| {
            let kind = EntryKind::File { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
            Entry { path: name.into_bytes(), kind }
        };
        Ok(folder_of(&self.object(manifest)?).into_iter().map(entry).collect())
    }
}

impl State {
    /// Only what an attempt that has ended well has left is adopted, and only while nobody writes there.
    fn check_adopt(&mut self, outputs: &Path) {
        let number: Option<u32> = outputs.file_name().and_then(|name| name.to_str()?.parse().ok());
        self.note(|| format!("adopt     {number:?}"));
        if number.is_none() {
            // Empty folders that stand for what no split has left.
            return;
        }
        let mut lines = self.model.rows.iter().flat_map(|row| row.active());
        let of = lines.find(|line| Some(line.outputs) == number && line.stage == Stage::Adopting);
        if of.is_none() {
            self.breaks(|| format!("outputs {number:?} are adopted, and no attempt there has ended well"));
        }
    }
}
