//! What a task's container is called and labelled: derived from the task's id and the execution's folder alone.

use std::path::Path;

use laminar_core::id::{ExecutionId, TaskId};

/// The label that says which execution a container belongs to.
pub(crate) const EXECUTION: &str = "laminar.execution";
/// The label that says which folder the execution lives in: a copy of it elsewhere has the same ids.
pub(crate) const ROOT: &str = "laminar.root";

/// The container's name. Layers are identifiers, so a dash separates.
pub(crate) fn container(task: &TaskId) -> String {
    format!("laminar-{}-{}-{}-{}", task.execution, task.layer, task.index, task.attempt)
}

/// The name of a warm container, which many tasks of a layer share; `desk` tells it from the layer's others.
pub(crate) fn warm(task: &TaskId, desk: &str) -> String {
    format!("laminar-{}-{}-warm-{desk}", task.execution, task.layer)
}

/// The task that a container of this name runs, if it is one of this execution's.
pub(crate) fn parse(execution: ExecutionId, name: &str) -> Option<TaskId> {
    let rest = name.trim_start_matches('/').strip_prefix("laminar-")?.strip_prefix(&execution.to_string())?;
    let mut parts = rest.strip_prefix('-')?.split('-');
    let (layer, index, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some(TaskId { execution, layer: layer.into(), index: index.parse().ok()?, attempt: attempt.parse().ok()? })
}

/// The task of this execution whose folder has this name.
pub(crate) fn of_folder(execution: ExecutionId, name: &str) -> Option<TaskId> {
    let mut parts = name.split('.');
    let (layer, index, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    let task = TaskId { execution, layer: layer.into(), index: index.parse().ok()?, attempt: attempt.parse().ok()? };
    (task.name() == name).then_some(task)
}

/// The container's labels.
pub(crate) fn labels(task: &TaskId, flow: &str, folder: &Path) -> Vec<(&'static str, String)> {
    vec![
        (EXECUTION, task.execution.to_string()),
        ("laminar.flow", flow.to_owned()),
        ("laminar.layer", task.layer.to_string()),
        ("laminar.index", task.index.to_string()),
        ("laminar.attempt", task.attempt.to_string()),
        (ROOT, root(folder)),
    ]
}

/// The labels of a warm container.
pub(crate) fn warm_labels(task: &TaskId, flow: &str, folder: &Path) -> Vec<(&'static str, String)> {
    let of_one = ["laminar.index", "laminar.attempt"];
    let mut labels = labels(task, flow, folder);
    labels.retain(|(label, _)| !of_one.contains(label));
    labels
}

/// The value of [`ROOT`] for an execution's folder.
pub(crate) fn root(folder: &Path) -> String {
    folder.display().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_task_and_no_other_executions() {
        let id = ExecutionId::now();
        let task = TaskId { execution: id, layer: "Train_2".into(), index: 12, attempt: 3 };
        let name = container(&task);
        assert_eq!(parse(id, &name), Some(task.clone()));
        assert_eq!(parse(id, &format!("/{name}")), Some(task));
        assert_eq!(parse(ExecutionId::now(), &name), None);
        assert_eq!(parse(id, &format!("{name}-4")), None);
        assert_eq!(parse(id, "laminar"), None);
        assert_eq!(parse(id, &warm(&TaskId { execution: id, layer: "L".into(), index: 1, attempt: 1 }, "7")), None);
    }
}
