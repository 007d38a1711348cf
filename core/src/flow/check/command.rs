//! What a layer runs, and with which variables.

use std::sync::Arc;

use super::Step::{self, Key, Nth};
use super::{Address, Check, Defaults, Part};
use crate::flow::raw::{self, Text};
use crate::flow::{Command, Script, Template, expression};
use crate::units::clip;

impl Check<'_> {
    pub(super) fn command(&mut self, raw: &raw::Layer, defaults: &Defaults, here: &[Step; 2]) -> Command {
        let shell = self.shell(raw.shell.as_deref(), here).unwrap_or_else(|| Arc::clone(&defaults.shell));
        match (&raw.run, &raw.command) {
            (Some(_), Some(_)) => {
                let hint = Some("keep one: `run` is a shell script, `command` a program and its arguments".to_owned());
                self.find("both `run` and `command`", hint, [&here[..], &[Key("command")]].concat(), Part::Key);
                let steps = [&here[..], &[Key("run")]].concat();
                self.also(Address { steps, part: Part::Key, label: "and here".to_owned() });
            }
            (None, None) => {
                self.absent("neither `run` nor `command`", "say what the layer runs: `run: echo hello`", here.to_vec());
            }
            (Some(run), None) => {
                let steps = [here[0], here[1], Key("run")];
                return Command::Script { script: self.script(run.as_str(), &shell, &steps), shell };
            }
            (None, Some(command)) => {
                let steps = [here[0], here[1], Key("command")];
                return Command::Argv(self.argv(command, &steps));
            }
        }
        Command::Argv(Vec::new())
    }

    fn script(&mut self, text: &str, shell: &Arc<[String]>, steps: &[Step]) -> Script {
        if text.trim().is_empty() {
            let hint = Some("write a script, or `run: 'true'` for nothing at all".to_owned());
            self.find("an empty script", hint, steps.to_vec(), Part::Value);
        }
        self.plain(text, "a script", steps);
        let script = Script::parse(text, shell.first().map_or("", String::as_str), &mut self.known);
        script.unwrap_or_else(|flaws| {
            self.flaws(flaws, steps);
            Script::literal("")
        })
    }

    fn argv(&mut self, command: &[Text], steps: &[Step]) -> Vec<Template> {
        if command.first().is_none_or(|program| program.as_str().is_empty()) {
            let hint = Some("write a program and its arguments: `[python, train.py]`".to_owned());
            self.find("an empty command", hint, steps.to_vec(), Part::Value);
        }
        let argument = |(at, text): (usize, &Text)| {
            let steps = [steps, &[Nth(at)]].concat();
            self.plain(text.as_str(), "an argument", &steps);
            self.template(text.as_str(), &steps)
        };
        command.iter().enumerate().map(argument).collect()
    }

    pub(super) fn template(&mut self, text: &str, steps: &[Step]) -> Template {
        Template::parse(text, &mut self.known).unwrap_or_else(|flaws| {
            self.flaws(flaws, steps);
            Template::literal("")
        })
    }

    /// What the kernel takes as an argument.
    pub(super) fn plain(&mut self, text: &str, what: &str, steps: &[Step]) {
        if text.contains('\0') {
            self.find(format!("{what} cannot hold a NUL byte"), None, steps.to_vec(), Part::Value);
        }
        if text.len() > expression::LONGEST {
            let message = format!("{what} has {} bytes, more than the kernel takes (128 KiB)", text.len());
            self.find(
                message,
                Some("put it into a file, and run or read that".to_owned()),
                steps.to_vec(),
                Part::Value,
            );
        }
    }

    pub(super) fn env(&mut self, raw: Option<&raw::Pairs<Text>>, env: &mut Vec<(String, Template)>, steps: &[Step]) {
        for (at, (name, value)) in raw.iter().flat_map(|pairs| &pairs.0).enumerate() {
            let here = [steps, &[Nth(at)]].concat();
            if name == "<<" {
                let hint = Some("there are no merge keys; write what layers share into `defaults`".to_owned());
                self.find("unknown key `<<`", hint, here.clone(), Part::Key);
            } else if name.is_empty() || name.contains(['=', '\0']) {
                let hint = Some("choose a name without `=`".to_owned());
                self.find(format!("a variable cannot be named `{}`", clip(name)), hint, here.clone(), Part::Key);
            } else if name.starts_with("LAMINAR_") {
                let hint = Some("choose a name that does not begin with `LAMINAR_`".to_owned());
                self.find(format!("`{}` is set by laminar itself", clip(name)), hint, here.clone(), Part::Key);
            }
            self.plain(value.as_str(), "a variable", &here);
            let value = self.template(value.as_str(), &here);
            set(env, name, value);
        }
    }

    /// A layer's variables.
    pub(super) fn layer_env(
        &mut self,
        raw: &raw::Layer,
        defaults: &Defaults,
        here: &[Step; 2],
    ) -> Arc<[(String, Template)]> {
        let inside = raw.container.as_ref().and_then(|container| container.env.as_ref());
        if inside.is_none() && raw.env.is_none() {
            return Arc::clone(&defaults.all_env);
        }
        let mut env = defaults.container_env.clone();
        self.env(inside, &mut env, &[here[0], here[1], Key("container"), Key("env")]);
        set_all(&mut env, &defaults.env);
        self.env(raw.env.as_ref(), &mut env, &[here[0], here[1], Key("env")]);
        env.into()
    }

    pub(super) fn shell(&mut self, raw: Option<&[Text]>, here: &[Step]) -> Option<Arc<[String]>> {
        let raw = raw?;
        let steps = [here, &[Key("shell")]].concat();
        if raw.first().is_none_or(|program| program.as_str().is_empty()) {
            let hint = Some("write a shell and its options: `[bash, -euo, pipefail, -c]`".to_owned());
            self.find("an empty shell", hint, steps.clone(), Part::Value);
        }
        Some(self.texts("shell", raw, &steps).into())
    }
}

/// Sets all of these variables.
pub(super) fn set_all(env: &mut Vec<(String, Template)>, these: &[(String, Template)]) {
    these.iter().for_each(|(name, value)| set(env, name, value.clone()));
}

/// Sets a variable, in the place of one with the same name.
fn set(env: &mut Vec<(String, Template)>, name: &str, value: Template) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name.to_owned(), value)),
    }
}
