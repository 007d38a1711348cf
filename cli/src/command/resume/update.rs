//! `laminar resume --update`: the flow file as it is now, in the place of the flow that an execution has.
//!
//! Nothing is written here. What the execution would be is made ready, and what that changes is said; the store takes it
//! over with the event that says so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use laminar_core::flow::problem::Source;
use laminar_core::flow::{Changed, Changes, Flow, Part, Side, changes, file};
use laminar_core::id::{ExecutionId, LayerId};
use laminar_core::store::Creation;
use serde_json::{Value, json};

use super::{MOST_NAMES, Outlook};
use crate::args::ResumeArgs;
use crate::choice::{self, Choice, Set};
use crate::context::Context;
use crate::error::Error;
use crate::execution::Execution;
use crate::load::{self, Loaded};
use crate::output::Shape;
use crate::text::{few, when};

/// An execution as it would be.
pub(super) struct Update {
    /// What its store would have.
    pub(super) creation: Creation,
    /// Its flow.
    pub(super) loaded: Loaded,
    /// What is different.
    pub(super) news: News,
}

/// What is different once an execution is updated.
pub(super) struct News {
    /// The number of the update.
    number: usize,
    /// What is different in the flow.
    pub(super) changes: Changes,
    /// The backends whose options are not what they were.
    moved: Vec<String>,
}

impl Update {
    /// Whether no layer is new, gone, or not what it was.
    pub(super) fn is_without_effect(&self) -> bool {
        let Changes { changed, new, removed, .. } = &self.news.changes;
        changed.is_empty() && new.is_empty() && removed.is_empty()
    }
}

/// What an execution would be with this file, or with the one its flow was last taken from; nothing if it would be what it is.
///
/// # Errors
/// When there is no such file, or with everything that is wrong with it.
pub(super) fn prepare(
    context: &Context<'_>,
    execution: &Execution,
    args: &ResumeArgs,
    file: Option<&Path>,
) -> Result<Option<Update>, Error> {
    let old = execution.reader.creation();
    let earlier = load::flows(old)?;
    let before = earlier.last().map(|before| before.flow.clone());
    let before = before.ok_or_else(|| Error::broken("the execution has no flow"))?;
    if args.drive.detach && file == Some(Path::new("-")) {
        return Err(Error::usage("`--detach` cannot read standard input").hint("`--update=FILE` names a file"));
    }
    let (path, source) = match context.program {
        None => {
            load::refuse_inside(&args.image, &args.program)?;
            read(old, file)?
        }
        Some(_) if file.is_some() => {
            return Err(Error::usage("this program has its flow in it").hint("`--update` takes it as it is now"));
        }
        Some(program) => {
            let inside = load::inside(&args.image, &args.program).or(program.inside(&old.source_text));
            load::own(context, program, args.backend.as_deref().or(Some(&old.backend)), inside)?
        }
    };
    let declared = file::parse(&source, &[])?.parameters;
    let is_kept = |name: &String| declared.contains_key(name) && args.parameters.iter().all(|(given, _)| given != name);
    let kept = old.parameters.iter().filter(|(name, _)| is_kept(name));
    let parameters: Vec<_> = kept.chain(&args.parameters).cloned().collect();
    let loaded = load::of_source(context, path, source, &parameters)?.after(earlier);
    let backend = backend(context, old, &before, &loaded.flow, args.backend.as_deref())?;
    let main = context.backend(Some(&backend))?;
    let options = merged(&old.options, choice::settle(context, &args.options, |_| vec![main])?);
    let is_same = *loaded.source.text == *old.source_text
        && loaded.flow.parameters == before.parameters
        && (&backend, &options) == (&old.backend, &old.options);
    if is_same {
        return Ok(None);
    }
    let was = Side { flow: &before, backend: &old.backend };
    let changes = changes(was, Side { flow: &loaded.flow, backend: &backend });
    let creation = creation(context, old, &loaded, (parameters, backend, options))?;
    let used = creation.backends().into_iter();
    let options_of = |flow: &Flow, set: &[Set], name: &str| -> BTreeMap<String, String> {
        let said = flow.backends.iter().filter(|(of, _)| of == name).flat_map(|(_, options)| options.iter().cloned());
        said.chain(set.iter().filter(|(of, ..)| of == name).map(|(_, name, value)| (name.clone(), value.clone())))
            .collect()
    };
    let is_moved =
        |name: &&str| options_of(&before, &old.options, name) != options_of(&loaded.flow, &creation.options, name);
    let moved = used.filter(is_moved).map(str::to_owned).collect();
    let news = News { number: creation.earlier.len(), changes, moved };
    Ok(Some(Update { creation, loaded, news }))
}

/// The flow file, under the name by which it is found again.
fn read(old: &Creation, file: Option<&Path>) -> Result<(std::path::PathBuf, Source), Error> {
    let Some(file) = file else {
        let hint = "`--update=FILE` names another";
        if old.source_name == load::STDIN_NAME {
            return Err(Error::usage("the flow of this execution was read from standard input").hint(hint));
        }
        let path = load::path_of(old);
        if path.symlink_metadata().is_err() {
            let error = Error::usage(format!("there is no flow file `{}`", path.display()));
            return Err(error.why("the flow of this execution was taken from it").hint(hint));
        }
        let (path, source) = load::read(Some(&path))?;
        return Ok((path, Source { name: old.source_name.clone(), ..source }));
    };
    let (path, source) = load::read(Some(file))?;
    if source.name == load::STDIN_NAME {
        return Ok((path, source));
    }
    // A folder stands for the file in it.
    let absolute =
        std::path::absolute(&path).map_err(|error| Error::because("cannot find the current folder", &error))?;
    let is_beside = absolute.parent() == Some(&old.workdir);
    let name = if is_beside { source.name.clone() } else { absolute.to_string_lossy().into_owned() };
    Ok((path, Source { name, ..source }))
}

/// What runs the layers that say no other: what is said now, else what was said when the execution was created, else what
/// the flow says.
fn backend(
    context: &Context<'_>,
    old: &Creation,
    before: &Flow,
    after: &Flow,
    said: Option<&str>,
) -> Result<String, Error> {
    if let Some(name) = said {
        return Ok(context.backend(Some(name))?.name.to_owned());
    }
    let of_flow = |flow: &Flow| context.backend(flow.backend.as_deref()).map(|backend| backend.name.to_owned());
    // Where it is the flow's own, nothing else was said, or what was said makes no difference.
    if of_flow(before).is_ok_and(|name| name == old.backend) { of_flow(after) } else { Ok(old.backend.clone()) }
}

fn merged(old: &[Set], new: Vec<Set>) -> Vec<Set> {
    let is_kept = |(backend, name, _): &&Set| !new.iter().any(|(of, other, _)| (of, other) == (backend, name));
    let kept: Vec<Set> = old.iter().filter(is_kept).cloned().collect();
    kept.into_iter().chain(new).collect()
}

fn creation(
    context: &Context<'_>,
    old: &Creation,
    loaded: &Loaded,
    (parameters, backend, options): (Vec<(String, String)>, String, Vec<Set>),
) -> Result<Creation, Error> {
    let mut elsewhere = Choice::new(context, &loaded.flow, Some(&backend), &options)?.elsewhere();
    let all = (0..).map(LayerId).zip(&loaded.flow.layers);
    let retired = all.filter(|(_, layer)| layer.retired).map(|(id, _)| (id, old.backend_of(id).to_owned()));
    elsewhere.extend(retired.filter(|(_, name)| *name != backend));
    elsewhere.sort_unstable();
    let mut earlier = old.earlier.clone();
    earlier.push(old.to_earlier());
    Ok(Creation {
        flow: loaded.flow.name.to_string(),
        source_name: loaded.source.name.clone(),
        source_text: Arc::clone(&loaded.source.text),
        source_format: loaded.source.format,
        parameters,
        backend,
        elsewhere,
        options,
        layers: loaded.flow.layers.iter().map(|layer| Arc::clone(&layer.name)).collect(),
        earlier,
        ..old.clone()
    })
}

impl News {
    /// Whether the options of this backend are not what they were.
    pub(super) fn moves(&self, backend: &str) -> bool {
        self.moved.iter().any(|moved| moved == backend)
    }

    /// Says it before the execution goes on.
    pub(super) fn tell(
        &self,
        context: &mut Context<'_>,
        id: ExecutionId,
        flow: &Flow,
        outlook: &Outlook<'_>,
    ) -> Result<(), Error> {
        if context.output.shape() == Shape::Json {
            let mut object = self.object(flow);
            object["event"] = "flow_changed".into();
            object["execution"] = id.to_string().into();
            object["update"] = self.number.into();
            object["at"] = when::stamp(when::now_ms()).into();
            outlook.push(&mut object);
            return context.output.object(&object);
        }
        for line in self.lines(flow).into_iter().chain(outlook.lines()) {
            context.output.say(&line);
        }
        Ok(())
    }

    /// For programs.
    pub(super) fn object(&self, flow: &Flow) -> Value {
        let Changes { changed, new, removed, parameters } = &self.changes;
        let name = |id: &LayerId| &*flow.layer(*id).name;
        let names = |ids: &[LayerId]| ids.iter().map(name).collect::<Vec<_>>();
        let words = |parts: &[Part]| parts.iter().map(|part| part.word()).collect::<Vec<_>>();
        let changed =
            changed.iter().map(|Changed { layer, parts }| json!({"layer": name(layer), "parts": words(parts)}));
        json!({
            "changed": changed.collect::<Vec<_>>(),
            "new": names(new),
            "removed": names(removed),
            "parameters": parameters,
        })
    }

    /// For people.
    pub(super) fn lines(&self, flow: &Flow) -> Vec<String> {
        let Changes { changed, new, removed, parameters } = &self.changes;
        let name = |id: &LayerId| &*flow.layer(*id).name;
        let mut lines = Vec::new();
        let mut line = |what: &str, names: Vec<String>| {
            if !names.is_empty() {
                lines.push(format!("{what}: {}", few(names.iter().map(String::as_str), MOST_NAMES)));
            }
        };
        line("parameters that changed", parameters.clone());
        let why = |changed: &Changed| {
            let parts: Vec<&str> = changed.parts.iter().map(|part| part.word()).collect();
            format!("{} ({})", name(&changed.layer), parts.join(", "))
        };
        line("changed layers", changed.iter().map(why).collect());
        line("new layers", new.iter().map(|id| name(id).to_owned()).collect());
        line("layers no longer part of the flow", removed.iter().map(|id| name(id).to_owned()).collect());
        if lines.is_empty() {
            lines.push("no layer is new, gone, or not what it was; how they are tried may have changed".to_owned());
        }
        lines
    }
}
