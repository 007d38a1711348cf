//! From a task to the arguments that create its container. Pure: values in, words out.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use laminar_core::container::{Container, Gpus};
use laminar_core::executor::{LOG_LIMIT, Seen, Task};

use crate::bare;
use crate::dialect::{Dialect, Gpu, Relabel};
use crate::enter::{END, GIVE_BACK, GRACE, MARKER, PATIENCE, ROOM, SERVE, TIMEOUT, VARIABLE};
use crate::image::Image;
use crate::name;
use crate::outside::Outside;
use crate::owner::{Host, user};
use crate::place::{EACH, ENTRY, INPUTS, INSIDE, LOG, OUTPUTS, SECRETS, Terms, VARIABLES, inside};
use crate::settings::Settings;
use crate::warm::desk::Mounted;
use crate::warm::errand::Errand;

/// Everything that decides how a container is created.
pub struct Order<'a> {
    /// Whose command line.
    pub dialect: &'a Dialect,
    /// Who runs laminar.
    pub host: Host,
    /// What is run.
    pub task: &'a Task,
    /// From which image.
    pub image: &'a Image,
    /// The execution's folder, as it is called where the engine is.
    pub folder: &'a Path,
    /// The task's own folder.
    pub place: &'a Path,
    /// The program that is mounted into the container and is its first process; without it the container is bare.
    pub entry: Option<&'a Path>,
    /// The flow file's folder, where relative mounts begin.
    pub workdir: &'a Path,
    /// What was said of the engine.
    pub settings: &'a Settings,
    /// Where the engine finds all other paths.
    pub outside: &'a Outside,
}

/// A command for an engine's command line.
#[derive(Debug, Default)]
pub struct Words {
    /// The arguments.
    pub args: Vec<OsString>,
    /// Variables for the client itself.
    pub env: Vec<(String, String)>,
    /// What the file of variables must hold that the arguments name, if they do.
    pub file: String,
}

impl Words {
    /// The arguments without the verb, for another one.
    pub(crate) fn skip_verb(&self) -> impl Iterator<Item = OsString> {
        self.args.iter().skip(1).cloned()
    }

    fn put(&mut self, words: &[&str]) {
        self.args.extend(words.iter().map(OsString::from));
    }
}

/// The command that creates a warm container for this task and others that may share it; with the names of its own that it has
/// in the words. Two tasks can share one if all but those names are equal.
///
/// # Errors
/// When the engine does not see something; the text says what.
pub(crate) fn create_warm(
    order: &Order<'_>,
    entry: &Path,
    name: &str,
    mounted: &Mounted,
    patience: Duration,
) -> Result<Words, String> {
    let (task, container) = (order.task, &*order.task.container);
    let mut words = Words::default();
    words.put(&["create", "--name", name, "--pull", "never"]);
    words.put(order.dialect.always);
    words.put(order.dialect.log);
    words.put(&order.settings.create.iter().map(String::as_str).collect::<Vec<_>>());
    for (label, value) in name::warm_labels(&task.id, &task.flow, order.folder) {
        words.put(&["--label", &format!("{label}={value}")]);
    }
    limits(&mut words, container, order.dialect);
    confines(&mut words, container, order);
    let mut put = puts(order, &mut words);
    put(entry, ENTRY, true, true)?;
    put(&mounted.inside, INSIDE, false, true)?;
    views(order, &mut put)?;
    if task.each.is_some() {
        put(&mounted.each, EACH, true, true)?;
    }
    if let Some(secrets) = &mounted.secrets {
        put(secrets, SECRETS, true, true)?;
    }
    put(&mounted.outputs, OUTPUTS, false, true)?;
    mounts(order, &mut put)?;
    drop(put);
    words.put(&container.options.iter().map(String::as_str).collect::<Vec<_>>());
    words.put(&["--entrypoint", ENTRY, &order.image.id, SERVE, PATIENCE, &millis(patience)]);
    Ok(words)
}

/// What a warm container is to do for this task.
pub(crate) fn errand(order: &Order<'_>, own_group: bool) -> Errand {
    let task = order.task;
    let protocol = protocol(task);
    let own = own(task, &protocol).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let through = task.container.entrypoint.as_ref().unwrap_or(&order.image.entrypoint);
    Errand {
        argv: through.iter().chain(&task.argv).cloned().collect(),
        env: protocol.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain(own).collect(),
        timeout: task.timeout,
        grace: task.grace,
        log_limit: task.log_limit,
        own_group,
    }
}

/// The command that creates the container.
///
/// # Errors
/// When there is something that cannot be said on a command line; the text says what.
pub fn create(order: &Order<'_>) -> Result<Words, String> {
    let (task, container) = (order.task, &*order.task.container);
    let mut words = Words::default();
    words.put(&["create", "--name", &name::container(&task.id), "--pull", "never"]);
    words.put(order.dialect.always);
    words.put(if order.entry.is_some() { order.dialect.log } else { order.dialect.whole_log });
    words.put(&order.settings.create.iter().map(String::as_str).collect::<Vec<_>>());
    for (label, value) in name::labels(&task.id, &task.flow, order.folder) {
        words.put(&["--label", &format!("{label}={value}")]);
    }
    limits(&mut words, container, order.dialect);
    confines(&mut words, container, order);
    environment(&mut words, order)?;
    folders(&mut words, order)?;
    words.put(&container.options.iter().map(String::as_str).collect::<Vec<_>>());
    match order.entry {
        Some(_) => {
            words.put(&["--entrypoint", ENTRY, &order.image.id, MARKER]);
            if let Some(timeout) = task.timeout {
                words.put(&[TIMEOUT, &millis(timeout), GRACE, &millis(task.grace)]);
            }
            if task.log_limit != LOG_LIMIT {
                words.put(&[ROOM, &task.log_limit.to_string()]);
            }
            words.put(&[END]);
            let through = container.entrypoint.as_ref().unwrap_or(&order.image.entrypoint);
            words.args.extend(through.iter().map(OsString::from));
        }
        None => {
            let through = container.entrypoint.as_deref();
            if let Some(through) = through {
                // An empty word takes the image's own away.
                words.put(&["--entrypoint", through.first().map_or("", String::as_str)]);
            }
            words.put(&[&order.image.id]);
            words.args.extend(through.unwrap_or_default().iter().skip(1).map(OsString::from));
        }
    }
    words.args.extend(task.argv.iter().map(OsString::from));
    Ok(words)
}

/// Rounded up: what is told as nothing would be up at once.
fn millis(duration: Duration) -> String {
    duration.as_nanos().div_ceil(1_000_000).min(u128::from(u64::MAX)).to_string()
}

fn limits(words: &mut Words, container: &Container, dialect: &Dialect) {
    if let Some(millis) = container.cpu_millis {
        words.put(&["--cpus", &format!("{}.{:03}", millis / 1000, millis % 1000)]);
    }
    if let Some(bytes) = container.memory {
        // Both together: without the second, as much again may be swapped.
        words.put(&["--memory", &bytes.to_string(), "--memory-swap", &bytes.to_string()]);
    }
    if let Some(pids) = container.pids_limit {
        words.put(&["--pids-limit", &pids.to_string()]);
    }
    if let Some(bytes) = container.shm_size {
        words.put(&["--shm-size", &bytes.to_string()]);
    }
    match (container.gpus, dialect.gpus) {
        (None | Some(Gpus::Count(0)), _) => {}
        (Some(Gpus::All), Gpu::Flag) => words.put(&["--gpus", "all"]),
        (Some(Gpus::Count(count)), Gpu::Flag) => words.put(&["--gpus", &count.to_string()]),
        (Some(Gpus::All), Gpu::Device) => words.put(&["--device", "nvidia.com/gpu=all"]),
        (Some(Gpus::Count(count)), Gpu::Device) => {
            (0..count).for_each(|at| words.put(&["--device", &format!("nvidia.com/gpu={at}")]));
        }
    }
}

fn confines(words: &mut Words, container: &Container, order: &Order<'_>) {
    let user = user(container.user.as_deref(), &order.image.user, order.host).flag;
    let said = [
        ("--user", &user),
        ("--workdir", &container.workdir),
        ("--network", if container.network.is_some() { &container.network } else { &order.settings.network }),
        ("--platform", &container.platform),
    ];
    for (option, value) in said {
        if let Some(value) = value {
            words.put(&[option, value]);
        }
    }
    if container.read_only {
        words.put(&["--read-only"]);
    }
    container.cap_add.iter().for_each(|name| words.put(&["--cap-add", name]));
    container.cap_drop.iter().for_each(|name| words.put(&["--cap-drop", name]));
}

/// The protocol's variables are no secrets. The flow's own travel in the client's environment, wrapped: not in its arguments,
/// and under names that mean nothing to the client, unlike `PATH` or `HTTPS_PROXY`. The supervisor unwraps them. Where there
/// is none they travel as they are, but those that mean something to the client do in a file.
/// The variables of the protocol, as they are seen inside.
fn protocol(task: &Task) -> Vec<(&'static str, String)> {
    task.protocol(&Seen { inputs: INPUTS, outputs: OUTPUTS, each: EACH, secrets: SECRETS })
}

/// Those that the task declares beside them.
fn own<'a>(task: &'a Task, protocol: &[(&str, String)]) -> impl Iterator<Item = (&'a str, &'a str)> {
    task.declared().filter(|(name, _)| protocol.iter().all(|(taken, _)| taken != name))
}

fn environment(words: &mut Words, order: &Order<'_>) -> Result<(), String> {
    let protocol = protocol(order.task);
    let own = own(order.task, &protocol);
    for (name, value) in &protocol {
        words.put(&["--env", &format!("{name}={value}")]);
    }
    if order.entry.is_some() {
        for (at, (name, value)) in own.enumerate() {
            let wrapped = format!("{VARIABLE}{at}");
            words.put(&["--env", &wrapped]);
            words.env.push((wrapped, format!("{name}={value}")));
        }
        return Ok(());
    }
    for (name, value) in own {
        if !bare::means_something_to_clients(name) {
            words.put(&["--env", name]);
            words.env.push((name.to_owned(), value.to_owned()));
            continue;
        }
        if !bare::fits_a_line(value) {
            return Err(format!(
                "the variable `{name}` is one of the engine's client too, and then its value must be one line"
            ));
        }
        words.file.push_str(&format!("{name}={value}\n"));
    }
    if !words.file.is_empty() {
        words.args.push("--env-file".into());
        words.args.push(order.place.join(VARIABLES).into());
    }
    Ok(())
}

fn folders(words: &mut Words, order: &Order<'_>) -> Result<(), String> {
    let task = order.task;
    let mut put = puts(order, words);
    if let Some(entry) = order.entry {
        put(entry, ENTRY, true, true)?;
        put(&inside(order.place), INSIDE, false, true)?;
        put(&task.log, LOG, false, true)?;
    }
    views(order, &mut put)?;
    if let Some(each) = &task.each {
        put(&each.folder, EACH, true, true)?;
    }
    if let Some(secrets) = &task.secrets {
        put(secrets, SECRETS, true, true)?;
    }
    put(&task.outputs, OUTPUTS, false, true)?;
    mounts(order, &mut put)
}

/// What puts a mount into the words, as the engine calls it: of what, where to, whether only to be read, whether it may be
/// labelled.
fn puts(order: &Order<'_>, words: &mut Words) -> impl FnMut(&Path, &str, bool, bool) -> Result<(), String> {
    let relabel = order.host.selinux.then_some(order.dialect.relabel);
    move |source, target, read_only, label| {
        let source = &*there(order.outside, source)?;
        words.args.extend(Bind { source, target, read_only, label }.words(relabel));
        Ok(())
    }
}

/// What it reads of other layers.
fn views(order: &Order<'_>, put: &mut impl FnMut(&Path, &str, bool, bool) -> Result<(), String>) -> Result<(), String> {
    let mut views = order.task.inputs.views.iter();
    views.try_for_each(|(name, folder)| put(folder, &format!("{INPUTS}/{name}"), true, true))
}

/// What the flow says is to be seen.
fn mounts(
    order: &Order<'_>,
    put: &mut impl FnMut(&Path, &str, bool, bool) -> Result<(), String>,
) -> Result<(), String> {
    let mut mounts = order.task.container.mounts.iter();
    mounts.try_for_each(|mount| put(&source(order.workdir, &mount.source), &mount.target, mount.read_only, false))
}

/// Where the engine finds a path.
fn there<'p>(outside: &Outside, path: &'p Path) -> Result<Cow<'p, Path>, String> {
    outside.path(path).map_err(|unseen| {
        format!(
            "the engine does not see `{}`, which is only in the container `{}`",
            unseen.path.display(),
            unseen.container
        )
    })
}

/// The command that gives a task's outputs to their owner, as root of a container without anything else. Without a program of
/// ours it needs a `chown` in the image.
pub(crate) fn give_back(
    place: &Path,
    entry: Option<&Path>,
    terms: &Terms,
    order: (&Dialect, Host, &Settings),
    outside: &Outside,
) -> Result<Vec<OsString>, String> {
    let (dialect, host, settings) = order;
    let owner = if host.rootless { (0, 0) } else { (host.uid, host.gid) };
    let mut words = Words::default();
    words.put(&["run", "--rm", "--pull", "never", "--network", "none", "--user", "0:0", "--cap-drop", "ALL"]);
    words.put(&settings.create.iter().map(String::as_str).collect::<Vec<_>>());
    ["CHOWN", "DAC_OVERRIDE", "FOWNER"].iter().for_each(|name| words.put(&["--cap-add", name]));
    let relabel = host.selinux.then_some(dialect.relabel);
    let inside = inside(place);
    let ours = entry.map(|entry| [(entry, ENTRY, true), (&inside, INSIDE, false)]);
    for (source, target, read_only) in ours.into_iter().flatten().chain([(terms.outputs(), OUTPUTS, false)]) {
        let source = &*there(outside, source)?;
        words.args.extend(Bind { source, target, read_only, label: true }.words(relabel));
    }
    let (uid, gid) = owner;
    match entry {
        Some(_) => {
            words.put(&["--entrypoint", ENTRY, &terms.image, GIVE_BACK, &uid.to_string(), &gid.to_string()]);
        }
        None => {
            let owner = format!("{uid}:{gid}");
            words.put(&["--entrypoint", "chown", &terms.image, "-R", "-h", &owner, OUTPUTS]);
        }
    }
    Ok(words.args)
}

/// Where a mount of a flow file is on the host. Paths that climb are resolved by their names: engines want them clean.
pub(crate) fn source(workdir: &Path, said: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in workdir.join(said).components() {
        match part {
            std::path::Component::ParentDir => drop(clean.pop()),
            std::path::Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// A folder or file of the host, seen inside.
struct Bind<'a> {
    source: &'a Path,
    target: &'a str,
    read_only: bool,
    /// Whether it may be labelled for containers: only what is ours.
    label: bool,
}

impl Bind<'_> {
    fn words(&self, relabel: Option<Relabel>) -> [OsString; 2] {
        let relabel = relabel.filter(|_| self.label);
        let mut word = OsString::new();
        if let Some(Relabel::Volume(suffix)) = relabel {
            word.push(self.source);
            word.push(format!(":{}:{}{suffix}", self.target, if self.read_only { "ro," } else { "" }));
            return ["--volume".into(), word];
        }
        word.push("type=bind,");
        word.push(field("source=", self.source.as_os_str()));
        word.push(",");
        word.push(field("target=", self.target.as_ref()));
        if self.read_only {
            word.push(",readonly");
        }
        if let Some(Relabel::Option(option)) = relabel {
            word.push(",");
            word.push(option);
        }
        ["--mount".into(), word]
    }
}

/// A field of a line of comma-separated values, quoted where it must be.
fn field(key: &str, value: &std::ffi::OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = value.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        let mut plain = OsString::from(key);
        plain.push(value);
        return plain;
    }
    let mut quoted = vec![b'"'];
    quoted.extend_from_slice(key.as_bytes());
    for byte in bytes {
        quoted.push(*byte);
        if *byte == b'"' {
            quoted.push(b'"');
        }
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_quotes_in_paths_survive() {
        let bind = Bind { source: Path::new("/a, \"b\":c"), target: "/x", read_only: true, label: true };
        assert_eq!(bind.words(None)[1].to_str().unwrap(), r#"type=bind,"source=/a, ""b"":c",target=/x,readonly"#);
        let plain = Bind { source: Path::new("/a:b"), label: false, read_only: false, ..bind };
        assert_eq!(plain.words(Some(Relabel::Volume("z")))[1].to_str().unwrap(), "type=bind,source=/a:b,target=/x");
    }

    #[test]
    fn only_our_own_folders_are_labelled() {
        let ours = Bind { source: Path::new("/a"), target: "/x", read_only: true, label: true };
        assert_eq!(ours.words(Some(Relabel::Volume("z"))), ["--volume", "/a:/x:ro,z"]);
        let option = ours.words(Some(Relabel::Option("relabel=shared")));
        assert_eq!(option[1].to_str().unwrap(), "type=bind,source=/a,target=/x,readonly,relabel=shared");
    }

    #[test]
    fn a_relative_mount_begins_at_the_flow_file() {
        assert_eq!(source(Path::new("/flows/a"), "../data/./x"), Path::new("/flows/data/x"));
        assert_eq!(source(Path::new("/flows/a"), "."), Path::new("/flows/a"));
        assert_eq!(source(Path::new("/flows/a"), "/data"), Path::new("/data"));
    }
}
