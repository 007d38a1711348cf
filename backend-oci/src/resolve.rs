//! From an image's name to the image: looked for, pulled if the flow says so, and kept for all schedulers of an execution.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use laminar_core::executor::ExecutorError;
use tokio::sync::Mutex;

use crate::client::{PULL, SHORT, said};
use crate::engine::Engine;
use crate::execution::Execution;
use crate::image::{self, Image, Wanted};
use crate::place::file;
use crate::pull;

/// The longest name of a file; what an image with a longer one was resolved to is not kept.
const LONGEST: usize = 255;

/// The pauses, in milliseconds, before an image is looked for again where the engine could not say whether it is there.
const PAUSES: [u64; 5] = [50, 100, 200, 400, 800];

/// What an image was resolved to, or is about to be.
#[derive(Default)]
pub(crate) struct Resolution {
    image: OnceLock<Image>,
    /// How often it has failed.
    failures: AtomicU64,
    /// Held while somebody resolves it: why it failed the last time.
    last: Mutex<Option<ExecutorError>>,
}

impl Engine {
    /// The image, resolved once per execution. All who ask while that fails are told so: it is not tried again for each.
    pub(crate) async fn image(&self, execution: &Execution, wanted: &Wanted) -> Result<Image, ExecutorError> {
        let resolution = execution.image(wanted);
        if let Some(image) = resolution.image.get() {
            return Ok(image.clone());
        }
        let failures = resolution.failures.load(Ordering::Relaxed);
        let mut last = resolution.last.lock().await;
        if let Some(image) = resolution.image.get() {
            return Ok(image.clone());
        }
        if resolution.failures.load(Ordering::Relaxed) != failures
            && let Some(error) = last.as_ref().and_then(again)
        {
            return Err(error);
        }
        match self.resolve_once(&execution.private, wanted).await {
            Ok(image) => Ok(resolution.image.get_or_init(|| image).clone()),
            Err(error) => {
                *last = again(&error);
                resolution.failures.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// What an earlier scheduler of this execution has resolved stays, as long as it is there: tags move.
    async fn resolve_once(&self, folder: &Path, wanted: &Wanted) -> Result<Image, ExecutorError> {
        let record = folder.join("images").join(wanted.file_name());
        if let Ok(id) = std::fs::read_to_string(&record)
            && let Some(image) = self.find_image(folder, &id).await?
        {
            return Ok(image);
        }
        let image = self.resolve(folder, wanted).await?;
        if wanted.file_name().len() > LONGEST {
            return Ok(image);
        }
        let folder = folder.join("images");
        let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&record, &image.id));
        kept.map_err(|source| file("write", &record, source))?;
        Ok(image)
    }

    pub(crate) async fn resolve(&self, folder: &Path, wanted: &Wanted) -> Result<Image, ExecutorError> {
        let name = &wanted.name;
        let there = match self.seen_ahead(name).await {
            _ if wanted.always() => None,
            None => self.find_image(folder, name).await?,
            seen => seen,
        };
        let platform = wanted.platform.as_deref().unwrap_or_default();
        let other = match there {
            // Podman would run one for another platform without a word.
            Some(image) if !image::fits(&image.platform, platform) => Some(image.platform),
            Some(image) => return Ok(image),
            None => None,
        };
        if wanted.never() {
            let reason = match other {
                Some(other) => format!("it is for {other}, not {platform}, and `container.pull` is `never`"),
                None => "it is not there, and `container.pull` is `never`".to_owned(),
            };
            return Err(self.refuse(&format!("use the image `{name}`"), reason));
        }
        let mut args = vec!["pull", "--quiet"];
        if let Some(platform) = &wanted.platform {
            args.extend(["--platform", platform]);
        }
        args.push(name);
        let answer = self.client.ask_while_wanted(folder, &args, PULL).await?;
        if !answer.ok {
            let verb = format!("pull the image `{name}`");
            return Err(match pull::hint(self.dialect.program, name, &answer.err) {
                Some(hint) => self.refuse(&verb, format!("{}; {hint}", said(&answer))),
                None => self.client.refused(verb, &answer),
            });
        }
        let missing = || self.refuse(&format!("use the image `{name}`"), "it was pulled and is not there".to_owned());
        self.find_image(folder, name).await?.ok_or_else(missing)
    }

    pub(crate) async fn find_image(&self, folder: &Path, name: &str) -> Result<Option<Image>, ExecutorError> {
        let mut pauses = PAUSES.iter();
        loop {
            let answer = self.client.ask(folder, &["image", "inspect", name], SHORT).await?;
            if answer.ok {
                let unreadable = |reason| self.refuse(&format!("show the image `{name}`"), reason);
                return Image::parse(&answer.out).map(Some).map_err(unreadable);
            }
            // Podman stumbles over other images that are being removed; whatever else it is, pulling will tell.
            match pauses.next() {
                Some(pause) if !pull::is_absent(&answer.err) => tokio::time::sleep(Duration::from_millis(*pause)).await,
                _ => return Ok(None),
            }
        }
    }
}

/// The same once more, where it is the engine that has said it.
fn again(error: &ExecutorError) -> Option<ExecutorError> {
    Some(match error {
        ExecutorError::Refused { engine, verb, reason } => {
            ExecutorError::Refused { engine: engine.clone(), verb: verb.clone(), reason: reason.clone() }
        }
        ExecutorError::Unavailable { engine, reason, hint } => {
            ExecutorError::Unavailable { engine: engine.clone(), reason: reason.clone(), hint: hint.clone() }
        }
        _ => return None,
    })
}
