//! What must be true in the world when a process begins, and while it is alive.

use laminar_core::executor::{EachFile, Task};

use crate::model::{Key, name};
use crate::world::{End, Stage, State, Views, read_views};

impl State {
    pub(crate) fn check_begin(&mut self, key: Key, task: &Task) {
        let is_void = self.model.is_void(key);
        if !self.model.is_alive(key) && !self.model.is_offered(key) && !is_void {
            self.breaks(|| format!("{} begins, and the log does not say that it is launched", name(key)));
        }
        if self.ran.contains(&key) {
            self.breaks(|| format!("{} runs a second time", name(key)));
        }
        let mut alive = self.processes.iter().filter(|(_, process)| matches!(process.stage, Stage::Running { .. }));
        if let Some((other, _)) = alive.clone().find(|(other, _)| (other.0, other.1) == (key.0, key.1)) {
            let other = *other;
            self.breaks(|| format!("{} runs beside attempt {}", name(key), other.2));
            return;
        }
        if let Some((other, _)) = alive.find(|(_, process)| process.outputs == task.outputs) {
            let other = *other;
            self.breaks(|| format!("{} writes where {} does", name(key), name(other)));
        }
        self.check_said(key, task);
        let line = &self.model.rows[key.0 as usize].lines[key.1 as usize];
        let number = line.offered.unwrap_or(line.outputs);
        if task.outputs.file_name() != Some(number.to_string().as_ref()) && !is_void {
            self.breaks(|| format!("{} writes to {:?}, and the log says {number}", name(key), task.outputs));
        }
        match std::fs::read_dir(&task.outputs).map(Iterator::count) {
            Ok(0) => {}
            found => self.breaks(|| format!("{} finds {found:?} among its outputs", name(key))),
        }
    }

    /// What a task is told and given is what its flow says.
    pub(crate) fn check_said(&mut self, key: Key, task: &Task) {
        let inputs = task.inputs.folder.to_string_lossy().into_owned();
        let words = self.model.words(key, &inputs);
        if task.argv != words {
            self.breaks(|| format!("{} is told {:?}, and should be {words:?}", name(key), task.argv));
        }
        let each = self.model.each(key.0, key.1, &inputs).map(|each| serde_json::json!(each));
        let read = |file: &EachFile| {
            let text = std::fs::read_to_string(file.folder.join(&file.name)).unwrap_or_default();
            serde_json::from_str(&text).unwrap_or(serde_json::Value::Null)
        };
        let found = task.each.as_ref().map(read);
        if found != each {
            self.breaks(|| format!("{} has the values {found:?}, and should have {each:?}", name(key)));
        }
        let row = &self.model.rows[key.0 as usize];
        if task.splits as usize != row.count {
            let count = row.count;
            self.breaks(|| format!("{} is one of {}, and should be one of {count}", name(key), task.splits));
            return;
        }
        let (line, shape) = (&row.lines[key.1 as usize], &self.case.shapes[key.0 as usize]);
        let (granted, asks) = (line.memory, self.model.asks_for(key));
        // What an earlier scheduler has launched may get what its successor has to share out.
        if !self.present.launched.contains(&key) {
            return;
        }
        if shape.is_sized() && line.reserves() != asks {
            let reserves = line.reserves();
            self.breaks(|| format!("{} asks for {asks:?}, and has reserved {reserves:?}", name(key)));
            return;
        }
        let has = (task.container.cpu_millis.unwrap_or(0), task.container.memory.unwrap_or(0));
        if Some(has) != asks.map(|(cpu_millis, _)| (cpu_millis, granted)) {
            self.breaks(|| {
                format!("{} has {has:?}, and should have {granted} of memory; it asks for {asks:?}", name(key))
            });
        }
    }

    /// What a task reads is what its needs have left, and nothing else.
    pub(crate) fn check_inputs(&mut self, key: Key, task: &Task) -> Views {
        let expected = self.model.inputs(key.0);
        let named: Vec<_> = task.inputs.views.iter().map(|(name, _)| name.as_str()).collect();
        let mut names: Vec<_> = expected.keys().map(String::as_str).collect();
        names.push("Parameters");
        let mut sorted = named.clone();
        sorted.sort_unstable();
        names.sort_unstable();
        if sorted != names {
            let named = format!("{named:?}");
            self.breaks(|| format!("{} reads {named}, and should read {expected:?}", name(key)));
            return Views::new();
        }
        let read = read_views(&task.inputs.folder, expected.keys());
        if read != expected {
            self.breaks(|| format!("{} reads {read:?}, and should read {expected:?}", name(key)));
        }
        read
    }

    /// One that goes on after a cancel must have been asked to stop, as soon as it was known to be there.
    pub(crate) fn check_cancel(&mut self, key: Key, end: &End) {
        let (heard_of_ms, asked) =
            (self.present.heard_of_ms.get(&key).copied(), self.present.asked_to_stop.contains(&key));
        if let (Some(cancelled_ms), Some(heard_of_ms), End::Itself, false) =
            (self.model.cancelled_ms, heard_of_ms, end, asked)
            && self.present.began.is_some()
            && !self.present.shut_out
            && self.now_ms > cancelled_ms.max(heard_of_ms)
        {
            self.breaks(|| format!("{} ends by itself, and was to be stopped at {cancelled_ms} ms", name(key)));
        }
    }

    /// Everything that lives is in the log.
    pub(crate) fn check_alive(&mut self) {
        let is_known = |key: &Key| self.model.is_alive(*key) || self.model.is_offered(*key) || self.model.is_void(*key);
        if let Some(key) = self.alive().into_iter().find(|key| !is_known(key)) {
            self.breaks(|| format!("{} is alive, and the log does not say so", name(key)));
        }
    }
}
