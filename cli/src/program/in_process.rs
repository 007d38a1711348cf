//! A flow in this process: for tests of flows, without processes, engines or anything that stays.
//!
//! The scheduler, the engine loop and the stores are those of every execution; only the layers' functions are called where they
//! are, one after the other, and all files are in memory where the machine has a folder for that (`/dev/shm`).

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use laminar_core::datastore::local::LocalDatastore;
use laminar_core::datastore::remove;
use laminar_core::engine::{self, Again, Blocking, Limits, Progress, Reporter};
use laminar_core::event::Record;
use laminar_core::executor::{Cause, Exit, Session, Task as CoreTask};
use laminar_core::fake::{FakeExecutor, Part};
use laminar_core::flow::file;
use laminar_core::folder::Root;
use laminar_core::id::ExecutionId;
use laminar_core::json;
use laminar_core::plan::Plan;
use laminar_core::secret::Secrets;
use laminar_core::store::{Creation, Durability, RunCache, RunStore};
use serde::Serialize;
use tempfile::TempDir;

use super::evaluate::{evaluated, words};
use super::failure::{Context, Failure, Result};
use super::flow::Flow;
use super::frozen::{Inside, Placement, Program};
use super::input::Input;
use super::results::{Execution, LayerResult, Results};
use super::source::{Folders, Task};
use crate::text::when::now_ms;

/// How many layers are under way: functions are called one after the other.
const LIMITS: Limits = Limits { jobs: 1, cpu_millis: u64::MAX, memory: u64::MAX };

/// A flow that is about to run in this process; see [`Flow::in_process`].
#[derive(Debug)]
#[must_use = "`run` runs it"]
pub struct InProcess<'f> {
    program: Arc<Program>,
    parameters: Vec<(String, String)>,
    wrong: Option<Failure>,
    flow: PhantomData<&'f Flow>,
}

/// What a flow that ran in this process has left. All of it is gone with this value.
#[derive(Debug)]
pub struct Ran {
    execution: Execution,
    root: TempDir,
}

impl Flow {
    /// The flow, to run in this process, for tests: every promise of the scheduler holds (conditions, retries, what is caught,
    /// what is skipped), but there are no processes, no limits and no timeouts, pauses before retries are left out, and
    /// nothing stays.
    ///
    /// ```
    /// # use laminar::Flow;
    /// let flow = Flow::new("Squares");
    /// let square = flow.foreach("Square", vec![1, 2, 3], |n: u32| Ok(n * n));
    /// let sum = flow.layer_with("Sum", square.join(), |all| Ok(all.iter().sum::<u32>()));
    ///
    /// let ran = flow.in_process().run()?;
    /// assert_eq!(ran.read(sum)?, 14);
    /// # Ok::<(), laminar::Failure>(())
    /// ```
    pub fn in_process(&self) -> InProcess<'_> {
        let program = Arc::new(Program::new(self));
        InProcess { program, parameters: Vec::new(), wrong: None, flow: PhantomData }
    }
}

impl InProcess<'_> {
    /// Sets a parameter.
    pub fn parameter(mut self, name: &str, value: impl Serialize) -> Self {
        // As it would stand behind `--parameter name=`, where a text has no quotes.
        let written = json::to_value(&value).map(|value| match value {
            serde_json::Value::String(text) => text,
            value => value.to_string(),
        });
        match written {
            Ok(value) => self.parameters.push((name.to_owned(), value)),
            Err(error) => self.wrong = Some(Failure::from(error)),
        }
        self
    }

    /// Runs it to its end. That a layer fails is no error: [`Ran::state`] tells.
    ///
    /// # Errors
    /// When the flow is wrong, or there is no place for what layers leave.
    pub fn run(self) -> Result<Ran> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let source = self.program.source(&Placement { main: "", in_images: Vec::new(), inside: Inside::default() });
        let told = |problems: laminar_core::flow::problem::Problems| {
            let messages = problems.list.into_iter().map(|problem| problem.message);
            Failure::new(messages.collect::<Vec<_>>().join("; ")).because("the flow is wrong")
        };
        let source = source.map_err(told)?;
        let mut flow = file::parse(&source, &self.parameters).map_err(told)?;
        self.program.check_parameters(&flow.parameters)?;
        flow.answers = Some(self.program.clone());
        flow.layers.iter_mut().for_each(|layer| Arc::make_mut(&mut layer.retry).delay = std::time::Duration::ZERO);
        let memory = Path::new("/dev/shm");
        let root =
            tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).context("there is no place to run in")?;
        let at = Root::new(root.path())?;
        let creation = Creation {
            id: ExecutionId::now(),
            flow: flow.name.to_string(),
            source_name: source.name.clone(),
            source_text: Arc::clone(&source.text),
            source_format: source.format,
            parameters: self.parameters,
            backend: "in process".to_owned(),
            elsewhere: Vec::new(),
            options: Vec::new(),
            workdir: root.path().to_owned(),
            jobs: LIMITS.jobs,
            cpu_millis: LIMITS.cpu_millis,
            memory: LIMITS.memory,
            layers: flow.layers.iter().map(|layer| Arc::clone(&layer.name)).collect(),
            earlier: Vec::new(),
            created_ms: now_ms(),
        };
        let id = creation.id;
        let plan = Plan::new(&flow).map_err(|cycle| Failure::new(format!("there is a cycle: {cycle:?}")))?;
        let store = RunStore::create(&at, &creation, Durability::Group).context("there is no place to run in")?;
        let program = Arc::clone(&self.program);
        let folder = at.execution(id);
        // A layer that wants one that is missing fails, and says so.
        let (secrets, _) = Secrets::read(&flow.layers, Path::new(""), |name| std::env::var_os(name));
        let run = engine::Run {
            plan: Arc::new(plan),
            earlier: Vec::new(),
            executor: Arc::new(FakeExecutor::new(move |task| Part { exit: play(&program, task), ..Part::exits(0) })),
            datastore: Arc::new(LocalDatastore::new(at.objects())),
            store: Box::new(store),
            again: Again::default(),
            blocking: Blocking::Threads,
            session: Session {
                execution: id,
                flow: Arc::clone(&flow.name),
                folder: folder.path().to_path_buf(),
                workdir: creation.workdir,
                containers: Vec::new(),
                withheld: flow.withheld().into_iter().collect(),
            },
            folder,
            limits: LIMITS,
            shares: None,
            grace: std::time::Duration::ZERO,
            environment: BTreeMap::default(),
            secrets,
            runs: Arc::new(RunCache::new(&at)),
            flow: Arc::new(flow),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (_control, asked) = tokio::sync::mpsc::unbounded_channel();
        runtime.block_on(engine::run(run, &mut Silent, asked)).context("the flow could not go on")?;
        Ok(Ran { execution: Execution::open(&at, id)?, root })
    }
}

/// Calls the function of a task's layer.
fn play(program: &Program, task: &CoreTask) -> Exit {
    let said = |code: u8, text: String| Exit { evidence: text, ..Exit::code(code.into()) };
    let failed = |text: String| Exit { cause: Cause::NotStarted, evidence: text, ..Exit::code(1) };
    let Some(node) = program.own(&task.id.layer) else {
        return failed(format!("`{}` is a layer of a flow file: only a backend runs it", task.id.layer));
    };
    let each = match &task.each {
        None => BTreeMap::new(),
        Some(file) => match super::evaluate::values(&file.folder.join(&file.name)) {
            Ok(values) => values,
            Err(failure) => return failed(failure.to_string()),
        },
    };
    let source = Folders {
        task: Task {
            execution: task.id.execution.to_string(),
            flow: task.flow.to_string(),
            layer: task.id.layer.to_string(),
            index: task.id.index,
            splits: task.splits,
            attempt: task.id.attempt,
        },
        inputs: task.inputs.folder.clone(),
        each,
    };
    let called = catch_unwind(AssertUnwindSafe(|| program.call(node, &source, &task.outputs)));
    match called {
        Ok(Ok(())) => Exit::code(0),
        Ok(Err(failure)) => said(evaluated(node, &failure).0, failure.to_string()),
        Err(panic) => {
            // What Rust's programs exit with.
            said(101, format!("panicked: {}", words(&*panic)))
        }
    }
}

/// What happens is read afterwards.
struct Silent;

impl Reporter for Silent {
    fn report(&mut self, _: &Record, _: &Progress) {}
}

impl Ran {
    /// `finished` or `failed`.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn state(&self) -> Result<&'static str> {
        self.execution.state()
    }

    /// What became of a layer.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn layer(&self, name: &str) -> Result<LayerResult> {
        self.execution.layer(name)
    }

    /// What a layer would be given that reads this.
    ///
    /// # Errors
    /// When it was not left.
    pub fn read<'f, I: Input<'f>>(&self, input: I) -> Result<I::Value> {
        self.execution.read(input)
    }

    /// The execution, with all that can be asked of one.
    #[must_use]
    pub fn execution(&self) -> &Execution {
        &self.execution
    }

    /// All executions of its folder: this one.
    ///
    /// # Errors
    /// When the folder is gone.
    pub fn results(&self) -> Result<Results> {
        Results::open(self.root.path())
    }
}

impl Drop for Ran {
    fn drop(&mut self) {
        // The views in it are read-only.
        let _ = remove(self.root.path());
    }
}
