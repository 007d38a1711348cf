//! The kit must notice: executors with one fault each, and the cases that fail for them.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::executor::{Cause, Executor, ExecutorError, Exit, Handle, Probe, Recovered, Session, Task};
use laminar_core::fake::{FakeExecutor, Part};
use laminar_core::id::{ExecutionId, TaskId};

use super::{Ability, Case, Factory, Lack, Verdict, suite};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    AnotherCode,
    ForgetsExits,
    StopDoesNothing,
    StopRenamesExits,
    RemovesOnce,
    RecoversNothing,
    ListsNothing,
    ListsEverybodys,
    StartFails,
}

/// A fake with a fault.
struct Faulty {
    fake: FakeExecutor,
    fault: Fault,
    done: AtomicBool,
}

impl Faulty {
    fn refuses(&self, fault: Fault) -> Result<(), ExecutorError> {
        match self.fault == fault {
            true => Err(ExecutorError::Unknown("the fault".to_owned())),
            false => Ok(()),
        }
    }

    fn again(&self) -> bool {
        self.done.swap(true, Ordering::Relaxed)
    }
}

#[async_trait]
impl Executor for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn probe(&self) -> Result<Probe, ExecutorError> {
        self.fake.probe().await
    }

    async fn prepare(&self, session: &Session) -> Result<(), ExecutorError> {
        self.fake.prepare(session).await
    }

    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError> {
        self.refuses(Fault::StartFails)?;
        self.fake.start(task).await
    }

    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError> {
        match self.fault {
            Fault::RecoversNothing => Ok(Recovered::NeverStarted),
            _ => self.fake.recover(task).await,
        }
    }

    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError> {
        if self.again() {
            self.refuses(Fault::ForgetsExits)?;
        }
        let exit = self.fake.wait(handle).await?;
        match (self.fault, &exit.cause) {
            (Fault::AnotherCode, Cause::Code(code)) => Ok(Exit::code(code % 255)),
            (Fault::StopRenamesExits, Cause::Cancelled) => Ok(Exit::code(143)),
            _ => Ok(exit),
        }
    }

    async fn stop(&self, task: &TaskId, grace: Duration) -> Result<(), ExecutorError> {
        match self.fault {
            Fault::StopDoesNothing => Ok(()),
            _ => self.fake.stop(task, grace).await,
        }
    }

    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError> {
        if self.again() {
            self.refuses(Fault::RemovesOnce)?;
        }
        self.fake.remove(handles).await
    }

    async fn list(&self, execution: ExecutionId) -> Result<Vec<Handle>, ExecutorError> {
        let task = TaskId { execution, layer: "Somebody".into(), index: 0, attempt: 1 };
        match self.fault {
            Fault::ListsNothing => Ok(Vec::new()),
            Fault::ListsEverybodys => Ok(vec![Handle { task, token: String::new() }]),
            _ => self.fake.list(execution).await,
        }
    }

    async fn release(&self, execution: ExecutionId) -> Result<(), ExecutorError> {
        self.fake.release(execution).await
    }
}

struct FaultyFactory(FakeExecutor, Fault);

impl Factory for FaultyFactory {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(Faulty { fake: self.0.clone(), fault: self.1, done: AtomicBool::new(false) })
    }

    fn lacks(&self) -> Vec<Lack> {
        let abilities = [Ability::Processes, Ability::Signals, Ability::Programs, Ability::Mute];
        abilities.map(|ability| Lack { ability, reason: "it plays parts" }).into()
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(400)
    }
}

fn factory(fault: Fault) -> Arc<dyn Factory> {
    let fake = FakeExecutor::new(|task| match task.argv.last().unwrap().strip_prefix("exit ") {
        Some(code) => Part::exits(code.parse().unwrap()),
        None => Part::exits(0).after(Duration::from_secs(1000)),
    });
    Arc::new(FaultyFactory(fake, fault))
}

fn case(name: &str) -> Case {
    suite().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"))
}

#[test]
fn every_fault_fails_the_cases_of_its_rule() {
    for (fault, name, seen) in [
        (Fault::AnotherCode, "exit_codes_are_told_as_they_were", "left: Code(0)"),
        (Fault::ForgetsExits, "several_callers_get_the_same_exit", "the fault"),
        (Fault::StopDoesNothing, "stop_ends_a_running_task", "not over after"),
        (Fault::StopRenamesExits, "stop_while_starting_stops_what_was_started", "Code(143)"),
        (Fault::RemovesOnce, "remove_is_idempotent", "the fault"),
        (Fault::RecoversNothing, "recover_tells_what_became_of_each_task", "it runs"),
        (Fault::ListsNothing, "a_second_start_finds_the_first", "left: []"),
        (Fault::ListsEverybodys, "an_execution_knows_its_own_tasks_only", "Somebody"),
        (Fault::ListsEverybodys, "a_task_in_time_is_not_cut", "afterwards: "),
        (Fault::StartFails, "exit_codes_are_told_as_they_were", "the fault"),
    ] {
        let Verdict::Failed(said) = case(name).judge(&factory(fault)) else { panic!("{name} does not see {fault:?}") };
        assert!(said.contains(seen), "{name}, {fault:?}: {said}");
        assert_eq!(case(name).judge(&factory(Fault::None)), Verdict::Passed, "{name}");
    }
}

#[test]
fn what_an_executor_lacks_is_said_with_the_reason() {
    let verdict = case("inputs_are_seen").judge(&factory(Fault::None));
    assert_eq!(verdict, Verdict::Declared("lacks processes: it plays parts".to_owned()));
}

#[test]
fn the_table_has_a_line_for_each_case_and_a_note_for_each_reason() {
    let cases = ["remove_is_idempotent", "inputs_are_seen", "outputs_are_written"].map(case);
    let verdicts = [
        Verdict::Failed("a\nb".to_owned()),
        Verdict::Declared("lacks c: d".to_owned()),
        Verdict::Declared("lacks c: d".to_owned()),
    ];
    let rows: Vec<_> = cases
        .iter()
        .zip(verdicts)
        .map(|(case, verdict)| super::Row { executor: "x".to_owned(), case: case.name, verdict })
        .collect();
    let table = super::table(&cases, &["x"], &rows);
    assert_eq!(
        table,
        "| case | rules | x |\n|---|---|---|\n\
         | remove is idempotent | 6 | **no** (1) |\n\
         | inputs are seen |  | gap (2) |\n\
         | outputs are written |  | gap (2) |\n\n\
         1. a b\n2. lacks c: d\n"
    );
}
