//! A case: a name, the rules it stands for, and what to do; and how it is judged.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use super::elsewhere;
use super::factory::{Ability, Factory};
use super::scene::Scene;
use crate::gaps;

/// A case of the kit.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// The rules of the contract it stands for; none for the layer protocol and the words at the verbs.
    pub rules: &'static [u8],
    /// What the executor must be able to do.
    pub needs: &'static [Ability],
    /// The folder it plays in, below one of its own.
    pub folder: &'static str,
    /// Whether it takes so long that it runs only when asked for.
    pub on_request: bool,
    pub(super) run: Run,
}

pub(super) type Played<'a> = Pin<Box<dyn Future<Output = Result<(), NotHere>> + 'a>>;
pub(super) type Run = for<'a> fn(&'a mut Scene) -> Played<'a>;

/// Why a case cannot be played on this machine.
#[derive(Debug)]
pub struct NotHere(pub String);

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rule is kept.
    Passed,
    /// It is not, or it took too long; what was seen.
    Failed(String),
    /// The executor is declared not to be able to do it, or the machine is; why.
    Declared(String),
}

impl Case {
    /// Plays the case, on this thread. What fails is in the verdict; nothing panics.
    #[must_use]
    pub fn judge(&self, factory: &Arc<dyn Factory>) -> Verdict {
        if let Some(reason) = self.declared(factory.as_ref()) {
            return Verdict::Declared(reason);
        }
        if let Some(program) = factory.elsewhere() {
            return elsewhere::judge(program, &self.test(factory.name()), self.on_request);
        }
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Verdict::Failed(format!("cannot make a runtime: {error}")),
        };
        let deadline = factory.deadline() * if self.on_request { 10 } else { 1 };
        let mut scene = match caught(|| runtime.block_on(Scene::new(Arc::clone(factory), self.folder))) {
            Ok(scene) => scene,
            Err(panic) => return Verdict::Failed(panic),
        };
        let played =
            caught(|| runtime.block_on(async { tokio::time::timeout(deadline, (self.run)(&mut scene)).await }));
        let cleared = caught(|| runtime.block_on(async { tokio::time::timeout(CLEARING, scene.clear()).await }));
        match (played, cleared) {
            (Err(panic), _) => Verdict::Failed(panic),
            (Ok(Err(_)), _) => Verdict::Failed(format!("not over after {deadline:?}")),
            (_, Err(panic)) => Verdict::Failed(format!("afterwards: {panic}")),
            (_, Ok(Err(_))) => Verdict::Failed(format!("tasks were not stopped and removed in {CLEARING:?}")),
            (Ok(Ok(Err(NotHere(reason)))), _) => {
                gaps::skip(&self.test(factory.name()), &reason);
                Verdict::Declared(reason)
            }
            (Ok(Ok(Ok(()))), _) => Verdict::Passed,
        }
    }

    /// What the test of this case is called for an executor of this name.
    #[must_use]
    pub fn test(&self, executor: &str) -> String {
        format!("{executor}::{}", self.name)
    }

    /// Why this executor need not be asked.
    fn declared(&self, factory: &dyn Factory) -> Option<String> {
        if let Some(reason) = factory.unavailable() {
            return Some(reason);
        }
        if self.needs.contains(&Ability::Line) && !factory.executor().keeps_line() {
            return Some(format!("lacks {}: whoever starts tasks waits for places", Ability::Line));
        }
        let lacks = factory.lacks();
        let lack = lacks.iter().find(|lack| self.needs.contains(&lack.ability))?;
        Some(format!("lacks {}: {}", lack.ability, lack.reason))
    }
}

/// How long the tasks that a case left may take to be stopped and removed.
const CLEARING: Duration = Duration::from_secs(30);

thread_local! {
    /// What the last panic of this thread said, while one is expected.
    static SAID: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// The result, or what a panic said and where.
fn caught<T>(play: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let expected = SAID.with_borrow_mut(|said| said.as_mut().map(|said| *said = Some(panic.to_string())));
            if expected.is_none() {
                before(panic);
            }
        }));
    });
    SAID.set(Some(None));
    let result = catch_unwind(AssertUnwindSafe(play));
    let said = SAID.take().flatten();
    result.map_err(|_| said.unwrap_or_else(|| "it panicked".to_owned()))
}
