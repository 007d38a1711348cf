//! What a task finds when it begins, and what it leaves: arguments, variables, input, inputs, outputs.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use laminar_core::container::Container;
use laminar_core::executor::{Cause, EachFile, Seen};
use laminar_core::id::TaskId;

use super::case;
use crate::kit::case::Case;
use crate::kit::scene::{Scene, log, output, text};

pub(super) const CASES: &[Case] = &[
    case!(arguments_arrive_as_they_are, [8], [Processes, Output]),
    case!(variables_arrive_as_they_are, [8], [Processes, Output]),
    case!(variables_of_any_name_arrive_and_change_nothing_else, [8], [Processes, Output]),
    case!(the_protocols_variables_are_there_and_no_others, [], [Processes, Output]),
    case!(a_task_begins_in_a_clean_state, [], [Processes, Output, CleanSignals]),
    case!(standard_input_is_empty, [], [Processes, Output]),
    case!(inputs_are_seen, [], [Processes, Output, Files]),
    case!(inputs_are_where_they_were_said_to_be, [], [Processes, Output]),
    case!(the_values_of_a_split_arrive_and_stay_as_they_are, [], [Processes, Output, Files]),
    case!(secrets_arrive_byte_for_byte_and_are_left_as_they_are, [8], [Processes, Output, Files]),
    case!(outputs_are_written, [], [Processes, Files]),
    case!(outputs_belong_to_the_schedulers_user, [9], [Processes, Files]),
];

/// Texts that a shell, an engine's command line or a file of variables may change.
const NASTY: [&str; 14] = [
    "two words",
    "",
    " ",
    "'",
    "\"\\\"",
    "$HOME ${PATH} $(id) `id`",
    "two\nlines\n",
    "-e",
    "--env=A=B",
    "äöü 漢字 🦀",
    "*",
    "~",
    "a=b;c&d|e>f",
    "%s\\n\t#!",
];

async fn arguments_arrive_as_they_are(scene: &Scene) {
    let mut task = scene.sh(r#"printf '<%s>' "$@""#);
    let long = "x".repeat(100_000);
    let arguments = NASTY.into_iter().chain([long.as_str()]);
    task.argv.extend(std::iter::once("sh").chain(arguments.clone()).map(str::to_owned));
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::Code(0), "{}", exit.evidence);
    assert_eq!(text(&task), arguments.map(|text| format!("<{text}>")).collect::<String>());
}

async fn variables_arrive_as_they_are(scene: &Scene) {
    let script: String = (0..NASTY.len()).map(|at| format!(r#"printf '<%s>' "$NASTY_{at}"; "#)).collect();
    let mut task = scene.sh(&format!(r#"{script} printf '<%s>' "$TWICE" "${{EMPTY-unset}}""#));
    let pair = |(at, text): (usize, &&str)| (format!("NASTY_{at}"), (*text).to_owned());
    task.env = NASTY.iter().enumerate().map(pair).collect();
    for (name, value) in [("TWICE", "first"), ("EMPTY", ""), ("TWICE", "last")] {
        task.env.push((name.to_owned(), value.to_owned()));
    }
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::Code(0), "{}", exit.evidence);
    let nasty: String = NASTY.iter().map(|text| format!("<{text}>")).collect();
    assert_eq!(text(&task), format!("{nasty}<last><>"));
}

/// Names that mean something to engines, to their clients, and to the libraries that both are made of.
async fn variables_of_any_name_arrive_and_change_nothing_else(scene: &Scene) {
    let pairs = [
        ("DOCKER_HOST", "tcp://192.0.2.1:1"),
        ("DOCKER_CONFIG", "/no/such/folder"),
        ("CONTAINER_HOST", "unix:///no/such/socket"),
        ("CONTAINERS_CONF", "/no/such/file"),
        ("HTTPS_PROXY", "http://192.0.2.1:1"),
        ("http_proxy", "http://192.0.2.1:1"),
        ("GODEBUG", "two words"),
        ("XDG_RUNTIME_DIR", "/no/such/folder"),
        ("TMPDIR", "/no/such/folder"),
        ("HOME", "/a $HOME/'of' \"words\""),
        ("PATH", "/usr/bin:/bin:/odd path"),
        ("A", "=b=c"),
        ("lower_case", "#no comment"),
    ];
    let script: String = pairs.map(|(name, _)| format!(r#"printf '<%s>' "${name}"; "#)).concat();
    let mut task = scene.sh(&script);
    task.env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::Code(0), "{}", exit.evidence);
    assert_eq!(text(&task), pairs.map(|(_, value)| format!("<{value}>")).concat());
}

async fn the_protocols_variables_are_there_and_no_others(scene: &Scene) {
    let mut task = scene.sh(r#"env | grep '^LAMINAR_' | grep -Ev '^LAMINAR_(IN|OUT)PUTS=' | sort
        cd "$LAMINAR_INPUTS" && cd "$LAMINAR_OUTPUTS" && ls -A"#);
    for name in ["LAMINAR_LAYER_NAME", "LAMINAR_EACH", "LAMINAR_SECRETS"] {
        task.env.push((name.to_owned(), "Impostor".to_owned()));
    }
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::Code(0), "{}", text(&task));
    let protocol = task.protocol(&Seen::default());
    let mut expected: Vec<_> = protocol.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    expected.retain(|line| !line.contains("PUTS="));
    expected.sort_unstable();
    assert_eq!(text(&task), expected.concat());
}

/// Nothing of the scheduler's or the executor's own is passed on: no blocked or ignored signal, no descriptor.
async fn a_task_begins_in_a_clean_state(scene: &Scene) {
    let task = scene.sh("grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\t'; ls /proc/self/fd | sort");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0), "{}", text(&task));
    let (blocked, ignored) = ("SigBlk:0000000000000000", "SigIgn:0000000000000000");
    // The fourth descriptor is that of the folder it looks into.
    assert_eq!(text(&task), format!("{blocked}\n{ignored}\n0\n1\n2\n3\n"));
}

async fn standard_input_is_empty(scene: &Scene) {
    let task = scene.sh("cat; read -r line || echo end");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0));
    assert_eq!(text(&task), "end\n");
}

async fn inputs_are_seen(scene: &Scene) {
    let view = scene.path("views/Upstream");
    std::fs::create_dir_all(view.join("parts")).unwrap();
    for (name, bytes) in
        [("data", &b"\0\xff\n"[..]), ("two words.json", b"{}"), ("parts/1", b"one"), ("parts/2", b"two")]
    {
        std::fs::write(view.join(name), bytes).unwrap();
    }
    let task = scene.sh(r#"cd "$LAMINAR_INPUTS" && ls && cd Upstream && cat data 'two words.json' parts/*"#);
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0), "{}", text(&task));
    assert_eq!(log(&task), b"Gate\nUpstream\n\0\xff\n{}onetwo");
}

async fn inputs_are_where_they_were_said_to_be(scene: &Scene) {
    // Layers may have executors of their own.
    for layer in ["Layer", "Mayer"] {
        let task = scene.sh(r#"printf %s "$LAMINAR_INPUTS""#);
        let id = TaskId { layer: layer.into(), ..task.id.clone() };
        let task = scene.named(task, id);
        assert_eq!(scene.run(&task).await.cause, Cause::Code(0));
        assert_eq!(text(&task), scene.executor().inputs_seen(layer, &task.inputs));
    }
}

/// Several splits have their files in one folder; who they are inside does not matter.
async fn the_values_of_a_split_arrive_and_stay_as_they_are(scene: &Scene) {
    let folder = scene.path("each of them, of 'a' split");
    std::fs::create_dir(&folder).unwrap();
    for index in 1..=4 {
        let path = folder.join(format!("{index}.json"));
        std::fs::write(&path, format!(r#"{{"of":{index}}}"#)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    }
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    let script = r#"cat "$LAMINAR_EACH"; echo " $LAMINAR_LAYER_INDEX of $LAMINAR_LAYER_SPLITS"
        { echo x >"$LAMINAR_EACH"; } 2>/dev/null && echo changed
        { echo x >"${LAMINAR_EACH%/*}/new"; } 2>/dev/null && echo added
        exit 0"#;
    for (index, layer, user) in
        [(1, "Layer", None), (2, "Layer", Some("1234:1234")), (3, "Mayer", None), (4, "Mayer", Some("0"))]
    {
        let id = TaskId { layer: layer.into(), index, ..scene.sh("").id };
        let mut task = scene.named(scene.sh(script), id);
        task.each = Some(EachFile { folder: folder.clone(), name: format!("{index}.json") });
        task.container = Arc::new(Container { user: user.map(str::to_owned), ..scene.factory().container() });
        let exit = scene.run(&task).await;
        assert_eq!(exit.cause, Cause::Code(0), "{}", exit.evidence);
        let said = text(&task);
        assert!(said.starts_with(&format!("{{\"of\":{index}}} {index} of {}\n", task.splits)), "{said}");
        // What a plain process may do is up to modes, which do not hold for root.
        let plain = scene.executor().inputs_seen(layer, &task.inputs) == task.inputs.folder.to_str().unwrap();
        let is_root = rustix::process::geteuid().is_root();
        assert!(!said.contains("changed") || plain && is_root, "{said}");
        assert!(!said.contains("added") || plain, "{said}");
    }
}

/// Whoever the task's user is. What it was handed can be removed as soon as it is over, or its container still there.
async fn secrets_arrive_byte_for_byte_and_are_left_as_they_are(scene: &Scene) {
    let secrets: [(&str, &[u8]); 3] =
        [("TOKEN", b"s3cret '$(id)' %s \\ \"\n\n"), ("BINARY", b"\xff\0\x01\r\n\0"), ("_9", &[b'x'; 100_000])];
    let script = r#"cd "$LAMINAR_SECRETS" && ls && cat TOKEN BINARY _9
        { echo x >TOKEN; } 2>/dev/null && echo changed
        { echo x >new; } 2>/dev/null && echo added
        exit 0"#;
    for (index, user) in [(1, None), (2, Some("1234:1234")), (3, Some("0"))] {
        let folder = scene.path(&format!("secrets of, 'task' {index}"));
        std::fs::create_dir(&folder).unwrap();
        for (name, bytes) in secrets {
            std::fs::write(folder.join(name), bytes).unwrap();
            std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o400)).unwrap();
        }
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        let mut task = scene.sh(script);
        task.secrets = Some(folder.clone());
        task.container = Arc::new(Container { user: user.map(str::to_owned), ..scene.factory().container() });
        let exit = scene.run(&task).await;
        assert_eq!(exit.cause, Cause::Code(0), "{}", exit.evidence);
        let expected = [b"BINARY\nTOKEN\n_9\n", secrets[0].1, secrets[1].1, secrets[2].1].concat();
        let said = log(&task);
        assert!(said.starts_with(&expected), "{}: {}", exit.evidence, text(&task));
        let more = text(&task)[String::from_utf8_lossy(&expected).len()..].to_owned();
        // What a plain process may do is up to modes: they do not hold for root, nor for the owner of the folder.
        let plain = scene.executor().inputs_seen("Layer", &task.inputs) == task.inputs.folder.to_str().unwrap();
        let is_root = rustix::process::geteuid().is_root();
        assert!(!more.contains("changed") || plain && is_root, "{more}");
        assert!(!more.contains("added") || plain, "{more}");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        // Nothing of it was kept elsewhere.
        let kept = scene.path("execution");
        let found = std::process::Command::new("grep").args(["-rlaF", "s3cret '$(id)'"]).arg(&kept).output().unwrap();
        assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    }
}

async fn outputs_are_written(scene: &Scene) {
    let task = scene.sh(r#"cd "$LAMINAR_OUTPUTS" && mkdir -p 'a folder/below' && echo deep >'a folder/below/ä 漢' &&
        : >empty && printf '#!/bin/sh\n' >tool && chmod 755 tool && ln -s empty link"#);
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0), "{}", text(&task));
    assert_eq!(output(&task, "a folder/below/ä 漢"), "deep\n");
    assert_eq!(output(&task, "empty"), "");
    let mode = std::fs::metadata(task.outputs.join("tool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(std::fs::read_link(task.outputs.join("link")).unwrap().to_str(), Some("empty"));
}

async fn outputs_belong_to_the_schedulers_user(scene: &Scene) {
    let task = scene.sh(r#"cd "$LAMINAR_OUTPUTS" && mkdir folder && : >folder/file && ln -s file folder/link"#);
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0), "{}", text(&task));
    for name in ["folder", "folder/file", "folder/link"] {
        let metadata = std::fs::symlink_metadata(task.outputs.join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), scene.factory().owner(), "{name}");
    }
    std::fs::remove_dir_all(&task.outputs).unwrap();
}
